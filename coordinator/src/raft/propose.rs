//! Writing: a command goes to whoever leads, once, and is answered when it is applied here too.

use std::{sync::Arc, time::Duration};

use openraft::{
    async_runtime::WatchReceiver as _,
    error::{ClientWriteError, Fatal, ForwardReason},
    impls::leader_id_adv::LeaderId,
};
use tokio::time::{Instant, timeout_at};
use warren_common::{Limits, ReplicaId};
use warren_model::{Applied, Envelope, Principal, Refusal};

use super::{
    Consensus,
    answers::{leader_elsewhere, succeeded},
    consensus::Inner,
    error::ProposeError,
    forward::{Leader, Lost, Proposed},
    types::Proposal,
    writes::Silence,
};

/// How soon a leader that has just lost or not yet got its lease is asked again.
const LEASE_RETRY: Duration = Duration::from_millis(10);

type Answer = Result<Applied, Refusal>;

/// How one attempt ended without an answer.
enum Missed {
    /// Nothing happened: it did not reach a leader.
    NotLeader(Option<ReplicaId>),
    /// It may have happened.
    Unknown,
}

impl Consensus {
    /// Proposes a command, here or through the leader, and waits until it is committed and applied
    /// here: a read of [`Consensus::local`] after it sees the effect. During an election it waits
    /// for the next leader, at most twice the longest election.
    ///
    /// # Errors
    /// [`ProposeError::Unknown`] and [`ProposeError::Stopped`] leave open whether it took or takes
    /// effect. Dropping the future does too.
    pub async fn propose(&self, envelope: Envelope) -> Result<Answer, ProposeError> {
        self.propose_for(&envelope, &[]).await
    }

    /// Proposes a command for the holder of the certificate with this serial, which the leader
    /// holds against its deny-list; see [`Consensus::propose`].
    ///
    /// # Errors
    /// Those of [`Consensus::propose`], and [`ProposeError::Revoked`].
    pub async fn propose_for(
        &self,
        envelope: &Envelope,
        serial: &[u8],
    ) -> Result<Answer, ProposeError> {
        check_size(envelope)?;
        let tuning = &self.inner.tuning;
        let deadline = Instant::now() + tuning.write_timeout;
        let mut leadership = self.leadership();
        let mut patience: Option<Instant> = None;
        // an attempt got no answer: from then on nobody may say that nothing happened
        let mut maybe = false;
        loop {
            let attempt = match leader_elsewhere(self.inner.replica, &self.inner.raft) {
                Some(leader) => self.through(&leader, (envelope, serial), deadline).await,
                None => self.attempt_here((envelope, serial), deadline).await,
            };
            let missed = match attempt {
                Ok(missed) => missed,
                Err(ProposeError::Revoked) if maybe => return Err(ProposeError::Unknown),
                Err(error) => return Err(error),
            };
            // While no leader is in sight the wait is an election's; a leader that was met anew
            // begins another.
            let until = *patience.get_or_insert_with(|| Instant::now() + tuning.election_max * 2);
            let until = until.min(deadline);
            let missed = match missed {
                Ok(answer) => return Ok(answer),
                Err(missed) => missed,
            };
            if let Missed::Unknown = missed {
                maybe = true;
                if !taken_once(envelope) {
                    return Err(ProposeError::Unknown);
                }
            }
            // Whatever is known of the leader now is what failed: wait for news, or a moment.
            leadership.mark_unchanged();
            let news = tokio::time::timeout(LEASE_RETRY * 5, leadership.changed()).await;
            if let Ok(Ok(())) = news {
                patience = None;
            }
            if Instant::now() >= until {
                return Err(match missed {
                    Missed::NotLeader(leader) if !maybe => ProposeError::NotLeader { leader },
                    Missed::NotLeader(_) | Missed::Unknown => ProposeError::Unknown,
                });
            }
        }
    }

    /// Proposes a command while this replica leads, and never through another one: for what only
    /// a leader may want.
    ///
    /// # Errors
    /// As [`Consensus::propose`]; [`ProposeError::NotLeader`] at once.
    pub async fn propose_leading(&self, envelope: Envelope) -> Result<Answer, ProposeError> {
        check_size(&envelope)?;
        let deadline = Instant::now() + self.inner.tuning.write_timeout;
        self.write_here((&envelope, &[]), deadline).await.map(|(_, answer)| answer)
    }

    async fn attempt_here(
        &self,
        command: (&Envelope, &[u8]),
        deadline: Instant,
    ) -> Result<Result<Answer, Missed>, ProposeError> {
        match self.write_here(command, deadline).await {
            Ok((_, answer)) => Ok(Ok(answer)),
            Err(ProposeError::NotLeader { leader }) => Ok(Err(Missed::NotLeader(leader))),
            Err(error) => Err(error),
        }
    }

    /// Holds the caller's certificate against the deny-list, which is whole only in the state of
    /// one that leads: a fresh leader may have to apply what its predecessors wrote. Returns the
    /// leadership that the command is fenced with; none where nobody is to be checked.
    async fn admitted(
        &self,
        (envelope, serial): (&Envelope, &[u8]),
        until: Instant,
    ) -> Result<Option<LeaderId<u64, u64>>, ProposeError> {
        if serial.is_empty() {
            return Ok(None);
        }
        let own = self.inner.replica;
        let mut leadership = self.leadership();
        let settled = leadership.wait_for(|known| known.leading || known.leader != Some(own));
        let known = match timeout_at(until, settled).await {
            Ok(Ok(known)) => *known,
            Ok(Err(_)) => return Err(self.ended()),
            Err(_) => return Err(ProposeError::NotLeader { leader: None }),
        };
        if !known.leading {
            return Err(ProposeError::NotLeader { leader: known.leader });
        }
        // the state is read after the leadership: it holds the entry that the leadership told of
        match self.local().refuses(&envelope.principal, serial) {
            true => Err(ProposeError::Revoked),
            false => Ok(Some(LeaderId { term: known.term, node_id: own.0 })),
        }
    }

    /// Writes to the log of this replica, which must lead; returns the entry's index too.
    pub(super) async fn write_here(
        &self,
        (envelope, serial): (&Envelope, &[u8]),
        deadline: Instant,
    ) -> Result<(u64, Answer), ProposeError> {
        let lease = Instant::now() + self.inner.tuning.election_max;
        let leader = self.admitted((envelope, serial), lease.min(deadline)).await?;
        let shared = Arc::new(envelope.clone());
        loop {
            let write = self.inner.writes.write(Proposal(shared.clone()), leader, deadline);
            let error = match write.await {
                Ok(Ok(response)) => {
                    // Only entries without a command have no answer.
                    let answer = response.data.0.ok_or(ProposeError::Unknown)?;
                    return Ok((response.log_id.index, answer));
                }
                Ok(Err(error)) => error,
                Err(Silence::Late) => return Err(ProposeError::Unknown),
                Err(Silence::Ended) => return Err(self.ended()),
            };
            match error {
                // A new leader has no lease for its first milliseconds. Nothing was appended.
                ClientWriteError::ForwardToLeader(to)
                    if to.reason == ForwardReason::LeaseExpired && Instant::now() < lease =>
                {
                    tokio::time::sleep(LEASE_RETRY).await;
                }
                ClientWriteError::ForwardToLeader(to) => {
                    let leader = to.leader_id.map(ReplicaId);
                    return Err(ProposeError::NotLeader { leader });
                }
                ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_) => return Err(ProposeError::Unknown),
            }
        }
    }

    /// openraft gave no answer and never will: its metrics say why.
    pub(super) fn ended(&self) -> ProposeError {
        let ended = self.inner.raft.metrics().borrow_watched().running_state.clone();
        let fatal = ended.err().unwrap_or(Fatal::Stopped);
        ProposeError::Stopped { reason: self.why(&fatal) }
    }

    /// Asks the leader, then waits until what it wrote is applied here.
    async fn through(
        &self,
        leader: &Leader,
        command: (&Envelope, &[u8]),
        deadline: Instant,
    ) -> Result<Result<Answer, Missed>, ProposeError> {
        metrics::counter!("warren_raft_forwarded_total", "kind" => "write").increment(1);
        let Inner { forwarder, raft, .. } = &*self.inner;
        let asking = forwarder.propose(leader, command, deadline);
        match forwarder.unless(succeeded(raft, leader.replica), leader, asking).await {
            Ok(Proposed::Applied(index, answer)) => {
                match timeout_at(deadline, self.inner.view.reaches(index)).await {
                    Ok(true) => Ok(Ok(answer)),
                    Ok(false) | Err(_) => Err(ProposeError::Unknown),
                }
            }
            Ok(Proposed::NotLeader(leader)) => Ok(Err(Missed::NotLeader(leader.map(ReplicaId)))),
            Ok(Proposed::Revoked) => Err(ProposeError::Revoked),
            Ok(Proposed::Unknown | Proposed::Stopped(_)) => Ok(Err(Missed::Unknown)),
            Err(Lost(reason)) => {
                tracing::debug!(leader = %leader.replica, reason, "the leader gave no answer");
                Ok(Err(Missed::Unknown))
            }
        }
    }
}

/// Whether the model takes a repeated command of this principal for the same one.
const fn taken_once(envelope: &Envelope) -> bool {
    match envelope.principal {
        Principal::Person(_) | Principal::Node(_) => true,
        Principal::Coordinator(_) => false,
    }
}

/// Refuses a command that is too long, before it reaches the log.
pub(crate) fn check_size(envelope: &Envelope) -> Result<(), ProposeError> {
    let limit = Limits::COMMAND_BYTES;
    // What cannot be encoded cannot be logged; no command of the model is like that.
    let bytes = postcard::experimental::serialized_size(envelope).unwrap_or(usize::MAX);
    if bytes > limit { Err(ProposeError::TooLarge { bytes, limit }) } else { Ok(()) }
}
