//! A cluster of one fake coordinator and one real node agent, in folders of its own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{sync::watch, time::timeout};
use warren_common::{
    Bytes, Generation, Timestamp, WorkspaceId,
    spec::{
        Failover, Labels, NodeSpec, Permit, PlacementRules, Resources, Run, SessionSpec,
        WorkspaceOrder, WorkspaceSpec,
    },
    status::{NodeFacts, RunState},
};
use warren_daemon::{Shutdown, clock, identity, token::TokenRole};
use warren_node_agent::{
    agent::{self, Agent},
    config::Config,
    host,
    join::{self, Membership},
};

use crate::{
    authority::Authority,
    coordinator::{Cluster, Coordinator, SOON},
};

/// The workspace that most tests are about.
pub(crate) fn web() -> WorkspaceId {
    "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id")
}

pub(crate) const GENERATION: Generation = Generation::new(1, 1);

pub(crate) struct World {
    dir: TempDir,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) coordinator: Coordinator,
    pub(crate) membership: Option<Membership>,
    running: Option<(Agent, Shutdown)>,
}

impl World {
    /// A coordinator and a machine that is no node yet.
    pub(crate) async fn bare() -> Self {
        let id = warren_common::ClusterId::new(uuid::Uuid::now_v7());
        let cluster = Arc::new(Cluster {
            id,
            coordinators: Authority::new(identity::Authority::Coordinator, id),
            nodes: Authority::new(identity::Authority::Node, id),
        });
        let coordinator = Coordinator::start(&cluster, 1).await;
        coordinator.state.spec.send_modify(|spec| {
            (spec.incarnation, spec.term) = (1, 1);
            spec.revision = warren_common::Revision(1);
        });
        let dir = tempfile::Builder::new().prefix("wt").tempdir_in("/tmp").expect("a folder");
        Self { dir, cluster, coordinator, membership: None, running: None }
    }

    /// The same with a node that has joined and runs.
    pub(crate) async fn start() -> Self {
        let mut world = Self::bare().await;
        world.join().await.expect("joined");
        world.run().await;
        world
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn fake_engine(&self) -> PathBuf {
        self.state().join("fake-engine")
    }

    /// Tells the fake engine what to do.
    pub(crate) fn control(&self, json: &serde_json::Value) {
        let path = self.fake_engine().join("control.json");
        let beside = path.with_extension("tmp");
        std::fs::write(&beside, json.to_string()).expect("written");
        std::fs::rename(beside, path).expect("replaced");
    }

    pub(crate) fn config(&self) -> Config {
        let text = format!(
            "state_dir = {:?}\nruntime_dir = {:?}\nmetrics = '127.0.0.1:0'\n[engine]\nkind = 'fake'\n",
            self.state(),
            self.dir.path().join("run"),
        );
        let path = self.dir.path().join("node-agent.toml");
        std::fs::write(&path, text).expect("written");
        Config::load(Some(&path)).expect("a configuration")
    }

    pub(crate) async fn facts(&self) -> NodeFacts {
        agent::facts(&self.config()).await.expect("facts")
    }

    pub(crate) async fn join(&mut self) -> Result<Membership, join::JoinError> {
        let soon = Timestamp(clock::now().0 + 600_000);
        let token = self.coordinator.token(TokenRole::Node, soon);
        self.join_with(&token).await
    }

    pub(crate) async fn join_with(&mut self, token: &str) -> Result<Membership, join::JoinError> {
        let name = "n1".parse().expect("a name");
        let joined = join::join(&self.state(), token, &name, self.facts().await).await?;
        self.membership = Some(joined.clone());
        Ok(joined)
    }

    pub(crate) async fn run(&mut self) {
        let shutdown = Shutdown::new();
        let started = Agent::start(self.config(), None, shutdown.clone());
        let agent = started.await.expect("the agent starts");
        self.running = Some((agent, shutdown));
    }

    pub(crate) fn agent(&self) -> &Agent {
        &self.running.as_ref().expect("it runs").0
    }

    /// Ends the agent; containers run on.
    pub(crate) async fn end(&mut self) {
        let (agent, shutdown) = self.running.take().expect("it runs");
        shutdown.request();
        assert!(agent.ended().await, "every task ended in time");
    }

    /// Brings the workspace up to running, as the planner would.
    pub(crate) async fn up(&self) {
        self.coordinator.order(|spec| spec.workspaces = vec![order(1)]).await;
        self.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
        self.permit(1).await;
        self.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
    }

    /// Permits one run in this boot.
    pub(crate) async fn permit(&self, run_serial: u64) {
        let boot = host::boot_id().expect("a boot");
        self.change(|order| order.permit = Some(Permit { run_serial, boot })).await;
    }

    /// Changes the one order.
    pub(crate) async fn change(&self, how: impl FnOnce(&mut WorkspaceOrder)) {
        self.coordinator.order(|spec: &mut NodeSpec| how(&mut spec.workspaces[0])).await;
    }

    /// Returns the folder of the workspace's home.
    pub(crate) fn home(&self) -> PathBuf {
        self.state().join("homes").join(web().to_string())
    }
}

/// Waits until a value is like this.
pub(crate) async fn until<T>(sender: &watch::Sender<T>, what: impl FnMut(&T) -> bool) {
    let mut receiver = sender.subscribe();
    timeout(SOON, receiver.wait_for(what)).await.expect("in time").expect("open");
}

/// Waits until something that tells nobody is so.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let looking = async {
        while !is_so() {
            look.tick().await;
        }
    };
    assert!(timeout(SOON, looking).await.is_ok(), "never: {what}");
}

pub(crate) fn order(run_serial: u64) -> WorkspaceOrder {
    WorkspaceOrder {
        workspace: web(),
        client: "0199a0b2-7f00-7000-8000-0000000000ff".parse().expect("an id"),
        address: "acme/web".parse().expect("an address"),
        generation: GENERATION,
        run: Run::Running,
        run_serial,
        permit: None,
        request: None,
        sessions: Vec::new(),
        sessions_told: true,
        spec: WorkspaceSpec {
            template: "base".to_owned(),
            image: "warren-workspace:latest".to_owned(),
            repo: None,
            branch: None,
            setup: None,
            git_identity: None,
            sessions: vec![SessionSpec { name: "main".parse().expect("a name"), command: None }],
            resources: Resources::with_memory(Bytes::mib(128)),
            placement: PlacementRules::default(),
            failover: Failover::Manual,
            labels: Labels::new(),
        },
    }
}
