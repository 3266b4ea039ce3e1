//! What the node sees of each workspace now, for everything that reports it.
//!
//! Writers replace the picture of one workspace; readers each remember how far they have read and
//! take what changed since. Nothing is queued: a slow reader misses steps between, never the last.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use warren_common::{
    SessionName, Timestamp, WorkspaceId,
    agent::StateName,
    browser::{BrowserId, Urgency},
    status::WorkspaceObserved,
};

/// The board: one picture per workspace, each with the version at which it last changed.
#[derive(Debug, Default)]
pub struct Board {
    entries: Mutex<Entries>,
    version: watch::Sender<u64>,
    /// The version at which a workspace last came to stand elsewhere.
    moved: watch::Sender<u64>,
    /// The version at which an agent or a browser last came into another state.
    agents: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Entries {
    pictures: BTreeMap<WorkspaceId, (u64, WorkspaceObserved)>,
    /// The version at which a workspace was last taken off.
    removed: u64,
}

/// What a reader has not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// How far this goes; the next reading starts here.
    pub version: u64,
    /// These are all workspaces, not only those that changed.
    pub full: bool,
    /// By id.
    pub workspaces: Vec<WorkspaceObserved>,
}

impl Board {
    /// Shows this picture of its workspace; wakes readers only where it differs.
    pub fn publish(&self, observed: WorkspaceObserved) {
        let mut entries = self.lock();
        let id = observed.workspace;
        let shown = entries.pictures.get(&id).map(|(_, shown)| shown);
        if shown == Some(&observed) {
            return;
        }
        let standing = |seen: &WorkspaceObserved| (seen.run_serial, seen.state.clone());
        let moved = shown.map(standing) != Some(standing(&observed));
        let turned = shown.is_none_or(|shown| {
            !agents(shown).eq(agents(&observed)) || !browsers(shown).eq(browsers(&observed))
        });
        let version = *self.version.borrow() + 1;
        entries.pictures.insert(id, (version, observed));
        self.version.send_replace(version);
        if moved {
            self.moved.send_replace(version);
        }
        if turned {
            self.agents.send_replace(version);
        }
    }

    /// Takes a workspace off: the node knows nothing of it any more.
    pub fn remove(&self, workspace: WorkspaceId) {
        let mut entries = self.lock();
        if entries.pictures.remove(&workspace).is_some() {
            entries.removed = *self.version.borrow() + 1;
            self.version.send_replace(entries.removed);
        }
    }

    /// Returns what changed after `version`: everything where nothing was read before (version
    /// zero), or where a workspace was taken off meanwhile.
    pub fn since(&self, version: u64) -> Changes {
        let entries = self.lock();
        let full = version == 0 || entries.removed > version;
        let news = entries.pictures.values().filter(|(at, _)| full || *at > version);
        let workspaces = news.map(|(_, observed)| observed.clone()).collect();
        Changes { version: *self.version.borrow(), full, workspaces }
    }

    /// Returns the picture of one workspace.
    pub fn get(&self, workspace: WorkspaceId) -> Option<WorkspaceObserved> {
        self.lock().pictures.get(&workspace).map(|(_, observed)| observed.clone())
    }

    /// Watches the version.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Watches the version at which a workspace last came to stand elsewhere: that is waited for,
    /// the rest is only looked at.
    pub fn watch_moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Watches the version at which an agent or a browser last came into another state: somebody may wait for
    /// that too, but it comes from inside a workspace.
    pub fn watch_agents(&self) -> watch::Receiver<u64> {
        self.agents.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which state each agent is in, and since when.
fn agents(
    observed: &WorkspaceObserved,
) -> impl Iterator<Item = (&SessionName, (StateName, Timestamp))> {
    let sessions = observed.sessions.iter();
    sessions.filter_map(|one| Some((&one.name, one.agent.as_ref()?.stay())))
}

/// How much each browser needs a person.
fn browsers(observed: &WorkspaceObserved) -> impl Iterator<Item = (BrowserId, Urgency)> {
    observed.browsers.iter().map(|one| (one.id, Urgency::of(one)))
}

#[cfg(test)]
mod tests {
    use warren_common::{
        Generation,
        agent::{AgentKind, AgentState, AgentStatus, Confidence, Flags, Meter, Source},
        status::{RunState, SessionObserved, SessionState},
    };

    use super::*;

    fn picture(n: u8, reason: &str) -> WorkspaceObserved {
        WorkspaceObserved {
            workspace: format!("0199a0b2-7f00-7000-8000-0000000000{n:02x}").parse().expect("an id"),
            generation: Generation::new(1, 1),
            run_serial: 1,
            state: RunState::Preparing,
            reason: reason.to_owned(),
            since: Timestamp(1),
            pid: None,
            steps: Vec::new(),
            sessions: Vec::new(),
            usage: Default::default(),
            volume: None,
            caps: None,
            caps_reason: String::new(),
            services: Vec::new(),
            kills: Vec::new(),
            browsers: Vec::new(),
        }
    }

    #[test]
    fn each_reader_takes_what_changed_since_it_last_read() {
        let board = Board::default();
        board.publish(picture(1, "a"));
        board.publish(picture(2, "a"));
        let first = board.since(0);
        assert_eq!((first.full, first.workspaces.len()), (true, 2));
        board.publish(picture(1, "a"));
        let same = board.since(first.version);
        assert_eq!(same.workspaces, [], "the same picture is no change");
        board.publish(picture(1, "b"));
        board.publish(picture(1, "c"));
        let second = board.since(first.version);
        assert_eq!((second.full, &second.workspaces[..]), (false, &[picture(1, "c")][..]));
        assert_eq!(*board.watch_moves().borrow(), first.version, "words are no move");
        board.remove(picture(2, "").workspace);
        let third = board.since(second.version);
        assert_eq!((third.full, &third.workspaces[..]), (true, &[picture(1, "c")][..]));
        assert_eq!(board.since(third.version).workspaces, []);
    }
    #[test]
    fn an_agent_in_another_state_is_no_move_and_told_apart_from_one_that_works_on() {
        let agent = |state, moved| AgentStatus {
            kind: AgentKind::Claude,
            state,
            since: Timestamp(5),
            last_activity: Timestamp(moved),
            source: Source::Registry,
            confidence: Confidence::Exact,
            evidence: Timestamp(5),
            flags: Flags::default(),
            subagents: 0,
            meter: Meter::default(),
        };
        let session = |agent| SessionObserved {
            name: "main".parse().expect("a name"),
            command: "claude".to_owned(),
            state: SessionState::Running,
            started: Timestamp(1),
            active: Timestamp(1),
            viewers: 0,
            panes: Vec::new(),
            killed: None,
            agent: Some(Box::new(agent)),
            run: None,
        };
        let board = Board::default();
        let show = |state, moved| {
            let sessions = vec![session(agent(state, moved))];
            board.publish(WorkspaceObserved { sessions, ..picture(1, "") });
            (*board.watch_agents().borrow(), *board.watch_moves().borrow())
        };
        let working = || AgentState::Working { phase: None, tool: None };
        assert_eq!(show(working(), 6), (1, 1));
        assert_eq!(show(working(), 7), (1, 1));
        assert_eq!(show(AgentState::Idle, 8), (3, 1));
    }
}
