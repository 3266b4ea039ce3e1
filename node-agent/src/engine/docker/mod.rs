//! Docker behind the engine trait, over its unix socket.
//!
//! The connection is made and the API version agreed at the first call, and again after Docker was
//! away. Every call has a deadline of its own; the client library's is only a backstop. What a
//! container looks like is `body`, whether it came out so is `readback`.

mod body;
mod fault;
mod image;
mod info;
mod list;
mod network;
mod readback;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    container::LogOutput,
    errors::Error,
    models::{
        ContainerInspectResponse, ContainerStateStatusEnum, ContainerUpdateBody, EventMessage,
        HostConfig,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, EventsOptionsBuilder, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use tracing::{debug, warn};
use warren_common::{
    Bytes, ClusterId, Generation, Limits, MilliCpus, NodeId, Timestamp, WorkspaceId, status::Usage,
};
use warren_daemon::clock;

use super::{
    Answer, ContainerSeen, ContainerState, Engine, EngineError, EngineEvent, EngineEventKind,
    EngineInfo, EventStream, ImageSeen, LogChunk, LogQuery, LogStream, NetworkSeen, Progress,
};
use crate::{
    container::{Caps, ContainerPlan, Drift, NetworkPlan, drift},
    host::{capacity, cgroup, truth},
};

/// Longer than any deadline of ours; the library applies its own to response headers only, which
/// is what bounds the opening of a stream.
const BACKSTOP_SECONDS: u64 = 24 * 3600;
/// How often a removal that Docker is still at is looked at again.
const REMOVAL_POLL: Duration = Duration::from_millis(50);
/// The label that names a container's workspace.
const WORKSPACE: &str = "warren.workspace";

/// Docker, for the containers of one node of one cluster.
#[derive(Debug)]
pub struct DockerEngine {
    address: String,
    cluster: ClusterId,
    node: NodeId,
    api: Mutex<Option<Docker>>,
    /// One network is made at a time, so that two never choose the same range.
    networks: tokio::sync::Mutex<()>,
}

impl DockerEngine {
    /// Names the Docker at `address`, such as `unix:///var/run/docker.sock`; connects when used.
    pub fn new(address: impl Into<String>, cluster: ClusterId, node: NodeId) -> Self {
        Self {
            address: address.into(),
            cluster,
            node,
            api: Mutex::new(None),
            networks: tokio::sync::Mutex::new(()),
        }
    }

    /// Returns the agreed connection, making it where there is none.
    async fn api(&self) -> Result<Docker, EngineError> {
        let known = self.api.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(api) = known {
            return Ok(api);
        }
        let connect = async {
            let api =
                Docker::connect_with_unix(&self.address, BACKSTOP_SECONDS, API_DEFAULT_VERSION)?;
            api.negotiate_version().await
        };
        let operation = "connect to Docker";
        let api = fault::call(operation, &self.address, Limits::CALL_TIMEOUT, connect).await?;
        let version = self.call("ask Docker's version", Limits::CALL_TIMEOUT, api.version());
        info::check_version(&version.await?.version.unwrap_or_default())?;
        *self.api.lock().unwrap_or_else(PoisonError::into_inner) = Some(api.clone());
        Ok(api)
    }

    /// Runs one call with a deadline; forgets the connection where Docker has gone away.
    async fn call<T>(
        &self,
        operation: &'static str,
        deadline: Duration,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, EngineError> {
        let outcome = fault::call(operation, &self.address, deadline, future).await;
        if let Err(EngineError::Unreachable { .. }) = &outcome {
            *self.api.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        outcome
    }

    /// Labels by which our own are found.
    fn filter(&self) -> HashMap<&'static str, Vec<String>> {
        let labels =
            [format!("warren.cluster={}", self.cluster), format!("warren.node={}", self.node)];
        [("label", labels.into())].into()
    }

    async fn inspect(&self, id: &str) -> Result<ContainerInspectResponse, EngineError> {
        let api = self.api().await?;
        self.call("inspect the container", Limits::ENGINE_TIMEOUT, api.inspect_container(id, None))
            .await
    }

    async fn make(&self, plan: &ContainerPlan) -> Result<String, EngineError> {
        match self.make_once(plan).await {
            Err(EngineError::Conflict { .. }) => {}
            outcome => return outcome,
        }
        let operation = "create the container";
        let existing = self.inspect(&plan.name).await?;
        let conflict = |detail: String| EngineError::Conflict { operation, detail };
        let ours = ["warren.cluster", "warren.node", WORKSPACE].iter().all(|label| {
            let labels = existing.config.as_ref().and_then(|config| config.labels.as_ref());
            labels.and_then(|labels| labels.get(*label)) == plan.labels.get(*label)
        });
        let id = existing.id.clone().unwrap_or_default();
        if !ours {
            return Err(conflict(format!("the name {} is taken by another container", plan.name)));
        }
        match status(&existing) {
            ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::PAUSED => {
                return Err(conflict(format!("container {} is running", plan.name)));
            }
            ContainerStateStatusEnum::CREATED
                if drift(&readback::planned(plan), &readback::actual(&existing, plan))
                    .is_empty() =>
            {
                return Ok(id);
            }
            _ => self.remove(&id).await?,
        }
        self.make_once(plan).await
    }

    /// Creates, reads back, and removes again what is not as planned.
    async fn make_once(&self, plan: &ContainerPlan) -> Result<String, EngineError> {
        let api = self.api().await?;
        let options = CreateContainerOptionsBuilder::default().name(&plan.name).build();
        let create = api.create_container(Some(options), body::create_body(plan));
        let made = self.call("create the container", Limits::ENGINE_TIMEOUT, create).await?;
        for warning in &made.warnings {
            debug!(container = %plan.name, %warning, "Docker warns");
        }
        let drifts = match self.inspect(&made.id).await {
            Ok(seen) => drift(&readback::planned(plan), &readback::actual(&seen, plan)),
            Err(error) => {
                self.remove(&made.id).await?;
                return Err(error);
            }
        };
        if drifts.is_empty() {
            return Ok(made.id);
        }
        self.remove(&made.id).await?;
        Err(EngineError::Drifted { container: plan.name.clone(), drifts })
    }

    /// Compares a container with its plan; what its age explains is no drift.
    async fn read_back(&self, id: &str, plan: &ContainerPlan) -> Result<Vec<Drift>, EngineError> {
        let seen = self.inspect(id).await?;
        let planned = readback::planned(plan);
        let mut drifts = drift(&planned, &readback::actual(&seen, plan));
        if !readback::is_made_from(&seen, &planned) {
            drifts.retain(|drift| !readback::is_of_age(drift));
        }
        let pid = seen.state.as_ref().and_then(|state| state.pid).unwrap_or_default();
        let runs = status(&seen) == ContainerStateStatusEnum::RUNNING;
        if let Some(pid) = u32::try_from(pid).ok().filter(|pid| runs && *pid > 0)
            && readback::is_plain(&seen)
        {
            match truth::drifts(pid, plan) {
                Ok(more) => drifts.extend(more),
                // it ends at this moment
                Err(error) => debug!(container = %plan.name, %error, "the kernel was not asked"),
            }
        }
        Ok(drifts)
    }

    /// Waits until a removal that somebody began has ended.
    async fn gone(&self, id: &str) -> Result<(), EngineError> {
        let operation = "remove the container";
        let gone = async {
            while !matches!(self.inspect(id).await, Err(EngineError::NotFound { .. })) {
                tokio::time::sleep(REMOVAL_POLL).await;
            }
        };
        tokio::time::timeout(Limits::CALL_TIMEOUT, gone)
            .await
            .map_err(|_| EngineError::Timeout { operation, after: Limits::CALL_TIMEOUT })
    }
}

impl Engine for DockerEngine {
    fn info(&self) -> Answer<'_, EngineInfo> {
        async move {
            let api = self.api().await?;
            let answer = self.call("ask Docker's state", Limits::CALL_TIMEOUT, api.info()).await?;
            let version =
                self.call("ask Docker's version", Limits::CALL_TIMEOUT, api.version()).await?;
            let gvisor = info::gvisor(&answer).await;
            Ok(EngineInfo { gvisor, ..info::engine_info(&answer, &version) })
        }
        .boxed()
    }

    fn has_image<'a>(&'a self, image: &'a str) -> Answer<'a, bool> {
        self.holds(image).boxed()
    }

    fn ensure_image<'a>(&'a self, image: &'a str, progress: Progress) -> Answer<'a, ()> {
        self.image(image, progress).boxed()
    }

    fn images(&self) -> Answer<'_, Vec<ImageSeen>> {
        self.all_images().boxed()
    }

    fn ensure_network<'a>(&'a self, plan: &'a NetworkPlan) -> Answer<'a, NetworkSeen> {
        self.network(plan).boxed()
    }

    fn remove_network<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        self.drop_network(name).boxed()
    }

    fn create<'a>(&'a self, plan: &'a ContainerPlan) -> Answer<'a, String> {
        self.make(plan).boxed()
    }

    fn check<'a>(&'a self, id: &'a str, plan: &'a ContainerPlan) -> Answer<'a, Vec<Drift>> {
        self.read_back(id, plan).boxed()
    }

    fn list(&self) -> Answer<'_, Vec<ContainerSeen>> {
        self.find(None).boxed()
    }

    fn workspaces(&self) -> Answer<'_, BTreeSet<WorkspaceId>> {
        async move {
            let labels = self.summaries(None).await?.into_iter().filter_map(|one| one.labels);
            Ok(labels.filter_map(|labels| labels.get(WORKSPACE)?.parse().ok()).collect())
        }
        .boxed()
    }

    fn list_of(&self, workspace: WorkspaceId) -> Answer<'_, Vec<ContainerSeen>> {
        self.find(Some(workspace)).boxed()
    }

    fn start<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        async move {
            let api = self.api().await?;
            self.call("start the container", Limits::ENGINE_TIMEOUT, api.start_container(id, None))
                .await
        }
        .boxed()
    }

    fn update<'a>(&'a self, id: &'a str, caps: Caps) -> Answer<'a, ()> {
        async move {
            let api = self.api().await?;
            let update = api.update_container(id, update_body(caps));
            self.call("change the container's caps", Limits::ENGINE_TIMEOUT, update).await
        }
        .boxed()
    }

    fn stop<'a>(&'a self, id: &'a str, grace: Duration) -> Answer<'a, ()> {
        async move {
            let api = self.api().await?;
            let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
            let options = StopContainerOptionsBuilder::default().t(seconds).build();
            let deadline = Limits::ENGINE_TIMEOUT.saturating_add(grace);
            let stop = api.stop_container(id, Some(options));
            match self.call("stop the container", deadline, stop).await {
                Err(EngineError::NotFound { .. }) => Ok(()),
                outcome => outcome,
            }
        }
        .boxed()
    }

    fn remove<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        async move {
            let api = self.api().await?;
            // `v` takes only volumes that an image declared; homes are bound folders
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let remove = api.remove_container(id, Some(options));
            match self.call("remove the container", Limits::ENGINE_TIMEOUT, remove).await {
                Err(EngineError::NotFound { .. }) => Ok(()),
                Err(EngineError::Conflict { .. }) => self.gone(id).await,
                outcome => outcome,
            }
        }
        .boxed()
    }

    fn logs<'a>(&'a self, id: &'a str, query: LogQuery) -> LogStream<'a> {
        let open = async move {
            let api = self.api().await?.with_timeout(Limits::CALL_TIMEOUT);
            let tail = query.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
            let options = LogsOptionsBuilder::default()
                .follow(query.follow)
                .stdout(true)
                .stderr(true)
                .tail(&tail)
                .build();
            let chunks = api.logs(id, Some(options)).map(move |chunk| match chunk {
                Ok(chunk) => {
                    let stderr = matches!(chunk, LogOutput::StdErr { .. });
                    Ok(LogChunk { stderr, bytes: chunk.into_bytes() })
                }
                Err(error) => Err(fault::explain("read the log", &self.address, error)),
            });
            Ok::<_, EngineError>(chunks)
        };
        stream::once(open).try_flatten().boxed()
    }

    fn events(&self) -> EventStream<'_> {
        // the stream is opened at its first poll; Docker replays what happened since
        let since = (clock::now().0 / 1000).to_string();
        let open = async move {
            let api = self.api().await?.with_timeout(Limits::CALL_TIMEOUT);
            let mut filters = self.filter();
            filters.insert("type", vec!["container".to_owned()]);
            let kinds = ["start", "die", "oom", "destroy", "update"].map(str::to_owned);
            filters.insert("event", kinds.into());
            let options = EventsOptionsBuilder::default().since(&since).filters(&filters).build();
            let events = api
                .events(Some(options))
                .map_err(move |error| fault::explain("watch containers", &self.address, error))
                .try_filter_map(|message| async move { Ok(event(&message)) });
            Ok::<_, EngineError>(events)
        };
        stream::once(open).try_flatten().boxed()
    }

    fn usage<'a>(&'a self, container: &'a ContainerSeen) -> Answer<'a, Usage> {
        async move {
            let ContainerState::Running { pid } = container.state else {
                return Ok(Usage::default());
            };
            match cgroup::usage(pid, &container.id) {
                Ok(usage) => Ok(usage),
                // it ended between the list and now
                Err(error) => {
                    debug!(container = %container.name, %error, "no usage");
                    Ok(Usage::default())
                }
            }
        }
        .boxed()
    }
}

fn status(container: &ContainerInspectResponse) -> ContainerStateStatusEnum {
    let state = container.state.as_ref();
    state.and_then(|state| state.status).unwrap_or(ContainerStateStatusEnum::EMPTY)
}

/// Returns the container as ours; none where its labels are not, which is told and left alone.
fn seen(container: &ContainerInspectResponse) -> Option<ContainerSeen> {
    let id = container.id.clone()?;
    let name = container.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned();
    let labels = container.config.as_ref()?.labels.as_ref()?;
    let number = |label: &str| labels.get(label)?.parse::<u64>().ok();
    let workspace = labels.get(WORKSPACE).and_then(|text| text.parse().ok());
    let (Some(workspace), Some(generation), Some(run_serial)) =
        (workspace, number("warren.generation"), number("warren.run"))
    else {
        warn!(container = %name, "a container has our labels with values that are not ours");
        return None;
    };
    let state = container.state.as_ref()?;
    let time = |text: &Option<String>| timestamp(text.as_deref().unwrap_or_default());
    Some(ContainerSeen {
        id,
        name,
        workspace,
        generation: Generation(generation),
        run_serial,
        started: time(&state.started_at),
        finished: time(&state.finished_at),
        caps: container.host_config.as_ref().map(caps_of).unwrap_or_default(),
        state: match status(container) {
            ContainerStateStatusEnum::CREATED => ContainerState::Created,
            ContainerStateStatusEnum::RUNNING
            | ContainerStateStatusEnum::PAUSED
            | ContainerStateStatusEnum::RESTARTING
            | ContainerStateStatusEnum::STOPPING => ContainerState::Running {
                pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
            },
            ContainerStateStatusEnum::REMOVING => ContainerState::Removing,
            ContainerStateStatusEnum::EXITED
            | ContainerStateStatusEnum::DEAD
            | ContainerStateStatusEnum::EMPTY => ContainerState::Exited {
                exit_code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1),
                oom: state.oom_killed.unwrap_or(false),
            },
        },
    })
}

/// Returns the caps that Docker holds a container by.
fn caps_of(host: &HostConfig) -> Caps {
    let amount = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
    let billionths = host.nano_cpus.filter(|cap| *cap > 0);
    Caps {
        memory: Bytes(amount(host.memory).unwrap_or(0)),
        memory_and_swap: amount(host.memory_swap).filter(|cap| *cap > 0).map(Bytes),
        cpus: billionths.and_then(|cap| u32::try_from(cap / 1_000_000).ok()).map(MilliCpus),
    }
}

/// Memory goes with memory and swap together, or Docker would find one above the other. A processor
/// cap that is gone is one of all there is: Docker reads none as no change.
fn update_body(caps: Caps) -> ContainerUpdateBody {
    let cores = || capacity::cores().ok();
    let cpus = caps.cpus.or_else(cores);
    ContainerUpdateBody {
        memory: Some(body::signed(caps.memory)),
        memory_swap: caps.memory_and_swap.map(body::signed),
        nano_cpus: cpus.map(|cpus| i64::from(cpus.0) * 1_000_000),
        ..ContainerUpdateBody::default()
    }
}

/// Reads Docker's time; its zero time, and whatever is none, is zero.
fn timestamp(text: &str) -> Timestamp {
    let parsed = text.parse::<jiff::Timestamp>().ok();
    Timestamp(parsed.and_then(|time| u64::try_from(time.as_millisecond()).ok()).unwrap_or(0))
}

fn event(message: &EventMessage) -> Option<EngineEvent> {
    let actor = message.actor.as_ref()?;
    let attributes = actor.attributes.as_ref()?;
    let kind = match message.action.as_deref()? {
        "start" => EngineEventKind::Started,
        "die" => EngineEventKind::Died {
            exit_code: attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(-1),
        },
        "oom" => EngineEventKind::OutOfMemory,
        "destroy" => EngineEventKind::Removed,
        "update" => EngineEventKind::Changed,
        _ => return None,
    };
    let workspace = attributes.get(WORKSPACE)?.parse().ok()?;
    Some(EngineEvent { container: actor.id.clone()?, workspace, kind })
}

#[cfg(test)]
mod tests;
