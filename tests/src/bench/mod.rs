//! Figures beside a peer's, in the same run, as ratios.
//!
//! A benchmark ends with one JSON line on standard output; progress goes to standard error. Ours
//! and the peer's runs alternate, the background is looked at before each pair, and a ratio is
//! the median of the pairs' ratios, never of numbers from another day.

mod by_hand;
pub mod channel;
pub mod commit;
pub mod etcd;
pub mod etcd_api;
pub mod footprint;
pub mod handover;
pub mod home;
pub mod load;
pub mod neighbours;
pub mod options;
pub mod ours;
pub mod pairs;
pub mod start;
pub mod status;
pub mod syncs;
pub mod system;

pub use options::Options;

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// One row: the same work done by us and by a peer, in pairs.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured, such as `serial`.
    pub name: String,
    /// Our figure of each pair.
    pub ours: Vec<f64>,
    /// The peer's; empty where the peer is missing.
    pub peer: Vec<f64>,
    /// Whether the machine was busy with other things in any pair.
    pub noisy: bool,
    /// More to print with the row.
    pub more: Value,
}

impl Row {
    /// Returns the median of the pairs' ratios; none without a peer.
    pub fn ratio(&self) -> Option<f64> {
        if self.peer.len() != self.ours.len() || self.peer.is_empty() {
            return None;
        }
        Some(median(self.ratios()))
    }

    fn ratios(&self) -> Vec<f64> {
        self.ours.iter().zip(&self.peer).map(|(ours, peer)| ours / peer.max(1e-9)).collect()
    }

    /// Returns the row as JSON.
    pub fn json(&self) -> Value {
        let spread = |figures: &[f64]| {
            let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
            let most = figures.iter().copied().fold(0.0, f64::max);
            json!({"median": round(median(figures.to_vec())), "min": round(least), "max": round(most)})
        };
        json!({
            "row": self.name,
            "value": spread(&self.ours),
            "peer_value": if self.peer.is_empty() { Value::Null } else { spread(&self.peer) },
            "ratio": self.ratio().map(round),
            "ratios": self.ratios().into_iter().map(round).collect::<Vec<_>>(),
            "pairs": self.ours.len(),
            "noisy": self.noisy,
            "more": self.more,
        })
    }
}

/// What a bench of one row is about.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// The bench's name.
    pub bench: &'static str,
    /// What was measured, with its unit.
    pub figure: &'static str,
    /// What it is compared with.
    pub peer: &'static str,
    /// The most that the median of ratios may be.
    pub goal: f64,
}

impl About {
    /// Returns the line of a bench whose lower figures are the better ones.
    pub fn line(&self, row: &Row, quick: bool) -> Value {
        let (Self { bench, figure, peer, goal }, ratio) = (*self, row.ratio());
        json!({
            "bench": bench,
            "figure": figure,
            "value": round(median(row.ours.clone())),
            "peer": peer,
            "peer_value": round(median(row.peer.clone())),
            "ratio": ratio.map(round),
            "better": "lower",
            "goal": format!("<={goal}"),
            "holds": ratio.map(|ratio| ratio <= goal),
            "quick": quick,
            "rows": [row.json()],
        })
    }
}

/// Returns the middle of some figures; zero of none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        count if count % 2 == 1 => figures[count / 2],
        count => f64::midpoint(figures[count / 2 - 1], figures[count / 2]),
    }
}

/// Rounds to hundredths, for print.
pub fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

/// Waits up to 40 s for a quiet machine and returns whether it still is not (25 % of all cores).
///
/// # Errors
/// Fails where `/proc/stat` cannot be read.
pub fn is_noisy() -> Result<bool> {
    is_noisy_within(&mut Duration::from_secs(40))
}

/// The same within what is left of a row's patience, looking once where nothing is left.
///
/// # Errors
/// Fails where `/proc/stat` cannot be read.
pub fn is_noisy_within(patience: &mut Duration) -> Result<bool> {
    const LOOK: Duration = Duration::from_secs(1);
    loop {
        let (busy, all) = processor_time()?;
        thread::park_timeout(LOOK);
        let (busy_after, all_after) = processor_time()?;
        let share = (busy_after - busy) / (all_after - all).max(1.0);
        *patience = patience.saturating_sub(LOOK);
        if share < 0.25 {
            eprintln!("background {:.0} %", share * 100.0);
            return Ok(false);
        }
        if patience.is_zero() {
            eprintln!("background {:.0} %: noisy", share * 100.0);
            return Ok(true);
        }
    }
}

fn processor_time() -> Result<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("a first line")?;
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).filter_map(|tick| tick.parse().ok()).collect();
    let idle = ticks.get(3).unwrap_or(&0.0) + ticks.get(4).unwrap_or(&0.0);
    let all: f64 = ticks.iter().take(8).sum();
    Ok((all - idle, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_pairs() {
        let row = Row {
            name: "x".to_owned(),
            ours: vec![2.0, 30.0, 4.0],
            peer: vec![1.0, 10.0, 4.0],
            noisy: false,
            more: Value::Null,
        };
        assert_eq!(row.ratio(), Some(2.0));
        assert_eq!(Row { peer: Vec::new(), ..row }.ratio(), None);
        assert_eq!(median(vec![1.0, 2.0]), 1.5);
    }
}
