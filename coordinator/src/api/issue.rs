//! Giving certificates: signed here, on record everywhere before anybody gets one.
//!
//! The record is what decides: this coordinator's copy of the state may not know yet that a holder
//! was revoked, the log does. What this copy refuses already is not proposed, so that nobody makes
//! the log grow by asking again and again for what they do not get.

use uuid::Uuid;
use warren_common::{ReplicaId, RequestId};
use warren_daemon::{clock, identity::PeerIdentity};
use warren_model::{
    Command, Envelope, Principal,
    command::{Occasion, RecordCertificate},
};
use warren_proto::error::ApiError;

use super::errors;
use crate::{
    authz::principal,
    ca::{Ca, Issued, SigningRequest},
    raft::Consensus,
};

/// Who signs, and where it is put on record.
#[derive(Clone, Copy)]
pub struct Issuer<'a> {
    /// The authorities.
    pub ca: &'a Ca,
    /// The record.
    pub consensus: &'a Consensus,
    /// This coordinator.
    pub replica: ReplicaId,
}

impl Issuer<'_> {
    /// Signs a certificate that names `identity` and puts it on record.
    ///
    /// # Errors
    /// Nothing can be signed, the holder may have none, or the record got no answer: the
    /// certificate is then of no use to anybody, and asking again is safe.
    pub async fn issue(
        self,
        csr: &SigningRequest,
        identity: &PeerIdentity,
        occasion: Occasion,
    ) -> Result<Issued, ApiError> {
        let issued = self.ca.issue(csr, identity, clock::now())?;
        let record = record(&issued, identity, occasion);
        self.propose(Command::RecordCertificate(Box::new(record))).await?;
        Ok(issued)
    }

    /// Proposes a command of this coordinator's own, unless its copy of the state refuses it.
    ///
    /// # Errors
    /// The model refuses, or there is no answer.
    pub async fn propose(self, command: Command) -> Result<(), ApiError> {
        let envelope = Envelope {
            request: RequestId::new(Uuid::now_v7()),
            principal: Principal::Coordinator(self.replica),
            at: clock::now(),
            if_revision: None,
            command,
        };
        let mut copy = self.consensus.local();
        copy.apply(&envelope).result.map_err(errors::refusal)?;
        match self.consensus.propose(envelope).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refusal)) => Err(errors::refusal(refusal)),
            Err(error) => Err(errors::propose(error, &self.consensus.local())),
        }
    }
}

/// Returns the record of a certificate.
pub fn record(issued: &Issued, identity: &PeerIdentity, occasion: Occasion) -> RecordCertificate {
    let role = match identity {
        PeerIdentity::Person { role, .. } => Some(*role),
        PeerIdentity::Node(_) | PeerIdentity::Coordinator(_) => None,
    };
    RecordCertificate {
        holder: principal(identity),
        role,
        serial: issued.serial.clone(),
        key_hash: issued.key_hash,
        issued: issued.issued,
        expires: issued.not_after,
        occasion,
    }
}
