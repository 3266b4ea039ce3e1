//! The container engine as the agent sees it: one small trait, Docker and a fake behind it.
//!
//! Every call is idempotent (what is already so is fine, what is already gone is gone), has a
//! deadline ([`warren_common::Limits::ENGINE_TIMEOUT`] where nothing else is said), and fails with
//! an [`EngineError`] that a person can read. The engine decides nothing: what runs comes from the
//! node's document, what a container looks like from [`crate::container::plan()`]. `bollard` is
//! named in `docker` alone.

pub mod docker;
pub mod error;
pub mod fake;

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use serde::{Deserialize, Serialize};
use warren_common::{Generation, Timestamp, WorkspaceId, status::Usage};

use crate::container::{Caps, ContainerPlan, Drift, NetworkPlan};

pub use error::EngineError;

/// The outcome of an engine call, to be awaited. Dropping it abandons the wait, not the engine's
/// work: the next list shows what became of it.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

/// Called with one line for people while an image is pulled; must not block.
pub type Progress = Arc<dyn Fn(String) + Send + Sync>;

/// A container engine that holds this node's workspaces.
pub trait Engine: Send + Sync + 'static {
    /// Asks the engine what it is; fails where it is unreachable or too old.
    fn info(&self) -> Answer<'_, EngineInfo>;

    /// Returns whether the image is here, so that nobody who has it waits for another's pull.
    fn has_image<'a>(&'a self, image: &'a str) -> Answer<'a, bool>;

    /// Makes sure the image is here: present is fine, else it is pulled with progress, else
    /// `ImageMissing` says what to do. Takes as long as the pull moves on.
    fn ensure_image<'a>(&'a self, image: &'a str, progress: Progress) -> Answer<'a, ()>;

    /// Lists what images are here, once by each name: the newest first, and digests last.
    fn images(&self) -> Answer<'_, Vec<ImageSeen>>;

    /// Makes sure the workspace's own network exists, in a free /28 of the plan's range.
    fn ensure_network<'a>(&'a self, plan: &'a NetworkPlan) -> Answer<'a, NetworkSeen>;

    /// Removes a network of ours by name, cutting off whatever is still attached to it.
    fn remove_network<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;

    /// Creates the container and checks it against the plan; one that differs is removed again.
    /// A container that already has the plan's name is kept if it is the same and not running,
    /// removed and made again if it never ran or has exited, and a `Conflict` if it runs.
    /// Returns the engine's id.
    fn create<'a>(&'a self, plan: &'a ContainerPlan) -> Answer<'a, String>;

    /// Reads a container back, running or ended, and says what is not as planned: empty where all
    /// is. Of one that runs the kernel is asked too.
    fn check<'a>(&'a self, id: &'a str, plan: &'a ContainerPlan) -> Answer<'a, Vec<Drift>>;

    /// Lists every container of this cluster and node, running or not, by workspace and run.
    fn list(&self) -> Answer<'_, Vec<ContainerSeen>>;

    /// Names the workspaces that have a container of this cluster and node, running or not. Waits
    /// for no container, and looks at none.
    fn workspaces(&self) -> Answer<'_, BTreeSet<WorkspaceId>>;

    /// Lists the containers of one workspace, by run. Waits for no other workspace's container:
    /// one that the engine is stuck with must not hold up the rest.
    fn list_of(&self, workspace: WorkspaceId) -> Answer<'_, Vec<ContainerSeen>>;

    /// Starts a created or exited container; one that runs is fine. The caller holds the permit.
    fn start<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Changes the caps of a container, running or not, without touching what runs in it. Where
    /// the kernel will not take memory from it, nothing is changed and this fails.
    fn update<'a>(&'a self, id: &'a str, caps: Caps) -> Answer<'a, ()>;

    /// Stops with SIGTERM, then SIGKILL after `grace`; one that is not running or gone is fine.
    fn stop<'a>(&'a self, id: &'a str, grace: Duration) -> Answer<'a, ()>;

    /// Removes the container, killing it if it runs; gone is fine. Never touches the home.
    fn remove<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Streams the log of PID 1. Ends at the end of the log, or with `follow` when the container
    /// stops or the stream is dropped.
    fn logs<'a>(&'a self, id: &'a str, query: LogQuery) -> LogStream<'a>;

    /// Streams what happens to containers of ours from this call on, also what happens before the
    /// stream is first polled. Nothing earlier is replayed: when it ends or fails, open it again,
    /// then [`Engine::list`] once.
    fn events(&self) -> EventStream<'_>;

    /// Reads what a running container uses; zero where it does not run.
    fn usage<'a>(&'a self, container: &'a ContainerSeen) -> Answer<'a, Usage>;
}

/// Log of one container, in order.
pub type LogStream<'a> = BoxStream<'a, Result<LogChunk, EngineError>>;

/// Events of our containers, in order.
pub type EventStream<'a> = BoxStream<'a, Result<EngineEvent, EngineError>>;

/// An image that is here, by one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSeen {
    /// With a tag or a digest.
    pub name: String,
    /// The engine's own.
    pub id: String,
}

/// What the engine says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its name and version, such as `Docker 28.2.2`.
    pub version: String,
    /// `1` or `2`, as the engine uses it.
    pub cgroup: u32,
    /// Whether cgroups are made by systemd (the cgroup parent is then a slice).
    pub systemd_cgroups: bool,
    /// Whether a memory cap is really enforced.
    pub memory_limit: bool,
    /// Whether swap is counted, so that a swap cap is enforced.
    pub swap_limit: bool,
    /// Whether processes can be counted and capped.
    pub pids_limit: bool,
    /// Whether containers survive a restart of the engine.
    pub live_restore: bool,
    /// Whether user ids are remapped by the daemon.
    pub user_namespaces: bool,
    /// Whether AppArmor profiles are loaded.
    pub apparmor: bool,
    /// Whether seccomp filters are supported.
    pub seccomp: bool,
    /// Names of the container runtimes it knows.
    pub runtimes: Vec<String>,
    /// Version of the default runtime, such as `1.1.5`, empty where it is not told.
    pub runtime_version: String,
    /// Where remapped users and groups begin on the host; none where they are not remapped, or it is
    /// not told.
    pub remap: Option<(u32, u32)>,
    /// gVisor's runtime, where it is registered as [`GVISOR`].
    pub gvisor: Gvisor,
    /// Containers run in gVisor unless another runtime is named.
    pub gvisor_by_default: bool,
}

/// The name under which gVisor's runtime is registered.
pub const GVISOR: &str = "runsc";

/// What there is of gVisor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Gvisor {
    /// It is not registered.
    #[default]
    Absent,
    /// It runs, and says this of itself.
    Runs(String),
    /// It is registered and does not run.
    Broken(String),
}

/// A workspace's network as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSeen {
    /// Its name, which is also the bridge's.
    pub name: String,
    /// Its address range, such as `10.213.0.16/28`.
    pub subnet: String,
    /// The host's address on the bridge.
    pub gateway: Ipv4Addr,
}

/// One container of ours as the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSeen {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whose it is, from its label.
    pub workspace: WorkspaceId,
    /// The generation it was made for, from its label.
    pub generation: Generation,
    /// The run it was made for, from its label.
    pub run_serial: u64,
    /// How it stands.
    pub state: ContainerState,
    /// When it was last started, by the engine's clock; zero if never.
    pub started: Timestamp,
    /// When it last ended, by the engine's clock; zero if never.
    pub finished: Timestamp,
    /// The caps it is held by.
    #[serde(default)]
    pub caps: Caps,
}

/// How a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Runs; a paused one too.
    Running {
        /// Process id of PID 1 on the host.
        pid: u32,
    },
    /// Ended, or the engine could not start it.
    Exited {
        /// Exit code of PID 1, 128 + n for signal n.
        exit_code: i32,
        /// Whether PID 1 itself was killed for memory; a child's end shows in usage and events.
        oom: bool,
    },
    /// The engine is removing it.
    Removing,
}

/// Which part of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Wait for more.
    pub follow: bool,
    /// Lines from the end; all that is kept without it.
    pub tail: Option<u32>,
}

/// One piece of a log, not necessarily a whole line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Whether it was written to standard error.
    pub stderr: bool,
    /// The bytes as written: untrusted.
    pub bytes: Bytes,
}

/// Something that happened to a container of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// The engine's id of the container.
    pub container: String,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// What happened.
    pub kind: EngineEventKind,
}

/// What happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineEventKind {
    /// It was started.
    Started,
    /// Its PID 1 ended.
    Died {
        /// Exit code, 128 + n for signal n.
        exit_code: i32,
    },
    /// The kernel killed a process of it for memory; the container may live on.
    OutOfMemory,
    /// It was removed.
    Removed,
    /// Somebody changed its settings.
    Changed,
}
