//! Whether a workspace can have other caps where it is: by the rules of placement, and by what it
//! uses.
//!
//! Only what grows is checked: whoever asks for less is never refused because others have too much.

use warren_common::{Bytes, Limits, MilliCpus, Timestamp, spec::Resources};

use super::fit::{Capacity, Cause, Load, Misfit};
use crate::{
    live::LiveView,
    liveness::{Liveness, liveness},
    state::{ClusterState, Node, Workspace},
};

/// Room that a workspace gets beyond what it cannot give back, or it would be killed at once.
pub const BREATH: Bytes = Bytes::mib(16);

/// Decides whether `node`, holding `load` with a workspace of `before` in it, can hold it with
/// `after`.
///
/// # Errors
/// Returns the first amount that does not fit, with what is free: what the workspace could grow by.
pub fn grown(
    node: &Node,
    load: &Load,
    before: &Resources,
    after: &Resources,
) -> Result<(), Misfit> {
    let (capacity, with) = (Capacity::of(&node.facts), exchanged(load, before, after));
    let free = |whole: Bytes, taken: Bytes| whole.minus(taken);
    if after.disk > before.disk && with.disk > capacity.disk {
        let (more, free) = (after.disk.minus(before.disk), free(capacity.disk, load.disk));
        let detail = format!("{more} more of disk asked for, {free} is free");
        return Err(Misfit::new(Cause::Disk, detail));
    }
    if after.swap > before.swap && with.swap > capacity.swap {
        let (more, free) = (after.swap.minus(before.swap), free(capacity.swap, load.swap));
        let detail = format!("{more} more of swap asked for, {free} is free");
        return Err(Misfit::new(Cause::Swap, detail));
    }
    if after.reserve > before.reserve && with.reserved > capacity.reserve {
        let more = after.reserve.minus(before.reserve);
        let free = free(capacity.reserve, load.reserved);
        let detail = format!("{more} more to be reserved, {free} is free");
        return Err(Misfit::new(Cause::Memory, detail));
    }
    let (old, new) = (before.memory.plus(before.swap), after.memory.plus(after.swap));
    if new > old && with.caps.plus(with.swap) > capacity.caps {
        let free = free(capacity.caps, load.caps.plus(load.swap));
        let detail =
            format!("{} more of memory and swap asked for, {free} is free", new.minus(old));
        return Err(Misfit::new(Cause::Memory, detail));
    }
    processors(node, load, &with, (before.cpus, after.cpus))
}

fn processors(
    node: &Node,
    load: &Load,
    with: &Load,
    (before, after): (Option<MilliCpus>, Option<MilliCpus>),
) -> Result<(), Misfit> {
    let capacity = Capacity::of(&node.facts);
    let Some(cap) = after.filter(|cap| before.is_none_or(|before| *cap > before)) else {
        return Ok(());
    };
    if with.cpus <= capacity.cpus && u64::from(cap.0) <= capacity.cores {
        return Ok(());
    }
    let cores = node.facts.cpus;
    let free = capacity.cpus.saturating_sub(load.cpus) / 1000;
    let detail = format!("{cap} cores asked for, it has {cores} and {free} of caps left");
    Err(Misfit::new(Cause::Cpu, detail))
}

/// Returns the sums with one workspace's amounts in place of its earlier ones.
fn exchanged(load: &Load, before: &Resources, after: &Resources) -> Load {
    let cpus = |of: &Resources| of.cpus.map_or(0, |cap| u64::from(cap.0));
    let change = |sum: Bytes, old: Bytes, new: Bytes| sum.minus(old).plus(new);
    Load {
        reserved: change(load.reserved, before.reserve, after.reserve),
        caps: change(load.caps, before.memory, after.memory),
        swap: change(load.swap, before.swap, after.swap),
        cpus: load.cpus.saturating_sub(cpus(before)).saturating_add(cpus(after)),
        disk: change(load.disk, before.disk, after.disk),
        count: load.count,
        clients: load.clients.clone(),
    }
}

/// Says why a workspace cannot be held to less memory now: the kernel would kill in it. None where
/// it can, or where nobody knows what it uses.
pub fn in_use(
    (state, live): (&ClusterState, &LiveView),
    workspace: &Workspace,
    after: &Resources,
    now: Timestamp,
) -> Option<String> {
    let before = &workspace.spec.resources;
    let less = after.memory < before.memory
        || after.memory.plus(after.swap) < before.memory.plus(before.swap);
    let node = workspace.assignment.as_ref().and_then(|one| state.nodes.get(&one.node))?;
    if !less || liveness(node, live, now).liveness != Liveness::Ready {
        return None;
    }
    let seen = live.observed(node.id, workspace.id)?.observed.whole(workspace.id);
    if seen.generation != workspace.generation {
        return None;
    }
    let (held, swapped) = (seen.usage.held, seen.usage.swap);
    if held.plus(BREATH) > after.memory && held > Bytes(0) {
        let memory = after.memory;
        return Some(format!("it holds {held} that it cannot give back, and would get {memory}"));
    }
    if swapped > after.swap && held.plus(swapped).plus(BREATH) > after.memory.plus(after.swap) {
        let (all, cap) = (held.plus(swapped), after.memory.plus(after.swap));
        return Some(format!("it holds {all} with what is swapped, and would get {cap}"));
    }
    None
}

/// Says what follows of a home that has more in it than it may: none where it has not.
pub fn home_over(live: &LiveView, workspace: &Workspace) -> Option<String> {
    let node = workspace.assignment.as_ref()?.node;
    let used = live.observed(node, workspace.id)?.observed.whole(workspace.id).volume?.used;
    let limit = workspace.spec.resources.disk;
    (used > limit && limit >= Limits::DISK_MIN).then(|| {
        format!(
            "the home holds {used} and may hold {limit}: nothing is lost, and nothing can be \
             written until {} is deleted",
            used.minus(limit)
        )
    })
}
