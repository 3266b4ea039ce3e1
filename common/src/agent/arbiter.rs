//! The arbiter: who is believed, and what passes with time.
//!
//! An observation counts at the moment it speaks of, not when it arrives; of two that speak of the
//! same moment the one of the higher [`Source::rank`] counts last and so wins. For that the newest
//! [`Limits::AGENT_OBSERVATIONS`] are kept in order and folded again when one comes late. One that
//! speaks of a moment before those is not believed.

use serde::{Deserialize, Serialize};

use super::{
    fold::{Fold, Verdict, Why},
    meter::Meter,
    observation::Observation,
    program::Seems,
    state::{
        AgentKind, AgentState, AgentStatus, Confidence, Flags, Source, StateName, Wait, WaitKind,
    },
};
use crate::{Limits, Timestamp};

/// One observation and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was said.
    pub observation: Observation,
    /// What came of it.
    pub verdict: Verdict,
}

impl Evidence {
    fn key(&self) -> (Timestamp, u8) {
        (self.observation.at, self.observation.source().rank())
    }
}

/// Folds the observations of one agent into its status.
#[derive(Debug, Clone)]
pub struct Arbiter {
    kind: AgentKind,
    /// What the observations before `log` come to.
    base: Fold,
    /// What all come to.
    fold: Fold,
    /// The newest observations in their order.
    log: Vec<Evidence>,
    /// Older ones by source, for those who ask why.
    kept: Vec<Evidence>,
    /// The order of the last observation in `base`.
    folded: Option<(Timestamp, u8)>,
    now: Timestamp,
    heard: Timestamp,
    looked: Option<Timestamp>,
    /// When it was last known to come up, though it has not told of itself.
    comes: Timestamp,
}

impl Arbiter {
    /// Returns the arbiter of an agent that is wanted or up at `now`.
    pub fn new(kind: AgentKind, now: Timestamp) -> Self {
        Self {
            kind: AgentKind::named(kind.as_str()),
            base: Fold::new(now),
            fold: Fold::new(now),
            log: Vec::new(),
            kept: Vec::new(),
            folded: None,
            now,
            heard: now,
            looked: None,
            comes: Timestamp(0),
        }
    }

    /// Takes in what a source said, in whatever order it comes.
    pub fn observe(&mut self, observation: Observation) {
        let observation = observation.bounded();
        self.heartbeat(observation.at);
        let mut evidence = Evidence { observation, verdict: Verdict::Ignored(Why::Late) };
        if self.folded.is_some_and(|folded| evidence.key() < folded) {
            self.keep(evidence);
            return;
        }
        let at = self.log.partition_point(|before| before.key() <= evidence.key());
        if at == self.log.len() {
            evidence.verdict = self.fold.apply(&self.kind, &evidence.observation);
            self.log.push(evidence);
        } else {
            self.log.insert(at, evidence);
            self.fold = self.base.clone();
            for evidence in &mut self.log {
                evidence.verdict = self.fold.apply(&self.kind, &evidence.observation);
            }
        }
        if self.log.len() > Limits::AGENT_OBSERVATIONS {
            let oldest = self.log.remove(0);
            self.base.apply(&self.kind, &oldest.observation);
            self.folded = Some(oldest.key());
            self.keep(oldest);
        }
    }

    /// Returns whether what was looked up at `at` may show what was before: something exact was
    /// said a moment before it, or after it, and a title or a screen did not count.
    pub fn is_too_soon(&self, at: Timestamp) -> bool {
        self.fold.too_soon(at)
    }

    /// Lets time pass; it never goes back.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// Notes that whoever watches the agent was heard of at `at`, with news or without.
    pub fn heartbeat(&mut self, at: Timestamp) {
        self.heard = self.heard.max(at);
        self.tick(at);
    }

    /// Notes that the agent comes up, though nothing is taken from it yet: no dialog keeps it.
    pub fn comes(&mut self, now: Timestamp) {
        self.comes = self.comes.max(now);
    }

    /// Notes that a person looked at the agent.
    pub fn seen_by_person(&mut self, now: Timestamp) {
        self.looked = self.looked.max(Some(now));
        self.tick(now);
    }

    /// Returns the status as of the last moment that the arbiter was told of.
    pub fn status(&self) -> AgentStatus {
        self.last_known().unheard(self.heard, self.now)
    }

    /// Returns the evidence, the oldest first: of each source the newest
    /// [`Limits::AGENT_EVIDENCE`], without repetitions that changed nothing. The state stands on the
    /// last one that set it.
    pub fn explain(&self) -> Vec<Evidence> {
        let mut all: Vec<Evidence> = self.kept.iter().chain(&self.log).cloned().collect();
        all.sort_by_key(Evidence::key);
        let mut news: Vec<Evidence> = Vec::new();
        for evidence in all {
            if !repeats(&news, &evidence) {
                news.push(evidence);
            }
        }
        let mut shown: Vec<Evidence> = Vec::new();
        for evidence in news.into_iter().rev() {
            if of_source(&shown, &evidence).count() < Limits::AGENT_EVIDENCE {
                shown.push(evidence);
            }
        }
        shown.reverse();
        shown
    }

    fn last_known(&self) -> AgentStatus {
        let Seems { state, since, source, evidence } = self.seems();
        let derived = !self.kind.tells() && !self.fold.program.told;
        let confidence = match state.name() {
            StateName::Exited => source.confidence(),
            _ if derived => Confidence::Derived,
            _ => source.confidence(),
        };
        let flags =
            Flags { unseen: self.is_unseen(&state, since), stalled: self.is_stalled(&state) };
        AgentStatus {
            kind: self.kind.clone(),
            state,
            since,
            last_activity: self.fold.last_activity,
            source,
            confidence,
            evidence,
            flags,
            subagents: self.fold.subagents.len().try_into().unwrap_or(u32::MAX),
            meter: Meter::default(),
        }
    }

    /// What was told, or what silence means.
    fn seems(&self) -> Seems {
        let fold = &self.fold;
        let state = fold.state();
        let told = self.kind.tells() || fold.program.told;
        if !told
            && state.name() != StateName::Exited
            && let Some(seems) = fold.program.seems(fold.up(), &fold.lines, self.now)
        {
            return seems;
        }
        if let Some(up) = fold.up()
            && self.kind.tells()
            && state == AgentState::Starting
            && self.now.since(up.max(self.comes)) > Limits::AGENT_SETUP
        {
            let since = up.max(self.comes).plus(Limits::AGENT_SETUP);
            let (kind, text) = (WaitKind::Setup, fold.lines.clone());
            let state = AgentState::Waiting(Wait { kind, text, options: Vec::new(), since });
            return Seems { state, since, source: Source::Process, evidence: up };
        }
        Seems { state, since: fold.since, source: fold.source.clone(), evidence: fold.evidence }
    }

    fn is_unseen(&self, state: &AgentState, since: Timestamp) -> bool {
        let reached = match state {
            AgentState::Waiting(wait) => wait.since,
            AgentState::Error(_) | AgentState::Exited(_) => since,
            // an agent that just started has finished nothing
            AgentState::Idle if self.fold.worked() => since,
            _ => return false,
        };
        self.looked.is_none_or(|looked| reached > looked)
    }

    fn is_stalled(&self, state: &AgentState) -> bool {
        let patience = match self.fold.in_tool() {
            true => Limits::AGENT_STALL_IN_TOOL,
            false => Limits::AGENT_STALL,
        };
        state.name() == StateName::Working && self.now.since(self.fold.last_activity) >= patience
    }

    /// Keeps a few of each source when they leave the log.
    fn keep(&mut self, evidence: Evidence) {
        if repeats(&self.kept, &evidence) {
            return;
        }
        if of_source(&self.kept, &evidence).count() >= Limits::AGENT_EVIDENCE {
            let word = evidence.observation.source();
            let oldest = self.kept.iter().position(|kept| same(&kept.observation.source(), &word));
            if let Some(oldest) = oldest {
                self.kept.remove(oldest);
            }
        }
        self.kept.push(evidence);
    }
}

/// Returns whether `evidence` says what its source said last, and changed nothing.
fn repeats(all: &[Evidence], evidence: &Evidence) -> bool {
    let last = of_source(all, evidence).last();
    let again = last.is_some_and(|last| last.observation.report == evidence.observation.report);
    again && !matches!(evidence.verdict, Verdict::Set(_))
}

fn of_source<'a>(all: &'a [Evidence], like: &Evidence) -> impl Iterator<Item = &'a Evidence> {
    let source = like.observation.source();
    all.iter().filter(move |evidence| same(&evidence.observation.source(), &source))
}

fn same(a: &Source, b: &Source) -> bool {
    a.as_str() == b.as_str()
}
