//! Whose is what: the agents by session, and who an agent's message belongs to.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::Duration,
};

use warren_common::{
    Timestamp,
    agent::{AgentKind, AppServer},
};
use warren_proto::pb::inside::v1::{AgentExplanation, AgentStatus};

use super::{
    Wish,
    codex::Thread,
    entry::Entry,
    explain,
    look::Kills,
    message::{Message, Teller},
};
use crate::tmux::Seen;

/// Messages kept whose session is not known yet, and for how long.
const EARLY: usize = 32;
const EARLY_TIME: Duration = Duration::from_secs(5);
/// Between two looks that messages ask for.
const WANTED: Duration = Duration::from_secs(1);
/// Between two looks at one session's processes that its own agent's messages ask for.
const FOLLOWED: Duration = Duration::from_millis(100);
/// Screens asked for at one time.
const WISHES: usize = 2;

/// The agents of the workspace.
#[derive(Debug)]
pub(super) struct Roster {
    pub(super) entries: BTreeMap<String, Entry>,
    /// The sessions at the last look.
    pub(super) sessions: Vec<Seen>,
    /// Where Claude Code keeps its records.
    pub(super) records: PathBuf,
    pub(super) kills: Kills,
    early: VecDeque<(Message, Timestamp)>,
    wanted: Timestamp,
    followed: Timestamp,
    /// Messages that nobody understood or owns, since somebody asked.
    lost: u64,
}

impl Roster {
    /// Returns a roster without agents; `records` is Claude Code's folder.
    pub(super) fn new(records: PathBuf) -> Self {
        Self {
            entries: BTreeMap::new(),
            sessions: Vec::new(),
            records,
            kills: Kills::default(),
            early: VecDeque::new(),
            wanted: Timestamp(0),
            followed: Timestamp(0),
            lost: 0,
        }
    }

    /// Takes one message as it came; returns whether a look at the sessions is wanted.
    pub(super) fn take(&mut self, bytes: &[u8], now: Timestamp) -> bool {
        let Some(message) = Message::read(bytes) else {
            self.lost += 1;
            return false;
        };
        let Some(message) = self.hear(message, now) else { return false };
        if self.early.len() == EARLY {
            self.early.pop_front();
            self.lost += 1;
        }
        self.early.push_back((message, now));
        let wanted = now.since(self.wanted) >= WANTED;
        if wanted {
            self.wanted = now;
        }
        wanted
    }

    /// Hears those again whose session was not known yet.
    pub(super) fn hear_early(&mut self, now: Timestamp) {
        for (message, came) in std::mem::take(&mut self.early) {
            match self.hear(message, now) {
                Some(_) if now.since(came) > EARLY_TIME => self.lost += 1,
                Some(message) => self.early.push_back((message, came)),
                None => {}
            }
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.kills.look(now);
        self.entries.values_mut().for_each(|entry| entry.tick(now));
    }

    /// Returns what people are told of a session's agent.
    pub(super) fn status(&self, session: &str) -> Option<AgentStatus> {
        self.entries.get(session).map(|entry| entry.shown().clone())
    }

    /// Returns what changed since the last call or look.
    pub(super) fn changed(&mut self) -> Vec<(String, AgentStatus)> {
        let changed = self.entries.iter_mut().filter_map(|(name, entry)| {
            entry.take_changed().then(|| (name.clone(), entry.shown().clone()))
        });
        changed.collect()
    }

    /// Returns whether an agent works or somebody watches.
    pub(super) fn is_busy(&self) -> bool {
        self.entries.values().any(Entry::is_busy)
    }

    /// Returns the panes whose screen says more.
    pub(super) fn wishes(&mut self, now: Timestamp) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for (session, entry) in &mut self.entries {
            if wishes.len() < WISHES && entry.wishes_screen(now) {
                wishes.push(Wish { session: session.clone(), pane: entry.pane.clone() });
            }
        }
        wishes
    }

    /// Takes in the text on a pane's screen.
    pub(super) fn screen(&mut self, wish: &Wish, text: &str, now: Timestamp) {
        let entry = self.entries.get_mut(&wish.session);
        if let Some(entry) = entry.filter(|entry| entry.pane == wish.pane) {
            entry.screen(text, now);
        }
    }

    /// Returns why a session's status is what it is.
    pub(super) fn explain(&self, session: &str) -> AgentExplanation {
        self.entries.get(session).map(|entry| explain::of(entry.arbiter())).unwrap_or_default()
    }

    /// Returns how many messages were of no use since the last call.
    pub(super) fn lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Gives a message to the agent it is of; returns it where its session is not known.
    fn hear(&mut self, message: Message, now: Timestamp) -> Option<Message> {
        if message.hook.helper {
            return None;
        }
        let Some(session) = self.owner(&message) else { return Some(message) };
        let seen = self.sessions.iter().find(|seen| seen.name == session)?;
        // left behind by an earlier session of this name
        if message.at.0 < seen.created.saturating_mul(1000) {
            self.lost += 1;
            return None;
        }
        if !self.entry_for(&session, &message, now) {
            self.lost += 1;
            return None;
        }
        let entry = self.entries.get_mut(&session)?;
        if !entry.hook(message, now) {
            self.lost += 1;
        }
        None
    }

    fn owner(&self, message: &Message) -> Option<String> {
        match message.teller {
            Teller::Codex => self.owner_of_thread(message),
            Teller::Claude | Teller::Gemini | Teller::Custom => {
                self.told_owner(message).or_else(|| {
                    let kind = message.teller.kind().filter(|_| message.session.is_empty())?;
                    self.in_folder(&kind, &message.folder)
                })
            }
        }
    }

    /// The session that the environment names; its pane is told first, since sessions get new names.
    fn told_owner(&self, message: &Message) -> Option<String> {
        let has_pane = |seen: &&Seen| seen.panes.iter().any(|pane| pane.id == message.pane);
        let by_pane = self.sessions.iter().find(has_pane);
        let by_name = || self.sessions.iter().find(|seen| seen.name == message.session);
        by_pane.or_else(by_name).map(|seen| seen.name.clone())
    }

    /// Codex's hooks run in one daemon with the environment of whoever started it first: the thread
    /// and the folder tell whose they are, and the environment only where there is no choice.
    fn owner_of_thread(&self, message: &Message) -> Option<String> {
        let of_kind = || self.entries.iter().filter(|(_, entry)| *entry.kind() == AgentKind::Codex);
        let known = of_kind()
            .find(|(_, entry)| !message.thread.is_empty() && entry.thread == message.thread);
        if let Some((name, _)) = known {
            return Some(name.clone());
        }
        if let Some(name) = self.in_folder(&AgentKind::Codex, &message.folder) {
            return Some(name);
        }
        match of_kind().count() {
            0 => self.told_owner(message),
            1 => {
                let told = self.told_owner(message)?;
                of_kind().any(|(name, _)| *name == told).then_some(told)
            }
            _ => None,
        }
    }

    /// Takes in what Codex's daemon says of a thread.
    pub(super) fn thread(
        &mut self,
        (thread, status): (&Thread, AppServer),
        at: Timestamp,
        now: Timestamp,
    ) {
        let owner = self.owner_in_daemon(thread, now);
        if let Some(entry) = owner.and_then(|name| self.entries.get_mut(&name)) {
            entry.in_daemon(status, at, now);
        }
    }

    /// Hooks tell of the thread with the first prompt; until then it is of the only Codex that is in its
    /// folder, and was before it.
    fn owner_in_daemon(&self, thread: &Thread, now: Timestamp) -> Option<String> {
        let of_kind = || self.entries.iter().filter(|(_, entry)| *entry.kind() == AgentKind::Codex);
        if let Some((name, _)) = of_kind().find(|(_, entry)| entry.thread == thread.id) {
            return Some(name.clone());
        }
        let mut there = of_kind().filter(|(_, entry)| {
            let process = entry.process().filter(|process| process.begun(now) <= thread.since);
            let folder = process.and_then(|process| super::tree::folder(process.pid));
            entry.is_alive() && folder.as_deref() == Some(thread.folder.as_str())
        });
        let (name, entry) = there.next()?;
        (entry.thread.is_empty() && there.next().is_none()).then(|| name.clone())
    }

    /// Sees to it that the session has an agent of the message's kind; returns false where another
    /// agent has the session, which runs this one as a tool.
    fn entry_for(&mut self, session: &str, message: &Message, now: Timestamp) -> bool {
        let Some(kind) = message.teller.kind() else {
            self.catch_up(session, now);
            return self.entries.contains_key(session);
        };
        let (pane, leader) = match self.entries.get(session) {
            Some(entry) if *entry.kind() == kind => return true,
            Some(entry) if entry.kind().tells() && entry.is_alive() => return false,
            // the last words of an agent whose place is taken
            _ if message.process.is_some_and(|process| !process.is_there()) => return false,
            Some(entry) => (entry.pane.clone(), entry.process()),
            None => (String::new(), None),
        };
        let pane = if message.pane.is_empty() { pane } else { message.pane.clone() };
        let mut entry = Entry::new(kind, &pane, message.at.min(now));
        if let Some(process) = message.process.or(leader) {
            entry.came_up(process, now);
        }
        self.insert(session, entry);
        true
    }

    /// A program may tell before a look has found it: what it tells is not for the one before.
    fn catch_up(&mut self, session: &str, now: Timestamp) {
        if now.since(self.followed) < FOLLOWED && self.entries.contains_key(session) {
            return;
        }
        self.followed = now;
        if let Some(entry) = self.entries.get_mut(session) {
            entry.wake();
        }
        let seen = self.sessions.iter().find(|seen| seen.name == session).cloned();
        if let Some(seen) = seen {
            self.follow(&seen, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agent::message::tests::message, tmux::Pane};

    const NOW: Timestamp = Timestamp(2_001_000);

    fn roster(names: &[&str]) -> Roster {
        let mut roster = Roster::new(PathBuf::from("/nowhere"));
        roster.look(&sessions(names), NOW);
        roster
    }

    /// Sessions in panes `%0`, `%1`, … whose processes are not there.
    fn sessions(names: &[&str]) -> Vec<Seen> {
        let seen = |(at, name): (usize, &&str)| Seen {
            name: (*name).to_owned(),
            command: "bash".to_owned(),
            agent: None,
            exit: None,
            created: 2000,
            active: 2000,
            viewers: 0,
            panes: vec![Pane { id: format!("%{at}"), ..Pane::default() }],
        };
        names.iter().enumerate().map(seen).collect()
    }

    fn take(roster: &mut Roster, message: &Message, now: Timestamp) -> bool {
        roster.take(&serde_json::to_vec(message).expect("plain data"), now)
    }

    fn kind(roster: &Roster, session: &str) -> Option<String> {
        roster.status(session).map(|status| status.kind)
    }

    #[test]
    fn a_hook_says_which_agent_a_session_has() {
        let mut roster = roster(&["main", "other"]);
        assert_eq!(kind(&roster, "main").as_deref(), Some("shell"));
        assert!(roster.changed().is_empty(), "the look tells of itself");
        assert!(!take(&mut roster, &message("SessionStart"), NOW));
        assert_eq!(kind(&roster, "main").as_deref(), Some("claude"));
        assert_eq!(roster.changed().len(), 1);
        let nested = Message { teller: Teller::Gemini, ..message("AfterAgent") };
        take(&mut roster, &nested, NOW);
        assert_eq!((kind(&roster, "main").as_deref(), roster.lost()), (Some("claude"), 1));
        let moved = Message { pane: "%1".to_owned(), ..message("Stop") };
        take(&mut roster, &moved, NOW);
        assert_eq!(kind(&roster, "other").as_deref(), Some("claude"), "its pane has moved");
    }

    #[test]
    fn a_message_waits_for_its_session_and_not_for_ever() {
        let mut roster = roster(&[]);
        assert!(take(&mut roster, &message("SessionStart"), NOW), "a look is wanted");
        assert!(!take(&mut roster, &message("UserPromptSubmit"), NOW), "one is enough");
        roster.look(&sessions(&["main"]), NOW);
        assert_eq!(kind(&roster, "main").as_deref(), Some("claude"));
        let lost = Message { session: "none".to_owned(), ..message("Stop") };
        for _ in 0..99 {
            take(&mut roster, &lost, NOW);
        }
        assert_eq!((roster.lost(), roster.early.len()), (99 - EARLY as u64, EARLY));
        roster.look(&sessions(&["main"]), NOW.plus(EARLY_TIME * 2));
        assert_eq!((roster.lost(), roster.early.len()), (EARLY as u64, 0));
    }

    #[test]
    fn what_an_earlier_session_of_the_name_left_is_not_believed() {
        let mut roster = roster(&["main"]);
        let old = Message { at: Timestamp(1_999_999), ..message("UserPromptSubmit") };
        take(&mut roster, &old, NOW);
        assert_eq!((kind(&roster, "main").as_deref(), roster.lost()), (Some("shell"), 1));
        take(&mut roster, &message("UserPromptSubmit"), NOW);
        let mut again = sessions(&["main"]);
        again[0].created += 1;
        roster.look(&again, NOW);
        assert_eq!(kind(&roster, "main").as_deref(), Some("shell"), "and it begins anew");
        roster.look(&[], NOW);
        assert_eq!(roster.status("main"), None);
    }

    #[test]
    fn what_is_no_message_is_counted() {
        let mut roster = roster(&["main"]);
        for bytes in [&b""[..], b"{}", &[0xff; 99]] {
            assert!(!roster.take(bytes, NOW));
        }
        assert_eq!((roster.lost(), roster.lost()), (3, 0));
        let helper = Message { teller: Teller::Codex, ..message("Stop") };
        let hook = warren_common::agent::Hook { helper: true, ..helper.hook.clone() };
        take(&mut roster, &Message { hook, ..helper }, NOW);
        assert_eq!((kind(&roster, "main").as_deref(), roster.lost()), (Some("shell"), 0));
    }

    #[test]
    fn threads_of_codex_are_not_told_apart_by_their_environment() {
        let mut roster = roster(&["one", "two"]);
        let of = |thread: &str, session: &str| Message {
            teller: Teller::Codex,
            thread: thread.to_owned(),
            session: session.to_owned(),
            ..message("UserPromptSubmit")
        };
        take(&mut roster, &of("t1", "one"), NOW);
        assert_eq!(kind(&roster, "one").as_deref(), Some("codex"), "there is no other");
        take(&mut roster, &of("t1", "two"), NOW);
        assert_eq!(kind(&roster, "two").as_deref(), Some("shell"), "the thread is known");
        roster.insert("two", Entry::new(AgentKind::Codex, "%1", NOW));
        take(&mut roster, &of("t2", "one"), NOW);
        let thread = |name: &str| roster.entries.get(name).map(|entry| entry.thread.clone());
        assert_eq!(thread("one").as_deref(), Some("t1"), "two agents: the environment is no word");
        assert_eq!(thread("two").as_deref(), Some(""));
    }
}
