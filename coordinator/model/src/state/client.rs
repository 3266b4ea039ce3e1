//! Clients.

use serde::{Deserialize, Serialize};
use warren_common::{
    ClientId, ClientName, Limits, Revision, Timestamp,
    spec::{Labels, validate_labels},
};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{CreateClient, DeleteClient, UpdateClient},
    event::EventKind,
    state::{ClusterState, Vault},
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
    state.allowed.remove(&id);
    state.unreviewed.remove(&id);
    // who deletes a client shreds what it held: the keystore follows the state
    state.secrets.remove(&Vault::Client(id));
    Ok(Change::new("client.delete", Outcome::Client(id))
        .object(&name, &id)
        .event(EventKind::ClientDeleted(id, name)))
}

pub(crate) fn update(
    state: &mut ClusterState,
    context: &Context,
    command: &UpdateClient,
) -> Result<Change, Refusal> {
    let UpdateClient { client: id, set_labels, remove_labels } = command;
    let Some(client) = state.clients.get(id) else {
        return Err(Refusal::new(RefusalCode::NotFound, format!("there is no client {id}")));
    };
    let name = client.name.clone();
    context.unchanged_since(client.revision, || format!("client {name}"))?;
    if let Some(key) = set_labels.keys().find(|key| remove_labels.contains(*key)) {
        let message = format!("label {key} of client {name} cannot be both set and removed");
        return Err(Refusal::new(RefusalCode::InvalidSpec, message));
    }
    let mut labels = client.labels.clone();
    labels.retain(|key, _| !remove_labels.contains(key));
    labels.extend(set_labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    validate_labels("labels", &labels)
        .map_err(|error| Refusal::new(RefusalCode::InvalidSpec, error.to_string()))?;
    if labels == client.labels {
        return Ok(Change::none(Outcome::Client(*id)));
    }
    let detail = difference(&client.labels, &labels);
    let client = Client { labels, revision: context.revision, ..client.clone() };
    state.clients.insert(*id, client);
    Ok(Change::new("client.update", Outcome::Client(*id))
        .object(&name, id)
        .detail(detail)
        .event(EventKind::ClientUpdated(*id, name)))
}

/// Names the keys that differ: "labels set: team; removed: tier". Values can be long.
fn difference(before: &Labels, after: &Labels) -> String {
    let set = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let set: Vec<&str> = set.map(|(key, _)| key.as_str()).collect();
    let removed = before.keys().filter(|key| !after.contains_key(*key));
    let removed: Vec<&str> = removed.map(String::as_str).collect();
    match (set.is_empty(), removed.is_empty()) {
        (_, true) => format!("labels set: {}", set.join(", ")),
        (true, false) => format!("labels removed: {}", removed.join(", ")),
        (false, false) => {
            format!("labels set: {}; removed: {}", set.join(", "), removed.join(", "))
        }
    }
}
