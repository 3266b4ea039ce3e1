//! Our coordinators as processes, with the default configuration but for ports, folders and the
//! engine.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};
use warren_proto::pb::admin::v1::{
    self as pb, client_service_client::ClientServiceClient,
    cluster_service_client::ClusterServiceClient,
};

use super::{
    channel::Identity,
    options::Engine,
    system::{Api, KEYS, System, key, request_id},
};
use crate::{Coordinator, Program, Stage, program::binary, wait_until};

/// How long a coordinator may take to answer.
const START: Duration = Duration::from_secs(30);
/// The name in the coordinators' certificates.
pub const SERVER_NAME: &str = "coordinator.warren.internal";

/// A cluster of coordinators.
pub struct Ours {
    name: String,
    /// The administrator's.
    config: PathBuf,
    members: Vec<Member>,
    identity: Identity,
}

struct Member {
    coordinator: Coordinator,
    running: bool,
}

impl Member {
    /// Makes its folder and configuration, and starts it.
    fn start(stage: &Stage, name: &str, engine: Engine) -> Result<Self> {
        let mut coordinator = Coordinator::new(stage, name, None)?;
        if engine != Engine::Sled {
            // written only where it is not the default, so that older builds can be measured too
            let path = coordinator.folder().join("coordinator.toml");
            let config = fs::read_to_string(&path)?;
            let storage = format!("[storage]\nengine = \"{}\"\n", engine.as_str());
            fs::write(path, config + &storage)?;
        }
        coordinator.start()?;
        coordinator.wait_socket()?;
        Ok(Self { coordinator, running: true })
    }

    fn address(&self) -> Result<String> {
        self.coordinator.api_address()
    }
}

impl Ours {
    /// Starts as many replicas with the objects the load goes round.
    ///
    /// # Errors
    /// Fails where one does not start or does not join.
    pub async fn start(stage: &Stage, count: usize, engine: Engine) -> Result<Self> {
        let base = format!("{}-{count}", engine.as_str());
        let config = stage.folder(&base)?.join("config");
        let first = Member::start(stage, &format!("{base}/c1"), engine)?;
        let init = ["cluster", "init", "--name", "bench", "--socket"];
        let init = cli(&config)?.args(init).args([first.coordinator.socket()]);
        init.run()?.success()?;
        let identity = person(&config.join("contexts/bench"))?;
        let name = format!("warren {} ({})", env!("CARGO_PKG_VERSION"), engine.as_str());
        let mut ours = Self { name, config, members: vec![first], identity };
        for number in 2..=count {
            let member = Member::start(stage, &format!("{base}/c{number}"), engine)?;
            ours.join(member)?;
        }
        ours.leader().await?;
        ours.make_objects().await?;
        Ok(ours)
    }

    /// Adds a replica the way people do.
    fn join(&mut self, member: Member) -> Result<()> {
        let token =
            self.cli()?.args(["cluster", "token", "-o", "json"]).run()?.success()?.json()?;
        member.coordinator.join(token["token"].as_str().context("a token")?)?;
        self.members.push(member);
        let voters = self.members.len();
        wait_until(&format!("replica {voters} votes"), START, || {
            let status = self.cli()?.args(["cluster", "status", "-o", "json"]).run()?;
            let status = status.success()?.json()?;
            let replicas = status["replicas"].as_array().context("replicas")?;
            let voting = replicas.iter().filter(|replica| replica["voter"] == true).count();
            anyhow::ensure!(voting == voters, "{voting} of {voters} vote");
            Ok(())
        })
    }

    fn cli(&self) -> Result<Program> {
        cli(&self.config)
    }

    async fn make_objects(&self) -> Result<()> {
        let leader = self.leader().await?;
        let address = self.members[leader].address()?;
        let mut api = ClientServiceClient::new(self.identity.connect(&address).await?);
        for number in 0..KEYS {
            let mutation = pb::Mutation { request_id: request_id(), if_revision: None };
            let create = pb::CreateClientRequest {
                mutation: Some(mutation),
                name: key(number),
                labels: Default::default(),
            };
            api.create_client(create).await?;
        }
        Ok(())
    }

    /// Asks every running replica who leads; none while they do not agree.
    async fn agreed(&self) -> Result<Option<(u64, usize)>> {
        let mut leader = None;
        for member in self.members.iter().filter(|member| member.running) {
            let channel = self.identity.connect(&member.address()?).await?;
            let mut api = ClusterServiceClient::new(channel);
            let cluster = api.get_cluster(pb::GetClusterRequest::default()).await?.into_inner();
            let id = cluster.leader_replica_id;
            if id == 0 || leader.as_ref().is_some_and(|(other, _)| *other != id) {
                return Ok(None);
            }
            leader = Some((id, cluster.replicas));
        }
        let (id, replicas) = leader.context("nobody runs")?;
        let replica = replicas.iter().find(|replica| replica.id == id).context("its row")?;
        let leads = |member: &Member| {
            member.running && member.address().is_ok_and(|address| address == replica.api_address)
        };
        Ok(self.members.iter().position(leads).map(|member| (id, member)))
    }

    /// Returns the replica's number in the cluster.
    async fn replica(&self, member: usize) -> Result<u64> {
        let address = self.members[member].address()?;
        let mut api = ClusterServiceClient::new(self.identity.connect(&address).await?);
        let cluster = api.get_cluster(pb::GetClusterRequest::default()).await?.into_inner();
        let found = cluster.replicas.iter().find(|replica| replica.api_address == address);
        Ok(found.context("its row")?.id)
    }
}

/// Reads who a context of the command line calls as.
///
/// # Errors
/// Fails where there is no such context.
pub fn person(context: &std::path::Path) -> Result<Identity> {
    let own = fs::read_to_string(context.join("identity.pem"))?;
    let trust = fs::read_to_string(context.join("trust.pem"))?;
    Identity::new(&own, &own, &trust, SERVER_NAME)
}

fn cli(config: &std::path::Path) -> Result<Program> {
    Ok(Program::new(binary("warren")?).env("WARREN_CONFIG_DIR", config))
}

impl System for Ours {
    fn name(&self) -> &str {
        &self.name
    }

    fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| member.coordinator.pid()).collect()
    }

    fn members(&self) -> usize {
        self.members.len()
    }

    async fn connect(&self, member: usize) -> Result<Api> {
        let address = self.members[member].address()?;
        Ok(Api::Warren(ClientServiceClient::new(self.identity.connect(&address).await?)))
    }

    async fn leader(&self) -> Result<usize> {
        let deadline = Instant::now() + START;
        loop {
            match self.agreed().await {
                Ok(Some((_, leader))) => return Ok(leader),
                Ok(None) | Err(_) if Instant::now() < deadline => {}
                Ok(None) => anyhow::bail!("our cluster has no leader"),
                Err(error) => return Err(error.context("our cluster does not answer")),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn hand_over(&self, to: usize) -> Result<()> {
        let replica = self.replica(to).await?.to_string();
        let transfer = self.cli()?.args(["cluster", "transfer", &replica]);
        tokio::task::spawn_blocking(move || transfer.run()?.success()).await??;
        Ok(())
    }

    fn set_running(&mut self, member: usize, running: bool) -> Result<()> {
        let member = &mut self.members[member];
        member.running = running;
        match running {
            true => member.coordinator.start(),
            false => member.coordinator.kill(),
        }
    }
}
