//! `warren user`: people and their automation.

use std::time::Duration;

use clap::{Args, Subcommand, builder::PossibleValuesParser, builder::TypedValueParser as _};
use serde::Serialize;
use warren_common::{PersonName, Role, Timestamp};
use warren_daemon::clock;
use warren_proto::pb::admin::v1 as pb;

use super::{Change, Fresh, Watch};
use crate::{
    api::{self, Api, Listed},
    app::App,
    error::{Error, Kind, Outcome},
    follow::Follow,
    render::time::{rfc3339, spell},
    view::user::User,
};

/// Verbs on users.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Mint a single-use invitation and print the one command to run on the other person's machine.
    #[command(
        after_help = "Examples:\n  warren user invite vera --role viewer\n  warren user invite ci --role automation -o name > token    (the bare token)"
    )]
    Invite(Invite),
    /// List users.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  warren user list\n  warren user list -w"
    )]
    List(Watch),
    /// Show one user with their certificates.
    #[command(after_help = "Example:\n  warren user show vera")]
    Show(Show),
    /// Refuse a user, or one certificate of anybody, from now on, and close their connections.
    #[command(
        after_help = "Examples:\n  warren user revoke vera\n  warren user revoke --serial 4f1c…"
    )]
    Revoke(Revoke),
}

/// Arguments of `user invite`.
#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// Their name: a-z, 0-9 and '-'. Somebody who is in already gets another certificate.
    #[arg(value_name = "USER")]
    name: PersonName,
    /// What they may do.
    #[arg(long, value_parser = roles())]
    role: Role,
    #[command(flatten)]
    change: Change,
}

/// Arguments of `user show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Their name.
    #[arg(value_name = "USER")]
    name: PersonName,
    #[command(flatten)]
    fresh: Fresh,
}

/// Arguments of `user revoke`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false, args = ["name", "serial"])]
pub(crate) struct Revoke {
    /// The user: every certificate of theirs.
    #[arg(value_name = "USER")]
    name: Option<PersonName>,
    /// One certificate, as user show and the audit log name it; a node's too.
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Serialize)]
struct Invitation {
    user: String,
    role: String,
    token: String,
    expires_at: String,
    coordinators: Vec<String>,
    command: String,
}

#[derive(Debug, Serialize)]
struct Revoked {
    user: Option<String>,
    /// Those that are refused from now on.
    serials: Vec<String>,
    /// Of the change; 0 where the coordinator did not say.
    revision: u64,
}

fn roles() -> impl clap::builder::TypedValueParser<Value = Role> {
    let words = Role::ALL.map(|role| role.as_str());
    PossibleValuesParser::new(words).try_map(|word| word.parse::<Role>())
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Invite(invite) => run_invite(app, &invite).await,
        Verb::List(watch) => {
            let (mut api, empty) = (app.api()?, "no users on record yet");
            if watch.watch {
                let follow = Follow { app, request: pb::WatchRequest::default(), empty };
                return follow.run(&mut api, async |api| users(api, None).await).await;
            }
            let users = users(&mut api, watch.fresh.read()).await?;
            app.output.of(Some(&users.at)).list(&users.items, users.now, empty)?;
            Ok(0)
        }
        Verb::Show(show) => {
            let Listed { items, now, at } = users(&mut app.api()?, show.fresh.read()).await?;
            let user = items.into_iter().find(|user| user.name == show.name.as_str());
            let user = user.ok_or_else(|| {
                let message = format!("there is no user {}", show.name);
                Error::new(Kind::NotFound, "NOT_FOUND", message).next("warren user list shows all")
            })?;
            app.output.of(Some(&at)).object(&user, &user.name, || user.text(now))?;
            Ok(0)
        }
        Verb::Revoke(revoke) => run_revoke(app, &revoke).await,
    }
}

async fn run_invite(app: &App, invite: &Invite) -> Outcome {
    let request = pb::InviteUserRequest {
        mutation: Some(api::mutation(&invite.change.id(app))),
        name: invite.name.to_string(),
        role: invite.role.to_string(),
    };
    let mut api = app.api()?;
    let answer =
        api.write(async |channel| api::users(channel).invite_user(request.clone()).await).await?;
    let expires = Timestamp(answer.expires_unix_ms);
    let view = Invitation {
        user: invite.name.to_string(),
        role: invite.role.to_string(),
        command: format!("warren context join {}", answer.token),
        token: answer.token,
        expires_at: rfc3339(expires),
        coordinators: api.context.coordinators.clone(),
    };
    // the way here took its part of a second
    let good = spell(expires.since(clock::now()) + Duration::from_secs(1));
    let name = &invite.name;
    app.output.talk(&format!("good once, for {good}; to be run on the machine of {name}:"));
    app.output.object(&view, &view.token, || format!("{}\n", view.command))?;
    Ok(0)
}

async fn run_revoke(app: &App, revoke: &Revoke) -> Outcome {
    let request = pb::RevokeUserRequest {
        mutation: Some(api::mutation(&revoke.change.id(app))),
        name: revoke.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        serial: revoke.serial.as_ref().map(|text| text.to_ascii_lowercase()).unwrap_or_default(),
    };
    let mut api = app.api()?;
    let answer =
        api.write(async |channel| api::users(channel).revoke_user(request.clone()).await).await?;
    let view = Revoked {
        user: revoke.name.as_ref().map(ToString::to_string),
        serials: answer.serials,
        revision: answer.revision,
    };
    let (noun, what) = match (&view.user, view.serials.len()) {
        (Some(user), 1) => (user.clone(), "is revoked (1 certificate)".to_owned()),
        (Some(user), count) => (user.clone(), format!("is revoked ({count} certificates)")),
        (None, _) => (view.serials.join(" "), "is revoked".to_owned()),
    };
    let kind = if view.user.is_some() { "user" } else { "certificate" };
    app.output.object(&view, &noun, || format!("{kind} {noun} {what}\n"))?;
    Ok(0)
}

async fn users(api: &mut Api, read: Option<pb::Read>) -> Result<Listed<User>, Error> {
    let users = api::pages(api, async |api, page_size, page_token| {
        let request = pb::ListUsersRequest { page_size, page_token, read };
        let page =
            api.read(async |channel| api::users(channel).list_users(request.clone()).await).await?;
        Ok((page.users, page.next_page_token, page.freshness))
    })
    .await?;
    let now = users.now;
    Ok(users.map(|user| User::new(user, now)))
}
