//! People are invited, work within their role, and are out the moment they are revoked.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use warren_daemon::identity::{ClientTls, Folder, connect};
use warren_proto::pb::admin::v1::{
    FollowWorkspaceRequest, workspace_service_client::WorkspaceServiceClient,
};
use warren_tests::{Cluster, Output, Program, Stage, program::binary, terminal::Terminal};

const SOON: Duration = Duration::from_secs(30);
/// From the answer to `user revoke` to the end of every stream of theirs.
const CUT: Duration = Duration::from_secs(2);

/// A person's own machine: a folder of contexts that is nobody else's.
struct Machine<'a> {
    cluster: &'a Cluster,
    config: PathBuf,
}

impl<'a> Machine<'a> {
    fn new(cluster: &'a Cluster, name: &str) -> Self {
        Self { cluster, config: cluster.folder().join(name) }
    }

    /// Invites and joins, as the one command that was printed says.
    fn join(&self, name: &str, role: &str) -> Result<()> {
        let invited = self.cluster.json(&["user", "invite", name, "--role", role])?;
        let command = invited["command"].as_str().context("a command")?;
        let arguments = command.strip_prefix("warren ").context("of ours")?;
        self.run(&arguments.split(' ').collect::<Vec<_>>())?.success()?;
        // the answer may be lost: the same command again
        self.run(&arguments.split(' ').collect::<Vec<_>>())?.success()?;
        Ok(())
    }

    fn program(&self) -> Result<Program> {
        Ok(self.cluster.cli()?.env("WARREN_CONFIG_DIR", &self.config))
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.program()?.args(arguments).run()
    }

    fn attach(&self, address: &str) -> Result<Terminal> {
        let around = Program::new("/usr/bin/env");
        let around = around.args([format!("WARREN_CONFIG_DIR={}", self.config.display())]);
        let warren = binary("warren")?;
        Terminal::start(around, &format!("{} session attach {address}", warren.display()))
    }
}

/// Follows a workspace through the API itself; sends the moment its stream broke.
fn follow(cluster: &Cluster, context: &Path) -> Result<mpsc::Receiver<Result<Instant>>> {
    let identity = Folder::open(context)?.load()?.context("an identity")?;
    let addresses = [cluster.api_address()?];
    let (tell, told) = mpsc::channel();
    let (ready, opened) = mpsc::channel();
    thread::spawn(move || {
        let followed = || -> Result<Instant> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let tls = ClientTls::new(&identity.credentials, &identity.trust_pem)?;
                let channel = connect(&Arc::new(tls), &addresses).await?;
                let mut workspaces = WorkspaceServiceClient::new(channel);
                let request = FollowWorkspaceRequest { workspace: "acme/web".to_owned() };
                let mut stream = workspaces.follow_workspace(request).await?.into_inner();
                stream.message().await?.context("the first state comes at once")?;
                ready.send(())?;
                while let Ok(Some(_)) = stream.message().await {}
                Ok(Instant::now())
            })
        };
        // whoever waited has gone
        let _ = tell.send(followed());
    });
    opened.recv_timeout(SOON).context("the stream is open")?;
    Ok(told)
}

#[test]
fn a_user_works_within_their_role_and_is_out_the_moment_they_are_revoked() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    let web = ["workspace", "create", "acme/web", "--memory", "64M", "--disk", "64M"];
    cluster.warren(&[&web[..], &["--session", "main"]].concat())?;

    let vera = Machine::new(&cluster, "vera");
    vera.join("vera", "operator")?;
    vera.run(&["workspace", "stop", "acme/web"])?.success()?;
    vera.run(&["workspace", "start", "acme/web"])?.success()?;
    cluster.wait_phase("acme/web", "active")?;
    let refused = vera.run(&["client", "create", "second"])?.with_code(7)?;
    anyhow::ensure!(refused.stderr.contains("person/operator/vera"), "{}", refused.stderr);
    vera.run(&["user", "list"])?.with_code(7)?;
    cluster.refuses(&["user", "invite", "vera", "--role", "admin"], 4, &["with role operator"])?;

    let mut viewer = vera.attach("acme/web/main")?;
    viewer.type_bytes(b"hello\r")?;
    viewer.wait_for("hello", SOON)?;
    let followed = follow(&cluster, &vera.config.join("contexts/test"))?;
    let revoked = cluster.json(&["user", "revoke", "vera"])?;
    let asked = Instant::now();
    let serials = revoked["serials"].as_array().context("serials")?;
    anyhow::ensure!(!serials.is_empty(), "none was revoked: {revoked}");
    let broke = followed.recv_timeout(SOON)??;
    let took = broke.saturating_duration_since(asked);
    anyhow::ensure!(took <= CUT, "the followed stream went on for {took:?}");
    viewer.wait_for("was revoked", SOON)?;
    let said = viewer.arrival("was revoked", SOON)?.saturating_duration_since(asked);
    anyhow::ensure!(said <= CUT, "the terminal went on for {said:?}");
    anyhow::ensure!(viewer.wait(SOON)? == 7, "it ends as not permitted");
    eprintln!("cut after the answer: stream {took:?}, terminal {said:?}");

    let out = vera.run(&["workspace", "list", "-o", "json"])?.with_code(7)?;
    anyhow::ensure!(out.stderr.contains("CERTIFICATE_REVOKED"), "{}", out.stderr);
    // invited again as less, on another machine: the old one stays out
    let again = Machine::new(&cluster, "vera-again");
    again.join("vera", "viewer")?;
    again.run(&["workspace", "list"])?.success()?;
    again.run(&["workspace", "stop", "acme/web"])?.with_code(7)?;
    vera.run(&["workspace", "list"])?.with_code(7)?;
    Ok(())
}

#[test]
fn an_invitation_is_good_once_and_every_certificate_is_on_record() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    let invited = cluster.json(&["user", "invite", "ci", "--role", "automation"])?;
    let token = invited["token"].as_str().context("a token")?;
    let (first, second) = (Machine::new(&cluster, "first"), Machine::new(&cluster, "second"));
    first.run(&["context", "join", token])?.success()?;
    let used = second.run(&["context", "join", token])?.with_code(4)?;
    anyhow::ensure!(used.stderr.contains("warren user invite"), "{}", used.stderr);
    let node = cluster.json(&["node", "token"])?;
    let node = node["token"].as_str().context("a token")?;
    let odd = second.run(&["context", "join", node])?.with_code(2)?;
    anyhow::ensure!(odd.stderr.contains("lets a node in"), "{}", odd.stderr);

    let users = cluster.json(&["user", "list"])?;
    let users = users.as_array().context("a list")?;
    let roles: Vec<_> = users.iter().map(|user| user["role"].to_string()).collect();
    anyhow::ensure!(users.len() == 2 && roles.contains(&"\"admin\"".to_owned()), "{users:?}");
    let ci = cluster.json(&["user", "show", "ci"])?;
    let serial = ci["certificates"][0]["serial"].as_str().context("a serial")?.to_owned();
    anyhow::ensure!(ci["certificates"][0]["status"] == "good", "{ci}");
    first.run(&["workspace", "list"])?.success()?;
    cluster.warren(&["user", "revoke", "--serial", &serial])?;
    first.run(&["workspace", "list"])?.with_code(7)?;
    let ci = cluster.json(&["user", "show", "ci"])?;
    anyhow::ensure!(ci["certificates"][0]["status"] == "revoked" && ci["status"] == "in", "{ci}");
    cluster.refuses(&["user", "revoke", "--serial", "ff"], 3, &["no certificate ff"])?;
    cluster.refuses(&["user", "revoke", "nobody"], 3, &["no user nobody", "user list"])?;
    // what was recorded is there after a restart
    cluster.kill_coordinator()?;
    cluster.start_coordinator()?;
    let kept = cluster.json(&["user", "show", "ci"])?;
    anyhow::ensure!(kept == ci, "it was {ci}, it is {kept}");
    Ok(())
}
