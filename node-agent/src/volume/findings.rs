//! What a node says of where its homes are, as findings of its preflight.
//!
//! Their texts name no amounts: a finding is a fact that the leader keeps, and one that differed at
//! each look would be news at each look. How much is taken stands beside them, in the usage.

use std::path::Path;

use warren_common::{
    Bytes,
    status::{Finding, FindingLevel, reason},
};
use warren_daemon::telemetry::Chain;

use super::VolumeError;

/// Room below which nothing new is placed: a fiftieth of the whole, but never over this much.
const FULL_MOST: Bytes = Bytes::gib(1);
/// The same for a warning: a tenth.
const LOW_MOST: Bytes = Bytes::gib(10);

/// How much is left of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Enough.
    Enough,
    /// Less than a tenth and than 10 GiB.
    Low,
    /// Less than a fiftieth and than 1 GiB.
    Full,
}

/// Judges what is left.
pub fn room(size: Bytes, available: Bytes) -> Room {
    if available < Bytes(size.0 / 50).min(FULL_MOST) {
        Room::Full
    } else if available < Bytes(size.0 / 10).min(LOW_MOST) {
        Room::Low
    } else {
        Room::Enough
    }
}

/// Judges the pool.
pub fn of_pool(size: Bytes, available: Bytes) -> Option<Finding> {
    let fix = "warren-node-agent pool grow --by 20G on the node, or delete what is not needed";
    match room(size, available) {
        Room::Enough => None,
        Room::Low => Some(warning("W1203", "the pool of homes is nearly full", fix)),
        Room::Full => Some(blocking(
            "E1202",
            "the pool of homes is full: workspaces cannot write, and nothing new is placed here",
            fix,
        )),
    }
}

/// Judges the disk that holds the agent's own state.
pub fn of_host_disk(size: Bytes, available: Bytes) -> Option<Finding> {
    let fix = "free space on the filesystem of state_dir: logs, packages, images nobody uses";
    match room(size, available) {
        Room::Enough => None,
        Room::Low => Some(warning("W1205", "the host's disk is nearly full", fix)),
        Room::Full => Some(blocking(
            "E1204",
            "the host's disk is full: what runs goes on, and nothing new is placed here",
            fix,
        )),
    }
}

/// The pool cannot be used.
pub fn unusable(error: &VolumeError) -> Finding {
    let (what, fix) = match error {
        VolumeError::Pool { what, next } => (what.clone(), next.clone()),
        other => (Chain(other).to_string(), "look at the node agent's log".to_owned()),
    };
    blocking("E1201", &format!("homes cannot be kept here: {what}"), &fix)
}

/// Homes have no quota.
pub fn no_quota() -> Finding {
    let fix = "with no homes on the node yet: install btrfs-progs and restart the agent; homes that \
               are there stay as they are";
    warning("W1206", "homes are plain folders without quotas: one can fill the disk for all", fix)
}

/// The pool's file has holes that could not be filled.
pub fn sparse(file: &Path) -> Finding {
    let message = format!("{} has holes: a full host disk would damage homes", file.display());
    warning("W1207", &message, "free space on the host's disk, then restart the agent")
}

/// What the quotas count is not right at the moment.
pub fn counting() -> Finding {
    let fix =
        "it mends itself by counting again; warren-node-agent pool check shows whether it has";
    warning("W1208", "the quotas of homes are being counted anew", fix)
}

fn warning(code: &str, message: &str, fix: &str) -> Finding {
    finding(code, FindingLevel::Warning, message, fix)
}

fn blocking(code: &str, message: &str, fix: &str) -> Finding {
    finding(code, FindingLevel::Blocking, message, fix)
}

fn finding(code: &str, level: FindingLevel, message: &str, fix: &str) -> Finding {
    Finding { code: code.to_owned(), level, message: reason(message), fix: reason(fix) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_judged_by_share_and_by_amount() {
        let judge = |size, left| room(Bytes::mib(size), Bytes::mib(left));
        assert_eq!(judge(1000, 500), Room::Enough);
        assert_eq!(judge(1000, 100), Room::Enough);
        assert_eq!(judge(1000, 99), Room::Low);
        assert_eq!(judge(1000, 20), Room::Low);
        assert_eq!(judge(1000, 19), Room::Full);
        // of a large disk a tenth is plenty
        assert_eq!(judge(1_000_000, 11_000), Room::Enough);
        assert_eq!(judge(1_000_000, 1_100), Room::Low);
        assert_eq!(judge(1_000_000, 1_000), Room::Full);
        assert_eq!(judge(0, 0), Room::Enough, "nothing is known");
    }

    #[test]
    fn a_full_pool_blocks_and_a_nearly_full_one_warns() {
        let code = |left| of_pool(Bytes::gib(10), left).map(|one| (one.code, one.level));
        assert_eq!(code(Bytes::gib(5)), None);
        let low = Some(("W1203".to_owned(), FindingLevel::Warning));
        assert_eq!(code(Bytes::mib(500)), low);
        let full = Some(("E1202".to_owned(), FindingLevel::Blocking));
        assert_eq!(code(Bytes::mib(100)), full);
    }
}
