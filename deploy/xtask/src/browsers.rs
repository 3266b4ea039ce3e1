//! Whether what is shown of browsers is what they show: Debian's Chromium, alone and driven by
//! Playwright in its several forms, looked at by the real PID 1.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command::{cargo, root, run_with},
    packages,
};

/// What the tests start beside Playwright.
const PROGRAMS: [(&str, &str); 2] =
    [("/usr/lib/chromium/chromium", "chromium"), ("/usr/bin/Xvfb", "xvfb")];
/// What drives browsers, by its lines in `versions`.
const PACKAGES: [(&str, &str); 3] = [
    ("PLAYWRIGHT", "playwright"),
    ("PLAYWRIGHT", "@playwright/test"),
    ("PLAYWRIGHT_MCP", "@playwright/mcp"),
];

/// Fetches Playwright where it was not, in the versions of the image, runs the tests that take it
/// and prints what was measured.
///
/// # Errors
/// Fails without Chromium, Xvfb, Node.js and Python, or where a test does.
pub fn run() -> Result<()> {
    for (path, package) in PROGRAMS {
        if !Path::new(path).exists() {
            bail!("{path} is missing; apt-get install {package}");
        }
    }
    let folder = root()?.join("target/browsers");
    let python = folder.join("python");
    packages::npm(&folder, &PACKAGES)?;
    packages::python(&python, ("PLAYWRIGHT", "playwright"))?;
    let (modules, python) = (folder.join("node_modules"), python.join("bin/python"));
    let facts = folder.join("facts.txt");
    fs::write(&facts, "").with_context(|| format!("cannot write {}", facts.display()))?;
    let test = ["test", "--workspace", "--locked", "--test", "browsers"];
    let one_by_one = ["--", "--test-threads", "1"];
    let text = |path: &Path| path.to_str().context("a path is not UTF-8").map(str::to_owned);
    let found = [text(&modules)?, text(&python)?, text(&facts)?];
    let names = ["WARREN_NODE_MODULES", "WARREN_PYTHON", "WARREN_FACTS"];
    let variables: Vec<(&str, &str)> =
        names.into_iter().zip(found.iter().map(String::as_str)).collect();
    run_with(&cargo(), &[&test[..], &one_by_one].concat(), &variables)?;
    let table = table(&fs::read_to_string(&facts)?);
    ensure!(!table.is_empty(), "the tests measured nothing");
    println!("{table}");
    Ok(())
}

/// Returns lines of `column=word` as one table, its columns in the order of the first line.
fn table(facts: &str) -> String {
    let lines: Vec<Vec<(&str, &str)>> = facts
        .lines()
        .map(|line| line.split('\t').filter_map(|pair| pair.split_once('=')).collect())
        .collect();
    let Some(first) = lines.first() else { return String::new() };
    let columns: Vec<&str> = first.iter().map(|(column, _)| *column).collect();
    let word = |line: &[(&str, &str)], column: &str| {
        let found = line.iter().find(|(name, _)| *name == column);
        found.map_or("-", |(_, word)| word).to_owned()
    };
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|name| (*name).to_owned()).collect()];
    rows.extend(lines.iter().map(|line| columns.iter().map(|name| word(line, name)).collect()));
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let shown = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(at, cell)| format!("{cell:<0$}", width(at)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(shown).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_stand_in_columns_and_what_was_not_measured_is_a_dash() {
        let facts = "driver=chromium\tURL=12 ms\thung=1 s\ndriver=@playwright/mcp\thung=2 s\n";
        let expected = "driver           URL    hung\nchromium         12 ms  1 s\n\
                        @playwright/mcp  -      2 s";
        assert_eq!(table(facts), expected);
        assert_eq!(table(""), "");
    }
}
