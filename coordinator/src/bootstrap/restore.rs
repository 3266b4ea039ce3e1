//! `cluster restore`: making a cluster again from a backup, in a state folder that holds none.
//!
//! In this order: what is being restored (so that only the same file goes on), the keystore, the
//! seeded log, the intent, and then as at every start: the new incarnation, before anybody is
//! served. Killed at any line, the same call finishes it.

use std::{io::Cursor, path::Path};

use serde::{Deserialize, Serialize};
use tonic::{Code, Streaming};
use tracing::{info, warn};
use warren_common::{Limits, ReplicaId};
use warren_daemon::{
    Secret,
    backup::{BackupError, BackupKey},
    clock,
    files::{self, FileError},
    identity::{PeerIdentity, Role},
    telemetry::Chain,
};
use warren_proto::{error::ApiError, pb::admin::v1 as pb};

use super::{Begin, Founder, Intent, IntentError, asked, given_address, told};
use crate::{
    api::{cluster::show_recovery, errors},
    backup::{self, CopyError, Opened},
    hub::control::coordinators,
    keystore::{Keystore, KeystoreError},
    raft::{Seed, SeedError, seed},
    store::Engine,
};

const FILE: &str = "restoring.json";
/// What stands in a state folder that holds a cluster, or did.
const TAKEN: [&str; 4] = ["log", "log-seal", "checkpoints", "audit"];

/// A restore under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    backup: String,
    incarnation: u32,
    replica: ReplicaId,
}

/// Why a backup cannot be restored here.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is a cluster.
    #[error("this coordinator belongs to cluster {0} already")]
    Taken(String),
    /// There is something of one.
    #[error("the state folder {0} is not empty: it holds {1}")]
    NotEmpty(String, String),
    /// Another backup's restore was begun.
    #[error("the restore of another backup was begun in {0} and has not ended")]
    Another(String),
    /// It is not the cluster that was named.
    #[error("the backup is of cluster {found}, not of {wanted}")]
    OtherCluster {
        /// Whose it is.
        found: String,
        /// What was named.
        wanted: String,
    },
    /// The file.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A file of the state folder.
    #[error("preparing the state folder")]
    Folder(#[source] FileError),
    /// The record of the restore is damaged.
    #[error("{FILE} in the state folder is damaged: {0}")]
    Damaged(String),
    /// The keystore.
    #[error("writing the keystore")]
    Keystore(#[source] KeystoreError),
    /// The log.
    #[error("seeding the log")]
    Seed(#[source] SeedError),
    /// The intent.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// The coordinator is stopping.
    #[error("the coordinator is stopping")]
    Stopping,
}

/// Whether a restore was begun in this folder.
pub(super) fn begun(state_dir: &Path) -> bool {
    state_dir.join(FILE).exists()
}

/// Removes what a finished restore left, and says where one was not finished.
pub(super) fn tidy(state_dir: &Path) {
    if !begun(state_dir) {
        return;
    }
    match Intent::load(state_dir) {
        Ok(Some(_)) => {
            if let Err(error) = files::remove_optional(&state_dir.join(FILE)) {
                warn!(error = %Chain(&error), "the record of a finished restore stays");
            }
        }
        Ok(None) => warn!("a restore was begun and has not ended: repeat it with the same file"),
        // whoever needs the intent will say so
        Err(_) => {}
    }
}

/// Takes the file of a restore in; it stays sealed until all of it is here.
pub(super) async fn receive(
    mut pieces: Streaming<pb::RestoreRequest>,
) -> Result<(pb::RestoreBegin, Vec<u8>), ApiError> {
    let limit = Limits::BACKUP_BYTES + Limits::BACKUP_BYTES / 8;
    let (mut begin, mut file) = (None, Vec::new());
    loop {
        let next = tokio::time::timeout(Limits::CALL_TIMEOUT, pieces.message()).await;
        let next = next.map_err(|_| errors::invalid("chunk", "it did not come in time"))?;
        let next = next.map_err(|status| errors::invalid("chunk", status.message()))?;
        let Some(piece) = next else { break };
        if begin.is_none() {
            begin = piece.begin;
        }
        if file.len() + piece.chunk.len() > limit {
            return Err(errors::invalid("chunk", "the file is larger than any backup"));
        }
        file.extend_from_slice(&piece.chunk);
    }
    begin.map(|begin| (begin, file)).ok_or_else(|| errors::invalid("begin", "is missing"))
}

/// Reads the key of a backup.
pub(crate) fn key(bytes: &[u8]) -> Result<BackupKey, ApiError> {
    let key: Result<[u8; 32], _> = bytes.try_into();
    key.map(Secret::new).map_err(|_| errors::invalid("key", "a key has 32 bytes"))
}

impl Founder {
    /// Restores the cluster in `file`, or finds it restored, and answers with a fresh
    /// administrator's certificate.
    pub(super) async fn restored(
        &self,
        begin: pb::RestoreBegin,
        file: Vec<u8>,
    ) -> Result<pb::RestoreResponse, ApiError> {
        let (csr, name) = asked(&begin.csr_pem, &begin.admin_name)?;
        let api_address = given_address(begin.api_address)?;
        let key = key(&begin.key)?;
        // held all through: no `init` may come in between
        let mut stage = self.0.stage.lock().await;
        let opening =
            tokio::task::spawn_blocking(move || Opened::read(&mut Cursor::new(file), key));
        let opened =
            opening.await.map_err(|error| errors::internal("opening the backup", error))?;
        let opened = opened.map_err(|error| refused(error.into()))?;
        let wanted = Some(begin.cluster_name).filter(|name| !name.is_empty());
        if let Some(wanted) = wanted.filter(|wanted| *wanted != opened.header.name) {
            let found = opened.header.name;
            return Err(refused(RestoreError::OtherCluster { found, wanted }));
        }
        if let Err(lost) = backup::check(&opened.state, &opened.content.secrets) {
            // what else is in it is worth having: nodes are told SECRET_MISSING of this one
            warn!(secret = lost, "the backup lacks the newest value of a secret: set it again");
        }
        let (intent, restored) = self.write(opened, api_address).await.map_err(refused)?;
        let found = self.bring_up(&mut stage, &intent).await.map_err(told)?;
        drop(stage);
        let identity = PeerIdentity::Person { role: Role::Admin, name };
        let issued = super::admit(&found, &csr, &identity).await?;
        let state = found.consensus.local();
        Ok(pb::RestoreResponse {
            cluster_id: found.ca.cluster().to_string(),
            cluster_name: intent.name,
            incarnation: intent.incarnation,
            replica_id: intent.replica.0,
            certificate_pem: issued.chain_pem,
            trust_pem: found.ca.coordinator_trust().to_owned(),
            coordinators: coordinators(&state),
            recovery: show_recovery(&state),
            restored,
        })
    }

    /// Writes everything of the restored cluster, or finds it written; true where it wrote.
    async fn write(
        &self,
        opened: Opened,
        api_address: Option<String>,
    ) -> Result<(Intent, bool), RestoreError> {
        let folder = self.state_dir().to_owned();
        let backup = format!("{}-{}", opened.header.taken.0, opened.header.nonce);
        if let Some(intent) = Intent::load(&folder)? {
            let same = intent.begin.as_ref().and_then(|begin| begin.backup.as_ref());
            return match same == Some(&backup) {
                true => Ok((intent, false)),
                false => Err(RestoreError::Taken(intent.name)),
            };
        }
        let pending = pending(&folder, &backup, &opened)?;
        let taken = chrono(opened.header.taken.0);
        let born = (opened.header.name.clone(), pending.incarnation);
        let intent = Intent {
            api_address,
            begin: Some(Begin {
                reason: format!("restored from the backup of {taken}"),
                backup: Some(backup),
            }),
            ..Intent::new(opened.cluster(), born, pending.replica)
        };
        let address = self.addresses(&intent).raft_address;
        let (writing, engine) = (intent.clone(), self.config().engine);
        let written = tokio::task::spawn_blocking(move || {
            keep((&folder, engine), opened, &writing, address)?;
            writing.store(&folder)?;
            files::remove_optional(&folder.join(FILE)).map_err(RestoreError::Folder)
        });
        written.await.map_err(|_| RestoreError::Stopping)??;
        info!(cluster = intent.name, incarnation = intent.incarnation, "restored from a backup");
        Ok((intent, true))
    }
}

/// Finds the record of this restore, or makes it in a folder that holds nothing else.
fn pending(folder: &Path, backup: &str, opened: &Opened) -> Result<Pending, RestoreError> {
    let path = folder.join(FILE);
    let shown = || folder.display().to_string();
    if let Some(text) = files::read_optional(&path).map_err(RestoreError::Folder)? {
        let found: Result<Pending, _> = serde_json::from_str(&text);
        let found = found.map_err(|error| RestoreError::Damaged(error.to_string()))?;
        return match found.backup == backup {
            true => Ok(found),
            false => Err(RestoreError::Another(shown())),
        };
    }
    if let Some(taken) = TAKEN.iter().find(|name| folder.join(name).exists()) {
        return Err(RestoreError::NotEmpty(shown(), (*taken).to_owned()));
    }
    let keystore = Keystore::open(&folder.join("keys")).map_err(RestoreError::Keystore)?;
    if !keystore.names().map_err(RestoreError::Keystore)?.is_empty() {
        return Err(RestoreError::NotEmpty(shown(), "keys".to_owned()));
    }
    let now = u32::try_from(clock::now().0 / 1000).unwrap_or(u32::MAX);
    let made = Pending {
        backup: backup.to_owned(),
        incarnation: opened.header.incarnation.saturating_add(1).max(now),
        replica: opened.next_replica(),
    };
    let text = serde_json::to_vec(&made);
    let text = text.map_err(|error| RestoreError::Damaged(error.to_string()))?;
    files::write_atomic(&path, &text, 0o600).map_err(RestoreError::Folder)?;
    Ok(made)
}

/// Writes keystore and log; each can be repeated. Blocks.
fn keep(
    (folder, engine): (&Path, Engine),
    opened: Opened,
    intent: &Intent,
    address: String,
) -> Result<(), RestoreError> {
    let keystore = Keystore::open(&folder.join("keys")).map_err(RestoreError::Keystore)?;
    for (name, secret) in &opened.content.secrets {
        keystore.put(name, secret).map_err(RestoreError::Keystore)?;
    }
    let seeding = Seed {
        folder: folder.to_owned(),
        engine,
        replica: intent.replica,
        address,
        term: opened.header.term.saturating_add(1),
        index: opened.header.index.saturating_add(1),
        state: opened.state,
    };
    seed(&seeding).map_err(RestoreError::Seed)
}

/// `2026-11-24 15:00:07 UTC` of a time in milliseconds, by the civil calendar.
fn chrono(millis: u64) -> String {
    let (days, seconds) = (millis / 86_400_000, millis / 1000 % 86_400);
    // Howard Hinnant's days-to-civil, for days since 1970
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let turned = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * turned + 2) / 5 + 1, (turned + 2) % 12 + 1);
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

fn refused(error: RestoreError) -> ApiError {
    let conflict = |reason| ApiError::new(Code::FailedPrecondition, reason, &error);
    match &error {
        RestoreError::Taken(_) => ApiError::new(Code::AlreadyExists, "ALREADY_INITIALISED", &error)
            .next("restore on a machine or in a state folder that holds no cluster"),
        RestoreError::NotEmpty(..) => conflict("STATE_NOT_EMPTY")
            .next("stop the coordinator, move the state folder aside, start it and repeat"),
        RestoreError::Another(_) => conflict("RESTORE_BEGUN")
            .next("repeat that one, or stop the coordinator and move the state folder aside"),
        RestoreError::OtherCluster { .. } => conflict("OTHER_CLUSTER"),
        RestoreError::Copy(CopyError::File(BackupError::WrongKey)) => {
            ApiError::new(Code::InvalidArgument, "WRONG_PASSPHRASE", &error)
        }
        RestoreError::Copy(_) => ApiError::new(Code::InvalidArgument, "BACKUP_DAMAGED", &error)
            .next("warren cluster verify-backup tells more; take another copy of the file"),
        RestoreError::Folder(_)
        | RestoreError::Damaged(_)
        | RestoreError::Keystore(_)
        | RestoreError::Seed(_)
        | RestoreError::Intent(_)
        | RestoreError::Stopping => {
            let cause = Chain(&error).to_string();
            errors::internal("restoring the cluster", &cause).why(cause)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_the_calendar() {
        assert_eq!(chrono(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(chrono(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(chrono(1_795_446_007_000), "2026-11-23 15:00:07 UTC");
        assert_eq!(chrono(4_102_444_799_000), "2099-12-31 23:59:59 UTC");
    }
}
