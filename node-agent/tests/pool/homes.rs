//! Homes in a pool: quotas that hold, and crashes between any two steps.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Command,
};

use warren_common::{Bytes, WorkspaceId};
use warren_node_agent::volume::VolumeStore as _;

use crate::stage::{Stage, fill, fill_by, run, wait, workspace, write};

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
    // one over its quota starts again, with an empty `/tmp`, and under a remapped engine too
    fill_by(&first.tmp.join("more"), 4096);
    fill_by(&first.home.join("brim"), 4096);
    std::os::unix::fs::chown(first.home.join("big"), Some(1000), Some(1000)).expect("root");
    let stored = stage.volume(one, Bytes::mib(64)).await;
    stage.store.clear_tmp(one).await.expect("a home over its quota gets its `/tmp`");
    assert_eq!(fs::read_dir(&stored.tmp).expect("there").count(), 0);
    let facts = fs::metadata(&stored.tmp).expect("there");
    assert_eq!((facts.uid(), facts.mode() & 0o7777), (1000, 0o1777));
    for base in [(231_072, 231_072), (0, 0)] {
        stage.store.give(one, base).await.expect("and changes hands");
        for path in [&stored.home, &stored.tmp, &stored.home.join("big")] {
            assert_eq!(fs::metadata(path).expect("there").uid(), base.0 + 1000);
        }
        let (kind, _) = fill(&stored.tmp.join("more"));
        assert_eq!(kind, std::io::ErrorKind::QuotaExceeded, "its quota is there again");
    }
    assert_eq!(stage.codes().await, Vec::<String>::new(), "and what is counted is right");
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
