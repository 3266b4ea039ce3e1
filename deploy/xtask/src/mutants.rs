//! Takes one wall away at a time and sees that a test notices.
//!
//! A mutant is the node agent with one line changed, built from a copy of the checkout; the tests
//! that run against it are the ones of the checkout. First they must pass with nothing changed:
//! a test that fails anyway notices nothing.

mod walls;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::command::{cargo, command, files, root};

/// Where the tests take the node agent from, where it is set.
const AGENT: &str = "WARREN_TEST_NODE_AGENT";

/// What can be taken away.
pub const NAMES: [&str; 1] = ["walls"];

/// Which mutants.
#[derive(Debug, Args)]
pub struct MutantsArgs {
    /// What is taken away: walls (of the containers, their networks and homes; needs root)
    #[arg(value_parser = NAMES)]
    name: String,
    /// Only the first so many
    #[arg(long)]
    n: Option<usize>,
    /// Only those with this in their name
    #[arg(long)]
    only: Option<String>,
    /// Name them and do nothing
    #[arg(long)]
    list: bool,
}

/// One change of one file that some test must notice.
struct Mutant {
    /// What is gone.
    name: &'static str,
    /// The file below the root.
    file: &'static str,
    /// Text that stands in it exactly once.
    from: &'static str,
    /// What stands there instead.
    to: &'static str,
    /// The test of `tests/security` that must fail.
    test: &'static str,
}

/// Makes the mutants one after the other.
///
/// # Errors
/// Fails where a mutant survives, where a test fails without one, or where a mutant's text is not
/// where it should be.
pub fn run(args: &MutantsArgs) -> Result<()> {
    let wanted = |mutant: &&Mutant| {
        args.only.as_ref().is_none_or(|part| mutant.name.contains(part.as_str()))
    };
    let limit = args.n.unwrap_or(usize::MAX);
    let mutants: Vec<&Mutant> = walls::MUTANTS.iter().filter(wanted).take(limit).collect();
    ensure!(!mutants.is_empty(), "there is no such mutant; --list names them");
    if args.list {
        for mutant in mutants {
            println!("{:<28} {}", mutant.name, mutant.test);
        }
        return Ok(());
    }
    let tree = Tree::copy()?;
    for mutant in &mutants {
        tree.changed(mutant).with_context(|| format!("{} cannot be made", mutant.name))?;
    }
    let mut tests: Vec<&str> = mutants.iter().map(|mutant| mutant.test).collect();
    tests.sort_unstable();
    tests.dedup();
    let agent = tree.build()?;
    for test in tests {
        ensure!(tree.passes(test, &agent)?, "{test} fails with nothing changed");
    }
    let mut survivors = Vec::new();
    for (number, mutant) in mutants.iter().enumerate() {
        let began = Instant::now();
        let noticed = tree.noticed(mutant)?;
        let verdict = if noticed { "noticed by" } else { "SURVIVES" };
        let (number, all, took) = (number + 1, mutants.len(), began.elapsed().as_secs());
        println!("{number:>2} of {all}  {:<28} {verdict} {} ({took} s)", mutant.name, mutant.test);
        if !noticed {
            survivors.push(mutant.name);
        }
    }
    if !survivors.is_empty() {
        bail!("nothing notices without: {}", survivors.join(", "));
    }
    println!("each of {} is noticed", mutants.len());
    Ok(())
}

/// A copy of the checkout with a build of its own, kept between runs.
struct Tree {
    root: PathBuf,
    build: PathBuf,
}

impl Tree {
    /// Brings the copy up to date. What has not changed keeps its time, so that it is not built again.
    fn copy() -> Result<Self> {
        let from = root()?;
        let place = from.join("target/mutants");
        let tree = Self { root: place.join("tree"), build: place.join("build") };
        for file in files()? {
            let (old, new) = (from.join(&file), tree.root.join(&file));
            let text = fs::read(&old)?;
            if fs::read(&new).is_ok_and(|there| there == text) {
                continue;
            }
            fs::create_dir_all(new.parent().context("a file stands in a folder")?)?;
            fs::copy(&old, &new)?;
        }
        tree.seed()?;
        Ok(tree)
    }

    /// Lends the copy what the checkout has built of other people's code: the same libraries by
    /// another name, which neither build writes to again. What cargo notes of them, and writes to, is
    /// copied.
    fn seed(&self) -> Result<()> {
        let (from, to) = (root()?.join("target/debug"), self.build.join("debug"));
        if to.exists() || !from.exists() {
            return Ok(());
        }
        let part = self.build.join("debug.part");
        for folder in ["build", ".fingerprint"] {
            fs::create_dir_all(&part)?;
            let copied = Command::new("cp").arg("-a").arg(from.join(folder)).arg(&part).status()?;
            ensure!(copied.success(), "{folder} cannot be copied");
        }
        let deps = part.join("deps");
        fs::create_dir_all(&deps)?;
        for entry in fs::read_dir(from.join("deps"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = name.rsplit_once('.').map_or("", |(_, kind)| kind);
            match kind {
                _ if is_own(&name) => {}
                "d" => drop(fs::copy(entry.path(), deps.join(&name))?),
                "rlib" | "rmeta" | "so" => fs::hard_link(entry.path(), deps.join(&name))?,
                _ => {}
            }
        }
        for entry in fs::read_dir(part.join(".fingerprint"))? {
            let entry = entry?;
            if is_own(&entry.file_name().to_string_lossy()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(fs::rename(part, to)?)
    }

    /// Returns a mutant's file with the change made.
    fn changed(&self, mutant: &Mutant) -> Result<(PathBuf, String, String)> {
        let path = self.root.join(mutant.file);
        let text = fs::read_to_string(&path).with_context(|| mutant.file.to_owned())?;
        let count = text.matches(mutant.from).count();
        ensure!(count == 1, "{:?} stands {count} times in {}", mutant.from, mutant.file);
        let changed = text.replacen(mutant.from, mutant.to, 1);
        Ok((path, text, changed))
    }

    /// Builds the node agent and returns where it is.
    fn build(&self) -> Result<PathBuf> {
        // the whole workspace, so that libraries have the features they were built with
        let arguments = ["build", "--locked", "--workspace", "--bin", "warren-node-agent"];
        eprintln!("xtask: cargo {} (mutants)", arguments.join(" "));
        let built = command(cargo())
            .args(arguments)
            .arg("--quiet")
            .env("CARGO_TARGET_DIR", &self.build)
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .status()?;
        ensure!(built.success(), "it does not build");
        Ok(self.build.join("debug/warren-node-agent"))
    }

    /// Returns whether a test passes with this agent.
    fn passes(&self, test: &str, agent: &Path) -> Result<bool> {
        let log = self.build.join("test.log");
        let (out, also) = {
            let out = fs::File::create(&log)?;
            (out.try_clone()?, out)
        };
        let status = command(cargo())
            .args(["test", "--locked", "--quiet", "--workspace", "--test", "security", "--"])
            .args(["--exact", test])
            .env(AGENT, agent)
            .current_dir(root()?)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(also)
            .status()?;
        let text = fs::read_to_string(&log).unwrap_or_default();
        ensure!(text.contains("running 1 test"), "there is no test {test}:\n{text}");
        if !status.success() && env::var_os("WARREN_MUTANTS_SHOW").is_some() {
            eprintln!("{text}");
        }
        Ok(status.success())
    }

    /// Makes the mutant, runs its test and takes the change back.
    fn noticed(&self, mutant: &Mutant) -> Result<bool> {
        let (path, text, changed) = self.changed(mutant)?;
        fs::write(&path, changed)?;
        let outcome = self.build().and_then(|agent| self.passes(mutant.test, &agent));
        fs::write(&path, text)?;
        // later than the build, so that the next one sees it
        fs::File::options().write(true).open(&path)?.set_modified(SystemTime::now())?;
        Ok(!outcome.with_context(|| mutant.name.to_owned())?)
    }
}

/// Whether a file of a build is of the workspace's own code.
fn is_own(name: &str) -> bool {
    let name = name.strip_prefix("lib").unwrap_or(name);
    name.starts_with("warren") || name.starts_with("xtask")
}
