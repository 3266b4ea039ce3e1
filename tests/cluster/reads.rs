//! Reads that ask no majority: with one they see what was just changed, and without one they go on
//! and say how old they are.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Cluster, Output, Program, Stage, wait_until};

use crate::members::{leader, settled};

const SOON: Duration = Duration::from_secs(60);
/// A missing quorum is said within it, with what the command line tries again.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A copy of somebody's contexts that knows one coordinator and no other.
struct Only<'a> {
    cluster: &'a Cluster,
    config: PathBuf,
}

impl<'a> Only<'a> {
    fn of(cluster: &'a Cluster, config: &Path, coordinator: usize) -> Result<Self> {
        let copy = config.with_file_name(format!(
            "{}-only-{coordinator}",
            config.file_name().context("a folder")?.to_string_lossy()
        ));
        Program::new("cp").args(["-a".as_ref(), config, &copy]).run()?.success()?;
        let file = copy.join("config.toml");
        let known = fs::read_to_string(&file)?;
        let address = cluster.coordinators[coordinator].api_address()?;
        let line = |line: &str| match line.starts_with("coordinators = [") {
            true => format!("coordinators = [\"{address}\"]\n"),
            false => format!("{line}\n"),
        };
        let one: String = known.lines().map(line).collect();
        ensure!(one != known, "{} names no coordinators: {known}", file.display());
        fs::write(&file, one)?;
        Ok(Self { cluster, config: copy })
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let program = self.cluster.cli()?.env("WARREN_CONFIG_DIR", &self.config);
        program.args(arguments).run()
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.run(&[arguments, &["-o", "json"]].concat())?.success()?.json()
    }
}

fn administrator(cluster: &Cluster) -> PathBuf {
    cluster.folder().join("config")
}

#[test]
fn a_change_is_seen_at_once_at_every_coordinator_by_its_revision() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = Cluster::of_three(&stage)?;
    settled(&cluster, &[1, 2, 3])?;
    let only = |index| Only::of(&cluster, &administrator(&cluster), index);
    let each: Vec<Only<'_>> = (0..3).map(only).collect::<Result<_>>()?;
    let mut newest = 0;
    for round in 0..6 {
        let name = format!("c{round}");
        let made = each[round % 3].json(&["client", "create", &name])?;
        let revision = made["revision"].as_u64().context("a revision")?;
        ensure!(revision > newest, "{revision} after {newest}");
        newest = revision;
        let wanted = revision.to_string();
        for (index, one) in each.iter().enumerate() {
            let seen = one.json(&["client", "show", &name, "--min-revision", &wanted])?;
            let as_of = &seen["as_of"];
            ensure!(as_of["coordinator"] == index + 1, "another one answered: {as_of}");
            ensure!(as_of["revision"].as_u64() >= Some(revision), "{as_of}");
            ensure!(as_of["age_ms"].as_u64().is_some(), "{as_of}");
        }
    }
    // what nobody has decided yet
    let wanted = (newest + 1_000_000).to_string();
    for one in &each {
        let behind = one.run(&["client", "list", "--min-revision", &wanted])?.with_code(5)?;
        for word in ["has applied revision", &wanted, "ask another coordinator"] {
            ensure!(behind.stderr.contains(word), "{word:?} is missing: {}", behind.stderr);
        }
    }
    Ok(())
}

#[test]
fn without_a_quorum_stale_reads_go_on_and_say_how_old_they_are() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::of_three(&stage)?;
    settled(&cluster, &[1, 2, 3])?;
    cluster.warren(&["client", "create", "acme"])?;
    let vera = cluster.folder().join("vera");
    let invited = cluster.json(&["user", "invite", "vera", "--role", "viewer"])?;
    let token = invited["token"].as_str().context("a token")?;
    let join = cluster.cli()?.env("WARREN_CONFIG_DIR", &vera);
    join.args(["context", "join", token]).run()?.success()?;

    // one that follows is left
    let leading = leader(&cluster)?;
    let kept = usize::try_from(if leading == 3 { 1 } else { 2 })?;
    let vera = Only::of(&cluster, &vera, kept)?.config;
    let admin = Only::of(&cluster, &administrator(&cluster), kept)?.config;
    let vera_reads = |cluster: &Cluster| Only { cluster, config: vera.clone() }.run(&STALE);
    vera_reads(&cluster)?.success()?;
    let revoked = cluster.json(&["user", "revoke", "vera"])?;
    let revision = revoked["revision"].as_u64().context("a revision")?.to_string();
    let known = Only { cluster: &cluster, config: admin.clone() };
    known.run(&["user", "show", "vera", "--min-revision", &revision])?.success()?;
    for lost in (0..3).filter(|index| *index != kept) {
        cluster.coordinators[lost].kill()?;
    }

    let admin = Only { cluster: &cluster, config: admin };
    let refused = wait_until("no quorum is said", SOON, || {
        let refused = admin.run(&["client", "list"])?.with_code(5)?;
        ensure!(refused.stderr.contains("no coordinator leads"), "{}", refused.stderr);
        Ok(refused)
    })?;
    ensure!(refused.took < AT_ONCE, "it took {:?}", refused.took);
    ensure!(refused.stderr.contains("--stale shows"), "{}", refused.stderr);
    let own = format!("this is coordinator {}, of 3 with a vote", kept + 1);
    ensure!(refused.stderr.contains(&own), "{}", refused.stderr);

    let age = || -> Result<u64> {
        let listed = admin.json(&["client", "list", "--stale"])?;
        ensure!(listed[0]["name"] == "acme", "{listed}");
        let as_of = &listed[0]["as_of"];
        ensure!(as_of["coordinator"] == kept + 1, "{as_of}");
        as_of["age_ms"].as_u64().with_context(|| format!("no age in {as_of}"))
    };
    let first = age()?;
    wait_until("the age grows", SOON, || {
        let now = age()?;
        ensure!(now > first + 1_000, "{now} ms after {first} ms");
        Ok(())
    })?;
    let status = admin.run(&["cluster", "status", "--stale"])?.success()?;
    for word in ["none, term", "3 voters, 2 down, quorum 2, no quorum"] {
        ensure!(status.stdout.contains(word), "{word:?} is missing: {}", status.stdout);
    }
    let line = format!("as coordinator {} knew it", kept + 1);
    ensure!(status.stderr.contains(&line), "{}", status.stderr);
    let out = vera_reads(&cluster)?.with_code(7)?;
    ensure!(out.stderr.contains("revoked"), "{}", out.stderr);

    for lost in (0..3).filter(|index| *index != kept) {
        cluster.coordinators[lost].start()?;
    }
    settled(&cluster, &[1, 2, 3]).map(drop)
}

const STALE: [&str; 3] = ["client", "list", "--stale"];
