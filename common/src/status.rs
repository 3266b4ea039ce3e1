//! What was seen: nodes, workspaces, startup steps and sessions as the node agents report them.
//!
//! Soft state: it is streamed to every coordinator and never enters Raft. Texts that come from a
//! workspace are untrusted; [`clean`] cuts them and takes out whatever [`hides`].

use serde::{Deserialize, Serialize};

use crate::{
    BootId, Bytes, Generation, Limits, MilliCpus, SessionName, Timestamp, WorkspaceId,
    agent::AgentStatus,
    browser::BrowserStatus,
    measure::{Kill, Pressure},
    spec::{Labels, Resources},
};

/// What a node is and has, sent when it registers and when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The host's name as the host gives it.
    pub hostname: String,
    /// The running boot.
    pub boot: BootId,
    /// Memory that workspaces may be given: the host's, less what the host keeps.
    pub allocatable_memory: Bytes,
    /// Swap of the host.
    pub swap: Bytes,
    /// Processor cores.
    pub cpus: MilliCpus,
    /// Free space where homes are kept, counting what homes hold already.
    pub disk: Bytes,
    /// Version of the node agent.
    pub version: String,
    /// Version of the container engine, empty where there is none.
    pub engine: String,
    /// Version of the kernel.
    pub kernel: String,
    /// `1` or `2`.
    pub cgroup: u32,
    /// Labels from the node's own configuration.
    pub labels: Labels,
    /// What its preflight found.
    pub findings: Vec<Finding>,
}

/// One finding of a node's preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code such as `W1102`; `docs/OPERATIONS.md` lists them.
    pub code: String,
    /// Whether the node can take workspaces with it.
    pub level: FindingLevel,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it, in one sentence.
    pub fix: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FindingLevel {
    /// Works, but weaker than it could be.
    Warning,
    /// The node takes no workspaces until it is mended.
    Blocking,
}

/// One workspace as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceObserved {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// The generation the node acts on.
    pub generation: Generation,
    /// The run the node acts on.
    pub run_serial: u64,
    /// Where it stands.
    pub state: RunState,
    /// Why, for people; at most [`Limits::REASON_BYTES`].
    pub reason: String,
    /// When the state was entered, by the node's clock.
    pub since: Timestamp,
    /// Process id of PID 1 on the host while it runs.
    pub pid: Option<u32>,
    /// The steps of this start in their order: the node's own, then those inside.
    pub steps: Vec<StartupStep>,
    /// The sessions inside, by name.
    pub sessions: Vec<SessionObserved>,
    /// What it uses; zero where it does not run.
    pub usage: Usage,
    /// What its volume takes, running or not; none where the node does not meter volumes.
    #[serde(default)]
    pub volume: Option<VolumeUse>,
    /// What it is held to, or will be when it starts, of what its node can enforce; none before
    /// the node has looked.
    #[serde(default)]
    pub caps: Option<CapsHeld>,
    /// Why that is not what was ordered, at most [`Limits::REASON_BYTES`]; empty where it is, or
    /// soon will be.
    #[serde(default)]
    pub caps_reason: String,
    /// The last processes killed for memory, newest first, over all its runs that this agent saw;
    /// at most [`Limits::KILLS`].
    #[serde(default)]
    pub kills: Vec<Kill>,
    /// What PID 1 keeps up beside the sessions, in the order in which it is started; at most
    /// [`Limits::SERVICES`].
    #[serde(default)]
    pub services: Vec<ServiceObserved>,
    /// The browsers inside, the running ones first; at most [`Limits::BROWSERS`] of these and
    /// [`Limits::BROWSERS_ENDED`] others.
    #[serde(default)]
    pub browsers: Vec<BrowserStatus>,
}

/// Where a workspace stands on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// Nothing of it is there.
    Absent,
    /// Volume, network and container are being made.
    Preparing,
    /// All is made; it waits for the permit.
    Prepared,
    /// The container runs; startup steps or sessions are not all done.
    Starting,
    /// The container runs and every startup step ended well.
    Running,
    /// It is being stopped.
    Stopping,
    /// The container is not running; the volume is kept.
    Stopped {
        /// Exit code of PID 1 where it is known.
        exit_code: Option<i32>,
        /// Whether the kernel killed for memory in this run.
        oom: bool,
    },
    /// The node cannot do what is asked; it tries again on its own unless the order changes.
    Failed {
        /// Stable code such as `IMAGE_MISSING`.
        code: String,
        /// Whether trying again without a change can help.
        retry: bool,
    },
}

impl RunState {
    /// Returns the word for people.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Preparing => "preparing",
            Self::Prepared => "prepared",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped { .. } => "stopped",
            Self::Failed { .. } => "failed",
        }
    }
}

/// What a workspace uses at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Memory charged to it.
    pub memory: Bytes,
    /// Swap charged to it.
    pub swap: Bytes,
    /// Processes and threads.
    pub pids: u32,
    /// Processor time since its container started, milliseconds.
    pub cpu_ms: u64,
    /// Processes killed for memory since its container started.
    pub oom_kills: u64,
    /// Of the memory, what the kernel could not give back without swap: programs' own, shared
    /// memory and memory filesystems.
    #[serde(default)]
    pub held: Bytes,
    /// Memory that could not be had back without taking it from somebody: what is charged, less the
    /// file pages that nobody used lately.
    #[serde(default)]
    pub working_set: Bytes,
    /// The memory cap that the kernel holds; zero where there is none or it is not known.
    #[serde(default)]
    pub memory_cap: Bytes,
    /// Processor use between the last two readings.
    #[serde(default)]
    pub cpu: MilliCpus,
    /// Bytes its network brought in since the bridge was made.
    #[serde(default)]
    pub received: Bytes,
    /// Bytes it sent since the bridge was made.
    #[serde(default)]
    pub sent: Bytes,
    /// How far it waited for memory; all zero on cgroup v1, which does not measure it.
    #[serde(default)]
    pub pressure: Pressure,
}

/// What home, `/tmp` and snapshots of a workspace take together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUse {
    /// What is taken.
    pub used: Bytes,
    /// What its quota allows.
    pub limit: Bytes,
}

/// The hard caps that a node holds a workspace to, as they were ordered. It enforces those it can:
/// nothing caps a home in a plain folder, or swap where the kernel does not count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapsHeld {
    /// Of memory.
    pub memory: Bytes,
    /// Of swap beyond it.
    pub swap: Bytes,
    /// Of the processor; none without one.
    pub cpus: Option<MilliCpus>,
    /// Of the home.
    pub disk: Bytes,
}

impl From<&Resources> for CapsHeld {
    fn from(resources: &Resources) -> Self {
        let Resources { memory, swap, cpus, disk, .. } = *resources;
        Self { memory, swap, cpus, disk }
    }
}

impl VolumeUse {
    /// Returns whether next to nothing can be written any more: 95 hundredths are taken.
    pub const fn is_full(&self) -> bool {
        self.limit.0 > 0 && self.used.0 >= self.limit.0 - self.limit.0 / 20
    }
}

/// One step of a start, shown as a line of progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartupStep {
    /// Stable name: `volume`, `container`, `git-identity`, `clone`, `setup`, `session:main`.
    pub name: String,
    /// What people read: `git clone acme/web (1,204 objects)`.
    pub title: String,
    /// How it stands.
    pub state: StepState,
    /// When it began, by the clock of whoever ran it; zero while pending.
    pub started: Timestamp,
    /// How long it took or has taken, milliseconds.
    pub elapsed_ms: u64,
    /// The last output, at most [`Limits::STEP_OUTPUT_BYTES`].
    pub output: String,
}

/// How a startup step stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Running.
    Running,
    /// Ended well.
    Done,
    /// Not needed this time; the title says why.
    Skipped,
    /// Ended badly; the workspace runs on so that a person can look.
    Failed {
        /// What happened, in one sentence.
        message: String,
    },
}

/// A program that PID 1 keeps up, or starts when it is wanted: the display, the editor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceObserved {
    /// Stable name: `display`, `windows`, `vnc`, `editor`.
    pub name: String,
    /// How it stands.
    pub state: ServiceState,
    /// Why, for people; empty where it runs.
    pub reason: String,
    /// Times it was started again after it ended by itself.
    pub restarts: u32,
    /// When it came to stand so, by the workspace's clock.
    pub since: Timestamp,
}

/// How a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceState {
    /// The image does not have it.
    Absent,
    /// Nobody wants it now.
    Idle,
    /// It was started and does not answer yet.
    Starting,
    /// It answers.
    Running,
    /// It ended and is started again after a pause.
    Failed,
}

/// One session as PID 1 of its workspace sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionObserved {
    /// Its name.
    pub name: SessionName,
    /// What runs in it: the command line asked for, or the shell.
    pub command: String,
    /// How it stands.
    pub state: SessionState,
    /// When it was made, by the workspace's clock.
    pub started: Timestamp,
    /// When it last wrote something, 1 s steps.
    pub active: Timestamp,
    /// People looking at it now.
    pub viewers: u32,
    /// Process ids inside of what its panes run; the first ones, at most [`Limits::PANES`]. None on
    /// the way up from a node, to whom alone they mean something.
    #[serde(default)]
    pub panes: Vec<u32>,
    /// The last process of it that was killed for memory.
    #[serde(default)]
    pub killed: Option<Kill>,
    /// What the agent in it does; none before one was seen.
    #[serde(default)]
    pub agent: Option<Box<AgentStatus>>,
    /// How it was last run; none where there is nothing to tell.
    #[serde(default)]
    pub run: Option<Box<SessionRun>>,
}

/// How a session was last run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRun {
    /// The run that was asked for; zero for the one that the workspace's start makes.
    pub run: u64,
    /// What is checked out where it works; empty without a repository.
    pub branch: String,
    /// Its own worktree; empty where it works in the checkout or the home.
    pub worktree: String,
    /// The agent's own id of its conversation, once it is known.
    pub conversation: String,
    /// It went on with that conversation.
    pub resumed: bool,
    /// Why it is not as it was asked for, at most [`Limits::REASON_BYTES`]; empty where it is.
    pub problem: String,
}

impl SessionObserved {
    /// Returns it without what only says that something still moves: two that are equal so stand
    /// alike to people.
    #[must_use]
    pub fn standing(self) -> Self {
        let zero = Timestamp(0);
        let still = |agent: Box<AgentStatus>| {
            Box::new(AgentStatus { last_activity: zero, evidence: zero, ..*agent })
        };
        Self { active: zero, agent: self.agent.map(still), ..self }
    }
}

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    /// Its program runs.
    Running,
    /// Its program ended; the screen is kept.
    Exited {
        /// The exit code, 128 + n for signal n.
        code: i32,
    },
}

/// Returns `text` without what [`hides`], cut to `limit` bytes at a character's boundary.
pub fn clean(text: &str, limit: usize) -> String {
    without(text, limit, hides)
}

/// Whether a character does something to the text around it, or to a terminal, and is not seen
/// itself: a control character other than line ends and tabs, one that turns the direction of what
/// follows, a separator of lines, a blank without width, a tag. Joiners stay: scripts and emoji need
/// them.
pub fn hides(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        // marks, embeddings, overrides and isolates of direction; Unicode's annex 9 names them
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' => true,
        // separators of lines and paragraphs; the empty blank, the word joiner and what stands beside
        // them, isolates among it; the byte order mark
        '\u{2028}' | '\u{2029}' | '\u{200b}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => true,
        // notes between the lines, and tags
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => character.is_control(),
    }
}

fn without(text: &str, limit: usize, hides: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for character in text.chars().filter(|one| !hides(*one)) {
        if out.len() + character.len_utf8() > limit {
            break;
        }
        out.push(character);
    }
    out
}

/// Returns a reason fit for state and screens: one line, at most [`Limits::REASON_BYTES`].
pub fn reason(text: &str) -> String {
    clean(text, Limits::REASON_BYTES).replace(['\n', '\t'], " ")
}

/// Returns a reason as entries of the log are applied with it: without control characters. Replicas of
/// different versions apply an entry alike, so what this does never changes.
pub fn reason_applied(text: &str) -> String {
    line_applied(text, Limits::REASON_BYTES)
}

/// Returns one line of a text as entries of the log are applied with it: as [`reason_applied`], and in
/// `limit` bytes.
pub fn line_applied(text: &str, limit: usize) -> String {
    let control = |one: char| one.is_control() && one != '\n' && one != '\t';
    without(text, limit, control).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a text may not hold, named one by one.
    const INVISIBLE: [char; 22] = [
        '\u{1b}',
        '\0',
        '\r',
        '\u{9b}',
        '\u{7f}',
        '\u{61c}',
        '\u{200b}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202b}',
        '\u{202c}',
        '\u{202d}',
        '\u{202e}',
        '\u{2066}',
        '\u{2067}',
        '\u{2068}',
        '\u{2069}',
        '\u{feff}',
        '\u{e0041}',
    ];

    #[test]
    fn texts_from_a_workspace_are_cut_and_cleaned() {
        assert_eq!(clean("a\x1b[31mb\0c\n", 100), "a[31mbc\n");
        assert_eq!(clean("ääää", 5), "ää");
        assert_eq!(reason("two\nlines"), "two lines");
        assert_eq!(reason("safe \u{202e}gpj.exe"), "safe gpj.exe");
        assert_eq!(reason_applied("safe \u{202e}gpj\0.exe\n"), "safe \u{202e}gpj.exe ");
        let family = "\u{1f469}\u{200d}\u{1f467} \u{645}\u{6cc}\u{200c}";
        assert_eq!(clean(family, 100), family, "joiners stay");
    }

    proptest! {
        #[test]
        fn what_is_cleaned_shows_all_there_is_of_it(
            parts in prop::collection::vec((0..INVISIBLE.len(), any::<char>()), 0..60),
            limit in 0..200_usize,
        ) {
            let odd = parts.iter().map(|(at, _)| INVISIBLE[*at]);
            let all: String = odd.zip(&parts).flat_map(|(odd, part)| [odd, part.1]).collect();
            let cleaned = clean(&all, limit);
            prop_assert!(cleaned.len() <= limit && !cleaned.contains(INVISIBLE), "{cleaned:?}");
            prop_assert!(!cleaned.contains(|one: char| one.is_control() && !"\n\t".contains(one)));
            prop_assert_eq!(clean(&cleaned, limit), cleaned, "once is enough");
            let plain: String = parts.iter().map(|part| part.1).filter(|one| !hides(*one)).collect();
            prop_assert_eq!(clean(&all, usize::MAX), plain, "nothing else goes");
        }
    }
}
