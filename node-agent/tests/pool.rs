//! Homes in a real btrfs pool: quotas that hold, growth in use, a machine that reboots, crashes
//! between any two steps, and files that are no pool of ours.
//!
//! Needs root, btrfs-progs and a kernel with btrfs and loop devices; without them every test here
//! is skipped, aloud. Each has a pool of its own in a temporary folder and unmounts it.
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use uuid::Uuid;
use warren_common::{Bytes, WorkspaceId};
use warren_node_agent::volume::{
    PoolKind, VolumeStore as _,
    btrfs::{self, BtrfsStore, Place, Site, pool::Growth},
    choose::Size,
};

/// Large enough for two homes, small enough to be filled in a second.
const POOL: Bytes = Bytes::mib(640);

/// A pool in a folder of its own.
struct Stage {
    folder: TempDir,
    store: BtrfsStore,
}

impl Stage {
    /// Makes one; none where this machine cannot.
    fn new() -> Option<Self> {
        if !btrfs::able() {
            eprintln!("SKIPPED: not root, or no btrfs-progs, or no btrfs in the kernel");
            return None;
        }
        let folder = tempfile::tempdir().expect("folder");
        let store = store(folder.path());
        Some(Self { folder, store })
    }

    fn state(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self) -> PathBuf {
        self.state().join("pool.btrfs")
    }

    fn mount(&self) -> PathBuf {
        self.state().join("pool")
    }

    /// The agent dies and another comes; the pool stays mounted.
    fn restart(&mut self) {
        self.store = store(self.folder.path());
    }

    /// The machine goes down: nothing is mounted, no loop device is left.
    fn power_off(&mut self) {
        run("umount", &[&self.mount().to_string_lossy()]);
        self.restart();
        assert_eq!(self.loops(), "", "a loop device outlived its mount");
    }

    fn loops(&self) -> String {
        run(
            "losetup",
            &["--noheadings", "--output", "NAME", "--associated", &self.file().to_string_lossy()],
        )
    }

    async fn volume(
        &self,
        workspace: WorkspaceId,
        size: Bytes,
    ) -> warren_node_agent::volume::Volume {
        self.store.ensure(workspace, size).await.expect("a volume")
    }

    async fn codes(&self) -> Vec<String> {
        self.store.pool().await.findings.into_iter().map(|finding| finding.code).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mount()).output();
    }
}

fn store(state: &Path) -> BtrfsStore {
    let place = Place::Loop { file: state.join("pool.btrfs"), size: Size::Fixed(POOL) };
    BtrfsStore::new(Site::new(state, place))
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program");
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn workspace() -> WorkspaceId {
    WorkspaceId::new(Uuid::now_v7())
}

/// Writes until nothing more can be written; returns the error and how much went in.
fn fill(path: &Path) -> (std::io::ErrorKind, Bytes) {
    let mut file = match OpenOptions::new().create(true).append(true).open(path) {
        Ok(file) => file,
        Err(error) => return (error.kind(), Bytes(0)),
    };
    let chunk = vec![7_u8; 1 << 20];
    let mut written = 0;
    loop {
        match file.write_all(&chunk).and_then(|()| file.sync_data()) {
            Ok(()) => written += 1 << 20,
            Err(error) => return (error.kind(), Bytes(written)),
        }
    }
}

fn write(path: &Path, mib: usize) {
    fs::write(path, vec![1_u8; mib << 20]).expect("written");
    run("sync", &["-f", &path.to_string_lossy()]);
}

/// Waits for what the kernel does in the background.
async fn wait(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: not within 60 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_home_is_full_for_itself_alone() {
    let Some(stage) = Stage::new() else { return };
    let (one, other) = (workspace(), workspace());
    let first = stage.volume(one, Bytes::mib(100)).await;
    let second = stage.volume(other, Bytes::mib(100)).await;
    assert!(first.created && first.metered);
    assert_eq!(fs::metadata(&first.home).expect("there").uid(), 1000);
    assert_eq!(fs::metadata(&first.tmp).expect("there").mode() & 0o7777, 0o1777);
    let (kind, written) = fill(&first.home.join("big"));
    assert_eq!(kind, std::io::ErrorKind::QuotaExceeded);
    assert!(written > Bytes::mib(90) && written <= Bytes::mib(100), "{written}");
    // `/tmp` counts with it, and the neighbour does not notice
    let (kind, _) = fill(&first.tmp.join("more"));
    assert_eq!(kind, std::io::ErrorKind::QuotaExceeded);
    write(&second.home.join("work"), 20);
    let used = stage.store.usage(one).await.expect("known");
    assert!(used > Bytes::mib(95) && used <= Bytes::mib(100), "{used}");
    let used = stage.store.usage(other).await.expect("known");
    assert!(used >= Bytes::mib(20) && used < Bytes::mib(25), "{used}");
    assert_eq!(stage.codes().await, Vec::<String>::new(), "the pool itself is fine");
    // what is full can be emptied
    fs::remove_file(first.home.join("big")).expect("a full home can be emptied");
    stage.store.clear_tmp(one).await.expect("emptied");
    write(&first.home.join("small"), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_below_what_is_taken_loses_nothing_and_grows_again() {
    let Some(stage) = Stage::new() else { return };
    let one = workspace();
    let volume = stage.volume(one, Bytes::mib(200)).await;
    write(&volume.home.join("work"), 120);
    let again = stage.volume(one, Bytes::mib(64)).await;
    assert!(!again.created);
    let error = fs::write(volume.home.join("more"), "x").expect_err("over its quota");
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded);
    assert_eq!(fs::read(volume.home.join("work")).expect("kept").len(), 120 << 20);
    stage.volume(one, Bytes::mib(300)).await;
    write(&volume.home.join("more"), 100);
    // and what is over can be deleted while it is over
    stage.volume(one, Bytes::mib(64)).await;
    fs::remove_file(volume.home.join("work")).expect("removed");
    fs::remove_file(volume.home.join("more")).expect("removed");
    run("sync", &["-f", &volume.home.to_string_lossy()]);
    fs::write(volume.home.join("again"), "x").expect("room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_grows_in_use_and_survives_a_reboot() {
    let Some(mut stage) = Stage::new() else { return };
    let one = workspace();
    let volume = stage.volume(one, Bytes::mib(100)).await;
    write(&volume.home.join("work"), 10);
    let before = stage.store.pool().await;
    assert_eq!(before.kind, PoolKind::Loop);
    let open = OpenOptions::new().append(true).open(volume.home.join("work")).expect("open");
    let grown = stage.store.grow(Growth::By(Bytes::mib(256))).expect("grown");
    assert_eq!(Bytes(grown.to_bytes).minus(Bytes(grown.from_bytes)), Bytes::mib(256));
    let after = stage.store.pool().await;
    assert!(after.size >= before.size.plus(Bytes::mib(200)), "{before:?} {after:?}");
    let same = stage.store.grow(Growth::To(Bytes(grown.to_bytes))).expect("already");
    assert_eq!(same.from_bytes, same.to_bytes);
    let error = stage.store.grow(Growth::To(POOL)).expect_err("smaller").to_string();
    assert!(error.contains("pools only grow"), "{error}");
    let error = stage.store.grow(Growth::By(Bytes::gib(1 << 20))).expect_err("too large");
    assert!(error.to_string().contains("would fill the host"), "{error}");
    drop(open);
    let held = fs::metadata(stage.file()).expect("the file");
    assert!(held.blocks() * 512 >= held.len(), "the file has holes");

    stage.power_off();
    let error = fs::read(volume.home.join("work")).expect_err("not mounted");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(stage.store.exists(one).await.expect("mounted again"));
    assert_eq!(fs::read(volume.home.join("work")).expect("kept").len(), 10 << 20);
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let mount = stage.mount().to_string_lossy().into_owned();
    let line = mounts.lines().find(|line| line.contains(&mount)).expect("mounted");
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
    assert_eq!(fs::metadata(stage.file()).expect("the file").len(), grown.to_bytes);
    assert_eq!(stage.store.pool().await.size, after.size);

    // the file grew, then the power went: the next start finishes it
    stage.power_off();
    let longer = grown.to_bytes + (128 << 20);
    let file = stage.file().to_string_lossy().into_owned();
    run("fallocate", &["--length", &longer.to_string(), &file]);
    assert!(stage.store.pool().await.size > after.size);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_leaves_the_pool_to_the_next() {
    let Some(mut stage) = Stage::new() else { return };
    let one = workspace();
    let volume = stage.volume(one, Bytes::mib(100)).await;
    fs::write(volume.home.join("work"), "kept").expect("written");
    stage.restart();
    let again = stage.volume(one, Bytes::mib(100)).await;
    assert!(!again.created);
    assert_eq!(stage.loops().lines().count(), 1, "one device for one file");
    // somebody unmounts it under a running agent: it is mounted again, never written below
    run("umount", &[&stage.mount().to_string_lossy()]);
    assert!(stage.store.exists(one).await.expect("mounted again"));
    assert_eq!(fs::read_to_string(volume.home.join("work")).expect("kept"), "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_half_done_is_put_right() {
    let Some(stage) = Stage::new() else { return };
    let (one, other) = (workspace(), workspace());
    let volume = stage.volume(one, Bytes::mib(100)).await;
    let mount = stage.mount().to_string_lossy().into_owned();
    let homes = stage.mount().join("homes");
    let groups = || run("btrfs", &["qgroup", "show", "--raw", "-p", "-r", &mount]);
    let group = |id: WorkspaceId| {
        let bytes = id.as_bytes();
        let number = bytes[10..].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        format!("1/{number}")
    };
    // a subvolume outside its group, as a snapshot restored by hand would be
    let home = volume.home.to_string_lossy().into_owned();
    let own = run("btrfs", &["inspect-internal", "rootid", &home]);
    run("btrfs", &["qgroup", "remove", &format!("0/{own}"), &group(one), &mount]);
    write(&volume.home.join("uncounted"), 30);
    assert!(stage.store.usage(one).await.expect("known") < Bytes::mib(10));
    stage.volume(one, Bytes::mib(100)).await;
    wait("it counts again", async || {
        stage.store.usage(one).await.expect("known") >= Bytes::mib(30)
    })
    .await;
    // the group is gone altogether, and `/tmp` with it
    for path in [&volume.home, &volume.tmp] {
        let path = path.to_string_lossy().into_owned();
        let own = run("btrfs", &["inspect-internal", "rootid", &path]);
        run("btrfs", &["qgroup", "remove", &format!("0/{own}"), &group(one), &mount]);
    }
    run("btrfs", &["subvolume", "delete", &volume.tmp.to_string_lossy()]);
    run("btrfs", &["qgroup", "destroy", &group(one), &mount]);
    stage.volume(one, Bytes::mib(100)).await;
    assert!(volume.tmp.is_dir() && groups().contains(&group(one)));
    assert_eq!(fill(&volume.tmp.join("x")).0, std::io::ErrorKind::QuotaExceeded);
    // a volume that was being made: its group and one of its subvolumes are there, no more
    let half = homes.join(format!(".new-{other}"));
    fs::create_dir(&half).expect("folder");
    run("btrfs", &["qgroup", "create", &group(other), &mount]);
    let half_home = half.join("home").to_string_lossy().into_owned();
    run("btrfs", &["subvolume", "create", "-i", &group(other), &half_home]);
    fs::write(half.join("home/odd"), "x").expect("written");
    let made = stage.volume(other, Bytes::mib(64)).await;
    assert!(made.created && !made.home.join("odd").exists() && !half.exists());
    assert_eq!(fill(&made.home.join("x")).0, std::io::ErrorKind::QuotaExceeded);
    // one that was being removed: renamed, one subvolume gone
    fs::rename(homes.join(other.to_string()), homes.join(format!(".gone-{other}"))).expect("named");
    let tmp = homes.join(format!(".gone-{other}/tmp")).to_string_lossy().into_owned();
    run("btrfs", &["subvolume", "delete", &tmp]);
    assert!(stage.store.exists(other).await.expect("asked"), "something of it is left");
    stage.store.remove(other).await.expect("removed");
    assert!(!stage.store.exists(other).await.expect("asked"));
    assert!(!groups().contains(&group(other)), "{}", groups());
    // a plain folder in the place of a subvolume has no quota, and is refused
    run("btrfs", &["subvolume", "delete", &volume.tmp.to_string_lossy()]);
    fs::create_dir(&volume.tmp).expect("folder");
    let error = stage.store.ensure(one, Bytes::mib(100)).await.expect_err("no subvolume");
    assert_eq!((error.code(), error.retry()), ("VOLUME_IN_THE_WAY", false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_workspace_leaves_nothing_and_its_neighbour_keeps_everything() {
    let Some(mut stage) = Stage::new() else { return };
    let (one, other) = (workspace(), workspace());
    let first = stage.volume(one, Bytes::mib(200)).await;
    let second = stage.volume(other, Bytes::mib(200)).await;
    write(&first.home.join("big"), 150);
    write(&second.home.join("work"), 50);
    let free = stage.store.pool().await.available;
    stage.store.remove(one).await.expect("removed");
    stage.store.remove(one).await.expect("gone is fine");
    assert!(!stage.store.exists(one).await.expect("asked"));
    wait("the room is free again", async || {
        stage.store.pool().await.available > free.plus(Bytes::mib(120))
    })
    .await;
    let homes = fs::read_dir(stage.mount().join("homes")).expect("homes").count();
    assert_eq!(homes, 1);
    assert!(stage.store.usage(other).await.expect("known") >= Bytes::mib(50));
    // whatever the kernel left of the old groups is swept when the pool is opened
    stage.power_off();
    stage.store.exists(other).await.expect("mounted");
    let mount = stage.mount().to_string_lossy().into_owned();
    let rows = run("btrfs", &["qgroup", "show", "--raw", &mount]);
    assert_eq!(
        rows.lines().filter(|line| line.contains('/') && line.starts_with(['0', '1'])).count(),
        4,
        "{rows}"
    );
    assert_eq!(fs::read(second.home.join("work")).expect("kept").len(), 50 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_group_is_never_anothers() {
    let Some(stage) = Stage::new() else { return };
    // ids that differ, with the same last 48 bits
    let one: WorkspaceId = "0199a0b2-7f00-7000-8000-0123456789ab".parse().expect("an id");
    let other: WorkspaceId = "0199a0b2-7f01-7000-9000-0123456789ab".parse().expect("an id");
    stage.volume(one, Bytes::mib(64)).await;
    let error = stage.store.ensure(other, Bytes::mib(200)).await.expect_err("the same group");
    assert_eq!((error.code(), error.retry()), ("VOLUME_IN_THE_WAY", false));
    assert!(!stage.store.exists(other).await.expect("asked"));
    let report = stage.store.report().expect("a report");
    assert_eq!(report.homes[0].limit_bytes, Some(Bytes::mib(64).0), "the limit stays the first's");
    stage.store.remove(one).await.expect("removed");
    assert!(stage.volume(other, Bytes::mib(64)).await.created);
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_could_make_subvolumes_outside_their_quota() {
    // why the system-call filter of workspaces refuses it; `tests/e2e/volumes.rs` shows that it does
    let Some(stage) = Stage::new() else { return };
    let one = workspace();
    let volume = stage.volume(one, Bytes::mib(64)).await;
    for folder in stage.state().join("pool/homes/x").ancestors().take(5) {
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o755));
    }
    fs::set_permissions(volume.home.parent().expect("a folder"), fs::Permissions::from_mode(0o755))
        .expect("opened");
    let inside = volume.home.join("escape");
    let made = Command::new("setpriv")
        .args(["--reuid=1000", "--regid=1000", "--clear-groups", "btrfs", "subvolume", "create"])
        .arg(&inside)
        .output()
        .expect("setpriv");
    assert!(made.status.success(), "{made:?}");
    let (kind, written) = fill(&volume.home.join("inside"));
    assert_eq!(kind, std::io::ErrorKind::QuotaExceeded);
    assert!(written <= Bytes::mib(64));
    write(&inside.join("outside"), 100);
    // and it does not keep the home from being removed
    let deeper = inside.join("deeper").to_string_lossy().into_owned();
    run("btrfs", &["subvolume", "create", &deeper]);
    stage.store.remove(one).await.expect("removed");
    assert!(!stage.store.exists(one).await.expect("asked"));
    assert_eq!(run("btrfs", &["subvolume", "list", &stage.mount().to_string_lossy()]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_is_told_and_nothing_is_lost() {
    let Some(stage) = Stage::new() else { return };
    let one = workspace();
    let volume = stage.volume(one, Bytes::mib(100)).await;
    fs::write(volume.home.join("work"), "kept").expect("written");
    let (kind, _) = fill(&stage.mount().join("filler"));
    assert_eq!(kind, std::io::ErrorKind::StorageFull);
    assert_eq!(stage.codes().await, ["E1202"]);
    let error = stage.store.ensure(workspace(), Bytes::mib(100)).await.expect_err("full");
    assert_eq!((error.code(), error.retry()), ("DISK_FULL", true));
    let left = fs::read_dir(stage.mount().join("homes")).expect("homes").count();
    assert_eq!(left, 1, "no half home is left behind");
    assert_eq!(fs::read_to_string(volume.home.join("work")).expect("kept"), "kept");
    assert!(!stage.volume(one, Bytes::mib(100)).await.created);
    stage.store.grow(Growth::By(Bytes::mib(256))).expect("grown");
    wait("there is room again", async || stage.codes().await.is_empty()).await;
    stage.volume(workspace(), Bytes::mib(100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_short_anothers_damaged_or_gone_is_refused_with_what_to_do() {
    let Some(mut stage) = Stage::new() else { return };
    let one = workspace();
    let volume = stage.volume(one, Bytes::mib(100)).await;
    fs::write(volume.home.join("work"), "kept").expect("written");
    stage.power_off();
    let said = async |stage: &Stage| {
        let pool = stage.store.pool().await;
        assert_eq!((pool.kind, pool.size), (PoolKind::Broken, Bytes(0)));
        assert_eq!(pool.findings[0].code, "E1201");
        let error = stage.store.ensure(one, Bytes::mib(100)).await.expect_err("refused");
        assert_eq!((error.code(), error.retry()), ("POOL_UNUSABLE", true));
        format!("{} {}", pool.findings[0].message, pool.findings[0].fix)
    };
    let (file, aside) = (stage.file(), stage.state().join("aside"));
    fs::rename(&file, &aside).expect("moved");
    let words = said(&stage).await;
    assert!(words.contains("is gone") && words.contains("put it back"), "{words}");
    // a copy that was cut
    stage.restart();
    fs::copy(&aside, &file).expect("copied");
    OpenOptions::new().write(true).open(&file).expect("open").set_len(400 << 20).expect("cut");
    let words = said(&stage).await;
    assert!(words.contains("cut short: 400 MiB of 640 MiB"), "{words}");
    // another filesystem
    stage.restart();
    fs::remove_file(&file).expect("removed");
    let path = file.to_string_lossy().into_owned();
    run("fallocate", &["--length", &POOL.0.to_string(), &path]);
    run("mkfs.btrfs", &["-q", "-K", &path]);
    let words = said(&stage).await;
    assert!(words.contains("put back what was at"), "{words}");
    // no filesystem
    stage.restart();
    let open = OpenOptions::new().write(true).open(&file).expect("open");
    open.write_all_at(&[0; 4096], 64 << 10).expect("written");
    let words = said(&stage).await;
    assert!(words.contains("holds no btrfs filesystem"), "{words}");
    assert!(!stage.mount().join("homes").exists(), "nothing was made below the mount");
    // and with the right one all is as it was, with nothing more to do than to put it back
    fs::rename(&aside, &file).expect("moved");
    wait("the pool is tried again", async || {
        stage.store.exists(one).await.is_ok_and(|there| there)
    })
    .await;
    assert_eq!(fs::read_to_string(volume.home.join("work")).expect("kept"), "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_is_shown_and_checked_and_a_broken_quota_is_found() {
    let Some(stage) = Stage::new() else { return };
    let one = workspace();
    let volume = stage.volume(one, Bytes::mib(100)).await;
    write(&volume.home.join("work"), 20);
    let report = stage.store.report().expect("a report");
    assert_eq!(report.homes.len(), 1);
    assert_eq!(report.homes[0].workspace, one);
    assert_eq!(report.homes[0].limit_bytes, Some(Bytes::mib(100).0));
    assert!(Bytes(report.homes[0].used_bytes) >= Bytes::mib(20));
    let checks = stage.store.check(true).expect("checked");
    let bad: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
    assert!(bad.is_empty(), "{bad:?}");
    let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
    assert_eq!(names, ["file", "mount", "quotas", "homes", "errors", "scrub"]);
    let mount = stage.mount().to_string_lossy().into_owned();
    let group = run("btrfs", &["qgroup", "show", "--raw", "-r", &mount]);
    let group =
        group.lines().find_map(|line| line.split(' ').next().filter(|id| id.starts_with("1/")));
    run("btrfs", &["qgroup", "limit", "none", group.expect("a group"), &mount]);
    let checks = stage.store.check(false).expect("checked");
    let bad: Vec<_> = checks.iter().filter(|check| !check.ok).map(|check| check.name).collect();
    assert_eq!(bad, ["homes"]);
    stage.volume(one, Bytes::mib(100)).await;
    assert!(stage.store.check(false).expect("checked").iter().all(|check| check.ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_a_btrfs_filesystem_serves_as_well() {
    let Some(outer) = Stage::new() else { return };
    // another pool plays the server's own filesystem
    outer.volume(workspace(), Bytes::mib(64)).await;
    let state = tempfile::tempdir().expect("folder");
    let folder = outer.mount().join("srv/homes");
    let site = || Site::new(state.path(), Place::Folder(folder.clone()));
    let store = BtrfsStore::new(site());
    let one = workspace();
    let volume = store.ensure(one, Bytes::mib(80)).await.expect("a volume");
    assert!(volume.home.starts_with(state.path().join("pool/homes")));
    assert_eq!(fill(&volume.home.join("big")).0, std::io::ErrorKind::QuotaExceeded);
    assert!(folder.join(format!("homes/{one}/home/big")).exists());
    assert_eq!(store.pool().await.kind, PoolKind::Folder);
    let mount = state.path().join("pool");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let line = mounts.lines().find(|line| line.contains(&*mount.to_string_lossy()));
    assert!(line.is_some_and(|line| line.contains("nosuid,nodev")), "{line:?}");
    let error = store.grow(Growth::By(Bytes::gib(1))).expect_err("not ours").to_string();
    assert!(error.contains("grow that filesystem itself"), "{error}");
    run("umount", &[&mount.to_string_lossy()]);
    let again = BtrfsStore::new(site());
    assert!(again.exists(one).await.expect("mounted again"));
    run("umount", &[&mount.to_string_lossy()]);
    // a plain disk is no place for it
    let plain = Site::new(state.path(), Place::Folder(state.path().join("volumes")));
    let error = BtrfsStore::new(plain).exists(one).await.expect_err("no btrfs").to_string();
    assert!(error.contains("is not on a btrfs filesystem"), "{error}");
}
