//! Waiting for something to become true, with a deadline and a reason.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Polls `condition` until it answers, and returns its answer.
///
/// # Errors
/// Fails with `what` and the last reason once `deadline` has passed.
pub fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<T>,
) -> Result<T> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let last = match condition() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if began.elapsed() >= deadline {
            bail!("{what}: not within {:.1} s: {last:#}", deadline.as_secs_f64());
        }
        thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
