//! The cluster as it is printed.

use serde::Serialize;
use warren_common::Timestamp;
use warren_proto::pb::admin::v1 as pb;

use super::{Moment, fields, filled, moment};
use crate::render::{table, time};

/// The cluster as a whole.
#[derive(Debug, Serialize)]
pub(crate) struct Cluster {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) incarnation: u32,
    pub(crate) created_at: Option<Moment>,
    pub(crate) term: u64,
    /// None while there is no leader.
    pub(crate) leader: Option<u64>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) clients: u32,
    pub(crate) nodes: u32,
    pub(crate) nodes_ready: u32,
    pub(crate) workspaces: u32,
    pub(crate) workspaces_active: u32,
    pub(crate) audit_sequence: u64,
    pub(crate) audit_hash: Option<String>,
    /// None while nothing is to be recovered.
    pub(crate) recovery: Option<Recovery>,
}

/// The cluster came back and has not heard every node yet.
#[derive(Debug, Serialize)]
pub(crate) struct Recovery {
    pub(crate) since: Option<Moment>,
    pub(crate) reason: String,
    pub(crate) awaited_nodes: Vec<String>,
}

impl From<pb::Recovery> for Recovery {
    fn from(recovery: pb::Recovery) -> Self {
        Self {
            since: moment(recovery.since_unix_ms),
            reason: recovery.reason,
            awaited_nodes: recovery.awaited_nodes,
        }
    }
}

impl Recovery {
    /// Returns one line for people.
    pub(crate) fn text(&self) -> String {
        let awaited = match self.awaited_nodes.is_empty() {
            true => "every known node has told what it holds".to_owned(),
            false => format!("waiting for {}", self.awaited_nodes.join(", ")),
        };
        format!("{}; nothing is placed or removed: {awaited}", self.reason)
    }
}

/// One coordinator.
#[derive(Debug, Serialize)]
pub(crate) struct Replica {
    pub(crate) id: u64,
    pub(crate) api_address: String,
    pub(crate) raft_address: String,
    pub(crate) voter: bool,
    pub(crate) leader: bool,
}

impl From<pb::GetClusterResponse> for Cluster {
    fn from(cluster: pb::GetClusterResponse) -> Self {
        let leader = cluster.leader_replica_id;
        let replica = |replica: pb::Replica| Replica {
            leader: replica.id == leader && leader != 0,
            id: replica.id,
            api_address: replica.api_address,
            raft_address: replica.raft_address,
            voter: replica.voter,
        };
        Self {
            id: cluster.cluster_id,
            name: cluster.name,
            version: cluster.version,
            incarnation: cluster.incarnation,
            created_at: moment(cluster.created_unix_ms),
            term: cluster.term,
            leader: if leader == 0 { None } else { Some(leader) },
            replicas: cluster.replicas.into_iter().map(replica).collect(),
            clients: cluster.clients,
            nodes: cluster.nodes,
            nodes_ready: cluster.nodes_ready,
            workspaces: cluster.workspaces,
            workspaces_active: cluster.workspaces_active,
            audit_sequence: cluster.audit_sequence,
            audit_hash: filled(&cluster.audit_hash),
            recovery: cluster.recovery.map(Into::into),
        }
    }
}

impl Cluster {
    /// Returns the page that `cluster status` prints.
    pub(crate) fn text(&self, now: Timestamp) -> String {
        let leader = match self.leader {
            Some(leader) => format!("coordinator {leader}, term {}", self.term),
            None => format!("none, term {}", self.term),
        };
        let hash: String =
            self.audit_hash.as_deref().unwrap_or_default().chars().take(12).collect();
        let mut rows = vec![
            ("cluster", self.name.clone()),
            ("id", self.id.clone()),
            ("version", self.version.clone()),
            ("age", self.created_at.map_or_else(String::new, |at| time::age(at.0, now))),
            ("leader", leader),
            ("nodes", format!("{} of {} ready", self.nodes_ready, self.nodes)),
            ("clients", self.clients.to_string()),
            ("workspaces", format!("{} of {} active", self.workspaces_active, self.workspaces)),
            ("audit", format!("{} records, head {hash}", self.audit_sequence)),
        ];
        if let Some(recovery) = &self.recovery {
            rows.insert(1, ("recovery", recovery.text()));
        }
        let mut text = fields(&rows);
        let rows = self.replicas.iter().map(Replica::cells).collect();
        text.push('\n');
        text.push_str(&table::lay_out(&["COORDINATOR", "ROLE", "API", "RAFT"], rows, 3, None));
        text
    }
}

impl Replica {
    fn cells(&self) -> Vec<String> {
        let role = match (self.leader, self.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        vec![
            self.id.to_string(),
            role.to_owned(),
            self.api_address.clone(),
            self.raft_address.clone(),
        ]
    }
}
