//! Sizes, headers, words and leftovers: the rules of the house that no compiler knows.

use anyhow::{Result, bail};

use crate::command::{capture, files, root};

const LONG: usize = 500;
const TOO_LONG: usize = 800;
const HEADER_FROM: usize = 100;

/// Files over [`LONG`] lines, each with its reason.
const REASONED: &[(&str, &str)] = &[];

/// Words that mean something else here (`docs/GLOSSARY.md`), forbidden in public type names and
/// in the wire's names.
const WORDS: &[(&str, &str)] = &[
    ("Tenant", "Client"),
    ("Sandbox", "Workspace"),
    ("Scheduler", "Planner"),
    ("Organization", "Client"),
    ("Organisation", "Client"),
    ("Worker", "Node"),
];

/// Leftovers that no commit may hold, outside this file.
const LEFTOVERS: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "FIXME", "XXX"];

/// Largest golden file.
const GOLDEN_BYTES: u64 = 64 * 1024;

/// Checks every tracked file.
///
/// # Errors
/// Fails with all the findings.
pub fn run() -> Result<()> {
    let root = root()?;
    let mut findings = Vec::new();
    for file in files()? {
        let path = root.join(&file);
        let bytes = std::fs::read(&path)?;
        if file.contains("/golden/") && bytes.len() as u64 > GOLDEN_BYTES {
            findings
                .push(format!("{file}: {} bytes, golden files have at most 64 KiB", bytes.len()));
        }
        let Ok(text) = String::from_utf8(bytes) else {
            findings.push(format!("{file}: not text; the repository holds sources only"));
            continue;
        };
        findings
            .extend(check(&file, &text).into_iter().map(|finding| format!("{file}: {finding}")));
        if is_bash(&file, &text) {
            // bash reads a script as it runs it: a slip at its end shows only there
            let (parses, _, stderr) = capture("bash", &["-n", &file])?;
            findings.extend((!parses).then(|| format!("{file}: {}", stderr.trim())));
        }
    }
    if findings.is_empty() {
        eprintln!("xtask: tidy holds");
        return Ok(());
    }
    bail!("tidy finds:\n  {}", findings.join("\n  "))
}

fn is_bash(file: &str, text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    file.ends_with(".sh") || first.starts_with("#!") && first.ends_with("bash")
}

fn check(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    let code = [".rs", ".sh", ".py", ".ts"].iter().any(|ending| file.ends_with(ending));
    if code && lines > TOO_LONG {
        findings.push(format!("{lines} lines, {TOO_LONG} at most: split it by noun"));
    } else if code && lines > LONG && !REASONED.iter().any(|(name, _)| *name == file) {
        findings.push(format!("{lines} lines without a reason: split it by noun"));
    }
    if file.ends_with(".rs") {
        let opens = text.lines().take(3).any(|line| line.starts_with("//!"));
        if lines > HEADER_FROM && !opens {
            findings.push("over 100 lines and does not say what it is (//!)".to_owned());
        }
        if file != "deploy/xtask/src/tidy.rs" {
            findings.extend(leftovers(text));
        }
    }
    if file.ends_with(".rs") || file.ends_with(".proto") {
        findings.extend(words(text));
    }
    if file == "Cargo.lock" {
        findings.extend(mirrors(text));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push("no line end at its end".to_owned());
    }
    findings
}

fn leftovers(text: &str) -> Vec<String> {
    let found = LEFTOVERS.iter().filter(|leftover| text.contains(**leftover));
    found.map(|leftover| format!("holds {leftover}")).collect()
}

fn words(text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        let named = [
            "pub struct ",
            "pub enum ",
            "pub trait ",
            "pub type ",
            "message ",
            "service ",
            "enum ",
        ]
        .iter()
        .find_map(|keyword| line.strip_prefix(keyword));
        let Some(name) = named else { continue };
        let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        for (word, instead) in WORDS {
            if name.contains(word) {
                findings.push(format!("{name}: say {instead}, not {word}"));
            }
        }
    }
    findings
}

/// A lock file names the public registry and no other host.
fn mirrors(text: &str) -> Vec<String> {
    let foreign = |line: &&str| {
        line.starts_with("source = ") && !line.contains("github.com/rust-lang/crates.io-index")
    };
    text.lines().filter(foreign).map(|line| format!("names another registry: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_breach() {
        let long = "x\n".repeat(501);
        assert!(check("a.rs", &long).iter().any(|finding| finding.contains("without a reason")));
        assert!(check("a.rs", &"x\n".repeat(801)).iter().any(|finding| finding.contains("800")));
        assert!(check("a.rs", &"x\n".repeat(101)).iter().any(|finding| finding.contains("//!")));
        assert!(check("a.rs", &format!("//! a\n{}", "x\n".repeat(150))).is_empty());
        assert_eq!(check("a.rs", "pub struct TenantId;\n").len(), 1);
        assert_eq!(check("a.proto", "message Sandbox {}\n").len(), 1);
        assert_eq!(check("a.rs", "fn a() { todo!() }\n").len(), 1);
        assert_eq!(
            check("Cargo.lock", "source = \"registry+https://mirror.example/x\"\n").len(),
            1
        );
        assert_eq!(check("a.md", "no end").len(), 1);
        assert!(is_bash("deploy/test", "#!/usr/bin/env bash\n") && is_bash("a.sh", ""));
        assert!(!is_bash("a.py", "#!/usr/bin/env python3\n"));
    }
}
