//! Callers that ask any coordinator, note every call, and repeat what they got no answer to: as
//! often as the seed says, at whichever coordinator, or never.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow};
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};
use uuid::Uuid;
use warren_coordinator::store::Engine;
use warren_daemon::identity::{ClientTls, connect_lazy};

use super::{
    ask::{ask, choose, patience},
    history::{Ask, History, Object, Outcome, Refused},
};
use crate::{Host, torture::Moments};

/// How many callers there are.
pub const CALLERS: usize = 8;
/// How often a call without an answer is repeated at most.
const REPEATS: usize = 5;
/// The longest pause between two calls of one caller, milliseconds.
const PAUSE: u64 = 80;
/// For how long a coordinator that gave no answer is seldom asked, microseconds.
const SHUNNED: u64 = 1_500_000;

/// What all callers share.
pub struct Shared {
    /// Every call.
    pub history: Arc<History>,
    /// Counts the marks by which mutations are told apart.
    pub marks: AtomicU64,
    tls: Arc<ClientTls>,
    addresses: Vec<String>,
    known: Mutex<BTreeMap<Object, u64>>,
    stop: AtomicBool,
}

impl Shared {
    /// Returns the clients that were seen last, with their revisions then.
    pub fn known(&self) -> MutexGuard<'_, BTreeMap<Object, u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the revision at which somebody last saw a client; it may have changed since.
    pub fn revision(&self, object: &str) -> Option<u64> {
        self.known().get(object).copied()
    }

    /// Remembers what an answer says of an object.
    fn learn(&self, ask: &Ask, outcome: &Outcome) {
        let Some(object) = ask.object() else { return };
        let seen = match outcome {
            Outcome::Done(seen) => seen.as_ref(),
            Outcome::Found(found) => found.as_ref().map(|(_, seen)| seen),
            Outcome::Refused(Refused::Missing) => None,
            Outcome::Refused(_) | Outcome::Unknown(_) | Outcome::Listed(..) => return,
        };
        match seen.map(|seen| seen.revision) {
            Some(Some(revision)) => {
                self.known().insert(object.clone(), revision);
            }
            // a workspace, which is not asked for by revision
            Some(None) => {}
            None => {
                self.known().remove(object);
            }
        }
    }
}

/// The callers, on a thread in a host of their own.
pub struct Callers {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

impl Callers {
    /// Starts them on a host: each asks the coordinators at these addresses.
    ///
    /// # Errors
    /// Fails where no thread can be started.
    pub fn start(
        host: Arc<Host>,
        (tls, addresses): (Arc<ClientTls>, Vec<String>),
        history: Arc<History>,
        (seed, engine): (u64, Engine),
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            history,
            marks: AtomicU64::new(0),
            tls,
            addresses,
            known: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let all = shared.clone();
        let calling = move || {
            host.enter()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let mut callers = JoinSet::new();
                for number in 0..CALLERS {
                    let moments = Moments::new(seed.wrapping_add(number as u64 + 1), engine);
                    let doors = vec![Door::default(); all.addresses.len()];
                    callers.spawn(Caller { number, moments, doors, shared: all.clone() }.run());
                }
                while let Some(ended) = callers.join_next().await {
                    ended.context("a caller panicked")??;
                }
                Ok(())
            })
        };
        let thread = thread::Builder::new().name("callers".to_owned()).spawn(calling)?;
        Ok(Self { shared, thread })
    }

    /// Fails where they have ended by themselves: somebody was given an answer that must not be.
    ///
    /// # Errors
    /// Says so; [`Self::stop`] has the reason.
    pub fn check(&self) -> Result<()> {
        anyhow::ensure!(!self.thread.is_finished(), "the callers have ended");
        Ok(())
    }

    /// Lets them end their calls and waits for it.
    ///
    /// # Errors
    /// Fails with an answer that nobody may be given.
    pub fn stop(self) -> Result<()> {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("the callers panicked"))?
    }
}

struct Caller {
    number: usize,
    moments: Moments,
    /// By coordinator.
    doors: Vec<Door>,
    shared: Arc<Shared>,
}

/// A caller's way to one coordinator.
#[derive(Clone, Default)]
struct Door {
    open: Option<Channel>,
    /// Until when others are rather asked.
    shunned: u64,
}

impl Caller {
    async fn run(mut self) -> Result<()> {
        while !self.shared.stop.load(Ordering::SeqCst) {
            let what = choose(&mut self.moments, &self.shared);
            let request = (!what.reads()).then(|| Uuid::now_v7().hyphenated().to_string());
            self.pursue(request.as_deref(), &what).await?;
            tokio::time::sleep(self.moments.between(0, PAUSE)).await;
        }
        Ok(())
    }

    /// Asks, and asks again under the same id where there was no answer; now and then also where
    /// there was one: it must be the same.
    async fn pursue(&mut self, request: Option<&str>, what: &Ask) -> Result<()> {
        for _ in 0..=REPEATS {
            let outcome = self.once(request, what).await?;
            let again = match outcome {
                Outcome::Unknown(_) => !self.moments.once_in(4),
                Outcome::Done(_) => self.moments.once_in(20),
                // only what the model refuses is remembered
                Outcome::Refused(Refused::There | Refused::Changed) => self.moments.once_in(20),
                Outcome::Found(_) | Outcome::Listed(..) | Outcome::Refused(_) => false,
            };
            if !again || request.is_none() || self.shared.stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            tokio::time::sleep(self.moments.between(0, 600)).await;
        }
        Ok(())
    }

    /// Chooses whom to ask: anybody, but one that has just not answered three times less often.
    fn whom(&mut self) -> usize {
        let any = self.moments.below(self.doors.len());
        let shunned = self.doors[any].shunned > self.shared.history.now();
        if shunned && !self.moments.once_in(3) { (any + 1) % self.doors.len() } else { any }
    }

    async fn once(&mut self, request: Option<&str>, what: &Ask) -> Result<Outcome> {
        let coordinator = self.whom();
        let (tls, addresses) = (&self.shared.tls, &self.shared.addresses);
        let open = || connect_lazy(tls, &addresses[coordinator..=coordinator]);
        let channel = self.doors[coordinator].open.get_or_insert_with(open).clone();
        let invoked = self.shared.history.invoke((self.number, coordinator), request, what)?;
        let deadline = patience(&mut self.moments);
        let answer = ask((channel, deadline), request, what).await;
        let told = |status: &Status| Outcome::Unknown(status.to_string());
        let outcome = answer.as_ref().map_or_else(told, Clone::clone);
        self.shared.history.returned(invoked, outcome.clone())?;
        if let Outcome::Unknown(_) = outcome {
            // the connection may be dead without a word
            let shunned = self.shared.history.now() + SHUNNED;
            self.doors[coordinator] = Door { open: None, shunned };
        }
        self.shared.learn(what, &outcome);
        answer.map_err(|status| anyhow!("{what:?} was answered with {status}"))
    }
}
