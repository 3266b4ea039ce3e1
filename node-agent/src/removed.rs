//! What a node does that was taken out of its cluster: it stops what it runs.
//!
//! Its workspaces may be started elsewhere from that moment on, and none may run twice. Homes stay.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};
use warren_daemon::{Shutdown, telemetry::Chain};

use crate::engine::{ContainerSeen, ContainerState, Engine};

/// What a workspace is given for its end.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks: an engine may be away, and a start may have been under way.
const AGAIN: Duration = Duration::from_secs(2);

/// Returns whom to tell of the removal: from then on every container of this node is stopped, until
/// it is told that the node is one again.
pub fn start(engine: Arc<dyn Engine>, shutdown: &Shutdown) -> watch::Sender<bool> {
    let removed = watch::Sender::new(false);
    let stopping = stop_all(engine, removed.subscribe());
    shutdown.spawn(shutdown.child_token().run_until_cancelled_owned(stopping));
    removed
}

async fn stop_all(engine: Arc<dyn Engine>, mut removed: watch::Receiver<bool>) {
    while removed.wait_for(|removed| *removed).await.is_ok() {
        match engine.list().await {
            Ok(seen) => {
                let runs =
                    |one: &ContainerSeen| matches!(one.state, ContainerState::Running { .. });
                let running = seen.into_iter().filter(runs);
                join_all(running.map(|one| stop(engine.as_ref(), one))).await;
            }
            Err(error) => {
                warn!(error = %Chain(&error), "what runs on this removed node is unknown")
            }
        }
        sleep(AGAIN).await;
    }
}

async fn stop(engine: &dyn Engine, container: ContainerSeen) {
    let name = container.name;
    match engine.stop(&container.id, GRACE).await {
        Ok(()) => info!(container = name, "stopped: the node was removed"),
        Err(error) => warn!(container = name, error = %Chain(&error), "it cannot be stopped yet"),
    }
}
