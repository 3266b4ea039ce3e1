//! The ledger over crashes, damage and documents out of order.

#[path = "../../../tests/golden/file.rs"]
mod golden;

use std::fs;

use warren_common::{
    Bytes, Generation, Revision, WorkspaceId,
    spec::{
        Failover, Labels, NodeSpec, PlacementRules, Resources, Run, WorkspaceOrder, WorkspaceSpec,
    },
};

use self::golden::{Strings, golden};
use super::{Ledger, LedgerError, Memory, PauseOwner, Refused, Started, file};
use crate::container::Caps;

fn id(n: u8) -> WorkspaceId {
    format!("0199a0b2-7f00-7000-8000-0000000000{n:02x}").parse().expect("an id")
}

fn boot(n: u8) -> warren_common::BootId {
    format!("0199a0b2-7f00-4000-8000-0000000000{n:02x}").parse().expect("an id")
}

fn order(n: u8, generation: Generation) -> WorkspaceOrder {
    WorkspaceOrder {
        workspace: id(n),
        client: "0199a0b2-7f00-7000-8000-0000000000ff".parse().expect("an id"),
        address: "acme/web".parse().expect("an address"),
        generation,
        run: Run::Running,
        run_serial: 1,
        permit: None,
        request: None,
        sessions: Vec::new(),
        sessions_told: false,
        spec: WorkspaceSpec {
            template: "base".to_owned(),
            image: "warren-workspace:latest".to_owned(),
            repo: None,
            branch: None,
            setup: None,
            git_identity: None,
            sessions: Vec::new(),
            resources: Resources::with_memory(Bytes::gib(1)),
            placement: PlacementRules::default(),
            failover: Failover::Manual,
            labels: Labels::new(),
        },
    }
}

fn document(rank: (u32, u64, u64), workspaces: Vec<WorkspaceOrder>) -> NodeSpec {
    let (incarnation, term, revision) = (rank.0, rank.1, Revision(rank.2));
    let allowed = Default::default();
    NodeSpec { incarnation, term, revision, workspaces, allowed, ..NodeSpec::default() }
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(dir.path()).expect("a new ledger");
    let spec = document((7, 2, 9), vec![order(1, Generation::new(7, 1))]);
    let accepted = ledger.accept(spec.clone()).await.expect("the first document");
    assert_eq!(accepted.changed, [id(1)]);
    let generation = Generation::new(7, 1);
    let started = Started {
        generation,
        run_serial: 1,
        boot: boot(1),
        settled: false,
        caps: None,
        next: None,
    };
    ledger.begin(id(1), started).await.expect("a start");
    ledger.settle(id(1)).await.expect("settled");

    let again = Ledger::open(dir.path()).expect("the same ledger");
    assert_eq!(again.memory(), ledger.memory());
    let kept = again.memory().started.get(&id(1)).copied();
    assert_eq!(kept, Some(Started { settled: true, ..started }));
    let accepted = again.accept(spec).await.expect("the same document again");
    assert_eq!(accepted.changed, [], "nothing changed");
}

#[tokio::test]
async fn caps_that_the_engine_may_hold_are_remembered_over_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(dir.path()).expect("a new ledger");
    let caps = |memory| Caps { memory: Bytes::mib(memory), ..Caps::default() };
    let started = Started {
        generation: Generation::new(7, 1),
        run_serial: 1,
        boot: boot(1),
        settled: false,
        caps: Some(caps(128)),
        next: None,
    };
    ledger.begin(id(1), started).await.expect("a start");
    ledger.intend(id(1), (Some(caps(128)), caps(256))).await.expect("noted");
    drop(ledger);
    let ledger = Ledger::open(dir.path()).expect("the same ledger");
    let held = || ledger.memory().started[&id(1)];
    assert_eq!((held().caps, held().next), (Some(caps(128)), Some(caps(256))));
    ledger.give(id(1), caps(256)).await.expect("the engine took them");
    assert_eq!((held().caps, held().next), (Some(caps(256)), None));
}

#[tokio::test]
async fn older_documents_are_refused_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(dir.path()).expect("a new ledger");
    ledger.accept(document((7, 2, 9), Vec::new())).await.expect("the first document");
    drop(ledger);
    let ledger = Ledger::open(dir.path()).expect("the same ledger");
    for (older, incarnation) in [((7, 2, 8), false), ((7, 1, 99), false), ((6, 9, 99), true)] {
        let error = ledger.accept(document(older, Vec::new())).await.expect_err("older");
        let LedgerError::Refused(refused) = error else { panic!("{error} is no refusal") };
        assert_eq!(matches!(refused, Refused::Incarnation { .. }), incarnation, "{older:?}");
    }
    ledger.accept(document((8, 1, 1), Vec::new())).await.expect("a restored cluster");
}

#[tokio::test]
async fn an_order_of_a_lower_generation_leaves_the_held_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(dir.path()).expect("a new ledger");
    let newer = order(1, Generation::new(7, 3));
    ledger.accept(document((7, 1, 1), vec![newer.clone()])).await.expect("the first");
    let lower = document((7, 1, 2), vec![order(1, Generation::new(7, 2))]);
    let accepted = ledger.accept(lower).await.expect("the document itself is newer");
    assert_eq!(accepted.refused, [(id(1), Generation::new(7, 2))]);
    assert_eq!(ledger.order(id(1)), Some(newer));
    ledger.accept(document((7, 1, 3), Vec::new())).await.expect("moved away");
    let back = document((7, 1, 4), vec![order(1, Generation::new(7, 2))]);
    ledger.accept(back).await.expect("the document itself is newer");
    assert_eq!(ledger.order(id(1)), None, "the generation outlives the order");
}

#[tokio::test]
async fn a_recovering_cluster_takes_no_order_away_and_is_told_everything() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(dir.path()).expect("a new ledger");
    let (one, two) = (order(1, Generation::new(7, 3)), order(2, Generation::new(7, 1)));
    let told = document((7, 4, 90), vec![one.clone(), two.clone()]);
    ledger.accept(told).await.expect("the cluster as it was");
    let started = |run_serial, generation| Started {
        generation,
        run_serial,
        boot: boot(1),
        settled: true,
        caps: None,
        next: None,
    };
    ledger.begin(id(1), started(4, one.generation)).await.expect("a start");
    ledger.begin(id(2), started(9, Generation::new(6, 1))).await.expect("of an earlier generation");
    let (revision, held) = ledger.memory().held();
    let runs: Vec<u64> = held.iter().map(|held| held.started_run).collect();
    assert_eq!((revision, runs), (Revision(90), vec![4, 0]));

    let back = NodeSpec { recovering: true, ..document((8, 1, 5), vec![one.clone()]) };
    let accepted = ledger.accept(back).await.expect("a restored cluster");
    assert_eq!(accepted.changed, [id(1), id(2)], "each is looked at again");
    assert_eq!(ledger.order(id(2)), Some(two), "what it does not know yet stays ordered");
    let ledger = Ledger::open(dir.path()).expect("the same ledger");
    assert!(ledger.memory().recovering, "also after a restart");
    let over = document((8, 1, 6), vec![one]);
    assert_eq!(ledger.accept(over).await.expect("newer").changed, [id(1), id(2)]);
    assert_eq!((ledger.order(id(2)), ledger.memory().recovering), (None, false));
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_the_old_or_the_new() {
    let old = Memory { rank: Some((1, 1, Revision(1))), ..Memory::default() };
    let new = Memory { rank: Some((1, 1, Revision(2))), ..Memory::default() };
    let bytes = file::encode(&new).expect("encodes");
    // cut = bytes of the temporary file that reached the disk; renamed = whether the rename did
    let torn = (0..=bytes.len()).step_by(17).map(|cut| (cut, false));
    for (cut, renamed) in torn.chain([(bytes.len(), true)]) {
        let dir = tempfile::tempdir().expect("a folder");
        let disk = file::LedgerFile::new(dir.path());
        disk.replace(&old).expect("the old one");
        disk.write_temporary(&bytes[..cut]).expect("a part of the new one");
        if renamed {
            disk.rename().expect("renamed");
        }
        let found = Ledger::open(dir.path()).expect("opens").memory();
        assert_eq!(*found, if renamed { new.clone() } else { old.clone() }, "{cut} {renamed}");
        let names =
            fs::read_dir(dir.path()).expect("readable").flatten().map(|one| one.file_name());
        let left = names.filter(|name| name != "ledger.reserve").count();
        assert_eq!(left, 1, "nothing is left over");
    }
}

#[tokio::test]
async fn a_damaged_ledger_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = file::LedgerFile::new(dir.path());
    let memory = Memory { rank: Some((1, 1, Revision(1))), ..Memory::default() };
    let good = file::encode(&memory).expect("encodes");
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x04;
        fs::write(disk.path(), &bytes).expect("written");
        let error = Ledger::open(dir.path()).expect_err("a flipped bit was taken");
        assert!(error.to_string().contains("ledger.json"), "{error}");
    }
    for length in 0..good.len() {
        fs::write(disk.path(), &good[..length]).expect("written");
        assert!(Ledger::open(dir.path()).is_err(), "{length} bytes were taken");
    }
}

#[tokio::test]
async fn a_ledger_of_a_newer_version_is_refused_as_such() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = file::LedgerFile::new(dir.path());
    fs::write(disk.path(), "warren-ledger 3 x\n{}").expect("written");
    let error = Ledger::open(dir.path()).expect_err("it may hold what is not known here");
    assert!(matches!(error, LedgerError::Format { format: 3, .. }), "{error}");
    assert!(error.to_string().contains("written by a newer version"), "{error}");
    for odd in ["0", "two", ""] {
        fs::write(disk.path(), format!("warren-ledger {odd} x\n{{}}")).expect("written");
        let error = Ledger::open(dir.path()).expect_err("no version wrote that");
        assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    }
}

/// Everything that a ledger can hold.
fn everything() -> Memory {
    let generation = Generation::new(7, 1);
    let caps = Caps {
        memory: Bytes::gib(1),
        memory_and_swap: Some(Bytes::gib(2)),
        cpus: Some(warren_common::MilliCpus(1500)),
    };
    let started = Started {
        generation,
        run_serial: 1,
        boot: boot(1),
        settled: true,
        caps: Some(caps),
        next: Some(Caps { memory: Bytes::gib(3), ..caps }),
    };
    let client = order(1, generation).client;
    Memory {
        secrets: Default::default(),
        rank: Some((7, 2, Revision(9))),
        orders: [(id(1), order(1, generation))].into(),
        generations: [(id(1), generation), (id(2), Generation::new(6, 3))].into(),
        started: [(id(1), started)].into(),
        recovering: true,
        allowed: [(client, ["10.1.2.0/24:5432".parse().expect("a destination")].into())].into(),
        pauses: [("/sys/fs/cgroup/a".into(), [PauseOwner::Firewall].into())].into(),
    }
}

#[test]
fn what_older_versions_wrote_is_read() {
    let bytes = file::encode(&everything()).expect("encodes");
    assert!(bytes.starts_with(b"warren-ledger 2 "), "an older agent must not take it");
    let today = Strings::from([("format 2".to_owned(), bytes)]);
    let mut first = everything();
    for started in first.started.values_mut() {
        (started.caps, started.next) = (None, None);
    }
    let written = [
        ("v0.2-ledger.txt", "format 2", today, everything()),
        ("v0.1-ledger.txt", "format 1", Strings::new(), first),
    ];
    for (name, format, today, wanted) in written {
        let dir = tempfile::tempdir().expect("a folder");
        let disk = file::LedgerFile::new(dir.path());
        fs::write(disk.path(), &golden(name, &today)[format]).expect("written");
        assert_eq!(*Ledger::open(dir.path()).expect("readable").memory(), wanted, "{name}");
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_written_is_not_shown() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(&dir.path().join("state")).expect("a new ledger");
    fs::remove_dir_all(dir.path().join("state")).expect("gone");
    let error = ledger.accept(document((1, 1, 1), Vec::new())).await.expect_err("no folder");
    assert!(matches!(error, LedgerError::Io { .. }));
    assert_eq!(ledger.memory().rank, None);
}

#[tokio::test]
async fn a_closed_ledger_takes_nothing_more() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(dir.path()).expect("a new ledger");
    ledger.close().await;
    let error = ledger.accept(document((1, 1, 1), Vec::new())).await.expect_err("closed");
    assert!(matches!(error, LedgerError::Stopping));
    assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0);
}
