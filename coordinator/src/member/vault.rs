//! Clients' secrets: sealed values in the keystore, and the command that makes one count.
//!
//! A value is sealed under its vault's key and kept on a majority before the command that names it
//! is proposed, so that what the state names can be read. Versions take two files in turn: the value
//! that counts is never written over by one that may come to nothing. What seals a value is also its
//! id, drawn at random and in the state, so a leader that was overtaken cannot slip its value in
//! under the version of another. What the state does not name is shredded by whoever leads.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use tonic::Code;
use warren_common::{ClientId, ReplicaId, Revision, SecretName};
use warren_daemon::{
    Secret,
    backup::SealedValue,
    sealed::{SealError, SealKey},
};
use warren_model::{
    Applied, ClusterState, Command, Envelope, Outcome, Principal,
    command::{SecretCommand, secret::SetSecret},
    state::{SecretRecord, ValueId, ValueMark, Vault},
};
use warren_proto::{
    error::{ApiError, reason},
    pb::raft::v1 as pb,
};

use super::{Failed, Members, PASSING, PAUSE, TURN, secrets::blocking};
use crate::{
    api::errors,
    keystore::{Keystore, KeystoreError},
    raft::{Led, LedError},
};

/// Begins the names of values in the keystore.
const VALUE: &str = "secret-";
/// Begins the names of the keys that seal them.
const KEY: &str = "vault-key-";
/// Between two looks for values that the state does not name, unless it changes.
const LOOK: Duration = Duration::from_secs(60);
/// The pause before a look that failed is repeated.
const AGAIN: Duration = Duration::from_secs(5);
/// The encoding of a command that is passed on.
const VERSION: u8 = 1;

/// The term in which a secret was proposed that got no answer: until it is known what became of it,
/// no value is written over or shredded.
#[derive(Debug, Default)]
pub(super) struct Doubt(Option<u64>);

/// A secret as it is set.
pub struct Setting {
    /// The command, and who asks; the leader says which version and value it becomes.
    pub envelope: Envelope,
    /// Of the asking person's certificate.
    pub serial: Vec<u8>,
    /// The value.
    pub value: Secret<Vec<u8>>,
}

/// Values of secrets, by name.
type Values = Vec<(SecretName, Secret<Vec<u8>>)>;

/// What a workspace is given.
pub struct Given {
    /// Changes with what is given.
    pub mark: u64,
    /// By name.
    pub values: Values,
}

impl Setting {
    pub(super) fn from_wire(request: pb::SetSecretRequest) -> Result<Self, ApiError> {
        let decoded = match request.envelope.split_first() {
            Some((&VERSION, payload)) => postcard::from_bytes(payload).ok(),
            Some(_) | None => None,
        };
        let unknown = || errors::invalid("envelope", "is not a command this version knows");
        let envelope = decoded.ok_or_else(unknown)?;
        let value = Secret::new(request.value.to_vec());
        Ok(Self { envelope, serial: request.serial.to_vec(), value })
    }

    fn to_wire(&self) -> Result<pb::SetSecretRequest, ApiError> {
        let encoded = postcard::to_extend(&self.envelope, vec![VERSION]);
        let encoded = encoded.map_err(|error| errors::internal("encoding a command", error))?;
        Ok(pb::SetSecretRequest {
            envelope: encoded.into(),
            serial: self.serial.clone().into(),
            value: self.value.expose().clone().into(),
        })
    }

    /// Returns the vault and the name; none where the command is another one.
    fn names(&self) -> Option<(Vault, &SecretName)> {
        match &self.envelope.command {
            Command::Secret(command) => match command.as_ref() {
                SecretCommand::Set(set) => Some((set.vault, &set.name)),
                SecretCommand::Delete(_) => None,
            },
            _ => None,
        }
    }

    /// Tells its value from another one that comes with the same request id.
    fn mark(&self, key: &SealKey) -> ValueMark {
        ValueMark(key.mark(format!("request {}", self.envelope.request).as_bytes(), &self.value))
    }

    /// Returns the command with what it becomes.
    fn becomes(&self, version: u64, value: ValueId, mark: ValueMark) -> Envelope {
        let mut envelope = self.envelope.clone();
        if let Command::Secret(command) = &mut envelope.command
            && let SecretCommand::Set(set) = command.as_mut()
        {
            (set.version, set.value, set.mark) = (version, value, mark);
        }
        envelope
    }
}

impl Members {
    /// Sets a secret, wherever the leader is; returns its version and the revision with it in.
    ///
    /// # Errors
    /// The model refuses it, no majority kept it, or nobody leads.
    pub async fn set_secret(&self, setting: &Setting) -> Result<(u64, Revision), ApiError> {
        let deadline = Instant::now() + PASSING;
        loop {
            let known = self.0.parts.consensus.leadership().borrow().leader;
            let set = match known {
                Some(leader) if leader == self.0.parts.replica => {
                    self.set_secret_here(setting).await
                }
                Some(leader) => self.pass_on(leader, setting, deadline).await,
                None => Err(errors::not_leader(None, &self.state())),
            };
            let error = match set {
                Ok(set) => return Ok(set),
                Err(error) => error,
            };
            let passing = [reason::NOT_LEADER, reason::NO_QUORUM, reason::UNREACHABLE];
            let may_pass = passing.contains(&error.reason.as_ref());
            if !may_pass || Instant::now() >= deadline {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn pass_on(
        &self,
        leader: ReplicaId,
        setting: &Setting,
        deadline: Instant,
    ) -> Result<(u64, Revision), ApiError> {
        let (mut api, request) = (self.peer(leader)?, setting.to_wire()?);
        match tokio::time::timeout_at(deadline, api.set_secret(request)).await {
            Ok(Ok(answer)) => {
                let pb::SetSecretResponse { version, revision } = answer.into_inner();
                Ok((version, Revision(revision)))
            }
            Ok(Err(status)) => Err(Failed::from(status).0),
            Err(_) => {
                let message = format!("coordinator {leader} did not answer in time");
                Err(ApiError::new(Code::Unavailable, reason::OUTCOME_UNKNOWN, message)
                    .next("repeat the call with the same request id; it takes effect once"))
            }
        }
    }

    /// Sets a secret as the leader.
    pub(super) async fn set_secret_here(
        &self,
        setting: &Setting,
    ) -> Result<(u64, Revision), ApiError> {
        let other = || errors::internal("setting a secret", "another command");
        let (vault, name) = setting.names().ok_or_else(other)?;
        let turn = tokio::time::timeout(TURN, self.0.keeping.lock()).await;
        let mut doubt = turn.map_err(|_| busy())?;
        let consensus = &self.0.parts.consensus;
        self.settle_doubt(&mut doubt).await?;
        self.leading().await?;
        let led = consensus.led().ok_or_else(|| errors::not_leader(None, &self.state()))?;
        let state = led.state();
        let last = state.secret(vault, name).map_or(0, |record| record.version);
        let (version, value) = (last.saturating_add(1), random()?);
        let found = self.found_key(state, vault).await?;
        let mark = found.as_ref().map(|key| setting.mark(key)).unwrap_or_default();
        let mut envelope = setting.becomes(version, value, mark);
        // what would be refused, or was done before, is not kept first
        let foreseen = state.clone().apply(&envelope).result.map_err(errors::refusal)?;
        if !foreseen.repeated {
            let key = self.vault_key(&led, vault, found).await?;
            envelope = setting.becomes(version, value, setting.mark(&key));
            let place = place(vault, name, (version, value));
            let sealed = key.seal(place.as_bytes(), &setting.value).map_err(sealing)?;
            let file = file(vault, name, version);
            self.put_secret(&file, Some(Secret::new(sealed)), led.term()).await?;
        }
        let applied = match consensus.propose_led(&led, envelope, &setting.serial).await {
            Ok(answer) => answer.map_err(errors::refusal)?,
            Err(LedError::Over) => return Err(errors::not_leader(None, &self.state())),
            Err(LedError::Propose(error)) => {
                doubt.0 = Some(consensus.leadership().borrow().term);
                return Err(errors::propose(error, &self.state()));
            }
        };
        let Applied { outcome: Outcome::Secret(version), revision, .. } = applied else {
            return Err(errors::internal("setting a secret", "another outcome"));
        };
        Ok((version, revision))
    }

    /// Finds out what became of a command without an answer: once a later one of the same term is
    /// applied, it is too, or never will be. Of an earlier term a linearizable read tells as much.
    async fn settle_doubt(&self, doubt: &mut Doubt) -> Result<(), ApiError> {
        let consensus = &self.0.parts.consensus;
        if doubt.0.is_none() || doubt.0 != Some(consensus.leadership().borrow().term) {
            doubt.0 = None;
            return Ok(());
        }
        let led = consensus.led().ok_or_else(|| errors::not_leader(None, &self.state()))?;
        let name = "none".parse().map_err(|why| errors::internal("naming no secret", why))?;
        // no secret has this version: it is refused wherever it is applied
        let none = SetSecret {
            vault: Vault::Shared,
            name,
            version: 0,
            value: ValueId::default(),
            mark: ValueMark::default(),
            made_for: None,
        };
        let command = Command::Secret(Box::new(SecretCommand::Set(none)));
        let own = Principal::Coordinator(self.0.parts.replica);
        match consensus.propose_led(&led, self.envelope(own, command), &[]).await {
            Ok(_) => doubt.0 = None,
            Err(LedError::Over) => return Err(errors::not_leader(None, &self.state())),
            Err(LedError::Propose(error)) => return Err(errors::propose(error, &self.state())),
        }
        Ok(())
    }

    /// Returns the key of a vault where there is one: what is sealed under a key that is lost would
    /// be lost too.
    async fn found_key(
        &self,
        state: &ClusterState,
        vault: Vault,
    ) -> Result<Option<SealKey>, ApiError> {
        let name = key_file(vault);
        let mut text = self.kept_secret(&name).await?;
        if text.is_none() && self.0.parts.consensus.status().members.len() > 1 {
            self.compare().await;
            text = self.kept_secret(&name).await?;
        }
        match text {
            Some(text) => SealKey::from_text(&text).map(Some).map_err(sealing),
            None if state.secrets.contains_key(&vault) => Err(missing(&name)),
            None => Ok(None),
        }
    }

    /// Returns a key for a vault that a majority has: made with its first secret.
    async fn vault_key(
        &self,
        led: &Led,
        vault: Vault,
        found: Option<SealKey>,
    ) -> Result<SealKey, ApiError> {
        match found {
            Some(key) if led.state().secrets.contains_key(&vault) => Ok(key),
            // one that is there without a secret may be here alone
            found => {
                let key = found.map_or_else(SealKey::random, Ok).map_err(sealing)?;
                self.put_secret(&key_file(vault), Some(key.to_text()), led.term()).await?;
                Ok(key)
            }
        }
    }

    async fn kept_secret(&self, name: &str) -> Result<Option<Secret<String>>, ApiError> {
        let (keystore, name) = (self.keystore().clone(), name.to_owned());
        let get = move || match keystore.get(&name) {
            // as good as none: another coordinator may have a good one
            Err(KeystoreError::Damaged(_)) => Ok(None),
            found => found,
        };
        blocking(get).await
    }

    /// Opens what a client's workspaces get. What this coordinator lacks it takes from the others.
    ///
    /// # Errors
    /// A value is on none of those that answer: never fewer values than the state names.
    pub async fn open_secrets(
        &self,
        state: &ClusterState,
        client: ClientId,
    ) -> Result<Given, ApiError> {
        let mark = state.secrets_mark(client);
        let wanted = state.secrets_for(client).into_iter();
        let wanted: Vec<Wanted> =
            wanted.map(|(name, (vault, record))| (vault, name.clone(), record.clone())).collect();
        let mut compared = false;
        loop {
            let (keystore, named) = (self.keystore().clone(), wanted.clone());
            let opened = blocking(move || Ok(open_all(&keystore, &named))).await?;
            match opened {
                Ok(values) => return Ok(Given { mark, values }),
                Err(error) if compared => return Err(error),
                Err(_) => {
                    self.compare().await;
                    compared = true;
                }
            }
        }
    }

    /// Shreds, for ever and while this coordinator leads, what the state names no more.
    pub async fn keep_shredding(self) {
        let consensus = self.0.parts.consensus.clone();
        let (mut leadership, mut changes) = (consensus.leadership(), consensus.changes());
        loop {
            let leading = leadership.borrow_and_update().leading;
            changes.mark_unchanged();
            let named = consensus.local().secrets;
            let clients = consensus.local().clients;
            let mut pause = LOOK;
            if leading && let Err(error) = self.shred().await {
                tracing::info!(%error, "values that nothing names are not shredded yet");
                pause = AGAIN;
            }
            let differs = async {
                // nearly every change is about something else
                while changes.changed().await.is_ok() {
                    let now = consensus.local();
                    if !(now.secrets.ptr_eq(&named) && now.clients.ptr_eq(&clients)) {
                        return;
                    }
                }
            };
            tokio::select! {
                () = differs => {}
                () = tokio::time::sleep(pause) => {}
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn shred(&self) -> Result<(), ApiError> {
        let mut doubt = self.0.keeping.lock().await;
        self.settle_doubt(&mut doubt).await?;
        let led = *self.0.parts.consensus.leadership().borrow();
        if !led.leading {
            return Ok(());
        }
        // a state of this term or a later one: in a later one nothing is written
        let state = self.leading().await?;
        let keystore = self.keystore().clone();
        let held = blocking(move || keystore.stamps()).await?;
        for (name, _) in held.iter().filter(|(_, stamp)| !stamp.deleted) {
            if is_dead(&state, name) {
                self.put_secret(name, None, led.term).await?;
                tracing::info!(name, "shredded");
            }
        }
        Ok(())
    }
}

type Wanted = (Vault, SecretName, SecretRecord);

fn open_all(keystore: &Keystore, wanted: &[Wanted]) -> Result<Values, ApiError> {
    let get = |name: &str| match keystore.get(name) {
        Ok(found) => found.ok_or_else(|| missing(name)),
        // as good as none: another coordinator may have a good one
        Err(KeystoreError::Damaged(_)) => Err(missing(name)),
        Err(error) => {
            Err(errors::internal("using the keystore", warren_daemon::telemetry::Chain(&error)))
        }
    };
    let mut keys = BTreeMap::new();
    let mut values = Vec::new();
    for (vault, name, record) in wanted {
        if !keys.contains_key(vault) {
            let text = get(&key_file(*vault))?;
            keys.insert(*vault, SealKey::from_text(&text).map_err(sealing)?);
        }
        let file = file(*vault, name, record.version);
        let sealed = get(&file)?;
        let place = place(*vault, name, (record.version, record.value));
        let opened = keys[vault].open(place.as_bytes(), sealed.expose());
        values.push((name.clone(), opened.map_err(|_| missing(&file))?));
    }
    Ok(values)
}

/// Returns every value that the state names, and where it stands in a keystore.
pub fn sealed_values(state: &ClusterState) -> Vec<SealedValue> {
    let named = state.secrets.iter().flat_map(|(vault, secrets)| {
        secrets.iter().map(|(name, record)| SealedValue {
            secret: state.secret_label(*vault, name),
            key: key_file(*vault),
            file: file(*vault, name, record.version),
            place: place(*vault, name, (record.version, record.value)),
        })
    });
    named.collect()
}

/// Whether a file of the keystore is a value or a key that the state does not name.
fn is_dead(state: &ClusterState, name: &str) -> bool {
    if let Some(vault) = name.strip_prefix(KEY) {
        return match read_vault(vault) {
            Some(Vault::Client(client)) => !state.clients.contains_key(&client),
            Some(Vault::Shared) | None => false,
        };
    }
    let Some(rest) = name.strip_prefix(VALUE) else { return false };
    let named = || {
        let (vault, rest) = rest.split_once('-')?;
        let (slot, name) = rest.split_once('-')?;
        let (vault, slot) = (read_vault(vault)?, slot.parse::<u64>().ok()?);
        let record = state.secret(vault, &name.parse().ok()?);
        Some(record.is_some_and(|record| record.version % 2 == slot))
    };
    // what no version of this one wrote is left alone
    named().is_some_and(|named| !named)
}

fn shown(vault: Vault) -> String {
    match vault {
        Vault::Shared => "shared".to_owned(),
        Vault::Client(client) => {
            client.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
        }
    }
}

fn read_vault(text: &str) -> Option<Vault> {
    match text {
        "shared" => Some(Vault::Shared),
        hex => Some(Vault::Client(ClientId::new(uuid::Uuid::try_parse(hex).ok()?))),
    }
}

fn key_file(vault: Vault) -> String {
    format!("{KEY}{}", shown(vault))
}

fn file(vault: Vault, name: &SecretName, version: u64) -> String {
    format!("{VALUE}{}-{}-{name}", shown(vault), version % 2)
}

/// Says what a sealed value belongs to.
fn place(vault: Vault, name: &SecretName, (version, value): (u64, ValueId)) -> String {
    let value: String = value.0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("warren-secret-1 {} {name} {version} {value}", shown(vault))
}

fn random() -> Result<ValueId, ApiError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| errors::internal("drawing a value's id", error))?;
    Ok(ValueId(id))
}

fn sealing(error: SealError) -> ApiError {
    errors::internal("sealing a secret", error)
}

fn busy() -> ApiError {
    let message = "another secret is being set, and takes long";
    ApiError::new(Code::Unavailable, "SECRETS_BUSY", message)
        .next("repeat the call in a moment with the same request id")
}

fn missing(name: &str) -> ApiError {
    let message = format!("the keystore of this coordinator lacks {name}");
    ApiError::new(Code::Unavailable, "SECRET_MISSING", message)
        .why("it could not be taken from another coordinator either")
        .next("start the other coordinators, or set the secret again")
}

#[cfg(test)]
#[path = "vault_tests.rs"]
mod tests;
