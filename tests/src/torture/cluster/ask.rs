//! What the callers ask, chosen by the seed, and how an answer is understood.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use tonic::{Status, transport::Channel};
use warren_proto::{
    error::{ApiError, reason},
    pb::admin::v1::{
        self as pb, client_service_client::ClientServiceClient as Clients,
        workspace_service_client::WorkspaceServiceClient as Workspaces,
    },
};

use super::{
    callers::Shared,
    history::{Ask, Object, Outcome, Refused},
    register::{Change, Labels, Seen},
};
use crate::torture::{Moments, writer::unanswered};

/// How many clients are asked about at one time: few, so that callers meet.
const SLOTS: usize = 5;
/// After how long other names are asked about: an object's history stays short.
const ERA: u64 = 8_000_000;
/// How many workspaces are asked about in the whole run.
const WORKSPACES: usize = 16;
/// How long a caller waits for an answer, milliseconds: some less than an election takes.
const PATIENCE: (u64, u64) = (500, 3_000);
/// What the smallest workspace takes.
const SMALL: u64 = 64 << 20;

/// Chooses the next thing to ask.
pub fn choose(moments: &mut Moments, shared: &Shared) -> Ask {
    let era = shared.history.now() / ERA;
    // what is past is removed, so that lists stay short
    if moments.once_in(8)
        && let Some(old) = past(shared, era)
    {
        return Ask::Delete(old, None);
    }
    let era = if moments.once_in(10) { era.saturating_sub(1) } else { era };
    let client = format!("client t{}-{era}", moments.below(SLOTS));
    let workspace = format!("workspace acme/w{}", moments.below(WORKSPACES));
    let since = shared.revision(&client).filter(|_| moments.once_in(2));
    match moments.below(100) {
        0..36 => {
            let mark = next_mark(shared);
            let mut set = marked(&mark);
            set.insert(format!("k{}", moments.below(4)), mark);
            let remove =
                if moments.once_in(3) { format!("r{}", moments.below(2)) } else { "r".into() };
            Ask::Label(client, Change { set, remove: vec![remove], if_revision: since })
        }
        36..54 => {
            let mut labels = marked(&next_mark(shared));
            labels.insert(format!("r{}", moments.below(2)), "made".to_owned());
            Ask::Create(client, labels)
        }
        54..62 => Ask::Delete(client, since),
        62..84 => Ask::Get(client),
        84..94 => Ask::List,
        94..97 => Ask::Create(workspace, marked(&next_mark(shared))),
        _ => Ask::Get(workspace),
    }
}

fn next_mark(shared: &Shared) -> String {
    format!("m{}", shared.marks.fetch_add(1, Ordering::Relaxed))
}

fn marked(mark: &str) -> Labels {
    [("mark".to_owned(), mark.to_owned())].into()
}

/// A client of an earlier era that was seen and not yet removed.
fn past(shared: &Shared, era: u64) -> Option<Object> {
    let known = shared.known();
    let old = known.keys().find(|object| {
        let of = object.rsplit_once('-').and_then(|(_, of)| of.parse::<u64>().ok());
        of.is_some_and(|of| of + 1 < era)
    });
    old.cloned()
}

fn named(object: &str) -> String {
    object.split_once(' ').map_or(object, |(_, name)| name).to_owned()
}

/// Chooses how long to wait for an answer.
pub fn patience(moments: &mut Moments) -> Duration {
    moments.between(PATIENCE.0, PATIENCE.1)
}

/// Makes one call. The error is an answer that nobody may be given.
///
/// # Errors
/// Fails with what was answered.
pub async fn ask(
    (channel, deadline): (Channel, Duration),
    request: Option<&str>,
    ask: &Ask,
) -> Result<Outcome, Status> {
    let answer = match ask.object().is_some_and(|object| object.starts_with("workspace ")) {
        true => tokio::time::timeout(deadline, workspace(channel, request, ask)).await,
        false => tokio::time::timeout(deadline, client(channel, request, ask)).await,
    };
    match answer {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(status)) => refused(status, ask),
        Err(_) => Ok(Outcome::Unknown("no answer in time".to_owned())),
    }
}

fn refused(status: Status, ask: &Ask) -> Result<Outcome, Status> {
    let error = ApiError::from(&status);
    let why = match error.reason.as_ref() {
        reason::NAME_TAKEN => Refused::There,
        reason::REVISION_MISMATCH => Refused::Changed,
        reason::REQUEST_REUSED => Refused::Reused,
        reason::NOT_FOUND if ask.reads() => return Ok(Outcome::Found(None)),
        reason::NOT_FOUND => Refused::Missing,
        _ if unanswered(&status) => {
            return Ok(Outcome::Unknown(format!("{}: {}", error.reason, error.message)));
        }
        _ => return Err(status),
    };
    Ok(Outcome::Refused(why))
}

async fn client(channel: Channel, request: Option<&str>, ask: &Ask) -> Result<Outcome, Status> {
    let mut api = Clients::new(channel);
    let mutation = |if_revision| {
        Some(pb::Mutation { request_id: request.unwrap_or_default().to_owned(), if_revision })
    };
    Ok(match ask {
        Ask::Create(object, labels) => {
            let labels = labels.clone().into_iter().collect();
            let create =
                pb::CreateClientRequest { mutation: mutation(None), name: named(object), labels };
            Outcome::Done(api.create_client(create).await?.into_inner().client.map(seen))
        }
        Ask::Label(object, change) => {
            let update = pb::UpdateClientRequest {
                mutation: mutation(change.if_revision),
                client: named(object),
                set_labels: change.set.clone().into_iter().collect(),
                remove_labels: change.remove.clone(),
            };
            Outcome::Done(api.update_client(update).await?.into_inner().client.map(seen))
        }
        Ask::Delete(object, since) => {
            let client = named(object);
            api.delete_client(pb::DeleteClientRequest { mutation: mutation(*since), client })
                .await?;
            Outcome::Done(None)
        }
        Ask::Get(object) => {
            let get = pb::GetClientRequest { client: named(object), read: None };
            let got = api.get_client(get).await?.into_inner();
            let revision = revision(got.freshness)?;
            Outcome::Found(got.client.map(|client| (revision, seen(client))))
        }
        Ask::List => {
            let list = pb::ListClientsRequest::default();
            let listed = api.list_clients(list).await?.into_inner();
            if !listed.next_page_token.is_empty() {
                return Err(Status::internal("more clients than one page holds: a shorter run"));
            }
            let ours = listed.clients.into_iter().filter(|client| client.name.starts_with('t'));
            let all: BTreeMap<_, _> =
                ours.map(|client| (format!("client {}", client.name), seen(client))).collect();
            Outcome::Listed(revision(listed.freshness)?, all)
        }
    })
}

async fn workspace(channel: Channel, request: Option<&str>, ask: &Ask) -> Result<Outcome, Status> {
    let mut api = Workspaces::new(channel);
    let shown = |workspace: pb::Workspace| Seen {
        labels: workspace.spec.unwrap_or_default().labels.into_iter().collect(),
        revision: None,
    };
    match ask {
        Ask::Create(object, labels) => {
            let name = named(object);
            let (client, name) = name.split_once('/').unwrap_or(("", &name));
            let request_id = request.unwrap_or_default().to_owned();
            let resources = pb::ResourceRequest {
                memory_bytes: Some(SMALL),
                disk_bytes: Some(SMALL),
                ..Default::default()
            };
            let create = pb::CreateWorkspaceRequest {
                mutation: Some(pb::Mutation { request_id, if_revision: None }),
                client: client.to_owned(),
                name: name.to_owned(),
                resources: Some(resources),
                labels: labels.clone().into_iter().collect(),
                ..Default::default()
            };
            let made = api.create_workspace(create).await?.into_inner();
            Ok(Outcome::Done(made.workspace.map(shown)))
        }
        Ask::Get(object) => {
            let get = pb::GetWorkspaceRequest { workspace: named(object), read: None };
            let got = api.get_workspace(get).await?.into_inner();
            let revision = revision(got.freshness)?;
            Ok(Outcome::Found(got.workspace.map(|one| (revision, shown(one)))))
        }
        Ask::Label(..) | Ask::Delete(..) | Ask::List => {
            Err(Status::internal("workspaces are made and looked at only"))
        }
    }
}

fn seen(client: pb::Client) -> Seen {
    Seen { labels: client.labels.into_iter().collect(), revision: Some(client.revision) }
}

fn revision(freshness: Option<pb::Freshness>) -> Result<u64, Status> {
    let freshness = freshness.ok_or_else(|| Status::internal("an answer without its revision"))?;
    Ok(freshness.revision)
}
