//! What one object may do: the sequential rules against which calls that ran side by side are held.
//!
//! An object is there or not, carries labels, and has the revision of the mutation that last
//! changed it. Which revision a mutation gets is the cluster's choice, so where no answer told it,
//! it is known only to be past the one before.

use std::collections::BTreeMap;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// An object as an answer showed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Its labels.
    pub labels: Labels,
    /// The mutation that last changed it; none where the answer has no such thing.
    pub revision: Option<u64>,
}

/// One call as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// It was made with these labels, and was shown so right after where that is known.
    Create(Labels, Option<Seen>),
    /// Its labels were changed.
    Label(Change, Option<Seen>),
    /// It was removed, if it had not changed since a revision.
    Delete(Option<u64>),
    /// It was looked at.
    Read(Option<Seen>),
    /// A creation was refused because it is there.
    RefusedThere,
    /// A change was refused because it has changed since this revision.
    RefusedChanged(u64),
}

/// A change of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Labels that it carries afterwards.
    pub set: Labels,
    /// Keys that it does not carry afterwards.
    pub remove: Vec<String>,
    /// Only if it has not changed since.
    pub if_revision: Option<u64>,
}

/// What is known of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Revision {
    Is(u64),
    /// This or a later one.
    From(u64),
}

/// The object between two calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    labels: Option<Labels>,
    revision: Revision,
}

impl State {
    /// Returns an object that was never there.
    pub const fn absent() -> Self {
        Self { labels: None, revision: Revision::From(0) }
    }

    /// Returns the object after a call; none where the call cannot have gone so now.
    pub fn after(&self, act: &Act) -> Option<Self> {
        match (act, &self.labels) {
            (Act::Create(labels, shown), None) => self.changed(labels.clone(), shown.as_ref()),
            (Act::Label(change, shown), Some(labels)) => {
                if !self.unchanged_since(change.if_revision) {
                    return None;
                }
                let mut labels = labels.clone();
                labels.retain(|key, _| !change.remove.contains(key));
                labels.extend(change.set.clone());
                self.changed(labels, shown.as_ref())
            }
            (Act::Delete(if_revision), Some(_)) => {
                let revision = Revision::From(self.revision.next());
                self.unchanged_since(*if_revision).then_some(Self { labels: None, revision })
            }
            (Act::Read(None), None) | (Act::RefusedThere, Some(_)) => Some(self.clone()),
            (Act::Read(Some(seen)), Some(labels)) => {
                let revision = self.revision.bound(seen.revision)?;
                (*labels == seen.labels).then(|| Self { labels: self.labels.clone(), revision })
            }
            (Act::RefusedChanged(since), Some(_)) => match self.revision {
                Revision::Is(revision) => (revision > *since).then(|| self.clone()),
                Revision::From(least) => {
                    let revision = Revision::From(least.max(since + 1));
                    Some(Self { labels: self.labels.clone(), revision })
                }
            },
            (Act::Create(..), Some(_))
            | (Act::Label(..) | Act::Delete(_) | Act::RefusedChanged(_), None)
            | (Act::Read(Some(_)) | Act::RefusedThere, None)
            | (Act::Read(None), Some(_)) => None,
        }
    }

    fn changed(&self, labels: Labels, shown: Option<&Seen>) -> Option<Self> {
        if shown.is_some_and(|shown| shown.labels != labels) {
            return None;
        }
        let next = Revision::From(self.revision.next());
        let revision = next.bound(shown.and_then(|shown| shown.revision))?;
        Some(Self { labels: Some(labels), revision })
    }

    const fn unchanged_since(&self, since: Option<u64>) -> bool {
        match (since, self.revision) {
            (None, _) => true,
            (Some(since), Revision::Is(least) | Revision::From(least)) => least <= since,
        }
    }
}

impl Revision {
    /// Returns the least that a later one can be.
    const fn next(self) -> u64 {
        match self {
            Self::Is(least) | Self::From(least) => least + 1,
        }
    }

    /// Returns what is known once an answer has named it; none where that cannot be.
    fn bound(self, told: Option<u64>) -> Option<Self> {
        let Some(told) = told else { return Some(self) };
        let fits = match self {
            Self::Is(revision) => told == revision,
            Self::From(least) => told >= least,
        };
        fits.then_some(Self::Is(told))
    }
}
