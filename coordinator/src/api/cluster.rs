//! `ClusterService`: the cluster as a whole.

use tonic::{Request, Response, Status};
use warren_common::ReplicaId;
use warren_model::{
    ClusterState,
    state::{PhaseKind, certificate},
};
use warren_proto::pb::admin::v1::{self as pb, cluster_service_server::ClusterService};

pub use super::backup::show_recovery;
use super::{
    Api, Moment,
    backup::Pieces,
    caller,
    due::{due, may_know_people},
    errors,
    view::count,
};
use crate::authz::Caller;

#[tonic::async_trait]
impl ClusterService for Api {
    async fn get_cluster(
        &self,
        request: Request<pb::GetClusterRequest>,
    ) -> Result<Response<pb::GetClusterResponse>, Status> {
        let moment = self.read_for(request.into_inner().read).await?;
        let coordinators = self.show_coordinators().await;
        Ok(Response::new(self.show_cluster(&moment, coordinators)?))
    }

    async fn inspect_coordinator(
        &self,
        request: Request<pb::InspectCoordinatorRequest>,
    ) -> Result<Response<pb::InspectCoordinatorResponse>, Status> {
        let people = may_know_people(Caller::of(&request)?.role());
        let mut answer = self.parts().members.inspect().await?;
        let Moment { state, now, .. } = self.local();
        let due = due(&state, people, now);
        answer.certificates = due.rows;
        answer.certificate_holders = due.holders;
        answer.coordinator_holders = due.coordinators;
        answer.people_told = people;
        Ok(Response::new(answer))
    }

    async fn create_coordinator_token(
        &self,
        request: Request<pb::CreateCoordinatorTokenRequest>,
    ) -> Result<Response<pb::CreateCoordinatorTokenResponse>, Status> {
        let who = caller(&request)?;
        let answer = self.coordinator_token(who, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn remove_coordinator(
        &self,
        request: Request<pb::RemoveCoordinatorRequest>,
    ) -> Result<Response<pb::RemoveCoordinatorResponse>, Status> {
        let who = caller(&request)?;
        let revision = self.drop_coordinator(who, request.into_inner()).await?;
        Ok(Response::new(pb::RemoveCoordinatorResponse { revision }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<pb::TransferLeadershipRequest>,
    ) -> Result<Response<pb::TransferLeadershipResponse>, Status> {
        let to = Some(request.into_inner().replica_id).filter(|to| *to != 0).map(ReplicaId);
        let leader = self.parts().members.transfer(to).await?;
        Ok(Response::new(pb::TransferLeadershipResponse { leader_replica_id: leader.0 }))
    }

    type BackupStream = Pieces;

    async fn backup(
        &self,
        request: Request<pb::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let who = caller(&request)?;
        Ok(Response::new(self.back_up(who, request.into_inner()).await?))
    }

    async fn end_recovery(
        &self,
        request: Request<pb::EndRecoveryRequest>,
    ) -> Result<Response<pb::EndRecoveryResponse>, Status> {
        let who = caller(&request)?;
        Ok(Response::new(self.end(who, request.into_inner()).await?))
    }
}

impl Api {
    fn show_cluster(
        &self,
        moment: &Moment,
        replicas: Vec<pb::Replica>,
    ) -> Result<pb::GetClusterResponse, Status> {
        let (state, view) = (&moment.state, moment.view());
        let Some(cluster) = &state.cluster else {
            return Err(errors::not_initialised().into());
        };
        let consensus = &self.parts().consensus;
        let status = consensus.status();
        let leader = status.leader.filter(|_| consensus.without_quorum().is_none());
        let ready = state.nodes.keys().filter(|node| view.is_ready(**node)).count();
        let active = |kind: &PhaseKind| matches!(kind, PhaseKind::Active);
        let active = state.workspaces.values().filter(|one| active(&one.phase.kind)).count();
        Ok(pb::GetClusterResponse {
            freshness: Some(moment.freshness()),
            cluster_id: cluster.id.to_string(),
            name: cluster.name.clone(),
            incarnation: cluster.incarnation,
            created_unix_ms: cluster.created.0,
            replicas,
            leader_replica_id: leader.map_or(0, |leader| leader.0),
            term: status.term,
            clients: count(state.clients.len()),
            nodes: count(state.nodes.len()),
            nodes_ready: count(ready),
            workspaces: count(state.workspaces.len()),
            workspaces_active: count(active),
            audit_sequence: state.audit.sequence,
            audit_hash: certificate::hex(&state.audit.hash),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            recovery: show_recovery(state),
            unreviewed_clients: unreviewed(state),
        })
    }
}

fn unreviewed(state: &ClusterState) -> Vec<pb::UnreviewedClient> {
    let show = |id| {
        let allowed = state.allowed.get(id).into_iter().flatten();
        let client = state.clients.get(id)?.name.to_string();
        Some(pb::UnreviewedClient { client, allowed: allowed.map(ToString::to_string).collect() })
    };
    state.unreviewed.iter().filter_map(show).collect()
}
