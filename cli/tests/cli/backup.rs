//! Backups as a person meets them: passphrases, files, and what is wrong with them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use warren_proto::Method;

use crate::support::{Bench, Run, data};

struct Files {
    bench: Bench,
    passphrase: PathBuf,
    backup: PathBuf,
}

impl Files {
    fn new() -> Self {
        Self::with("correct horse battery staple\n")
    }

    fn with(passphrase: &str) -> Self {
        let bench = Bench::new();
        let folder = bench.folder.path();
        let files = (folder.join("passphrase"), folder.join("demo.warren"));
        let (passphrase_file, backup) = files;
        fs::write(&passphrase_file, passphrase).expect("written");
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&passphrase_file, private).expect("chmod");
        Self { bench, passphrase: passphrase_file, backup }
    }

    fn run(&self, verb: &str, more: &[&str]) -> Run {
        let (file, passphrase) = (self.backup.to_str(), self.passphrase.to_str());
        let file = file.expect("a path");
        let passphrase = passphrase.expect("a path");
        let arguments = ["cluster", verb, file, "--passphrase-file", passphrase];
        self.bench.warren(&[&arguments, more].concat())
    }
}

#[test]
fn a_backup_is_private_whole_and_shows_what_is_in_it() {
    let files = Files::new();
    let run = files.run("backup", &["-o", "json"]);
    assert_eq!(run.code, 0, "{run:?}");
    let made: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((&made["cluster"], &made["workspaces"]), (&"demo".into(), &5.into()));
    let mode = fs::metadata(&files.backup).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let verified = files.run("verify-backup", &["-o", "json"]);
    assert_eq!(verified.stdout, run.stdout, "{verified:?}");
    let shown = files.run("verify-backup", &[]);
    assert!(shown.stdout.contains("2 clients, 3 nodes, 5 workspaces"), "{shown:?}");

    let again = files.run("backup", &[]);
    assert_eq!((again.code, again.stderr.contains("is there already")), (4, true), "{again:?}");
    assert_eq!(files.run("backup", &["--force"]).code, 0);
}

#[test]
fn a_backup_that_breaks_off_leaves_the_old_one_and_nothing_beside_it() {
    let files = Files::new();
    assert_eq!(files.run("backup", &[]).code, 0);
    let before = fs::read(&files.backup).expect("readable");
    let count = || fs::read_dir(files.bench.folder.path()).expect("listed").count();
    let had = count();
    files.bench.fake.state().drop_next = true;
    let run = files.run("backup", &["--force"]);
    assert_ne!(run.code, 0, "{run:?}");
    assert_eq!((fs::read(&files.backup).expect("readable"), count()), (before, had));
}

#[test]
fn each_thing_wrong_with_a_backup_has_a_sentence_of_its_own() {
    let files = Files::new();
    assert_eq!(files.run("backup", &[]).code, 0);
    let good = fs::read(&files.backup).expect("readable");
    let told = |what: &str, bytes: &[u8], says: &str| {
        fs::write(&files.backup, bytes).expect("written");
        let run = files.run("verify-backup", &[]);
        assert_eq!((run.code, run.stderr.contains(says)), (1, true), "{what}: {run:?}");
        assert_eq!(run.stdout, "", "{what}");
        let run = files.run("restore", &["--socket", "/nonexistent"]);
        assert_eq!((run.code, run.stderr.contains(says)), (1, true), "{what}: {run:?}");
    };
    told("cut in the header", &good[..100], "is cut off");
    told("cut in the content", &good[..good.len() - 100], "changed or is cut off");
    let mut bad = good.clone();
    bad[150_000] ^= 1;
    told("a changed bit", &bad, "was changed");
    bad = good.clone();
    bad[8] = 9;
    told("newer", &bad, "use a newer warren");
    told("something else", b"hello", "no backup of a Warren cluster");
    fs::write(&files.passphrase, "another passphrase than before").expect("written");
    told("another passphrase", &good, "the passphrase does not open this backup");
    assert_eq!(files.bench.fake.calls(Method::BootstrapRestore), 0);
}

#[test]
fn an_empty_a_short_and_a_missing_passphrase_are_usage_and_an_open_file_is_said() {
    for (text, says) in
        [("", "is empty"), ("\nnot here\n", "is empty"), ("short\n", "shorter than 12")]
    {
        let files = Files::with(text);
        let run = files.run("backup", &[]);
        assert_eq!((run.code, run.stderr.contains(says)), (2, true), "{run:?}");
        assert_eq!(files.bench.fake.calls(Method::ClusterBackup), 0);
    }
    let files = Files::new();
    let file = files.backup.to_str().expect("a path");
    let run = files.bench.warren(&["cluster", "backup", file]);
    assert_eq!((run.code, run.stderr.contains("--passphrase-file")), (2, true), "{run:?}");
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(&files.passphrase, open).expect("chmod");
    let run = files.run("backup", &[]);
    assert_eq!((run.code, run.stderr.contains("readable by others")), (0, true), "{run:?}");
}

#[test]
fn a_restore_makes_a_context_and_says_what_to_do_on_the_nodes() {
    let files = Files::new();
    assert_eq!(files.run("backup", &[]).code, 0);
    let fresh = files.bench.folder.path().join("fresh");
    let socket = files.bench.folder.path().join("coordinator.sock");
    let socket = socket.to_str().expect("a path");
    let run = files.run("restore", &["--socket", socket, "--context", "back"]);
    assert_eq!(run.code, 0, "{run:?} {fresh:?}");
    assert!(run.stdout.starts_with("cluster demo: restored\n"), "{run:?}");
    assert!(run.stdout.contains("waiting for n1, n2"), "{run:?}");
    assert!(run.stdout.contains("warren-node-agent coordinators set 127.0.0.1:"), "{run:?}");
    assert_eq!(files.bench.warren(&["cluster", "status", "-o", "name"]).code, 0);
}

#[test]
fn going_on_alone_takes_the_cluster_s_name() {
    let bench = Bench::new();
    let socket = bench.folder.path().join("coordinator.sock");
    let socket = socket.to_str().expect("a path");
    let recover =
        |name: &[&str]| bench.warren(&[&["cluster", "recover", "--socket", socket], name].concat());
    let run = recover(&[]);
    assert_eq!((run.code, run.stderr.contains("--yes-i-know NAME")), (2, true), "{run:?}");
    assert_eq!(recover(&["--yes-i-know", "home"]).code, 4);
    let run = recover(&["--yes-i-know", "demo"]);
    assert!(run.stdout.contains("dropped:") && run.stdout.contains("2, 3"), "{run:?}");
}

#[test]
fn a_recovery_shows_in_status_and_can_be_ended() {
    let bench = Bench::new();
    bench.fake.state().cluster.recovery = Some(data::recovery());
    let shown = bench.warren(&["cluster", "status"]);
    assert!(shown.stdout.contains("nothing is placed or removed: waiting for n1, n2"), "{shown:?}");
    let run = bench.warren(&["cluster", "recovery", "end"]);
    assert_eq!((run.code, run.stderr.contains("recovery end --yes")), (2, true), "{run:?}");
    let run = bench.warren(&["cluster", "recovery", "skip", "n1", "--yes"]);
    assert!(run.stdout.contains("waiting for n2"), "{run:?}");
    let run = bench.warren(&["cluster", "recovery", "end", "--yes"]);
    assert_eq!(run.stdout, "the recovery is over\n", "{run:?}");
}
