//! A coordinator that answers what the test says, and remembers what it was asked.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use warren_proto::{
    ApiError, Method,
    error::reason,
    pb::admin::v1::{
        self as pb, client_service_server::ClientService, cluster_service_server::ClusterService,
        workspace_service_server::WorkspaceService,
    },
};

pub(super) use super::answers::{fresh, missing, page};
use super::{answers::workspace, data::NOW, watch::Piece};

/// The incarnation of every answer.
pub(super) const INCARNATION: u32 = 9;
/// The revision of every change.
pub(super) const REVISION: u64 = 43;

/// What a follow stream does next.
pub(crate) enum Follow {
    /// Sends this, and what follows it, on one stream.
    Seen(Box<pb::Workspace>),
    /// Breaks; the next piece belongs to the next stream.
    Break,
    /// Says that it is gone.
    Gone,
}

/// What the test decides.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) clients: Vec<pb::Client>,
    pub(crate) nodes: Vec<pb::Node>,
    /// What node tokens come with.
    pub(crate) installer: Option<pb::Installer>,
    pub(crate) workspaces: Vec<pb::Workspace>,
    pub(crate) secrets: Vec<pb::Secret>,
    /// Values of secrets, in the order in which they were set.
    pub(crate) values: Vec<Vec<u8>>,
    pub(crate) sessions: Vec<pb::Session>,
    /// Sessions that were asked for.
    pub(crate) made: Vec<pb::CreateSessionRequest>,
    pub(crate) browsers: Vec<pb::Browser>,
    /// What lists of browsers were asked for.
    pub(crate) browsed: Vec<pb::ListBrowsersRequest>,
    pub(crate) cluster: pb::GetClusterResponse,
    /// What it says of itself, but for its clock.
    pub(crate) inspected: pb::InspectCoordinatorResponse,
    /// Audit records, oldest first, and what checking them gives.
    pub(crate) records: Vec<pb::AuditRecord>,
    pub(crate) verdicts: Vec<pb::VerifyRecordsResponse>,
    pub(crate) searches: Vec<pb::ListRecordsRequest>,
    /// Gaps that the next search from the oldest on tells, once.
    pub(crate) gaps: Vec<pb::AuditGap>,
    /// Users beside those that are always there.
    pub(crate) users: Vec<pb::User>,
    pub(crate) explanation: pb::Explanation,
    pub(crate) follow: VecDeque<Follow>,
    pub(crate) watch: VecDeque<Piece>,
    pub(crate) watched: Vec<pb::WatchRequest>,
    /// It knows no events of the past: RESYNC to who comes with a place.
    pub(crate) anew: bool,
    /// Answers of RPCs that fail, in order; then they succeed.
    pub(crate) failures: BTreeMap<Method, VecDeque<Status>>,
    /// How often each RPC was called.
    pub(crate) calls: BTreeMap<Method, usize>,
    pub(crate) created: Vec<pb::CreateWorkspaceRequest>,
    pub(crate) stopped: Vec<pb::StopWorkspaceRequest>,
    pub(crate) deleted: Vec<pb::DeleteWorkspaceRequest>,
    /// Items per page, to make lists of several.
    pub(crate) page: usize,
    /// No majority is there: only stale reads are answered.
    pub(crate) alone: bool,
    /// How old stale answers are, one for each; then they are 1234 ms old.
    pub(crate) ages: VecDeque<Option<u64>>,
    /// How fresh reads were to be, in their order.
    pub(crate) reads: Vec<Option<pb::Read>>,
    /// What terminals and programs were sent.
    pub(crate) typed: Vec<u8>,
    /// The request ids that calls carried, in their order.
    pub(crate) requests: Vec<String>,
    pub(crate) opened: Vec<pb::StreamTarget>,
    /// What lists of sessions were asked for.
    pub(crate) listed: Vec<pb::ListSessionsRequest>,
    /// Why an agent is in its state, in answers of so many bytes at a time.
    pub(crate) explained: (Vec<u8>, usize),
    pub(crate) resized: Vec<(u32, u32)>,
    /// The next stream that is opened breaks after its first output.
    pub(crate) drop_next: bool,
}

/// The coordinator; clones share their state.
#[derive(Clone, Default)]
pub(crate) struct Fake(pub(crate) Arc<Mutex<State>>);

impl Fake {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and fails it where the test said so.
    pub(super) fn enter(&self, method: Method) -> Result<MutexGuard<'_, State>, Status> {
        let mut state = self.state();
        *state.calls.entry(method).or_default() += 1;
        match state.failures.get_mut(&method).and_then(VecDeque::pop_front) {
            Some(status) => Err(status),
            None => Ok(state),
        }
    }

    /// Counts a read and says how fresh its answer is.
    pub(super) fn read(
        &self,
        method: Method,
        read: Option<pb::Read>,
    ) -> Result<(MutexGuard<'_, State>, Option<pb::Freshness>), Status> {
        let mut state = self.enter(method)?;
        state.reads.push(read);
        let stale = read.is_some_and(|read| read.consistency() == pb::Consistency::Stale);
        if !stale && state.alone {
            let message = "no coordinator leads at the moment";
            let error = ApiError::new(Code::Unavailable, reason::NO_QUORUM, message);
            let next = "start the other coordinators; --stale shows what a coordinator knew last";
            return Err(error.next(next).into());
        }
        let mut freshness = fresh();
        if let (true, Some(freshness)) = (stale, &mut freshness) {
            freshness.consistency = pb::Consistency::Stale.into();
            freshness.age_ms = state.ages.pop_front().unwrap_or(Some(1234));
            freshness.replica_id = 2;
        }
        Ok((state, freshness))
    }

    pub(crate) fn fail(&self, method: Method, status: impl Into<Status>) {
        self.state().failures.entry(method).or_default().push_back(status.into());
    }

    pub(crate) fn calls(&self, method: Method) -> usize {
        self.state().calls.get(&method).copied().unwrap_or(0)
    }
}

#[tonic::async_trait]
impl ClusterService for Fake {
    async fn get_cluster(
        &self,
        request: Request<pb::GetClusterRequest>,
    ) -> Result<Response<pb::GetClusterResponse>, Status> {
        let read = request.into_inner().read;
        let (state, freshness) = self.read(Method::ClusterGetCluster, read)?;
        Ok(Response::new(pb::GetClusterResponse { freshness, ..state.cluster.clone() }))
    }

    async fn inspect_coordinator(
        &self,
        _: Request<pb::InspectCoordinatorRequest>,
    ) -> Result<Response<pb::InspectCoordinatorResponse>, Status> {
        let state = self.enter(Method::ClusterInspectCoordinator)?;
        let now_unix_ms = warren_daemon::clock::now().0;
        Ok(Response::new(pb::InspectCoordinatorResponse { now_unix_ms, ..state.inspected.clone() }))
    }

    type BackupStream = ReceiverStream<Result<pb::BackupResponse, Status>>;

    async fn backup(
        &self,
        request: Request<pb::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let cut = {
            let mut state = self.enter(Method::ClusterBackup)?;
            std::mem::take(&mut state.drop_next)
        };
        let file = super::data::backup(request.into_inner());
        let (sender, receiver) = mpsc::channel(16);
        let end = if cut { file.len() / 2 } else { file.len() };
        tokio::spawn(async move {
            for chunk in file[..end].chunks(1000) {
                let chunk = chunk.to_vec().into();
                let _ = sender.send(Ok(pb::BackupResponse { chunk })).await;
            }
            if cut {
                let _ = sender.send(Err(Status::internal("the disk is gone"))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn end_recovery(
        &self,
        request: Request<pb::EndRecoveryRequest>,
    ) -> Result<Response<pb::EndRecoveryResponse>, Status> {
        let mut state = self.enter(Method::ClusterEndRecovery)?;
        let node = request.into_inner().node;
        if node.is_empty() {
            state.cluster.recovery = None;
        } else if let Some(recovery) = &mut state.cluster.recovery {
            recovery.awaited_nodes.retain(|awaited| *awaited != node);
        }
        Ok(Response::new(pb::EndRecoveryResponse {
            recovery: state.cluster.recovery.clone(),
            revision: REVISION,
        }))
    }

    async fn create_coordinator_token(
        &self,
        _: Request<pb::CreateCoordinatorTokenRequest>,
    ) -> Result<Response<pb::CreateCoordinatorTokenResponse>, Status> {
        let _state = self.enter(Method::ClusterCreateCoordinatorToken)?;
        let expires_unix_ms = warren_daemon::clock::now().0 + 15 * 60_000 + 500;
        let token = "wrn1_example".to_owned();
        Ok(Response::new(pb::CreateCoordinatorTokenResponse {
            token,
            expires_unix_ms,
            revision: REVISION,
        }))
    }

    async fn remove_coordinator(
        &self,
        request: Request<pb::RemoveCoordinatorRequest>,
    ) -> Result<Response<pb::RemoveCoordinatorResponse>, Status> {
        let mut state = self.enter(Method::ClusterRemoveCoordinator)?;
        let id = request.into_inner().replica_id;
        state.cluster.replicas.retain(|replica| replica.id != id);
        Ok(Response::new(pb::RemoveCoordinatorResponse { revision: REVISION }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<pb::TransferLeadershipRequest>,
    ) -> Result<Response<pb::TransferLeadershipResponse>, Status> {
        let _state = self.enter(Method::ClusterTransferLeadership)?;
        let asked = request.into_inner().replica_id;
        let leader_replica_id = if asked == 0 { 2 } else { asked };
        Ok(Response::new(pb::TransferLeadershipResponse { leader_replica_id }))
    }
}

#[tonic::async_trait]
impl ClientService for Fake {
    async fn create_client(
        &self,
        request: Request<pb::CreateClientRequest>,
    ) -> Result<Response<pb::CreateClientResponse>, Status> {
        let mut state = self.enter(Method::ClientCreateClient)?;
        let request = request.into_inner();
        let client = pb::Client {
            name: request.name,
            labels: request.labels,
            created_unix_ms: NOW,
            ..Default::default()
        };
        state.clients.push(client.clone());
        Ok(Response::new(pb::CreateClientResponse { client: Some(client), revision: REVISION }))
    }

    async fn list_clients(
        &self,
        request: Request<pb::ListClientsRequest>,
    ) -> Result<Response<pb::ListClientsResponse>, Status> {
        let request = request.into_inner();
        let (state, freshness) = self.read(Method::ClientListClients, request.read)?;
        let (clients, next_page_token) = page(&state.clients, state.page, &request.page_token);
        Ok(Response::new(pb::ListClientsResponse { freshness, clients, next_page_token }))
    }

    async fn get_client(
        &self,
        request: Request<pb::GetClientRequest>,
    ) -> Result<Response<pb::GetClientResponse>, Status> {
        let pb::GetClientRequest { client: name, read } = request.into_inner();
        let (state, freshness) = self.read(Method::ClientGetClient, read)?;
        let client = state.clients.iter().find(|client| client.name == name).cloned();
        let client = Some(client.ok_or_else(|| missing("client", &name))?);
        Ok(Response::new(pb::GetClientResponse { freshness, client }))
    }

    async fn delete_client(
        &self,
        _: Request<pb::DeleteClientRequest>,
    ) -> Result<Response<pb::DeleteClientResponse>, Status> {
        let _state = self.enter(Method::ClientDeleteClient)?;
        Ok(Response::new(pb::DeleteClientResponse { revision: REVISION }))
    }

    async fn update_client(
        &self,
        request: Request<pb::UpdateClientRequest>,
    ) -> Result<Response<pb::UpdateClientResponse>, Status> {
        let mut state = self.enter(Method::ClientUpdateClient)?;
        let request = request.into_inner();
        let client = state.clients.iter_mut().find(|client| client.name == request.client);
        let client = client.ok_or_else(|| missing("client", &request.client))?;
        client.labels.retain(|key, _| !request.remove_labels.contains(key));
        client.labels.extend(request.set_labels);
        let client = Some(client.clone());
        Ok(Response::new(pb::UpdateClientResponse { client, revision: REVISION }))
    }

    async fn change_allowed(
        &self,
        request: Request<pb::ChangeAllowedRequest>,
    ) -> Result<Response<pb::ChangeAllowedResponse>, Status> {
        let mut state = self.enter(Method::ClientChangeAllowed)?;
        let request = request.into_inner();
        let client = state.clients.iter_mut().find(|client| client.name == request.client);
        let client = client.ok_or_else(|| missing("client", &request.client))?;
        client.allowed.retain(|one| !request.disallow.contains(one));
        client.allowed.extend(request.allow);
        let client = Some(client.clone());
        Ok(Response::new(pb::ChangeAllowedResponse { client, revision: REVISION }))
    }
}

#[tonic::async_trait]
impl WorkspaceService for Fake {
    type FollowWorkspaceStream = ReceiverStream<Result<pb::FollowWorkspaceResponse, Status>>;

    async fn create_workspace(
        &self,
        request: Request<pb::CreateWorkspaceRequest>,
    ) -> Result<Response<pb::CreateWorkspaceResponse>, Status> {
        self.state().created.push(request.get_ref().clone());
        let state = self.enter(Method::WorkspaceCreateWorkspace)?;
        let request = request.into_inner();
        let name = format!("{}/{}", request.client, request.name);
        let workspace = Some(workspace(&state, &name)?);
        let explanation = Some(state.explanation.clone());
        let revision = REVISION;
        Ok(Response::new(pb::CreateWorkspaceResponse { workspace, explanation, revision }))
    }

    async fn list_workspaces(
        &self,
        request: Request<pb::ListWorkspacesRequest>,
    ) -> Result<Response<pb::ListWorkspacesResponse>, Status> {
        let request = request.into_inner();
        let (state, freshness) = self.read(Method::WorkspaceListWorkspaces, request.read)?;
        let (workspaces, next_page_token) =
            page(&state.workspaces, state.page, &request.page_token);
        Ok(Response::new(pb::ListWorkspacesResponse { freshness, workspaces, next_page_token }))
    }

    async fn get_workspace(
        &self,
        request: Request<pb::GetWorkspaceRequest>,
    ) -> Result<Response<pb::GetWorkspaceResponse>, Status> {
        let request = request.into_inner();
        let (state, freshness) = self.read(Method::WorkspaceGetWorkspace, request.read)?;
        let workspace = Some(workspace(&state, &request.workspace)?);
        Ok(Response::new(pb::GetWorkspaceResponse { freshness, workspace }))
    }

    async fn explain_workspace(
        &self,
        request: Request<pb::ExplainWorkspaceRequest>,
    ) -> Result<Response<pb::ExplainWorkspaceResponse>, Status> {
        let read = request.into_inner().read;
        let (state, freshness) = self.read(Method::WorkspaceExplainWorkspace, read)?;
        let explanation = Some(state.explanation.clone());
        Ok(Response::new(pb::ExplainWorkspaceResponse { freshness, explanation }))
    }

    async fn start_workspace(
        &self,
        request: Request<pb::StartWorkspaceRequest>,
    ) -> Result<Response<pb::StartWorkspaceResponse>, Status> {
        let state = self.enter(Method::WorkspaceStartWorkspace)?;
        let workspace = Some(workspace(&state, &request.into_inner().workspace)?);
        Ok(Response::new(pb::StartWorkspaceResponse { workspace, revision: REVISION }))
    }

    async fn stop_workspace(
        &self,
        request: Request<pb::StopWorkspaceRequest>,
    ) -> Result<Response<pb::StopWorkspaceResponse>, Status> {
        let mut state = self.enter(Method::WorkspaceStopWorkspace)?;
        let request = request.into_inner();
        state.stopped.push(request.clone());
        let workspace = Some(workspace(&state, &request.workspace)?);
        Ok(Response::new(pb::StopWorkspaceResponse { workspace, revision: REVISION }))
    }

    async fn restart_workspace(
        &self,
        request: Request<pb::RestartWorkspaceRequest>,
    ) -> Result<Response<pb::RestartWorkspaceResponse>, Status> {
        let state = self.enter(Method::WorkspaceRestartWorkspace)?;
        let workspace = Some(workspace(&state, &request.into_inner().workspace)?);
        Ok(Response::new(pb::RestartWorkspaceResponse { workspace, revision: REVISION }))
    }

    async fn delete_workspace(
        &self,
        request: Request<pb::DeleteWorkspaceRequest>,
    ) -> Result<Response<pb::DeleteWorkspaceResponse>, Status> {
        let mut state = self.enter(Method::WorkspaceDeleteWorkspace)?;
        let request = request.into_inner();
        state.deleted.push(request.clone());
        let workspace = Some(workspace(&state, &request.workspace)?);
        Ok(Response::new(pb::DeleteWorkspaceResponse { workspace, revision: REVISION }))
    }

    async fn resize_workspace(
        &self,
        request: Request<pb::ResizeWorkspaceRequest>,
    ) -> Result<Response<pb::ResizeWorkspaceResponse>, Status> {
        let state = self.enter(Method::WorkspaceResizeWorkspace)?;
        let request = request.into_inner();
        let mut workspace = workspace(&state, &request.workspace)?;
        let spec = workspace.spec.as_mut().and_then(|spec| spec.resources.as_mut());
        let disk = spec.zip(request.disk_bytes).map(|(spec, disk)| spec.disk_bytes = disk);
        let notice = disk.map_or_else(String::new, |()| "the home holds more".to_owned());
        let workspace = Some(workspace);
        Ok(Response::new(pb::ResizeWorkspaceResponse { workspace, revision: REVISION, notice }))
    }

    async fn update_workspace(
        &self,
        request: Request<pb::UpdateWorkspaceRequest>,
    ) -> Result<Response<pb::UpdateWorkspaceResponse>, Status> {
        let state = self.enter(Method::WorkspaceUpdateWorkspace)?;
        let request = request.into_inner();
        let mut workspace = workspace(&state, &request.workspace)?;
        use pb::update_workspace_request::Update;
        if let (Some(spec), Some(Update::Image(image))) = (&mut workspace.spec, request.update) {
            workspace.image_before = std::mem::replace(&mut spec.image, image);
        }
        let workspace = Some(workspace);
        Ok(Response::new(pb::UpdateWorkspaceResponse { workspace, revision: REVISION, plan: None }))
    }

    async fn follow_workspace(
        &self,
        _: Request<pb::FollowWorkspaceRequest>,
    ) -> Result<Response<Self::FollowWorkspaceStream>, Status> {
        let mut state = self.enter(Method::WorkspaceFollowWorkspace)?;
        let all = state.follow.len();
        let broken = state.follow.iter().position(|piece| !matches!(piece, Follow::Seen(_)));
        let pieces: Vec<Follow> = state.follow.drain(..broken.map_or(all, |at| at + 1)).collect();
        drop(state);
        let (sender, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            for piece in pieces {
                let answer = match piece {
                    Follow::Seen(workspace) => Ok(pb::FollowWorkspaceResponse {
                        freshness: fresh(),
                        workspace: Some(*workspace),
                    }),
                    Follow::Break => Err(Status::unavailable("the coordinator went away")),
                    Follow::Gone => Err(missing("workspace", "acme/web")),
                };
                if sender.send(answer).await.is_err() {
                    return;
                }
            }
            // nothing more to tell: the stream stays open, as a real one would
            sender.closed().await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
