//! One agent in one session: its arbiter, and what was seen of it last.

use std::{collections::VecDeque, path::Path, time::Duration};

use warren_common::{
    Limits, Timestamp,
    agent::{
        AgentKind, AgentState, Arbiter, Hook, Observation, Phase, Process, Report, Screen,
        StateName, Tmux, WaitKind,
    },
    status::clean,
};
use warren_proto::pb::inside::v1::AgentStatus;

use super::{
    detect::Found,
    message::Message,
    registry::Record,
    screen,
    tree::{self, Life},
};
use crate::tmux::Pane;

/// Between two tellings of a terminal's output.
const OUTPUT: Duration = Duration::from_secs(2);
/// Between two looks at a tree's processor time.
const CPU: Duration = Duration::from_secs(2);
/// A title counts again for this long after it or the agent's state changed: the first look may
/// have come too soon.
const TITLE: Duration = Duration::from_secs(2);
/// Between two looks at a screen.
const SCREEN: Duration = Duration::from_secs(2);
/// An agent that said nothing for this long may be trying the model again.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two tellings of nothing but movement, and of nothing but fresh evidence.
const MOVEMENT_MS: u64 = 2000;
const EVIDENCE_MS: u64 = 30_000;
/// Texts of the hooks that the arbiter still holds, together.
const TEXT_BYTES: usize = 32 * 1024;
/// A text of a hook beyond that.
const SHORT_BYTES: usize = 64;

/// What a look at the pane means for the agent that was followed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meets {
    /// It is still there.
    Same,
    /// One of its kind took its place.
    Again,
    /// Its process is gone, and its pane is back with what was there before.
    Lost,
    /// Something else runs now.
    Other,
}

/// One agent.
#[derive(Debug)]
pub(super) struct Entry {
    kind: AgentKind,
    arbiter: Arbiter,
    /// tmux's id of the pane.
    pub(super) pane: String,
    /// Codex's thread, once it told.
    pub(super) thread: String,
    process: Option<Life>,
    /// The process whose hooks were believed first.
    teller: Option<Life>,
    /// What had the pane when its process was gone.
    after: Option<Life>,
    ended: bool,
    /// When its process was last seen to be over.
    over: Timestamp,
    viewers: u32,
    /// When a hook or a record last spoke.
    heard: Timestamp,
    title: (String, Timestamp),
    /// The title changed since the process began: it is the agent's own.
    titled: bool,
    output: u64,
    /// When output was last told, and when it was last seen.
    wrote: (Timestamp, Timestamp),
    ticks: Option<(Timestamp, u64)>,
    reads: bool,
    record: Record,
    looked: Option<Timestamp>,
    sizes: VecDeque<usize>,
    shown: AgentStatus,
    changed: bool,
}

impl Entry {
    /// Returns an agent of which only its kind is known.
    pub(super) fn new(kind: AgentKind, pane: &str, now: Timestamp) -> Self {
        let arbiter = Arbiter::new(kind, now);
        let kind = arbiter.status().kind;
        Self {
            kind,
            shown: arbiter.status().into(),
            arbiter,
            pane: pane.to_owned(),
            thread: String::new(),
            process: None,
            teller: None,
            after: None,
            ended: false,
            over: Timestamp(0),
            viewers: 0,
            heard: now,
            title: (String::new(), Timestamp(0)),
            titled: false,
            output: 0,
            wrote: (Timestamp(0), Timestamp(0)),
            ticks: None,
            reads: false,
            record: Record::default(),
            looked: None,
            sizes: VecDeque::new(),
            changed: true,
        }
    }

    /// Returns the agent that was found in a pane.
    pub(super) fn found(found: &Found, pane: &str, now: Timestamp) -> Self {
        let begun = found.life.begun(now);
        let mut entry = Self::new(found.kind.clone(), pane, begun);
        entry.came_up(found.life, now);
        entry
    }

    pub(super) const fn kind(&self) -> &AgentKind {
        &self.kind
    }

    pub(super) const fn process(&self) -> Option<Life> {
        self.process
    }

    /// Returns whether its process runs, as far as is known.
    pub(super) fn is_alive(&self) -> bool {
        !self.ended && self.after.is_none() && self.process.is_none_or(Life::is_there)
    }

    /// Returns what it means that `found` has the pane.
    pub(super) fn meets(&self, found: &Found) -> Meets {
        let same = self.process == Some(found.life) && !self.ended;
        match (self.kind.tells(), found.kind.tells()) {
            (true, false) if self.is_alive() || self.after == Some(found.life) => Meets::Same,
            (true, false) if self.after.is_none() && !self.ended => Meets::Lost,
            (true, true) if self.is_alive() => Meets::Same,
            _ if same && self.kind == found.kind => Meets::Same,
            _ if self.kind == found.kind => Meets::Again,
            _ => Meets::Other,
        }
    }

    /// Notes its process, the first or another one.
    pub(super) fn came_up(&mut self, life: Life, now: Timestamp) {
        self.process = Some(life);
        self.teller = None;
        self.after = None;
        self.ended = false;
        self.ticks = None;
        self.reads = false;
        self.record = Record::default();
        self.looked = None;
        self.title = (String::new(), Timestamp(0));
        self.titled = false;
        let up = Process::Up { pid: life.pid, start: life.start };
        // the kernel counts in steps of ten milliseconds
        let at = life.begun(now).max(self.over);
        self.observe(at, now, Report::Process(up));
    }

    /// Notes that its process is gone while the pane goes on with `after`.
    pub(super) fn lost(&mut self, after: Life, now: Timestamp) {
        self.after = Some(after);
        self.over = now;
        self.observe(now, now, Report::Tmux(Tmux::Gone));
    }

    /// Notes how the pane's program ended; `oom`: the kernel killed something for memory.
    pub(super) fn died(&mut self, pane: &Pane, oom: bool, now: Timestamp) {
        let killed = pane.signal == Some(9) || pane.code == Some(137);
        // how a shell ended that the agent had left before says nothing of the agent
        if self.ended || self.after.is_some() || pane.code.or(pane.signal).is_none() {
            return;
        }
        self.ended = true;
        self.over = now;
        if oom && killed {
            self.observe(now, now, Report::Process(Process::OutOfMemory));
        }
        let dead = Tmux::Dead { code: pane.code, signal: pane.signal };
        self.observe(now, now, Report::Tmux(dead));
    }

    /// Takes in a hook; returns whether it was this agent's own.
    pub(super) fn hook(&mut self, message: Message, now: Timestamp) -> bool {
        if let Some(process) = message.process {
            // an agent that this one runs as a tool tells too
            if self.teller.is_some_and(|teller| teller != process && teller.is_there()) {
                return false;
            }
            let known = self.process == Some(process) || self.process.is_some_and(Life::is_there);
            if !known && process.is_there() {
                self.came_up(process, now);
            }
            self.teller = Some(process);
        }
        if !message.thread.is_empty() {
            self.thread = message.thread;
        }
        let hook = self.fitting(message.hook);
        self.heard = self.heard.max(message.at);
        self.observe(message.at, now, Report::Hook(Box::new(hook)));
        self.seen(now);
        true
    }

    /// Takes in what a look at its pane shows.
    pub(super) fn look(&mut self, pane: &Pane, found: Option<&Found>, now: Timestamp) {
        let prompt = found.is_some_and(|found| found.prompt);
        self.output(pane, prompt, now);
        self.title(pane, now);
        let state = self.state();
        if !self.kind.tells() || matches!(state, StateName::Working | StateName::Background) {
            self.processor(now);
        }
        if let Some(found) = found.filter(|_| !self.kind.tells()) {
            let reads = !prompt && found.front.iter().any(|pid| tree::reads_terminal(*pid));
            if reads != self.reads {
                self.reads = reads;
                self.observe(now, now, Report::Process(Process::ReadsInput { reads }));
            }
        }
    }

    /// Reads Claude Code's record.
    pub(super) fn records(&mut self, folder: &Path, now: Timestamp) {
        if self.kind != AgentKind::Claude {
            return;
        }
        let news = self.process.and_then(|process| self.record.news(folder, process));
        if let Some((at, told)) = news {
            self.heard = self.heard.max(at.min(now));
            self.observe(at, now, Report::Registry(told));
        }
    }

    /// Notes how many people look, and that time passes.
    pub(super) fn viewed(&mut self, viewers: u32, now: Timestamp) {
        self.viewers = viewers;
        self.arbiter.heartbeat(now);
        self.seen(now);
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.arbiter.heartbeat(now);
        self.refresh();
    }

    /// Returns whether its screen would say more, and if so notes that it is looked at.
    pub(super) fn wishes_screen(&mut self, now: Timestamp) -> bool {
        let fresh = self.looked.is_some_and(|at| now.since(at) < SCREEN);
        let same = self.looked.is_some_and(|at| at > self.wrote.1);
        if fresh || same || !self.is_alive() {
            return false;
        }
        let wanted = match self.arbiter.status().state {
            _ if self.reads => true,
            AgentState::Starting => self.kind.tells() && self.is_late(now),
            AgentState::Waiting(wait) => wait.kind == WaitKind::Setup,
            AgentState::Working { .. } => {
                self.kind == AgentKind::Claude && now.since(self.heard) > SILENCE
            }
            _ => false,
        };
        if wanted {
            self.looked = Some(now);
        }
        wanted
    }

    /// Takes in the text on its screen.
    pub(super) fn screen(&mut self, text: &str, now: Timestamp) {
        let phase = match self.arbiter.status().state {
            AgentState::Working { phase, .. } => Some(phase),
            _ => None,
        };
        let retries = self.kind == AgentKind::Claude && phase.is_some();
        let told = screen::read(text, retries);
        let over = phase == Some(Some(Phase::Retrying));
        if phase.is_none() || over || matches!(told, Screen::Retrying(_)) {
            self.observe(now, now, Report::Screen(told));
        }
    }

    /// Returns whether it works and may change at any moment.
    pub(super) fn is_busy(&self) -> bool {
        let status = self.arbiter.status();
        let works = status.state.name() == StateName::Working && !status.flags.stalled;
        self.viewers > 0 || self.kind.tells() && works
    }

    /// Returns what people are told.
    pub(super) const fn shown(&self) -> &AgentStatus {
        &self.shown
    }

    /// Returns the arbiter, for those who ask why.
    pub(super) const fn arbiter(&self) -> &Arbiter {
        &self.arbiter
    }

    /// Returns whether what people are told has changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn state(&self) -> StateName {
        self.arbiter.status().state.name()
    }

    /// Returns whether it should have told of itself by now.
    fn is_late(&self, now: Timestamp) -> bool {
        let begun = self.process.map(|process| process.begun(now));
        begun.is_some_and(|begun| now.since(begun).saturating_add(SCREEN) > Limits::AGENT_SETUP)
    }

    fn seen(&mut self, now: Timestamp) {
        if self.viewers > 0 {
            self.arbiter.seen_by_person(now);
        }
        self.refresh();
    }

    fn output(&mut self, pane: &Pane, prompt: bool, now: Timestamp) {
        if pane.active <= self.output {
            return;
        }
        // the stamp is a second's beginning
        let at = Timestamp(pane.active.saturating_mul(1000).saturating_add(999)).min(now);
        self.wrote.1 = at;
        if now.since(self.wrote.0) < OUTPUT {
            return;
        }
        self.output = pane.active;
        self.wrote.0 = now;
        // a shell that shows its prompt does nothing
        if !(self.kind == AgentKind::Shell && prompt) {
            self.observe(at, now, Report::Tmux(Tmux::Output));
        }
    }

    fn title(&mut self, pane: &Pane, now: Timestamp) {
        let changed = pane.title != self.title.0;
        if changed {
            self.titled |= !self.title.0.is_empty();
            self.title = (pane.title.clone(), now);
        }
        // any title of Codex means something, and the first one may be another program's
        if self.kind == AgentKind::Codex && !self.titled {
            return;
        }
        let told = matches!(self.kind, AgentKind::Codex | AgentKind::Gemini);
        let recent = now.since(self.title.1.max(self.heard)) < TITLE;
        if changed || told && recent {
            self.observe(now, now, Report::Title(pane.title.clone()));
        }
    }

    fn processor(&mut self, now: Timestamp) {
        let Some(process) = self.process else { return };
        if self.ticks.is_some_and(|(at, _)| now.since(at) < CPU) {
            return;
        }
        let ticks = tree::below(process.pid).iter().map(|stat| stat.ticks).sum();
        let before = self.ticks.replace((now, ticks));
        let Some((at, before)) = before else { return };
        // a tick is ten milliseconds
        let used = ticks.saturating_sub(before).saturating_mul(10_000);
        let took = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX).max(1);
        let per_mille = u32::try_from(used / took).unwrap_or(u32::MAX);
        if per_mille >= Limits::AGENT_MOVES_PER_MILLE {
            self.observe(now, now, Report::Process(Process::Cpu { per_mille }));
        }
    }

    fn observe(&mut self, at: Timestamp, now: Timestamp, report: Report) {
        self.arbiter.heartbeat(now);
        self.arbiter.observe(Observation::new(at, now, report));
        self.refresh();
    }

    /// Returns the hook with its texts cut where the arbiter would hold too much otherwise.
    fn fitting(&mut self, mut hook: Hook) -> Hook {
        if self.sizes.len() == Limits::AGENT_OBSERVATIONS {
            self.sizes.pop_front();
        }
        let held: usize = self.sizes.iter().sum();
        if held + size(&hook) > TEXT_BYTES {
            hook.text = clean(&hook.text, SHORT_BYTES);
            for list in [&mut hook.tasks, &mut hook.wakeups] {
                list.truncate(1);
                list.iter_mut().for_each(|text| *text = clean(text, SHORT_BYTES));
            }
            if let Some(ask) = &mut hook.ask {
                ask.text = clean(&ask.text, SHORT_BYTES);
                ask.options.clear();
            }
        }
        self.sizes.push_back(size(&hook));
        hook
    }

    /// Takes over what people are to be told of the arbiter's status.
    fn refresh(&mut self) {
        let now = AgentStatus::from(self.arbiter.status());
        let shown = &self.shown;
        let (moved, told) = (shown.last_activity_unix_ms, shown.evidence_unix_ms);
        let same = *shown
            == AgentStatus { last_activity_unix_ms: moved, evidence_unix_ms: told, ..now.clone() };
        let recent = now.last_activity_unix_ms < moved.saturating_add(MOVEMENT_MS)
            && now.evidence_unix_ms < told.saturating_add(EVIDENCE_MS);
        if !(same && recent) {
            self.shown = now;
            self.changed = true;
        }
    }
}

fn size(hook: &Hook) -> usize {
    let lists = hook.tasks.iter().chain(&hook.wakeups);
    let asks = hook
        .ask
        .as_ref()
        .map_or(0, |ask| ask.text.len() + ask.options.iter().map(String::len).sum::<usize>());
    hook.text.len() + asks + lists.map(String::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::message::tests::message;

    const NOW: Timestamp = Timestamp(2_000_000);
    const DEAD: Life = Life { pid: 1, start: u64::MAX };

    fn own() -> Life {
        Life::of(std::process::id()).expect("it runs")
    }

    fn found(kind: &str, life: Life) -> Found {
        Found { kind: AgentKind::named(kind), life, prompt: false, front: Vec::new() }
    }

    fn entry(kind: &str, process: Option<Life>) -> Entry {
        let mut entry = Entry::new(AgentKind::named(kind), "%1", NOW);
        entry.process = process;
        entry
    }

    #[test]
    fn an_agent_keeps_its_pane_while_its_process_lives() {
        let other = Life { start: 7, ..DEAD };
        for (kind, process, seen, life, meets) in [
            ("shell", own(), "shell", own(), Meets::Same),
            ("shell", own(), "claude", own(), Meets::Other),
            ("shell", own(), "vim", other, Meets::Other),
            ("vim", DEAD, "vim", other, Meets::Again),
            ("claude", own(), "claude", own(), Meets::Same),
            ("claude", own(), "shell", other, Meets::Same),
            ("claude", own(), "codex", other, Meets::Same),
            ("claude", DEAD, "claude", other, Meets::Again),
            ("claude", DEAD, "codex", other, Meets::Other),
            ("claude", DEAD, "shell", other, Meets::Lost),
        ] {
            let entry = entry(kind, Some(process));
            assert_eq!(entry.meets(&found(seen, life)), meets, "{kind} meets {seen}");
        }
        let mut gone = entry("claude", Some(DEAD));
        gone.lost(other, NOW);
        assert_eq!(gone.meets(&found("shell", other)), Meets::Same, "it ended, and that stands");
        assert_eq!(gone.meets(&found("vim", own())), Meets::Other);
        assert_eq!(gone.meets(&found("claude", own())), Meets::Again);
        gone.came_up(own(), NOW);
        assert_eq!(gone.state(), StateName::Starting, "the last end is not the new one's");
    }

    #[test]
    fn hooks_of_an_agent_within_the_agent_are_not_its_own() {
        let mut entry = entry("claude", Some(own()));
        let from = |process| Message { process, ..message("UserPromptSubmit") };
        assert!(entry.hook(from(Some(own())), NOW));
        assert!(!entry.hook(from(Some(DEAD)), NOW));
        assert!(entry.hook(from(None), NOW), "nothing speaks against it");
        let mut first_has_ended = Entry::new(AgentKind::Claude, "%1", NOW);
        assert!(first_has_ended.hook(from(Some(DEAD)), NOW));
        assert!(first_has_ended.hook(from(Some(own())), NOW));
        assert_eq!(first_has_ended.process(), Some(own()));
    }

    #[test]
    fn what_the_arbiter_holds_is_bounded() {
        let mut entry = entry("claude", None);
        for number in 0..1000 {
            let mut sent = message("Stop");
            sent.at = Timestamp(NOW.0 + number);
            sent.hook.tasks = vec!["t".repeat(160); 16];
            sent.hook.text = "x".repeat(400);
            assert!(entry.hook(sent.bounded(), Timestamp(NOW.0 + number)));
        }
        let held: usize = entry.sizes.iter().sum();
        assert!(held <= TEXT_BYTES + Limits::AGENT_OBSERVATIONS * 4 * SHORT_BYTES, "{held}");
        assert_eq!(entry.state(), StateName::Background, "the state is as true as before");
    }

    #[test]
    fn movement_alone_is_told_now_and_then() {
        let mut entry = entry("claude", None);
        assert!(entry.hook(message("UserPromptSubmit"), NOW));
        assert!(entry.take_changed());
        let mut told = 0;
        for step in 1..=40_u64 {
            let now = Timestamp(NOW.0 + step * 500);
            entry.look(&Pane { active: now.0 / 1000, ..Pane::default() }, None, now);
            entry.viewed(0, now);
            told += u32::from(entry.take_changed());
        }
        assert!((5..=10).contains(&told), "{told} in twenty seconds");
        let last = entry.shown().last_activity_unix_ms;
        assert!(last >= NOW.0 + 17_000, "{last}");
    }

    #[test]
    fn the_first_title_of_codex_is_somebody_elses() {
        let mut entry = entry("codex", None);
        let mut look = |title: &str, after: u64| {
            let now = Timestamp(NOW.0 + after);
            entry.look(&Pane { title: title.to_owned(), ..Pane::default() }, None, now);
            entry.state()
        };
        assert_eq!(look("host", 1000), StateName::Starting);
        assert_eq!(look("⠹ wt", 2000), StateName::Working);
        assert_eq!(look("wt", 3000), StateName::Idle);
    }

    #[test]
    fn a_kill_for_memory_is_told_with_the_end() {
        let mut entry = entry("claude", None);
        let pane = |code, signal| Pane { dead: true, code, signal, ..Pane::default() };
        entry.died(&pane(None, None), true, NOW);
        assert_eq!(entry.state(), StateName::Starting, "how it ended is not known yet");
        entry.died(&pane(None, Some(9)), true, NOW);
        let AgentState::Exited(exit) = entry.arbiter().status().state else {
            panic!("it ended");
        };
        assert!(exit.oom && exit.signal == Some(9));
    }
}
