//! Writing on the leader without asking the majority what is true first.
//!
//! A call that names its object must find it in a state that holds everything acknowledged before
//! the call. A linearizable read gives one, at the price of a round of asking the majority. The
//! leader of term `t` that has applied an entry of `t` may read its own state instead, if the
//! command it makes of it is committed in `t` or not at all: whatever was acknowledged before `t`
//! stands before its first entry, what it acknowledged itself is in its state, and had a later
//! leader acknowledged anything, a majority would refuse the command's entry. So the command is
//! fenced with the term; where the fence holds it back, nothing has happened.

use openraft::{error::ClientWriteError, impls::leader_id_adv::LeaderId};
use tokio::time::Instant;
use warren_model::{Applied, ClusterState, Envelope, Refusal};

use super::{
    Consensus, error::ProposeError, propose::check_size, types::Proposal, writes::Silence,
};

/// The state of a replica that leads, good for a command of the same leadership.
pub struct Led {
    state: ClusterState,
    term: u64,
}

impl Led {
    /// Returns everything acknowledged so far, if this replica still leads.
    pub const fn state(&self) -> &ClusterState {
        &self.state
    }

    /// Returns the term of the leadership.
    pub const fn term(&self) -> u64 {
        self.term
    }
}

/// Why a fenced command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedError {
    /// The leadership is over, or its lease is: nothing happened.
    #[error("this coordinator does not lead any more")]
    Over,
    /// As any other command.
    #[error(transparent)]
    Propose(ProposeError),
}

impl Consensus {
    /// Returns the state to make a command of, where this replica leads as far as it knows.
    pub fn led(&self) -> Option<Led> {
        let known = *self.leadership().borrow();
        // the state is read after the leadership: it holds the entry that the leadership told of
        known.leading.then(|| Led { state: self.local(), term: known.term })
    }

    /// Proposes a command in that leadership only, and waits until it is applied here. It is for
    /// the holder of the certificate with this serial, as with [`Consensus::propose_for`].
    ///
    /// # Errors
    /// [`LedError::Over`] where nothing happened because of the fence; otherwise as
    /// [`Consensus::propose`].
    pub async fn propose_led(
        &self,
        led: &Led,
        envelope: Envelope,
        serial: &[u8],
    ) -> Result<Result<Applied, Refusal>, LedError> {
        check_size(&envelope).map_err(LedError::Propose)?;
        if !serial.is_empty() && led.state.refuses(&envelope.principal, serial) {
            return Err(LedError::Propose(ProposeError::Revoked));
        }
        let deadline = Instant::now() + self.inner.tuning.write_timeout;
        let leader = LeaderId { term: led.term, node_id: self.inner.replica.0 };
        let write = self.inner.writes.write(Proposal(envelope.into()), Some(leader), deadline);
        let unknown = LedError::Propose(ProposeError::Unknown);
        match write.await {
            // Only entries without a command have no answer.
            Ok(Ok(response)) => response.data.0.ok_or(unknown),
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(LedError::Over),
            Ok(Err(
                ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_),
            ))
            | Err(Silence::Late) => Err(unknown),
            Err(Silence::Ended) => Err(LedError::Propose(self.ended())),
        }
    }
}
