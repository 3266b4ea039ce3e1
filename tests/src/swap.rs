//! Swap for tests on a machine without it: a file of the stage's own, switched off when dropped.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{Program, Stage};

/// Swap that lasts as long as this does.
#[derive(Debug)]
pub struct Swap {
    file: Option<PathBuf>,
}

impl Swap {
    /// Makes sure the machine has at least `bytes` of swap.
    ///
    /// # Errors
    /// Fails without root or space.
    pub fn ensure(stage: &Stage, bytes: u64) -> Result<Self> {
        let info = fs::read_to_string("/proc/meminfo")?;
        let total = info.lines().find_map(|line| line.strip_prefix("SwapTotal:"));
        let kib: u64 =
            total.and_then(|text| text.split_whitespace().next()).context("SwapTotal")?.parse()?;
        if kib << 10 >= bytes {
            return Ok(Self { file: None });
        }
        let file = stage.root().join("swap");
        let path = file.to_string_lossy().into_owned();
        Program::new("fallocate").args(["-l", &bytes.to_string(), &path]).run()?.success()?;
        Program::new("chmod").args(["600", &path]).run()?.success()?;
        Program::new("mkswap").args([&path]).run()?.success()?;
        Program::new("swapon").args([&path]).run()?.success()?;
        Ok(Self { file: Some(file) })
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        let off = Program::new("swapoff").args([file]).run();
        if let Err(error) = off.and_then(crate::Output::success) {
            eprintln!("{error:#}");
        }
    }
}
