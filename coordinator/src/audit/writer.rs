//! The one writer of a replica's audit records.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use warren_common::Limits;
use warren_model::{
    AuditHead, AuditRecord,
    audit::{BrokenChain, Hash},
};

use super::{
    AuditError, row,
    segment::{self, Fault, SegmentName},
};
use crate::store::{StoreError, files};

/// How many of the newest segments are checked at each start; [`super::verify`] checks them all.
const CHECKED_SEGMENTS: usize = 4;

/// Appends the records that applying the log gives, each once.
pub struct AuditLog {
    folder: PathBuf,
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    /// The newest record on disk.
    last: AuditHead,
    /// Records on disk that the replay has not come to yet.
    ahead: BTreeMap<u64, Hash>,
}

/// Makes the records written so far durable, from any thread.
#[derive(Clone)]
pub struct AuditSync {
    file: Arc<File>,
    path: PathBuf,
}

impl AuditSync {
    /// Returns once they are; blocks.
    pub fn sync(&self) -> Result<(), AuditError> {
        let synced = self.file.sync_data();
        synced.map_err(|e| AuditError::Store(StoreError::io("syncing", &self.path, e)))
    }
}

impl AuditLog {
    /// Opens the records in `folder` for a state whose chain ends at `head`: checks the newest
    /// segments, cuts a torn end, and states a gap where the records end before `head`. Blocks.
    pub fn open(folder: &Path, head: AuditHead) -> Result<Self, AuditError> {
        files::make_dir(folder).map_err(AuditError::Store)?;
        let names = segment::list(folder)?;
        let Some(newest) = names.last() else { return Self::begin(folder, head) };
        let mut end: Option<AuditHead> = None;
        let mut ahead = BTreeMap::new();
        let mut bytes = 0;
        for (at, name) in names.iter().enumerate().skip(first_checked(&names, head)) {
            let found = segment::load(&name.path)?;
            check_anchor(&name.path, end, found.after)?;
            check_head(&found, head)?;
            if let Some(Fault { line, reason, .. }) = found.bad {
                // Only the end can be torn, and only records that will be replayed may be cut.
                if at + 1 < names.len() || found.end.sequence < head.sequence {
                    let path = name.path.clone();
                    return Err(AuditError::Damaged { path, line, reason });
                }
                tracing::info!(path = %name.path.display(), line, "cut a torn audit record");
                segment::cut(&name.path, found.good_bytes)?;
            }
            bytes = found.good_bytes;
            end = Some(found.end);
            let later = found.records.iter().filter(|record| record.sequence > head.sequence);
            ahead.extend(later.map(|record| (record.sequence, record.hash)));
        }
        let (last, path) = (end.unwrap_or_default(), newest.path.clone());
        let file = Arc::new(append_to(&path)?);
        let mut log = Self { folder: folder.to_owned(), path, file, bytes, last, ahead };
        log.resume(head)?;
        Ok(log)
    }

    /// Appends records in the order of the log. One that is on disk already is compared; one that
    /// does not follow is an error. After any error the log must not be written again.
    pub fn append(&mut self, records: &[AuditRecord]) -> Result<(), AuditError> {
        let mut lines = Vec::new();
        for record in records {
            if record.sequence <= self.last.sequence {
                self.compare(record)?;
                continue;
            }
            self.check_follows(record)?;
            row::write(record, &mut lines)
                .map_err(|error| AuditError::Failed(format!("encoding a record: {error}")))?;
            self.last = AuditHead { sequence: record.sequence, hash: record.hash };
            if self.bytes + lines.len() as u64 >= Limits::AUDIT_SEGMENT_BYTES {
                self.write(&std::mem::take(&mut lines))?;
                self.rotate()?;
            }
        }
        self.write(&lines)
    }

    /// Goes on after `head`, which a checkpoint says: where the records on disk end before it, the
    /// gap is stated by a new segment.
    pub fn resume(&mut self, head: AuditHead) -> Result<(), AuditError> {
        if self.last.sequence < head.sequence {
            tracing::warn!(
                missing_from = self.last.sequence + 1,
                missing_upto = head.sequence,
                "this replica has no audit records of the entries it took as a checkpoint"
            );
            self.sync()?;
            *self = Self::begin(&self.folder, head)?;
        } else if self.last.sequence == head.sequence && self.last.hash != head.hash {
            return Err(AuditError::Diverged { sequence: head.sequence });
        }
        self.ahead.retain(|sequence, _| *sequence > head.sequence);
        Ok(())
    }

    /// Returns the newest record on disk.
    pub fn last(&self) -> AuditHead {
        self.last
    }

    /// Returns what makes the records written so far durable.
    pub fn syncer(&self) -> AuditSync {
        // Earlier segments were synced when they were left.
        AuditSync { file: self.file.clone(), path: self.path.clone() }
    }

    fn sync(&self) -> Result<(), AuditError> {
        self.syncer().sync()
    }

    /// Starts the segment after `head`.
    fn begin(folder: &Path, head: AuditHead) -> Result<Self, AuditError> {
        let path = segment::path(folder, head.sequence.saturating_add(1));
        let header = row::header(head)
            .map_err(|error| AuditError::Failed(format!("encoding a header: {error}")))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files::replace(folder, &name, &header).map_err(AuditError::Store)?;
        Ok(Self {
            folder: folder.to_owned(),
            file: Arc::new(append_to(&path)?),
            path,
            bytes: header.len() as u64,
            last: head,
            ahead: BTreeMap::new(),
        })
    }

    fn rotate(&mut self) -> Result<(), AuditError> {
        self.sync()?;
        let ahead = std::mem::take(&mut self.ahead);
        *self = Self { ahead, ..Self::begin(&self.folder, self.last)? };
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), AuditError> {
        if lines.is_empty() {
            return Ok(());
        }
        let written = (&*self.file).write_all(lines);
        written.map_err(|e| AuditError::Store(StoreError::io("writing", &self.path, e)))?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    fn compare(&mut self, record: &AuditRecord) -> Result<(), AuditError> {
        match self.ahead.remove(&record.sequence) {
            Some(hash) if hash == record.hash => Ok(()),
            Some(_) | None => Err(AuditError::Diverged { sequence: record.sequence }),
        }
    }

    fn check_follows(&self, record: &AuditRecord) -> Result<(), AuditError> {
        let expected = self.last.sequence.saturating_add(1);
        let broken = if record.sequence != expected {
            BrokenChain::Sequence { expected, found: record.sequence }
        } else if record.previous_hash != self.last.hash {
            BrokenChain::Link(record.sequence)
        } else {
            return Ok(());
        };
        Err(AuditError::Broken { path: self.path.clone(), broken })
    }
}

/// Returns which segment to check first: among the newest few, and not after the one with `head`.
fn first_checked(names: &[SegmentName], head: AuditHead) -> usize {
    let with_head = names.partition_point(|name| name.first <= head.sequence).saturating_sub(1);
    names.len().saturating_sub(CHECKED_SEGMENTS).min(with_head)
}

/// Checks that a segment goes on where the one before it ended, or later (a stated gap).
pub(super) fn check_anchor(
    path: &Path,
    end: Option<AuditHead>,
    after: AuditHead,
) -> Result<(), AuditError> {
    match end {
        Some(end)
            if after.sequence < end.sequence
                || (after.sequence == end.sequence && after != end) =>
        {
            let broken = BrokenChain::Link(after.sequence.saturating_add(1));
            Err(AuditError::Broken { path: path.to_owned(), broken })
        }
        Some(_) | None => Ok(()),
    }
}

/// Checks that the record the state ends with is the one on disk.
fn check_head(segment: &segment::Segment, head: AuditHead) -> Result<(), AuditError> {
    let found = if segment.after.sequence == head.sequence {
        Some(segment.after.hash)
    } else {
        let record = segment.records.iter().find(|record| record.sequence == head.sequence);
        record.map(|record| record.hash)
    };
    match found {
        Some(hash) if hash != head.hash => Err(AuditError::Diverged { sequence: head.sequence }),
        Some(_) | None => Ok(()),
    }
}

fn append_to(path: &Path) -> Result<File, AuditError> {
    let opened = OpenOptions::new().append(true).open(path);
    opened.map_err(|e| AuditError::Store(StoreError::io("opening", path, e)))
}
