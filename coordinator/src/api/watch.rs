//! `WatchService`: what happens to the cluster, as it happens.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tonic::{Code, Request, Response, Status};
use warren_common::{Limits, Revision};
use warren_model::ClusterState;
use warren_proto::{
    Method,
    error::{ApiError, reason},
    pb::admin::v1::{self as pb, watch_service_server::WatchService},
};

use super::{Api, caller, due::may_know_people, errors, resolve};
use crate::{
    authz::{Caller, decide},
    watch::{Cursor, Decided, Feed, Filter, Gap, Scope, Watcher, resync, tells_of_people},
};

#[tonic::async_trait]
impl WatchService for Api {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let who = caller(&request)?;
        let known = Caller::of(&request)?;
        let people = may_know_people(known.role());
        if request.get_ref().sessions {
            decide(Method::SessionListSessions, known)?;
        }
        if request.get_ref().browsers {
            decide(Method::BrowserListBrowsers, known)?;
        }
        let request = request.into_inner();
        let parts = self.parts();
        let slot = parts.watches.take(who.principal).map_err(|full| {
            ApiError::new(Code::ResourceExhausted, reason::LIMIT_REACHED, full)
                .next("end a watch, or watch at another coordinator")
        })?;
        if request.sessions || request.browsers {
            // who has just started knows old workspaces; without a quorum nobody knows better
            let _ = parts.consensus.linearizable().await;
        }
        let cursor = self.begin(&request).await?;
        let filter = Filter {
            kinds: kinds(&request.kinds, people)?,
            scope: scope(&parts.consensus.local(), &request)?,
            people,
            none: request.no_events,
        };
        let scope = filter.scope;
        let source = (parts.consensus.events(), parts.consensus.changes());
        let watcher = Watcher::new(source, filter, cursor, (slot, parts.shutdown.clone()));
        let watcher = match request.standings {
            true => watcher.with_standings(parts.live.standings()),
            false => watcher,
        };
        let decided = || -> Decided {
            let consensus = parts.consensus.clone();
            Box::new(move || consensus.local())
        };
        let watcher = match request.sessions {
            true => watcher.with_sessions(Feed::new(parts.live.clone(), decided(), scope)),
            false => watcher,
        };
        let watcher = match request.browsers {
            true => watcher.with_browsers(Feed::new(parts.live.clone(), decided(), scope)),
            false => watcher,
        };
        let answers = stream::unfold(watcher, |mut watcher| async move {
            let answer = watcher.next().await?;
            Some((answer, watcher))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Api {
    /// Returns where a watch begins. A coordinator that is a little behind is given the time of a
    /// read to come that far.
    async fn begin(&self, request: &pb::WatchRequest) -> Result<Cursor, Status> {
        let ring = self.parts().consensus.events();
        if request.no_events {
            return Ok(ring.newest());
        }
        let from = Revision(request.from_revision);
        match (request.from_oldest, from) {
            (true, Revision(0)) => return Ok(ring.oldest()),
            (true, _) => {
                let why = "from_oldest begins with the oldest event; leave one of them out";
                return Err(errors::invalid("from_revision", why).into());
            }
            (false, Revision(0)) => return Ok(ring.newest()),
            (false, _) => {}
        }
        let seek = || ring.seek(request.incarnation, from);
        let mut changes = self.parts().consensus.changes();
        let come = changes.wait_for(|_| !matches!(seek(), Err(Gap::Ahead { .. })));
        // where it does not come that far in time, seeking says so
        let _ = tokio::time::timeout(Limits::READ_TIMEOUT, come).await;
        seek().map_err(|gap| resync(gap, from))
    }
}

/// Reads which kinds are asked for; those that tell of people only where `people`.
fn kinds(numbers: &[i32], people: bool) -> Result<Vec<pb::EventKind>, ApiError> {
    let mut kinds = Vec::new();
    for (index, number) in numbers.iter().enumerate() {
        let field = || format!("kinds[{index}]");
        match pb::EventKind::try_from(*number) {
            Ok(pb::EventKind::Unspecified) => {
                return Err(errors::invalid(&field(), "is not set"));
            }
            Ok(kind) if !people && tells_of_people(kind) => {
                let message = format!("{} may not be watched with this role", kind.as_str_name());
                return Err(ApiError::new(Code::PermissionDenied, reason::NOT_PERMITTED, message)
                    .why("events about people and certificates take the role admin or auditor")
                    .next("leave the kind out, or use another context"));
            }
            Ok(kind) if kinds.contains(&kind) => {}
            Ok(kind) => kinds.push(kind),
            Err(_) => {
                let why = format!("this coordinator knows no kind {number}");
                return Err(errors::invalid(&field(), why));
            }
        }
    }
    Ok(kinds)
}

/// Finds the objects that are named. An id is taken as it is: its object may be gone, and what
/// became of it is still to be told.
fn scope(state: &ClusterState, request: &pb::WatchRequest) -> Result<Scope, ApiError> {
    let pb::WatchRequest { client, workspace, node, .. } = request;
    Ok(Scope {
        client: named(client, |text| resolve::client(state, text).map(|one| one.id))?,
        workspace: named(workspace, |text| resolve::workspace(state, text).map(|one| one.id))?,
        node: named(node, |text| resolve::node(state, text).map(|one| one.id))?,
    })
}

fn named<T: std::str::FromStr>(
    text: &str,
    find: impl FnOnce(&str) -> Result<T, ApiError>,
) -> Result<Option<T>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    match find(text) {
        Ok(id) => Ok(Some(id)),
        Err(error) => text.parse().map(Some).map_err(|_| error),
    }
}
