//! Clients.

use serde::{Deserialize, Serialize};
use warren_common::{
    ClientId, ClientName, Limits, Revision, Timestamp,
    spec::{Labels, validate_labels},
};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{CreateClient, DeleteClient},
    event::EventKind,
    state::ClusterState,
};

/// One customer engagement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its id.
    pub id: ClientId,
    /// Its name, unique in the cluster.
    pub name: ClientName,
    /// The operator's labels.
    pub labels: Labels,
    /// When it was made.
    pub created: Timestamp,
    /// The mutation that last changed it.
    pub revision: Revision,
}

pub(crate) fn create(
    state: &mut ClusterState,
    context: &Context,
    command: &CreateClient,
) -> Result<Change, Refusal> {
    let CreateClient { client: id, name, labels } = command;
    if state.client_names.contains_key(name) {
        let message = format!("client {name} already exists");
        return Err(Refusal::new(RefusalCode::NameTaken, message));
    }
    if state.clients.contains_key(id) {
        let message = format!("the id of client {name} is in use");
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    if state.clients.len() >= Limits::CLIENTS {
        let message = format!("the cluster holds {} clients, the limit", Limits::CLIENTS);
        return Err(Refusal::new(RefusalCode::LimitReached, message));
    }
    validate_labels("labels", labels)
        .map_err(|error| Refusal::new(RefusalCode::InvalidSpec, error.to_string()))?;
    let client = Client {
        id: *id,
        name: name.clone(),
        labels: labels.clone(),
        created: context.at,
        revision: context.revision,
    };
    state.clients.insert(*id, client);
    state.client_names.insert(name.clone(), *id);
    Ok(Change::new("client.create", Outcome::Client(*id))
        .object(name, id)
        .event(EventKind::ClientCreated(*id, name.clone())))
}

pub(crate) fn delete(
    state: &mut ClusterState,
    context: &Context,
    command: &DeleteClient,
) -> Result<Change, Refusal> {
    let id = command.client;
    let Some(client) = state.clients.get(&id) else {
        return Err(Refusal::new(RefusalCode::NotFound, format!("there is no client {id}")));
    };
    let name = client.name.clone();
    context.unchanged_since(client.revision, || format!("client {name}"))?;
    let workspaces = state.workspaces_of(id).count();
    if workspaces > 0 {
        let some = state.workspaces_of(id).take(3).map(|one| one.name.to_string());
        let some = some.collect::<Vec<_>>().join(", ");
        let more = if workspaces > 3 { ", …" } else { "" };
        let noun = if workspaces == 1 { "workspace" } else { "workspaces" };
        let message = format!("client {name} still has {workspaces} {noun}: {some}{more}");
        return Err(Refusal::new(RefusalCode::ClientNotEmpty, message));
    }
    state.clients.remove(&id);
    state.client_names.remove(&name);
    Ok(Change::new("client.delete", Outcome::Client(id))
        .object(&name, &id)
        .event(EventKind::ClientDeleted(id, name)))
}
