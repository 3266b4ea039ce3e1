//! What a workspace is made of, changed: from the request into Raft.
//!
//! Whether its agents are at rest is known to the live view alone, so it is asked here, a moment
//! before the command: one that begins in between is ended with the rest, and resumes.

use tonic::Code;
use warren_common::agent::{AgentState, AgentStatus, Confidence};
use warren_model::{
    ClusterState, Command, Outcome,
    command::{Update, UpdateWorkspace},
    state::{Desired, PhaseKind, Workspace},
};
use warren_proto::{
    error::{ApiError, reason},
    pb::{
        admin::v1::{self as pb, update_workspace_request as request},
        node::v1::SessionObserved,
    },
};

use super::{Api, Moment, Who, errors, mutation::Asked, resolve, update_template::Ask};

impl Api {
    /// Changes what a workspace is made of, or answers what an earlier request of this id did.
    pub(super) async fn update(
        &self,
        who: Who,
        request: pb::UpdateWorkspaceRequest,
    ) -> Result<pb::UpdateWorkspaceResponse, ApiError> {
        let asked = Asked::read(who, request.mutation)?;
        let update = match request.update {
            Some(request::Update::Image(image)) => Update::Image(image),
            Some(request::Update::ImageBefore(_)) => Update::ImageBefore,
            Some(request::Update::Template(template)) => {
                let (workspace, plan, when_idle) =
                    (request.workspace, request.plan, request.when_idle);
                let ask = Ask { workspace, template, plan, when_idle };
                return self.update_template(&asked, ask).await;
            }
            None => {
                return Err(errors::invalid("update", "names nothing to change")
                    .next("name an image, the one before, or a template"));
            }
        };
        if request.plan {
            let why = "only an update to a template is planned here";
            return Err(
                errors::invalid("plan", why).next("leave it out: an image changes nothing else")
            );
        }
        if request.when_idle && !self.took_effect(&asked) {
            let moment = self.read().await?;
            idle(&moment, resolve::workspace(&moment.state, &request.workspace)?)?;
        }
        let command = |state: &ClusterState| {
            let workspace = resolve::workspace(state, &request.workspace)?.id;
            let update = update.clone();
            Ok(Command::UpdateWorkspace(UpdateWorkspace { workspace, update }))
        };
        let applied = self.mutate_named(&asked, command).await?;
        let Outcome::Workspace(id) = applied.outcome else {
            return Err(errors::internal("updating a workspace", "another outcome"));
        };
        let moment = self.local();
        let workspace = moment.state.workspaces.get(&id);
        Ok(pb::UpdateWorkspaceResponse {
            workspace: workspace.map(|one| moment.view().workspace(one)),
            revision: applied.revision.0,
            plan: None,
        })
    }
}

/// Refuses where something that a new run would end is under way.
pub(super) fn idle(moment: &Moment, workspace: &Workspace) -> Result<(), ApiError> {
    if workspace.desired != Desired::Running || workspace.assignment.is_none() {
        return Ok(());
    }
    let view = moment.view();
    let seen = view.workspace(workspace);
    let heard = seen.observed.is_some_and(|seen| seen.run_serial == workspace.run_serial);
    // what it said before it registered anew decides nothing
    let ready = workspace.assignment.as_ref().is_some_and(|one| view.is_ready(one.node));
    // one that is on its way up has nobody in it yet
    let up = workspace.phase.kind == PhaseKind::Active;
    let sessions = view.sessions(workspace).into_iter();
    let busy: Vec<String> = match up && !(heard && ready) {
        true => vec!["its node was not heard of, and nobody knows what its agents do".to_owned()],
        false => sessions.filter_map(|one| busy(one.observed?)).collect(),
    };
    if busy.is_empty() {
        return Ok(());
    }
    let label = moment.state.workspace_label(workspace.id);
    let message = format!("workspace {label} is busy");
    Err(ApiError::new(Code::FailedPrecondition, reason::WORKSPACE_BUSY, message)
        .why(busy.join("; "))
        .next(format!("warren session wait {label}/SESSION --until idle, or update it at once")))
}

/// Says what an agent is at, where ending it would cost something. What is only seen from outside
/// does not count: a server that runs for ever never rests.
fn busy(session: SessionObserved) -> Option<String> {
    let agent = AgentStatus::try_from(session.agent?).ok()?;
    if !agent.kind.tells() && agent.confidence == Confidence::Derived {
        return None;
    }
    let at = match &agent.state {
        AgentState::Unknown { .. } => "was not heard of",
        AgentState::Idle | AgentState::Error(_) | AgentState::Exited(_) => return None,
        AgentState::Starting => "starts",
        AgentState::Working { .. } => "works",
        AgentState::Waiting(_) => "waits for a person",
        AgentState::Background { .. } => "waits for what it began",
    };
    Some(format!("{} in session {} {at}", agent.kind.as_str(), session.name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use warren_common::{NodeEpoch, ReplicaId, status::WorkspaceObserved};
    use warren_model::{LiveView, Report};

    use super::*;
    use crate::{api::Basis, watch::tests as cluster};

    /// A cluster whose first workspace runs, on a node that has said nothing yet.
    fn running() -> Moment {
        let world = cluster::World::with_placed();
        let (mut state, now) = (world.state, world.now);
        let id = cluster::workspace(1);
        let mut workspace = (*state.workspaces[&id]).clone();
        workspace.phase.kind = PhaseKind::Active;
        state.workspaces.insert(id, Arc::new(workspace));
        let live = LiveView::new(now);
        Moment { state, live, now, replica: ReplicaId(1), basis: Basis::Own }
    }

    /// Its node tells all it has, in this registration.
    fn tell(moment: &mut Moment, epoch: NodeEpoch) {
        let workspace = &moment.state.workspaces[&cluster::workspace(1)];
        let seen = WorkspaceObserved {
            generation: workspace.generation,
            run_serial: workspace.run_serial,
            ..cluster::observed(1)
        };
        let (received, workspaces) = (moment.now, vec![seen]);
        let report = Report { epoch, sequence: 1, received, full: true, workspaces };
        assert!(moment.live.report(cluster::node(1), report));
    }

    fn asked(moment: &Moment) -> Result<(), ApiError> {
        idle(moment, &moment.state.workspaces[&cluster::workspace(1)])
    }

    #[test]
    fn what_a_node_said_before_it_registered_anew_decides_nothing() {
        let mut moment = running();
        let silent = asked(&moment).expect_err("nobody said anything yet");
        assert_eq!(silent.reason, reason::WORKSPACE_BUSY);
        let id = cluster::node(1);
        let first = moment.state.nodes[&id].epoch;
        tell(&mut moment, first);
        asked(&moment).expect("no agent is in it");
        let second = NodeEpoch(first.0 + 1);
        let mut node = (*moment.state.nodes[&id]).clone();
        node.epoch = second;
        moment.state.nodes.insert(id, Arc::new(node));
        assert!(moment.live.seen(id, second, moment.now));
        assert!(moment.view().is_heard(id), "people are still told what it said");
        let anew = asked(&moment).expect_err("it has not told what its agents do");
        assert!(anew.why.is_some_and(|why| why.contains("nobody knows")));
        tell(&mut moment, second);
        asked(&moment).expect("it has told");
    }
}
