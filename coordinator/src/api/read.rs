//! How fresh the answer of a read must be, and how fresh it is.
//!
//! Who may ask was checked before: a stale read is let in by the same rule, against the same
//! deny-list, as any other.

use std::time::Duration;

use warren_common::Revision;
use warren_proto::{
    error::{ApiError, reason},
    pb::admin::v1::{self as pb, Consistency},
};

use super::{Api, Moment, errors};

/// How a moment was read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Basis {
    /// With everything in it that was acknowledged before.
    Linearizable,
    /// As this coordinator had it; how long ago it last had everything, as far as it knows.
    Stale(Option<Duration>),
    /// For no read: beside a change, or while something is followed.
    Own,
}

impl Api {
    /// Reads as fresh as the caller wants it.
    ///
    /// # Errors
    /// No majority confirmed it, or this coordinator has not come to the revision asked for.
    pub(super) async fn read_for(&self, read: Option<pb::Read>) -> Result<Moment, ApiError> {
        let read = read.unwrap_or_default();
        let kind = Consistency::try_from(read.consistency).map_err(|_| {
            let why = format!("this coordinator knows no kind {}", read.consistency);
            errors::invalid("read.consistency", why)
        })?;
        let consensus = &self.parts().consensus;
        if read.min_revision > 0 {
            let reached = consensus.reaches(Revision(read.min_revision)).await;
            reached.map_err(|error| errors::read(error, &consensus.local()))?;
        }
        match kind {
            Consistency::Unspecified | Consistency::Linearizable => {
                self.read().await.map_err(or_stale)
            }
            Consistency::Stale => {
                // the age first: the state is newer than it says, never older
                let basis = Basis::Stale(consensus.age());
                Ok(Moment { basis, ..self.local() })
            }
        }
    }
}

impl Moment {
    /// Says how fresh the answer is.
    pub(super) fn freshness(&self) -> pb::Freshness {
        let (consistency, age) = match self.basis {
            Basis::Linearizable => (Consistency::Linearizable, None),
            Basis::Stale(age) => (Consistency::Stale, age),
            Basis::Own => (Consistency::Unspecified, None),
        };
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        pb::Freshness {
            consistency: consistency.into(),
            age_ms: age.map(millis),
            replica_id: self.replica.0,
            ..self.view().freshness()
        }
    }
}

/// Names the way that is left without a quorum.
fn or_stale(error: ApiError) -> ApiError {
    if error.reason != reason::NO_QUORUM {
        return error;
    }
    let next = error.next.as_deref().map(|next| format!("{next}; ")).unwrap_or_default();
    error.next(format!("{next}--stale shows what a coordinator knew last"))
}
