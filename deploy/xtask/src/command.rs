//! Running other programs: shown before they run, checked after.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

/// Returns the root of the checkout.
pub fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_owned).context("xtask stands two folders below the root")
}

/// Returns the cargo that runs us.
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Names what is to be run, without what cargo told this program of itself: build scripts that look
/// at such a variable run again where it differs, and with them everything above their package.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_")
        });
        if told {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a program in the checkout with its output shown, and says how long it took.
///
/// # Errors
/// Fails where the program cannot be started or ends with another code than 0.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    run_with(program, arguments, &[])
}

/// As [`run`], with extra environment variables.
///
/// # Errors
/// As [`run`].
pub fn run_with(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let shown = shown(program, arguments);
    eprintln!("xtask: {shown}");
    let began = Instant::now();
    let status = command(program)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(root()?)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    eprintln!("xtask: done in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a program in the checkout and returns whether it succeeded, and what it wrote.
///
/// # Errors
/// Fails where the program cannot be started.
pub fn capture(program: &str, arguments: &[&str]) -> Result<(bool, String, String)> {
    let output = command(program)
        .args(arguments)
        .current_dir(root()?)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", shown(program, arguments)))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}

/// Returns the files git tracks or would track, relative to the root.
///
/// # Errors
/// Fails outside a checkout.
pub fn files() -> Result<Vec<String>> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let (ok, stdout, stderr) = capture("git", &arguments)?;
    if !ok {
        bail!("git ls-files failed: {stderr}");
    }
    let root = root()?;
    let exists = |file: &&str| root.join(file).is_file();
    Ok(stdout.lines().filter(exists).map(str::to_owned).collect())
}

fn shown(program: &str, arguments: &[&str]) -> String {
    let name = Path::new(program).file_name().map_or(program.into(), |name| name.to_string_lossy());
    format!("{name} {}", arguments.join(" "))
}
