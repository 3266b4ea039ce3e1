//! What the fake engine remembers, in one file that is replaced whole.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};
use warren_common::{BootId, Generation, Timestamp, WorkspaceId};

use crate::{
    container::{
        Caps, ContainerPlan, Drift, NetworkPlan,
        subnet::{Subnet, next_free},
    },
    engine::{ContainerSeen, ContainerState, EngineError, NetworkSeen},
};

const FILE: &str = "engine.json";
/// Pids of the fake lie beyond the kernel's largest, so that none is ever a real process.
const FIRST_PID: u32 = 5_000_000;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Record {
    /// The boot in which running containers run.
    boot: Option<BootId>,
    /// Counts containers and starts, for ids and pids.
    made: u32,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) networks: BTreeMap<String, NetworkSeen>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Container {
    pub(super) seen: ContainerSeen,
    pub(super) plan: ContainerPlan,
}

impl Container {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.seen.state, ContainerState::Running { .. })
    }
}

impl Record {
    /// Loads what is kept; after a reboot everything that ran has ended.
    pub(super) fn load(folder: &Path, boot: BootId) -> io::Result<Self> {
        let mut record: Self = match fs::read(folder.join(FILE)) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(error),
        };
        if record.boot != Some(boot) {
            for container in record.containers.values_mut().filter(|one| one.is_running()) {
                container.seen.state = ContainerState::Exited { exit_code: 255, oom: false };
            }
            record.boot = Some(boot);
        }
        Ok(record)
    }

    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join("engine.json.new");
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        fs::rename(new, folder.join(FILE))
    }

    pub(super) fn network(&mut self, plan: &NetworkPlan) -> Result<NetworkSeen, EngineError> {
        if let Some(known) = self.networks.get(&plan.name) {
            return Ok(known.clone());
        }
        let used: Vec<Subnet> =
            self.networks.values().filter_map(|network| network.subnet.parse().ok()).collect();
        let free = plan.range.parse().ok().and_then(|range| next_free(range, &used));
        let subnet = free.ok_or_else(|| EngineError::NoSubnet { range: plan.range.clone() })?;
        let network = NetworkSeen {
            name: plan.name.clone(),
            subnet: subnet.to_string(),
            gateway: subnet.gateway(),
        };
        self.networks.insert(plan.name.clone(), network.clone());
        Ok(network)
    }

    pub(super) fn create(&mut self, plan: &ContainerPlan) -> Result<String, EngineError> {
        let operation = "create the container";
        let existing = self.containers.iter().find(|(_, one)| one.seen.name == plan.name);
        if let Some((id, container)) = existing {
            let id = id.clone();
            if container.is_running() {
                let detail = format!("container {} is running", plan.name);
                return Err(EngineError::Conflict { operation, detail });
            }
            if container.seen.state == ContainerState::Created && container.plan.is_same(plan) {
                return Ok(id);
            }
            self.containers.remove(&id);
        }
        if !self.networks.contains_key(&plan.network) {
            let detail = format!("network {} not found", plan.network);
            return Err(EngineError::NotFound { operation, detail });
        }
        self.made += 1;
        let id = format!("fake{:060x}", self.made);
        let number = |label| plan.labels.get(label).and_then(|text| text.parse().ok()).unwrap_or(0);
        let seen = ContainerSeen {
            id: id.clone(),
            name: plan.name.clone(),
            workspace: plan.workspace,
            generation: Generation(number("warren.generation")),
            run_serial: number("warren.run"),
            state: ContainerState::Created,
            started: Timestamp::default(),
            finished: Timestamp::default(),
            caps: plan.caps(),
        };
        self.containers.insert(id.clone(), Container { seen, plan: plan.clone() });
        Ok(id)
    }

    pub(super) fn update(&mut self, id: &str, caps: Caps) -> Result<(), EngineError> {
        let Some(container) = self.containers.get_mut(id) else {
            let (operation, detail) = ("change the container's caps", format!("no container {id}"));
            return Err(EngineError::NotFound { operation, detail });
        };
        container.seen.caps = caps;
        container.plan = container.plan.clone().with_caps(caps);
        Ok(())
    }

    /// Returns whether a container's memory cap is another than planned.
    pub(super) fn drifts(&self, id: &str, plan: &ContainerPlan) -> Option<Drift> {
        let (planned, actual) = (plan.memory, self.containers.get(id)?.seen.caps.memory);
        (planned != actual).then(|| Drift {
            field: "HostConfig.Memory".to_owned(),
            planned: planned.0.to_string(),
            actual: actual.0.to_string(),
        })
    }

    /// Marks a container as running; returns whose it is where it did not run before.
    pub(super) fn start(
        &mut self,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<WorkspaceId>, EngineError> {
        self.made += 1;
        let pid = FIRST_PID + self.made;
        let Some(container) = self.containers.get_mut(id) else {
            let detail = format!("no container {id}");
            return Err(EngineError::NotFound { operation: "start the container", detail });
        };
        if container.is_running() {
            return Ok(None);
        }
        if !self.networks.contains_key(&container.plan.network) {
            let detail = format!("network {} not found", container.plan.network);
            return Err(EngineError::NotFound { operation: "start the container", detail });
        }
        container.seen.state = ContainerState::Running { pid };
        container.seen.started = now;
        Ok(Some(container.seen.workspace))
    }
}
