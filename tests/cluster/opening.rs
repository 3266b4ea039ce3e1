//! Connections to what listens in workspaces: who may make them, and what is on record.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    process::{Child, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Cluster, Program, Stage, wait_until};

/// The one port on which something listens in a fake workspace: it repeats what it is told.
const ECHO: &str = "7";
const AT_ONCE: usize = 64;
const SOON: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_secs(10);

/// `workspace open`, ended when it is dropped.
struct Opened {
    child: Child,
    address: String,
}

impl Opened {
    fn new(warren: Program, target: &[&str]) -> Result<Self> {
        let arguments = [&["workspace", "open", "acme/web", "-o", "json"], target].concat();
        Self::telling(warren.args(arguments), Stdio::inherit())
    }

    fn telling(warren: Program, stderr: Stdio) -> Result<Self> {
        let mut command = warren.into_command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let opened: Value = serde_json::from_str(&line).context("it is open")?;
        let address = opened["address"].as_str().context("an address")?.to_owned();
        Ok(Self { child, address })
    }

    fn talk(&self, words: &[u8]) -> Result<Vec<u8>> {
        self.talk_within(words, SOON)
    }

    fn talk_within(&self, words: &[u8], patience: Duration) -> Result<Vec<u8>> {
        let mut socket = TcpStream::connect(&self.address)?;
        socket.set_read_timeout(Some(patience))?;
        socket.write_all(words)?;
        socket.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // one that has ended is what is wanted
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn records(cluster: &Cluster) -> Result<Vec<Value>> {
    let listed = cluster.json(&["audit", "list", "--action", "workspace.open"])?;
    Ok(listed.as_array().context("a list")?.clone())
}

#[test]
fn a_port_is_opened_by_those_who_may_and_is_on_record() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    cluster.create("acme/web", &[])?;

    let opened = Opened::new(cluster.cli()?, &[ECHO])?;
    let words: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    thread::scope(|scope| {
        let talks: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| opened.talk(&words))).collect();
        talks.into_iter().try_for_each(|talk| {
            let answer = talk.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
            ensure!(answer == words, "{} bytes came back", answer.len());
            Ok(())
        })
    })?;
    let found = records(&cluster)?;
    ensure!(found.len() == 1, "those of one page are one record: {found:?}");
    ensure!(found[0]["target"] == "acme/web", "{}", found[0]);
    ensure!(found[0]["detail"] == "port 7", "{}", found[0]);
    let actor = found[0]["actor"].as_str().context("an actor")?.to_owned();

    // a viewer is refused before anything is on record or reaches the node
    let config = cluster.folder().join("viewer");
    let vera = |arguments: &[&str]| -> Result<_> {
        Ok(cluster.cli()?.env("WARREN_CONFIG_DIR", &config).args(arguments))
    };
    let invited = cluster.json(&["user", "invite", "vera", "--role", "viewer"])?;
    let join = invited["command"].as_str().context("a command")?;
    let join = join.strip_prefix("warren ").context("of ours")?;
    vera(&join.split(' ').collect::<Vec<_>>())?.run()?.success()?;
    for target in [&[ECHO][..], &["terminal"], &["vscode"], &["playwright", "--control"]] {
        let refused = vera(&[&["workspace", "open", "acme/web"], target].concat())?.run()?;
        let refused = refused.with_code(7)?;
        ensure!(refused.stderr.contains("playwright --view-only"), "{}", refused.stderr);
    }
    ensure!(records(&cluster)?.len() == 1);
    // looking is hers, and on record with her name, whatever comes of it
    vera(&["workspace", "open", "acme/web", "playwright"])?
        .within(Duration::from_secs(5))
        .run()
        .map(drop)
        .or_else(|error| if error.to_string().contains("vera") { Err(error) } else { Ok(()) })?;
    let found = records(&cluster)?;
    ensure!(found.len() == 2 && found[1]["detail"] == "display, view only", "{found:?}");
    let looked = found[1]["actor"].as_str().context("an actor")?;
    ensure!(looked.contains("vera") && looked != actor, "{looked}");
    drop(opened);
    Ok(())
}

/// `workspace open` goes on whichever of the coordinators is away, and waits for a node agent that
/// starts again; the address stays, and each trouble is told once.
#[test]
fn what_is_open_stays_open_over_coordinators_and_the_node_agent_that_go_and_come() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::of_three_with_node(&stage)?;
    cluster.create("acme/web", &[])?;
    let told = cluster.folder().join("told");
    let arguments = ["workspace", "open", "acme/web", ECHO, "-o", "json"];
    let opened = Opened::telling(cluster.cli()?.args(arguments), File::create(&told)?.into())?;
    ensure!(opened.talk(b"first")? == b"first");
    for place in 0..3 {
        cluster.coordinators[place].kill()?;
        wait_until("an answer without it", SOON, || {
            // one that hangs takes no other's time
            ensure!(opened.talk_within(b"without", MOMENT)? == b"without");
            Ok(())
        })?;
        cluster.coordinators[place].start()?;
        cluster.coordinators[place].wait_socket()?;
    }

    cluster.nodes[0].kill()?;
    let said = || fs::read_to_string(&told).unwrap_or_default();
    let talked = thread::scope(|scope| {
        let talks: Vec<_> = (0..4).map(|_| scope.spawn(|| opened.talk(b"again"))).collect();
        wait_until("the trouble is told", SOON, || {
            ensure!(said().contains("; trying again"), "{}", said());
            Ok(())
        })?;
        cluster.nodes[0].start()?;
        let talked = talks.into_iter().map(|talk| {
            talk.join().map_err(|_| anyhow::anyhow!("it panicked"))?.context("no answer")
        });
        talked.collect::<Result<Vec<_>>>()
    })?;
    ensure!(talked.iter().all(|answer| answer == b"again"), "{talked:?} {}", said());
    ensure!(said().contains("connected again"), "{}", said());
    let lines: Vec<_> = said().lines().map(str::to_owned).collect();
    ensure!(lines.windows(2).all(|two| two[0] != two[1]), "told twice: {lines:?}");
    Ok(())
}
