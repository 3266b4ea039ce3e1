//! The stage itself: hosts reach each other until one is cut off, and an engine stands in one.

use std::sync::Arc;

use anyhow::Result;
use warren_tests::{Engine, Network, Stage, host, repo};

#[test]
fn hosts_reach_each_other_until_one_is_cut_off_and_an_engine_stands_in_one() -> Result<()> {
    host::check(&["dockerd"])?;
    let stage = Arc::new(Stage::new()?);
    let mut network = Network::new(&stage)?;
    let node = network.host("n1")?;
    let internet = network.host("inet")?;
    let _server = repo::start(&stage, &internet)?;
    let url = format!("http://{}/hello.git", internet.address());
    let ask = || node.program("git").args(["ls-remote", &url]).run();
    ask()?.success()?;
    internet.cut()?;
    let program = node.program("timeout").args(["2", "git", "ls-remote", &url]);
    anyhow::ensure!(program.run()?.code != 0, "a host that is cut off answers");
    internet.mend()?;
    ask()?.success()?;
    let engine = Engine::start(&stage, &node)?;
    anyhow::ensure!(
        engine.docker(&["info", "-f", "{{.LiveRestoreEnabled}}"])?.stdout.trim() == "true"
    );
    Ok(())
}
