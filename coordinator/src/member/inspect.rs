//! What a coordinator finds when it looks at itself: log, disk, keystore. Nobody else is asked, so
//! it answers without a quorum too.

use std::{path::Path, time::Duration};

use warren_daemon::{clock, identity::Authority};
use warren_proto::{error::ApiError, pb::admin::v1 as pb};

use super::Members;
use crate::{
    api::errors,
    audit::AuditError,
    ca::secret_of,
    keystore::Keystore,
    measure::probe::contents,
    raft::{ReplicaRole, Status},
};

/// For the newest audit record; whoever asks gives the whole answer longer.
const LOOK: Duration = Duration::from_secs(2);

/// What takes a look at the disk.
struct Disk {
    log: u64,
    checkpoints: u64,
    audit: u64,
    free: u64,
    all: u64,
    /// When the newest checkpoint was written.
    checkpoint_unix_ms: u64,
    missing_secrets: Vec<String>,
    keystore_digest: Vec<u8>,
}

impl Members {
    /// Looks at this coordinator; certificates are the caller's to add.
    ///
    /// # Errors
    /// Its disk or its keystore cannot be looked at.
    pub async fn inspect(&self) -> Result<pb::InspectCoordinatorResponse, ApiError> {
        let parts = &self.0.parts;
        let (keystore, folder) = (parts.keystore.clone(), parts.state_dir.clone());
        let looked = tokio::task::spawn_blocking(move || look(&keystore, &folder)).await;
        let looking = |why: &dyn std::fmt::Display| errors::internal("looking at the disk", why);
        let disk = looked.map_err(|why| looking(&why))?.map_err(|why| looking(&why))?;
        let (status, state) = (parts.consensus.status(), self.state());
        let cluster = state.cluster.as_ref();
        let (audit_trouble, audit_unseen) = self.newest_record().await;
        let without = parts.consensus.without_quorum();
        let known = |id: &u64| state.replicas.keys().any(|replica| replica.0 == *id);
        let members = status.members.iter().map(|member| member.replica.0);
        Ok(pb::InspectCoordinatorResponse {
            replica_id: parts.replica.0,
            cluster_id: cluster.map(|cluster| cluster.id.to_string()).unwrap_or_default(),
            cluster_name: cluster.map(|cluster| cluster.name.clone()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now_unix_ms: clock::now().0,
            role: role(&status).into(),
            term: status.term,
            leader_replica_id: status.leader.map_or(0, |leader| leader.0),
            without_quorum_ms: without
                .map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
            storage_trouble: status.failure.clone().unwrap_or_default(),
            engine: parts.engine.clone(),
            log_entries: between(status.purged, status.last_log),
            since_checkpoint_entries: between(status.checkpoint, status.applied),
            checkpoint_every_entries: parts.consensus.checkpoint_every(),
            checkpoint_unix_ms: disk.checkpoint_unix_ms,
            log_bytes: disk.log,
            checkpoint_bytes: disk.checkpoints,
            audit_bytes: disk.audit,
            disk_free_bytes: disk.free,
            disk_bytes: disk.all,
            missing_secrets: disk.missing_secrets,
            keystore_digest: disk.keystore_digest.into(),
            audit_sequence: state.audit.sequence,
            audit_trouble,
            audit_unseen,
            leaving_replica_ids: members.filter(|id| !known(id)).collect(),
            certificates: Vec::new(),
            certificate_holders: 0,
            people_told: false,
            coordinator_holders: 0,
        })
    }

    /// Looks for the newest audit record of the state on the disk; says what is wrong with it, and
    /// why it was not looked for.
    async fn newest_record(&self) -> (String, String) {
        let consensus = &self.0.parts.consensus;
        let looking = consensus.newest_audit(self.state().audit);
        match tokio::time::timeout(LOOK, looking).await {
            Ok(Ok(trouble)) => (trouble.unwrap_or_default(), String::new()),
            Ok(Err(AuditError::Busy)) => (String::new(), "another look is under way".to_owned()),
            Ok(Err(error)) => (error.to_string(), String::new()),
            Err(_) => (String::new(), format!("not read within {} s", LOOK.as_secs())),
        }
    }
}

fn look(keystore: &Keystore, folder: &Path) -> Result<Disk, String> {
    let volume = rustix::fs::statvfs(folder).map_err(|error| error.to_string())?;
    let (checkpoints, newest) = contents(&folder.join("checkpoints"));
    let newest = newest.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let bad = |name: &String| !matches!(keystore.get(name), Ok(Some(_)));
    let digest = keystore.digest().map_err(|error| error.to_string())?;
    Ok(Disk {
        log: contents(&folder.join("log")).0,
        checkpoints,
        audit: contents(&folder.join("audit")).0,
        free: volume.f_bavail.saturating_mul(volume.f_frsize),
        all: volume.f_blocks.saturating_mul(volume.f_frsize),
        checkpoint_unix_ms: newest
            .map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX)),
        missing_secrets: Authority::ALL.map(secret_of).into_iter().filter(bad).collect(),
        keystore_digest: digest.to_vec(),
    })
}

/// Returns how many entries follow `from`, up to `upto`.
fn between(from: Option<u64>, upto: Option<u64>) -> u64 {
    let end = |index: Option<u64>| index.map_or(0, |index| index.saturating_add(1));
    end(upto).saturating_sub(end(from))
}

/// What this replica does, as far as it knows.
fn role(status: &Status) -> pb::ReplicaRole {
    let voter = status.members.iter().any(|one| one.replica == status.replica && one.voter);
    match (status.role, voter) {
        (ReplicaRole::Leader, _) => pb::ReplicaRole::Leader,
        (ReplicaRole::Stopped, _) => pb::ReplicaRole::Unspecified,
        (_, true) => pb::ReplicaRole::Voter,
        (_, false) => pb::ReplicaRole::Learner,
    }
}
