//! What each coordinator keeps: log, checkpoints, disk, keystore, audit records; and backups of it.

use std::{collections::BTreeMap, time::Duration};

use warren_common::{Bytes, Timestamp};

use super::each;
use crate::{
    command::doctor::{
        facts::{Answer, Coordinator, Facts, LastBackup},
        finding::{Check, Finding},
    },
    render::time::{age, rfc3339_seconds},
};

const PART: &str = "storage";
const STORAGE: Check = Check::new(PART, "STORAGE");
const DISK: Check = Check::new(PART, "DISK_FREE");
const CHECKPOINT: Check = Check::new(PART, "CHECKPOINT");
const LOG: Check = Check::new(PART, "LOG_SIZE");
const KEYSTORE: Check = Check::new(PART, "KEYSTORE");
const AUDIT: Check = Check::new(PART, "AUDIT_HEAD");
const BACKUP: Check = Check::new(PART, "BACKUP");

/// A checkpoint that is this many times overdue is not being written.
const OVERDUE: u64 = 3;
/// A log with more is not being purged, or holds very large entries.
const LOG_BYTES: u64 = 2 << 30;
/// Disk that a checkpoint, a segment and the log's next growth together may need.
const FREE_ERROR: u64 = 256 << 20;
const FREE_WARNING: u64 = 1 << 30;
/// A backup older than that is worth little where clients come and go.
const BACKUP_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut found = storage(facts);
    found.extend(disk(facts));
    found.extend(checkpoint(facts));
    found.extend(log(facts));
    found.extend(keystore(facts));
    found.extend(audit(facts));
    found.push(backup(facts));
    found
}

fn storage(facts: &Facts) -> Vec<Finding> {
    let mut engines: Vec<&str> =
        facts.answering().map(|(_, one)| one.said.engine.as_str()).collect();
    engines.sort_unstable();
    engines.dedup();
    each(
        facts,
        STORAGE,
        |one, answer| {
            let trouble = &answer.said.storage_trouble;
            (!trouble.is_empty()).then(|| {
                let message = format!("it failed, and acknowledges nothing any more: {trouble}");
                let fix = replace("see its disk and its log, then start it; where it refuses", one);
                STORAGE.error(message).about(one.label()).fix(fix)
            })
        },
        || format!("it works ({})", engines.join(", ")),
    )
}

fn disk(facts: &Facts) -> Vec<Finding> {
    let least = facts.answering().map(|(_, one)| one.said.disk_free_bytes).min().unwrap_or(0);
    each(
        facts,
        DISK,
        |one, Answer { said, .. }| {
            let (free, all) = (said.disk_free_bytes, said.disk_bytes);
            let message = format!(
                "{} free of {}; log {}, checkpoints {}, audit records {}",
                Bytes(free),
                Bytes(all),
                Bytes(said.log_bytes),
                Bytes(said.checkpoint_bytes),
                Bytes(said.audit_bytes)
            );
            let fault = if free < FREE_ERROR || free < all / 50 {
                DISK.error(format!("{message}: it stops when it is full"))
            } else if free < FREE_WARNING || free < all / 10 {
                DISK.warning(message)
            } else {
                return None;
            };
            Some(fault.about(one.label()).fix("make room on the volume of its state folder"))
        },
        || format!("at least {} on each", Bytes(least)),
    )
}

fn checkpoint(facts: &Facts) -> Vec<Finding> {
    let now = |answer: &Answer| Timestamp(answer.said.now_unix_ms);
    let oldest = facts
        .answering()
        .filter(|(_, one)| one.said.checkpoint_unix_ms != 0)
        .map(|(_, one)| now(one).since(Timestamp(one.said.checkpoint_unix_ms)))
        .max();
    each(
        facts,
        CHECKPOINT,
        |one, answer| {
            let said = &answer.said;
            let (since, every) = (said.since_checkpoint_entries, said.checkpoint_every_entries);
            if since <= every.saturating_mul(OVERDUE) {
                return None;
            }
            let newest = match said.checkpoint_unix_ms {
                0 => "there is none".to_owned(),
                at => format!("the newest is {} old", age(Timestamp(at), now(answer))),
            };
            let message = format!("{since} entries without one, it is due after {every}: {newest}");
            let fix = "look at its log for why none is written, and at its disk";
            Some(CHECKPOINT.warning(message).about(one.label()).fix(fix))
        },
        || match oldest {
            Some(oldest) => {
                let spelt = crate::render::time::spell(oldest);
                format!("none is due; the oldest of the newest is {spelt} old")
            }
            None => "none is due, and none was yet".to_owned(),
        },
    )
}

fn log(facts: &Facts) -> Vec<Finding> {
    let most = facts.answering().map(|(_, one)| one.said.log_bytes).max().unwrap_or(0);
    each(
        facts,
        LOG,
        |one, answer| {
            let (entries, bytes) = (answer.said.log_entries, answer.said.log_bytes);
            let every = answer.said.checkpoint_every_entries.max(1);
            // two checkpoints are kept with the log behind them, and a follower may lag as far
            if bytes <= LOG_BYTES && entries <= every.saturating_mul(3 * OVERDUE) {
                return None;
            }
            let message = format!("{entries} entries take {}: it is not cut short", Bytes(bytes));
            let fix = "see that checkpoints are written, and that no coordinator lags behind";
            Some(LOG.warning(message).about(one.label()).fix(fix))
        },
        || format!("at most {} on each", Bytes(most)),
    )
}

fn keystore(facts: &Facts) -> Vec<Finding> {
    // what most of them hold, else what the first does
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (_, answer) in facts.answering() {
        *counts.entry(&answer.said.keystore_digest).or_default() += 1;
    }
    let usual = counts.iter().max_by_key(|(_, count)| **count).map(|(digest, _)| *digest);
    each(
        facts,
        KEYSTORE,
        |one, answer| {
            let said = &answer.said;
            let fix = "it copies what it lacks by itself within a minute while a leader answers; \
                       else look at its log";
            if !said.missing_secrets.is_empty() {
                let message = format!("lacks {}", said.missing_secrets.join(", "));
                return Some(KEYSTORE.error(message).about(one.label()).fix(fix));
            }
            (usual != Some(&said.keystore_digest[..])).then(|| {
                KEYSTORE.warning("holds other values than most").about(one.label()).fix(fix)
            })
        },
        || "complete and the same on each".to_owned(),
    )
}

fn audit(facts: &Facts) -> Vec<Finding> {
    let newest = facts.answering().map(|(_, one)| one.said.audit_sequence).max().unwrap_or(0);
    each(
        facts,
        AUDIT,
        |one, answer| {
            let (trouble, unseen) = (&answer.said.audit_trouble, &answer.said.audit_unseen);
            if !unseen.is_empty() {
                return Some(AUDIT.not_looked(unseen.clone()).about(one.label()));
            }
            (!trouble.is_empty())
                .then(|| AUDIT.error(trouble.clone()).about(one.label()).fix("warren audit verify"))
        },
        || {
            format!(
                "record {newest} is on disk as the state knows it (the rest: warren audit verify)"
            )
        },
    )
}

fn backup(facts: &Facts) -> Finding {
    let fix = "warren cluster backup FILE --passphrase-file F, and keep it elsewhere";
    match &facts.backup {
        Err(why) => BACKUP.not_looked(why.clone()),
        Ok(LastBackup::Never) => {
            BACKUP.warning("none is on record: if most disks are lost, so is everything").fix(fix)
        }
        Ok(LastBackup::Taken { at, by }) => {
            let ago = age(*at, facts.now);
            // the record is of the request: the file is written, and read back, where it was asked
            let message = format!(
                "the last was asked for {ago} ago by {by} ({}); whether it was taken whole is not \
                 on record: warren cluster verify-backup FILE",
                rfc3339_seconds(*at)
            );
            match facts.now.since(*at) > BACKUP_AGE {
                true => BACKUP.warning(message).fix(fix),
                false => BACKUP.ok(message),
            }
        }
    }
}

fn replace(first: &str, one: &Coordinator) -> String {
    let number = one.id.map_or_else(|| "N".to_owned(), |id| id.to_string());
    format!("{first}: warren cluster replace {number}")
}
