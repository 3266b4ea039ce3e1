//! The pool as a whole: growth in use, a machine that reboots, files that are no pool of ours.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use warren_common::Bytes;
use warren_node_agent::volume::{
    PoolKind, VolumeStore as _,
    btrfs::{BtrfsStore, Place, Site, pool::Growth},
};

use crate::stage::{POOL, Stage, fill, run, wait, workspace, write};

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
