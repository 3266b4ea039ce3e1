//! `NodeAdminService`: nodes as operators see them, and the tokens they join with.

use tonic::{Code, Request, Response, Status};
use warren_common::{Limits, Timestamp, TokenId};
use warren_daemon::token::{JoinToken, TokenRole};
use warren_model::{Command, command::IssueToken};
use warren_proto::{
    error::ApiError,
    pb::admin::v1::{self as pb, node_admin_service_server::NodeAdminService},
};

use super::{Api, caller, errors, mutation::Asked, page::Page, resolve};
use crate::hub::control::coordinators;

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
        let paged = page.cut(named, |node| view.node(node, self.parts().live.usage(node.id)));
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
            node: Some(view.node(node, self.parts().live.usage(node.id))),
        }))
    }
}

impl Api {
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
