//! The audit chain: one record per mutation, each sealed with the hash of the one before.
//!
//! The records leave the state at once (the coordinator appends them to segment files); only the
//! head stays. The hash is SHA-256 over the fields in their order: integers big-endian, byte
//! strings and texts with their length as a big-endian `u64` before them, so that any tool can
//! check a chain without knowing this code.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use warren_common::{RequestId, Revision, Timestamp};

use crate::command::Principal;

/// SHA-256.
pub type Hash = [u8; 32];

/// One mutation as it is kept for those who ask later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Counts records from 1.
    pub sequence: u64,
    /// The command's time.
    pub at: Timestamp,
    /// Who asked.
    pub principal: Principal,
    /// As which request.
    pub request: RequestId,
    /// Revision of the state with the effect in it.
    pub revision: Revision,
    /// What was done: `workspace.create`.
    pub action: String,
    /// To which object.
    pub object: AuditObject,
    /// What a reader wants to know beyond that, in one line; never a secret.
    pub detail: String,
    /// Hash of the record before; zeroes before the first.
    pub previous_hash: Hash,
    /// Hash over all fields above.
    pub hash: Hash,
}

/// The object of a record, as it was called then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditObject {
    /// Its name or address: `acme/web`.
    pub address: String,
    /// Its id.
    pub id: String,
}

/// The end of the chain, kept in the state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Sequence of the newest record; zero before the first.
    pub sequence: u64,
    /// Its hash; zeroes before the first.
    pub hash: Hash,
}

/// A chain that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// A record is missing, repeated or out of place.
    #[error("audit record {found} stands where {expected} belongs")]
    Sequence {
        /// The number that belongs there.
        expected: u64,
        /// The number that stands there.
        found: u64,
    },
    /// A record does not follow the one before it.
    #[error("audit record {0} does not follow from the record before it")]
    Link(u64),
    /// A record was changed after it was sealed.
    #[error("audit record {0} was changed after it was sealed")]
    Content(u64),
}

impl AuditRecord {
    /// Computes the hash that seals this record, over everything but [`AuditRecord::hash`].
    pub fn seal(&self) -> Hash {
        let mut hash = Sha256::new();
        hash.update(b"warren-audit-1");
        hash.update(self.sequence.to_be_bytes());
        hash.update(self.at.0.to_be_bytes());
        match &self.principal {
            Principal::Person(name) => text(&mut hash, b"person", name.as_bytes()),
            Principal::Node(id) => text(&mut hash, b"node", id.as_bytes()),
            Principal::Coordinator(id) => text(&mut hash, b"coordinator", &id.0.to_be_bytes()),
        }
        hash.update(self.request.as_bytes());
        hash.update(self.revision.0.to_be_bytes());
        text(&mut hash, b"action", self.action.as_bytes());
        text(&mut hash, b"address", self.object.address.as_bytes());
        text(&mut hash, b"id", self.object.id.as_bytes());
        text(&mut hash, b"detail", self.detail.as_bytes());
        hash.update(self.previous_hash);
        hash.finalize().into()
    }
}

/// A label and a value, each with its length: no two lists of fields encode alike.
fn text(hash: &mut Sha256, label: &[u8], value: &[u8]) {
    for part in [label, value] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
}

/// Checks that `records` follow `from` without a gap and are unchanged; returns the new head.
/// Start from [`AuditHead::default`] for a whole chain, or from the head before a segment.
///
/// # Errors
/// Returns the first record that breaks the chain.
pub fn verify_chain<'a>(
    from: AuditHead,
    records: impl IntoIterator<Item = &'a AuditRecord>,
) -> Result<AuditHead, BrokenChain> {
    let mut head = from;
    for record in records {
        let expected = head.sequence.saturating_add(1);
        if record.sequence != expected {
            return Err(BrokenChain::Sequence { expected, found: record.sequence });
        }
        if record.previous_hash != head.hash {
            return Err(BrokenChain::Link(record.sequence));
        }
        if record.seal() != record.hash {
            return Err(BrokenChain::Content(record.sequence));
        }
        head = AuditHead { sequence: record.sequence, hash: record.hash };
    }
    Ok(head)
}
