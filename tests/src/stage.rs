//! One test run's folder and prefix, and the cleaning up after runs that were killed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::Program;

static STAGES: AtomicU32 = AtomicU32::new(0);

/// A folder and a prefix of its own; both go when it is dropped.
#[derive(Debug)]
pub struct Stage {
    prefix: String,
    folder: PathBuf,
    keep: bool,
}

impl Stage {
    /// Makes a stage in the folder for test runs (`WARREN_TEST_DIR`, else the temporary folder).
    /// With `WARREN_TEST_KEEP` set it is left behind and its path is printed.
    ///
    /// # Errors
    /// Fails where the folder cannot be made.
    pub fn new() -> Result<Self> {
        let number = STAGES.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("wt{}-{number}", std::process::id());
        let folder = Self::base().join(&prefix);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let keep = std::env::var_os("WARREN_TEST_KEEP").is_some();
        Ok(Self { prefix, folder, keep })
    }

    /// Returns the folder in which stages are made.
    pub fn base() -> PathBuf {
        std::env::var_os("WARREN_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
    }

    /// Returns the prefix, such as `wt4711-0`: at most 12 characters, fit for interface names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns a folder below the stage's, made where it is not there.
    ///
    /// # Errors
    /// Fails where it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Returns the stage's own folder.
    pub fn root(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.keep || std::thread::panicking() && std::env::var_os("WARREN_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.folder.display());
            return;
        }
        unmount_below(&self.folder);
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// Unmounts everything below a folder, the deepest first.
pub fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let folder = folder.to_string_lossy().into_owned();
    let mut points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    points.retain(|point| point.starts_with(&folder));
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in points {
        let run = Program::new("umount").args(["-l", point]).within(Duration::from_secs(10)).run();
        if let Err(error) = run.and_then(crate::Output::success) {
            eprintln!("{error:#}");
        }
    }
}
