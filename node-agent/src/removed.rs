//! What a node does that was taken out of its cluster: it stops what it runs.
//!
//! Its workspaces may be started elsewhere from that moment on, and none may run twice. Homes stay.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};
use warren_daemon::{Shutdown, telemetry::Chain};

use crate::{
    engine::{ContainerSeen, ContainerState, Engine},
    host::levels::Levels,
};

/// What a workspace is given for its end.
const GRACE: Duration = Duration::from_secs(2);
/// What the engine is given for all of them: [`GRACE`], and a while to answer.
const STOPPING: Duration = Duration::from_secs(5);
/// Between two looks: an engine may be away, and a start may have been under way.
const AGAIN: Duration = Duration::from_secs(2);

/// What of this node may run.
struct Remains {
    engine: Arc<dyn Engine>,
    levels: Arc<Levels>,
    /// The parents of their cgroups.
    parents: Vec<String>,
}

/// Returns whom to tell of the removal: from then on every container of this node is stopped, and
/// whatever else runs in the cgroups below `parents` ended, until it is told that the node is one
/// again.
pub fn start(
    engine: Arc<dyn Engine>,
    (levels, parents): (Arc<Levels>, Vec<String>),
    shutdown: &Shutdown,
) -> watch::Sender<bool> {
    let removed = watch::Sender::new(false);
    let remains = Remains { engine, levels, parents };
    let stopping = remains.end(removed.subscribe());
    shutdown.spawn(shutdown.child_token().run_until_cancelled_owned(stopping));
    removed
}

impl Remains {
    async fn end(self, mut removed: watch::Receiver<bool>) {
        while removed.wait_for(|removed| *removed).await.is_ok() {
            let round = async {
                self.stop_all().await;
                sleep(AGAIN).await;
            };
            tokio::select! {
                // a node again: what it starts from now on is not to be ended
                Ok(_) = removed.wait_for(|removed| !*removed) => {}
                () = round => {}
            }
        }
    }

    async fn stop_all(&self) {
        // an engine that hangs over one of them keeps none of the others running
        if timeout(STOPPING, self.stop_listed()).await.is_err() {
            warn!("the engine does not stop in time what this removed node runs");
        }
        // what the engine does not list, as after another data-root, and what it did not stop
        let ended = async { self.levels.end(&self.levels.below(&self.parents)?).await };
        if let Err(error) = ended.await {
            warn!(error = %Chain(&error), "this removed node still runs something");
        }
    }

    async fn stop_listed(&self) {
        match self.engine.list().await {
            Ok(seen) => {
                let runs =
                    |one: &ContainerSeen| matches!(one.state, ContainerState::Running { .. });
                let running = seen.into_iter().filter(runs);
                join_all(running.map(|one| stop(self.engine.as_ref(), one))).await;
            }
            Err(error) => {
                warn!(error = %Chain(&error), "what this removed node's engine runs is unknown");
            }
        }
    }
}

async fn stop(engine: &dyn Engine, container: ContainerSeen) {
    let name = container.name;
    match engine.stop(&container.id, GRACE).await {
        Ok(()) => info!(container = name, "stopped: the node was removed"),
        Err(error) => warn!(container = name, error = %Chain(&error), "it cannot be stopped yet"),
    }
}
