//! One line of a segment: a record with its hashes in hex, or the head it begins after.

use serde::{Deserialize, Serialize};
use warren_common::{RequestId, Revision, Timestamp};
use warren_model::{AuditHead, AuditObject, AuditRecord, Principal};

/// A record as it is written: fields in the order in which they are sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    sequence: u64,
    at: Timestamp,
    principal: Principal,
    request: RequestId,
    revision: Revision,
    action: String,
    object: AuditObject,
    detail: String,
    previous_hash: String,
    hash: String,
}

/// The first line of a segment.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    warren_audit: u8,
    after_sequence: u64,
    after_hash: String,
}

const VERSION: u8 = 1;

/// Adds a record as one line.
pub(super) fn write(record: &AuditRecord, lines: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let row = Row {
        sequence: record.sequence,
        at: record.at,
        principal: record.principal.clone(),
        request: record.request,
        revision: record.revision,
        action: record.action.clone(),
        object: record.object.clone(),
        detail: record.detail.clone(),
        previous_hash: hex(&record.previous_hash),
        hash: hex(&record.hash),
    };
    serde_json::to_writer(&mut *lines, &row)?;
    lines.push(b'\n');
    Ok(())
}

/// Reads one line; the error says what is wrong with it.
pub(super) fn read(line: &[u8]) -> Result<AuditRecord, String> {
    let row: Row = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Ok(AuditRecord {
        sequence: row.sequence,
        at: row.at,
        principal: row.principal,
        request: row.request,
        revision: row.revision,
        action: row.action,
        object: row.object,
        detail: row.detail,
        previous_hash: unhex(&row.previous_hash)?,
        hash: unhex(&row.hash)?,
    })
}

/// Returns the first line of a segment that begins after `head`.
pub(super) fn header(head: AuditHead) -> Result<Vec<u8>, serde_json::Error> {
    let header = Header {
        warren_audit: VERSION,
        after_sequence: head.sequence,
        after_hash: hex(&head.hash),
    };
    let mut line = serde_json::to_vec(&header)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads the first line of a segment.
pub(super) fn read_header(line: &[u8]) -> Result<AuditHead, String> {
    let header: Header = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if header.warren_audit != VERSION {
        return Err(format!("format {} is not known here", header.warren_audit));
    }
    Ok(AuditHead { sequence: header.after_sequence, hash: unhex(&header.after_hash)? })
}

fn hex(hash: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    hash.iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

fn unhex(text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("{text:?} is not a hash");
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return Err(wrong());
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        let value = digit(0).zip(digit(1)).map(|(high, low)| high * 16 + low);
        *byte = value.and_then(|value| u8::try_from(value).ok()).ok_or_else(wrong)?;
    }
    Ok(hash)
}
