//! A server becomes a node with one pasted line, from behind a router that hides it.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use warren_tests::{
    Cluster, Engine, Host, Network, Output, Stage, daemon::processes_naming, host, wait_until,
};

const LONG: Duration = Duration::from_secs(300);

/// A server that the installer is run on, below a folder of its own.
struct Server {
    engine: Engine,
    host: Host,
    _router: Host,
    root: PathBuf,
    /// What the installer is told about the pool of homes.
    pool: &'static str,
}

impl Drop for Server {
    /// A failed run leaves the agent under its supervisor: the supervisor first.
    fn drop(&mut self) {
        for text in [self.root.join("usr/local/lib/warren/supervise"), self.root.clone()] {
            for pid in processes_naming(&text.to_string_lossy()) {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
    }
}

impl Server {
    /// Runs a shell line as root there.
    fn run(&self, line: &str) -> Result<Output> {
        let program = self.host.program("sh").args(["-c", line]);
        program
            .env("WARREN_ROOT", &self.root)
            .env("WARREN_SUPERVISOR", "plain")
            .env("WARREN_POOL", self.pool)
            .env("WARREN_METRICS", "127.0.0.1:0")
            .env("WARREN_CGROUP_PARENT", format!("{}/warren", self.engine.cgroup()))
            .env("DOCKER_HOST", self.engine.url())
            .within(LONG)
            .run()
    }

    fn uninstall(&self) -> Result<Output> {
        let installer = self.root.join("usr/local/lib/warren/install-node");
        self.run(&format!("sh {} --uninstall --yes", installer.display()))
    }

    fn pid(&self, name: &str) -> Result<String> {
        let path = self.root.join("run/warren").join(format!("{name}.pid"));
        Ok(fs::read_to_string(&path).with_context(|| path.display().to_string())?.trim().to_owned())
    }
}

fn lab(pool: &'static str) -> Result<(Cluster, Server, Network, Arc<Stage>)> {
    host::check(&["dockerd", "nft", "curl"])?;
    let stage = Arc::new(Stage::new()?);
    let mut network = Network::new(&stage)?;
    let first = Arc::new(network.host("c1")?);
    let (hidden, router) = network.hidden_host("h1")?;
    let engine = Engine::start(&stage, &hidden)?;
    let root = stage.folder("server")?;
    let server = Server { engine, host: hidden, _router: router, root, pool };
    let mut cluster = Cluster::bare(&stage, Some(first))?;
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target");
    cluster.configure(&format!(
        "[install]\ninside = \"{e}/warren-inside\"\nimage = \"{e}/workspace-image.tar\"\n",
        e = built.join("e2e").canonicalize()?.display(),
    ))?;
    cluster.found()?;
    Ok((cluster, server, network, stage))
}

fn line(cluster: &Cluster, name: &str) -> Result<String> {
    let token = cluster.json(&["node", "token", "--name", name])?;
    Ok(token["command"].as_str().context("a command")?.to_owned())
}

#[test]
fn one_pasted_line_makes_a_hidden_server_a_node_and_another_takes_it_away_again() -> Result<()> {
    let (cluster, server, _network, stage) = lab("2G")?;
    let pasted = line(&cluster, "h1")?;
    let installed = server.run(&pasted)?.success()?;
    for step in ["programs from", "Docker with live-restore", "joining", "node agent", "image"] {
        ensure!(installed.stdout.contains(step), "no {step:?} in {}", installed.stdout);
    }
    cluster.wait_ready("h1")?;
    cluster.warren(&["client", "create", "acme"])?;
    let create = ["workspace", "create", "acme/web", "--memory", "256M", "--disk", "1G"];
    cluster.warren(&[&create[..], &["--session", "main"]].concat())?;
    // a stream into a server that nobody can reach: the node opened it
    let ran = cluster.warren(&["workspace", "exec", "acme/web", "--", "echo", "through"])?;
    ensure!(ran.stdout.contains("through"), "{ran:?}");
    cluster.warren(&["workspace", "exec", "acme/web", "--", "sh", "-c", "echo kept > ~/mine"])?;

    // again: nothing changes, nothing is restarted
    let (agent, epoch) = (server.pid("warren-node-agent")?, epoch(&cluster)?);
    let again = server.run(&pasted)?.success()?;
    ensure!(again.stdout.matches("unchanged").count() >= 3, "{}", again.stdout);
    ensure!(server.pid("warren-node-agent")? == agent, "the agent was restarted");
    ensure!(self::epoch(&cluster)? == epoch, "it registered again");

    // it is supervised: killed, it comes back, and what runs is not touched
    let containers = server.engine.docker(&["ps", "-q", "--no-trunc"])?.stdout;
    server.run(&format!("kill -KILL {agent}"))?.success()?;
    wait_until("the agent is back", Duration::from_secs(60), || {
        ensure!(server.pid("warren-node-agent")? != agent, "not yet");
        cluster.wait_ready("h1")
    })?;
    ensure!(server.engine.docker(&["ps", "-q", "--no-trunc"])?.stdout == containers);

    // an upgrade that broke off between the new program and the restart is finished
    let agent = server.pid("warren-node-agent")?;
    let program = server.root.join("usr/local/bin/warren-node-agent");
    fs::copy(&program, program.with_extension("new"))?;
    fs::rename(program.with_extension("new"), &program)?;
    server.run(&pasted)?.success()?;
    ensure!(server.pid("warren-node-agent")? != agent, "the old program runs on");
    ensure!(server.engine.docker(&["ps", "-q", "--no-trunc"])?.stdout == containers);

    let walls = "nft list table inet warren; ip rule show priority 7400";
    let before = server.run(walls)?.success()?.stdout;
    ensure!(before.contains("chain") && before.contains("unreachable"), "{before}");
    let gone = server.uninstall()?.success()?;
    let pool = server.root.join("var/lib/warren/node/pool.btrfs");
    let told = gone.stdout.lines().find_map(|line| line.split_once("mount -o loop "));
    let (_, told) = told.with_context(|| gone.stdout.clone())?;
    ensure!(told == format!("{} /mnt", pool.display()), "{told}");
    let seen = stage.folder("seen")?;
    let look = format!(
        "mount -o loop {} {s} && cat {s}/homes/*/home/mine; umount {s}",
        pool.display(),
        s = seen.display()
    );
    ensure!(server.run(&look)?.success()?.stdout == "kept\n", "the home is gone");
    let after = server.run(walls)?;
    ensure!(!after.stdout.contains("chain") && !after.stdout.contains("unreachable"), "{after:?}");
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    ensure!(!mounts.contains(&*server.root.to_string_lossy()), "a mount is left: {mounts}");
    ensure!(server.engine.docker(&["ps", "-aq"])?.stdout.trim().is_empty(), "containers stay");
    for left in ["usr/local/bin/warren-node-agent", "var/lib/warren/node/identity", "etc/warren"] {
        ensure!(!server.root.join(left).exists(), "{left} is left");
    }
    Ok(())
}

fn epoch(cluster: &Cluster) -> Result<u64> {
    cluster.json(&["node", "show", "h1"])?["epoch"].as_u64().context("an epoch")
}

#[test]
fn a_broken_install_goes_on_and_a_bad_token_or_another_key_gets_nothing() -> Result<()> {
    let (cluster, server, _network, _stage) = lab("plain")?;
    let pasted = line(&cluster, "h1")?;
    // whoever answers with another key is not the coordinator
    let pin = pasted.split("sha256//").nth(1).and_then(|rest| rest.split('\'').next());
    let other =
        pasted.replace(pin.context("a pin")?, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    server.run(&other)?;
    ensure!(!server.root.join("usr/local/bin").exists(), "it was believed");
    // a token of nobody's gets the script, and none of the files
    let strange = cluster.json(&["node", "token"])?["token"].as_str().context("one")?.to_owned();
    let mut letters: Vec<char> = strange.chars().collect();
    let middle = letters.len() / 2;
    letters[middle] = if letters[middle] == 'A' { 'B' } else { 'A' };
    let token = pasted.split("WARREN_JOIN_TOKEN=").nth(1).and_then(|rest| rest.split(' ').next());
    let token = token.context("a token")?;
    let bad = pasted.replace(token, &letters.into_iter().collect::<String>());
    let refused = server.run(&format!("export WARREN_RETRIES=1; {bad}"))?;
    ensure!(refused.code != 0, "it was let in");
    ensure!(refused.stderr.contains("next: see whether the token is good"), "{}", refused.stderr);
    ensure!(!server.root.join("usr/local/bin/warren-node-agent").exists());

    // half of a file from an earlier try, and one that is not ours
    let bin = server.root.join("usr/local/bin");
    let real = warren_tests::program::binary("warren-node-agent")?;
    let half = fs::read(&real)?;
    fs::write(bin.join("warren-node-agent.part"), &half[..half.len() / 2])?;
    let lib = server.root.join("usr/local/lib/warren");
    fs::write(lib.join("warren-inside.part"), "something else")?;
    server.run(&pasted)?.success()?;
    cluster.wait_ready("h1")?;
    ensure!(fs::read(bin.join("warren-node-agent"))? == half, "another program");
    let gone = server.uninstall()?.success()?;
    let homes = server.root.join("var/lib/warren/node/homes/WORKSPACE/home");
    ensure!(gone.stdout.contains(&format!("homes: {}\n", homes.display())), "{}", gone.stdout);
    Ok(())
}
