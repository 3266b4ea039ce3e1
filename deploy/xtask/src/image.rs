//! What runs inside workspaces: their images, and the static binary that is their PID 1.
//!
//! Both are skipped where nothing has changed, an image by a label with a hash of its inputs, the
//! binary by cargo. stdout carries the result, stderr the talk. `check` starts what an image holds.

mod check;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};
use warren_common::image::{AUTHORITIES, Flavour, PROXIES, wanted_tools};

use crate::command::{cargo, command};

/// Label that carries the hash of the image's inputs.
const LABEL: &str = "warren.image.inputs";

/// Where and what to build.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageArgs {
    /// The image with the coding agents.
    #[arg(long, group = "flavour")]
    pub(crate) agents: bool,
    /// The image with the coding agents, browsers and a display.
    #[arg(long, group = "flavour")]
    pub(crate) browsers: bool,
    /// The image with the coding agents, browsers, a display, an editor and further tools; its build
    /// takes minutes.
    #[arg(long, group = "flavour")]
    pub(crate) full: bool,
    /// Start each of its programs in a hardened container, and print their versions.
    #[arg(long)]
    pub(crate) check: bool,
    /// Which tools the full image has beside the rest: all whose registry answers, none, or those of
    /// az, neon, netlify, supabase, vercel that are named, with commas between them.
    #[arg(long, value_name = "NAMES", default_value = "all", value_parser = wanted_tools)]
    pub(crate) tools: String,
    /// Docker's socket, such as unix:///run/docker.sock; the CLI's own default without it.
    #[arg(long, value_name = "URL")]
    pub(crate) docker_host: Option<String>,
    /// Name of the image; warren-workspace with latest, agents, browsers or full without it.
    #[arg(long)]
    pub(crate) tag: Option<String>,
    /// Network of the build's steps, such as host; Docker's default without it.
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// Build although nothing has changed, with today's packages.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Nothing to choose yet.
#[derive(Debug, clap::Args)]
pub(crate) struct InsideArgs {}

/// Returns which of the images is asked for.
const fn asked(args: &ImageArgs) -> Flavour {
    match (args.full, args.browsers, args.agents) {
        (true, ..) => Flavour::Full,
        (_, true, _) => Flavour::Browsers,
        (.., true) => Flavour::Agents,
        _ => Flavour::Base,
    }
}

/// Returns whether a file of the folder goes into an image, so that a new release of an agent leaves
/// the small one as it is.
fn takes(flavour: Flavour, file: &Path) -> bool {
    if file.file_name().is_some_and(|name| name == "README.md") {
        return false;
    }
    let least = if file.starts_with("root-browsers") {
        Flavour::Browsers
    } else if file.starts_with("versions") || file.starts_with("build") {
        Flavour::Agents
    } else {
        Flavour::Base
    };
    flavour >= least
}

/// Builds an image of workspaces where its inputs have changed.
///
/// # Errors
/// Fails where Docker does not answer, where the base or the image cannot be built, or where one of
/// its programs does not start.
pub(crate) fn run(args: &ImageArgs) -> anyhow::Result<()> {
    let target = asked(args);
    let tag = args.tag.as_deref().unwrap_or(target.tag());
    let folder = root().join("deploy/workspace-image");
    let mut inputs = hash(&folder, target)?;
    if target == Flavour::Full {
        inputs.push_str(&format!(" {}", args.tools));
    }
    if !args.force && built(args, (tag, &inputs))? {
        say(&format!("{tag} unchanged"))?;
    } else {
        build(args, &folder, (target, tag, &inputs))?;
        say(&format!("{tag} built"))?;
    }
    if args.check { check::run(args, target, tag) } else { Ok(()) }
}

fn build(
    args: &ImageArgs,
    folder: &Path,
    (target, tag, inputs): (Flavour, &str, &str),
) -> anyhow::Result<()> {
    let mut base = Command::new(folder.join("base"));
    at_host(&mut base, args);
    ensure!(base.status().context("cannot run base")?.success(), "there is no base image");
    let mut build = docker(args, &["build", "--target", target.as_str(), "--tag", tag]);
    build.arg("--label").arg(format!("{LABEL}={inputs}"));
    if let Some(network) = &args.network {
        build.arg("--network").arg(network);
    }
    if args.force {
        build.arg("--no-cache");
    }
    for proxy in PROXIES.into_iter().filter(|name| std::env::var_os(name).is_some()) {
        build.arg("--build-arg").arg(proxy);
    }
    if target > Flavour::Base {
        let versions = versions(folder)?;
        let node = versions.iter().find(|(name, _)| name == "NODE").context("no NODE version")?;
        let image = format!("node:{}-bookworm-slim", node.1);
        if is_there(args, &image)? {
            build.arg("--build-arg").arg(format!("NODE_IMAGE={image}"));
        }
        let authorities = authorities(Path::new(AUTHORITIES))?;
        let authorities = [("CA_CERTIFICATES".to_owned(), authorities)];
        for (name, value) in versions.iter().chain(&authorities) {
            build.arg("--build-arg").arg(format!("{name}={value}"));
        }
    }
    if target == Flavour::Full {
        build.arg("--build-arg").arg(format!("TOOLS={}", args.tools));
    }
    // The build's own words are talk: stdout says only what came of it.
    build.arg(folder).stdout(std::io::stderr());
    ensure!(build.status().context("cannot run docker")?.success(), "docker build failed");
    Ok(())
}

/// Returns what `versions` says, in its order.
fn versions(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let path = folder.join("versions");
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, version) = line.split_once('=').with_context(|| format!("{line:?} is odd"))?;
        Ok((name.to_owned(), version.to_owned()))
    };
    lines.map(pair).collect()
}

/// Returns the authorities that this machine trusts beside Debian's; empty where it has none.
fn authorities(folder: &Path) -> anyhow::Result<String> {
    let mut texts = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries.iter().filter(|path| path.extension().is_some_and(|end| end == "crt")) {
        texts.push(fs::read_to_string(path).with_context(|| path.display().to_string())?);
    }
    Ok(texts.join("\n"))
}

/// Returns whether an image is there, or can be pulled.
fn is_there(args: &ImageArgs, image: &str) -> anyhow::Result<bool> {
    let quiet = |mut command: Command| {
        let output = command.output().context("cannot run docker")?;
        anyhow::Ok(output.status.success())
    };
    let mut pull = Command::new("timeout");
    pull.args(["180", "docker", "pull", "--quiet", image]);
    at_host(&mut pull, args);
    Ok(quiet(docker(args, &["image", "inspect", image]))? || quiet(pull)?)
}

/// Builds the static binary, checks that it is static and returns its path.
///
/// # Errors
/// Fails where cargo does, or where the binary needs a dynamic loader.
pub(crate) fn inside(_args: &InsideArgs) -> anyhow::Result<PathBuf> {
    let target = host_target()?;
    // For its target alone: build scripts and every other binary keep their flags, so that nothing
    // else is built again.
    let flags = format!(r#"target.{target}.rustflags=["-C","target-feature=+crt-static"]"#);
    let mut built = command(cargo());
    built.current_dir(root());
    built.args(["build", "--locked", "--profile", "inside", "--package", "warren-inside"]);
    built.args(["--target", &target, "--config", &flags]);
    // They would win over the flags above.
    built.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    ensure!(built.status().context("cannot run cargo")?.success(), "warren-inside does not build");
    let path = target_folder().join(&target).join("inside/warren-inside");
    let binary = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if needs_loader(&binary)? {
        bail!("{} is not static: it needs a dynamic loader", path.display());
    }
    say(&format!("{} ({} KiB, static)", path.display(), binary.len() / 1024))?;
    Ok(path)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap_or_default()
}

fn target_folder() -> PathBuf {
    let default = root().join("target");
    std::env::var_os("CARGO_TARGET_DIR").map_or(default, |folder| root().join(folder))
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to stdout")
}

fn docker(args: &ImageArgs, words: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(words);
    at_host(&mut command, args);
    command
}

fn at_host(command: &mut Command, args: &ImageArgs) {
    if let Some(host) = &args.docker_host {
        command.env("DOCKER_HOST", host);
    }
}

/// Returns whether the image is there and was made of these inputs.
fn built(args: &ImageArgs, (tag, inputs): (&str, &str)) -> anyhow::Result<bool> {
    let format = format!("{{{{index .Config.Labels {LABEL:?}}}}}");
    let mut inspect = docker(args, &["image", "inspect", "--format", &format, tag]);
    let output = inspect.output().context("cannot run docker; it has to be installed first")?;
    Ok(output.status.success() && String::from_utf8_lossy(&output.stdout).trim() == inputs)
}

/// Returns a hash over the paths, the modes and the contents of everything in `folder` that goes
/// into `target`.
fn hash(folder: &Path, target: Flavour) -> anyhow::Result<String> {
    let mut files = Vec::new();
    collect(folder, &mut files).with_context(|| format!("cannot read {}", folder.display()))?;
    files.retain(|file| takes(target, file.strip_prefix(folder).unwrap_or(file)));
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let metadata = fs::symlink_metadata(&file)?;
        let content = if metadata.is_symlink() {
            fs::read_link(&file)?.into_os_string().into_encoded_bytes()
        } else {
            fs::read(&file)?
        };
        let executable = metadata.permissions().mode() & 0o111 != 0;
        let name = file.strip_prefix(folder).unwrap_or(&file).display();
        hasher.update(format!("{name}\0{executable}\0{}\0", content.len()));
        hasher.update(&content);
    }
    let digest = hasher.finalize();
    Ok(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn host_target() -> anyhow::Result<String> {
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("-vV")
        .output()
        .context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not name its host")
}

/// Returns whether a 64-bit little-endian ELF file has a program header of type `PT_INTERP`.
fn needs_loader(binary: &[u8]) -> anyhow::Result<bool> {
    const INTERPRETER: u64 = 3;
    ensure!(binary.starts_with(b"\x7fELF\x02\x01"), "it is not a 64-bit little-endian ELF file");
    let number = |at: usize, size: usize| -> anyhow::Result<u64> {
        let bytes = binary.get(at..at + size).context("the ELF file is cut short")?;
        Ok(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    };
    let (first, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for index in 0..count {
        let header = usize::try_from(first + index * size)?;
        if number(header, 4)? == INTERPRETER {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_needs_a_loader_and_text_is_no_program() {
        let own = fs::read(std::env::current_exe().expect("a path")).expect("a file");
        assert!(needs_loader(&own).expect("an ELF file"));
        assert!(needs_loader(b"#!/bin/sh\n").is_err());
        assert!(needs_loader(&own[..40]).is_err());
    }

    #[test]
    fn every_change_of_the_inputs_shows() {
        let folder = std::env::temp_dir().join(format!("warren-xtask-{}", std::process::id()));
        fs::create_dir_all(folder.join("sub")).expect("a folder");
        fs::write(folder.join("sub/file"), "a").expect("a file");
        let hash = |folder| super::hash(folder, Flavour::Base);
        let first = hash(&folder).expect("a hash");
        assert_eq!(first, hash(&folder).expect("a hash"));
        fs::write(folder.join("sub/file"), "b").expect("a file");
        let second = hash(&folder).expect("a hash");
        fs::set_permissions(folder.join("sub/file"), fs::Permissions::from_mode(0o755))
            .expect("a mode");
        let third = hash(&folder).expect("a hash");
        fs::remove_dir_all(&folder).expect("gone");
        assert!(first != second && second != third);
    }

    #[test]
    fn a_new_agent_is_no_new_small_image() {
        let takes = |target: Flavour, file: &str| super::takes(target, Path::new(file));
        for (file, least) in [
            ("Dockerfile", Flavour::Base),
            ("root/etc/profile.d/warren.sh", Flavour::Base),
            ("versions", Flavour::Agents),
            ("build/npm", Flavour::Agents),
            ("root-browsers/etc/chromium.d/warren", Flavour::Browsers),
        ] {
            for target in Flavour::ALL {
                assert_eq!(takes(target, file), target >= least, "{target:?} {file}");
            }
        }
        assert!(!takes(Flavour::Full, "README.md"));
    }

    #[test]
    fn every_version_is_asked_for_and_every_one_asked_for_is_there() {
        let folder = root().join("deploy/workspace-image");
        let dockerfile = fs::read_to_string(folder.join("Dockerfile")).expect("a Dockerfile");
        let mut asked: Vec<&str> =
            dockerfile.lines().filter_map(|line| line.strip_prefix("ARG ")).collect();
        asked.retain(|name| *name != "CA_CERTIFICATES" && !name.contains('='));
        let versions = versions(&folder).expect("versions");
        let mut named: Vec<&str> = versions.iter().map(|(name, _)| name.as_str()).collect();
        asked.sort_unstable();
        named.sort_unstable();
        assert_eq!(asked, named);
        for stage in dockerfile.split("\nFROM ").filter(|stage| stage.contains("RUN sh /build/")) {
            assert!(stage.contains("\nARG CA_CERTIFICATES\n"), "{stage}");
        }
    }
}
