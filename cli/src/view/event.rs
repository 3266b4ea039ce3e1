//! Events as they are printed.

use serde::Serialize;
use warren_common::Timestamp;
use warren_proto::pb::admin::v1::{self as pb, event::What};

use super::{
    Moment, browser::Browser, client::Client, moment, node::Node, session::Session, workspace,
};
use crate::render::{Tabular, time::rfc3339_seconds};

/// One thing that happened.
#[derive(Debug, Serialize)]
pub(crate) struct Event {
    /// The object's kind and what became of it: `workspace.phase`.
    pub(crate) event: &'static str,
    /// None of what nodes report: it is not decided.
    pub(crate) revision: Option<u64>,
    /// Counts from 0 within the revision.
    pub(crate) index: Option<u32>,
    pub(crate) at: Option<Moment>,
    /// What it happened to, as other commands take it.
    pub(crate) address: String,
    /// What happened, for people.
    pub(crate) detail: String,
    /// The object as it was decided then; none where it is gone, or is none.
    pub(crate) object: Option<Object>,
}

/// An object of an event.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Object {
    Client(Client),
    Node(Box<Node>),
    Workspace(Box<workspace::Workspace>),
    Session(Box<Session>),
    Browser(Box<Browser>),
}

struct Told {
    event: &'static str,
    address: String,
    detail: String,
    object: Option<Object>,
}

impl From<pb::Event> for Event {
    fn from(event: pb::Event) -> Self {
        let told = event.what.map_or_else(unknown, told);
        Self {
            event: told.event,
            revision: Some(event.revision),
            index: Some(event.index),
            at: moment(event.at_unix_ms),
            address: told.address,
            detail: told.detail,
            object: told.object,
        }
    }
}

/// A coordinator of a later version tells of kinds that are not known here.
fn unknown() -> Told {
    Told { event: "unknown", address: String::new(), detail: String::new(), object: None }
}

fn told(what: What) -> Told {
    let plain = |event, address, detail| Told { event, address, detail, object: None };
    match what {
        What::ClusterInitialised(made) => {
            plain("cluster.initialised", made.name, format!("id {}", made.cluster_id))
        }
        What::ReplicaSet(set) => coordinator("coordinator.set", set.replica),
        What::ReplicaJoined(joined) => coordinator("coordinator.joined", joined.replica),
        What::ReplicaRemoved(removed) => {
            plain("coordinator.removed", removed.id.to_string(), String::new())
        }
        What::ClientCreated(made) => client("client.created", made.client),
        What::ClientUpdated(one) => client("client.updated", one.client),
        What::ClientDeleted(gone) => plain("client.deleted", gone.name, String::new()),
        What::TokenIssued(issued) => plain("token.issued", issued.token_id, String::new()),
        What::NodeJoined(one) => node("node.joined", one.node),
        What::NodeRegistered(one) => node("node.registered", one.node),
        What::NodeFactsChanged(one) => node("node.facts", one.node),
        What::NodeAvailabilityChanged(one) => node("node.availability", one.node),
        What::WorkspaceCreated(made) => placed("workspace.created", made.workspace),
        What::WorkspacePhaseChanged(moved) => {
            let told = placed("workspace.phase", moved.workspace);
            let to = workspace::phase(pb::Phase::try_from(moved.to).unwrap_or_default());
            let detail = match told.detail.as_str() {
                "" => to.to_owned(),
                reason => format!("{to}: {reason}"),
            };
            Told { detail, ..told }
        }
        What::WorkspaceResized(one) => {
            let told = placed("workspace.resized", one.workspace);
            let detail = match &told.object {
                Some(Object::Workspace(workspace)) => workspace.caps(),
                _ => String::new(),
            };
            Told { detail, ..told }
        }
        What::WorkspaceRemoved(gone) => {
            plain("workspace.removed", format!("{}/{}", gone.client, gone.name), String::new())
        }
        What::CertificateRevoked(revoked) => {
            plain("certificate.revoked", revoked.serial, String::new())
        }
        What::CertificateIssued(issued) => {
            plain("certificate.issued", issued.serial, String::new())
        }
        What::PersonInvited(person) => plain("user.invited", person.name, String::new()),
        What::PersonEnrolled(person) => plain("user.enrolled", person.name, String::new()),
        What::PersonRevoked(person) => plain("user.revoked", person.name, String::new()),
        What::IncarnationBegun(begun) => {
            plain("cluster.incarnation", begun.incarnation.to_string(), String::new())
        }
        What::NodeAccounted(one) => node("node.accounted", one.node),
        What::RecoveryEnded(_) => plain("cluster.recovered", String::new(), String::new()),
    }
}

fn client(event: &'static str, client: Option<pb::Client>) -> Told {
    let client = Client::from(client.unwrap_or_default());
    let (address, detail) = (client.name.clone(), String::new());
    Told { event, address, detail, object: Some(Object::Client(client)) }
}

fn coordinator(event: &'static str, replica: Option<pb::Replica>) -> Told {
    let replica = replica.unwrap_or_default();
    let detail = format!("API {}, Raft {}", replica.api_address, replica.raft_address);
    Told { event, address: replica.id.to_string(), detail, object: None }
}

fn node(event: &'static str, node: Option<pb::Node>) -> Told {
    let node = Node::from(node.unwrap_or_default());
    let detail = format!("{}, registration {}", node.availability, node.epoch);
    Told { event, address: node.name.clone(), detail, object: Some(Object::Node(Box::new(node))) }
}

fn placed(event: &'static str, workspace: Option<pb::Workspace>) -> Told {
    let workspace = workspace::Workspace::from(workspace.unwrap_or_default());
    let (address, detail) = (workspace.address.clone(), workspace.reason.clone());
    Told { event, address, detail, object: Some(Object::Workspace(Box::new(workspace))) }
}

impl Event {
    /// Returns that the agent of a session came to need a person at `at`, or that the session lost a
    /// process then.
    pub(crate) fn of_session(
        (event, detail): (&'static str, String),
        at: Timestamp,
        session: Session,
    ) -> Self {
        Self {
            event,
            revision: None,
            index: None,
            at: Some(Moment(at)),
            address: session.address.clone(),
            detail,
            object: Some(Object::Session(Box::new(session))),
        }
    }

    /// Returns that a browser came to need a person at `at`.
    pub(crate) fn of_browser(
        (event, detail): (&'static str, String),
        at: Timestamp,
        browser: Browser,
    ) -> Self {
        Self {
            event,
            revision: None,
            index: None,
            at: Some(Moment(at)),
            address: browser.address.clone(),
            detail,
            object: Some(Object::Browser(Box::new(browser))),
        }
    }

    /// Returns the word behind the kind: `phase` of `workspace.phase`.
    pub(crate) fn word(&self) -> &'static str {
        self.event.split_once('.').map_or(self.event, |(_, word)| word)
    }

    /// Returns when it happened, for people.
    pub(crate) fn time(&self) -> String {
        self.at.map_or_else(String::new, |at| rfc3339_seconds(at.0))
    }
}

impl Tabular for Event {
    const HEADER: &'static [&'static str] = &["TIME", "REVISION", "EVENT", "OBJECT", "DETAIL"];
    const FLEXIBLE: usize = 4;

    fn row(&self, _: Timestamp) -> Vec<String> {
        let event = self.event.to_owned();
        let revision = self.revision.map(|revision| revision.to_string()).unwrap_or_default();
        vec![self.time(), revision, event, self.address.clone(), self.detail.clone()]
    }

    fn address(&self) -> String {
        match (self.revision, self.index) {
            (Some(revision), Some(index)) => format!("{revision}.{index}"),
            _ => format!("{} {}", self.event, self.address),
        }
    }
}
