//! Licences, sources and bans of the dependencies, and dependencies nobody uses.
//!
//! The policy stands in `deny.toml`, in the words of cargo-deny, which reads it too. The three
//! checks that need no network are made here from `cargo metadata`, so that a bare machine does
//! not compile a tool for minutes; advisories need the network and are cargo-deny's.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::command::{capture, cargo, files, root};

#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    name: String,
    reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    rename: Option<String>,
    kind: Option<String>,
}

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks the policy.
///
/// # Errors
/// Fails with all the findings.
pub fn run() -> Result<()> {
    let policy =
        std::fs::read_to_string(root()?.join("deny.toml")).context("cannot read deny.toml")?;
    let policy: Policy = toml::from_str(&policy).context("deny.toml does not parse")?;
    let arguments = ["metadata", "--format-version", "1", "--locked"];
    let (ok, stdout, stderr) = capture(&cargo(), &arguments)?;
    if !ok {
        bail!("cargo metadata failed: {stderr}");
    }
    let metadata: Metadata =
        serde_json::from_str(&stdout).context("cargo metadata does not parse")?;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        findings.extend(breaches(package, &policy));
    }
    for package in metadata.packages.iter().filter(|package| package.source.is_none()) {
        findings.extend(unused(package)?);
    }
    if findings.is_empty() {
        eprintln!(
            "xtask: deny holds over {} packages (advisories: cargo deny check advisories)",
            metadata.packages.len()
        );
        return Ok(());
    }
    bail!("deny finds:\n  {}", findings.join("\n  "))
}

fn breaches(package: &Package, policy: &Policy) -> Vec<String> {
    let shown = format!("{} {}", package.name, package.version);
    let mut findings = Vec::new();
    if let Some(banned) = policy.bans.deny.iter().find(|banned| banned.name == package.name) {
        findings.push(format!("{shown} is banned: {}", banned.reason));
    }
    if package.source.as_deref().is_some_and(|source| source != REGISTRY) {
        findings.push(format!("{shown} does not come from crates.io"));
    }
    match package.license.as_deref() {
        Some(license) if allowed(license, &policy.licenses.allow) => {}
        license => findings
            .push(format!("{shown} has licence {license:?}, which deny.toml does not allow")),
    }
    findings
}

/// Whether an SPDX expression is satisfied by the allowed licences: any side of OR, each of AND.
fn allowed(expression: &str, allow: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    if let Some(inner) = outer_parentheses(expression) {
        return allowed(inner, allow);
    }
    if let Some((left, right)) = split(expression, " OR ") {
        return allowed(left, allow) || allowed(right, allow);
    }
    if let Some((left, right)) = split(expression, " AND ") {
        return allowed(left, allow) && allowed(right, allow);
    }
    allow.iter().any(|name| name == expression)
}

fn outer_parentheses(expression: &str) -> Option<&str> {
    let inner = expression.strip_prefix('(')?.strip_suffix(')')?;
    let mut depth = 0_i32;
    for character in inner.chars() {
        depth += match character {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth < 0 {
            return None;
        }
    }
    Some(inner)
}

/// Splits at the first `operator` outside parentheses.
fn split<'a>(expression: &'a str, operator: &str) -> Option<(&'a str, &'a str)> {
    let mut depth = 0_i32;
    for (at, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && expression[at..].starts_with(operator) => {
                return Some((&expression[..at], &expression[at + operator.len()..]));
            }
            _ => {}
        }
    }
    None
}

/// Dependencies of one of our crates whose name none of its sources holds.
fn unused(package: &Package) -> Result<Vec<String>> {
    let root = root()?;
    let folder =
        std::path::Path::new(&package.manifest_path).parent().context("a manifest has a folder")?;
    let folder = folder.strip_prefix(&root).context("our crates stand in the checkout")?;
    let nested: Vec<String> =
        files()?.into_iter().filter(|file| file.ends_with("/Cargo.toml")).collect();
    let mut sources = BTreeMap::new();
    for file in files()?.into_iter().filter(|file| file.ends_with(".rs")) {
        let owner = nested.iter().filter_map(|manifest| manifest.strip_suffix("/Cargo.toml"));
        let owner = owner
            .filter(|owner| file.starts_with(&format!("{owner}/")))
            .max_by_key(|owner| owner.len());
        if owner == folder.to_str() {
            sources.insert(file.clone(), std::fs::read_to_string(root.join(&file))?);
        }
    }
    // a feature may be all a crate wants of a dependency; prost is used by generated code
    const GENERATED: &[&str] = &["prost", "prost-types", "tonic-prost"];
    let mut findings = Vec::new();
    for dependency in &package.dependencies {
        let name = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
        let generated =
            package.name == "warren-proto" && GENERATED.contains(&dependency.name.as_str());
        if !generated && !sources.values().any(|source| source.contains(&name)) {
            let kind = dependency.kind.as_deref().unwrap_or("normal");
            findings.push(format!(
                "{} does not use its {kind} dependency {}",
                package.name, dependency.name
            ));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions_are_read_as_spdx_does() {
        let allow: Vec<String> = ["MIT", "Apache-2.0", "ISC"].map(str::to_owned).into();
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "(MIT OR GPL-2.0) AND ISC",
            "MIT AND (ISC OR X)",
        ] {
            assert!(allowed(good, &allow), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT AND GPL-3.0) OR X", ""] {
            assert!(!allowed(bad, &allow), "{bad}");
        }
    }
}
