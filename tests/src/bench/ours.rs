//! Our coordinators as processes, with the default configuration but for ports, folders and the
//! engine.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
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
use crate::{Daemon, Program, Stage, program::binary, wait_until};

/// How long a coordinator may take to answer.
const START: Duration = Duration::from_secs(30);
/// The name in the coordinators' certificates.
const SERVER_NAME: &str = "coordinator.warren.internal";

/// A cluster of coordinators.
pub struct Ours {
    name: String,
    folder: PathBuf,
    members: Vec<Member>,
    identity: Identity,
}

struct Member {
    folder: PathBuf,
    daemon: Option<Daemon>,
}

impl Member {
    fn new(folder: PathBuf, engine: Engine) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        // written only where it is not the default, so that older builds can be measured too
        let storage = match engine {
            Engine::Sled => String::new(),
            Engine::Redb => format!("[storage]\nengine = \"{}\"\n", engine.as_str()),
        };
        let config = format!(
            "[listen]\napi = \"127.0.0.1:0\"\nraft = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\n\
             [paths]\nstate = \"{}\"\nsocket = \"{}\"\n{storage}",
            folder.join("state").display(),
            folder.join("c.sock").display(),
        );
        fs::write(folder.join("coordinator.toml"), config)?;
        Ok(Self { folder, daemon: None })
    }

    fn config(&self) -> String {
        self.folder.join("coordinator.toml").display().to_string()
    }

    fn start(&mut self) -> Result<()> {
        self.keep_ports()?;
        let program = Program::new(binary("warren-coordinator")?);
        let program = program.args(["--config", &self.config()]);
        self.daemon = Some(Daemon::start("coordinator", &self.folder, program)?);
        Ok(())
    }

    /// Returns what the process took: `api`, `raft`, `metrics`.
    fn address(&self, name: &str) -> Result<String> {
        let text = fs::read_to_string(self.folder.join("state/addresses.json"))?;
        let taken: Value = serde_json::from_str(&text)?;
        Ok(taken[name].as_str().with_context(|| format!("no {name} in {text}"))?.to_owned())
    }

    /// Writes the ports of the first start into the configuration, for those who remember them.
    fn keep_ports(&self) -> Result<()> {
        let path = self.folder.join("coordinator.toml");
        let mut config = fs::read_to_string(&path)?;
        for name in ["api", "raft"] {
            if let Ok(address) = self.address(name) {
                config = config.replacen(
                    &format!("{name} = \"127.0.0.1:0\""),
                    &format!("{name} = \"{address}\""),
                    1,
                );
            }
        }
        Ok(fs::write(path, config)?)
    }
}

impl Ours {
    /// Starts as many replicas with the objects the load goes round.
    ///
    /// # Errors
    /// Fails where one does not start or does not join.
    pub async fn start(stage: &Stage, count: usize, engine: Engine) -> Result<Self> {
        let folder = stage.folder(&format!("{}-{count}", engine.as_str()))?;
        let mut first = Member::new(folder.join("c0"), engine)?;
        first.start()?;
        let socket = first.folder.join("c.sock");
        wait_until("the bootstrap socket is there", START, || {
            anyhow::ensure!(socket.exists(), "it is not");
            first.daemon.as_mut().context("it was started")?.check()
        })?;
        let config = folder.join("config");
        let init = ["cluster", "init", "--name", "bench", "--socket"];
        let init = cli(&config)?.args(init).args([socket]);
        init.run()?.success()?;
        let own = config.join("contexts/bench");
        let own_pem = fs::read_to_string(own.join("identity.pem"))?;
        let trust = fs::read_to_string(own.join("trust.pem"))?;
        let identity = Identity::new(&own_pem, &own_pem, &trust, SERVER_NAME)?;
        let name = format!("warren {} ({})", env!("CARGO_PKG_VERSION"), engine.as_str());
        let mut ours = Self { name, folder, members: vec![first], identity };
        for number in 1..count {
            ours.join(number, engine)?;
        }
        ours.leader().await?;
        ours.make_objects().await?;
        Ok(ours)
    }

    /// Adds a replica the way people do.
    fn join(&mut self, number: usize, engine: Engine) -> Result<()> {
        let mut member = Member::new(self.folder.join(format!("c{number}")), engine)?;
        let token =
            self.cli()?.args(["cluster", "token", "-o", "json"]).run()?.success()?.json()?;
        let token = token["token"].as_str().context("a token")?.to_owned();
        let join = Program::new(binary("warren-coordinator")?);
        join.args(["join", &token, "--config", &member.config()]).run()?.success()?;
        member.start()?;
        self.members.push(member);
        let voters = self.members.len();
        wait_until(&format!("replica {} votes", number + 1), START, || {
            let status = self.cli()?.args(["cluster", "status", "-o", "json"]).run()?;
            let status = status.success()?.json()?;
            let replicas = status["replicas"].as_array().context("replicas")?;
            let voting = replicas.iter().filter(|replica| replica["voter"] == true).count();
            anyhow::ensure!(voting == voters, "{voting} of {voters} vote");
            Ok(())
        })
    }

    fn cli(&self) -> Result<Program> {
        cli(&self.folder.join("config"))
    }

    async fn make_objects(&self) -> Result<()> {
        let leader = self.leader().await?;
        let address = self.members[leader].address("api")?;
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
        for member in self.members.iter().filter(|member| member.daemon.is_some()) {
            let channel = self.identity.connect(&member.address("api")?).await?;
            let mut api = ClusterServiceClient::new(channel);
            let cluster = api.get_cluster(pb::GetClusterRequest {}).await?.into_inner();
            let id = cluster.leader_replica_id;
            if id == 0 || leader.as_ref().is_some_and(|(other, _)| *other != id) {
                return Ok(None);
            }
            leader = Some((id, cluster.replicas));
        }
        let (id, replicas) = leader.context("nobody runs")?;
        let replica = replicas.iter().find(|replica| replica.id == id).context("its row")?;
        let leads = |member: &Member| {
            member.daemon.is_some()
                && member.address("api").is_ok_and(|address| address == replica.api_address)
        };
        Ok(self.members.iter().position(leads).map(|member| (id, member)))
    }

    /// Returns the replica's number in the cluster.
    async fn replica(&self, member: usize) -> Result<u64> {
        let address = self.members[member].address("api")?;
        let mut api = ClusterServiceClient::new(self.identity.connect(&address).await?);
        let cluster = api.get_cluster(pb::GetClusterRequest {}).await?.into_inner();
        let found = cluster.replicas.iter().find(|replica| replica.api_address == address);
        Ok(found.context("its row")?.id)
    }
}

fn cli(config: &std::path::Path) -> Result<Program> {
    Ok(Program::new(binary("warren")?).env("WARREN_CONFIG_DIR", config))
}

impl System for Ours {
    fn name(&self) -> &str {
        &self.name
    }

    fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| Some(member.daemon.as_ref()?.pid())).collect()
    }

    fn members(&self) -> usize {
        self.members.len()
    }

    async fn connect(&self, member: usize) -> Result<Api> {
        let address = self.members[member].address("api")?;
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
        match running {
            true => member.start(),
            false => member.daemon.take().context("it runs")?.kill(),
        }
    }
}
