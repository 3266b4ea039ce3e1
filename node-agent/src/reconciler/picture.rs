//! What is shown of one workspace: its standing, the steps of its start, what PID 1 says.
//!
//! Every change is composed into one [`WorkspaceObserved`] and put on the board. Steps, sessions,
//! browsers and usage belong to a run: another run starts with none.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use warren_common::{
    Generation, Limits, Timestamp, WorkspaceId,
    browser::BrowserStatus,
    status::{
        CapsHeld, RunState, StartupStep, StepState, Usage, VolumeUse, WorkspaceObserved, clean,
        reason as one_line,
    },
};
use warren_daemon::clock;
use warren_proto::convert::InsideStatus;

use crate::{board::Board, gauge::Reading, inside::InsideView};

/// Names of the node's own startup steps.
pub(super) const VOLUME: &str = "volume";
pub(super) const IMAGE: &str = "image";
pub(super) const CONTAINER: &str = "container";
/// How they are shown, though the network of the container is made before an image is pulled.
const ORDER: [&str; 3] = [VOLUME, IMAGE, CONTAINER];

/// The picture of one workspace; clones show the same.
#[derive(Clone)]
pub(super) struct Picture {
    board: Arc<Board>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    shown: WorkspaceObserved,
    steps: Vec<OwnStep>,
    inside: Option<InsideStatus>,
    /// When PID 1 was last heard, where it is not connected or was silent for too long.
    heard: Option<Timestamp>,
}

/// A step of the node's own; its time may come in pieces.
struct OwnStep {
    step: StartupStep,
    running_since: Option<Instant>,
}

/// Where a workspace stands.
pub(super) struct Standing<'a> {
    pub(super) run: (Generation, u64),
    pub(super) state: RunState,
    pub(super) reason: &'a str,
    pub(super) pid: Option<u32>,
}

impl Picture {
    pub(super) fn new(board: Arc<Board>, workspace: WorkspaceId) -> Self {
        let shown = WorkspaceObserved {
            workspace,
            generation: Generation::default(),
            run_serial: 0,
            state: RunState::Absent,
            reason: String::new(),
            since: clock::now(),
            pid: None,
            steps: Vec::new(),
            sessions: Vec::new(),
            usage: Usage::default(),
            volume: None,
            caps: None,
            caps_reason: String::new(),
            services: Vec::new(),
            kills: Vec::new(),
            browsers: Vec::new(),
        };
        let inner = Inner { shown, steps: Vec::new(), inside: None, heard: None };
        Self { board, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Shows where the workspace stands.
    pub(super) fn stand(&self, standing: Standing<'_>) {
        self.change(|inner| {
            let shown = &mut inner.shown;
            let another = (shown.generation, shown.run_serial) != standing.run;
            if another {
                (shown.generation, shown.run_serial) = standing.run;
                inner.steps.clear();
                (inner.inside, inner.heard) = (None, None);
            }
            if another || shown.state != standing.state {
                shown.since = clock::now();
            }
            shown.state = standing.state;
            shown.reason = one_line(standing.reason);
            shown.pid = standing.pid;
        });
    }

    /// Shows why the state is as it is, or that it is not known now.
    pub(super) fn explain(&self, reason: &str) {
        self.change(|inner| inner.shown.reason = one_line(reason));
    }

    /// Returns the state shown and the run it is of.
    pub(super) fn standing(&self) -> ((Generation, u64), RunState) {
        let inner = self.lock();
        ((inner.shown.generation, inner.shown.run_serial), inner.shown.state.clone())
    }

    /// Shows what PID 1 says, or last said when it was heard.
    pub(super) fn inside(&self, view: &InsideView) {
        let silent = |heard: &Timestamp| clock::now().since(*heard) >= Limits::AGENT_UNHEARD;
        self.change(|inner| {
            inner.inside.clone_from(&view.status);
            inner.heard = view.heard.filter(|heard| !view.connected || silent(heard));
        });
    }

    /// Shows what has become of it with time alone.
    pub(super) fn pass(&self) {
        self.change(|_| {});
    }

    /// Shows what is used.
    pub(super) fn usage(&self, usage: Usage) {
        self.change(|inner| inner.shown.usage = usage);
    }

    /// Shows what its volume takes, whether it runs or not.
    pub(super) fn volume(&self, volume: Option<VolumeUse>) {
        self.change(|inner| inner.shown.volume = volume);
    }

    /// Shows what it is held to; none where that is not yet what was ordered, and why it cannot be.
    pub(super) fn caps(&self, held: Option<CapsHeld>, reason: &str) {
        self.change(|inner| {
            inner.shown.caps = held.or(inner.shown.caps);
            inner.shown.caps_reason = one_line(reason);
        });
    }

    /// Shows why it is not held to these caps; nothing where it is.
    pub(super) fn falls_short(&self, ordered: CapsHeld, reason: &str) {
        self.change(|inner| {
            let short = inner.shown.caps != Some(ordered);
            inner.shown.caps_reason = if short { one_line(reason) } else { String::new() };
        });
    }

    /// Shows what was measured, and who was killed.
    pub(super) fn measured(&self, reading: &Reading) {
        self.change(|inner| {
            inner.shown.usage = reading.usage;
            inner.shown.kills.clone_from(&reading.kills);
        });
    }

    /// Shows a step of the node's own as begun, or going on.
    pub(super) fn begin(&self, name: &str, title: &str) {
        self.change(|inner| {
            let index = inner.own(name, title);
            let own = &mut inner.steps[index];
            own.running_since.get_or_insert_with(Instant::now);
            own.step.state = StepState::Running;
        });
    }

    /// Adds a line to a step's output.
    pub(super) fn output(&self, name: &str, line: &str) {
        self.change(|inner| {
            let Some(own) = inner.steps.iter_mut().find(|own| own.step.name == name) else {
                return;
            };
            let output = &mut own.step.output;
            output.push_str(&clean(line, Limits::REASON_BYTES));
            output.push('\n');
            while output.len() > Limits::STEP_OUTPUT_BYTES {
                let end = output.find('\n').map_or(output.len(), |end| end + 1);
                output.drain(..end);
            }
        });
    }

    /// Stops a step's clock for now; it goes on with the next [`Self::begin`].
    pub(super) fn pause(&self, name: &str) {
        self.end(name, StepState::Running);
    }

    /// Shows how a step that was begun ended; nothing where it never was.
    pub(super) fn end(&self, name: &str, state: StepState) {
        self.change(|inner| {
            let Some(own) = inner.steps.iter_mut().find(|own| own.step.name == name) else {
                return;
            };
            if let Some(since) = own.running_since.take() {
                let took = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                own.step.elapsed_ms = own.step.elapsed_ms.saturating_add(took);
            }
            own.step.state = state;
        });
    }

    /// Shows every step that was going on as failed.
    pub(super) fn fail_steps(&self, message: &str) {
        let running: Vec<String> = {
            let inner = self.lock();
            let running = inner.steps.iter().filter(|own| own.running_since.is_some());
            running.map(|own| own.step.name.clone()).collect()
        };
        for name in running {
            self.end(&name, StepState::Failed { message: message.to_owned() });
        }
    }

    /// Takes the workspace off the board.
    pub(super) fn erase(&self) {
        self.board.remove(self.lock().shown.workspace);
    }

    fn change(&self, how: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        how(&mut inner);
        let observed = inner.compose();
        self.board.publish(observed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Returns the index of a step of the node's own, made where it is new.
    fn own(&mut self, name: &str, title: &str) -> usize {
        if let Some(index) = self.steps.iter().position(|own| own.step.name == name) {
            return index;
        }
        let step = StartupStep {
            name: name.to_owned(),
            title: one_line(title),
            state: StepState::Pending,
            started: clock::now(),
            elapsed_ms: 0,
            output: String::new(),
        };
        let place = |name: &str| ORDER.iter().position(|known| *known == name);
        let later = |own: &OwnStep| place(&own.step.name) > place(name);
        let index = self.steps.iter().position(later).unwrap_or(self.steps.len());
        self.steps.insert(index, OwnStep { step, running_since: None });
        index
    }

    fn compose(&self) -> WorkspaceObserved {
        let (mut shown, now) = (self.shown.clone(), clock::now());
        let runs = matches!(shown.state, RunState::Starting | RunState::Running);
        shown.steps = self.steps.iter().map(|own| own.step.clone()).collect();
        if let Some(inside) = &self.inside {
            shown.steps.extend(inside.steps.iter().cloned());
            if runs {
                shown.sessions.clone_from(&inside.sessions);
                shown.services.clone_from(&inside.services);
                for session in &mut shown.sessions {
                    // only this node knows whose ids they are
                    session.panes.clear();
                    let own = shown
                        .kills
                        .iter()
                        .find(|kill| kill.session.as_ref() == Some(&session.name));
                    session.killed = own.cloned();
                    let agent = session.agent.take();
                    session.agent = agent.map(|agent| match self.heard {
                        Some(heard) => Box::new(agent.unheard(heard, now)),
                        None => agent,
                    });
                }
                let browsers = inside.browsers.iter().cloned();
                let known = |one: BrowserStatus| match self.heard {
                    Some(heard) => one.unheard(heard, now),
                    None => one,
                };
                shown.browsers = browsers.map(known).collect();
            }
        }
        shown.steps.truncate(Limits::STEPS);
        if !runs {
            shown.usage = Usage::default();
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use warren_common::{
        agent::{
            AgentKind, AgentState, AgentStatus, Confidence, Flags, Meter, Source, StateName, Wait,
            WaitKind,
        },
        measure::{Kill, KillSource},
        status::{SessionObserved, SessionState},
    };

    use super::*;

    fn id() -> WorkspaceId {
        "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id")
    }

    fn standing(run_serial: u64, state: RunState) -> Standing<'static> {
        Standing { run: (Generation::new(1, 1), run_serial), state, reason: "why", pid: None }
    }

    fn inside(states: &[StepState]) -> InsideStatus {
        let step = |state: &StepState| StartupStep {
            name: "clone".to_owned(),
            title: String::new(),
            state: state.clone(),
            started: Timestamp(1),
            elapsed_ms: 1,
            output: String::new(),
        };
        let steps = states.iter().map(step).collect();
        InsideStatus { steps, ..InsideStatus::default() }
    }

    fn view(status: InsideStatus, heard: Option<Timestamp>) -> InsideView {
        let connected = heard.is_none();
        InsideView { connected, version: String::new(), status: Some(status), heard }
    }

    /// PID 1 with one agent that waits.
    fn waiting() -> InsideStatus {
        let state = AgentState::Waiting(Wait {
            kind: WaitKind::Permission,
            text: "npm publish".to_owned(),
            options: Vec::new(),
            since: Timestamp(7),
        });
        let agent = AgentStatus {
            kind: AgentKind::Claude,
            state,
            since: Timestamp(7),
            last_activity: Timestamp(7),
            source: Source::Hook("PermissionRequest".to_owned()),
            confidence: Confidence::Exact,
            evidence: Timestamp(7),
            flags: Flags { unseen: true, stalled: false },
            subagents: 0,
            meter: Meter::default(),
        };
        let session = SessionObserved {
            name: "main".parse().expect("a name"),
            command: "claude".to_owned(),
            state: SessionState::Running,
            started: Timestamp(1),
            active: Timestamp(2),
            viewers: 0,
            panes: vec![42],
            killed: None,
            agent: Some(Box::new(agent)),
            run: None,
        };
        InsideStatus {
            steps: Vec::new(),
            started: true,
            sessions: vec![session],
            services: Vec::new(),
            browsers: Vec::new(),
        }
    }

    #[test]
    fn an_agent_is_told_as_it_is_and_as_unknown_where_nobody_is_heard_for_long() {
        let board = Arc::new(Board::default());
        let picture = Picture::new(Arc::clone(&board), id());
        let shown = || board.get(id()).expect("shown").sessions.first().cloned();
        let agent = || *shown().expect("a session").agent.expect("an agent");
        picture.stand(standing(1, RunState::Running));
        picture.inside(&view(waiting(), None));
        assert_eq!(Some(Box::new(agent())), waiting().sessions[0].agent);
        let ago = |by: Duration| Timestamp(clock::now().0 - by.as_millis() as u64);
        picture.inside(&view(waiting(), Some(ago(Limits::AGENT_UNHEARD / 2))));
        assert_eq!(agent().state.name(), StateName::Waiting, "it may be back at once");
        picture.inside(&view(waiting(), Some(ago(Limits::AGENT_UNHEARD))));
        let AgentState::Unknown { last } = agent().state else { panic!("{:?}", agent()) };
        assert_eq!(last.name(), StateName::Waiting);
        let heard = |by| Some(ago(by));
        let connected = |heard| InsideView { connected: true, ..view(waiting(), heard) };
        picture.inside(&connected(heard(Limits::AGENT_UNHEARD)));
        assert_eq!(agent().state.name(), StateName::Unknown, "that it connected says nothing");
        picture.inside(&connected(heard(Duration::ZERO)));
        assert_eq!(agent().state.name(), StateName::Waiting);
        picture.inside(&view(waiting(), None));
        assert_eq!(agent().state.name(), StateName::Waiting);
        let kill = Kill {
            at: Timestamp(9),
            process: "node".to_owned(),
            command: String::new(),
            session: Some("main".parse().expect("a name")),
            pid: Some(42),
            source: KillSource::KernelLog,
            cgroup: String::new(),
        };
        picture.measured(&Reading { usage: Usage::default(), kills: vec![kill.clone()] });
        assert_eq!((shown().expect("a session").killed, agent().since), (Some(kill), Timestamp(7)));
        picture.stand(standing(1, RunState::Stopped { exit_code: Some(0), oom: false }));
        assert_eq!(shown(), None, "what does not run has no agents");
    }

    #[test]
    fn a_new_run_forgets_the_steps_of_the_old() {
        let board = Arc::new(Board::default());
        let picture = Picture::new(Arc::clone(&board), id());
        picture.stand(standing(1, RunState::Preparing));
        picture.begin("volume", "home volume");
        picture.end("volume", StepState::Done);
        picture.begin("container", "container");
        picture.begin("image", "image x");
        picture.end("image", StepState::Done);
        picture.fail_steps("no network");
        picture.inside(&view(inside(&[StepState::Done]), None));
        let shown = board.get(id()).expect("shown");
        let names: Vec<&str> = shown.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["volume", "image", "container", "clone"]);
        assert_eq!(shown.steps[2].state, StepState::Failed { message: "no network".to_owned() });
        picture.stand(standing(2, RunState::Preparing));
        assert_eq!(board.get(id()).expect("shown").steps, []);
    }

    #[test]
    fn output_keeps_its_newest_lines_within_the_bound() {
        let board = Arc::new(Board::default());
        let picture = Picture::new(Arc::clone(&board), id());
        picture.begin("image", "image x");
        for line in 0..2000 {
            picture.output("image", &format!("layer {line}\x1b[2K"));
        }
        let shown = board.get(id()).expect("shown");
        let output = &shown.steps[0].output;
        assert!(output.len() <= Limits::STEP_OUTPUT_BYTES && output.ends_with("layer 1999[2K\n"));
        assert!(output.starts_with("layer "));
    }
}
