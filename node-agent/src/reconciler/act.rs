//! Takes one step. Every step can be taken again after a crash anywhere in it.

use std::{net::Ipv4Addr, sync::Arc};

use tokio::time::timeout;
use tracing::debug;
use warren_common::{
    Limits,
    spec::{IsolationTier, Run, WorkspaceOrder},
    status::StepState,
};
use warren_model::Action;

use super::{
    failure::Failure,
    picture::{CONTAINER, IMAGE, VOLUME},
    worker::{Follow, Found, LAST_GRACE, Worker, setup},
};
use crate::{
    container::{Ground, network_name, plan, plan::RESOLV_CONF, plan_network},
    engine::{ContainerSeen, ContainerState, EngineInfo, GVISOR, Gvisor, Progress},
    host::{
        self,
        cgroup::level::{Caps, workspace_parent},
    },
    inside::Expected,
    ledger::Started,
    volume::Volume,
};

/// Where an engine answers in a container's own network.
const ENGINE_RESOLVER: &str = "127.0.0.11";

/// Returns what the workspace's own cgroup holds.
pub(super) fn caps(order: &WorkspaceOrder) -> Caps {
    let asked = &order.spec.resources;
    Caps { memory: asked.memory, swap: asked.swap, pids: asked.pids, cpu_weight: asked.cpu_weight }
}

impl Worker {
    /// Takes the step that `diff` named for this order and what was found.
    pub(super) async fn act(
        &mut self,
        action: Action,
        order: Option<&WorkspaceOrder>,
        found: &Found,
    ) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let container = found.container.as_ref();
        match (action, order, container) {
            (Action::CreateContainer, Some(order), _) => self.create(order).await,
            (Action::EnsureVolume, Some(order), _) => {
                let _turn = shared.steps.acquire().await;
                let size = order.spec.resources.disk;
                self.picture.begin(VOLUME, &format!("home volume {size}"));
                self.ensure(size).await?;
                self.picture.end(VOLUME, StepState::Done);
                Ok(())
            }
            (Action::EnsureNetwork, Some(order), _) => {
                // it may wait, and then others need the turn
                self.nothing_runs().await?;
                let _turn = shared.steps.acquire().await;
                self.picture.begin(CONTAINER, CONTAINER);
                self.make_network(order).await
            }
            (Action::Start, Some(order), Some(container)) => self.start(order, container).await,
            (Action::Stop, _, Some(container)) => self.stop(container).await,
            (Action::RemoveContainer, _, Some(container)) => {
                let _turn = shared.steps.acquire().await;
                shared.parts.engine.remove(&container.id).await?;
                shared.forget_kills(self.workspace);
                Ok(())
            }
            (Action::RemoveNetwork, _, _) => {
                let _turn = shared.steps.acquire().await;
                shared.parts.engine.remove_network(&network_name(self.workspace)).await?;
                (self.network_made, self.network_gone) = (false, true);
                self.remove_level().await;
                shared.parts.walls.look();
                Ok(())
            }
            (Action::RemoveVolume, Some(_), _) => {
                // takes no turn, as with `/tmp`
                Ok(shared.parts.volumes.remove(self.workspace).await?)
            }
            (
                Action::EnsureVolume
                | Action::EnsureNetwork
                | Action::CreateContainer
                | Action::Start
                | Action::Stop
                | Action::RemoveContainer
                | Action::RemoveVolume
                | Action::Nothing
                | Action::AwaitPermit
                | Action::Refuse,
                _,
                _,
            ) => Err(Failure {
                code: "INTERNAL",
                retry: true,
                message: format!("step {action:?} lacks what it needs"),
            }),
        }
    }

    /// Refuses to go on while something of the workspace runs that the engine does not list: a
    /// second container would run on the same home.
    pub(super) async fn nothing_runs(&self) -> Result<(), Failure> {
        Ok(self.shared.parts.levels.empty(&self.levels()).await?)
    }

    /// Ends what runs of a workspace that is to be stopped or gone, although the engine lists no
    /// container of it that does. A recovering cluster may not know yet what is to run.
    pub(super) async fn end_unlisted(
        &self,
        order: Option<&WorkspaceOrder>,
        found: &Found,
    ) -> Result<(), Failure> {
        let recovering = self.shared.parts.ledger.memory().recovering;
        let ends = match order.map(|order| order.run) {
            Some(Run::Running) => false,
            Some(Run::Stopped) => true,
            Some(Run::Removed) | None => !recovering,
        };
        let container = found.container.as_ref().map(|one| one.state);
        if !ends || matches!(container, Some(ContainerState::Running { .. })) {
            return Ok(());
        }
        Ok(self.shared.parts.levels.end(&self.levels()).await?)
    }

    /// Returns every level that the workspace may have: the engine may have had another driver.
    fn levels(&self) -> Vec<String> {
        let nodes = self.shared.parts.place.cgroups_of_node();
        nodes.iter().map(|node| workspace_parent(node, self.workspace)).collect()
    }

    /// Makes sure of the network, for a container that does not run yet.
    pub(super) async fn make_network(&mut self, order: &WorkspaceOrder) -> Result<(), Failure> {
        let ground = self.ground(None).await?;
        let range = &self.shared.parts.place.network_range;
        let plan = plan_network(order, &ground, range);
        let walls = &self.shared.parts.walls;
        walls.prepare(&plan.name).await?;
        let seen = self.shared.parts.engine.ensure_network(&plan).await?;
        walls.open(&seen.name).await?;
        debug!(workspace = %self.workspace, network = seen.name, subnet = seen.subnet, "network");
        (self.network_made, self.network_gone) = (true, false);
        Ok(())
    }

    /// Image, folders, socket, container: everything but the start.
    async fn create(&mut self, order: &WorkspaceOrder) -> Result<(), Failure> {
        self.shared.ask_info().await?;
        // before the image, which another data folder lacks: that is not what is to be told
        self.nothing_runs().await?;
        self.picture.pause(CONTAINER);
        tokio::select! {
            pulled = self.image(order) => pulled?,
            // another order must not wait for a pull; the engine goes on with it
            () = self.reordered(Some(order)) => return Ok(()),
        }
        self.picture.end(IMAGE, StepState::Done);
        let shared = Arc::clone(&self.shared);
        self.picture.begin(CONTAINER, CONTAINER);
        let volumes = &shared.parts.volumes;
        let volume = self.ensure(order.spec.resources.disk).await?;
        // takes no turn: how long it lasts is the workspace's choice, who may have filled it
        volumes.clear_tmp(self.workspace).await?;
        if shared.parts.place.gives_volumes {
            self.own().await?;
        }
        // takes none either: coordinators may not answer
        let fetched = tokio::select! {
            fetched = self.fetch(order) => fetched?,
            () = self.reordered(Some(order)) => return Ok(()),
        };
        let _turn = shared.steps.acquire().await;
        let ground = self.ground(Some(&volume)).await?;
        let level = shared.parts.levels.ensure(&ground.cgroup_parent, caps(order)).await;
        level.map_err(|error| Failure::level(&error))?;
        let door = self.door()?;
        self.name_resolver()?;
        self.provide(order, fetched).await?;
        let created = shared.parts.engine.create(&plan(order, &ground)).await;
        let id = created.inspect_err(|_| self.network_made = false)?;
        self.checked = Some(id.clone());
        door.expect(Expected {
            container: Some(id),
            run_serial: order.run_serial,
            setup: setup(order),
        });
        self.picture.pause(CONTAINER);
        Ok(())
    }

    /// Makes sure of the image; a step of its own only where it has to be pulled.
    async fn image(&self, order: &WorkspaceOrder) -> Result<(), Failure> {
        let image = order.spec.image.clone();
        if self.shared.parts.engine.has_image(&image).await? {
            return Ok(());
        }
        let _turn = self.shared.pulls.acquire().await;
        let picture = self.picture.clone();
        let title = format!("image {image}");
        let progress: Progress = Arc::new(move |line: String| {
            picture.begin(IMAGE, &title);
            picture.output(IMAGE, &line);
        });
        self.shared.parts.engine.ensure_image(&image, progress).await?;
        Ok(())
    }

    /// The permit is spent in the ledger before the engine is asked.
    async fn start(
        &mut self,
        order: &WorkspaceOrder,
        container: &ContainerSeen,
    ) -> Result<(), Failure> {
        if self.checked.as_ref() != Some(&container.id) {
            // an earlier agent made it, and may have ended before it was read back
            return self.create(order).await;
        }
        self.nothing_runs().await?;
        let shared = Arc::clone(&self.shared);
        self.picture.begin(CONTAINER, CONTAINER);
        let fetched = tokio::select! {
            fetched = self.fetch(order) => fetched?,
            () = self.reordered(Some(order)) => return Ok(()),
        };
        let _turn = shared.steps.acquire().await;
        // a reboot takes the folder of the socket away, and the mount with it
        self.door()?;
        self.name_resolver()?;
        self.provide(order, fetched).await?;
        if let Err(closed) = shared.parts.walls.open(&network_name(self.workspace)).await {
            // the bridge may be gone: it is made again, and the container with it if its range differs
            (self.network_made, self.checked) = (false, None);
            return Err(closed.into());
        }
        let started = Started {
            generation: order.generation,
            run_serial: order.run_serial,
            boot: shared.parts.place.boot,
            settled: false,
            caps: Some(container.caps),
            next: None,
        };
        shared.parts.ledger.begin(self.workspace, started).await?;
        let started = shared.parts.engine.start(&container.id).await;
        // it may be the network that was taken away meanwhile: it is made sure of before the next
        started.inspect_err(|_| self.network_made = false)?;
        self.picture.end(CONTAINER, StepState::Done);
        Ok(())
    }

    /// PID 1 is asked first, so that programs end in their order; then the engine.
    async fn stop(&mut self, container: &ContainerSeen) -> Result<(), Failure> {
        let mut grace = Limits::STOP_GRACE;
        let door = self.shared.parts.doors.get(self.workspace);
        if let Some(door) = door
            && door.shut_down(grace)
        {
            let mut view = door.view();
            let left = timeout(grace, view.wait_for(|view| !view.connected)).await;
            debug!(workspace = %self.workspace, in_time = left.is_ok(), "PID 1 was asked to end");
            grace = LAST_GRACE;
        }
        Ok(self.shared.parts.engine.stop(&container.id, grace).await?)
    }

    /// Removes the workspace's own cgroup where nothing is left in it.
    pub(super) async fn remove_level(&self) {
        if let Ok(parent) = self.level().await {
            self.shared.parts.levels.remove(&parent).await;
        }
    }

    /// Returns the workspace's own cgroup as the engine wants it: the parent of its container's.
    pub(super) async fn level(&self) -> Result<String, Failure> {
        let info = self.shared.info().await?;
        let node = self.shared.parts.place.cgroup_of_node(info.systemd_cgroups);
        Ok(workspace_parent(&node, self.workspace))
    }

    /// Returns what the node adds to an order; without a volume there are no homes to mount.
    pub(super) async fn ground(&self, volume: Option<&Volume>) -> Result<Ground, Failure> {
        let info = self.shared.info().await?;
        let place = &self.shared.parts.place;
        Ok(Ground {
            cluster: place.cluster,
            node: place.node,
            cgroup_parent: self.level().await?,
            inside: place.inside.clone(),
            hooks: place.hooks.clone(),
            run: self.shared.parts.doors.dir(self.workspace),
            secrets: self.shared.parts.vaults.dir(self.workspace),
            home: volume.map(|volume| volume.home.clone()).unwrap_or_default(),
            tmp: volume.map(|volume| volume.tmp.clone()).unwrap_or_default(),
            abilities: host::abilities(&info),
            runtime: self.runtime(&info)?,
            resolver: self.resolver(),
        })
    }

    /// Returns the runtime that the workspace's tier asks for.
    fn runtime(&self, info: &EngineInfo) -> Result<Option<String>, Failure> {
        let order = self.shared.parts.ledger.order(self.workspace);
        let tier = order.map(|order| order.spec.placement.tier).unwrap_or_default();
        let wanted = match tier {
            IsolationTier::Gvisor => true,
            IsolationTier::UserNamespace if info.remap.is_none() => {
                return Err(Failure::tier(tier, "the engine does not remap user ids any more"));
            }
            IsolationTier::Container | IsolationTier::UserNamespace | IsolationTier::Dedicated => {
                info.gvisor_by_default
            }
        };
        match &info.gvisor {
            _ if !wanted => Ok(None),
            Gvisor::Runs(_) => Ok(Some(GVISOR.to_owned())),
            Gvisor::Absent => Err(Failure::tier(tier, "the engine has no runtime runsc any more")),
            Gvisor::Broken(why) => Err(Failure::tier(tier, why)),
        }
    }

    /// Gives the volume to the users that the engine runs workspaces as.
    async fn own(&self) -> Result<(), Failure> {
        let base = self.shared.info().await?.remap.unwrap_or_default();
        Ok(self.shared.parts.volumes.give(self.workspace, base).await?)
    }

    /// Nothing is left: forgets everything but the generation.
    pub(super) async fn leave(&mut self) -> Follow {
        self.shared.forget_kills(self.workspace);
        self.remove_level().await;
        self.shared.parts.gauge.forget(self.workspace);
        self.withdraw();
        self.shared.parts.doors.close(self.workspace).await;
        if let Err(failed) = self.shared.parts.ledger.forget(self.workspace).await {
            return self.blind(None, &failed.into());
        }
        self.picture.erase();
        Follow::Gone
    }

    /// Returns where the workspace finds the node's resolver.
    fn resolver(&self) -> Option<Ipv4Addr> {
        self.shared.parts.walls.gateway(&network_name(self.workspace))
    }

    /// Writes the resolver a workspace is told of where its container finds it. The engine's own
    /// comes second: it knows what root attached to the bridge, asks nobody but the first for the
    /// rest, and is away when the engine is.
    fn name_resolver(&self) -> Result<(), Failure> {
        let Some(gateway) = self.resolver() else { return Ok(()) };
        let path = self.shared.parts.doors.dir(self.workspace).join(RESOLV_CONF);
        let text = format!("nameserver {gateway}\nnameserver {ENGINE_RESOLVER}\noptions edns0\n");
        if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        // in place: a container that is made already has this very file bound
        std::fs::write(&path, text).map_err(|error| Failure::socket(&error))
    }
}
