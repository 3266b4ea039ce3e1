//! The cluster as it is printed.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;
use warren_common::{Bytes, Timestamp};
use warren_proto::pb::admin::v1 as pb;

use super::{Moment, fields, filled, moment};
use crate::render::{table, time};

/// A coordinator that the leader has not heard for as long is no follower any more.
pub(crate) const SILENT_MS: u64 = 5_000;

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
    /// Clients whose destinations are those of a restored backup, until somebody has looked.
    pub(crate) unreviewed_clients: Vec<Unreviewed>,
}

/// A client that may reach what it might when the backup was made.
#[derive(Debug, Serialize)]
pub(crate) struct Unreviewed {
    pub(crate) client: String,
    pub(crate) allowed: Vec<String>,
}

impl From<pb::UnreviewedClient> for Unreviewed {
    fn from(one: pb::UnreviewedClient) -> Self {
        Self { client: one.client, allowed: one.allowed }
    }
}

impl Unreviewed {
    /// Says what is not known.
    pub(crate) fn text(&self) -> String {
        let allowed = self.allowed.join(", ");
        format!("may reach what it might before the restore, closed since or not: {allowed}")
    }

    /// Says what to do.
    pub(crate) fn fix(&self) -> String {
        let client = &self.client;
        format!(
            "warren client disallow {client} what is to be closed; then: warren client allowed \
             {client} --reviewed"
        )
    }
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
    /// `leader`, `voter`, `learner` or `joining`.
    pub(crate) role: &'static str,
    pub(crate) voter: bool,
    pub(crate) leader: bool,
    /// How many entries of the leader's it lacks; none where nobody knows.
    pub(crate) lag_entries: Option<u64>,
    /// How long ago it was last heard of; none where it never was.
    pub(crate) contact_ms: Option<u64>,
    /// None where it does not answer, as the two below.
    pub(crate) version: Option<String>,
    pub(crate) engine: Option<String>,
    pub(crate) disk_free_bytes: Option<u64>,
    /// Why it does not answer.
    pub(crate) trouble: Option<String>,
}

impl From<pb::GetClusterResponse> for Cluster {
    fn from(cluster: pb::GetClusterResponse) -> Self {
        let leader = cluster.leader_replica_id;
        Self {
            id: cluster.cluster_id,
            name: cluster.name,
            version: cluster.version,
            incarnation: cluster.incarnation,
            created_at: moment(cluster.created_unix_ms),
            term: cluster.term,
            leader: if leader == 0 { None } else { Some(leader) },
            replicas: cluster.replicas.into_iter().map(|one| Replica::of(one, leader)).collect(),
            clients: cluster.clients,
            nodes: cluster.nodes,
            nodes_ready: cluster.nodes_ready,
            workspaces: cluster.workspaces,
            workspaces_active: cluster.workspaces_active,
            audit_sequence: cluster.audit_sequence,
            audit_hash: filled(&cluster.audit_hash),
            recovery: cluster.recovery.map(Into::into),
            unreviewed_clients: cluster.unreviewed_clients.into_iter().map(Into::into).collect(),
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
        text.push_str(&table::lay_out(&HEADER, rows, 7, None));
        text.push('\n');
        text.push_str(&self.quorum());
        for (replica, trouble) in
            self.replicas.iter().filter_map(|one| Some((one, one.trouble.as_ref()?)))
        {
            // writing to a String cannot fail
            let _ = writeln!(text, "coordinator {} does not answer: {trouble}", replica.id);
        }
        for one in &self.unreviewed_clients {
            let _ = writeln!(text, "client {} {}; {}", one.client, one.text(), one.fix());
        }
        text
    }

    /// Says in one line what may still be lost.
    fn quorum(&self) -> String {
        let voters = self.replicas.iter().filter(|one| one.voter).count();
        let answering =
            self.replicas.iter().filter(|one| one.voter && one.trouble.is_none()).count();
        let quorum = voters / 2 + 1;
        let plural = if voters == 1 { "voter" } else { "voters" };
        let down = match voters - answering {
            0 => String::new(),
            down => format!(", {down} down"),
        };
        let rest = match answering.checked_sub(quorum) {
            None => "no quorum: nothing can be changed until more of them answer".to_owned(),
            Some(0) if voters == 1 => "may lose none; warren cluster token adds another".to_owned(),
            Some(0) => "may lose none: every one that answers is needed".to_owned(),
            Some(spare) => format!("may lose {spare}"),
        };
        format!("{voters} {plural}{down}, quorum {quorum}, {rest}\n")
    }
}

const HEADER: [&str; 9] =
    ["COORDINATOR", "ROLE", "LAG", "SEEN", "VERSION", "ENGINE", "DISK FREE", "API", "RAFT"];

impl Replica {
    fn of(replica: pb::Replica, leader: u64) -> Self {
        let role = match replica.role() {
            pb::ReplicaRole::Leader => "leader",
            pb::ReplicaRole::Voter => "voter",
            pb::ReplicaRole::Learner => "learner",
            pb::ReplicaRole::Joining => "joining",
            pb::ReplicaRole::Unspecified => "unknown",
        };
        let answers = replica.trouble.is_empty();
        Self {
            id: replica.id,
            role,
            voter: replica.voter,
            leader: replica.id == leader && leader != 0,
            lag_entries: replica.lag_entries,
            contact_ms: replica.contact_ms,
            version: filled(&replica.version),
            engine: filled(&replica.engine),
            disk_free_bytes: answers.then_some(replica.disk_free_bytes),
            trouble: filled(&replica.trouble),
            api_address: replica.api_address,
            raft_address: replica.raft_address,
        }
    }

    fn cells(&self) -> Vec<String> {
        let dash = || "-".to_owned();
        let seen = match (&self.trouble, self.contact_ms) {
            // it answers, and the leader does not hear it
            (None, Some(ago)) if ago > SILENT_MS => {
                format!("{} ago", time::spell(Duration::from_millis(ago)))
            }
            (None, _) => "now".to_owned(),
            (Some(_), Some(ago)) => format!("{} ago", time::spell(Duration::from_millis(ago))),
            (Some(_), None) => dash(),
        };
        vec![
            self.id.to_string(),
            self.role.to_owned(),
            self.lag_entries.map_or_else(dash, |lag| lag.to_string()),
            seen,
            self.version.clone().unwrap_or_else(dash),
            self.engine.clone().unwrap_or_else(dash),
            self.disk_free_bytes.map_or_else(dash, |free| Bytes(free).to_string()),
            self.api_address.clone(),
            self.raft_address.clone(),
        ]
    }
}
