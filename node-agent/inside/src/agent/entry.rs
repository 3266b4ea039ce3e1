//! One agent in one session: its arbiter, and what was seen of it last.
//!
//! What looks show is in [`watch`].

mod watch;

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use warren_common::{
    Limits, Timestamp,
    agent::{
        AgentKind, AppServer, Arbiter, Hook, Meter, Observation, Process, Report, StateName, Tmux,
    },
    status::clean,
};
use warren_proto::pb::inside::v1::AgentStatus;

use super::{
    detect::Found,
    keys::Keys,
    message::{Message, Teller},
    registry::Record,
    tree::Life,
};
use crate::tmux::Pane;

/// Between two tellings of nothing but movement, and of nothing but fresh evidence.
const MOVEMENT_MS: u64 = 2000;
const EVIDENCE_MS: u64 = 30_000;
/// For an agent to come once its session was begun: then whatever is there is told instead.
const COMES: Duration = Duration::from_secs(60);
/// Between two tellings of another model, and of nothing but what it has used.
const MODEL: Duration = Duration::from_secs(2);
const METER: Duration = Duration::from_secs(10);
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
    /// It was asked for, and nothing was seen or heard of it.
    expected: bool,
    /// What it runs with and has used.
    meter: Meter,
    /// When that was last told, and the time of now.
    metered: Timestamp,
    clock: Timestamp,
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
    /// The title from before it was there.
    stale_title: Option<String>,
    /// The title changed since the process began: it is the agent's own.
    titled: bool,
    output: u64,
    /// When output was last told, and when it was last seen.
    wrote: (Timestamp, Timestamp),
    ticks: Option<(Timestamp, u64)>,
    /// When its pane was last seen to hold a shell at its prompt, and what that pane showed.
    rest: Option<(Timestamp, Pane)>,
    reads: bool,
    /// Whether it can be typed to; Gemini CLI's only.
    keys: Keys,
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
            expected: false,
            meter: Meter::default(),
            metered: Timestamp(0),
            clock: now,
            teller: None,
            after: None,
            ended: false,
            over: Timestamp(0),
            viewers: 0,
            heard: now,
            title: (String::new(), Timestamp(0)),
            stale_title: None,
            titled: false,
            output: 0,
            wrote: (Timestamp(0), Timestamp(0)),
            ticks: None,
            rest: None,
            reads: false,
            keys: Keys::default(),
            record: Record::default(),
            looked: None,
            sizes: VecDeque::new(),
            changed: true,
        }
    }

    /// Returns the agent that a session was asked for with, before it is there.
    pub(super) fn expected(kind: AgentKind, pane: &str, now: Timestamp) -> Self {
        Self { expected: true, ..Self::new(kind, pane, now) }
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

    /// Returns whether it is yet to come, and not overdue.
    pub(super) fn may_come(&self, now: Timestamp) -> bool {
        self.expected && now.since(self.heard) < COMES
    }

    /// Returns whether it is yet to come.
    pub(super) const fn is_expected(&self) -> bool {
        self.expected
    }

    pub(super) const fn process(&self) -> Option<Life> {
        self.process
    }

    /// Returns whether its pane told how it ended.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns whether its process runs, as far as is known.
    pub(super) fn is_alive(&self) -> bool {
        !self.ended && self.after.is_none() && self.process.is_none_or(Life::is_there)
    }

    /// Returns what it means that `found` has the pane.
    pub(super) fn meets(&self, found: &Found) -> Meets {
        let same = self.process == Some(found.life) && !self.ended;
        match (self.kind.tells(), found.kind.tells()) {
            _ if self.expected && self.kind == found.kind => Meets::Again,
            _ if self.expected => Meets::Other,
            (true, false) if self.is_alive() || self.after == Some(found.life) => Meets::Same,
            (true, false) if self.after.is_none() && !self.ended => Meets::Lost,
            (true, true) if self.is_alive() => Meets::Same,
            _ if same && self.kind == found.kind => Meets::Same,
            _ if self.kind == found.kind => Meets::Again,
            _ => Meets::Other,
        }
    }

    /// Notes the process of one that was heard before it was seen.
    pub(super) fn noticed(&mut self, found: &Found, now: Timestamp) {
        if self.process.is_some() || self.kind != found.kind || !self.kind.tells() {
            return;
        }
        self.is_up(found.life, now);
    }

    /// Notes its process, the first or another one.
    pub(super) fn came_up(&mut self, life: Life, now: Timestamp) {
        self.expected = false;
        self.meter = Meter::default();
        self.teller = None;
        self.thread.clear();
        self.after = None;
        self.ended = false;
        self.ticks = None;
        self.rest = None;
        self.reads = false;
        self.keys = Keys::default();
        self.record = Record::default();
        self.looked = None;
        self.title = (String::new(), Timestamp(0));
        self.titled = false;
        self.is_up(life, now);
    }

    fn is_up(&mut self, life: Life, now: Timestamp) {
        self.process = Some(life);
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
        self.expected &= message.teller.kind().is_none();
        self.meter.take(message.meter);
        if message.hook.event.is_empty() {
            // it says what was used, and not that anything happened
            self.clock = self.clock.max(now);
            self.refresh();
            return true;
        }
        if !message.thread.is_empty() {
            self.thread = message.thread;
        }
        let hook = self.fitting(message.hook);
        self.heard = self.heard.max(message.at.min(now));
        let counts = match message.teller {
            Teller::Gemini => self.keys.heard((message.at, hook), now),
            Teller::Claude | Teller::Codex | Teller::Custom => vec![(message.at, hook)],
        };
        for (at, hook) in counts {
            self.observe(at, now, Report::Hook(Box::new(hook)));
        }
        self.comes(now);
        self.seen(now);
        true
    }

    /// Takes in what Codex's daemon says of its thread.
    pub(super) fn in_daemon(&mut self, status: AppServer, at: Timestamp, now: Timestamp) {
        self.heard = self.heard.max(at.min(now));
        self.observe(at, now, Report::AppServer(status));
        self.seen(now);
    }

    /// Notes how many people look, and that time passes.
    pub(super) fn viewed(&mut self, viewers: u32, now: Timestamp) {
        self.viewers = viewers;
        self.passes(now);
        self.seen(now);
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.passes(now);
        self.refresh();
    }

    fn passes(&mut self, now: Timestamp) {
        self.arbiter.heartbeat(now);
        self.clock = self.clock.max(now);
    }

    /// Returns whether it works and may change at any moment.
    pub(super) fn is_busy(&self) -> bool {
        let status = self.arbiter.status();
        let works = status.state.name() == StateName::Working && !status.flags.stalled;
        self.viewers > 0 || self.kind.tells() && works || self.is_held()
    }

    /// Returns whether it calls itself ready and has to take keys first.
    fn is_held(&self) -> bool {
        self.keys.are_wanted() && self.is_alive()
    }

    /// Notes that it comes up, where its word is held back: it waits for nobody to set it up.
    fn comes(&mut self, now: Timestamp) {
        if self.is_held() {
            self.arbiter.comes(now);
        }
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

    fn seen(&mut self, now: Timestamp) {
        if self.viewers > 0 {
            self.arbiter.seen_by_person(now);
        }
        self.refresh();
    }

    fn observe(&mut self, at: Timestamp, now: Timestamp, report: Report) {
        self.passes(now);
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
        let mut now = AgentStatus::from(self.arbiter.status());
        let shown = &self.shown;
        let model = |meter: &Meter| (meter.model.clone(), meter.mode.clone());
        let told = shown.meter.clone().map(Meter::from).unwrap_or_default();
        let since = self.clock.since(self.metered);
        let due = model(&told) != model(&self.meter) && since >= MODEL
            || told != self.meter && since >= METER;
        if due {
            self.metered = self.clock;
            now.meter = Some(self.meter.clone().into());
        } else {
            now.meter.clone_from(&shown.meter);
        }
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
