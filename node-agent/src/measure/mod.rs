//! What a node agent counts: the table of its metrics, the engine that counts calls, and what is
//! read only when somebody scrapes.
//!
//! No label names a workspace or a client: `workspace show` has what is asked of one of them.

mod engine;
mod table;

use std::{collections::BTreeMap, sync::Arc};

use metrics::gauge;
use warren_common::{Limits, status::RunState};

use crate::{board::Board, inside::Doors, tunnel::Tunnels, uplink::UplinkView};

pub use engine::Counted;
pub use table::METRICS;

/// A lease that was confirmed longer ago than this many seconds makes the node not ready: three
/// renewals were missed.
const STALE: f64 = 15.0;

/// What a node agent is asked for at each scrape.
pub struct Probe {
    /// What is seen of workspaces.
    pub board: Arc<Board>,
    /// Sockets of workspaces.
    pub doors: Arc<Doors>,
    /// Streams of viewers.
    pub tunnels: Tunnels,
    /// How it stands with the coordinators.
    pub uplink: UplinkView,
}

impl Probe {
    /// Sets every gauge that is read rather than counted.
    pub fn sample(&self) {
        let states = ["absent", "preparing", "prepared", "starting", "running", "stopping"];
        let mut counts: BTreeMap<&'static str, u32> =
            states.into_iter().chain(["stopped", "failed"]).map(|state| (state, 0)).collect();
        let mut full = 0;
        for seen in self.board.since(0).workspaces {
            let state: &RunState = &seen.state;
            *counts.entry(state.as_str()).or_default() += 1;
            full += usize::from(seen.volume.is_some_and(|volume| volume.is_full()));
        }
        gauge!("warren_node_homes_full").set(number(full));
        for (state, count) in counts {
            gauge!("warren_node_workspaces", "state" => state).set(f64::from(count));
        }
        gauge!("warren_node_doors_open").set(number(self.doors.count()));
        gauge!("warren_node_streams_open").set(number(self.tunnels.count()));
        gauge!("warren_node_streams_limit").set(number(Limits::STREAMS_PER_NODE));
        gauge!("warren_node_lease_age_seconds").set(self.lease_age().unwrap_or(-1.0));
        let epoch = self.uplink.epoch().map_or(0, |epoch| epoch.0);
        gauge!("warren_node_registration").set(number(usize::try_from(epoch).unwrap_or(0)));
    }

    /// Says why this node takes nothing new; nothing where it does.
    ///
    /// # Errors
    /// In words for people.
    pub fn ready(&self) -> Result<(), String> {
        match self.lease_age() {
            None => Err("no coordinator that leads was reached yet".to_owned()),
            Some(age) if age > STALE => {
                Err(format!("the leader last confirmed this node {age:.0} s ago"))
            }
            Some(_) => Ok(()),
        }
    }

    fn lease_age(&self) -> Option<f64> {
        self.uplink.lease_age().map(|age| age.as_secs_f64())
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats, and nothing here reaches 2^53")]
fn number(count: usize) -> f64 {
    count as f64
}
