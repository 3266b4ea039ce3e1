//! What is known before anything is judged. Each fact that could not be had says why.

use warren_common::Timestamp;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    error::Error,
    view::{cluster::Cluster, node::Node, workspace::Workspace},
};

/// A fact, or why it is not known.
pub(super) type Looked<T> = Result<T, String>;

/// Everything that the checks of a cluster judge.
#[derive(Debug)]
pub(super) struct Facts {
    /// This machine's clock.
    pub(super) here: Timestamp,
    /// The clock of a coordinator, by which ages are told; this machine's where none answers.
    pub(super) now: Timestamp,
    /// Of this program.
    pub(super) version: &'static str,
    pub(super) own: Result<Own, Error>,
    /// Files and folders of the contexts that others than their owner may use, with their modes.
    pub(super) open_to_others: Looked<Vec<(String, u32)>>,
    /// As a majority says it.
    pub(super) cluster: Looked<Cluster>,
    /// Every address that is known, in order of their numbers; those that never told one come last.
    pub(super) coordinators: Vec<Coordinator>,
    pub(super) nodes: Looked<Vec<Node>>,
    pub(super) workspaces: Looked<Vec<Workspace>>,
    pub(super) backup: Looked<LastBackup>,
}

/// The context in use.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) context: String,
    /// Where contexts are named.
    pub(super) file: String,
    pub(super) cluster: String,
    pub(super) cluster_id: String,
    pub(super) person: String,
    /// The end of the certificate.
    pub(super) expires: Timestamp,
}

/// One coordinator, as this machine reaches it.
#[derive(Debug)]
pub(super) struct Coordinator {
    /// None where only the context names the address, and it did not answer.
    pub(super) id: Option<u64>,
    pub(super) address: String,
    pub(super) answer: Result<Answer, Unanswered>,
}

/// Why a coordinator did not say how it is.
#[derive(Debug, Clone)]
pub(super) enum Unanswered {
    /// It is not reached, or says nothing.
    Silent(String),
    /// It answers with something else.
    Refused {
        why: String,
        /// What to do about it.
        next: Option<String>,
    },
}

/// What it said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) said: pb::InspectCoordinatorResponse,
    /// How far its clock is ahead of this machine's, in milliseconds.
    pub(super) ahead_ms: i64,
}

/// The newest record of a backup.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LastBackup {
    Taken {
        at: Timestamp,
        by: String,
    },
    /// There is no record of one.
    Never,
}

impl Coordinator {
    /// Names it for people.
    pub(super) fn label(&self) -> String {
        self.id.map_or_else(|| self.address.clone(), |id| format!("coordinator {id}"))
    }
}

impl Facts {
    /// Returns those that answered, with what they said.
    pub(super) fn answering(&self) -> impl Iterator<Item = (&Coordinator, &Answer)> {
        self.coordinators.iter().filter_map(|one| Some((one, one.answer.as_ref().ok()?)))
    }

    /// Returns the names of those that did not; without addresses that the cluster does not name.
    pub(super) fn silent(&self) -> Vec<String> {
        let ours = |one: &&Coordinator| one.id.is_some() || self.cluster.is_err();
        let silent = self.coordinators.iter().filter(|one| one.answer.is_err()).filter(ours);
        silent.map(Coordinator::label).collect()
    }
}
