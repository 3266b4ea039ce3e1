//! The choice of a node: every node is filtered and scored, and every answer is kept for the report.

use std::collections::BTreeMap;

use warren_common::{
    Bytes, ClientId, NodeId, NodeName,
    spec::{PlacementRules, Resources},
};

use crate::{
    command::Availability,
    liveness::Liveness,
    plan::{
        Round,
        fit::{Capacity, Cause, Filter, Load, Misfit, Need, fit},
        score::{self, ScorePart},
        text,
    },
    state::Node,
};

/// A decision and its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// One sentence: "placed on n2 (11.2 GiB free, 0 workspaces of acme)", or why nothing fits.
    pub summary: String,
    /// The node it is on or goes to; none where it goes nowhere.
    pub node: Option<NodeId>,
    /// Its place in the queue from 1; none where it is not queued.
    pub position: Option<u32>,
    /// The filters in their order.
    pub filters: Vec<FilterCount>,
    /// Candidates, best first, then refused nodes by name.
    pub candidates: Vec<Candidate>,
}

/// How many nodes came to a filter, and how many it refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterCount {
    /// The filter.
    pub filter: Filter,
    /// Nodes that came to it.
    pub considered: u32,
    /// Nodes it refused.
    pub refused: u32,
}

/// One node in a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Why it is out; none where it fits.
    pub misfit: Option<Misfit>,
    /// The largest memory cap that would still fit, in the proportions asked for.
    pub free: Bytes,
    /// Workspaces on it.
    pub workspaces: usize,
    /// Those of the same client.
    pub of_client: usize,
    /// Per-mille; 0 where it is out.
    pub score: u32,
    /// What the score is made of; empty where it is out.
    pub parts: Vec<ScorePart>,
}

/// What fits nowhere, by what it asks for: what asks for the same is judged once, as long as no
/// load changes.
#[derive(Default)]
pub(crate) struct Nowhere<'a>(BTreeMap<(ClientId, &'a Resources, &'a PlacementRules), Explanation>);

impl<'a> Nowhere<'a> {
    /// Returns what is known of `need`, or what `judge` says.
    pub(crate) fn or_judge(
        &mut self,
        need: &Need<'a>,
        judge: impl FnOnce() -> Explanation,
    ) -> Explanation {
        let asked = (need.client, need.resources, need.placement);
        if let Some(known) = self.0.get(&asked) {
            return known.clone();
        }
        let judged = judge();
        match judged.node {
            // the load of its node changes
            Some(_) => self.0.clear(),
            None => drop(self.0.insert(asked, judged.clone())),
        }
        judged
    }
}

/// Whether a node counts at all: a retired one is history.
pub(crate) fn counts(node: &Node) -> bool {
    match node.availability {
        Availability::Active | Availability::Cordoned | Availability::Draining => true,
        Availability::Retired => false,
    }
}

/// Chooses a node for `need`, or none, and says why.
pub(crate) fn choose(round: &Round<'_>, need: &Need<'_>) -> Explanation {
    let empty = Load::default();
    let nodes = || round.state.nodes.values().filter(|node| counts(node));
    let total = nodes().count();
    let mut candidates: Vec<Candidate> = nodes()
        .map(|node| {
            let load = round.loads.get(&node.id).unwrap_or(&empty);
            judge(round, (node, load), need, total)
        })
        .collect();
    candidates.sort_by(|a, b| {
        let rank = |one: &Candidate| (one.misfit.is_some(), u32::MAX - one.score);
        let fits = |a: &Candidate, b: &Candidate| {
            a.workspaces.cmp(&b.workspaces).then(a.node.cmp(&b.node))
        };
        rank(a).cmp(&rank(b)).then_with(|| match a.misfit {
            Some(_) => a.name.cmp(&b.name),
            None => fits(a, b),
        })
    });
    let best = candidates.first().filter(|one| one.misfit.is_none());
    let (node, summary) = match best {
        Some(best) => (Some(best.node), text::placed(best, need)),
        None => (None, text::nowhere(&candidates, need)),
    };
    Explanation { summary, node, position: None, filters: count(&candidates), candidates }
}

fn judge(
    round: &Round<'_>,
    (node, load): (&Node, &Load),
    need: &Need<'_>,
    nodes: usize,
) -> Candidate {
    let misfit = refuse(round, (node, load), need);
    let parts = match misfit {
        Some(_) => Vec::new(),
        None => score::parts(node, load, need, nodes),
    };
    Candidate {
        node: node.id,
        name: node.name.clone(),
        misfit,
        free: Capacity::of(&node.facts).free_memory(load, need.resources),
        workspaces: load.count,
        of_client: load.of(need.client),
        score: score::total(&parts),
        parts,
    }
}

/// The fit that `apply` checks, and what only the live view knows, at its place in the order.
fn refuse(round: &Round<'_>, (node, load): (&Node, &Load), need: &Need<'_>) -> Option<Misfit> {
    let fitting = fit(node, load, need).err();
    if let Some(misfit) = &fitting
        && misfit.cause.filter() == Filter::Schedulable
    {
        return fitting;
    }
    let standing = round.standings.get(&node.id);
    match standing.map(|standing| (standing.liveness, &standing.reason)) {
        Some((Liveness::Ready, _)) => strained(round, node, fitting),
        Some((_, reason)) => Some(Misfit::new(Cause::NotReady, reason.clone())),
        None => Some(Misfit::new(Cause::NotReady, "not known")),
    }
}

/// Puts rule C at its place: after what stands before memory and before what stands behind it.
fn strained(round: &Round<'_>, node: &Node, fitting: Option<Misfit>) -> Option<Misfit> {
    if fitting.as_ref().is_some_and(|misfit| misfit.cause.filter() <= Filter::Memory) {
        return fitting;
    }
    let live = round.live.nodes.get(&node.id).filter(|live| live.epoch == node.epoch);
    match live.and_then(|live| live.pressed) {
        Some(waited) => {
            let (whole, tenth) = (waited / 10, waited % 10);
            let detail =
                format!("all of it waited for memory {whole}.{tenth} % of the last minute");
            Some(Misfit::new(Cause::Pressure, detail))
        }
        None => fitting,
    }
}

fn count(candidates: &[Candidate]) -> Vec<FilterCount> {
    let mut considered = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
    let refused_by = |filter: Filter| {
        let out = candidates.iter().filter_map(|one| one.misfit.as_ref());
        u32::try_from(out.filter(|misfit| misfit.cause.filter() == filter).count())
            .unwrap_or(u32::MAX)
    };
    let counted = Filter::ALL.iter().map(|&filter| {
        let refused = refused_by(filter);
        let count = FilterCount { filter, considered, refused };
        considered = considered.saturating_sub(refused);
        count
    });
    counted.collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use warren_common::ClientName;

    use super::*;

    #[test]
    fn what_fits_nowhere_is_judged_once_until_something_is_placed() {
        let name: ClientName = "acme".parse().expect("a name");
        let gib = |count| Resources::with_memory(Bytes::gib(count));
        let (large, alike, small) = (gib(64), gib(64), gib(1));
        let placement = PlacementRules::default();
        let need = |client, resources| Need {
            client: ClientId::new(Uuid::from_u128(client)),
            client_name: &name,
            resources,
            placement: &placement,
        };
        let mut nowhere = Nowhere::default();
        let mut judged = |client, resources, node: Option<u128>| {
            let mut judged = false;
            let explanation = nowhere.or_judge(&need(client, resources), || {
                judged = true;
                Explanation {
                    summary: String::new(),
                    node: node.map(|id| NodeId::new(Uuid::from_u128(id))),
                    position: None,
                    filters: Vec::new(),
                    candidates: Vec::new(),
                }
            });
            assert_eq!(explanation.node.is_some(), judged && node.is_some());
            judged
        };
        assert!(judged(1, &large, None));
        assert!(!judged(1, &alike, None), "it asks for the same");
        assert!(judged(2, &large, None), "another client's");
        assert!(judged(1, &small, Some(1)));
        assert!(judged(1, &small, Some(1)), "what fits is judged each time");
        assert!(judged(1, &large, None), "a load has changed");
    }
}
