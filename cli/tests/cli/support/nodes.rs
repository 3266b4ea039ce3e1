//! Nodes, as the fake coordinator answers for them.

use tonic::{Request, Response, Status};
use warren_proto::{
    Method,
    pb::admin::v1::{self as pb, node_admin_service_server::NodeAdminService},
};

use super::fake::{Fake, REVISION, missing, page};

#[tonic::async_trait]
impl NodeAdminService for Fake {
    async fn create_node_token(
        &self,
        _: Request<pb::CreateNodeTokenRequest>,
    ) -> Result<Response<pb::CreateNodeTokenResponse>, Status> {
        let state = self.enter(Method::NodeAdminCreateNodeToken)?;
        let token = "wrn1_example".to_owned();
        let expires_unix_ms = warren_daemon::clock::now().0 + 15 * 60_000 + 500;
        Ok(Response::new(pb::CreateNodeTokenResponse {
            token,
            expires_unix_ms,
            revision: REVISION,
            installer: state.installer.clone(),
        }))
    }

    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        let request = request.into_inner();
        let (state, freshness) = self.read(Method::NodeAdminListNodes, request.read)?;
        let (nodes, next_page_token) = page(&state.nodes, state.page, &request.page_token);
        Ok(Response::new(pb::ListNodesResponse { freshness, nodes, next_page_token }))
    }

    async fn get_node(
        &self,
        request: Request<pb::GetNodeRequest>,
    ) -> Result<Response<pb::GetNodeResponse>, Status> {
        let pb::GetNodeRequest { node: name, read } = request.into_inner();
        let (state, freshness) = self.read(Method::NodeAdminGetNode, read)?;
        let node = state.nodes.iter().find(|node| node.name == name).cloned();
        let node = Some(node.ok_or_else(|| missing("node", &name))?);
        Ok(Response::new(pb::GetNodeResponse { freshness, node }))
    }

    async fn set_node_availability(
        &self,
        request: Request<pb::SetNodeAvailabilityRequest>,
    ) -> Result<Response<pb::SetNodeAvailabilityResponse>, Status> {
        let request = request.into_inner();
        let method = Method::NodeAdminSetNodeAvailability;
        let node = self.change_node(method, (request.mutation, &request.node), |node| {
            node.availability = request.availability;
        })?;
        Ok(Response::new(pb::SetNodeAvailabilityResponse { node, revision: REVISION }))
    }

    async fn label_node(
        &self,
        request: Request<pb::LabelNodeRequest>,
    ) -> Result<Response<pb::LabelNodeResponse>, Status> {
        let request = request.into_inner();
        let method = Method::NodeAdminLabelNode;
        let node = self.change_node(method, (request.mutation, &request.node), |node| {
            let labels = &mut node.facts.get_or_insert_default().labels;
            labels.extend(request.set_labels);
            labels.retain(|key, _| !request.remove_labels.contains(key));
        })?;
        Ok(Response::new(pb::LabelNodeResponse { node, revision: REVISION }))
    }

    async fn remove_node(
        &self,
        request: Request<pb::RemoveNodeRequest>,
    ) -> Result<Response<pb::RemoveNodeResponse>, Status> {
        let request = request.into_inner();
        let method = Method::NodeAdminRemoveNode;
        let node = self.change_node(method, (request.mutation, &request.node), |node| {
            node.availability = pb::NodeAvailability::Retired.into();
            node.reason = format!("lost: {}", request.lost_workspaces.join(" "));
        })?;
        Ok(Response::new(pb::RemoveNodeResponse { node, revision: REVISION }))
    }

    async fn rejoin_node(
        &self,
        request: Request<pb::RejoinNodeRequest>,
    ) -> Result<Response<pb::RejoinNodeResponse>, Status> {
        let request = request.into_inner();
        let method = Method::NodeAdminRejoinNode;
        let node = self
            .change_node(method, (request.mutation, &request.node), |node| node.findings.clear())?;
        Ok(Response::new(pb::RejoinNodeResponse { node, revision: REVISION }))
    }
}

impl Fake {
    fn change_node(
        &self,
        method: Method,
        (mutation, name): (Option<pb::Mutation>, &str),
        change: impl FnOnce(&mut pb::Node),
    ) -> Result<Option<pb::Node>, Status> {
        let mut state = self.enter(method)?;
        state.requests.push(mutation.unwrap_or_default().request_id);
        let node = state.nodes.iter_mut().find(|node| node.name == name);
        let node = node.ok_or_else(|| missing("node", name))?;
        change(node);
        Ok(Some(node.clone()))
    }
}
