//! A port of a workspace on one's own machine, through coordinator, node and a real container.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Lab, wait_until};

const SOON: Duration = Duration::from_secs(30);
/// What the server in the workspace shows.
const PAGE: &str = "grüße aus dem Bau";

/// `workspace open`, killed when it is dropped.
pub(crate) struct Opened {
    child: Child,
    pub(crate) url: String,
}

impl Opened {
    pub(crate) fn new(lab: &Lab, target: &[&str]) -> Result<Self> {
        let arguments = [&["workspace", "open", "acme/web", "-o", "json"], target].concat();
        let mut command = lab.cluster.cli()?.args(arguments).into_command();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let opened: Value = serde_json::from_str(&line).context("it is open")?;
        let url = opened["url"].as_str().context("a URL")?.to_owned();
        Ok(Self { child, url })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // one that has ended is what is wanted
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_in_a_workspace_is_seen_here_and_who_looked_is_on_record() -> Result<()> {
    let lab = Lab::new()?;
    let serve = "server=busybox httpd -f -p 127.0.0.1:8080 -h /home/agent";
    lab.create("acme/web", &["--session", serve])?;
    lab.shell(
        "acme/web",
        &format!("echo '{PAGE}' > ~/page; head -c 3000000 /dev/urandom > ~/big"),
    )?;
    let sum = lab.shell("acme/web", "sha256sum < ~/big")?;

    let opened = Opened::new(&lab, &["8080"])?;
    let get = |path: &str| -> Result<String> {
        let url = format!("{}{path}", opened.url);
        Ok(lab
            .node
            .program("curl")
            .args(["-sf", "--max-time", "20", &url])
            .run()?
            .success()?
            .stdout)
    };
    wait_until("the page", SOON, || {
        ensure!(get("page")?.trim() == PAGE);
        Ok(())
    })?;
    let url = format!("{}big", opened.url);
    let script = format!("for n in 1 2 3 4 5 6 7 8; do curl -sf {url} | sha256sum & done; wait");
    let sums = lab.node.program("bash").args(["-c", &script]).run()?.success()?.stdout;
    ensure!(sums.lines().filter(|line| *line == sum.trim()).count() == 8, "{sums} and not {sum}");

    // nothing of it listens outside: the node's own port is the command line's alone
    let found = lab.cluster.json(&["audit", "list", "--action", "workspace.open"])?;
    let found = found.as_array().context("a list")?;
    ensure!(found.len() == 1 && found[0]["target"] == "acme/web", "{found:?}");
    ensure!(found[0]["detail"] == "port 8080", "{found:?}");

    // a page of PID 1 in a real container; this image has no display, and that is said
    let terminal = Opened::new(&lab, &["terminal"])?;
    let (base, _token) = terminal.url.split_once('#').context("a token")?;
    let page = lab.node.program("curl").args(["-sf", "--max-time", "20", base]).run()?;
    ensure!(page.success()?.stdout.contains("Warren: terminal"));
    let evil = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: evil.example", base];
    ensure!(lab.node.program("curl").args(evil).run()?.success()?.stdout == "403");
    let shown = lab.cluster.workspace("acme/web")?;
    let services = shown["observed"]["services"].as_array().context("services")?;
    ensure!(services.iter().any(|one| one["name"] == "display" && one["state"] == "absent"));

    let closed = lab.cluster.cli()?.args(["workspace", "open", "acme/web", "9999"]);
    let closed = closed.within(Duration::from_secs(4)).run();
    // it waits for a server to come, so that only its deadline ends it
    ensure!(closed.is_err(), "{closed:?}");
    Ok(())
}
