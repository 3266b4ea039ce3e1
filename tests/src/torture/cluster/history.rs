//! Every call that was made, when, and how it ended: in memory for the checks, and line by line in
//! a file beside it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::register::{Change, Labels, Seen};

/// What an object is called: "client t1-3", "workspace w7".
pub type Object = String;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Make an object with these labels.
    Create(Object, Labels),
    /// Change its labels.
    Label(Object, Change),
    /// Remove it, if it has not changed since a revision.
    Delete(Object, Option<u64>),
    /// Look at it.
    Get(Object),
    /// List every client.
    List,
}

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The name is taken.
    There,
    /// There is none of this name.
    Missing,
    /// It has changed since the revision that was named.
    Changed,
    /// The request id is known for the same call at an earlier object of this name.
    Reused,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect; the object as it was shown with the answer.
    Done(Option<Seen>),
    /// It was read: the object and at which revision, or that there is none.
    Found(Option<(u64, Seen)>),
    /// Everything there was at a revision.
    Listed(u64, BTreeMap<Object, Seen>),
    /// It had no effect.
    Refused(Refused),
    /// Nobody said: it may have had an effect, have one later, or never.
    Unknown(String),
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who asked.
    pub caller: usize,
    /// Which coordinator was asked.
    pub coordinator: usize,
    /// Under which request id; none for a read.
    pub request: Option<String>,
    /// What.
    pub ask: Ask,
    /// When, microseconds since the run began.
    pub invoked: u64,
    /// When it was answered or given up.
    pub returned: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Ask {
    /// Returns the object it is about; none for a list.
    pub const fn object(&self) -> Option<&Object> {
        match self {
            Self::Create(object, _)
            | Self::Label(object, _)
            | Self::Delete(object, _)
            | Self::Get(object) => Some(object),
            Self::List => None,
        }
    }

    /// Whether it changes nothing.
    pub const fn reads(&self) -> bool {
        matches!(self, Self::Get(_) | Self::List)
    }

    fn json(&self) -> Value {
        match self {
            Self::Create(object, labels) => json!({"create": object, "labels": labels}),
            Self::Label(object, Change { set, remove, if_revision }) => {
                json!({"label": object, "set": set, "remove": remove, "if_revision": if_revision})
            }
            Self::Delete(object, since) => json!({"delete": object, "if_revision": since}),
            Self::Get(object) => json!({"get": object}),
            Self::List => json!("list"),
        }
    }
}

fn shown(seen: &Seen) -> Value {
    json!({"labels": seen.labels, "revision": seen.revision})
}

impl Outcome {
    fn json(&self) -> Value {
        match self {
            Self::Done(seen) => json!({"done": seen.as_ref().map(shown)}),
            Self::Found(None) => json!({"found": null}),
            Self::Found(Some((at, seen))) => json!({"found": shown(seen), "at": at}),
            Self::Listed(revision, all) => {
                let all: BTreeMap<_, _> =
                    all.iter().map(|(name, seen)| (name, shown(seen))).collect();
                json!({"revision": revision, "listed": all})
            }
            Self::Refused(why) => json!({"refused": format!("{why:?}").to_lowercase()}),
            Self::Unknown(why) => json!({"unknown": why}),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |micros: u64| micros as f64 / 1e6;
        let (from, to) = (seconds(self.invoked), seconds(self.returned));
        let outcome = match &self.outcome {
            Outcome::Listed(revision, all) => format!("{} listed at {revision}", all.len()),
            other => other.json().to_string(),
        };
        let (caller, coordinator) = (self.caller, self.coordinator + 1);
        write!(f, "{from:.3}..{to:.3} s caller {caller} at coordinator {coordinator}: ")?;
        write!(f, "{} -> {outcome}", self.ask.json())
    }
}

/// The calls of one run.
#[derive(Debug)]
pub struct History {
    began: Instant,
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: BufWriter<File>,
    calls: Vec<Call>,
    invoked: usize,
}

/// A call that was asked and has no end yet.
#[derive(Debug)]
pub struct Invoked {
    number: usize,
    call: Call,
}

impl History {
    /// Begins an empty one.
    ///
    /// # Errors
    /// Fails where the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        let inner = Inner { file: BufWriter::new(file), calls: Vec::new(), invoked: 0 };
        Ok(Self { began: Instant::now(), path: path.to_owned(), inner: Mutex::new(inner) })
    }

    /// Returns how long the run has lasted, in microseconds.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Notes that a call is about to be made.
    ///
    /// # Errors
    /// Fails where it cannot be written.
    pub fn invoke(
        &self,
        (caller, coordinator): (usize, usize),
        request: Option<&str>,
        ask: &Ask,
    ) -> Result<Invoked> {
        let mut inner = self.lock();
        let (number, invoked) = (inner.invoked, self.now());
        inner.invoked += 1;
        let line = json!({
            "call": number, "at": invoked, "caller": caller, "coordinator": coordinator + 1,
            "request": request, "ask": ask.json(),
        });
        writeln!(inner.file, "{line}")?;
        let (request, ask) = (request.map(str::to_owned), ask.clone());
        let outcome = Outcome::Unknown("never answered".to_owned());
        let call = Call { caller, coordinator, request, ask, invoked, returned: invoked, outcome };
        Ok(Invoked { number, call })
    }

    /// Notes how it ended.
    ///
    /// # Errors
    /// Fails where it cannot be written.
    pub fn returned(&self, invoked: Invoked, outcome: Outcome) -> Result<()> {
        let returned = self.now();
        let Invoked { number, call } = invoked;
        let mut inner = self.lock();
        let line = json!({"call": number, "at": returned, "outcome": outcome.json()});
        writeln!(inner.file, "{line}")?;
        inner.calls.push(Call { returned, outcome, ..call });
        Ok(())
    }

    /// Counts calls so far: all, answered, refused, unknown.
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        let mut counts = Counts::default();
        for call in &inner.calls {
            counts.add(call);
        }
        counts
    }

    /// Returns every call, in the order in which they ended, and writes out the file.
    ///
    /// # Errors
    /// Fails where the file cannot be written.
    pub fn calls(&self) -> Result<Vec<Call>> {
        let mut inner = self.lock();
        inner.file.flush()?;
        Ok(inner.calls.clone())
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many calls ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Mutations that took effect.
    pub done: usize,
    /// Reads.
    pub read: usize,
    /// Refused ones.
    pub refused: usize,
    /// Those without an answer.
    pub unknown: usize,
}

impl Counts {
    const fn add(&mut self, call: &Call) {
        match call.outcome {
            Outcome::Done(_) => self.done += 1,
            Outcome::Found(_) | Outcome::Listed(..) => self.read += 1,
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Unknown(_) => self.unknown += 1,
        }
    }

    /// Returns how many there are.
    pub const fn all(&self) -> usize {
        self.done + self.read + self.refused + self.unknown
    }
}
