//! Which crate may know which: proved by what `cargo tree` does not find, and by which folder
//! names a library.

use anyhow::{Result, bail};

use crate::command::{capture, cargo, files, root};

/// Crates that must not reach a dependency, over any path of normal dependencies.
const ABSENT: &[(&str, &[&str])] = &[
    ("warren-common", &["tokio", "tonic", "prost", "tracing", "rustls"]),
    (
        "warren-model",
        &["tokio", "tonic", "prost", "tracing", "rustls", "getrandom", "sled", "redb", "openraft"],
    ),
    // pages over a stream that is there: no RPC, no TLS, no second version of HTTP
    ("warren-inside", &["tonic", "rustls", "h2", "tower", "bollard", "openraft", "sled", "redb"]),
    ("warren-cli", &["warren-model", "warren-coordinator", "openraft", "sled", "redb", "bollard"]),
    ("warren-node-agent", &["warren-coordinator", "openraft", "sled", "redb"]),
    ("warren-daemon", &["warren-model", "warren-proto", "openraft", "sled", "redb", "bollard"]),
    ("warren-coordinator", &["bollard"]),
];

/// Dependencies a crate certainly has: the probe itself must be able to find something.
const PRESENT: &[(&str, &str)] = &[
    ("warren-model", "imbl"),
    ("warren-inside", "prost"),
    ("warren-cli", "tonic"),
    ("warren-coordinator", "openraft"),
    ("warren-node-agent", "bollard"),
];

/// Libraries that only one folder may name.
const FENCES: &[(&str, &str)] = &[
    ("sled::", "coordinator/src/store/"),
    ("redb::", "coordinator/src/store/"),
    ("openraft::", "coordinator/src/raft/"),
    ("bollard::", "node-agent/src/engine/"),
];

/// What the pure crates must not name.
const IMPURE: &[&str] = &[
    "std::time::SystemTime",
    "std::time::Instant",
    "SystemTime::now",
    "Instant::now",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "HashMap<",
    "HashSet<",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "async fn",
    "println!",
    "eprintln!",
    "f32",
    "f64",
];

/// Checks every fence.
///
/// # Errors
/// Fails with all the breaches found.
pub fn run() -> Result<()> {
    let mut breaches = Vec::new();
    for &(package, dependency) in PRESENT {
        if !reaches(package, dependency)? {
            breaches.push(format!("the probe is blind: {package} should depend on {dependency}"));
        }
    }
    for &(package, dependencies) in ABSENT {
        for &dependency in dependencies {
            if reaches(package, dependency)? {
                breaches.push(format!("{package} reaches {dependency}"));
            }
        }
    }
    let root = root()?;
    for file in files()?.iter().filter(|file| file.ends_with(".rs")) {
        let source = std::fs::read_to_string(root.join(file))?;
        breaches.extend(named(file, &source));
    }
    if breaches.is_empty() {
        eprintln!("xtask: purity holds");
        return Ok(());
    }
    bail!("purity does not hold:\n  {}", breaches.join("\n  "))
}

fn reaches(package: &str, dependency: &str) -> Result<bool> {
    let arguments = ["tree", "--locked", "-p", package, "-e", "normal", "-i", dependency];
    let (ok, stdout, _) = capture(&cargo(), &arguments)?;
    Ok(ok && !stdout.trim().is_empty())
}

fn named(file: &str, source: &str) -> Vec<String> {
    let code = |line: &&str| !line.trim_start().starts_with("//");
    let mut breaches = Vec::new();
    for &(library, folder) in FENCES {
        let own = file.starts_with(folder) || file.starts_with("deploy/xtask/");
        if !own && source.lines().filter(code).any(|line| names(line, library)) {
            breaches.push(format!("{file} names {library} outside {folder}"));
        }
    }
    let pure = file.starts_with("coordinator/model/src/") || file.starts_with("common/src/");
    if pure {
        for word in IMPURE {
            if source.lines().filter(code).any(|line| names(line, word)) {
                breaches.push(format!("{file} names {word}, which a pure crate must not"));
            }
        }
    }
    breaches
}

/// Whether `line` holds `word`, not as the tail of a longer name.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breach_is_found_and_a_comment_is_none() {
        assert_eq!(named("cli/src/main.rs", "use sled::Db;\n").len(), 1);
        assert_eq!(named("cli/src/main.rs", "// sled::Db\n").len(), 0);
        assert_eq!(named("coordinator/src/store/sled.rs", "use sled::Db;\n").len(), 0);
        assert_eq!(named("coordinator/model/src/lib.rs", "use std::fs;\n").len(), 1);
        assert_eq!(named("coordinator/model/src/lib.rs", "let x = half64;\n").len(), 0);
    }
}
