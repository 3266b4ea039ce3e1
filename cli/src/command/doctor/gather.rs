//! Asking for every fact, each by itself: what one question fails with is no reason to leave the
//! others out. Nothing is judged here.

use std::{collections::BTreeMap, fs, io, os::unix::fs::PermissionsExt as _, time::Duration};

use tokio::task::{JoinSet, LocalSet};
use warren_common::Timestamp;
use warren_daemon::{clock, identity::Identity};
use warren_proto::pb::admin::v1 as pb;

use super::facts::{Answer, Coordinator, Facts, LastBackup, Looked, Own, Unanswered};
use crate::{
    api::{self, Api, Patience},
    app::App,
    context::{Context, Store},
    error::{Error, Kind},
    render::Output,
    view::{cluster::Cluster, node::Node, served, workspace::Workspace},
};

/// How long one coordinator is given to say how it is; it gives up on its own disk before.
const ANSWER: Duration = Duration::from_secs(8);
/// Pages of audit records that are looked through for a backup: some 16,000 records each.
const BACKUP_PAGES: usize = 16;

/// Gathers everything that is known of the cluster in use.
pub(super) async fn gather(app: &App) -> Facts {
    let here = clock::now();
    let mut facts = Facts {
        here,
        now: here,
        version: env!("CARGO_PKG_VERSION"),
        own: own(app),
        open_to_others: open_to_others(app).map_err(|error| told(&error)),
        cluster: Err(String::new()),
        coordinators: Vec::new(),
        nodes: Err(String::new()),
        workspaces: Err(String::new()),
        backup: Err(String::new()),
    };
    let mut api = match app.api() {
        Ok(api) => api,
        Err(error) => {
            let why = format!("there is no context to ask with: {}", error.message);
            facts.cluster = Err(why.clone());
            facts.nodes = Err(why.clone());
            facts.workspaces = Err(why.clone());
            facts.backup = Err(why);
            return facts;
        }
    };
    let answer = cluster(app, &mut api).await;
    if let Ok((cluster, now)) = &answer {
        facts.now = *now;
        facts.coordinators = known(&api.context, cluster);
    } else {
        facts.coordinators = known_by_context(&api.context);
    }
    facts.cluster = answer.map(|(cluster, _)| cluster).map_err(|error| told(&error));
    // asking may have renewed the certificate
    facts.own = own(app);
    facts.coordinators = inspect_all(app, facts.coordinators).await;
    if let Err(why) = &facts.cluster {
        // the lists need the same majority: each would only wait as long again
        facts.nodes = Err(why.clone());
        facts.workspaces = Err(why.clone());
        facts.backup = Err(why.clone());
        return facts;
    }
    facts.nodes = nodes(&mut api).await.map_err(|error| told(&error));
    facts.workspaces = workspaces(&mut api).await.map_err(|error| told(&error));
    facts.backup = backup(&mut api).await;
    facts
}

/// Says what happened and why in one line.
fn told(error: &Error) -> String {
    match &error.why {
        Some(why) => format!("{}: {why}", error.message),
        None => error.message.clone(),
    }
}

/// Tells a coordinator that says nothing from one that says no.
fn unanswered(error: &Error) -> Unanswered {
    match error.kind {
        Kind::Unreachable | Kind::Timeout => Unanswered::Silent(told(error)),
        _ => Unanswered::Refused { why: told(error), next: error.next.clone() },
    }
}

fn identity(app: &App) -> Result<(String, Context, Identity), Error> {
    let store = Store::locate()?;
    let (name, context) = store.choose(app.named_context())?;
    let identity = store.identity(&name, &context)?;
    Ok((name, context, identity))
}

fn own(app: &App) -> Result<Own, Error> {
    let (name, context, identity) = identity(app)?;
    Ok(Own {
        context: name,
        file: Store::locate()?.file().display().to_string(),
        cluster: context.cluster,
        cluster_id: context.cluster_id,
        person: context.person,
        expires: identity.credentials.peer().not_after,
    })
}

/// Returns what of the contexts others may use, with its mode.
fn open_to_others(app: &App) -> Result<Vec<(String, u32)>, Error> {
    let store = Store::locate()?;
    let (name, _) = store.choose(app.named_context())?;
    let folder = store.folder(&name)?;
    let mut paths = vec![store.file(), folder.path().to_owned()];
    paths.extend(["identity.pem", "trust.pem", "pending.pem"].map(|file| folder.path().join(file)));
    let mut open = Vec::new();
    for path in &paths {
        let shown = path.display().to_string();
        match fs::metadata(path).map(|about| about.permissions().mode() & 0o777) {
            Ok(mode) if mode & 0o077 != 0 => open.push((shown, mode)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let message = format!("{shown} cannot be looked at");
                return Err(Error::new(Kind::Failed, "LOCAL_IO", message).why(error.to_string()));
            }
        }
    }
    Ok(open)
}

async fn cluster(app: &App, api: &mut Api) -> Result<(Cluster, Timestamp), Error> {
    let answer = api
        .read(async |channel| {
            api::cluster(channel).get_cluster(pb::GetClusterRequest { read: None }).await
        })
        .await?;
    app.remember(answer.replicas.iter().map(|one| one.api_address.clone()).collect())?;
    let now = served(answer.freshness.as_ref());
    Ok((Cluster::from(answer), now))
}

/// Returns every coordinator of the cluster, and the addresses that only the context knows.
fn known(context: &Context, cluster: &Cluster) -> Vec<Coordinator> {
    let rows = cluster.replicas.iter();
    let mut all: Vec<Coordinator> =
        rows.map(|row| unasked(Some(row.id), row.api_address.clone())).collect();
    for address in &context.coordinators {
        if !all.iter().any(|one| one.address == *address) {
            all.push(unasked(None, address.clone()));
        }
    }
    all
}

fn known_by_context(context: &Context) -> Vec<Coordinator> {
    context.coordinators.iter().map(|address| unasked(None, address.clone())).collect()
}

fn unasked(id: Option<u64>, address: String) -> Coordinator {
    let answer = Err(Unanswered::Silent("it was not asked".to_owned()));
    Coordinator { id, address, answer }
}

/// Asks each of them at once. One that answers at two addresses counts once, and by the first.
async fn inspect_all(app: &App, all: Vec<Coordinator>) -> Vec<Coordinator> {
    let identity = match identity(app) {
        Ok((_, context, identity)) => (context, identity),
        Err(error) => {
            let why = unanswered(&error);
            let silent = |one| Coordinator { answer: Err(why.clone()), ..one };
            return all.into_iter().map(silent).collect();
        }
    };
    // on this thread: calls borrow what they are made of
    let (local, mut asked) = (LocalSet::new(), JoinSet::new());
    for (place, one) in all.into_iter().enumerate() {
        let (context, identity) = identity.clone();
        let (output, request) = (app.output.clone(), app.request_id(None));
        let asking = async move {
            let context = Context { coordinators: vec![one.address.clone()], ..context };
            let answer = inspect(context, &identity, (output, &request)).await;
            (place, Coordinator { answer, ..one })
        };
        asked.spawn_local_on(asking, &local);
    }
    let answers = local.run_until(asked.join_all()).await;
    let answers: BTreeMap<usize, Coordinator> = answers.into_iter().collect();
    sorted(answers.into_values().collect())
}

fn sorted(all: Vec<Coordinator>) -> Vec<Coordinator> {
    let mut kept: Vec<Coordinator> = Vec::new();
    for mut one in all {
        let told = one.answer.as_ref().ok().map(|answer| answer.said.replica_id);
        // the address may lead to another one than the cluster says
        one.id = told.or(one.id);
        if told.is_some() && kept.iter().any(|before| before.id == told && before.answer.is_ok()) {
            continue;
        }
        // an address that leads nowhere matters less than another that leads to the same one
        if told.is_some() {
            kept.retain(|before| before.id != told);
        }
        kept.push(one);
    }
    kept.sort_by_key(|one| (one.id.is_none(), one.id, one.address.clone()));
    kept
}

async fn inspect(
    context: Context,
    identity: &Identity,
    (output, request): (Output, &str),
) -> Result<Answer, Unanswered> {
    let api = Api::new(context, identity, Some(ANSWER), output);
    let mut api = api.map_err(|error| unanswered(&error))?.asked_as(request);
    let asked = pb::InspectCoordinatorRequest {};
    let sent = clock::now();
    let said = api
        .call(Patience::Once, async |channel| {
            api::cluster(channel).inspect_coordinator(asked).await
        })
        .await
        .map_err(|error| unanswered(&error))?;
    let received = clock::now();
    let middle = sent.plus(received.since(sent) / 2);
    let ahead_ms = signed(said.now_unix_ms).saturating_sub(signed(middle.0));
    Ok(Answer { said, ahead_ms })
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

async fn nodes(api: &mut Api) -> Result<Vec<Node>, Error> {
    let listed = api::pages(api, async |api, page_size, page_token| {
        let request = pb::ListNodesRequest { page_size, page_token, read: None, removed: false };
        let page =
            api.read(async |channel| api::nodes(channel).list_nodes(request.clone()).await).await?;
        Ok((page.nodes, page.next_page_token, page.freshness))
    });
    Ok(listed.await?.map(Node::from).items)
}

async fn workspaces(api: &mut Api) -> Result<Vec<Workspace>, Error> {
    let listed = api::pages(api, async |api, page_size, page_token| {
        let client = String::new();
        let request = pb::ListWorkspacesRequest { page_size, page_token, client, read: None };
        let page = api
            .read(async |channel| api::workspaces(channel).list_workspaces(request.clone()).await)
            .await?;
        Ok((page.workspaces, page.next_page_token, page.freshness))
    });
    Ok(listed.await?.map(Workspace::from).items)
}

/// Looks for the newest record of a backup.
async fn backup(api: &mut Api) -> Looked<LastBackup> {
    let action = "cluster.backup".to_owned();
    let mut request = pb::ListRecordsRequest { page_size: 1, action, ..Default::default() };
    for _ in 0..BACKUP_PAGES {
        let page = api
            .read(async |channel| api::audit(channel).list_records(request.clone()).await)
            .await
            .map_err(|error| told(&error))?;
        if let Some(record) = page.records.first() {
            let (at, by) = (Timestamp(record.at_unix_ms), record.actor_name.clone());
            return Ok(LastBackup::Taken { at, by });
        }
        if let Some(gap) = page.gaps.first() {
            return Err(format!(
                "coordinator {} has no records up to {}, and none of a backup after them",
                page.replica_id, gap.upto_sequence
            ));
        }
        if page.next_page_token.is_empty() {
            return Ok(LastBackup::Never);
        }
        request.page_token = page.next_page_token;
    }
    Err("none is among the newest audit records; the older ones were not searched".to_owned())
}
