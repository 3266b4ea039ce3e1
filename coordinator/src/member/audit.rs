//! Audit records checked on every coordinator: each computes its own chain again.

use warren_common::{Limits, ReplicaId};
use warren_model::{AuditHead, state::certificate};
use warren_proto::{
    error::ApiError,
    pb::{admin::v1 as admin, raft::v1 as pb},
};

use super::{Failed, Members};
use crate::{api, audit::Verified};

impl Members {
    /// Has a coordinator check its records against `head`, which the state had before the call.
    pub async fn verify_audit(
        &self,
        replica: ReplicaId,
        head: AuditHead,
    ) -> admin::VerifyRecordsResponse {
        let asked = tokio::time::timeout(Limits::AUDIT_TIMEOUT, self.ask_verified(replica, head));
        let trouble = match asked.await {
            Ok(Ok(verified)) => return verified,
            Ok(Err(error)) => error.message,
            Err(_) => format!("no answer within {} s", Limits::AUDIT_TIMEOUT.as_secs()),
        };
        admin::VerifyRecordsResponse { replica_id: replica.0, trouble, ..Default::default() }
    }

    async fn ask_verified(
        &self,
        replica: ReplicaId,
        head: AuditHead,
    ) -> Result<admin::VerifyRecordsResponse, ApiError> {
        if replica == self.replica() {
            return self.verify_audit_here(head).await;
        }
        let request = pb::VerifyAuditRequest {
            head_sequence: head.sequence,
            head_hash: head.hash.to_vec().into(),
        };
        let answer = self.peer(replica)?.verify_audit(request).await;
        let answer = answer.map_err(|status| Failed::from(status).0)?.into_inner();
        Ok(answer.verified.unwrap_or_default())
    }

    /// Checks this coordinator's own records.
    pub(super) async fn verify_audit_here(
        &self,
        head: AuditHead,
    ) -> Result<admin::VerifyRecordsResponse, ApiError> {
        let verified = self.0.parts.consensus.verify_audit(head).await;
        Ok(show(self.replica(), head, verified.map_err(api::audit::told)?))
    }
}

fn show(replica: ReplicaId, head: AuditHead, verified: Verified) -> admin::VerifyRecordsResponse {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    admin::VerifyRecordsResponse {
        replica_id: replica.0,
        trouble: String::new(),
        whole: verified.broken.is_none(),
        first_sequence: verified.first,
        last_sequence: verified.head.sequence,
        records: verified.records,
        gaps: verified.gaps.iter().map(api::audit::gap).collect(),
        broken: verified.broken.map(|broken| admin::AuditBreak {
            sequence: broken.sequence,
            segment: broken.segment.unwrap_or_default(),
            line: number(broken.line),
            reason: broken.reason,
        }),
        head_sequence: head.sequence,
        head_hash: certificate::hex(&head.hash),
        segments: number(verified.segments),
    }
}
