//! Other caps for a workspace: from the request into Raft, and what a person should know of it.
//!
//! Whether the node has room is the model's to check, where the command is applied. What the
//! workspace uses is known to the live view alone, so it is asked here; the node asks again before
//! it acts.

use tonic::Code;
use warren_common::{Bytes, MilliCpus, WorkspaceId, spec::Resources};
use warren_model::{
    ClusterState, Command, Outcome, command::ResizeWorkspace, plan::resize, state::Workspace,
};
use warren_proto::{
    error::{ApiError, reason},
    pb::admin::v1 as pb,
};

use super::{Api, Moment, Who, errors, mutation::Asked, resolve};

impl Api {
    /// Gives a workspace other caps, or answers what an earlier request of this id did.
    pub(super) async fn resize(
        &self,
        who: Who,
        request: pb::ResizeWorkspaceRequest,
    ) -> Result<pb::ResizeWorkspaceResponse, ApiError> {
        let asked = Asked::read(who, request.mutation.clone())?;
        let pb::ResizeWorkspaceRequest { memory_bytes, swap_bytes, reserve_bytes, .. } = request;
        let amounts = [memory_bytes, swap_bytes, reserve_bytes, request.disk_bytes];
        if amounts.iter().all(Option::is_none) && request.milli_cpus.is_none() {
            return Err(errors::invalid("resize", "names no cap")
                .next("name one of --memory, --swap, --reserve, --cpus and --disk"));
        }
        let command = |state: &ClusterState| {
            let id = resolve::workspace(state, &request.workspace)?.id;
            Ok(wanted(id, &request))
        };
        if !self.took_effect(&asked) {
            let moment = self.read().await?;
            let command = command(&moment.state)?;
            if let Some(workspace) = moment.state.workspaces.get(&command.workspace) {
                may(&moment, workspace, &command.applied_to(&workspace.spec.resources))?;
            }
        }
        let named = |state: &ClusterState| command(state).map(Command::ResizeWorkspace);
        let applied = self.mutate_named(&asked, named).await.map_err(no_room)?;
        let Outcome::Workspace(id) = applied.outcome else {
            return Err(errors::internal("resizing a workspace", "another outcome"));
        };
        let moment = self.local();
        let workspace = moment.state.workspaces.get(&id);
        let notice = workspace.and_then(|one| resize::home_over(&moment.live, one));
        Ok(pb::ResizeWorkspaceResponse {
            workspace: workspace.map(|one| moment.view().workspace(one)),
            revision: applied.revision.0,
            notice: notice.unwrap_or_default(),
        })
    }
}

fn wanted(workspace: WorkspaceId, request: &pb::ResizeWorkspaceRequest) -> ResizeWorkspace {
    ResizeWorkspace {
        workspace,
        memory: request.memory_bytes.map(Bytes),
        swap: request.swap_bytes.map(Bytes),
        reserve: request.reserve_bytes.map(Bytes),
        cpus: request.milli_cpus.map(MilliCpus),
        disk: request.disk_bytes.map(Bytes),
    }
}

/// Says what helps where its node has no room for a workspace that grows.
pub(super) fn no_room(error: ApiError) -> ApiError {
    match &*error.reason {
        reason::NO_NODE_FITS => error.next("ask for less, or make room on its node"),
        _ => error,
    }
}

/// Refuses where the kernel would have to kill in the workspace.
pub(super) fn may(
    moment: &Moment,
    workspace: &Workspace,
    after: &Resources,
) -> Result<(), ApiError> {
    let why = resize::in_use((&moment.state, &moment.live), workspace, after, moment.now);
    let Some(why) = why else { return Ok(()) };
    let label = moment.state.workspace_label(workspace.id);
    let message = format!("workspace {label} cannot be held to that: the kernel would kill in it");
    Err(ApiError::new(Code::FailedPrecondition, reason::CAP_BELOW_USE, message)
        .why(why)
        .next("end what uses it, or ask for more"))
}
