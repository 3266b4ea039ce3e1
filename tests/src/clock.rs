//! A wrong clock: what makes a program see another time of day. Monotonic clocks are left alone.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Returns the environment of a program whose clock is off, such as by `-1h`.
///
/// # Errors
/// Fails without libfaketime.
pub fn off_by(off: &str) -> Result<[(&'static str, String); 3]> {
    let found = std::fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    let mut found = found.map(|folder| folder.join("faketime/libfaketime.so.1"));
    let found = found.find(|path: &PathBuf| Path::exists(path));
    let found = found.context("libfaketime is missing: apt-get install libfaketime")?;
    let always = ("DONT_FAKE_MONOTONIC", "1".to_owned());
    Ok([("LD_PRELOAD", found.display().to_string()), ("FAKETIME", off.to_owned()), always])
}
