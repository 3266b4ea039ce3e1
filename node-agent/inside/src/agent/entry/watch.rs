//! What looks show of an agent: its terminal, title, screen, processes and record.

use std::{path::Path, time::Duration};

use warren_common::{
    Limits, Timestamp,
    agent::{
        AgentKind, AgentState, Phase, Process, Report, Screen, Source, StateName, Tmux, WaitKind,
        title_of,
    },
};

use super::{
    super::{detect::Found, screen, tree},
    Entry,
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

/// A shell at its prompt is looked at again after this long, whatever its terminal shows.
const REST: Duration = Duration::from_secs(30);

impl Entry {
    /// Returns whether its pane still shows the prompt that it showed: nobody starts a program there
    /// without a sign of it on the terminal.
    pub(in crate::agent) fn rests(&self, pane: &Pane, now: Timestamp) -> bool {
        let rest = self.rest.as_ref();
        rest.is_some_and(|(at, before)| before == pane && now.since(*at) < REST)
    }

    /// Notes that something runs there although nothing showed it.
    pub(in crate::agent) fn wake(&mut self) {
        self.rest = None;
    }

    /// Takes in what a look at its pane shows.
    pub(in crate::agent) fn look(&mut self, pane: &Pane, found: Option<&Found>, now: Timestamp) {
        if self.expected {
            // nothing that is seen yet is of it
            self.over = now;
            self.stale_title = Some(pane.title.clone());
            return;
        }
        let prompt = found.is_some_and(|found| found.prompt);
        if found.is_some() {
            // what is written later in the same second leaves no trace
            let settled = prompt && now.0 / 1000 > pane.active + 1;
            self.rest = settled.then(|| (now, pane.clone()));
        }
        self.output(pane, prompt, now);
        if self.keys.are_wanted()
            && let Some((at, hook)) = self.keys.look(tree::takes_keys(pane.process), now)
        {
            self.observe(at, now, Report::Hook(Box::new(hook)));
        }
        self.title(pane, now);
        self.comes(now);
        let state = self.state();
        let process = self.process.map(|process| process.pid);
        match found {
            Some(found) if !self.kind.tells() => self.processor(now, || found.ticks),
            _ if matches!(state, StateName::Working | StateName::Background) => {
                self.processor(now, || process.map_or(0, tree::ticks));
            }
            _ => {}
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
    pub(in crate::agent) fn records(&mut self, folder: &Path, now: Timestamp) {
        if self.kind != AgentKind::Claude {
            return;
        }
        let news = self.process.and_then(|process| self.record.news(folder, process));
        if let Some((at, told)) = news {
            self.heard = self.heard.max(at.min(now));
            self.observe(at, now, Report::Registry(told));
        }
    }

    /// Returns whether its screen would say more, and if so notes that it is looked at.
    pub(in crate::agent) fn wishes_screen(&mut self, now: Timestamp) -> bool {
        // what is written later in the same second leaves no trace
        let after = |at: Timestamp| at.0 / 1000 > self.wrote.1.0 / 1000;
        let fresh = self.looked.is_some_and(|at| match self.arbiter.is_too_soon(at) {
            // it did not count, or something exact was said since
            true => now.since(at) < Limits::AGENT_LOOK,
            false => now.since(at) < SCREEN || after(at),
        });
        let wanted = match self.arbiter.status().state {
            _ if fresh => false,
            _ if self.reads => true,
            // nothing else tells of its first prompt
            AgentState::Starting if self.kind == AgentKind::Codex => true,
            AgentState::Starting => self.kind.tells() && self.is_late(now),
            AgentState::Idle | AgentState::Error(_) => self.may_have_failed(now),
            AgentState::Waiting(wait) => wait.kind == WaitKind::Setup || self.asks_something(),
            AgentState::Working { .. } => {
                self.kind == AgentKind::Claude && now.since(self.heard) > SILENCE
            }
            _ => false,
        };
        let wanted = wanted && self.is_alive();
        if wanted {
            self.looked = Some(now);
        }
        wanted
    }

    /// Takes in the text on its screen.
    pub(in crate::agent) fn screen(&mut self, text: &str, now: Timestamp) {
        let state = self.arbiter.status().state;
        let phase = match state {
            AgentState::Working { phase, .. } => Some(phase),
            _ => None,
        };
        let begins = match state {
            AgentState::Starting => true,
            AgentState::Waiting(wait) => wait.kind == WaitKind::Setup,
            _ => false,
        };
        let wanted = match self.kind {
            AgentKind::Claude if phase.is_some() => screen::For::Retries,
            AgentKind::Codex if begins => screen::For::Prompt,
            AgentKind::Codex if self.may_have_failed(now) => screen::For::Failure,
            AgentKind::Gemini if self.may_have_failed(now) => screen::For::ApiError,
            AgentKind::Gemini if self.asks_something() => screen::For::Question,
            _ => screen::For::Nothing,
        };
        let told = screen::read(text, wanted);
        let over = phase == Some(Some(Phase::Retrying));
        if phase.is_none() || over || matches!(told, Screen::Retrying(_)) {
            self.observe(now, now, Report::Screen(told));
        }
    }

    /// Returns whether only Gemini CLI's title says that it waits, which does not say for what.
    fn asks_something(&self) -> bool {
        let status = self.arbiter.status();
        let waits = matches!(status.state, AgentState::Waiting(_));
        waits && self.kind == AgentKind::Gemini && status.source == Source::Title
    }

    /// Returns whether nothing that said that its turn is over said how: Codex's title, and all of
    /// Gemini CLI, whose screen shows what was before for a moment.
    fn may_have_failed(&self, now: Timestamp) -> bool {
        let status = self.arbiter.status();
        let unnamed =
            |state: &AgentState| matches!(state, AgentState::Error(why) if why.is_unnamed());
        if self.kind == AgentKind::Codex && unnamed(&status.state) {
            return true;
        }
        let unsaid = match self.kind {
            AgentKind::Codex => status.source == Source::Title,
            AgentKind::Gemini => now.since(self.heard) >= Limits::AGENT_LOOK,
            _ => false,
        };
        unsaid && status.state == AgentState::Idle
    }

    /// Returns whether it should have told of itself by now.
    fn is_late(&self, now: Timestamp) -> bool {
        let begun = self.process.map(|process| process.begun(now));
        begun.is_some_and(|begun| now.since(begun).saturating_add(SCREEN) > Limits::AGENT_SETUP)
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
        if self.stale_title.as_ref() == Some(&pane.title) {
            return;
        }
        self.stale_title = None;
        let is_ready = title_of(&self.kind, &pane.title) == Some(StateName::Idle);
        if self.kind == AgentKind::Gemini && is_ready && !self.keys.says_ready(now) {
            return;
        }
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

    fn processor(&mut self, now: Timestamp, ticks: impl FnOnce() -> u64) {
        if self.ticks.is_some_and(|(at, _)| now.since(at) < CPU) {
            return;
        }
        let ticks = ticks();
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
}
