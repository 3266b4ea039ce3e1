//! Clients as they are printed.

use serde::Serialize;
use warren_common::{Timestamp, spec::Labels};
use warren_proto::pb::admin::v1 as pb;

use super::{
    Moment,
    event::{Event, Object},
    fields, labels, moment,
};
use crate::{
    follow::Watched,
    render::{Tabular, time},
};

/// One client.
#[derive(Debug, Serialize)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) labels: Labels,
    /// What its workspaces may reach although it is closed to others.
    pub(crate) allowed: Vec<String>,
    pub(crate) workspaces: u32,
    pub(crate) created_at: Option<Moment>,
    pub(crate) revision: u64,
}

impl From<pb::Client> for Client {
    fn from(client: pb::Client) -> Self {
        Self {
            id: client.id,
            name: client.name,
            labels: client.labels.into_iter().collect(),
            allowed: client.allowed,
            workspaces: client.workspaces,
            created_at: moment(client.created_unix_ms),
            revision: client.revision,
        }
    }
}

impl Client {
    fn age(&self, now: Timestamp) -> String {
        self.created_at.map_or_else(String::new, |at| time::age(at.0, now))
    }

    /// Returns the page that `client show` prints.
    pub(crate) fn text(&self, now: Timestamp) -> String {
        fields(&[
            ("name", self.name.clone()),
            ("id", self.id.clone()),
            ("workspaces", self.workspaces.to_string()),
            ("labels", labels(&self.labels)),
            ("allowed", self.allowed.join(", ")),
            ("age", self.age(now)),
        ])
    }

    /// Returns the line that `client allow` and `client disallow` print.
    pub(crate) fn reaches(&self) -> String {
        if self.allowed.is_empty() {
            return format!("client {} is allowed nothing beyond the internet\n", self.name);
        }
        format!("client {} is allowed {}\n", self.name, self.allowed.join(", "))
    }

    /// Returns the line that `client label` prints.
    pub(crate) fn labelled(&self) -> String {
        if self.labels.is_empty() {
            return format!("client {} has no labels\n", self.name);
        }
        format!("client {} has {}\n", self.name, labels(&self.labels))
    }
}

impl Tabular for Client {
    const HEADER: &'static [&'static str] = &["CLIENT", "WORKSPACES", "AGE", "LABELS"];
    const FLEXIBLE: usize = 3;

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![self.name.clone(), self.workspaces.to_string(), self.age(now), labels(&self.labels)]
    }

    fn address(&self) -> String {
        self.name.clone()
    }
}

impl Watched for Client {
    const KINDS: &'static [pb::EventKind] =
        &[pb::EventKind::ClientCreated, pb::EventKind::ClientDeleted, pb::EventKind::ClientUpdated];

    fn standing(&self) -> Vec<String> {
        let noun = if self.workspaces == 1 { "workspace" } else { "workspaces" };
        vec![format!("{} {noun}", self.workspaces), labels(&self.labels)]
    }

    fn revision(&self) -> Option<u64> {
        Some(self.revision)
    }

    fn keep(&mut self, known: &Self) {
        self.workspaces = known.workspaces;
    }

    fn of(event: Event) -> Option<Self> {
        match event.object? {
            Object::Client(client) => Some(client),
            Object::Node(_) | Object::Workspace(_) | Object::Session(_) | Object::Browser(_) => {
                None
            }
        }
    }
}
