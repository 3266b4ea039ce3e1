//! `ClusterService`: the cluster as a whole.

use std::fmt::Write as _;

use tonic::{Request, Response, Status};
use warren_model::state::PhaseKind;
use warren_proto::pb::admin::v1::{self as pb, cluster_service_server::ClusterService};

pub use super::backup::show_recovery;
use super::{Api, Moment, backup::Pieces, caller, errors, view::count};

#[tonic::async_trait]
impl ClusterService for Api {
    async fn get_cluster(
        &self,
        _: Request<pb::GetClusterRequest>,
    ) -> Result<Response<pb::GetClusterResponse>, Status> {
        let moment = self.read().await?;
        Ok(Response::new(self.show_cluster(&moment)?))
    }

    type BackupStream = Pieces;

    async fn backup(
        &self,
        request: Request<pb::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Ok(Response::new(self.back_up(request.into_inner()).await?))
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
    fn show_cluster(&self, moment: &Moment) -> Result<pb::GetClusterResponse, Status> {
        let (state, view) = (&moment.state, moment.view());
        let Some(cluster) = &state.cluster else {
            return Err(errors::not_initialised().into());
        };
        let status = self.parts().consensus.status();
        let voter = |id| status.members.iter().any(|one| one.replica == id && one.voter);
        let replica =
            |(id, replica): (&warren_common::ReplicaId, &warren_model::state::Replica)| {
                pb::Replica {
                    id: id.0,
                    api_address: replica.api_address.clone(),
                    raft_address: replica.raft_address.clone(),
                    voter: voter(*id),
                }
            };
        let ready = state.nodes.keys().filter(|node| view.is_ready(**node)).count();
        let active = |kind: &PhaseKind| matches!(kind, PhaseKind::Active);
        let active = state.workspaces.values().filter(|one| active(&one.phase.kind)).count();
        Ok(pb::GetClusterResponse {
            freshness: Some(view.freshness()),
            cluster_id: cluster.id.to_string(),
            name: cluster.name.clone(),
            incarnation: cluster.incarnation,
            created_unix_ms: cluster.created.0,
            replicas: state.replicas.iter().map(replica).collect(),
            leader_replica_id: status.leader.map_or(0, |leader| leader.0),
            term: status.term,
            clients: count(state.clients.len()),
            nodes: count(state.nodes.len()),
            nodes_ready: count(ready),
            workspaces: count(state.workspaces.len()),
            workspaces_active: count(active),
            audit_sequence: state.audit.sequence,
            audit_hash: hex(&state.audit.hash),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            recovery: show_recovery(state),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // writing to a String cannot fail
        let _ = write!(text, "{byte:02x}");
    }
    text
}
