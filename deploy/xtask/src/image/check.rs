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

const PROGRAMS: [Program; 29] = [
    of(Flavour::Base, &["git", "--version"], None),
    of(Flavour::Base, &["tmux", "-V"], None),
    of(Flavour::Base, &["bash", "--version"], None),
    of(Flavour::Base, &["rg", "--version"], None),
    of(Flavour::Base, &["curl", "--version"], None),
    of(Flavour::Base, &["ssh", "-V"], None),
    of(Flavour::Base, &["python3", "--version"], None),
    of(Flavour::Agents, &["node", "--version"], Some("NODE")),
    of(Flavour::Agents, &["npm", "--version"], None),
    of(Flavour::Agents, &["pnpm", "--version"], Some("PNPM")),
    of(Flavour::Agents, &["bun", "--version"], Some("BUN")),
    of(Flavour::Agents, &["claude", "--version"], Some("CLAUDE_CODE")),
    of(Flavour::Agents, &["codex", "--version"], Some("CODEX")),
    of(Flavour::Agents, &["gemini", "--version"], Some("GEMINI_CLI")),
    of(Flavour::Agents, &["git", "lfs", "version"], None),
    of(Flavour::Agents, &["gh", "--version"], None),
    of(Flavour::Agents, &["jq", "--version"], None),
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

/// What a program's version does not show: a script for bash, and what one of its lines must hold.
struct Work {
    least: Flavour,
    name: &'static str,
    script: &'static str,
    says: &'static str,
}

const fn work(
    least: Flavour,
    name: &'static str,
    script: &'static str,
    says: &'static str,
) -> Work {
    Work { least, name, script, says }
}

const WORKS: [Work; 8] = [
    work(
        Flavour::Base,
        "no rights",
        "find / -xdev -type f -perm /6000 2>/dev/null | grep . || getent passwd agent",
        "agent:x:1000:",
    ),
    work(
        Flavour::Agents,
        "git-lfs filter",
        "git config --system --get filter.lfs.process",
        "git-lfs filter-process",
    ),
    work(
        Flavour::Browsers,
        "fonts",
        "cd /usr/share/fonts && for one in LiberationSans-Regular NotoColorEmoji NotoSansCJK-Regular; do
           find . -name \"$one.*\" | grep . || exit 1; done; echo all",
        "all",
    ),
    // what the pages of a display and of a terminal ask for first
    work(
        Flavour::Browsers,
        "pages",
        "cd /usr/local/lib/node_modules && ls @novnc/novnc/core/rfb.js @xterm/xterm/css/xterm.css \
           @xterm/xterm/lib/xterm.js && echo all",
        "all",
    ),
    work(
        Flavour::Browsers,
        "display",
        "Xvfb :99 -screen 0 800x600x24 -nolisten tcp -noreset & for _ in {1..100}; do
           test -S /tmp/.X11-unix/X99 && break; sleep 0.1; done
         x11vnc -display :99 -noshm -nolookup -nopw -localhost -rfbport 5999 -timeout 2",
        "PORT=5999",
    ),
    work(
        Flavour::Browsers,
        "browser",
        "NODE_PATH=/usr/local/lib/node_modules node -e \"(async () => {
           const executablePath = process.env.PLAYWRIGHT_MCP_EXECUTABLE_PATH;
           const options = { executablePath, args: ['--disable-gpu'] };
           const browser = await require('playwright').chromium.launch(options);
           const page = await browser.newPage();
           await page.setContent('<b>drawn by </b><i>' + browser.version() + '</i>');
           console.log(await page.textContent('body'));
           await browser.close();
         })().catch((error) => { console.error(error); process.exit(1); })\"",
        "drawn by ",
    ),
    work(
        Flavour::Browsers,
        "browsers by MCP",
        r#"(echo '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}'
          sleep 10) | timeout 30 playwright-mcp --headless --no-sandbox | grep -m 1 serverInfo"#,
        "serverInfo",
    ),
    work(
        Flavour::Full,
        "editor",
        "code-server --socket ~/editor.sock --auth none --disable-telemetry --disable-update-check >&2 &
         for _ in {1..150}; do
           curl --silent --fail --unix-socket ~/editor.sock http://editor/healthz && break; sleep 0.3
         done; kill $!",
        "lastHeartbeat",
    ),
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

/// Starts each program of the image, has some of them do what they are there for, and prints a table.
///
/// # Errors
/// Fails where one does not start, is of another version than `versions` says, or does not work.
pub(super) fn run(args: &ImageArgs, target: Flavour, tag: &str) -> Result<()> {
    let versions = versions(&root().join("deploy/workspace-image"))?;
    let told = started(args, tag, &["sh", "-c", TELL_TOOLS])?;
    let told = tools(&String::from_utf8_lossy(&told.stdout));
    let mut wrong = Vec::new();
    writeln!(std::io::stdout(), "{:<16}{:>7}  version", "program", "ms")?;
    for program in PROGRAMS.iter().filter(|program| program.least <= target) {
        let name = if program.words[1] == "lfs" { "git-lfs" } else { program.words[0] };
        if let Some(Err(why)) = told.get(name.strip_suffix("ctl").unwrap_or(name)) {
            writeln!(std::io::stdout(), "{name:<16}{:>7}  without it: {why}", "-")?;
            continue;
        }
        let wanted = program.version.and_then(|version| {
            let found = versions.iter().find(|(name, _)| name == version);
            found.map(|(_, version)| version.as_str())
        });
        if !holds(args, tag, (name, program.words, wanted))? {
            wrong.push(name);
        }
    }
    for work in WORKS.iter().filter(|work| work.least <= target) {
        let words = ["bash", "-c", work.script];
        if !holds(args, tag, (work.name, &words, Some(work.says)))? {
            wrong.push(work.name);
        }
    }
    ensure!(wrong.is_empty(), "not as they should be in {tag}: {}", wrong.join(", "));
    Ok(())
}

/// Runs `words` and prints a line of the table; returns whether they ended well and said `wanted`.
fn holds(
    args: &ImageArgs,
    tag: &str,
    (name, words, wanted): (&str, &[&str], Option<&str>),
) -> Result<bool> {
    let began = Instant::now();
    let output = started(args, tag, words)?;
    let took = began.elapsed().as_millis();
    let said = said(&output, wanted);
    let right = output.status.success() && wanted.is_none_or(|wanted| said.contains(wanted));
    let shown = if right { "" } else { "WRONG: " };
    writeln!(std::io::stdout(), "{name:<16}{took:>7}  {shown}{said}")?;
    Ok(right)
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
