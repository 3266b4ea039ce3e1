//! A disk whose power can be cut: a loop device over a file, and the file's content at one moment.
//!
//! What has reached the device is what stands in its backing file, in the page cache of the file
//! system around it; what the kernel still holds back of the file system *on* the device is lost in
//! a cut. To take the file at one moment, it lies on a file system of its own that can be frozen:
//! while it is, no write of the device gets through, the copy is of one instant (torn writes
//! included), and whoever waits for the device goes on waiting.
//!
//! A disk like this keeps what it was given and keeps the order: a real one with a volatile cache
//! can only be worse.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{Output, Program, Stage, stage::unmount_below, wait_until};

/// Size of the disk under test; its file is sparse.
const DISK: &str = "256M";
/// Size of the file system around it: the disk, twice, while one replaces the other.
const AROUND: &str = "1G";
const SOON: Duration = Duration::from_secs(60);

/// One disk, and the freezable file system around its backing file.
#[derive(Debug)]
pub struct Disk {
    _stage: Arc<Stage>,
    around: PathBuf,
    copy: PathBuf,
    /// Where it is mounted; unmounted before everything around it.
    at: PathBuf,
}

/// While it lives no write reaches the disk.
#[derive(Debug)]
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = run("fsfreeze", &["-u", &self.0.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}

impl Disk {
    /// Makes the file system around and an empty, formatted disk, mounted at `at`.
    ///
    /// # Errors
    /// Fails without root, loop devices or the tools of ext4.
    pub fn new(stage: &Arc<Stage>, at: &Path) -> Result<Self> {
        anyhow::ensure!(
            rustix::process::geteuid().is_root(),
            "cutting the power needs root for loop devices: run it again with sudo"
        );
        let around = stage.folder("around")?;
        let file = stage.root().join("around.img");
        format(&file, AROUND)?;
        let options = ["-o", "loop,noatime", &file.to_string_lossy(), &around.to_string_lossy()];
        run("mount", &options)?;
        let copy = stage.root().join("cut.img");
        let disk = Self { _stage: stage.clone(), around, copy, at: at.to_owned() };
        disk.renew()?;
        Ok(disk)
    }

    /// Puts an empty disk in the place of the one there is.
    ///
    /// # Errors
    /// Fails where it cannot be made or mounted.
    pub fn renew(&self) -> Result<()> {
        self.unmount()?;
        format(&self.image(), DISK)?;
        self.mount()
    }

    /// Stops the disk at this moment and copies what has reached it.
    ///
    /// # Errors
    /// Fails where it cannot be frozen or copied.
    pub fn cut(&self) -> Result<Frozen> {
        let (inner, outer) = (fs::metadata(&self.around)?.dev(), fs::metadata("/")?.dev());
        anyhow::ensure!(inner != outer, "{} is no file system of its own", self.around.display());
        run("fsfreeze", &["-f", &self.around.to_string_lossy()])?;
        let frozen = Frozen(self.around.clone());
        let (from, to) = (self.image(), &self.copy);
        run("cp", &["--sparse=always", &from.to_string_lossy(), &to.to_string_lossy()])?;
        Ok(frozen)
    }

    /// Brings the power back: the disk is what was copied, checked and mounted as at a boot. Nobody
    /// may use it any more.
    ///
    /// # Errors
    /// Fails where the file system on it cannot be mended, which would be the kernel's fault.
    pub fn back(&self) -> Result<()> {
        self.unmount()?;
        let next = self.around.join("next.img");
        let copy = self.copy.to_string_lossy();
        run("cp", &["--sparse=always", &copy, &next.to_string_lossy()])?;
        fs::rename(&next, self.image())?;
        let checked = Program::new("e2fsck").args(["-p".as_ref(), self.image().as_os_str()]);
        let checked = checked.within(SOON).run()?;
        // 1: it had something to mend, and did
        anyhow::ensure!(checked.code <= 1, "e2fsck: {}{}", checked.stdout, checked.stderr);
        self.mount()
    }

    fn image(&self) -> PathBuf {
        self.around.join("disk.img")
    }

    fn mount(&self) -> Result<()> {
        fs::create_dir_all(&self.at)?;
        let (image, at) = (self.image(), &self.at);
        run("mount", &["-o", "loop", &image.to_string_lossy(), &at.to_string_lossy()])?;
        // as a coordinator makes its state folder
        Ok(fs::set_permissions(at, fs::Permissions::from_mode(0o700))?)
    }

    fn unmount(&self) -> Result<()> {
        if !is_mounted(&self.at)? {
            return Ok(());
        }
        wait_until(&format!("{} is let go", self.at.display()), SOON, || {
            run("umount", &[&self.at.to_string_lossy()]).map(drop)
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount_below(&self.at);
        unmount_below(&self.around);
    }
}

fn is_mounted(at: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts.lines().any(|line| line.split(' ').nth(1) == at.to_str()))
}

/// Makes a sparse file with an empty ext4 in it.
fn format(file: &Path, size: &str) -> Result<()> {
    let file = file.to_string_lossy();
    let _ = fs::remove_file(&*file);
    run("truncate", &["-s", size, &file])?;
    run("mkfs.ext4", &["-q", "-F", "-E", "nodiscard", &file]).map(drop)
}

fn run(program: &str, arguments: &[&str]) -> Result<Output> {
    Program::new(program).args(arguments).within(SOON).run()?.success()
}

/// Cleans what tortures that were killed left in `base`: frozen file systems, mounts, coordinators,
/// folders.
///
/// # Errors
/// Fails where the mounts cannot be read.
pub fn clean_leftovers(base: &Path) -> Result<()> {
    for entry in fs::read_dir(base)? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let owner = name.strip_prefix("wt").and_then(|rest| rest.split_once('-')?.0.parse().ok());
        let Some(owner) =
            owner.filter(|owner: &u32| !Path::new(&format!("/proc/{owner}")).exists())
        else {
            continue;
        };
        if !folder.join("around").exists() {
            continue;
        }
        eprintln!("cleaning what torture {owner} left in {}", folder.display());
        // thawed first: what waits for a frozen disk cannot even be killed
        let around = folder.join("around");
        if is_mounted(&around)? {
            let thawed = Program::new("fsfreeze").args(["-u".as_ref(), around.as_os_str()]);
            thawed.within(SOON).run()?;
        }
        end_coordinator(&folder)?;
        unmount_below(&folder);
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// Kills the coordinator of a stage, if the process of its pid file still is one.
fn end_coordinator(folder: &Path) -> Result<()> {
    let Ok(pid) = fs::read_to_string(folder.join("coordinator/coordinator.pid")) else {
        return Ok(());
    };
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if String::from_utf8_lossy(&line).contains(&*folder.to_string_lossy())
        && let Some(pid) = Pid::from_raw(pid.parse()?)
    {
        kill_process_group(pid, Signal::KILL).ok();
    }
    Ok(())
}
