//! How much of what a workspace tells is taken in one moment.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Counts what was taken in a window of time, and waits out its rest where that was much.
#[derive(Debug)]
pub(super) struct Pace {
    window: Duration,
    most: u32,
    ends: Instant,
    left: u32,
}

impl Pace {
    /// At most `most` in each `window`.
    pub(super) fn new(most: u32, window: Duration) -> Self {
        Self { window, most, ends: Instant::now() + window, left: most }
    }

    /// Counts one that was taken. Cancel safe: what was waited for is not counted again.
    pub(super) async fn took(&mut self) {
        if Instant::now() > self.ends {
            self.begin();
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            sleep_until(self.ends).await;
            self.begin();
        }
    }

    fn begin(&mut self) {
        (self.ends, self.left) = (Instant::now() + self.window, self.most);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_comes_at_once_is_spread_and_what_comes_slowly_does_not_wait() {
        let window = Duration::from_millis(40);
        let began = Instant::now();
        let mut pace = Pace::new(3, window);
        for _ in 0..7 {
            pace.took().await;
        }
        assert!(began.elapsed() >= 2 * window);
        for _ in 0..9 {
            tokio::time::sleep(2 * window).await;
            assert!(pace.took().now_or_never().is_some());
        }
    }
}
