//! A few audit records, and coordinators that check them.

use tokio_stream::Iter;
use tonic::{Request, Response, Status};
use warren_proto::{
    Method,
    pb::admin::v1::{self as pb, audit_service_server::AuditService},
};

use super::{
    data::NOW,
    fake::{Fake, fresh},
};

type Verdicts = Iter<std::vec::IntoIter<Result<pb::VerifyRecordsResponse, Status>>>;

fn record(sequence: u64, actor: &str, (action, target): (&str, &str)) -> pb::AuditRecord {
    pb::AuditRecord {
        sequence,
        at_unix_ms: NOW - (100 - sequence) * 60_000,
        actor: actor.to_owned(),
        actor_name: actor.rsplit('/').next().unwrap_or_default().to_owned(),
        request_id: format!("0199a0b2-7f00-7000-8000-{sequence:012}"),
        revision: sequence,
        action: action.to_owned(),
        target: target.to_owned(),
        target_id: String::new(),
        detail: String::new(),
        hash: "ab".repeat(32),
    }
}

/// The records of the coordinator, oldest first; the first two are missing there.
pub(crate) fn records() -> Vec<pb::AuditRecord> {
    let node = pb::AuditRecord {
        actor_name: "n1".to_owned(),
        ..record(5, "node/0199a0b2-7f00-7000-8000-0000000000a1", ("node.register", "n1"))
    };
    vec![
        record(3, "person/ann", ("client.create", "acme")),
        record(4, "person/ann", ("workspace.create", "acme/web")),
        node,
        pb::AuditRecord {
            detail: "placed on n1 (11.2 GiB free)".to_owned(),
            ..record(6, "coordinator/1", ("workspace.assign", "acme/web"))
        },
        record(7, "person/vera", ("workspace.stop", "acme/web")),
    ]
}

/// What three coordinators say of their records: the second lacks some, the third is silent.
pub(crate) fn verdicts() -> Vec<pb::VerifyRecordsResponse> {
    let whole = |replica_id| pb::VerifyRecordsResponse {
        replica_id,
        whole: true,
        first_sequence: 1,
        last_sequence: 7,
        records: 7,
        head_sequence: 7,
        head_hash: "ab".repeat(32),
        segments: 1,
        ..Default::default()
    };
    let gaps = vec![pb::AuditGap { from_sequence: 1, upto_sequence: 2 }];
    vec![
        pb::VerifyRecordsResponse { first_sequence: 3, records: 5, gaps, ..whole(2) },
        whole(1),
        pb::VerifyRecordsResponse {
            replica_id: 3,
            trouble: "no coordinator answers: 10.0.0.3:7401".to_owned(),
            ..Default::default()
        },
    ]
}

#[tonic::async_trait]
impl AuditService for Fake {
    /// Gives one record per page and an empty page now and then, as a real one may.
    async fn list_records(
        &self,
        request: Request<pb::ListRecordsRequest>,
    ) -> Result<Response<pb::ListRecordsResponse>, Status> {
        let asked = request.into_inner();
        let mut state = self.enter(Method::AuditListRecords)?;
        state.searches.push(asked.clone());
        let known = state.records.clone();
        let head_sequence = known.last().map_or(0, |last| last.sequence);
        let mut fit: Vec<pb::AuditRecord> = known
            .into_iter()
            .filter(|one| one.sequence > asked.after_sequence)
            .filter(|one| asked.action.is_empty() || one.action.starts_with(&asked.action))
            .filter(|one| asked.actor.is_empty() || one.actor_name == asked.actor)
            .collect();
        if !asked.oldest_first {
            fit.reverse();
        }
        let begin: usize = asked.page_token.parse().unwrap_or(0);
        // every other page is empty
        let records: Vec<_> = match begin % 2 {
            0 => fit.iter().skip(begin / 2).take(1).cloned().collect(),
            _ => Vec::new(),
        };
        let last = begin.div_ceil(2) + 1 > fit.len();
        let gap = pb::AuditGap { from_sequence: 1, upto_sequence: 2 };
        Ok(Response::new(pb::ListRecordsResponse {
            freshness: fresh(),
            records,
            next_page_token: if last { String::new() } else { (begin + 1).to_string() },
            replica_id: 2,
            gaps: match (last, asked.oldest_first) {
                (true, false) => vec![gap],
                (true, true) => std::mem::take(&mut state.gaps),
                (false, _) => Vec::new(),
            },
            head_sequence,
        }))
    }

    type VerifyRecordsStream = Verdicts;

    async fn verify_records(
        &self,
        _: Request<pb::VerifyRecordsRequest>,
    ) -> Result<Response<Self::VerifyRecordsStream>, Status> {
        let state = self.enter(Method::AuditVerifyRecords)?;
        let verdicts: Vec<_> = state.verdicts.iter().cloned().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(verdicts)))
    }
}
