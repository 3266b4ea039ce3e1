//! `warren context join`: an invitation becomes a context.
//!
//! Safe to repeat after a crash anywhere: the key is kept before it is shown to anybody, under the
//! token's id, and the same token with the same key is answered again. The key never leaves this
//! machine.

use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use warren_common::{Limits, Timestamp};
use warren_daemon::{
    clock,
    identity::{ClientTls, Credentials, Key, PeerIdentity, connect},
    token::{JoinToken, TokenRole},
};
use warren_proto::{error::reason, pb::admin::v1 as pb};

use crate::{
    api,
    app::App,
    context::{self, Context, Store},
    error::{Error, Kind, Outcome},
    view,
};

const ANOTHER: &str = "ask an administrator for another one: warren user invite";

/// Arguments of `context join`.
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The token that warren user invite printed; - reads it from stdin.
    #[arg(value_name = "TOKEN")]
    token: String,
}

#[derive(Debug, Serialize)]
struct View {
    context: String,
    cluster: String,
    cluster_id: String,
    person: String,
    role: String,
    coordinators: Vec<String>,
}

pub(crate) async fn run(app: &App, join: &Join) -> Outcome {
    let store = Store::locate()?;
    let token = read(&join.token)?;
    let wanted = app.named_context().map(context_name).transpose()?;
    let id = token.id.to_string();
    let spent = |(_, context): &(String, Context)| context.invitation.as_ref() == Some(&id);
    if let Some((name, context)) = store.load()?.contexts.into_iter().find(spent) {
        return finish(app, &store, (name, context));
    }
    let waiting = format!("joining-{}", token.id);
    let key = store.folder(&waiting)?.pending_key().map_err(|error| context::local(&error))?;
    let answer = enrol(app, &token, &key).await?;
    let name = match wanted {
        Some(name) => name,
        None => context_name(&answer.cluster_name)?,
    };
    let context = Context {
        cluster: answer.cluster_name.clone(),
        cluster_id: answer.cluster_id.clone(),
        coordinators: match answer.coordinators.is_empty() {
            true => token.addresses.clone(),
            false => answer.coordinators.clone(),
        },
        person: answer.name.clone(),
        socket: None,
        invitation: Some(id),
    };
    free(&store, &name, &context)?;
    let fits = Credentials::new(&key.to_pem(), &answer.certificate_pem);
    fits.map_err(|error| context::local(&error))?;
    let installed = store.folder(&name)?.install(&key, &answer.certificate_pem, &answer.trust_pem);
    installed.map_err(|error| context::local(&error))?;
    store.adopt(&name, &context)?;
    store.forget(&waiting)?;
    finish(app, &store, (name, context))
}

fn finish(app: &App, store: &Store, (name, context): (String, Context)) -> Outcome {
    let identity = store.identity(&name, &context)?;
    let role = match &identity.credentials.peer().identity {
        PeerIdentity::Person { role, .. } => role.to_string(),
        PeerIdentity::Node(_) | PeerIdentity::Coordinator(_) => String::new(),
    };
    let view = View {
        context: name,
        cluster: context.cluster,
        cluster_id: context.cluster_id,
        person: context.person,
        role,
        coordinators: context.coordinators,
    };
    app.output.object(&view, &view.context, || {
        let fields = view::fields(&[
            ("id", view.cluster_id.clone()),
            ("coordinators", view.coordinators.join(", ")),
            ("context", format!("{} (you are {}, {})", view.context, view.person, view.role)),
        ]);
        let indented: String = fields.lines().map(|line| format!("  {line}\n")).collect();
        format!("cluster {}: joined\n{indented}Next:\n  warren cluster status\n", view.cluster)
    })?;
    Ok(0)
}

fn read(text: &str) -> Result<JoinToken, Error> {
    let text = match text {
        "-" => {
            let mut line = String::new();
            let read = std::io::stdin().read_line(&mut line);
            read.map_err(|error| Error::usage(format!("no token on stdin: {error}")))?;
            line
        }
        text => text.to_owned(),
    };
    let token: JoinToken = text.parse().map_err(|error: warren_daemon::token::InvalidToken| {
        Error::usage(error.to_string()).next("copy the whole line that warren user invite gave")
    })?;
    if token.role != TokenRole::Person {
        let message = format!("this token lets a {} in, not a user", token.role);
        return Err(Error::usage(message).next(ANOTHER));
    }
    if token.expires <= clock::now() {
        let message = "the invitation has expired by this machine's clock";
        return Err(Error::new(Kind::Conflict, reason::TOKEN_EXPIRED, message).next(ANOTHER));
    }
    Ok(token)
}

/// A context's name is a folder's: it follows the rule of all names.
fn context_name(text: &str) -> Result<String, Error> {
    let checked = text.parse::<warren_common::ClientName>();
    let checked = checked.map_err(|error| error.to_string().replace("client", "context"));
    checked.map(|name| name.to_string()).map_err(Error::usage)
}

/// A context of another cluster, or of somebody else, is not replaced.
fn free(store: &Store, name: &str, new: &Context) -> Result<(), Error> {
    let old = store.load()?.contexts.remove(name);
    let other = |old: &Context| old.cluster_id != new.cluster_id || old.person != new.person;
    match old.filter(other) {
        None => Ok(()),
        Some(old) => Err(Error::new(
            Kind::Conflict,
            "CONTEXT_TAKEN",
            format!("there is a context {name} already"),
        )
        .why(format!(
            "in it you are {} of cluster {} ({})",
            old.person, old.cluster, old.cluster_id
        ))
        .next("give --context another name; the same command goes on")),
    }
}

async fn enrol(app: &App, token: &JoinToken, key: &Key) -> Result<pb::JoinUserResponse, Error> {
    let place = Context {
        coordinators: token.addresses.clone(),
        ..Context::unanswered("of the invitation", "")
    };
    let never = Timestamp(u64::MAX);
    let tls = ClientTls::pinned(token.pin).map_err(|error| context::local(&error))?;
    let tls = Arc::new(tls);
    let text = token.to_text().map_err(|error| Error::usage(error.to_string()))?;
    let request = pb::JoinUserRequest {
        token: text.expose().clone(),
        csr_pem: key.request().map_err(|error| context::local(&error))?,
    };
    let limit = app.timeout().unwrap_or(Limits::CALL_TIMEOUT);
    let calling = async {
        let channel = connect(&tls, &token.addresses).await;
        let channel = channel.map_err(|trouble| api::from_trouble(&trouble, &place, never))?;
        let channel = api::named(channel, &app.request_id(None));
        let answer = api::users(channel).join_user(request).await;
        answer.map_err(|status| api::from_status(&status, &place, never))
    };
    match tokio::time::timeout(limit, calling).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => {
            let message = "no coordinator answered the invitation in time";
            Err(Error::new(Kind::Unreachable, reason::UNREACHABLE, message)
                .next("run the same command again; it takes effect once"))
        }
    }
}
