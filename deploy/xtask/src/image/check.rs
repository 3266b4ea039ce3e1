//! Whether what an image holds starts at all, held as a workspace is.
//!
//! Without PID 1, the node's own filter and its network: that every agent works in a real
//! workspace is what `cargo xtask agents` is about.

use std::{
    io::Write as _,
    process::{Command, Output},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use warren_common::image::{TELL_TOOLS, tools};

use super::{Flavour, ImageArgs, docker, root, versions};

/// A program of an image: how it is asked for its version, and whose version that is.
struct Program {
    least: Flavour,
    words: &'static [&'static str],
    /// Its line in `versions`; none for what is Debian's.
    version: Option<&'static str>,
}

const fn of(
    least: Flavour,
    words: &'static [&'static str],
    version: Option<&'static str>,
) -> Program {
    Program { least, words, version }
}

const PROGRAMS: [Program; 25] = [
    of(Flavour::Base, &["git", "--version"], None),
    of(Flavour::Base, &["tmux", "-V"], None),
    of(Flavour::Base, &["bash", "--version"], None),
    of(Flavour::Base, &["rg", "--version"], None),
    of(Flavour::Agents, &["node", "--version"], Some("NODE")),
    of(Flavour::Agents, &["npm", "--version"], None),
    of(Flavour::Agents, &["pnpm", "--version"], Some("PNPM")),
    of(Flavour::Agents, &["bun", "--version"], Some("BUN")),
    of(Flavour::Agents, &["claude", "--version"], Some("CLAUDE_CODE")),
    of(Flavour::Agents, &["codex", "--version"], Some("CODEX")),
    of(Flavour::Agents, &["gemini", "--version"], Some("GEMINI_CLI")),
    of(Flavour::Agents, &["git", "lfs", "version"], None),
    of(Flavour::Agents, &["gh", "--version"], None),
    of(Flavour::Browsers, &["chromium", "--version"], None),
    of(Flavour::Browsers, &["playwright", "--version"], Some("PLAYWRIGHT")),
    of(Flavour::Browsers, &["playwright-mcp", "--version"], Some("PLAYWRIGHT_MCP")),
    of(Flavour::Browsers, &["Xvfb", "-help"], None),
    of(Flavour::Browsers, &["x11vnc", "-version"], None),
    of(Flavour::Browsers, &["openbox", "--version"], None),
    of(Flavour::Full, &["code-server", "--version"], Some("CODE_SERVER")),
    of(Flavour::Full, &["az", "version"], Some("AZURE_CLI")),
    of(Flavour::Full, &["neonctl", "--version"], Some("NEON")),
    of(Flavour::Full, &["netlify", "--version"], Some("NETLIFY")),
    of(Flavour::Full, &["supabase", "--version"], Some("SUPABASE")),
    of(Flavour::Full, &["vercel", "--version"], Some("VERCEL")),
];

/// What holds a workspace: no rights, no network, a root that is read only.
const HELD: [&str; 16] = [
    "--rm",
    "--network=none",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--user=1000:1000",
    "--memory=2g",
    "--pids-limit=1024",
    "--tmpfs=/home/agent:exec,uid=1000,gid=1000",
    "--tmpfs=/tmp:exec",
    "--tmpfs=/run:noexec,uid=1000,gid=1000",
    "--env=HOME=/home/agent",
    "--env=USER=agent",
    "--entrypoint=timeout",
    "--workdir=/home/agent",
    "--init=false",
];

/// Starts each program of the image and prints a table.
///
/// # Errors
/// Fails where one does not start, or is of another version than `versions` says.
pub(super) fn run(args: &ImageArgs, target: Flavour, tag: &str) -> Result<()> {
    let versions = versions(&root().join("deploy/workspace-image"))?;
    let told = started(args, tag, &["sh", "-c", TELL_TOOLS])?;
    let told = tools(&String::from_utf8_lossy(&told.stdout));
    let mut stdout = std::io::stdout();
    let mut wrong = Vec::new();
    writeln!(stdout, "{:<16}{:>7}  version", "program", "ms")?;
    for program in PROGRAMS.iter().filter(|program| program.least <= target) {
        let name = if program.words[1] == "lfs" { "git-lfs" } else { program.words[0] };
        let tool = name.strip_suffix("ctl").unwrap_or(name);
        if let Some(Err(why)) = told.get(tool) {
            writeln!(stdout, "{name:<16}{:>7}  without it: {why}", "-")?;
            continue;
        }
        let wanted = program.version.and_then(|version| {
            let found = versions.iter().find(|(name, _)| name == version);
            found.map(|(_, version)| version.as_str())
        });
        let began = Instant::now();
        let output = started(args, tag, program.words)?;
        let took = began.elapsed().as_millis();
        let said = said(&output, wanted);
        let right = output.status.success() && wanted.is_none_or(|wanted| said.contains(wanted));
        writeln!(stdout, "{name:<16}{took:>7}  {}{said}", if right { "" } else { "WRONG: " })?;
        if !right {
            wrong.push(name);
        }
    }
    ensure!(wrong.is_empty(), "not as they should be in {tag}: {}", wrong.join(", "));
    Ok(())
}

fn started(args: &ImageArgs, tag: &str, words: &[&str]) -> Result<Output> {
    let mut run: Command = docker(args, &["run"]);
    run.args(HELD).arg(tag).arg("60").args(words);
    run.output().context("cannot run docker")
}

/// Returns the line that names the wanted version, else the first one; some tell it on their
/// standard error.
fn said(output: &Output, wanted: Option<&str>) -> String {
    let both = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let mut lines = both.iter().flat_map(|text| text.lines()).filter(|line| !line.is_empty());
    let first = lines.clone().next().unwrap_or("nothing");
    let line = wanted.and_then(|wanted| lines.find(|line| line.contains(wanted)));
    line.unwrap_or(first).chars().take(100).collect()
}
