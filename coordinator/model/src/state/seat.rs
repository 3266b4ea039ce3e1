//! Who may act as a node: one agent at a time.
//!
//! A state folder can be copied, and so can a whole machine. Each registration leaves a claim here
//! and on the agent's own disk; whoever comes next must show the claim that is here, or one it asked
//! for and never saw answered. Of two agents with one identity the one that registered last has the
//! seat, and the other one is told so until somebody decides (`rejoin`). Another machine, as its
//! id tells, is not let in at all: it has none of the homes.

use serde::{Deserialize, Serialize};
use warren_common::{Limits, NodeId, Timestamp, status::reason_applied as one_line};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::node::{Claim, Claims, NoteRival, RejoinNode},
    event::EventKind,
    state::{ClusterState, cluster::line, node::missing},
};

/// How long after its last attempt another agent is told of.
pub const RIVAL_SHOWN: std::time::Duration = std::time::Duration::from_secs(15 * 60);
/// A rival that keeps coming is noted again after this time, not before.
const RIVAL_AGAIN: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// Which agent acts as a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The machine it registered from, hashed; empty while none is known.
    pub machine: String,
    /// The claim of its last registration; none while any agent may take the seat.
    pub claim: Option<Claim>,
    /// The last agent that was not let in.
    pub rival: Option<Rival>,
}

/// Another agent with the node's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rival {
    /// When it was noted last.
    pub at: Timestamp,
    /// Where it is and why it was not let in, for people.
    pub reason: String,
}

impl ClusterState {
    /// Returns the other agent that showed this node's identity lately, if one did.
    pub fn rival(&self, node: NodeId, now: Timestamp) -> Option<&Rival> {
        let rival = self.seats.get(&node)?.rival.as_ref()?;
        (now.since(rival.at) < RIVAL_SHOWN).then_some(rival)
    }
}

/// Whether whoever shows these claims may act as the node: the rule that `apply` checks too.
///
/// # Errors
/// Says why it may not.
pub fn check(state: &ClusterState, node: NodeId, claims: Option<&Claims>) -> Result<(), Refusal> {
    let (Some(claims), Some(seat)) = (claims, state.seats.get(&node)) else { return Ok(()) };
    let name = state.node_label(node);
    if !seat.machine.is_empty() && !claims.machine.is_empty() && seat.machine != claims.machine {
        return Err(conflict(&name, "it is on another machine than the one that joined"));
    }
    let known = |claim: &Claim| claims.held.as_ref() == Some(claim) || claims.asked == *claim;
    if seat.claim.as_ref().is_some_and(|claim| !known(claim)) {
        return Err(conflict(&name, "another agent has registered as this node since"));
    }
    Ok(())
}

/// Takes the seat for whoever shows these claims.
pub(super) fn take(
    state: &mut ClusterState,
    node: NodeId,
    claims: Option<&Claims>,
) -> Result<(), Refusal> {
    check(state, node, claims)?;
    let seat = state.seats.get(&node).cloned().unwrap_or_default();
    let Some(claims) = claims else {
        // an agent of before there were claims: whoever comes after it may have any
        if state.seats.contains_key(&node) {
            state.seats.insert(node, Seat { claim: None, ..seat });
        }
        return Ok(());
    };
    if claims.machine.len() > Limits::LABEL_BYTES {
        return Err(Refusal::new(RefusalCode::InvalidSpec, "the machine's id is too long"));
    }
    let machine = if claims.machine.is_empty() { seat.machine } else { claims.machine.clone() };
    let seat = Seat { machine, claim: Some(claims.asked), rival: seat.rival };
    state.seats.insert(node, seat);
    Ok(())
}

/// Returns the refusal of an agent that may not act as `name`.
pub fn conflict(name: &str, why: &str) -> Refusal {
    let message = format!("this agent may not act as node {name}: {why}");
    Refusal::new(RefusalCode::IdentityConflict, message)
}

pub(crate) fn note_rival(
    state: &mut ClusterState,
    context: &Context,
    command: &NoteRival,
) -> Result<Change, Refusal> {
    let NoteRival { node: id, reason } = command;
    line("the reason", reason, Limits::REASON_BYTES)?;
    let name = state.nodes.get(id).ok_or_else(|| missing(*id))?.name.clone();
    let seat = state.seats.get(id).cloned().unwrap_or_default();
    let known = seat
        .rival
        .as_ref()
        .is_some_and(|rival| rival.reason == *reason && context.at.since(rival.at) < RIVAL_AGAIN);
    if known {
        return Ok(Change::none(Outcome::Node(*id)));
    }
    let rival = Some(Rival { at: context.at, reason: one_line(reason) });
    state.seats.insert(*id, Seat { rival, ..seat });
    Ok(Change::new("node.rival", Outcome::Node(*id))
        .object(&name, id)
        .detail(reason.clone())
        .event(EventKind::NodeFactsChanged(*id)))
}

pub(crate) fn rejoin(
    state: &mut ClusterState,
    context: &Context,
    command: RejoinNode,
) -> Result<Change, Refusal> {
    let id = command.node;
    let node = state.nodes.get(&id).ok_or_else(|| missing(id))?;
    let name = node.name.clone();
    context.unchanged_since(node.revision, || format!("node {name}"))?;
    let open = |seat: &Seat| seat.claim.is_none() && seat.machine.is_empty();
    if state.seats.get(&id).is_none_or(|seat| open(seat) && seat.rival.is_none()) {
        return Ok(Change::none(Outcome::Node(id)));
    }
    state.seats.insert(id, Seat::default());
    Ok(Change::new("node.rejoin", Outcome::Node(id))
        .object(&name, &id)
        .detail("the next agent that shows its identity is let in")
        .event(EventKind::NodeFactsChanged(id)))
}
