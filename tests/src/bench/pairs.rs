//! Rows of load beside the peer's: pairs of spells in turn, and what is printed of them.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Row, is_noisy_within,
    load::{Call, Figures, Work, connect, connections, fill, spell},
    median,
    options::Options,
    round,
    system::System,
};

/// How long a row may wait for a quiet machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// One row: what is measured, and the figures of each pair.
pub struct Pairs {
    ours: Vec<Figures>,
    peer: Vec<Figures>,
    noisy: bool,
    callers: usize,
}

impl Pairs {
    /// Lets ours and the peer, if there is one, work in turn.
    ///
    /// # Errors
    /// Fails as a call does.
    pub async fn measure(
        ours: &impl System,
        peer: Option<&impl System>,
        options: &Options,
        (call, callers): (Call, usize),
    ) -> Result<Self> {
        let (pairs, length) = match options.quick {
            true => (1, Duration::from_millis(700)),
            false => (5, Duration::from_secs(2)),
        };
        let work = Work { call, callers, length };
        let our_apis = connect(ours, callers).await?;
        fill(&mut our_apis[0].clone()).await?;
        let peer_apis = match peer {
            Some(peer) => connect(peer, callers).await?,
            None => Vec::new(),
        };
        if let Some(api) = peer_apis.first() {
            fill(&mut api.clone()).await?;
        }
        let mut row = Self { ours: Vec::new(), peer: Vec::new(), noisy: false, callers };
        let mut patience = if options.quick { Duration::from_secs(1) } else { PATIENCE };
        for _ in 0..pairs {
            row.noisy |= is_noisy_within(&mut patience)?;
            row.ours.push(spell(ours, &our_apis, work).await?);
            if let Some(peer) = peer {
                row.peer.push(spell(peer, &peer_apis, work).await?);
            }
        }
        Ok(row)
    }

    fn ratio(&self, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
        let pairs = self.ours.iter().zip(&self.peer);
        let ratios: Vec<f64> =
            pairs.map(|(ours, peer)| figure(ours) / figure(peer).max(1e-9)).collect();
        if ratios.is_empty() { None } else { Some(median(ratios)) }
    }

    /// Returns the median of the pairs' ratios of calls per second.
    pub fn rate_ratio(&self) -> Option<f64> {
        self.ratio(|figures| figures.rate)
    }

    /// Returns the median of the pairs' ratios of the 99th per cent's latency.
    pub fn p99_ratio(&self) -> Option<f64> {
        self.ratio(|figures| figures.p99)
    }

    /// Returns the row for print, and says it aloud.
    pub fn row(&self, name: String, peer: &str, more: Value) -> Row {
        let middle =
            |of: &[Figures], figure: fn(&Figures) -> f64| median(of.iter().map(figure).collect());
        let side = |of: &[Figures]| match of {
            [] => Value::Null,
            of => json!({
                "p50_ms": round(middle(of, |one| one.p50)),
                "p99_ms": round(middle(of, |one| one.p99)),
                "cpu_us": round(middle(of, |one| one.cpu)),
            }),
        };
        let told = |of: &[Figures]| {
            format!(
                "{:.0}/s p50 {:.2} p99 {:.2} ms, {:.0} us CPU",
                middle(of, |one| one.rate),
                middle(of, |one| one.p50),
                middle(of, |one| one.p99),
                middle(of, |one| one.cpu)
            )
        };
        let beside = match (self.rate_ratio(), self.p99_ratio()) {
            (Some(rate), Some(p99)) => {
                format!("{peer} {}: {rate:.2}x, p99 {p99:.2}x", told(&self.peer))
            }
            (None, _) | (_, None) => format!("no {peer}"),
        };
        let noisy = if self.noisy { " (noisy)" } else { "" };
        eprintln!("{name}: {}; {beside}{noisy}", told(&self.ours));
        Row {
            name,
            ours: self.ours.iter().map(|figures| figures.rate).collect(),
            peer: self.peer.iter().map(|figures| figures.rate).collect(),
            noisy: self.noisy,
            more: json!({
                "ours": side(&self.ours),
                "peer": side(&self.peer),
                "p99_ratio": self.p99_ratio().map(round),
                "cpu_ratio": self.ratio(|figures| figures.cpu).map(round),
                "connections": connections(self.callers),
                "measured": more,
            }),
        }
    }
}
