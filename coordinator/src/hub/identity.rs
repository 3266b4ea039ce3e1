//! Which agent registers: of several with one identity, one acts.
//!
//! What the log knows (the claim of the last registration, the machine) is the model's to judge
//! (`warren_model::state::seat`). What only the present knows is looked at here: an agent in another
//! boot while the one before is being heard is another machine, however alike it looks. Either is
//! noted, so that every coordinator shows it.

use tracing::warn;
use warren_common::{BootId, NodeId};
use warren_model::{
    Command, RefusalCode,
    command::{
        NodeCommand,
        node::{Claim, Claims, EnterNode, NoteRival},
    },
    liveness::SUSPECT_AFTER,
    state::seat,
};
use warren_proto::{error::ApiError, pb::node::v1 as pb};

use super::Uplink;
use crate::api::errors;

/// Reads which agent registers; none where it knows no claims.
///
/// # Errors
/// A claim has not 16 bytes.
pub(super) fn claims(register: &pb::Register) -> Result<Option<Claims>, ApiError> {
    if register.asked_claim.is_empty() {
        return Ok(None);
    }
    let read = |field: &str, bytes: &[u8]| {
        Claim::try_from(bytes).map_err(|_| errors::invalid(field, "has not 16 bytes"))
    };
    let held = match register.held_claim.is_empty() {
        true => None,
        false => Some(read("register.held_claim", &register.held_claim)?),
    };
    let asked = read("register.asked_claim", &register.asked_claim)?;
    Ok(Some(Claims { machine: register.machine.clone(), held, asked }))
}

impl Uplink {
    /// Refuses an agent that shows an older claim or is on another machine; and one in another boot
    /// while the one before is heard: a machine that reboots falls silent first.
    pub(super) async fn alone(
        &self,
        node: NodeId,
        register: &pb::Register,
    ) -> Result<(), ApiError> {
        let facts = register.facts.as_ref();
        let claims = claims(register)?;
        let boot = facts.and_then(|facts| facts.boot_id.parse::<BootId>().ok());
        let state = self.consensus.local();
        // before it takes the stream of the one that is here; `apply` checks it again
        if let Err(refusal) = seat::check(&state, node, claims.as_ref()) {
            self.note(node, facts, &refusal.message).await;
            return Err(errors::refusal(refusal));
        }
        let Some(known) = state.nodes.get(&node).filter(|one| Some(one.facts.boot) != boot) else {
            return Ok(());
        };
        let (live, now) = self.live.snapshot();
        let heard = live.nodes.get(&node).filter(|one| one.epoch == known.epoch);
        let silent = heard.map(|heard| now.since(heard.last_seen));
        let heard = silent.is_some_and(|silent| silent < SUSPECT_AFTER);
        if !(heard && self.hub.is_connected(node)) {
            return Ok(());
        }
        let refusal = seat::conflict(
            known.name.as_str(),
            "an agent that runs in another boot is heard at this moment",
        );
        self.note(node, facts, &refusal.message).await;
        Err(errors::refusal(refusal))
    }

    /// Proposes a registration; who is refused as another agent is noted.
    pub(super) async fn enter(&self, enter: EnterNode) -> Result<(), ApiError> {
        let (node, facts) = (enter.node, pb::NodeFacts::from(enter.facts.clone()));
        let command = Command::Node(Box::new(NodeCommand::Enter(Box::new(enter))));
        let entered = self.propose(node, command).await;
        if let Err(error) = &entered
            && error.reason == RefusalCode::IdentityConflict.as_str()
        {
            self.note(node, Some(&facts), &error.message).await;
        }
        entered
    }

    async fn note(&self, node: NodeId, facts: Option<&pb::NodeFacts>, why: &str) {
        let on = facts.map(|facts| format!("host {}, boot {}", facts.hostname, facts.boot_id));
        let reason = format!("{}: {why}", on.unwrap_or_default());
        let reason = warren_common::status::reason(&reason);
        warn!(%node, reason, "another agent shows the identity of a node");
        let note = NoteRival { node, reason };
        let noted = self.decide(Command::Node(Box::new(NodeCommand::NoteRival(note)))).await;
        if let Err(error) = noted {
            warn!(%node, %error, "another agent was not noted");
        }
    }
}
