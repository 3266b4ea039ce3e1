//! The peer: Debian's etcd, with mutual TLS for callers and between members.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use tokio::time::{Instant, sleep};

use super::{
    channel::Identity,
    etcd_api::EtcdApi,
    system::{Api, System, free_port},
};
use crate::{Daemon, Program, Stage};

const PROGRAM: &str = "/usr/bin/etcd";
/// How long a member may take to be part of a cluster with a leader.
const START: Duration = Duration::from_secs(30);
/// Our defaults, which the peer gets too (its own are 100 and 1000).
const TIMES: [&str; 4] = ["--heartbeat-interval", "150", "--election-timeout", "1000"];

/// A cluster of etcd.
pub struct Etcd {
    name: String,
    folder: PathBuf,
    members: Vec<Member>,
    cluster: String,
    identity: Identity,
}

struct Member {
    api: u16,
    raft: u16,
    daemon: Option<Daemon>,
}

/// Returns whether the peer is installed.
pub fn is_installed() -> bool {
    Path::new(PROGRAM).exists()
}

impl Etcd {
    /// Starts as many members.
    ///
    /// # Errors
    /// Fails where one does not start.
    pub async fn start(stage: &Stage, count: usize) -> Result<Self> {
        let folder = stage.folder(&format!("etcd-{count}"))?;
        let identity = certificates(&folder)?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(Member { api: free_port()?, raft: free_port()?, daemon: None });
        }
        let one = |(number, member): (usize, &Member)| {
            format!("m{number}=https://127.0.0.1:{}", member.raft)
        };
        let cluster = members.iter().enumerate().map(one).collect::<Vec<_>>().join(",");
        let name = "etcd".to_owned();
        let mut etcd = Self { name, folder, members, cluster, identity };
        for member in 0..count {
            etcd.set_running(member, true)?;
        }
        etcd.leader().await?;
        let version = etcd.api(0).await?.status().await?.version;
        etcd.name = format!("etcd {version}");
        Ok(etcd)
    }

    async fn api(&self, member: usize) -> Result<EtcdApi> {
        let address = format!("127.0.0.1:{}", self.members[member].api);
        Ok(EtcdApi::new(self.identity.connect(&address).await?))
    }

    /// Asks every running member who leads; none while they do not agree.
    async fn agreed(&self) -> Result<Option<usize>> {
        let (mut leader, mut leading, mut known) = (0, None, 0);
        for number in 0..self.members.len() {
            if self.members[number].daemon.is_none() {
                continue;
            }
            let status = self.api(number).await?.status().await?;
            let own = status.header.context("a header")?.member_id;
            if status.leader == own {
                leading = Some(number);
            }
            if known > 0 && leader != status.leader {
                return Ok(None);
            }
            (leader, known) = (status.leader, known + 1);
        }
        Ok(leading)
    }
}

impl System for Etcd {
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
        Ok(Api::Etcd(self.api(member).await?))
    }

    async fn leader(&self) -> Result<usize> {
        let deadline = Instant::now() + START;
        loop {
            let agreed = self.agreed().await;
            match agreed {
                Ok(Some(leader)) => return Ok(leader),
                Ok(None) | Err(_) if Instant::now() < deadline => {}
                Ok(None) => anyhow::bail!("etcd has no leader"),
                Err(error) => return Err(error.context("etcd does not answer")),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn hand_over(&self, to: usize) -> Result<()> {
        let target = self.api(to).await?.status().await?.header.context("a header")?.member_id;
        let leader = self.leader().await?;
        self.api(leader).await?.move_leader(target).await
    }

    fn set_running(&mut self, number: usize, running: bool) -> Result<()> {
        let member = &mut self.members[number];
        if !running {
            return member.daemon.take().context("it runs")?.kill();
        }
        let (api, raft) = (member.api, member.raft);
        let name = format!("m{number}");
        let path = |name: &str| self.folder.join(name).display().to_string();
        let api = format!("https://127.0.0.1:{api}");
        let raft = format!("https://127.0.0.1:{raft}");
        let (trust, chain, key) = (path("ca.pem"), path("cert.pem"), path("key.pem"));
        let data = path(&name);
        let arguments = [
            ["--name", &name],
            ["--data-dir", &data],
            ["--listen-client-urls", &api],
            ["--advertise-client-urls", &api],
            ["--listen-peer-urls", &raft],
            ["--initial-advertise-peer-urls", &raft],
            ["--initial-cluster", &self.cluster],
            ["--cert-file", &chain],
            ["--key-file", &key],
            ["--trusted-ca-file", &trust],
            ["--peer-cert-file", &chain],
            ["--peer-key-file", &key],
            ["--peer-trusted-ca-file", &trust],
            ["--logger", "zap"],
            ["--log-level", "error"],
        ];
        let program = Program::new(PROGRAM).args(arguments.concat()).args(TIMES);
        let program = program.args(["--client-cert-auth", "--peer-client-cert-auth"]);
        member.daemon = Some(Daemon::start(&name, &self.folder, program)?);
        Ok(())
    }
}

/// Makes an authority and one certificate for everybody, and returns the callers' identity.
fn certificates(folder: &Path) -> Result<Identity> {
    let authority = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, "bench authority");
    let trust = params.self_signed(&authority)?.pem();
    let issuer = Issuer::from_params(&params, &authority);

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "bench");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let chain = params.signed_by(&key, &issuer)?.pem();
    let key = key.serialize_pem();
    for (name, text) in [("ca.pem", &trust), ("cert.pem", &chain), ("key.pem", &key)] {
        fs::write(folder.join(name), text)?;
    }
    Identity::new(&key, &chain, &trust, "127.0.0.1")
}
