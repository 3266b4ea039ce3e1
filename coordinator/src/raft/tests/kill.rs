//! SIGKILL in the middle of writing, again and again: everything acknowledged is there.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{apply, create_client, has_client, open_single_with, options};
use crate::{
    raft::{Options, Tuning},
    store::Engine,
};

const ROUNDS: usize = 5;
const WRITES: usize = 40;
const ON_SLED: &str = "raft::tests::kill::everything_acknowledged_survives_sigkill_on_sled";
const ON_REDB: &str = "raft::tests::kill::everything_acknowledged_survives_sigkill_on_redb";
/// Set for the child alone: where it writes.
const FOLDER: &str = "WARREN_KILL_TEST_FOLDER";
const ROUND: &str = "WARREN_KILL_TEST_ROUND";

fn often(folder: &Path, engine: Engine) -> Options {
    // A checkpoint now and then, so that some kills hit one.
    let tuning = Tuning { checkpoint_every: 16, ..Tuning::default() };
    Options { tuning, engine, ..options(1, folder) }
}

/// What is killed: a replica that writes for ever and says what was acknowledged.
async fn write_for_ever(folder: &Path, engine: Engine) {
    let round = std::env::var(ROUND).expect("set by the parent");
    let consensus = open_single_with(often(folder, engine)).await;
    for count in 0.. {
        let name = format!("r{round}-{count}");
        apply(&consensus, create_client(&name)).await;
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {name}").and_then(|()| out.flush()).expect("the parent reads");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_survives_sigkill_on_sled() {
    kill_again_and_again(ON_SLED, Engine::Sled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_survives_sigkill_on_redb() {
    kill_again_and_again(ON_REDB, Engine::Redb).await;
}

async fn kill_again_and_again(this: &str, engine: Engine) {
    // This test starts itself again as the child that is killed.
    if let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) {
        return write_for_ever(&folder, engine).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let binary = std::env::current_exe().expect("this test");
        let mut child = Command::new(binary)
            .args(["--exact", this, "--nocapture"])
            .env(FOLDER, folder.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = out.lines().map_while(Result::ok);
        let names = lines
            .by_ref()
            .filter_map(|line| line.split_once("acknowledged ").map(|(_, name)| name.to_owned()));
        // A different moment each round.
        let names: Vec<_> = names.take(WRITES + round * 7).collect();
        child.kill().expect("SIGKILL");
        child.wait().expect("reaped");
        assert_eq!(names.len(), WRITES + round * 7, "the child died by itself");
        acknowledged.extend(names);
        // What was acknowledged between the last line taken and the kill counts as well.
        acknowledged.extend(
            lines.filter_map(|line| {
                line.split_once("acknowledged ").map(|(_, name)| name.to_owned())
            }),
        );
    }
    let consensus = open_single_with(often(folder.path(), engine)).await;
    let state = consensus.linearizable().await.expect("it leads");
    let missing: Vec<_> = acknowledged.iter().filter(|name| !has_client(&state, name)).collect();
    assert!(missing.is_empty(), "lost {missing:?} of {}", acknowledged.len());
    consensus.shutdown().await;
    let verified = super::whole_audit(&folder.path().join("audit"));
    assert_eq!((verified.head, verified.gaps), (state.audit, vec![]));
    assert_eq!(verified.records, state.audit.sequence, "none lost, none twice");
    let blobs = std::fs::read_dir(folder.path().join("log/blobs"));
    assert_eq!(blobs.map_or(0, Iterator::count), 0, "sled never fsyncs blobs");
}
