//! Breaking a real coordinator again and again, and counting what it had acknowledged.
//!
//! [`kill`] ends the process with SIGKILL; [`power`] cuts the disk below it. In both, writers speak
//! to the coordinator over mutual TLS and note each acknowledged write in a [`journal`] that is on
//! no disk under test; after each restart everything noted must be there, once ([`check`]).
//! [`unsynced`] is the counter-proof: the same power cut catches a store that leaves out the fsync.
//! [`cluster`] breaks one of three at a time, and asks whether the history of all calls has an order.
//! A seed chooses every moment; it is printed, and given again it chooses the same ones.

pub mod check;
pub mod cluster;
pub mod device;
pub mod journal;
pub mod kill;
pub mod power;
pub mod unsynced;
pub mod writer;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use warren_coordinator::store::Engine;

/// What is to be broken, how often, and at which moments.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often, over all engines.
    pub n: usize,
    /// On which engines.
    pub engines: Vec<Engine>,
    /// Chooses the moments.
    pub seed: u64,
    /// For how long, over all engines, where it is time that counts.
    pub minutes: f64,
}

/// How long a torture lasts that goes by time.
const MINUTES: f64 = 10.0;

fn minutes(text: &str) -> Result<f64> {
    let minutes: f64 = text.parse().context("--minutes takes a number")?;
    anyhow::ensure!((0.1..=120.0).contains(&minutes), "--minutes is between 0.1 and 120");
    Ok(minutes)
}

impl Options {
    /// Reads `--n N`, `--minutes M`, `--engine sled|redb|both` and `--seed S`; without a seed the
    /// clock gives one.
    ///
    /// # Errors
    /// Fails at an argument that is none of these.
    pub fn read(mut arguments: impl Iterator<Item = String>, n: usize) -> Result<Self> {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let seed = u64::from(since.subsec_nanos()) ^ since.as_secs();
        let mut options = Self { n, engines: Engine::ALL.to_vec(), seed, minutes: MINUTES };
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().with_context(|| format!("{argument} takes a value"));
            match argument.as_str() {
                "--n" => options.n = value()?.parse().context("--n takes a number")?,
                "--minutes" => options.minutes = minutes(&value()?)?,
                "--seed" => options.seed = value()?.parse().context("--seed takes a number")?,
                "--engine" => match value()?.as_str() {
                    "both" => options.engines = Engine::ALL.to_vec(),
                    one => options.engines = vec![one.parse()?],
                },
                other => {
                    bail!("unknown argument {other}; there are --n, --minutes, --engine, --seed")
                }
            }
        }
        anyhow::ensure!(options.n >= options.engines.len(), "--n is at least one of each engine");
        Ok(options)
    }

    /// Returns how often each engine is broken; together they make [`Options::n`].
    pub fn shares(&self) -> Vec<(Engine, usize)> {
        let (each, rest) = (self.n / self.engines.len(), self.n % self.engines.len());
        let share = |(at, engine): (usize, &Engine)| (*engine, each + usize::from(at < rest));
        self.engines.iter().enumerate().map(share).collect()
    }
}

/// How a torture ended: a line for people, a value for programs, and whether it held.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// One line per engine.
    pub lines: Vec<String>,
    /// One row per engine.
    pub rows: Vec<Value>,
    /// The whole as JSON.
    pub json: Value,
    /// Nothing was lost, nothing happened twice, and what had to be caught was.
    pub holds: bool,
}

impl Default for Verdict {
    fn default() -> Self {
        Self { lines: Vec::new(), rows: Vec::new(), json: Value::Null, holds: true }
    }
}

impl Verdict {
    /// Adds what one engine went through, or what it did wrong.
    fn add(&mut self, engine: Engine, outcome: Result<(String, Value)>) {
        let (line, mut row) = outcome.unwrap_or_else(|error| {
            self.holds = false;
            let failure = format!("{error:#}");
            (format!("FAILED: {failure}"), json!({ "failure": failure }))
        });
        row["engine"] = json!(engine.as_str());
        self.lines.push(format!("{engine}: {line}"));
        self.rows.push(row);
    }
}

/// A small generator of moments: splitmix64. The same seed gives the same ones.
#[derive(Debug, Clone)]
pub struct Moments(u64);

impl Moments {
    /// Begins a sequence; each engine has one of its own.
    pub fn new(seed: u64, engine: Engine) -> Self {
        Self(seed ^ u64::from(engine.as_str().as_bytes()[0]) << 56)
    }

    /// Returns a number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        // the remainder is below the bound, which is a usize
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a moment within `from..to` milliseconds.
    pub fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.next() % ((to - from).max(1) * 1000))
    }

    /// Returns true once in `of` times.
    pub fn once_in(&mut self, of: u64) -> bool {
        self.next().is_multiple_of(of)
    }
}
