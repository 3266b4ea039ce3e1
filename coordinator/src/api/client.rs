//! `ClientService`: customer engagements.

use std::collections::BTreeSet;

use tonic::{Request, Response, Status};
use warren_common::{
    ClientId, ClientName, Limits,
    spec::{Destination, Labels},
};
use warren_model::{
    Applied, ClusterState, Command, Outcome,
    command::{ChangeAllowed, CreateClient, DeleteClient, UpdateClient},
};
use warren_proto::{
    ApiError,
    pb::admin::v1::{self as pb, client_service_server::ClientService},
};

use super::{Api, caller, errors, mutation::Asked, page::Page, resolve};

/// No client's name: it would read like the shared vault.
const RESERVED: &str = "shared";

#[tonic::async_trait]
impl ClientService for Api {
    async fn create_client(
        &self,
        request: Request<pb::CreateClientRequest>,
    ) -> Result<Response<pb::CreateClientResponse>, Status> {
        let principal = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(principal, request.mutation)?;
        let name: ClientName = request.name.parse().map_err(|why| errors::invalid("name", why))?;
        if name.as_str() == RESERVED {
            // here and not in the model: what was logged before there were vaults still counts
            let why = format!("{RESERVED:?} is what the vault of all clients is called");
            return Err(errors::invalid("name", why).next("give another name").into());
        }
        let client = ClientId::new(uuid::Uuid::now_v7());
        let labels = request.labels.into_iter().collect();
        let command = Command::CreateClient(CreateClient { client, name, labels });
        let applied = self.mutate(&asked, command).await?;
        let revision = applied.revision.0;
        let Outcome::Client(id) = applied.outcome else {
            return Err(errors::internal("making a client", "another outcome").into());
        };
        let moment = self.local();
        // made, and perhaps removed again before this answer or the repeat of a lost one
        let client = moment.state.clients.get(&id).map(|client| moment.view().client(client));
        Ok(Response::new(pb::CreateClientResponse { client, revision }))
    }

    async fn list_clients(
        &self,
        request: Request<pb::ListClientsRequest>,
    ) -> Result<Response<pb::ListClientsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(request.page_size, &request.page_token)?;
        let moment = self.read_for(request.read).await?;
        let view = moment.view();
        let named = moment.state.client_names.iter();
        let named =
            named.filter_map(|(name, id)| Some((name.to_string(), moment.state.clients.get(id)?)));
        let paged = page.cut(named, |client| view.client(client));
        Ok(Response::new(pb::ListClientsResponse {
            freshness: Some(moment.freshness()),
            clients: paged.items,
            next_page_token: paged.next,
        }))
    }

    async fn get_client(
        &self,
        request: Request<pb::GetClientRequest>,
    ) -> Result<Response<pb::GetClientResponse>, Status> {
        let pb::GetClientRequest { client, read } = request.into_inner();
        let moment = self.read_for(read).await?;
        let view = moment.view();
        let client = resolve::client(&moment.state, &client)?;
        Ok(Response::new(pb::GetClientResponse {
            freshness: Some(moment.freshness()),
            client: Some(view.client(client)),
        }))
    }

    async fn delete_client(
        &self,
        request: Request<pb::DeleteClientRequest>,
    ) -> Result<Response<pb::DeleteClientResponse>, Status> {
        let principal = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(principal, request.mutation)?;
        let command = |state: &ClusterState| {
            let client = resolve::client(state, &request.client)?.id;
            Ok(Command::DeleteClient(DeleteClient { client }))
        };
        let revision = match self.mutate_named(&asked, command).await {
            Ok(applied) => applied.revision.0,
            Err(error) if self.is_done(&asked, &error) => self.local().state.revision.0,
            Err(error) => return Err(error.into()),
        };
        Ok(Response::new(pb::DeleteClientResponse { revision }))
    }

    async fn update_client(
        &self,
        request: Request<pb::UpdateClientRequest>,
    ) -> Result<Response<pb::UpdateClientResponse>, Status> {
        let principal = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(principal, request.mutation)?;
        if request.set_labels.is_empty() && request.remove_labels.is_empty() {
            return Err(errors::invalid("set_labels", "and remove_labels are both empty").into());
        }
        let set_labels: Labels = request.set_labels.into_iter().collect();
        let remove_labels: BTreeSet<String> = request.remove_labels.into_iter().collect();
        let command = |state: &ClusterState| {
            let client = resolve::client(state, &request.client)?.id;
            let (set_labels, remove_labels) = (set_labels.clone(), remove_labels.clone());
            Ok(Command::UpdateClient(UpdateClient { client, set_labels, remove_labels }))
        };
        let (id, revision) = match self.mutate_named(&asked, command).await {
            Ok(Applied { outcome: Outcome::Client(id), revision, .. }) => (Some(id), revision.0),
            Ok(_) => return Err(errors::internal("labelling a client", "another outcome").into()),
            Err(error) if self.is_done(&asked, &error) => (None, self.local().state.revision.0),
            Err(error) => return Err(error.into()),
        };
        let moment = self.local();
        let client = id.and_then(|id| moment.state.clients.get(&id));
        let client = client.map(|client| moment.view().client(client));
        Ok(Response::new(pb::UpdateClientResponse { client, revision }))
    }

    async fn change_allowed(
        &self,
        request: Request<pb::ChangeAllowedRequest>,
    ) -> Result<Response<pb::ChangeAllowedResponse>, Status> {
        let principal = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(principal, request.mutation)?;
        let allow = destinations("allow", &request.allow)?;
        let disallow = destinations("disallow", &request.disallow)?;
        let command = |state: &ClusterState| {
            let client = resolve::client(state, &request.client)?.id;
            let (allow, disallow) = (allow.clone(), disallow.clone());
            Ok(Command::ChangeAllowed(ChangeAllowed { client, allow, disallow }))
        };
        let (id, revision) = match self.mutate_named(&asked, command).await {
            Ok(Applied { outcome: Outcome::Client(id), revision, .. }) => (Some(id), revision.0),
            Ok(_) => return Err(errors::internal("allowing", "another outcome").into()),
            Err(error) if self.is_done(&asked, &error) => (None, self.local().state.revision.0),
            Err(error) => return Err(error.into()),
        };
        let moment = self.local();
        let client = id.and_then(|id| moment.state.clients.get(&id));
        let client = client.map(|client| moment.view().client(client));
        Ok(Response::new(pb::ChangeAllowedResponse { client, revision }))
    }
}

fn destinations(field: &str, texts: &[String]) -> Result<BTreeSet<Destination>, ApiError> {
    let most = Limits::ALLOWED;
    if texts.len() > most {
        return Err(errors::invalid(field, format!("names more than {most} destinations")));
    }
    texts.iter().map(|text| text.parse().map_err(|why| errors::invalid(field, why))).collect()
}
