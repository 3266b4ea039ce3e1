//! Listens to the engine, and listens again when it went away.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::warn;
use warren_daemon::{backoff::Backoff, telemetry::Chain};

use crate::engine::{Engine, EngineEvent};

/// Waits between attempts to listen.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// Something a worker may want to look at.
pub(super) enum Happening {
    /// From now on events are heard; those before were missed.
    Listening,
    /// This was heard.
    Event(EngineEvent),
}

/// Passes events on, for ever.
pub(super) async fn watch(engine: Arc<dyn Engine>, happenings: mpsc::Sender<Happening>) {
    let mut backoff = Backoff::seeded(RETRY.0, RETRY.1);
    loop {
        let begun = Instant::now();
        let mut events = engine.events();
        if happenings.send(Happening::Listening).await.is_err() {
            return;
        }
        loop {
            match events.next().await {
                Some(Ok(event)) => {
                    if happenings.send(Happening::Event(event)).await.is_err() {
                        return;
                    }
                }
                Some(Err(failed)) => {
                    warn!(error = %Chain(&failed), "the engine's events cannot be heard");
                    break;
                }
                None => break,
            }
        }
        // a quiet engine is one that was heard, too
        if begun.elapsed() > RETRY.1 {
            backoff.reset();
        }
        sleep(backoff.next_wait()).await;
    }
}
