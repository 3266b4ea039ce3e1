//! Quickstart comes, says `unchanged`, and goes without a trace.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use warren_tests::{Engine, Host, Network, Output, Program, Stage, host};

const LONG: Duration = Duration::from_secs(15 * 60);

struct Machine {
    engine: Engine,
    host: Host,
    _network: Network,
    stage: Arc<Stage>,
}

impl Drop for Machine {
    /// A failed run leaves daemons under supervisors: supervisors first, or they start them again.
    fn drop(&mut self) {
        let root = self.stage.root().join("q");
        for text in [root.join("usr/local/lib/warren/supervise"), root] {
            for pid in warren_tests::daemon::processes_naming(&text.to_string_lossy()) {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
    }
}

impl Machine {
    fn new() -> Result<Self> {
        host::check(&["dockerd"])?;
        let stage = Arc::new(Stage::new()?);
        let mut network = Network::new(&stage)?;
        let host = network.host("q1")?;
        let engine = Engine::start(&stage, &host)?;
        engine.load_image()?;
        Ok(Self { engine, host, _network: network, stage })
    }

    fn quickstart(&self, arguments: &[&str]) -> Result<Output> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a parent")?;
        let program: Program = self.host.program(root.join("deploy/quickstart"));
        program
            .args(arguments)
            .env("DOCKER_HOST", self.engine.url())
            .env("WARREN_ROOT", self.stage.root().join("q"))
            .env("WARREN_PROFILE", "dev")
            .env("WARREN_SUPERVISOR", "plain")
            .env("WARREN_POOL_SIZE", "6G")
            .within(LONG)
            .run()?
            .success()
    }

    /// Everything of ours that can be seen from outside.
    fn traces(&self) -> Result<Vec<String>> {
        let mut traces = Vec::new();
        for list in [&["ps", "-aq"][..], &["network", "ls", "-q", "--filter", "type=custom"]] {
            traces.extend(self.engine.docker(list)?.stdout.lines().map(str::to_owned));
        }
        let root = self.stage.root().join("q").display().to_string();
        let ours = |line: &&str| line.contains(&root);
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        traces.extend(mounts.lines().filter(ours).map(str::to_owned));
        let processes =
            Program::new("ps").args(["-eo", "pid,args", "-ww"]).run()?.success()?.stdout;
        traces.extend(processes.lines().filter(ours).map(str::to_owned));
        for folder in [
            "etc/warren",
            "var/lib/warren",
            "run/warren",
            "var/log/warren",
            "usr/local/lib/warren",
            "config",
        ] {
            let path = self.stage.root().join("q").join(folder);
            traces.extend(path.exists().then(|| path.display().to_string()));
        }
        Ok(traces)
    }
}

#[test]
fn quickstart_makes_a_session_repeats_unchanged_and_leaves_nothing() -> Result<()> {
    let machine = Machine::new()?;
    let first = machine.quickstart(&[])?;
    anyhow::ensure!(
        first.stdout.contains("session attach demo/hello/main"),
        "no next step: {}",
        first.stdout
    );
    anyhow::ensure!(
        first.stdout.contains("image build --flavour full"),
        "nothing says how an agent gets its image: {}",
        first.stdout
    );
    let templates = first.stdout.lines().find(|line| line.starts_with("templates"));
    let templates = templates.context("no step pushes the templates")?;
    anyhow::ensure!(templates.contains("plain@1 agent@1"), "other versions: {templates}");
    anyhow::ensure!(!machine.traces()?.is_empty(), "the probe for traces is blind");
    let ids = machine.engine.docker(&["ps", "-q", "--filter", "label=warren.workspace"])?.stdout;

    let second = machine.quickstart(&[])?;
    let titles = ["coordinator", "node agent", "cluster", "templates", "workspace demo/hello"];
    for title in titles.into_iter().chain(["workspace image"]) {
        let line = second.stdout.lines().find(|line| line.starts_with(title)).context(title)?;
        anyhow::ensure!(line.contains("unchanged"), "a second run changes: {line}");
    }
    let again = machine.engine.docker(&["ps", "-q", "--filter", "label=warren.workspace"])?.stdout;
    anyhow::ensure!(ids == again, "another container");

    let down = machine.quickstart(&["--down", "--yes"])?;
    anyhow::ensure!(down.stdout.contains("stay"), "it does not name what stays: {}", down.stdout);
    let traces = machine.traces()?;
    anyhow::ensure!(traces.is_empty(), "left behind: {traces:#?}");
    Ok(())
}
