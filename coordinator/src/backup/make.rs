//! Making a backup: state and keystore, sealed piece by piece.

use std::collections::BTreeMap;

use bytes::Bytes;
use warren_common::{Limits, Timestamp};
use warren_daemon::{
    Secret,
    backup::{BackupError, BackupKey, Content, Header, Kdf, Manifest, Sealer},
};
use warren_model::{ClusterState, command::Availability};

use super::{CopyError, last_replica};
use crate::{
    keystore::{Keystore, KeystoreError},
    member::sealed_values,
    raft::{Status, encode_state},
};

/// What to back up, and how to seal it.
pub struct Order {
    /// The state, as of the call.
    pub state: ClusterState,
    /// Where the log stands.
    pub status: Status,
    /// What [`gather`] made of it.
    pub content: Content,
    /// The key the file is sealed with.
    pub key: BackupKey,
    /// How the person made it.
    pub kdf: Kdf,
    /// The present.
    pub taken: Timestamp,
}

/// Hands the file out in pieces of at most [`Limits::CHECKPOINT_CHUNK_BYTES`]. Blocks.
///
/// # Errors
/// The state holds no cluster, or `sink` says that nobody listens.
pub fn seal_into(
    order: Order,
    mut sink: impl FnMut(Bytes) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let Order { state, status, content, key, kdf, taken } = order;
    let cluster = state.cluster.as_ref();
    let cluster = cluster.ok_or_else(|| CopyError::Content("holds no cluster".to_owned()))?;
    kdf.check()?;
    let header = Header {
        cluster: cluster.id,
        name: cluster.name.clone(),
        incarnation: cluster.incarnation,
        revision: state.revision.0,
        term: status.term,
        index: status.applied.or(status.committed).unwrap_or_default().max(state.revision.0),
        last_replica: last_replica(&state)
            .max(status.members.iter().map(|member| member.replica.0).max().unwrap_or_default()),
        taken,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kdf,
        nonce: String::new(),
        key_check: String::new(),
    };
    let (mut piece, mut sealer) = Sealer::begin(header, &key)?;
    let mut sunk = Ok(());
    let encoded = content.encode(|plain| {
        for plain in plain.chunks(Limits::CHECKPOINT_CHUNK_BYTES / 2) {
            piece.extend(sealer.push(plain)?);
            if piece.len() >= Limits::CHECKPOINT_CHUNK_BYTES / 2 && sunk.is_ok() {
                sunk = sink(std::mem::take(&mut piece).into());
            }
            if sunk.is_err() {
                return Err(BackupError::Seal);
            }
        }
        Ok(())
    });
    sunk?;
    encoded?;
    piece.extend(sealer.finish()?);
    sink(piece.into())
}

/// Reads what goes into the file: the state, and the keystore as it is now. Blocks.
///
/// # Errors
/// The keystore cannot be read, the state is too large, or a value that the state names is not
/// here: the keystore is then behind the state, or already ahead of it.
pub fn gather(state: &ClusterState, keystore: &Keystore) -> Result<Content, CopyError> {
    let mut content = Content {
        manifest: Manifest {
            clients: state.clients.len() as u64,
            nodes: state
                .nodes
                .values()
                .filter(|node| node.availability != Availability::Retired)
                .count() as u64,
            workspaces: state.workspaces.len() as u64,
            audit_sequence: state.audit.sequence,
            audit_hash: state.audit.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            sealed: sealed_values(state),
        },
        state: encode_state(state).map_err(CopyError::State)?.to_vec(),
        ..Content::default()
    };
    for name in keystore.names().map_err(CopyError::Keystore)? {
        match keystore.get(&name) {
            Ok(Some(secret)) => drop(content.secrets.insert(name, secret)),
            Ok(None) => {}
            // a damaged value that is named is missed below; nothing else would miss an authority
            Err(KeystoreError::Damaged(_))
                if name.starts_with("secret-") || name.starts_with("vault-key-") => {}
            Err(error) => return Err(CopyError::Keystore(error)),
        }
    }
    check(state, &content.secrets).map_err(CopyError::Lacks)?;
    Ok(content)
}

/// Checks that every value which the state names is among `secrets` and opens; otherwise names the
/// first secret that has lost its own.
///
/// # Errors
/// See above.
pub fn check(
    state: &ClusterState,
    secrets: &BTreeMap<String, Secret<String>>,
) -> Result<(), String> {
    match sealed_values(state).into_iter().find(|one| !one.is_in(secrets)) {
        Some(lost) => Err(lost.secret),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use warren_common::{Revision, SecretName};
    use warren_daemon::sealed::SealKey;
    use warren_model::{
        Principal,
        state::{SecretRecord, ValueId, Vault},
    };

    use super::*;

    #[test]
    fn a_damaged_authority_makes_no_backup_and_a_dead_value_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let keystore = Keystore::open(folder.path()).expect("opened");
        let damage = |name: &str| {
            keystore.put(name, &Secret::new("good".to_owned())).expect("kept");
            let path = folder.path().join(format!("{name}.secret"));
            let text = std::fs::read_to_string(&path).expect("there").replace("good", "goof");
            std::fs::write(&path, text).expect("written");
        };
        damage("secret-shared-0-x");
        let made = gather(&ClusterState::default(), &keystore).expect("nothing names it");
        assert!(made.secrets.is_empty());
        damage("node-authority");
        let refused = gather(&ClusterState::default(), &keystore).err().expect("refused");
        assert!(matches!(refused, CopyError::Keystore(KeystoreError::Damaged(_))), "{refused}");
    }

    #[test]
    fn a_keystore_that_lacks_the_newest_values_makes_no_backup() {
        let folder = tempfile::tempdir().expect("a folder");
        let keystore = Keystore::open(folder.path()).expect("opened");
        let mut state = ClusterState::default();
        gather(&state, &keystore).expect("there is nothing to lack");
        let record = |version, value| SecretRecord {
            version,
            value: ValueId([value; 16]),
            by: Principal::Person("ann".to_owned()),
            at: Timestamp(1),
            made_for: None,
            revision: Revision(1),
        };
        let name: SecretName = "tool".parse().expect("a name");
        let mut name_it = |version, value| {
            let secrets = [(name.clone(), record(version, value))];
            state.secrets.insert(Vault::Shared, std::sync::Arc::new(secrets.into()));
            let listed = sealed_values(&state);
            (state.clone(), listed.into_iter().next().expect("one value"))
        };
        let (first, place) = name_it(1, 7);
        let lacks = |state: &ClusterState| match gather(state, &keystore) {
            Err(CopyError::Lacks(name)) => name == "(shared)/tool",
            Ok(_) | Err(_) => false,
        };
        assert!(lacks(&first));
        let key = SealKey::random().expect("a key");
        keystore.put(&place.key, &key.to_text()).expect("kept");
        let value = key.seal(place.place.as_bytes(), &Secret::new(b"canary".to_vec()));
        keystore.put(&place.file, &Secret::new(value.expect("sealed"))).expect("kept");
        let made = gather(&first, &keystore).expect("it has all");
        assert_eq!(made.manifest.sealed, [place]);
        made.check().expect("and the file says so");
        let (second, _) = name_it(2, 8);
        assert!(lacks(&second), "the newest is not here");
        let (overtaken, _) = name_it(3, 9);
        assert!(lacks(&overtaken), "an older value stands in its place");
    }
}
