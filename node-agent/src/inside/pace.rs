//! How often one workspace may come in, and how often it is told of.
//!
//! Any process of a workspace can dial its socket in a loop. That must cost the node neither its
//! processor nor its journal, and other workspaces nothing at all.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use tokio::time::{Instant, sleep_until};

/// A bucket of turns, filled up to `burst`, one more each `every`.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    burst: u32,
    /// When the bucket is full again.
    full: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) const fn new(burst: u32, every: Duration) -> Self {
        Self { every, burst, full: Mutex::new(None) }
    }

    /// Waits for a turn and takes it. Cancel safe.
    pub(super) async fn turn(&self) {
        while let Err(at) = self.take() {
            sleep_until(at).await;
        }
    }

    /// Takes a turn where there is one.
    pub(super) fn now(&self) -> bool {
        self.take().is_ok()
    }

    /// Takes a turn, or says when there will be one.
    fn take(&self) -> Result<(), Instant> {
        let now = Instant::now();
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let next = full.map_or(now, |full| full.max(now)) + self.every;
        let latest = now + self.every * self.burst;
        if next > latest {
            return Err(now + (next - latest));
        }
        *full = Some(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_emptied_once() {
        let pace = Pace::new(3, Duration::from_secs(3600));
        let turns: Vec<bool> = (0..5).map(|_| pace.now()).collect();
        assert_eq!(turns, [true, true, true, false, false]);
    }

    #[tokio::test]
    async fn turns_come_back() {
        let pace = Pace::new(2, Duration::from_millis(20));
        let begun = Instant::now();
        for _ in 0..7 {
            pace.turn().await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(90), "two at once, five waited for");
    }
}
