//! `AuditService`: who did what, and whether the records are as they were sealed.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use warren_common::{Limits, NodeId, PersonName, ReplicaId, RequestId, Timestamp};
use warren_model::{AuditObject, AuditRecord, ClusterState, Principal, state::certificate};
use warren_proto::{
    error::{ApiError, reason},
    pb::admin::v1::{self as pb, audit_service_server::AuditService},
};

use super::{
    Api, errors,
    page::{Page, token},
    resolve,
};
use crate::audit::{AuditError, Fit, Found, Gap, Search};

/// One answer for each coordinator.
type Verdicts = Pin<Box<dyn Stream<Item = Result<pb::VerifyRecordsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AuditService for Api {
    async fn list_records(
        &self,
        request: Request<pb::ListRecordsRequest>,
    ) -> Result<Response<pb::ListRecordsResponse>, Status> {
        let request = request.into_inner();
        // what is in the state is in the records already
        let moment = self.read().await.map_err(or_on_disk)?;
        let wanted = Wanted::read(&moment.state, &request)?;
        let head = moment.state.audit.sequence;
        let page = Page::read(request.page_size, &request.page_token)?;
        let search = search(&request, &page, head)?;
        let found = self.parts().consensus.search_audit(search, move |one| wanted.fit(one)).await;
        let Found { records, gaps, next } = found.map_err(told)?;
        let shown = |record: &AuditRecord| show(&moment.state, record);
        Ok(Response::new(pb::ListRecordsResponse {
            freshness: Some(moment.view().freshness()),
            records: records.iter().map(shown).collect(),
            next_page_token: next.map_or_else(String::new, |at| token(&at.to_string())),
            replica_id: self.parts().replica.0,
            gaps: gaps.iter().map(gap).collect(),
            head_sequence: head,
        }))
    }

    type VerifyRecordsStream = Verdicts;

    async fn verify_records(
        &self,
        _: Request<pb::VerifyRecordsRequest>,
    ) -> Result<Response<Self::VerifyRecordsStream>, Status> {
        let state = self.read().await.map_err(or_on_disk)?.state;
        let (verdicts, answer) = mpsc::channel(Limits::STREAM_QUEUE);
        let members = self.parts().members.clone();
        self.parts().shutdown.spawn(async move {
            let asked = state.replicas.keys().map(|id| members.verify_audit(*id, state.audit));
            let mut asked: FuturesUnordered<_> = asked.collect();
            loop {
                tokio::select! {
                    // nobody waits for the rest
                    () = verdicts.closed() => return,
                    verdict = asked.next() => match verdict {
                        Some(verdict) => if verdicts.send(Ok(verdict)).await.is_err() { return },
                        None => return,
                    },
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answer))))
    }
}

/// What a record has to be.
struct Wanted {
    since: u64,
    until: u64,
    actors: Vec<Principal>,
    action: String,
    target: String,
    request: Option<RequestId>,
    ascending: bool,
}

impl Wanted {
    fn read(state: &ClusterState, request: &pb::ListRecordsRequest) -> Result<Self, ApiError> {
        let bounded = |field: &str, text: &str| match text.len() > Limits::LABEL_BYTES {
            true => Err(errors::invalid(field, format!("has {} bytes", text.len()))),
            false => Ok(text.to_owned()),
        };
        let id = match request.request_id.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|why| errors::invalid("request_id", why))?),
        };
        Ok(Self {
            since: request.since_unix_ms,
            until: request.until_unix_ms,
            actors: actors(state, &request.actor)?,
            action: bounded("action", &request.action)?,
            target: bounded("target", &request.target)?,
            request: id,
            ascending: request.oldest_first,
        })
    }

    fn fit(&self, record: &AuditRecord) -> Fit {
        let skew = |at: u64| Timestamp(at).plus(Limits::REQUEST_SKEW).0;
        let over = match self.ascending {
            true => self.until != 0 && record.at.0 > skew(self.until),
            false => skew(record.at.0) < self.since,
        };
        let in_time = record.at.0 >= self.since && (self.until == 0 || record.at.0 < self.until);
        let fits = in_time
            && (self.actors.is_empty() || self.actors.contains(&record.principal))
            && is_below(&record.action, &self.action, '.')
            && self.is_target(&record.object)
            && self.request.is_none_or(|id| id == record.request);
        match (over, fits) {
            (true, _) => Fit::Over,
            (false, true) => Fit::Taken,
            (false, false) => Fit::Passed,
        }
    }

    fn is_target(&self, object: &AuditObject) -> bool {
        is_below(&object.address, &self.target, '/') || object.id == self.target
    }
}

/// Whether `text` is `above`, or begins with it up to a `separator`; everything is below nothing.
fn is_below(text: &str, above: &str, separator: char) -> bool {
    above.is_empty()
        || text
            .strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

/// Reads whom somebody means: a kind with a name, or the name of a person or a node alone.
fn actors(state: &ClusterState, text: &str) -> Result<Vec<Principal>, ApiError> {
    let refused = |why: String| errors::invalid("actor", why);
    let person = |name: &str| match name.parse::<PersonName>() {
        Ok(name) => Ok(Principal::Person(name.to_string())),
        Err(why) => Err(refused(why.to_string())),
    };
    match text.split_once('/') {
        _ if text.is_empty() => Ok(Vec::new()),
        None => {
            let node = resolve::node(state, text).map(|node| Principal::Node(node.id));
            let found: Vec<Principal> = person(text).into_iter().chain(node).collect();
            match found.is_empty() {
                true => Err(refused(format!("{text:?} is no name of a person or a node"))),
                false => Ok(found),
            }
        }
        Some(("person", name)) => Ok(vec![person(name)?]),
        Some(("node", name)) => match name.parse::<NodeId>() {
            Ok(id) => Ok(vec![Principal::Node(id)]),
            Err(_) => Ok(vec![Principal::Node(resolve::node(state, name)?.id)]),
        },
        Some(("coordinator", number)) => match number.parse() {
            Ok(number) => Ok(vec![Principal::Coordinator(ReplicaId(number))]),
            Err(_) => Err(refused(format!("{number:?} is no coordinator's number"))),
        },
        Some(_) => Err(refused("is person/NAME, node/NAME or coordinator/NUMBER".to_owned())),
    }
}

fn search(request: &pb::ListRecordsRequest, page: &Page, head: u64) -> Result<Search, ApiError> {
    let at = page.after.as_deref().map(str::parse::<u64>).transpose();
    let at = at.map_err(|_| errors::invalid("page_token", "is none that this list gave"))?;
    let (after, before) = (request.after_sequence, head.saturating_add(1));
    let ascending = request.oldest_first;
    Ok(Search {
        after: if ascending { at.unwrap_or(0).max(after) } else { after },
        before: if ascending { before } else { at.unwrap_or(before).min(before) },
        ascending,
        limit: page.size,
    })
}

fn show(state: &ClusterState, record: &AuditRecord) -> pb::AuditRecord {
    let (actor, actor_name) = match &record.principal {
        Principal::Person(name) => (format!("person/{name}"), name.clone()),
        Principal::Node(id) => (format!("node/{id}"), state.node_label(*id)),
        Principal::Coordinator(id) => (format!("coordinator/{id}"), id.to_string()),
    };
    pb::AuditRecord {
        sequence: record.sequence,
        at_unix_ms: record.at.0,
        actor,
        actor_name,
        request_id: record.request.to_string(),
        revision: record.revision.0,
        action: record.action.clone(),
        target: record.object.address.clone(),
        target_id: record.object.id.clone(),
        detail: record.detail.clone(),
        hash: certificate::hex(&record.hash),
    }
}

/// Shows a stretch of records that are missing.
pub(crate) const fn gap(gap: &Gap) -> pb::AuditGap {
    pb::AuditGap { from_sequence: gap.from, upto_sequence: gap.upto }
}

/// Names the way that is left without a quorum.
fn or_on_disk(error: ApiError) -> ApiError {
    if error.reason != reason::NO_QUORUM {
        return error;
    }
    let next = error.next.as_deref().map(|next| format!("{next}; ")).unwrap_or_default();
    error.next(format!(
        "{next}on a coordinator's machine warren audit verify --local checks what it has, and \
         <state>/audit holds a line of JSON for each record"
    ))
}

/// Tells why records cannot be read.
pub(crate) fn told(error: AuditError) -> ApiError {
    match error {
        // others are done soon: callers try again by themselves
        AuditError::Busy => ApiError::new(Code::Unavailable, "AUDIT_BUSY", error)
            .next("repeat the call in a moment, or ask another coordinator"),
        AuditError::Damaged { .. } | AuditError::Broken { .. } | AuditError::Diverged { .. } => {
            ApiError::new(Code::DataLoss, "AUDIT_BROKEN", error)
                .next("warren audit verify says which record on which coordinator")
        }
        AuditError::Store(_) | AuditError::Failed(_) => {
            errors::internal("reading the audit records", error)
        }
    }
}

#[cfg(test)]
mod tests;
