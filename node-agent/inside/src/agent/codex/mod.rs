//! Codex's daemon, which runs the turns of all its sessions: what it says of its threads, and the end
//! of a turn in it.
//!
//! That of the usual home is listened to, `~/.codex`; a Codex with another one tells by its hooks and
//! its title alone. What is said is as little believed as a hook: it is bounded and shown.

mod client;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use warren_common::{Timestamp, agent::AppServer};

use self::client::{ANSWER, Client, Said, ids, thread, turn, unnamed};
use super::{Agents, now, pace::Pace};
use crate::journal::event;

/// Between two looks for a daemon.
const LOOK: Duration = Duration::from_secs(1);
/// Between two questions how a turn failed.
const AGAIN: Duration = Duration::from_millis(100);
/// Threads that are known at one time, and answers that are waited for.
const THREADS: usize = 64;
/// Messages taken in one [`WINDOW`].
const PER_WINDOW: u32 = 64;
const WINDOW: Duration = Duration::from_millis(100);
/// For a turn to be ended.
const STOPPED: Duration = Duration::from_secs(3);

/// A thread that a person sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Thread {
    pub(super) id: String,
    pub(super) folder: String,
    /// When it came to be in the daemon, not before.
    pub(super) since: Timestamp,
}

/// What a thread is known as.
#[derive(Debug)]
struct Known {
    id: String,
    /// None where no person sees it.
    seen: Option<Thread>,
}

/// What was asked for.
#[derive(Debug)]
enum Asked {
    Loaded,
    /// What a thread is. What was said of it since is told then.
    Thread {
        id: String,
        since: Option<Timestamp>,
        said: Option<(AppServer, Timestamp)>,
    },
    /// How a thread's turn failed.
    Failure {
        thread: Thread,
        at: Timestamp,
    },
}

struct Listening<'a> {
    agents: &'a Agents,
    client: Client,
    known: VecDeque<Known>,
    asked: BTreeMap<u64, (Asked, Timestamp)>,
    /// Failures that were asked for before they were there, to be asked for again.
    early: Vec<(Thread, Timestamp)>,
}

/// Listens for ever, while there is a Codex.
pub(super) async fn run(agents: &Agents) {
    let mut told = false;
    loop {
        sleep(LOOK).await;
        if !agents.has_codex() {
            continue;
        }
        match Client::connect(&agents.home).await {
            Ok(client) => {
                let mut listening = Listening::new(agents, client);
                let ended = listening.run().await;
                listening.end();
                match ended {
                    Ok(()) => told = false,
                    Err(error) if !told => {
                        event!("Codex's daemon is not understood: {error}");
                        told = true;
                    }
                    Err(_) => {}
                }
            }
            // it comes with the first Codex, and goes with the last
            Err(error) if is_absent(&error) => {}
            Err(error) if !told => {
                event!("Codex's daemon does not say what it does: {error}");
                told = true;
            }
            Err(_) => {}
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

impl<'a> Listening<'a> {
    const fn new(agents: &'a Agents, client: Client) -> Self {
        Self { agents, client, known: VecDeque::new(), asked: BTreeMap::new(), early: Vec::new() }
    }

    /// Returns at the daemon's end, or where there is no Codex any more.
    async fn run(&mut self) -> io::Result<()> {
        self.ask(Asked::Loaded).await?;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pace = Pace::new(PER_WINDOW, WINDOW);
        loop {
            let said = tokio::select! {
                said = self.client.next() => said?,
                _ = looks.tick() => {
                    if !self.agents.has_codex() {
                        return Ok(());
                    }
                    self.give_up();
                    continue;
                }
                _ = again.tick(), if !self.early.is_empty() => {
                    self.ask_again().await?;
                    continue;
                }
            };
            let Some(said) = said else { return Ok(()) };
            self.hear(said).await?;
            pace.took().await;
        }
    }

    async fn hear(&mut self, said: Said) -> io::Result<()> {
        match said {
            Said::Began(thread, at) => {
                let status = thread.status();
                self.learn(&thread, at);
                if let Some(status) = status {
                    self.changed(thread.id, status, at).await?;
                }
                Ok(())
            }
            Said::Changed(id, Some(status), at) => self.changed(id, status, at).await,
            Said::Answer(id, answer) => match self.asked.remove(&id) {
                Some((asked, sent)) => self.answered(asked, &answer, sent).await,
                None => Ok(()),
            },
            Said::Refusal(id, _) => {
                if let Some((asked, _)) = self.asked.remove(&id) {
                    self.unanswered(asked);
                }
                Ok(())
            }
            Said::Changed(_, None, _) | Said::Aside => Ok(()),
        }
    }

    async fn changed(&mut self, id: String, status: AppServer, at: Timestamp) -> io::Result<()> {
        if let Some(place) = self.known.iter().position(|known| known.id == id) {
            let seen = self.known[place].seen.clone();
            if status == AppServer::NotLoaded {
                self.known.remove(place);
            }
            return match seen {
                Some(thread) => self.tell(thread, status, at).await,
                None => Ok(()),
            };
        }
        if status == AppServer::NotLoaded {
            return Ok(());
        }
        for (asked, _) in self.asked.values_mut() {
            if let Asked::Thread { id: of, said, .. } = asked
                && *of == id
            {
                *said = Some((status, at));
                return Ok(());
            }
        }
        self.ask(Asked::Thread { id, since: Some(at), said: Some((status, at)) }).await
    }

    async fn answered(&mut self, asked: Asked, answer: &Value, sent: Timestamp) -> io::Result<()> {
        match asked {
            Asked::Loaded => {
                for id in ids(answer).into_iter().take(THREADS) {
                    self.ask(Asked::Thread { id, since: None, said: None }).await?;
                }
                Ok(())
            }
            Asked::Thread { since, said, .. } => {
                let Some(thread) = thread(answer) else { return Ok(()) };
                // it is told in whole seconds
                let made = Timestamp(thread.created_at.saturating_mul(1000).saturating_add(999));
                self.learn(&thread, since.unwrap_or(made));
                // what it did when it was asked: all that is said after that comes later
                let then = thread.status().map(|status| (status, sent));
                for (status, at) in then.into_iter().chain(said) {
                    self.changed(thread.id.clone(), status, at).await?;
                }
                Ok(())
            }
            Asked::Failure { thread, at } => {
                match turn(answer).filter(|turn| !turn.runs()) {
                    Some(turn) => self.agents.thread_told(&thread, turn.failure(), at),
                    // the thread is told of before its turn
                    None => self.early.push((thread, at)),
                }
                Ok(())
            }
        }
    }

    fn learn(&mut self, thread: &client::Thread, since: Timestamp) {
        self.known.retain(|known| known.id != thread.id);
        if self.known.len() == THREADS {
            self.known.pop_front();
        }
        let (id, folder) = (thread.id.clone(), thread.cwd.clone());
        let seen = thread.is_seen().then(|| Thread { id: id.clone(), folder, since });
        self.known.push_back(Known { id, seen });
    }

    async fn tell(&mut self, thread: Thread, status: AppServer, at: Timestamp) -> io::Result<()> {
        if matches!(status, AppServer::SystemError { .. }) {
            return self.ask(Asked::Failure { thread, at }).await;
        }
        self.agents.thread_told(&thread, status, at);
        Ok(())
    }

    async fn ask(&mut self, asked: Asked) -> io::Result<()> {
        if self.asked.len() == THREADS
            && let Some((_, (asked, _))) = self.asked.pop_first()
        {
            self.unanswered(asked);
        }
        let sent = now();
        let id = match &asked {
            Asked::Loaded => {
                self.client.ask("thread/loaded/list", json!({"limit": THREADS})).await?
            }
            Asked::Thread { id, .. } => {
                self.client.ask("thread/read", json!({"threadId": id})).await?
            }
            Asked::Failure { thread, .. } => {
                self.client.ask("thread/turns/list", newest(&thread.id)).await?
            }
        };
        self.asked.insert(id, (asked, sent));
        Ok(())
    }

    /// Asks again how turns failed that went on when that was asked; what never ends has no reason.
    async fn ask_again(&mut self) -> io::Result<()> {
        for (thread, at) in std::mem::take(&mut self.early) {
            if now().since(at) > ANSWER {
                self.agents.thread_told(&thread, unnamed(), at);
            } else {
                self.ask(Asked::Failure { thread, at }).await?;
            }
        }
        Ok(())
    }

    /// Waits no longer for what was asked for long ago.
    fn give_up(&mut self) {
        let now = now();
        let late = |_: &u64, asked: &mut (Asked, Timestamp)| now.since(asked.1) > ANSWER;
        let late: Vec<Asked> =
            self.asked.extract_if(.., late).map(|(_, (asked, _))| asked).collect();
        late.into_iter().for_each(|asked| self.unanswered(asked));
    }

    /// Tells what is known of all that was asked for and is not answered any more.
    fn end(&mut self) {
        for (_, (asked, _)) in std::mem::take(&mut self.asked) {
            self.unanswered(asked);
        }
        for (thread, at) in std::mem::take(&mut self.early) {
            self.unanswered(Asked::Failure { thread, at });
        }
    }

    /// That a turn failed is told, where nobody says how.
    fn unanswered(&self, asked: Asked) {
        if let Asked::Failure { thread, at } = asked {
            self.agents.thread_told(&thread, unnamed(), at);
        }
    }
}

fn newest(thread: &str) -> Value {
    json!({"threadId": thread, "limit": 1, "sortDirection": "desc", "itemsView": "notLoaded"})
}

/// Ends the turn of a thread in the daemon of this home, where there is one, and those of the threads
/// that work for it.
///
/// # Errors
/// The daemon does not answer in time, or refuses.
pub(super) async fn interrupt(home: &Path, thread: &str) -> io::Result<()> {
    let ending = async {
        let mut client = match Client::connect(home).await {
            Err(error) if is_absent(&error) => return Ok(()),
            client => client?,
        };
        let loaded = client.call("thread/loaded/list", json!({"limit": THREADS})).await?;
        let mut parents = Vec::new();
        for id in ids(&loaded).into_iter().take(THREADS) {
            // one that has gone meanwhile has no turn
            let read = client.call("thread/read", json!({"threadId": id})).await.ok();
            let parent =
                read.as_ref().and_then(self::thread).and_then(|read| read.parent_thread_id);
            parents.push((id, parent));
        }
        for id in family(thread, &parents) {
            let Ok(answer) = client.call("thread/turns/list", newest(&id)).await else { continue };
            let Some(turn) = turn(&answer).filter(client::Turn::runs) else { continue };
            client.call("turn/interrupt", json!({"threadId": id, "turnId": turn.id})).await?;
        }
        Ok(())
    };
    timeout(STOPPED, ending).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Returns the thread and those that work for it, where it is among them: first those that begin others.
fn family(thread: &str, parents: &[(String, Option<String>)]) -> Vec<String> {
    let mut family = Vec::new();
    family.extend(parents.iter().map(|(id, _)| id.clone()).find(|id| id == thread));
    let mut next = 0;
    while let Some(parent) = family.get(next).cloned() {
        next += 1;
        let child = |of: &&(String, Option<String>)| of.1.as_ref() == Some(&parent);
        let children = parents.iter().filter(child).map(|(id, _)| id.clone());
        let children: Vec<String> = children.filter(|id| !family.contains(id)).collect();
        family.extend(children);
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_ends_with_all_that_work_for_it() {
        let of = |id: &str, parent: &str| {
            (id.to_owned(), (!parent.is_empty()).then(|| parent.to_owned()))
        };
        let all =
            [of("c", "b"), of("a", ""), of("b", "a"), of("x", ""), of("y", "y"), of("z", "x")];
        assert_eq!(family("a", &all), ["a", "b", "c"]);
        assert_eq!(family("y", &all), ["y"]);
        assert!(family("gone", &all).is_empty());
    }
}
