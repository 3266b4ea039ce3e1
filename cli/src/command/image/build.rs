//! `warren image build`: an image for workspaces, built by this machine's Docker.
//!
//! Warren's own images are built from what this program carries, others from a folder with a
//! Dockerfile. Nodes are not reached from here: their engines pull from a registry, or load what is
//! carried to them, and what is printed says how.

mod files;

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use rustix::fs::{Access, access};
use serde::Serialize;
use warren_common::{
    Bytes, Limits,
    image::{AUTHORITIES, Flavour, PROXIES, TELL_TOOLS, tools, wanted_tools},
};

use crate::{
    app::App,
    error::{Error, Kind, Outcome},
};

/// Label that says which of Warren's images one is.
const FLAVOUR: &str = "warren.image.flavour";
/// Label that says which version of this program built it.
const BUILDER: &str = "warren.image.builder";

/// Arguments of `image build`.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// A folder with a Dockerfile, such as one that begins FROM warren-workspace:agents; with --flavour a
    /// folder like deploy/workspace-image instead of what this program carries.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// One of Warren's own images.
    #[arg(long, value_parser = flavours())]
    flavour: Option<Flavour>,
    /// Which tools the full image has beside the rest: all whose registry answers, none, or those of
    /// az, neon, netlify, supabase, vercel that are named, with commas between them.
    #[arg(long, value_name = "NAMES", default_value = "all", value_parser = wanted_tools)]
    tools: String,
    /// Its name, with the registry's where there is one [default: warren-workspace:latest, :agents, :browsers or :full].
    #[arg(long, value_name = "IMAGE")]
    tag: Option<String>,
    /// Push it to the registry that its name begins with.
    #[arg(long)]
    push: bool,
    /// Network of the build's steps, such as host; Docker's default without it.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Build every step anew, with today's packages.
    #[arg(long)]
    no_cache: bool,
}

/// Reads the name of one of Warren's own images.
fn flavours() -> impl TypedValueParser<Value = Flavour> {
    let one = |one: Flavour| PossibleValue::new(one.as_str()).help(one.about());
    PossibleValuesParser::new(Flavour::ALL.map(one)).try_map(|text| text.parse::<Flavour>())
}

/// Names of tools, and what is told of each.
type Notes = BTreeMap<String, String>;

/// What was built.
#[derive(Debug, Serialize)]
struct Built {
    image: String,
    /// The engine's id of it.
    id: String,
    bytes: u64,
    pushed: bool,
    /// The tools that it has, with their versions; the full image alone has any.
    tools: Notes,
    /// Those that it lacks, and why.
    left_out: Notes,
    /// How it reaches nodes, and workspaces then.
    next: Vec<String>,
}

pub(super) fn run(app: &App, build: &Build) -> Outcome {
    if build.folder.is_none() && build.flavour.is_none() {
        return Err(Error::usage("nothing says what is to be built")
            .next("name a folder with a Dockerfile, or one of Warren's own: --flavour agents"));
    }
    let tag = build.tag.as_deref().or(build.flavour.map(Flavour::tag));
    let tag = tag.ok_or_else(|| {
        Error::usage("the image has no name").next("give it one: --tag agents:2026-11")
    })?;
    named(tag)?;
    if build.tools != "all" && build.flavour != Some(Flavour::Full) {
        return Err(Error::usage("only the full image has tools to choose from")
            .next("leave --tools out, or build that one: --flavour full"));
    }
    let laid = match (&build.folder, build.flavour) {
        (None, Some(_)) => Some(files::Folder::lay().map_err(|error| {
            Error::new(Kind::Failed, "BUILD_FAILED", "the image's files cannot be laid out")
                .why(error.to_string())
                .next("set TMPDIR to a folder that can be written")
        })?),
        _ => None,
    };
    let folder = laid.as_ref().map(files::Folder::path).or(build.folder.as_deref());
    let folder = folder.ok_or_else(|| Error::usage("no folder is named"))?;
    if build.flavour.is_some() {
        ready(folder, laid.is_some(), Path::new("timeout"))?;
    }
    if !folder.join("Dockerfile").is_file() {
        let shown = folder.display();
        return Err(Error::usage(format!("there is no Dockerfile in {shown}"))
            .next("name the folder that has it, or one of Warren's own: --flavour agents"));
    }
    app.output.talk(&format!("{tag} is built from {}", folder.display()));
    if build.flavour.is_some() {
        debian(folder)?;
    }
    talking(&mut command(build, folder, tag)?, "the image does not build")?;
    if build.push {
        talking(docker().args(["push", tag]), "the image cannot be pushed")?;
    }
    let mut built = inspect(tag, build.push)?;
    if build.flavour == Some(Flavour::Full) {
        (built.tools, built.left_out) = told(tag)?;
    }
    app.output.object(&built, &built.image, || built.text())?;
    Ok(0)
}

/// Refuses a name that no workspace could have.
fn named(tag: &str) -> Result<(), Error> {
    let odd = |letter: char| !(letter.is_ascii_alphanumeric() || "-_.:/@".contains(letter));
    let fits = !tag.is_empty() && tag.len() <= Limits::LABEL_BYTES;
    match fits && !tag.starts_with('-') && !tag.contains(odd) {
        true => Ok(()),
        false => Err(Error::usage(format!("{tag:?} is no name of an image"))
            .next("give it one like agents:2026-11 or registry.example/agents:2026-11")),
    }
}

fn docker() -> Command {
    let mut docker = Command::new("docker");
    docker.stdin(Stdio::null());
    docker
}

/// Makes sure that this machine has what the build of Warren's own images runs; a folder that was
/// `laid` out for it is gone when this is read.
fn ready(folder: &Path, laid: bool, timeout: &Path) -> Result<(), Error> {
    let lacks = |what: &str| Error::new(Kind::Failed, "BUILD_NEEDS", what);
    let asked = output(Command::new(timeout).args(["1", "true"]).stdin(Stdio::null()));
    if !asked.is_ok_and(|asked| asked.status.success()) {
        return Err(lacks("the build needs the program timeout, and it does not run here")
            .next("install it: it is part of coreutils"));
    }
    let program = folder.join("base");
    let Ok(facts) = fs::metadata(&program) else { return Ok(()) };
    let shown = folder.display();
    let next = |own: String| match laid {
        true => "set TMPDIR to a folder whose programs run, such as one in your home".to_owned(),
        false => own,
    };
    if facts.permissions().mode() & 0o111 == 0 {
        return Err(lacks(&format!("{} is a program and not marked as one", program.display()))
            .next(next(format!("chmod +x {}", program.display()))));
    }
    access(&program, Access::EXEC_OK).map_err(|error| {
        lacks(&format!("the build runs a program in {shown}, and nothing may run there"))
            .why(format!("{error}: it may be mounted noexec"))
            .next(next(format!("copy {shown} to where programs run, and name that folder")))
    })
}

/// Makes sure of what the images begin with, as the folder's own program does.
fn debian(folder: &Path) -> Result<(), Error> {
    let program = folder.join("base");
    if !program.exists() {
        return Ok(());
    }
    talking(Command::new(program).stdin(Stdio::null()), "there is nothing to build it on")
}

/// Returns the build of an image.
fn command(build: &Build, folder: &Path, tag: &str) -> Result<Command, Error> {
    let mut command = docker();
    command.args(["build", "--tag", tag]);
    command.arg("--label").arg(format!("{BUILDER}=warren {}", env!("CARGO_PKG_VERSION")));
    if let Some(network) = &build.network {
        command.args(["--network", network]);
    }
    if build.no_cache {
        command.arg("--no-cache");
    }
    for proxy in PROXIES.into_iter().filter(|name| std::env::var_os(name).is_some()) {
        // its value is taken from the environment
        command.args(["--build-arg", proxy]);
    }
    if let Some(flavour) = build.flavour {
        let stage = flavour.as_str();
        command.args(["--target", stage, "--label", &format!("{FLAVOUR}={stage}")]);
        if flavour > Flavour::Base {
            for argument in arguments(folder)? {
                command.args(["--build-arg", &argument]);
            }
        }
        if flavour == Flavour::Full {
            command.args(["--build-arg", &format!("TOOLS={}", build.tools)]);
        }
    }
    command.arg(folder);
    Ok(command)
}

/// Returns the versions of what goes into an image, and what its builder trusts.
fn arguments(folder: &Path) -> Result<Vec<String>, Error> {
    let path = folder.join("versions");
    let text = fs::read_to_string(&path).map_err(|error| {
        Error::usage(format!("{} cannot be read", path.display())).why(error.to_string())
    })?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut arguments: Vec<String> = lines.map(str::to_owned).collect();
    let node = arguments.iter().find_map(|line| line.strip_prefix("NODE="));
    if let Some(image) = node.map(|version| format!("node:{version}-bookworm-slim"))
        && is_there(&image)?
    {
        arguments.push(format!("NODE_IMAGE={image}"));
    }
    let mut authorities: Vec<PathBuf> = fs::read_dir(AUTHORITIES)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "crt"))
        .collect();
    authorities.sort();
    let texts = authorities.iter().filter_map(|path| fs::read_to_string(path).ok());
    let texts: Vec<String> = texts.collect();
    arguments.push(format!("CA_CERTIFICATES={}", texts.join("\n")));
    Ok(arguments)
}

/// Returns whether an image is there, or can be pulled.
fn is_there(image: &str) -> Result<bool, Error> {
    if output(docker().args(["image", "inspect", image]))?.status.success() {
        return Ok(true);
    }
    let mut pull = Command::new("timeout");
    pull.args(["180", "docker", "pull", "--quiet", image]).stdin(Stdio::null());
    Ok(output(&mut pull)?.status.success())
}

fn inspect(tag: &str, pushed: bool) -> Result<Built, Error> {
    let found = output(docker().args(["image", "inspect", "--format", "{{.Id}} {{.Size}}", tag]))?;
    let text = String::from_utf8_lossy(&found.stdout);
    let parts = text.trim().split_once(' ').and_then(|(id, size)| Some((id, size.parse().ok()?)));
    let (id, bytes) = parts.filter(|_| found.status.success()).ok_or_else(|| {
        let why = String::from_utf8_lossy(&found.stderr).trim().to_owned();
        Error::new(Kind::Failed, "BUILD_FAILED", format!("{tag} was built and is not there"))
            .why(why)
    })?;
    let reach = match pushed {
        true => "nodes whose engines may pull from that registry get it with their first workspace",
        false => "each node needs it",
    };
    let mut next = vec![reach.to_owned()];
    if !pushed {
        next.push(format!("  docker save {tag} | ssh NODE docker load"));
        next.push("  or name it with a registry and build it with --push".to_owned());
    }
    next.push(format!("warren image rollout {tag} --from IMAGE moves workspaces to it"));
    let (tools, left_out) = <_>::default();
    Ok(Built { image: tag.to_owned(), id: id.to_owned(), bytes, pushed, tools, left_out, next })
}

/// Returns the tools that the full image has, and why it lacks others.
fn told(tag: &str) -> Result<(Notes, Notes), Error> {
    let held = ["run", "--rm", "--network=none", "--read-only", "--entrypoint=/bin/sh"];
    let said = output(docker().args(held).args([tag, "-c", TELL_TOOLS]))?;
    let (mut there, mut left_out) = (Notes::new(), Notes::new());
    for (name, note) in tools(&String::from_utf8_lossy(&said.stdout)) {
        match note {
            Ok(version) => there.insert(name, version),
            Err(why) => left_out.insert(name, why),
        };
    }
    Ok((there, left_out))
}

impl Built {
    fn text(&self) -> String {
        let Self { image, id, bytes, pushed, tools, left_out, next } = self;
        let id = id.strip_prefix("sha256:").unwrap_or(id);
        let id = id.get(..12).unwrap_or(id);
        let pushed = if *pushed { ", pushed" } else { "" };
        let with = tools.iter().map(|(name, version)| format!("  with {name} {version}\n"));
        let without = left_out.iter().map(|(name, why)| format!("  without {name}: {why}\n"));
        let tools: String = with.chain(without).collect();
        format!("{image} ({id}, {}{pushed})\n{tools}{}\n", Bytes(*bytes), next.join("\n"))
    }
}

/// Runs a program whose words are talk.
fn talking(command: &mut Command, failed: &str) -> Result<(), Error> {
    std::io::stderr().flush().ok();
    let status = command.stdout(std::io::stderr()).status();
    let status = status.map_err(|error| missing(command, &error))?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::new(Kind::Failed, "BUILD_FAILED", failed)
            .why(format!("{} ended with {status}", command.get_program().to_string_lossy()))
            .next("mend what stands above, and run the same command again")),
    }
}

fn output(command: &mut Command) -> Result<Output, Error> {
    command.output().map_err(|error| missing(command, &error))
}

fn missing(command: &Command, error: &std::io::Error) -> Error {
    let program = command.get_program();
    if program != "docker" {
        let what = format!("{} cannot be run on this machine", program.to_string_lossy());
        return Error::new(Kind::Failed, "BUILD_NEEDS", what).why(error.to_string());
    }
    Error::new(Kind::Failed, "NO_DOCKER", "docker cannot be run on this machine")
        .why(error.to_string())
        .next("install Docker here, or run this where it is; DOCKER_HOST names another engine")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(made: Result<(), Error>) -> (String, String) {
        let error = made.expect_err("it lacks something");
        (error.message, error.next.expect("what to do"))
    }

    #[test]
    fn what_the_build_runs_is_looked_at_before_anything_is_built() {
        let folder = files::Folder::lay().expect("laid out");
        let timeout = Path::new("timeout");
        ready(folder.path(), true, timeout).expect("this machine has all of it");
        let nothing = folder.path().join("nothing");
        let (why, _) = said(ready(folder.path(), true, &nothing));
        assert!(why.contains("the program timeout"), "{why}");
        let base = folder.path().join("base");
        fs::set_permissions(&base, fs::Permissions::from_mode(0o644)).expect("changed");
        let (why, next) = said(ready(folder.path(), false, timeout));
        assert!(why.contains("not marked as one"), "{why}");
        assert_eq!(next, format!("chmod +x {}", base.display()));
        let (_, next) = said(ready(folder.path(), true, timeout));
        assert!(next.contains("TMPDIR"), "its folder is gone by then: {next}");
        fs::remove_file(&base).expect("removed");
        ready(folder.path(), true, timeout).expect("a folder of one's own need not have it");
    }
}
