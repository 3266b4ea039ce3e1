//! How long to wait before trying again.
//!
//! Exponential with full jitter: uniform between zero and the ceiling, which doubles up to a
//! maximum (AWS Architecture Blog, "Exponential Backoff And Jitter"). Deterministic for a seed.

use std::time::Duration;

/// The waits of one series of attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
    state: u64,
}

impl Backoff {
    /// Starts a series whose first ceiling is `base` and whose last is `max`. Give peers different
    /// seeds, lest they all come back at once.
    pub const fn new(base: Duration, max: Duration, seed: u64) -> Self {
        Self { base, max, failures: 0, state: seed }
    }

    /// Starts a series with a seed from the system's randomness; without any, from the process id.
    pub fn seeded(base: Duration, max: Duration) -> Self {
        let mut seed = [0; 8];
        match getrandom::fill(&mut seed) {
            Ok(()) => Self::new(base, max, u64::from_le_bytes(seed)),
            Err(_) => Self::new(base, max, u64::from(std::process::id())),
        }
    }

    /// Returns the next wait: at least a tenth of the base, so that nobody spins.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = self.base.saturating_mul(1_u32 << self.failures.min(31));
        let ceiling = doubled.min(self.max);
        self.failures = self.failures.saturating_add(1);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        let wait = Duration::from_nanos(self.draw() % nanos.saturating_add(1).max(1));
        wait.max(self.base / 10)
    }

    /// Returns how many waits were given since the last [`Self::reset`].
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts again from the base, after a success.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014).
    const fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn waits_stay_below_a_doubling_ceiling() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(BASE, MAX, seed);
            for attempt in 0..100_u32 {
                let ceiling = BASE.saturating_mul(1 << attempt.min(20)).min(MAX);
                let wait = backoff.next_wait();
                assert!(wait <= ceiling && wait >= BASE / 10, "{attempt}: {wait:?}");
            }
            backoff.reset();
            assert!(backoff.next_wait() <= BASE);
        }
    }

    #[test]
    fn a_seed_decides_and_seeds_differ() {
        let series = |seed| {
            let mut backoff = Backoff::new(BASE, MAX, seed);
            [(); 5].map(|()| backoff.next_wait())
        };
        assert_eq!(series(7), series(7));
        assert_ne!(series(7), series(8));
    }
}
