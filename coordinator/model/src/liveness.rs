//! Whether a node is heard from, and what may be said of a workspace whose node is not.
//!
//! Computed from the live view at the moment of asking, never stored. The words for a silent node's
//! workspaces are the edge's; [`standing`] gives the pieces.

use std::{sync::Arc, time::Duration};

use warren_common::{NodeEpoch, NodeId, Timestamp, WorkspaceId, spec::Failover};

use crate::{
    live::{LiveView, NodeLive},
    observed::Observed,
    state::{ClusterState, Node, Workspace},
};

/// Silent for this long, a node takes nothing new.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(12);
/// Silent for this long, a node counts as gone for now.
pub const UNREACHABLE_AFTER: Duration = Duration::from_secs(30);

/// Another coordinator that heard the node within this time keeps it from counting as gone.
pub const HEARD_ELSEWHERE: Duration = Duration::from_secs(5);
/// How long after its last confirmed renewal a node holds a workspace that may fail over.
pub const FENCE_WINDOW: Duration = Duration::from_secs(120);

/// How a node is heard from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// It has not registered, or has not told yet what it holds.
    Joining,
    /// It reports in time.
    Ready,
    /// Silent for [`SUSPECT_AFTER`].
    Suspect,
    /// Silent for [`UNREACHABLE_AFTER`].
    Unreachable,
}

impl Liveness {
    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Suspect => "suspect",
            Self::Unreachable => "unreachable",
        }
    }
}

/// A node's liveness and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStanding {
    /// How it is heard from.
    pub liveness: Liveness,
    /// Why, for people.
    pub reason: String,
    /// When anything last came from it; none where nothing ever did, as far as is known here.
    pub last_seen: Option<Timestamp>,
    /// When the liveness will change if nothing comes.
    pub changes_at: Option<Timestamp>,
}

/// Judges how `node` is heard from at `now`.
pub fn liveness(node: &Node, live: &LiveView, now: Timestamp) -> NodeStanding {
    let heard = live.nodes.get(&node.id);
    let current = heard.filter(|heard| heard.epoch == node.epoch);
    let last_seen = match current {
        Some(current) => Some(current.last_seen),
        None => heard.map(|heard| heard.last_seen).max(node.registered),
    };
    if node.epoch == NodeEpoch(0) {
        let reason = "it joined and has not registered yet".to_owned();
        return NodeStanding { liveness: Liveness::Joining, reason, last_seen, changes_at: None };
    }
    // nobody can have heard it before they listened
    let since = last_seen.unwrap_or_default().max(live.started);
    let silent = now.since(since);
    let elsewhere = live.opinions.get(&node.id).filter(|one| one.epoch >= node.epoch);
    let elsewhere = elsewhere.filter(|one| now.since(one.at) <= HEARD_ELSEWHERE);
    if let Some(heard) = elsewhere.filter(|_| silent >= SUSPECT_AFTER) {
        let ago = span(now.since(heard.at));
        let here = span(silent);
        return NodeStanding {
            liveness: Liveness::Suspect,
            reason: format!(
                "not heard from here for {here}; coordinator {} heard it {ago} ago",
                heard.by
            ),
            last_seen: last_seen.max(Some(heard.at)),
            changes_at: Some(heard.at.plus(HEARD_ELSEWHERE).max(since.plus(UNREACHABLE_AFTER))),
        };
    }
    if silent >= UNREACHABLE_AFTER {
        let reason = format!("not heard from for {}", span(silent));
        let liveness = Liveness::Unreachable;
        return NodeStanding { liveness, reason, last_seen, changes_at: None };
    }
    if silent >= SUSPECT_AFTER {
        let reason = format!("not heard from for {}", span(silent));
        let changes_at = Some(since.plus(UNREACHABLE_AFTER));
        return NodeStanding { liveness: Liveness::Suspect, reason, last_seen, changes_at };
    }
    let changes_at = Some(since.plus(SUSPECT_AFTER));
    let (liveness, reason) = match current {
        Some(NodeLive { inventory: true, .. }) => (Liveness::Ready, "it reports in time"),
        Some(_) => (Liveness::Joining, "it has not told yet which workspaces it holds"),
        None if heard.is_some() => (Liveness::Joining, "it has not reported since it registered"),
        None => (Liveness::Joining, "it has not reported to this coordinator yet"),
    };
    NodeStanding { liveness, reason: reason.to_owned(), last_seen, changes_at }
}

/// Judges whether what `node` said last stands for the present at `now`: it reports in time; or it has
/// registered anew and is yet to report, and what it said before stood within [`SUSPECT_AFTER`].
pub fn is_heard(node: &Node, live: &LiveView, now: Timestamp) -> bool {
    match liveness(node, live, now).liveness {
        Liveness::Ready => true,
        Liveness::Joining => {
            let heard = live.nodes.get(&node.id);
            heard.is_some_and(|heard| now.since(heard.said_at()) < SUSPECT_AFTER)
        }
        Liveness::Suspect | Liveness::Unreachable => false,
    }
}

/// What is known of the lease under which a workspace runs on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseStanding {
    /// When the renewal was sent that was last confirmed, as far as is known here.
    pub confirmed: Timestamp,
    /// When the node's right to run it ends, or ended; none where it keeps running for ever.
    pub expires: Option<Timestamp>,
}

/// Returns the lease of a workspace; none where it has no node, or its node's lease is not known.
pub fn lease(live: &LiveView, workspace: &Workspace) -> Option<LeaseStanding> {
    let node = workspace.assignment.as_ref()?.node;
    let confirmed = live.confirmed(node)?;
    let expires = match workspace.spec.failover() {
        Failover::Auto => Some(confirmed.plus(FENCE_WINDOW)),
        Failover::Manual => None,
    };
    Some(LeaseStanding { confirmed, expires })
}

/// What may be said now of where a workspace stands on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has no node.
    Unplaced,
    /// Its node is heard from and has not reported on it yet.
    Awaited {
        /// Its node.
        node: NodeId,
    },
    /// The present, as its node reports it.
    Live {
        /// Its node.
        node: NodeId,
        /// What it said.
        observed: Arc<Observed>,
    },
    /// Its node is silent: "last seen running at T on N".
    Silent {
        /// Its node.
        node: NodeId,
        /// When the node was last heard from.
        last_seen: Option<Timestamp>,
        /// What it said of the workspace then.
        observed: Option<Arc<Observed>>,
    },
}

/// Judges what may be said of `workspace` at `now`; none where there is no such workspace. Reports
/// of another generation or an older run are left out.
pub fn standing(
    state: &ClusterState,
    live: &LiveView,
    workspace: WorkspaceId,
    now: Timestamp,
) -> Option<Standing> {
    let workspace = state.workspaces.get(&workspace)?;
    let Some(assignment) = &workspace.assignment else { return Some(Standing::Unplaced) };
    let node = assignment.node;
    let observed = live.observed(node, workspace.id).map(|seen| seen.observed.clone());
    let observed = observed.filter(|observed| {
        observed.generation == workspace.generation && observed.run_serial == workspace.run_serial
    });
    let judged = state.nodes.get(&node).map(|node| liveness(node, live, now));
    Some(match judged {
        Some(NodeStanding { liveness: Liveness::Ready | Liveness::Joining, .. }) => {
            match observed {
                Some(observed) => Standing::Live { node, observed },
                None => Standing::Awaited { node },
            }
        }
        Some(NodeStanding {
            liveness: Liveness::Suspect | Liveness::Unreachable,
            last_seen,
            ..
        }) => Standing::Silent { node, last_seen, observed },
        None => Standing::Silent { node, last_seen: None, observed },
    })
}

/// `45 s`, `12 min`, `3 h`, `4 d`: one unit, rounded down.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        172_800.. => format!("{} d", seconds / 86_400),
    }
}
