//! Reading audit records back, and checking a whole folder of them.

use std::path::Path;

use warren_model::{AuditHead, AuditRecord};

use super::{AuditError, segment, writer::check_anchor};

/// Records that are missing here because this replica took a checkpoint instead of the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first one missing.
    pub from: u64,
    /// The last one missing.
    pub upto: u64,
}

/// What checking all records found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many records there are.
    pub records: u64,
    /// The end of the chain.
    pub head: AuditHead,
    /// What is missing, oldest first.
    pub gaps: Vec<Gap>,
}

/// Returns up to `limit` records from number `from` on, in order; fewer where there are no more.
/// Blocks. A record that is being written is left out.
pub fn read(folder: &Path, from: u64, limit: usize) -> Result<Vec<AuditRecord>, AuditError> {
    let names = segment::list(folder)?;
    let start = names.partition_point(|name| name.first <= from).saturating_sub(1);
    let mut found = Vec::new();
    for name in &names[start..] {
        let records = segment::load(&name.path)?.records;
        found.extend(records.into_iter().filter(|record| record.sequence >= from));
        if found.len() >= limit {
            found.truncate(limit);
            break;
        }
    }
    Ok(found)
}

/// Checks every record of every segment: sealed, in order, none missing but for stated gaps. Blocks.
pub fn verify(folder: &Path) -> Result<Verified, AuditError> {
    let mut verified = Verified { records: 0, head: AuditHead::default(), gaps: Vec::new() };
    let names = segment::list(folder)?;
    for (at, name) in names.iter().enumerate() {
        let segment = segment::load(&name.path)?;
        check_anchor(&name.path, Some(verified.head), segment.after)?;
        if segment.after.sequence > verified.head.sequence {
            let from = verified.head.sequence + 1;
            verified.gaps.push(Gap { from, upto: segment.after.sequence });
        }
        if let Some((line, reason)) = segment.bad
            && at + 1 < names.len()
        {
            return Err(AuditError::Damaged { path: name.path.clone(), line, reason });
        }
        verified.records += segment.records.len() as u64;
        verified.head = segment.end;
    }
    Ok(verified)
}
