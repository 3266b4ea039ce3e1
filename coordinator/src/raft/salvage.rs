//! Salvage: what a survivor's files give, with its whole log taken as committed.
//!
//! For a replica that goes on alone after the majority is lost for good. An entry that stands in
//! its log may have been acknowledged to somebody without the survivor having heard of it, so every
//! one counts; one that never was is an outcome somebody was told is unknown.

use std::{collections::BTreeSet, path::Path};

use openraft::EntryPayload;
use warren_common::ReplicaId;
use warren_model::{AuditHead, ClusterState};

use super::{
    checkpoint::{Checkpoints, Loaded},
    error::OpenError,
    open,
    types::{Entry, LogId, Vote, decode},
};
use crate::{
    audit::AuditLog,
    store::{Engine, LogStore, Slot},
};

/// Bytes of log read at one time.
const PIECE: usize = 4 * 1024 * 1024;

/// What was found.
pub struct Salvaged {
    /// Whose files they are.
    pub replica: Option<ReplicaId>,
    /// The state with every entry of the log applied.
    pub state: ClusterState,
    /// The highest term anywhere in the files.
    pub term: u64,
    /// The last entry.
    pub index: u64,
    /// Every replica that the files name.
    pub replicas: BTreeSet<u64>,
}

/// Reads the files of a replica that is stopped, and writes the audit records that its log gives.
/// Blocks.
///
/// # Errors
/// The files are damaged, or in use.
pub fn salvage(folder: &Path, engine: Engine) -> Result<Salvaged, OpenError> {
    let store = open::store(folder, engine)?;
    let found = read(folder, store.as_ref());
    let closed = store.close().map_err(OpenError::Store);
    found.and_then(|found| closed.map(|()| found))
}

fn read(folder: &Path, store: &dyn LogStore) -> Result<Salvaged, OpenError> {
    let broken = |error: &dyn std::fmt::Display| OpenError::Replay(error.to_string());
    let slot = |slot| store.get(slot).map_err(OpenError::Store);
    let purged: Option<LogId> = match slot(Slot::Purged)? {
        Some(value) => Some(decode(&value).map_err(|error| broken(&error))?),
        None => None,
    };
    let vote: Option<Vote> = match slot(Slot::Vote)? {
        Some(value) => Some(decode(&value).map_err(|error| broken(&error))?),
        None => None,
    };
    let own = slot(Slot::Replica)?;
    let replica = own.and_then(|id| id.first_chunk().map(|id| ReplicaId(u64::from_be_bytes(*id))));
    let (_, loaded) = Checkpoints::open(&folder.join("checkpoints"), purged)?;
    let head = loaded.as_ref().map_or(AuditHead::default(), |loaded: &Loaded| loaded.state.audit);
    let mut audit = AuditLog::open(&open::audit_folder(folder), head).map_err(OpenError::Audit)?;
    let mut found = Salvaged {
        replica,
        state: ClusterState::default(),
        term: vote.map_or(0, |vote| vote.leader_id.term),
        index: 0,
        replicas: replica.into_iter().map(|id| id.0).collect(),
    };
    let mut next = 0;
    if let Some(Loaded { meta, state }) = loaded {
        found.state = state;
        let position = meta.last_log_id.or(purged);
        next = position.map_or(0, |position| position.index.saturating_add(1));
        found.reach(position);
        found.replicas.extend(meta.last_membership.nodes().map(|(id, _)| *id));
    }
    let Some((first, last)) = store.bounds().map_err(OpenError::Store)? else { return Ok(found) };
    if first > next {
        let reason = format!("entry {next} is missing: the log begins with {first}");
        return Err(broken(&reason));
    }
    while next <= last {
        let records = store.read_range(next, last.saturating_add(1), PIECE);
        let records = records.map_err(OpenError::Store)?;
        let mut sealed = Vec::new();
        for (index, value) in &records {
            if *index != next {
                return Err(broken(&format!("entry {next} is missing")));
            }
            let entry: Entry = decode(value).map_err(|error| broken(&error))?;
            found.reach(Some(entry.log_id));
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(proposal) => {
                    sealed.extend(found.state.apply(&proposal.0).audit);
                }
                EntryPayload::Membership(members) => {
                    found.replicas.extend(members.nodes().map(|(id, _)| *id));
                }
            }
            next = next.saturating_add(1);
        }
        if records.is_empty() {
            return Err(broken(&format!("entry {next} is missing")));
        }
        audit.append(&sealed).map_err(OpenError::Audit)?;
    }
    audit.syncer().sync().map_err(OpenError::Audit)?;
    Ok(found)
}

impl Salvaged {
    fn reach(&mut self, position: Option<LogId>) {
        if let Some(position) = position {
            self.index = self.index.max(position.index);
            self.term = self.term.max(position.leader_id.term);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{raft::types::encode, store::fake::FakeStore};

    #[test]
    fn a_log_that_begins_after_what_is_known_is_not_salvaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = FakeStore::default();
        let blank = |index| {
            let leader_id = openraft::impls::leader_id_adv::LeaderId { term: 1, node_id: 1 };
            let entry = Entry { log_id: LogId { leader_id, index }, payload: EntryPayload::Blank };
            (index, encode(&entry).expect("it encodes").into())
        };
        store.append(&[blank(1), blank(2)]).expect("appended");
        let refused = read(folder.path(), &store).err().expect("entry 0 is lost").to_string();
        assert!(refused.contains("entry 0 is missing"), "{refused}");
        store.append(&[blank(0)]).expect("appended");
        assert_eq!(read(folder.path(), &store).expect("whole").index, 2);
    }
}
