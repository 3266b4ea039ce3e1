//! The way from an empty log to a vote, as the joining coordinator goes it: it asks whoever leads,
//! again and again until it is told that it votes.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::watch;
use tracing::{info, warn};
use warren_common::ReplicaId;
use warren_model::command::SetReplica;
use warren_proto::{
    ApiError,
    error::reason,
    pb::raft::v1::{self as pb, Admission as Step},
};

use super::{Intent, IntentError, Record};
use crate::{
    member::bounded,
    raft::{Connect, Consensus},
};

/// The pause before everybody is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// How far a coordinator has joined, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which coordinator.
    pub replica: ReplicaId,
    /// The steps that are done, in their order.
    pub steps: Vec<String>,
    /// It votes.
    pub done: bool,
    /// Why it never will.
    pub refused: Option<String>,
}

impl Progress {
    /// One that begins.
    pub(super) fn begun(replica: ReplicaId) -> (watch::Sender<Self>, watch::Receiver<Self>) {
        let steps =
            vec![format!("enrolled as coordinator {replica}"), "keystore copied".to_owned()];
        watch::channel(Self { replica, steps, done: false, refused: None })
    }

    /// One of a coordinator that has joined before.
    pub(super) fn done(replica: ReplicaId) -> (watch::Sender<Self>, watch::Receiver<Self>) {
        let steps = vec![format!("this machine is coordinator {replica} already")];
        watch::channel(Self { replica, steps, done: true, refused: None })
    }
}

/// What admission takes.
pub struct Admission {
    /// The log, empty at first.
    pub(super) consensus: Consensus,
    /// How the others are reached.
    pub(super) connect: Connect,
    /// Who asks, and where it is reached.
    pub(super) wanted: SetReplica,
    /// Who this coordinator is, on disk.
    pub(super) record: Record,
    /// Where the steps are told.
    pub(super) told: watch::Sender<Progress>,
}

impl Admission {
    /// Asks until this coordinator votes; true then, false where it never will. Cancel safe.
    pub async fn run(self) -> bool {
        loop {
            let intent = match self.record.load() {
                Ok(Some(intent)) => intent,
                Ok(None) => return false,
                Err(error) => {
                    warn!(%error, "cannot read who this coordinator is");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            for (replica, address) in self.candidates(&intent) {
                match self.ask(replica, &address).await {
                    Ok(()) => match self.finish() {
                        Ok(()) => return true,
                        Err(error) => {
                            warn!(%error, "cannot keep that this coordinator votes");
                            break;
                        }
                    },
                    Err(error)
                        if error.reason == "REPLICA_REMOVED"
                            || error.reason == reason::CERTIFICATE_REVOKED =>
                    {
                        self.told.send_modify(|now| now.refused = Some(error.to_string()));
                        warn!(%error, "this coordinator will not be admitted");
                        return false;
                    }
                    Err(error) if error.reason == reason::NOT_LEADER => {}
                    Err(error) => info!(%replica, address, %error, "not admitted yet"),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Everybody that may lead, this coordinator included: it may be made leader before it is told
    /// that it votes.
    fn candidates(&self, intent: &Intent) -> Vec<(ReplicaId, String)> {
        let mut all = intent.peers.clone();
        let state = self.consensus.local();
        all.extend(state.replicas.iter().map(|(id, row)| (*id, row.raft_address.clone())));
        in_turn(all, self.consensus.status().leader)
    }

    async fn ask(&self, replica: ReplicaId, address: &str) -> Result<(), ApiError> {
        let unreachable =
            |why: String| ApiError::new(tonic::Code::Unavailable, reason::UNREACHABLE, why);
        let channel = (self.connect)(replica, address).map_err(unreachable)?;
        let request = pb::AdmitRequest {
            api_address: self.wanted.api_address.clone(),
            raft_address: self.wanted.raft_address.clone(),
        };
        let told = |status: tonic::Status| ApiError::from(&status);
        let mut steps = bounded(channel).admit(request).await.map_err(told)?.into_inner();
        while let Some(step) = steps.message().await.map_err(told)? {
            self.tell(&step);
            if step.admission() == Step::Voter {
                return Ok(());
            }
        }
        Err(unreachable(format!("coordinator {replica} ended the admission")))
    }

    /// Tells a step once, however often the admission is begun.
    fn tell(&self, step: &pb::AdmitResponse) {
        info!(step = step.detail, "admission");
        self.told.send_if_modified(|now| {
            let fresh = !now.steps.contains(&step.detail);
            if fresh {
                now.steps.push(step.detail.clone());
            }
            fresh
        });
    }

    fn finish(&self) -> Result<(), IntentError> {
        self.record.change(|intent| intent.joining = false)?;
        self.told.send_modify(|now| now.done = true);
        Ok(())
    }
}

/// Returns all in the order in which they are asked: who was last known to lead comes first, and the
/// others follow, because that one may be gone.
fn in_turn(
    all: BTreeMap<ReplicaId, String>,
    leader: Option<ReplicaId>,
) -> Vec<(ReplicaId, String)> {
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(replica, _)| (Some(*replica) != leader, *replica));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_may_be_gone_is_asked_first_and_not_alone() {
        let all: BTreeMap<_, _> = (1..=3).map(|id| (ReplicaId(id), format!("h{id}:1"))).collect();
        let order = |leader| {
            let turns = in_turn(all.clone(), leader).into_iter();
            turns.map(|(replica, _)| replica.0).collect::<Vec<_>>()
        };
        assert_eq!(order(Some(ReplicaId(2))), [2, 1, 3]);
        assert_eq!(order(Some(ReplicaId(9))), [1, 2, 3], "one that nobody knows how to reach");
        assert_eq!(order(None), [1, 2, 3]);
    }
}
