//! A join that was killed at a chosen line, and what the next start and the next join make of it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use warren_tests::{Cluster, Coordinator, Stage, wait_until};

use crate::members::{same_keys, settled};

const SOON: Duration = Duration::from_secs(60);

/// What a coordinator says that has nothing to serve yet.
const NO_CLUSTER: &str = "no cluster here yet";

#[test]
fn a_join_that_broke_off_before_its_record_or_after_it_is_the_same_join() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    let mut blank = cluster.blank_coordinator("coordinator-2", None)?;
    let token = cluster.coordinator_token(&[])?;
    blank.kill()?;
    blank.keep_ports()?;
    let state = blank.folder().join("state");
    let identity = state.join("identity");

    // it got its id, and cannot keep its certificate: no record says that it joined
    let in_the_way = identity.join("identity.pem");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&in_the_way)?;
    let failed = blank.program()?.args(["join", &token]).run()?.with_code(1)?;
    ensure!(failed.stderr.contains("identity.pem"), "{}", failed.stderr);
    fs::remove_dir(&in_the_way)?;
    starts_without_a_cluster(&mut blank)?;

    // it has its certificate, and was killed before it could write the record
    let joined = blank.join(&token)?;
    ensure!(joined.stdout.contains("enrolled as coordinator 2"), "{}", joined.stdout);
    begin_request_again(&identity)?;
    let record = fs::read(state.join("cluster.json"))?;
    fs::remove_file(state.join("cluster.json"))?;
    fs::remove_dir_all(state.join("keys"))?;
    starts_without_a_cluster(&mut blank)?;

    // it was killed right after that: the start alone goes on, and the request is over
    let joined = blank.join(&token)?;
    ensure!(joined.stdout.contains("enrolled as coordinator 2"), "{}", joined.stdout);
    ensure!(fs::read(state.join("cluster.json"))? == record, "another record than before");
    begin_request_again(&identity)?;
    fs::remove_dir_all(state.join("keys"))?;
    blank.start()?;
    cluster.coordinators.push(blank);
    settled(&cluster, &[1, 2])?;
    ensure!(!identity.join("pending.pem").exists(), "the key of the request is still there");
    same_keys(&cluster, &[0, 1])
}

/// Starts a coordinator whose folder holds no cluster yet, and stops it again.
fn starts_without_a_cluster(blank: &mut Coordinator) -> Result<()> {
    let log = blank.folder().join("coordinator.log");
    let times = || Ok::<_, std::io::Error>(fs::read_to_string(&log)?.matches(NO_CLUSTER).count());
    let before = times()?;
    blank.start()?;
    wait_until("it waits for its cluster", SOON, || {
        blank.process()?.check()?;
        ensure!(times()? > before, "it does not say so yet");
        Ok(())
    })?;
    blank.stop()
}

/// Keeps the key of the certificate as that of a request under way, as it was before it ended.
fn begin_request_again(identity: &Path) -> Result<()> {
    let text = fs::read_to_string(identity.join("identity.pem"))?;
    let (key, _) = text.split_once("-----BEGIN CERTIFICATE").context("no certificate")?;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(identity.join("pending.pem"));
    Ok(file?.write_all(key.as_bytes())?)
}
