//! Secrets, without their values: what vaults hold, and which value of each is the newest.
//!
//! The values stand in the coordinators' keystore, sealed, and never in a command, a checkpoint or
//! an answer.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use warren_common::{
    ClientId, Limits, Revision, SecretName, SessionName, Timestamp, WorkspaceName,
    spec::{WorkspaceSpec, names_file},
};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{
        Principal, SecretCommand,
        secret::{DeleteSecret, SetSecret},
    },
    state::{ClusterState, SessionRecord, Workspace},
};

/// Where a secret belongs: a workspace gets exactly the shared vault and its client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Vault {
    /// Every client's workspaces get it.
    Shared,
    /// Only this client's do.
    Client(ClientId),
}

/// Which value of a secret: drawn at random for each, and part of what seals it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueId(pub [u8; 16]);

/// Made of a value and a request's id with a key that is no part of any state: the same for the same
/// value in the same request, and of no use without the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueMark(pub [u8; 16]);

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// Counts its values from 1.
    pub version: u64,
    /// Which value is the newest.
    pub value: ValueId,
    /// Who set the newest.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
    /// The workspace with which it was set, and with which it goes.
    pub made_for: Option<WorkspaceName>,
    /// The mutation that last changed it.
    pub revision: Revision,
}

/// The secrets of one vault.
pub type Secrets = BTreeMap<SecretName, SecretRecord>;

impl ClusterState {
    /// Returns a secret of a vault.
    pub fn secret(&self, vault: Vault, name: &SecretName) -> Option<&SecretRecord> {
        self.secrets.get(&vault)?.get(name)
    }

    /// Returns `client/name` or `(shared)/name`, which no client's name can be.
    pub fn secret_label(&self, vault: Vault, name: &SecretName) -> String {
        match vault {
            Vault::Shared => format!("(shared)/{name}"),
            Vault::Client(id) => match self.clients.get(&id) {
                Some(client) => format!("{}/{name}", client.name),
                None => format!("{id}/{name}"),
            },
        }
    }

    /// Returns what a workspace of this client gets: of two secrets with one name its client's goes
    /// before the shared one.
    pub fn secrets_for(&self, client: ClientId) -> BTreeMap<&SecretName, (Vault, &SecretRecord)> {
        let vaults = [Vault::Shared, Vault::Client(client)];
        let held = vaults.into_iter().filter_map(|vault| Some((vault, self.secrets.get(&vault)?)));
        held.flat_map(|(vault, secrets)| {
            secrets.iter().map(move |(name, record)| (name, (vault, record)))
        })
        .collect()
    }

    /// Returns a number that changes with what a workspace of this client gets; zero where that is
    /// nothing.
    pub fn secrets_mark(&self, client: ClientId) -> u64 {
        let secrets = self.secrets_for(client);
        if secrets.is_empty() {
            return 0;
        }
        let mut hash = Sha256::new();
        for (name, (_, record)) in secrets {
            hash.update((name.as_str().len() as u64).to_be_bytes());
            hash.update(name.as_str());
            hash.update(record.value.0);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(first).max(1)
    }
}

pub(crate) fn command(
    state: &mut ClusterState,
    context: &Context,
    (command, by): (&SecretCommand, &Principal),
) -> Result<Change, Refusal> {
    match command {
        SecretCommand::Set(set) => self::set(state, context, (set, by)),
        SecretCommand::Delete(delete) => self::delete(state, context, delete),
    }
}

fn set(
    state: &mut ClusterState,
    context: &Context,
    (command, by): (&SetSecret, &Principal),
) -> Result<Change, Refusal> {
    let SetSecret { vault, name, version, value, mark: _, made_for } = command;
    let address = address(state, *vault, name)?;
    let known = state.secret(*vault, name);
    let last = known.map_or(0, |known| known.version);
    if let Some(known) = known {
        context.unchanged_since(known.revision, || format!("secret {address}"))?;
    } else {
        room(state, *vault)?;
    }
    if last.checked_add(1) != Some(*version) {
        let message = format!("secret {address} was set by somebody else meanwhile");
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    let record = SecretRecord {
        version: *version,
        value: *value,
        by: by.clone(),
        at: context.at,
        // another value of it belongs where the first did
        made_for: made_for.clone().or_else(|| known.and_then(|known| known.made_for.clone())),
        revision: context.revision,
    };
    let mut secrets = state.secrets.get(vault).cloned().unwrap_or_default();
    Arc::make_mut(&mut secrets).insert(name.clone(), record);
    state.secrets.insert(*vault, secrets);
    Ok(Change::new("secret.set", Outcome::Secret(*version))
        .object(&address, &version)
        .detail(format!("version {version}")))
}

fn delete(
    state: &mut ClusterState,
    context: &Context,
    command: &DeleteSecret,
) -> Result<Change, Refusal> {
    let DeleteSecret { vault, name } = command;
    let address = address(state, *vault, name)?;
    let Some(known) = state.secret(*vault, name) else {
        return Err(Refusal::new(RefusalCode::NotFound, format!("there is no secret {address}")));
    };
    let version = known.version;
    context.unchanged_since(known.revision, || format!("secret {address}"))?;
    let mut secrets = state.secrets.get(vault).cloned().unwrap_or_default();
    Arc::make_mut(&mut secrets).remove(name);
    keep(state, *vault, secrets);
    Ok(Change::new("secret.delete", Outcome::Secret(version)).object(&address, &version))
}

/// Takes away the secrets that were made for a workspace which is gone with its sessions, and those
/// made for one before it which it was the last to use; what another workspace of the client names
/// stays. Returns their names.
pub(crate) fn leave(
    state: &mut ClusterState,
    gone: &Workspace,
    sessions: &BTreeMap<SessionName, SessionRecord>,
) -> Vec<SecretName> {
    let spec = gone.spec.whole();
    take_away(state, gone.client, |of, secret| match of {
        Owner::There(name) | Owner::Gone(name) if *name == gone.name => true,
        Owner::Gone(_) => {
            spec.names_secret(secret) || sessions.values().any(|record| reads(record, secret))
        }
        Owner::There(_) => false,
    })
}

/// The same for sessions that people made and that are gone or others now: of workspaces that are gone
/// they may have been the last to read a secret.
pub(crate) fn leave_with<'a>(
    state: &mut ClusterState,
    client: ClientId,
    before: impl Iterator<Item = &'a SessionRecord> + Clone,
) -> Vec<SecretName> {
    take_away(state, client, |of, secret| match of {
        Owner::Gone(_) => before.clone().any(|record| reads(record, secret)),
        Owner::There(_) => false,
    })
}

/// The same for what a workspace was made of before it became another.
pub(crate) fn leave_spec(
    state: &mut ClusterState,
    client: ClientId,
    before: &WorkspaceSpec,
) -> Vec<SecretName> {
    take_away(state, client, |of, secret| match of {
        Owner::Gone(_) => before.names_secret(secret),
        Owner::There(_) => false,
    })
}

/// The workspace that a secret was made for.
#[derive(Debug, Clone, Copy)]
enum Owner<'a> {
    There(&'a WorkspaceName),
    Gone(&'a WorkspaceName),
}

/// Takes away the secrets that go, but for those that any workspace of the client names.
fn take_away(
    state: &mut ClusterState,
    client: ClientId,
    goes: impl Fn(Owner<'_>, &SecretName) -> bool,
) -> Vec<SecretName> {
    let vault = Vault::Client(client);
    let Some(secrets) = state.secrets.get(&vault).cloned() else { return Vec::new() };
    let made = secrets.iter().filter(|(secret, record)| {
        record.made_for.as_ref().is_some_and(|name| {
            let is_there = state.workspace_names.contains(&(client, name.clone()));
            goes(if is_there { Owner::There(name) } else { Owner::Gone(name) }, secret)
        })
    });
    let mut made: Vec<SecretName> = made.map(|(secret, _)| secret.clone()).collect();
    if made.is_empty() {
        return made;
    }
    for other in state.workspaces_of(client) {
        let spec = other.spec.whole();
        made.retain(|secret| !spec.names_secret(secret));
        for record in state.sessions.get(&other.id).into_iter().flat_map(|all| all.values()) {
            made.retain(|secret| !reads(record, secret));
        }
    }
    let mut left = secrets;
    for secret in &made {
        Arc::make_mut(&mut left).remove(secret);
    }
    keep(state, vault, left);
    made
}

/// Whether a session that people made names the file of a secret, in what it runs or in what it is told;
/// of those of the spec it is known.
fn reads(record: &SessionRecord, secret: &SecretName) -> bool {
    record.made.as_ref().is_some_and(|made| {
        let program = &made.program;
        names_file(&program.command, secret) || names_file(&program.prompt, secret)
    })
}

/// Says on the record which secrets went, where any did, behind what is told there.
pub(crate) fn told(change: Change, secrets: &[SecretName]) -> Change {
    if secrets.is_empty() {
        return change;
    }
    let names: Vec<&str> = secrets.iter().map(SecretName::as_str).collect();
    change.and(&format!("with its secrets {}", names.join(", ")))
}

/// An empty vault is none.
fn keep(state: &mut ClusterState, vault: Vault, secrets: Arc<Secrets>) {
    match secrets.is_empty() {
        true => drop(state.secrets.remove(&vault)),
        false => drop(state.secrets.insert(vault, secrets)),
    }
}

fn address(state: &ClusterState, vault: Vault, name: &SecretName) -> Result<String, Refusal> {
    match vault {
        Vault::Client(client) if !state.clients.contains_key(&client) => {
            Err(Refusal::new(RefusalCode::NotFound, format!("there is no client {client}")))
        }
        Vault::Client(_) | Vault::Shared => Ok(state.secret_label(vault, name)),
    }
}

fn room(state: &ClusterState, vault: Vault) -> Result<(), Refusal> {
    let full = |what: &str, limit: usize| {
        let message = format!("{what} holds {limit} secrets, the limit");
        Err(Refusal::new(RefusalCode::LimitReached, message))
    };
    if state.secrets.get(&vault).is_some_and(|held| held.len() >= Limits::SECRETS_PER_VAULT) {
        return full("the vault", Limits::SECRETS_PER_VAULT);
    }
    if state.secrets.values().map(|held| held.len()).sum::<usize>() >= Limits::SECRETS {
        return full("the cluster", Limits::SECRETS);
    }
    Ok(())
}
