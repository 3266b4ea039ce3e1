//! `NodeAdminService`: nodes as operators see them, and the tokens they join with.

use std::collections::BTreeSet;

use tonic::{Code, Request, Response, Status};
use warren_common::{Limits, NodeId, Timestamp, TokenId, spec::Labels};
use warren_daemon::token::{JoinToken, TokenRole};
use warren_model::{
    ClusterState, Command, Outcome,
    command::{
        Availability, IssueToken, NodeCommand, SetNodeAvailability,
        node::{LabelNode, RejoinNode, RemoveNode},
    },
    state::Node,
};
use warren_proto::{
    error::ApiError,
    pb::admin::v1::{self as pb, node_admin_service_server::NodeAdminService},
};

use super::{Api, caller, errors, mutation::Asked, page::Page, resolve, view::Said};
use crate::{
    hub::control::coordinators,
    install::{Files, script_path},
};

#[tonic::async_trait]
impl NodeAdminService for Api {
    async fn create_node_token(
        &self,
        request: Request<pb::CreateNodeTokenRequest>,
    ) -> Result<Response<pb::CreateNodeTokenResponse>, Status> {
        let principal = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(principal, request.mutation)?;
        let node_name = match request.node_name.as_str() {
            "" => None,
            name => Some(name.parse().map_err(|why| errors::invalid("node_name", why))?),
        };
        let id = TokenId::new(uuid::Uuid::now_v7());
        let expires = asked.at.plus(Limits::TOKEN_AGE);
        let token = self.join_token(TokenRole::Node, (id, expires))?;
        let secret_hash = token.secret_hash();
        let issue = IssueToken { token: id, secret_hash, node_name, expires };
        let applied = self.mutate(&asked, Command::IssueToken(issue)).await?;
        if applied.repeated {
            let message = "this request minted a token before; its secret was shown once";
            let error = ApiError::new(Code::FailedPrecondition, "TOKEN_SHOWN_ONCE", message);
            return Err(error.next("mint another one: warren node token").into());
        }
        let text = token.to_text().map_err(|why| errors::internal("writing the token", why))?;
        Ok(Response::new(pb::CreateNodeTokenResponse {
            token: text.expose().clone(),
            expires_unix_ms: expires.0,
            revision: applied.revision.0,
            installer: self.parts().installer.as_ref().and_then(|files| installer(files)),
        }))
    }

    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(request.page_size, &request.page_token)?;
        let moment = self.read_for(request.read).await?;
        let view = moment.view();
        let named = moment.state.node_names.iter();
        let named =
            named.filter_map(|(name, id)| Some((name.to_string(), moment.state.nodes.get(id)?)));
        let there = |node: &Node| request.removed || node.availability != Availability::Retired;
        let named = named.filter(|(_, node)| there(node));
        let paged = page.cut(named, |node| view.node(node, Said::by(&self.parts().live, node.id)));
        Ok(Response::new(pb::ListNodesResponse {
            freshness: Some(moment.freshness()),
            nodes: paged.items,
            next_page_token: paged.next,
        }))
    }

    async fn get_node(
        &self,
        request: Request<pb::GetNodeRequest>,
    ) -> Result<Response<pb::GetNodeResponse>, Status> {
        let pb::GetNodeRequest { node, read } = request.into_inner();
        let moment = self.read_for(read).await?;
        let view = moment.view();
        let node = resolve::node(&moment.state, &node)?;
        Ok(Response::new(pb::GetNodeResponse {
            freshness: Some(moment.freshness()),
            node: Some(view.node(node, Said::by(&self.parts().live, node.id))),
        }))
    }

    async fn set_node_availability(
        &self,
        request: Request<pb::SetNodeAvailabilityRequest>,
    ) -> Result<Response<pb::SetNodeAvailabilityResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let availability = match request.availability() {
            pb::NodeAvailability::Active => Availability::Active,
            pb::NodeAvailability::Cordoned => Availability::Cordoned,
            pb::NodeAvailability::Unspecified
            | pb::NodeAvailability::Draining
            | pb::NodeAvailability::Retired => {
                let why = "takes active or cordoned; RemoveNode takes a node out";
                return Err(errors::invalid("availability", why).into());
            }
        };
        let asked = Asked::read(who, request.mutation)?;
        let (node, revision) = self
            .change_node(&asked, &request.node, |_, node| {
                Ok(Command::SetNodeAvailability(SetNodeAvailability { node, availability }))
            })
            .await?;
        Ok(Response::new(pb::SetNodeAvailabilityResponse { node, revision }))
    }

    async fn label_node(
        &self,
        request: Request<pb::LabelNodeRequest>,
    ) -> Result<Response<pb::LabelNodeResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(who, request.mutation)?;
        if request.set_labels.is_empty() && request.remove_labels.is_empty() {
            return Err(errors::invalid("set_labels", "and remove_labels are both empty").into());
        }
        let set_labels: Labels = request.set_labels.into_iter().collect();
        let remove_labels: BTreeSet<String> = request.remove_labels.into_iter().collect();
        let (node, revision) = self
            .change_node(&asked, &request.node, |_, node| {
                let (set_labels, remove_labels) = (set_labels.clone(), remove_labels.clone());
                let label = LabelNode { node, set_labels, remove_labels };
                Ok(Command::Node(Box::new(NodeCommand::Label(label))))
            })
            .await?;
        Ok(Response::new(pb::LabelNodeResponse { node, revision }))
    }

    async fn remove_node(
        &self,
        request: Request<pb::RemoveNodeRequest>,
    ) -> Result<Response<pb::RemoveNodeResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(who, request.mutation)?;
        let (node, revision) = self
            .change_node(&asked, &request.node, |state, node| {
                let named = request.lost_workspaces.iter();
                let named = named.map(|text| Ok(resolve::workspace(state, text)?.id));
                let lost = named.collect::<Result<_, ApiError>>()?;
                let remove = RemoveNode { node, lost };
                Ok(Command::Node(Box::new(NodeCommand::Remove(remove))))
            })
            .await?;
        Ok(Response::new(pb::RemoveNodeResponse { node, revision }))
    }

    async fn rejoin_node(
        &self,
        request: Request<pb::RejoinNodeRequest>,
    ) -> Result<Response<pb::RejoinNodeResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(who, request.mutation)?;
        let (node, revision) = self
            .change_node(&asked, &request.node, |_, node| {
                Ok(Command::Node(Box::new(NodeCommand::Rejoin(RejoinNode { node }))))
            })
            .await?;
        Ok(Response::new(pb::RejoinNodeResponse { node, revision }))
    }
}

impl Api {
    /// Makes a command about the node that is named, proposes it, and shows the node after it.
    async fn change_node(
        &self,
        asked: &Asked,
        named: &str,
        command: impl Fn(&ClusterState, NodeId) -> Result<Command, ApiError>,
    ) -> Result<(Option<pb::Node>, u64), ApiError> {
        let made = |state: &ClusterState| command(state, resolve::node(state, named)?.id);
        let applied = self.mutate_named(asked, made).await?;
        let Outcome::Node(id) = applied.outcome else {
            return Err(errors::internal("changing a node", "another outcome"));
        };
        let moment = self.local();
        let said = Said::by(&self.parts().live, id);
        let node = moment.state.nodes.get(&id).map(|node| moment.view().node(node, said));
        Ok((node, applied.revision.0))
    }

    /// Mints a token with a fresh secret.
    pub(super) fn join_token(
        &self,
        role: TokenRole,
        (id, expires): (TokenId, Timestamp),
    ) -> Result<JoinToken, ApiError> {
        let minting = |why: &dyn std::fmt::Display| errors::internal("minting a token", why);
        let secret = JoinToken::random_secret().ok_or_else(|| minting(&"no randomness"))?;
        let pin = self.parts().ca.pin().map_err(|why| minting(&why))?;
        let addresses = coordinators(&self.parts().consensus.local());
        Ok(JoinToken { role, id, secret, pin, expires, addresses })
    }
}

/// Names where the installer is fetched from; none where its files are not here.
fn installer(files: &Files) -> Option<pb::Installer> {
    let (address, public_key_pin) = files.place()?;
    Some(pb::Installer { address, path: script_path(), public_key_pin })
}
