//! The fake coordinator's secrets: it keeps the values, so that a test can look for them.

use tonic::{Request, Response, Status};
use warren_proto::{
    Method,
    pb::admin::v1::{self as pb, secret_service_server::SecretService},
};

use super::{
    data::NOW,
    fake::{Fake, REVISION, missing, page},
};

#[tonic::async_trait]
impl SecretService for Fake {
    async fn set_secret(
        &self,
        request: Request<pb::SetSecretRequest>,
    ) -> Result<Response<pb::SetSecretResponse>, Status> {
        let mut state = self.enter(Method::SecretSetSecret)?;
        let request = request.into_inner();
        let known = |one: &pb::Secret| one.client == request.client && one.name == request.name;
        let version = state.secrets.iter().find(|one| known(one)).map_or(1, |one| one.version + 1);
        state.secrets.retain(|one| !known(one));
        let workspaces = match request.client.as_str() {
            "acme" => vec!["acme/web".to_owned()],
            _ => Vec::new(),
        };
        let secret = pb::Secret {
            client: request.client,
            name: request.name,
            version,
            by: "ada".to_owned(),
            at_unix_ms: NOW - 90_000,
            workspace_count: workspaces.len().try_into().unwrap_or_default(),
            workspaces,
            revision: REVISION,
            made_for: request.made_for,
        };
        state.secrets.push(secret.clone());
        state.values.push(request.value.to_vec());
        Ok(Response::new(pb::SetSecretResponse { secret: Some(secret), revision: REVISION }))
    }

    async fn list_secrets(
        &self,
        request: Request<pb::ListSecretsRequest>,
    ) -> Result<Response<pb::ListSecretsResponse>, Status> {
        let request = request.into_inner();
        let (state, freshness) = self.read(Method::SecretListSecrets, request.read)?;
        let wanted = |one: &&pb::Secret| match (request.shared, request.client.as_str()) {
            (true, _) => one.client.is_empty(),
            (false, "") => true,
            (false, client) => one.client == client,
        };
        let all: Vec<_> = state.secrets.iter().filter(wanted).cloned().collect();
        let (secrets, next_page_token) = page(&all, state.page, &request.page_token);
        Ok(Response::new(pb::ListSecretsResponse { freshness, secrets, next_page_token }))
    }

    async fn delete_secret(
        &self,
        request: Request<pb::DeleteSecretRequest>,
    ) -> Result<Response<pb::DeleteSecretResponse>, Status> {
        let mut state = self.enter(Method::SecretDeleteSecret)?;
        let request = request.into_inner();
        let before = state.secrets.len();
        state.secrets.retain(|one| one.client != request.client || one.name != request.name);
        match state.secrets.len() == before {
            true => Err(missing("secret", &request.name)),
            false => Ok(Response::new(pb::DeleteSecretResponse { revision: REVISION })),
        }
    }
}
