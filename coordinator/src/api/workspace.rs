//! `WorkspaceService`: everything but making ([`super::create`]) and following ([`super::follow`]).

use std::sync::Arc;

use tonic::{Request, Response, Status};
use warren_common::WorkspaceId;
use warren_model::{
    ClusterState, Command, Outcome,
    command::{RunRequest, SetRun},
    state::{PhaseKind, Workspace},
};
use warren_proto::{
    error::ApiError,
    pb::admin::v1::{self as pb, workspace_service_server::WorkspaceService},
};

use super::{
    Api, Moment, View, Who, caller, considered, errors, follow,
    mutation::Asked,
    page::{Page, key},
    resolve,
};

#[tonic::async_trait]
impl WorkspaceService for Api {
    type FollowWorkspaceStream = follow::Stream;

    async fn create_workspace(
        &self,
        request: Request<pb::CreateWorkspaceRequest>,
    ) -> Result<Response<pb::CreateWorkspaceResponse>, Status> {
        let who = caller(&request)?;
        Ok(Response::new(self.create(who, request.into_inner()).await?))
    }

    async fn list_workspaces(
        &self,
        request: Request<pb::ListWorkspacesRequest>,
    ) -> Result<Response<pb::ListWorkspacesResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(request.page_size, &request.page_token)?;
        let moment = self.read_for(request.read).await?;
        let view = moment.view();
        let paged = match request.client.as_str() {
            "" => page.cut(by_address(&moment), |one| view.workspace(one)),
            client => {
                let client = resolve::client(&moment.state, client)?.id;
                let of_client = by_address(&moment).filter(|(_, one)| one.client == client);
                page.cut(of_client, |one| view.workspace(one))
            }
        };
        Ok(Response::new(pb::ListWorkspacesResponse {
            freshness: Some(moment.freshness()),
            workspaces: paged.items,
            next_page_token: paged.next,
        }))
    }

    async fn get_workspace(
        &self,
        request: Request<pb::GetWorkspaceRequest>,
    ) -> Result<Response<pb::GetWorkspaceResponse>, Status> {
        let pb::GetWorkspaceRequest { workspace, read } = request.into_inner();
        let moment = self.read_for(read).await?;
        let view = moment.view();
        let workspace = resolve::workspace(&moment.state, &workspace)?;
        let mut shown = view.workspace(workspace);
        // that it waits is kept, what for changes from moment to moment
        if workspace.phase.kind == PhaseKind::Queued
            && let Some(explanation) = moment.explain(workspace.id).await?
        {
            shown.reason = explanation.summary;
        }
        Ok(Response::new(pb::GetWorkspaceResponse {
            freshness: Some(moment.freshness()),
            workspace: Some(shown),
        }))
    }

    async fn explain_workspace(
        &self,
        request: Request<pb::ExplainWorkspaceRequest>,
    ) -> Result<Response<pb::ExplainWorkspaceResponse>, Status> {
        let pb::ExplainWorkspaceRequest { workspace, read } = request.into_inner();
        let moment = self.read_for(read).await?;
        let workspace = resolve::workspace(&moment.state, &workspace)?;
        Ok(Response::new(pb::ExplainWorkspaceResponse {
            freshness: Some(moment.freshness()),
            explanation: moment.explain(workspace.id).await?,
        }))
    }

    async fn start_workspace(
        &self,
        request: Request<pb::StartWorkspaceRequest>,
    ) -> Result<Response<pb::StartWorkspaceResponse>, Status> {
        let who = caller(&request)?;
        let pb::StartWorkspaceRequest { mutation, workspace } = request.into_inner();
        let ask = Ask { who, mutation, workspace, run: RunRequest::Start };
        let (workspace, revision) = self.set_run(ask).await?;
        Ok(Response::new(pb::StartWorkspaceResponse { workspace, revision }))
    }

    async fn stop_workspace(
        &self,
        request: Request<pb::StopWorkspaceRequest>,
    ) -> Result<Response<pb::StopWorkspaceResponse>, Status> {
        let who = caller(&request)?;
        let pb::StopWorkspaceRequest { mutation, workspace } = request.into_inner();
        let ask = Ask { who, mutation, workspace, run: RunRequest::Stop };
        let (workspace, revision) = self.set_run(ask).await?;
        Ok(Response::new(pb::StopWorkspaceResponse { workspace, revision }))
    }

    async fn restart_workspace(
        &self,
        request: Request<pb::RestartWorkspaceRequest>,
    ) -> Result<Response<pb::RestartWorkspaceResponse>, Status> {
        let who = caller(&request)?;
        let pb::RestartWorkspaceRequest { mutation, workspace } = request.into_inner();
        let ask = Ask { who, mutation, workspace, run: RunRequest::Restart };
        let (workspace, revision) = self.set_run(ask).await?;
        Ok(Response::new(pb::RestartWorkspaceResponse { workspace, revision }))
    }

    async fn delete_workspace(
        &self,
        request: Request<pb::DeleteWorkspaceRequest>,
    ) -> Result<Response<pb::DeleteWorkspaceResponse>, Status> {
        let who = caller(&request)?;
        let pb::DeleteWorkspaceRequest { mutation, workspace } = request.into_inner();
        let ask = Ask { who, mutation, workspace, run: RunRequest::Delete };
        let (workspace, revision) = self.set_run(ask).await?;
        Ok(Response::new(pb::DeleteWorkspaceResponse { workspace, revision }))
    }

    async fn resize_workspace(
        &self,
        request: Request<pb::ResizeWorkspaceRequest>,
    ) -> Result<Response<pb::ResizeWorkspaceResponse>, Status> {
        let who = caller(&request)?;
        Ok(Response::new(self.resize(who, request.into_inner()).await?))
    }

    async fn update_workspace(
        &self,
        request: Request<pb::UpdateWorkspaceRequest>,
    ) -> Result<Response<pb::UpdateWorkspaceResponse>, Status> {
        let who = caller(&request)?;
        Ok(Response::new(self.update(who, request.into_inner()).await?))
    }

    async fn follow_workspace(
        &self,
        request: Request<pb::FollowWorkspaceRequest>,
    ) -> Result<Response<follow::Stream>, Status> {
        let moment = self.read().await?;
        let workspace = resolve::workspace(&moment.state, &request.into_inner().workspace)?;
        Ok(Response::new(self.follow(workspace.id)))
    }
}

/// A run state asked for.
struct Ask {
    who: Who,
    mutation: Option<pb::Mutation>,
    workspace: String,
    run: RunRequest,
}

impl Api {
    /// Asks for a run state; answers with the workspace as it is then, none where it is gone, and
    /// with the revision of the effect.
    async fn set_run(&self, ask: Ask) -> Result<(Option<pb::Workspace>, u64), ApiError> {
        let asked = Asked::read(ask.who, ask.mutation)?;
        let command = |state: &ClusterState| {
            let workspace = resolve::workspace(state, &ask.workspace)?.id;
            Ok(Command::SetRun(SetRun { workspace, run: ask.run }))
        };
        let applied = match self.mutate_named(&asked, command).await {
            Ok(applied) => applied,
            Err(error) if ask.run == RunRequest::Delete && self.is_done(&asked, &error) => {
                return Ok((None, self.local().state.revision.0));
            }
            Err(error) => return Err(error),
        };
        let Outcome::Workspace(id) = applied.outcome else {
            return Err(errors::internal("asking for a run state", "another outcome"));
        };
        let moment = self.local();
        let workspace = moment.state.workspaces.get(&id);
        Ok((workspace.map(|one| moment.view().workspace(one)), applied.revision.0))
    }
}

impl Moment {
    /// Explains where a workspace is, or why it is nowhere; none where there is no such workspace.
    ///
    /// # Errors
    /// The coordinator is stopping.
    pub(super) async fn explain(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Option<pb::Explanation>, ApiError> {
        let (state, live, now) = (self.state.clone(), self.live.clone(), self.now);
        considered(move || {
            let explained = warren_model::explain(&state, &live, workspace, now)?;
            Some(View { state: &state, live: &live, now }.explanation(explained))
        })
        .await
    }

    /// Says where a workspace is, or that it waits, and why, without what else was considered; none
    /// where there is no such workspace.
    pub(super) fn standing(&self, workspace: WorkspaceId) -> Option<pb::Explanation> {
        let workspace = self.state.workspaces.get(&workspace)?;
        let placed = workspace.assignment.as_ref();
        let summary = placed.map_or(&workspace.phase.reason, |assignment| &assignment.reason);
        Some(pb::Explanation {
            summary: summary.to_string(),
            node: placed.map(|placed| self.state.node_label(placed.node)).unwrap_or_default(),
            ..pb::Explanation::default()
        })
    }
}

/// All workspaces by client's name, then name.
pub(super) fn by_address(moment: &Moment) -> impl Iterator<Item = (String, &Arc<Workspace>)> {
    moment.state.client_names.iter().flat_map(move |(client, id)| {
        let of_client = moment.state.workspaces_of(*id);
        of_client.map(move |one| (key(&[client.as_str(), one.name.as_str()]), one))
    })
}
