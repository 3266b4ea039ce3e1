//! The image workspaces start from, and the static binary that becomes their PID 1.

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::command::{capture, cargo, root, run_with};

const FOLDER: &str = "deploy/workspace-image";
const LABEL: &str = "warren.inputs";

/// Builds the image where what it is made of has changed, with the engine that `DOCKER_HOST`
/// names. `network` is the build's network, such as `host`.
///
/// # Errors
/// Fails where Docker does.
pub fn image(tag: &str, network: Option<&str>) -> Result<()> {
    let hash = inputs()?;
    let format = format!("{{{{index .Config.Labels {LABEL:?}}}}}");
    let (there, label, _) = capture("docker", &["image", "inspect", "-f", &format, tag])?;
    if there && label.trim() == hash {
        eprintln!("xtask: {tag} is unchanged");
        return Ok(());
    }
    run_with(&format!("{FOLDER}/base"), &[], &[])?;
    let label = format!("{LABEL}={hash}");
    let mut arguments = vec!["build", "-q", "-t", tag, "--label", &label];
    if let Some(network) = network {
        arguments.extend(["--network", network]);
    }
    arguments.push(FOLDER);
    // the legacy builder is in every Docker; BuildKit's plugin is not
    run_with("docker", &arguments, &[("DOCKER_BUILDKIT", "0")])
}

/// Hashes every file the image is made of, by name and content.
fn inputs() -> Result<String> {
    let folder = root()?.join(FOLDER);
    let mut files = Vec::new();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.strip_prefix(&folder)?.to_string_lossy().as_bytes());
        hash.update([0]);
        hash.update(std::fs::read(&file)?);
    }
    let hash = hash.finalize();
    Ok(hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// Builds the static PID 1 and prints its path and size.
///
/// # Errors
/// Fails where it cannot be built or is not static.
pub fn inside() -> Result<()> {
    let host = host_triple()?;
    // the flag goes to this target alone, so nothing else is built again
    let config = format!("target.{host}.rustflags=['-C','target-feature=+crt-static']");
    let arguments =
        ["build", "--locked", "-p", "warren-inside", "--profile", "inside", "--target", &host];
    run_with(&cargo(), &[&["--config", &config], &arguments[..]].concat(), &[])?;
    let path = root()?.join("target").join(&host).join("inside/warren-inside");
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    if needs_loader(&bytes) {
        bail!("{} is not static", path.display());
    }
    println!("{} {} KiB", path.display(), bytes.len() / 1024);
    Ok(())
}

fn host_triple() -> Result<String> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let (_, version, _) = capture(&rustc, &["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// Whether an ELF file names a dynamic loader (a program header of type `PT_INTERP`).
fn needs_loader(elf: &[u8]) -> bool {
    const INTERP: u32 = 3;
    let word = |at: usize, size: usize| -> usize {
        let bytes = elf.get(at..at + size).unwrap_or_default();
        bytes.iter().rev().fold(0, |value, byte| (value << 8) | usize::from(*byte))
    };
    let (table, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    (0..count).any(|index| word(table + index * size, 4) == INTERP as usize)
}
