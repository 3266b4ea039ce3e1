//! `SecretService`: what vaults hold, without the values; and the values, for nodes alone.

use tonic::{Code, Request, Response, Status};
use warren_common::{Limits, NodeId, SecretName, WorkspaceId, WorkspaceName};
use warren_daemon::Secret;
use warren_model::{
    ClusterState, Command, Principal,
    command::{
        SecretCommand,
        secret::{DeleteSecret, SetSecret},
    },
    state::{Desired, SecretRecord, ValueId, ValueMark, Vault},
};
use warren_proto::{
    error::{ApiError, reason},
    pb::{
        admin::v1::{self as pb, secret_service_server::SecretService},
        node::v1 as node_pb,
    },
};

use super::{
    Api, caller, due::may_know_people, errors, mutation::Asked, page::Page, resolve, view::count,
};
use crate::{authz::Caller, member::Setting};

#[tonic::async_trait]
impl SecretService for Api {
    async fn set_secret(
        &self,
        request: Request<pb::SetSecretRequest>,
    ) -> Result<Response<pb::SetSecretResponse>, Status> {
        let people = may_know_people(Caller::of(&request)?.role());
        let who = caller(&request)?;
        let request = request.into_inner();
        let value = Secret::new(request.value.to_vec());
        let asked = Asked::read(who, request.mutation)?;
        let name = named(&request.name)?;
        let (bytes, limit) = (value.expose().len(), Limits::SECRET_BYTES);
        if bytes == 0 || bytes > limit {
            let why = format!("has {bytes} bytes, a secret has 1 to {limit}");
            return Err(errors::invalid("value", why).into());
        }
        one_vault(&request.client, request.shared)?;
        let made_for = made_for(&request.made_for, request.shared)?;
        let vault = self.vault(&asked, &request.client).await?;
        // the leader says which version, value and mark it becomes
        let (value_id, mark) = (ValueId::default(), ValueMark::default());
        let set =
            SetSecret { vault, name: name.clone(), version: 0, value: value_id, mark, made_for };
        let command = Command::Secret(Box::new(SecretCommand::Set(set)));
        let serial = asked.serial.clone();
        let setting = Setting { envelope: asked.envelope(command), serial, value };
        let (_, revision) = self.parts().members.set_secret(&setting).await?;
        // the leader has it; this coordinator may be a moment behind
        let behind = self.parts().consensus.reaches(revision).await;
        behind.map_err(|error| errors::read(error, &self.local().state))?;
        let state = self.local().state;
        let record = state.secret(vault, &name);
        Ok(Response::new(pb::SetSecretResponse {
            secret: record.map(|record| show(&state, (vault, &name, record), people)),
            revision: revision.0,
        }))
    }

    async fn list_secrets(
        &self,
        request: Request<pb::ListSecretsRequest>,
    ) -> Result<Response<pb::ListSecretsResponse>, Status> {
        let people = may_know_people(Caller::of(&request)?.role());
        let request = request.into_inner();
        let page = Page::read(request.page_size, &request.page_token)?;
        let moment = self.read_for(request.read).await?;
        let only = match (request.shared, request.client.as_str()) {
            (true, "") => Some(Vault::Shared),
            (true, _) => {
                return Err(errors::invalid("shared", "and client exclude each other").into());
            }
            (false, "") => None,
            (false, client) => Some(Vault::Client(resolve::client(&moment.state, client)?.id)),
        };
        let vaults =
            moment.state.secrets.iter().filter(|(vault, _)| only.is_none_or(|one| one == **vault));
        let mut all: Vec<_> = vaults
            .flat_map(|(vault, secrets)| {
                let client = client_of(&moment.state, *vault);
                let key = move |name: &SecretName| format!("{client}/{name}");
                secrets.iter().map(move |(name, record)| (key(name), (*vault, name, record)))
            })
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        let paged = page.cut(all.into_iter(), |one| show(&moment.state, one, people));
        Ok(Response::new(pb::ListSecretsResponse {
            freshness: Some(moment.freshness()),
            secrets: paged.items,
            next_page_token: paged.next,
        }))
    }

    async fn delete_secret(
        &self,
        request: Request<pb::DeleteSecretRequest>,
    ) -> Result<Response<pb::DeleteSecretResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(who, request.mutation)?;
        one_vault(&request.client, request.shared)?;
        let name = named(&request.name)?;
        let command = |state: &ClusterState| {
            let vault = match request.client.as_str() {
                "" => Vault::Shared,
                client => Vault::Client(resolve::client(state, client)?.id),
            };
            let delete = DeleteSecret { vault, name: name.clone() };
            Ok(Command::Secret(Box::new(SecretCommand::Delete(delete))))
        };
        let revision = match self.mutate_named(&asked, command).await {
            Ok(applied) => applied.revision.0,
            Err(error) if self.is_done(&asked, &error) => self.local().state.revision.0,
            Err(error) => return Err(error.into()),
        };
        Ok(Response::new(pb::DeleteSecretResponse { revision }))
    }
}

/// Refuses a call that names no vault or two: a client's name that is empty by mistake must not give
/// a secret to every client.
fn one_vault(client: &str, shared: bool) -> Result<(), ApiError> {
    match (client, shared) {
        ("", false) => Err(errors::invalid("client", "is empty")
            .next("name a client, or the shared vault by `shared`")),
        ("", true) | (_, false) => Ok(()),
        (_, true) => Err(errors::invalid("shared", "and client exclude each other")),
    }
}

impl Api {
    async fn vault(&self, asked: &Asked, client: &str) -> Result<Vault, ApiError> {
        if client.is_empty() {
            return Ok(Vault::Shared);
        }
        let local = self.local().state;
        // a name that is unknown here may have been made a moment ago
        let found = match resolve::client(&local, client) {
            Ok(found) if self.took_effect(asked) => Ok(found.id),
            Ok(_) | Err(_) => {
                let moment = self.read().await?;
                resolve::client(&moment.state, client).map(|found| found.id)
            }
        };
        found.map(Vault::Client)
    }

    /// Gives a node the secrets of a workspace that it holds now, at the generation it names: both
    /// are looked up in a state that holds everything acknowledged before the call.
    pub(super) async fn secrets_of(
        &self,
        node: NodeId,
        request: node_pb::FetchSecretsRequest,
    ) -> Result<node_pb::FetchSecretsResponse, ApiError> {
        let workspace = request.workspace_id.parse::<WorkspaceId>();
        let workspace = workspace.map_err(|why| errors::invalid("workspace_id", why))?;
        let moment = self.read().await?;
        let state = &moment.state;
        let held = state.workspaces.get(&workspace).filter(|one| {
            let assignment = one.assignment.as_ref();
            let here = assignment.is_some_and(|assigned| {
                assigned.node == node && assigned.generation.0 == request.generation
            });
            here && one.desired != Desired::Deleted
        });
        // whether there is such a workspace elsewhere is none of the node's business
        let held = held.ok_or_else(|| not_held(&request.workspace_id))?;
        let given = self.parts().members.open_secrets(state, held.client).await?;
        let value = |(name, value): (SecretName, Secret<Vec<u8>>)| node_pb::SecretValue {
            name: name.into(),
            value: value.expose().clone().into(),
        };
        Ok(node_pb::FetchSecretsResponse {
            secrets: given.mark,
            values: given.values.into_iter().map(value).collect(),
        })
    }
}

fn not_held(workspace: &str) -> ApiError {
    let workspace: String = workspace.chars().take(Limits::NAME_BYTES).collect();
    let message = format!("the node does not hold workspace {workspace} at this generation");
    ApiError::new(Code::PermissionDenied, reason::NOT_PERMITTED, message)
        .why("a node gets the secrets of the workspaces that are assigned to it, and of no others")
}

fn made_for(name: &str, shared: bool) -> Result<Option<WorkspaceName>, ApiError> {
    match name {
        "" => Ok(None),
        _ if shared => Err(errors::invalid("made_for", "and shared exclude each other")),
        name => name.parse().map(Some).map_err(|why| errors::invalid("made_for", why)),
    }
}

fn named(text: &str) -> Result<SecretName, ApiError> {
    text.parse().map_err(|why| errors::invalid("name", why))
}

fn client_of(state: &ClusterState, vault: Vault) -> String {
    match vault {
        Vault::Shared => String::new(),
        Vault::Client(id) => {
            state.clients.get(&id).map_or_else(|| id.to_string(), |one| one.name.to_string())
        }
    }
}

/// Shows a secret: what it is called and who gets it, and nothing that was made from its value.
fn show(
    state: &ClusterState,
    (vault, name, record): (Vault, &SecretName, &SecretRecord),
    people: bool,
) -> pb::Secret {
    let mut total = 0;
    let mut workspaces = Vec::new();
    let getting = state.workspaces.values().filter(|one| match vault {
        // a client's own secret of this name goes before the shared one
        Vault::Shared => state.secret(Vault::Client(one.client), name).is_none(),
        Vault::Client(client) => one.client == client,
    });
    for workspace in getting {
        total += 1;
        if workspaces.len() < Limits::PAGE {
            workspaces.push(state.workspace_label(workspace.id));
        }
    }
    workspaces.sort();
    pb::Secret {
        client: client_of(state, vault),
        name: name.to_string(),
        version: record.version,
        by: match &record.by {
            Principal::Person(name) if people => name.clone(),
            Principal::Person(_) | Principal::Node(_) | Principal::Coordinator(_) => String::new(),
        },
        at_unix_ms: record.at.0,
        workspaces,
        workspace_count: count(total),
        revision: record.revision.0,
        made_for: record.made_for.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_one_vault() {
        assert!(one_vault("acme", false).is_ok() && one_vault("", true).is_ok());
        assert!(one_vault("", false).is_err() && one_vault("acme", true).is_err());
    }
}
