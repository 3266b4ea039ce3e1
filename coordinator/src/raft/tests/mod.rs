//! Consensus as the coordinator sees it, on real files; what the tests share.

mod audit;
mod checkpoints;
mod damage;
mod forward;
mod golden;
mod group;
mod kill;
mod line;
mod membership;
pub(crate) mod node;
mod seeding;
mod single;
mod stale;
mod suite;

use std::{path::Path, time::Duration};

use warren_common::{ClientId, ClusterId, ReplicaId, RequestId, Timestamp};
use warren_model::{
    Applied, ClusterState, Command, Envelope, Principal,
    command::{CreateClient, InitCluster},
};

use crate::store::Engine;

use super::{Consensus, Options, ProposeError, Tuning};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

fn options(replica: u64, folder: &Path) -> Options {
    Options {
        replica: ReplicaId(replica),
        folder: folder.to_owned(),
        engine: Engine::default(),
        connect: node::speaking_as(replica),
        tuning: Tuning::default(),
    }
}

pub(crate) fn envelope(command: Command) -> Envelope {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = since.expect("after 1970").as_millis();
    Envelope {
        request: RequestId::new(uuid::Uuid::now_v7()),
        principal: Principal::Person("tester".to_owned()),
        at: Timestamp(u64::try_from(millis).expect("before the year 500 million")),
        if_revision: None,
        command,
    }
}

fn init_cluster() -> Envelope {
    envelope(Command::InitCluster(InitCluster {
        cluster: ClusterId::new(uuid::Uuid::now_v7()),
        name: "test".to_owned(),
        incarnation: 7,
    }))
}

pub(crate) fn create_client(name: &str) -> Envelope {
    envelope(Command::CreateClient(CreateClient {
        client: ClientId::new(uuid::Uuid::now_v7()),
        name: name.parse().expect("a valid name"),
        labels: Default::default(),
    }))
}

fn has_client(state: &ClusterState, name: &str) -> bool {
    state.client_named(&name.parse().expect("a valid name")).is_some()
}

/// Proposes and expects it to be applied.
async fn apply(consensus: &Consensus, envelope: Envelope) -> Applied {
    let answer = consensus.propose(envelope).await.expect("a majority is there");
    answer.expect("the state allows it")
}

/// Checks a folder of audit records, and that none of them is broken.
fn whole_audit(folder: &Path) -> crate::audit::Verified {
    let verified = crate::audit::verify(folder, None).expect("it can be read");
    assert_eq!(verified.broken, None);
    verified
}

/// Waits until the replica leads.
async fn leads(consensus: &Consensus) {
    let mut leadership = consensus.leadership();
    let leading = leadership.wait_for(|known| known.leading);
    let known = tokio::time::timeout(PATIENCE, leading).await;
    known.expect("it leads in time").expect("it runs");
}

/// Opens the only replica of a cluster, making the cluster where there is none.
async fn open_single(folder: &Path) -> Consensus {
    open_single_with(options(1, folder)).await
}

async fn open_single_with(options: Options) -> Consensus {
    let consensus = Consensus::open(options).await.expect("it opens");
    let members = [(ReplicaId(1), "127.0.0.1:1".to_owned())].into();
    let fresh = consensus.initialise(members).await.is_ok();
    leads(&consensus).await;
    if fresh {
        apply(&consensus, init_cluster()).await;
    }
    consensus
}

/// Proposes until somebody who leads takes it; a command with the same request id happens once.
pub(crate) async fn apply_anywhere(replicas: &[&Consensus], envelope: &Envelope) -> Applied {
    let trying = async {
        loop {
            for replica in replicas {
                match replica.propose(envelope.clone()).await {
                    Ok(answer) => return answer.expect("the state allows it"),
                    Err(ProposeError::NotLeader { .. } | ProposeError::Unknown) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.expect("somebody leads in time")
}
