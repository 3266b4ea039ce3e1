//! The score of a node that fits: integers only, so that every coordinator computes the same.
//!
//! Weights are DESIGN §7's. A part for which there is no data yet gives its full value to every node
//! and says so, so that weights need not change when the data comes.

use warren_common::Bytes;

use crate::{
    plan::fit::{Capacity, Load, Need},
    state::Node,
};

/// Up to this many nodes workspaces are spread; with more, the fullest node that fits is taken.
pub const SPREAD_UP_TO: usize = 5;

/// One part of a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScorePart {
    /// What is valued: `spread`, `pack`, `locality`, `affinity`, `apart`, `stability`.
    pub name: &'static str,
    /// 0 to 1000, higher is better.
    pub value: u32,
    /// Per-mille of the whole.
    pub weight: u32,
    /// Why that value, for people.
    pub detail: String,
}

/// Returns the parts of a fitting node's score; their weights add up to 1000. `nodes` is how many
/// there are in all.
pub fn parts(node: &Node, load: &Load, need: &Need<'_>, nodes: usize) -> Vec<ScorePart> {
    let fill = fill(node, load, need);
    let detail = format!("{}.{} % of its memory set aside with it", fill / 10, fill % 10);
    let base = match nodes <= SPREAD_UP_TO {
        true => ScorePart { name: "spread", value: 1000 - fill, weight: 350, detail },
        false => ScorePart { name: "pack", value: fill, weight: 350, detail },
    };
    let theirs = load.of(need.client);
    let apart = 1000 / u32::try_from(theirs + 1).unwrap_or(u32::MAX);
    let detail = format!("{theirs} workspaces of {}", need.client_name);
    vec![
        base,
        full("locality", 250, "no home has data anywhere yet"),
        full("affinity", 150, "no preference can be asked for yet"),
        ScorePart { name: "apart", value: apart, weight: 150, detail },
        full("stability", 100, "no node's losses are counted yet"),
    ]
}

/// Returns the whole score of these parts, per-mille; 0 without parts.
pub fn total(parts: &[ScorePart]) -> u32 {
    parts.iter().map(|part| part.value * part.weight).sum::<u32>() / 1000
}

fn full(name: &'static str, weight: u32, detail: &str) -> ScorePart {
    ScorePart { name, value: 1000, weight, detail: detail.to_owned() }
}

/// How full the node is with the workspace on it, per-mille: the fuller of the two memory rules.
fn fill(node: &Node, load: &Load, need: &Need<'_>) -> u32 {
    let capacity = Capacity::of(&node.facts);
    let asked = need.resources;
    let reserved = load.reserved.plus(asked.reserve);
    let caps = load.caps.plus(load.swap).plus(asked.memory).plus(asked.swap);
    per_mille(reserved, capacity.reserve).max(per_mille(caps, capacity.caps))
}

fn per_mille(part: Bytes, whole: Bytes) -> u32 {
    let whole = u128::from(whole.0.max(1));
    u32::try_from(u128::from(part.0) * 1000 / whole).unwrap_or(1000).min(1000)
}
