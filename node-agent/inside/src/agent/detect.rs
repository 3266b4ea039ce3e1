//! Which agent a process is, by its command line.

use warren_common::agent::AgentKind;

use super::tree::{self, Life, Stat};

const SHELLS: [&str; 6] = ["bash", "sh", "dash", "zsh", "fish", "ksh"];
/// Programs that run another one, which their command line names.
const INTERPRETERS: [&str; 8] = ["node", "nodejs", "bun", "deno", "python", "ruby", "perl", "env"];
const ENDINGS: [&str; 6] = [".js", ".mjs", ".cjs", ".ts", ".py", ".sh"];
/// Parts of a path that only one agent's program has.
const PACKAGES: [(&str, AgentKind); 3] = [
    ("/@anthropic-ai/claude-code/", AgentKind::Claude),
    ("/@openai/codex/", AgentKind::Codex),
    ("/@google/gemini-cli/", AgentKind::Gemini),
];
/// Processes above the reporter that are looked at, at most.
const ANCESTORS: usize = 16;
/// Processes in the foreground of one pane that are looked at closely, at most.
const FRONT: usize = 32;

/// What runs in a pane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: AgentKind,
    /// The agent's process, or whatever leads the foreground.
    pub(super) life: Life,
    /// A shell at its prompt, as far as can be seen.
    pub(super) prompt: bool,
    /// What is in the foreground with it.
    pub(super) front: Vec<u32>,
    /// Processor time of all that runs in the pane.
    pub(super) ticks: u64,
}

/// Returns which agent or program a command line starts.
pub(super) fn kind(argv: &[String]) -> AgentKind {
    let program = program(argv);
    let path = program.path;
    if let Some((_, kind)) = PACKAGES.iter().find(|(part, _)| path.contains(part)) {
        return kind.clone();
    }
    let name = base(path);
    let name = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    if program.shell || SHELLS.contains(&name) || name.is_empty() {
        return AgentKind::Shell;
    }
    match AgentKind::named(name) {
        // nothing but control characters
        AgentKind::Other(name) if name.is_empty() => AgentKind::Shell,
        kind => kind,
    }
}

struct Program<'a> {
    path: &'a str,
    /// A shell that runs no script of a name.
    shell: bool,
}

fn program(argv: &[String]) -> Program<'_> {
    let first = argv.first().map(String::as_str).unwrap_or_default();
    // some programs write a title over their command line
    let path = first.split_ascii_whitespace().next().unwrap_or_default();
    let path = path.strip_prefix('-').unwrap_or(path);
    let name = base(path);
    let shell = SHELLS.contains(&name);
    let interpreter = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if !shell && !INTERPRETERS.contains(&interpreter) {
        return Program { path, shell: false };
    }
    for word in argv.iter().skip(1) {
        if shell && is_command(word) {
            // its text names nothing
            break;
        }
        if !(word.starts_with('-') || name == "env" && word.contains('=')) {
            return Program { path: word, shell: false };
        }
    }
    Program { path, shell }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns what runs in the pane whose first process is `root`; none where that has ended.
pub(super) fn in_pane(root: u32) -> Option<Found> {
    let all = tree::below(root);
    let first = all.first()?;
    let group = first.foreground;
    let in_front = |stat: &&Stat| group <= 0 || stat.group == group;
    let front = all.iter().filter(in_front).map(|stat| stat.life.pid).take(FRONT).collect();
    let ticks = all.iter().map(|stat| stat.ticks).sum();
    let mut leader = None;
    for stat in all.iter().filter(in_front).take(FRONT) {
        let argv = tree::argv(stat.life.pid);
        let kind = kind(&argv);
        let life = stat.life;
        if kind.tells() || kind == AgentKind::OpenCode {
            return Some(Found { kind, life, prompt: false, front, ticks });
        }
        let leads = i32::try_from(stat.life.pid).is_ok_and(|pid| pid == group);
        if leader.is_none() || leads {
            leader = Some((kind, *stat, argv));
        }
    }
    let (kind, leads, argv) = leader.unwrap_or((AgentKind::Shell, *first, Vec::new()));
    let life = leads.life;
    let alone = !all.iter().any(|stat| stat.parent == life.pid && in_front(&stat));
    // what a shell forked for a job looks like the shell and shows no prompt
    let shell = kind == AgentKind::Shell && !leads.is_copy;
    let prompt = shell && alone && !argv.iter().skip(1).any(|word| is_command(word));
    Some(Found { kind, life, prompt, front, ticks })
}

/// Returns whether the first process of a pane will be an agent: it is a shell with a command that it has
/// yet to become or runs, it is not even that shell yet, or it has become an agent a moment ago.
pub(super) fn is_on_its_way(root: u32) -> bool {
    let argv = tree::argv(root);
    let kind = kind(&argv);
    let has_command = || argv.iter().skip(1).any(|word| is_command(word));
    let is_forked = || tree::stat(root).is_some_and(|stat| tree::argv(stat.parent) == argv);
    argv.is_empty() || kind.tells() || kind == AgentKind::Shell && has_command() || is_forked()
}

/// Returns whether a word says that a shell's command follows.
fn is_command(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|word| !word.starts_with('-') && word.contains('c'))
}

/// Returns the process of the agent of this kind above `pid`: of several in a row the first, since
/// an agent may start itself again.
pub(super) fn above(pid: u32, wanted: &AgentKind) -> Option<Life> {
    let mut found = None;
    let mut next = tree::stat(pid)?.parent;
    for _ in 0..ANCESTORS {
        let Some(stat) = tree::stat(next) else { break };
        match (kind(&tree::argv(next)) == *wanted, found) {
            (true, _) => found = Some(stat.life),
            (false, Some(_)) => break,
            (false, None) => {}
        }
        next = stat.parent;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_process_that_is_yet_to_become_another_is_on_its_way() {
        let begin = |words: &[&str], script: &str| {
            let mut command = Command::new("bash");
            command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("a shell");
            let mut stdin = child.stdin.take().expect("a pipe");
            stdin.write_all(script.as_bytes()).expect("it reads");
            let mut line = String::new();
            let stdout = child.stdout.take().expect("a pipe");
            BufReader::new(stdout).read_line(&mut line).expect("it writes");
            (child, stdin, line)
        };
        // a subshell has the command line of its parent, as what was forked a moment ago
        let (mut shell, stdin, line) = begin(&["-s"], "(echo $BASHPID; read x; exit); :\n");
        let forked = line.trim().parse().expect("its id");
        assert!(is_on_its_way(forked) && !is_on_its_way(shell.id()), "{line}");
        let found = in_pane(forked).expect("it runs");
        assert!(found.kind == AgentKind::Shell && !found.prompt, "{found:?}");
        drop(stdin);
        shell.wait().expect("it ends");
        let (mut shell, stdin, _) = begin(&["-c", "echo; read; :"], "");
        assert!(is_on_its_way(shell.id()));
        drop(stdin);
        shell.wait().expect("it ends");
    }

    #[test]
    fn agents_are_told_from_other_programs() {
        for (line, word) in [
            ("claude --continue", "claude"),
            ("/usr/local/bin/claude", "claude"),
            ("node /usr/lib/node_modules/@anthropic-ai/claude-code/cli.js", "claude"),
            ("bash /home/agent/bin/claude -p", "claude"),
            ("codex", "codex"),
            ("node --no-warnings=DEP0040 /usr/local/bin/gemini", "gemini"),
            ("/usr/bin/node --max-old-space-size=12052 /opt/gemini.js", "gemini"),
            ("opencode", "opencode"),
            ("-bash", "shell"),
            ("/run/warren/bash -lc claude; true", "shell"),
            ("bash -l", "shell"),
            ("sh", "shell"),
            ("", "shell"),
            ("bash ./watch.sh all", "watch"),
            ("python3.11 -u /srv/agent.py", "agent"),
            ("python3", "python3"),
            ("env A=1 vim", "vim"),
            ("npm-run-dev", "npm-run-dev"),
            ("/usr/bin/vim claude", "vim"),
        ] {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(kind(&argv).as_str(), word, "{line}");
        }
        let titled = ["npm run dev".to_owned()];
        assert_eq!(kind(&titled).as_str(), "npm");
        let hostile = ["\u{1b}[31m".to_owned() + &"x".repeat(999)];
        assert!(kind(&hostile).as_str().len() <= 64);
        assert_eq!(kind(&["/bin/\u{1b}".to_owned()]).as_str(), "shell", "a kind is never empty");
    }
}
