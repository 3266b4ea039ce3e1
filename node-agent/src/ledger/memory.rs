//! What the ledger remembers, and how one document changes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use warren_common::{
    BootId, ClientId, Generation, Revision, WorkspaceId,
    spec::{Destination, HeldOrder, NodeSpec, WorkspaceOrder},
};

use super::Refused;
use crate::container::Caps;

/// Generations remembered of workspaces that are gone; the oldest are forgotten first.
const SEEN_GENERATIONS: usize = 10_000;

/// Everything a node must not forget over a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Rank of the newest document applied: incarnation, term, revision.
    pub rank: Option<(u32, u64, Revision)>,
    /// Its orders.
    pub orders: BTreeMap<WorkspaceId, WorkspaceOrder>,
    /// The highest generation ever seen of each workspace.
    pub generations: BTreeMap<WorkspaceId, Generation>,
    /// The last run of each workspace whose start was begun.
    pub started: BTreeMap<WorkspaceId, Started>,
    /// The cluster recovers and may know less than is here: nothing unordered is touched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recovering: bool,
    /// What clients of these workspaces may reach although it is closed to others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allowed: BTreeMap<ClientId, BTreeSet<Destination>>,
    /// A number of each workspace that has secrets, which changes with them. The values are never here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<WorkspaceId, u64>,
    /// Who holds which containers' cgroups frozen, by the cgroup's folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pauses: BTreeMap<PathBuf, BTreeSet<PauseOwner>>,
}

/// Who froze something; only they thaw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseOwner {
    /// The firewall's table is gone.
    Firewall,
}

/// A start that was begun: the permit of that run is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// Generation of the assignment.
    pub generation: Generation,
    /// The run.
    pub run_serial: u64,
    /// The boot it was started in.
    pub boot: BootId,
    /// PID 1 has told that every startup step ended.
    pub settled: bool,
    /// The caps that the agent gave its container last; none where an older one began it.
    #[serde(default)]
    pub caps: Option<Caps>,
    /// The caps that the engine is being told: until it is known that it took them the container may
    /// have these or those above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Caps>,
}

/// What a document changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Workspaces whose order is new, different or gone.
    pub changed: Vec<WorkspaceId>,
    /// Orders of a lower generation than was seen before: kept as they were.
    pub refused: Vec<(WorkspaceId, Generation)>,
}

impl Memory {
    /// Returns what a coordinator that may know less is told: every order, and what was begun.
    pub fn held(&self) -> (Revision, Vec<HeldOrder>) {
        let began = |order: &WorkspaceOrder| {
            let begun = self.started.get(&order.workspace);
            let begun = begun.filter(|begun| begun.generation == order.generation);
            begun.map_or(0, |begun| begun.run_serial)
        };
        let held =
            |order: &WorkspaceOrder| HeldOrder { order: order.clone(), started_run: began(order) };
        let revision = self.rank.map_or(Revision(0), |rank| rank.2);
        (revision, self.orders.values().map(held).collect())
    }

    /// Takes a document that is not older than the one held.
    pub(super) fn accept(&mut self, spec: &NodeSpec) -> Result<Accepted, Refused> {
        if let Some(held) = self.rank {
            let given = spec.rank();
            if given.0 < held.0 {
                return Err(Refused::Incarnation { given: given.0, seen: held.0 });
            }
            if given < held {
                return Err(Refused::Older { given, held });
            }
        }
        let mut accepted = Accepted::default();
        let mut orders = BTreeMap::new();
        for order in &spec.workspaces {
            let id = order.workspace;
            let seen = self.generations.get(&id).copied().unwrap_or_default();
            if order.generation < seen {
                accepted.refused.push((id, order.generation));
                if let Some(kept) = self.orders.get(&id) {
                    orders.insert(id, kept.clone());
                }
                continue;
            }
            self.generations.insert(id, order.generation);
            orders.insert(id, order.clone());
        }
        if spec.recovering {
            // what the cluster does not know yet is told again when it asks again
            for (id, order) in &self.orders {
                orders.entry(*id).or_insert_with(|| order.clone());
            }
        }
        // the end of a recovery changes what is to be done with every one
        let all = self.recovering != spec.recovering;
        let told: BTreeSet<_> = spec.workspaces.iter().map(|order| order.workspace).collect();
        let secrets = orders.keys().filter_map(|id| {
            let from = if told.contains(id) { &spec.secrets } else { &self.secrets };
            Some((*id, *from.get(id)?))
        });
        let secrets: BTreeMap<WorkspaceId, u64> = secrets.collect();
        let ids = self.orders.keys().chain(orders.keys()).copied();
        let changed = ids.filter(|id| {
            all || self.orders.get(id) != orders.get(id) || self.secrets.get(id) != secrets.get(id)
        });
        accepted.changed = changed.collect();
        accepted.changed.sort_unstable();
        accepted.changed.dedup();
        self.recovering = spec.recovering;
        self.allowed.clone_from(&spec.allowed);
        self.orders = orders;
        self.secrets = secrets;
        self.rank = Some(spec.rank());
        self.prune();
        Ok(accepted)
    }

    /// Notes that `owner` holds these frozen.
    pub(super) fn pause(&mut self, owner: PauseOwner, folders: &BTreeSet<PathBuf>) {
        for folder in folders {
            self.pauses.entry(folder.clone()).or_default().insert(owner);
        }
    }

    /// Notes that `owner` holds nothing frozen any more; returns what nobody else holds.
    pub(super) fn resume(&mut self, owner: PauseOwner) -> Vec<PathBuf> {
        let mut free = Vec::new();
        self.pauses.retain(|folder, owners| {
            if owners.remove(&owner) && owners.is_empty() {
                free.push(folder.clone());
            }
            !owners.is_empty()
        });
        free
    }

    /// Ids are UUIDv7, so the first key is the oldest workspace.
    fn prune(&mut self) {
        while self.generations.len() > SEEN_GENERATIONS + self.orders.len() {
            let gone = self.generations.keys().find(|id| !self.orders.contains_key(id)).copied();
            let Some(gone) = gone else { return };
            self.generations.remove(&gone);
        }
    }
}
