//! The pages of a workspace in a real Chromium.

use std::fs;

use anyhow::{Context as _, Result};

use crate::command::{cargo, root, run, run_with};

/// What pages are made of, by their lines in `versions`.
const PACKAGES: [(&str, &str); 2] = [("NOVNC", "@novnc/novnc"), ("XTERM", "@xterm/xterm")];

/// Fetches noVNC and xterm.js and shows the display and a terminal with them; pictures are kept in
/// `target/views`. Needs npm, Chromium, Xvfb, openbox, x11vnc and xev.
///
/// # Errors
/// Fails where something is missing, or a page does not show what it should.
pub(crate) fn command() -> Result<()> {
    let root = root()?;
    let versions = fs::read_to_string(root.join("deploy/workspace-image/versions"))?;
    let folder = root.join("target/views");
    fs::create_dir_all(&folder)?;
    let folder = folder.to_str().context("a path of plain text")?;
    let mut install = vec!["install".to_owned(), "--prefix".to_owned(), folder.to_owned()];
    for (name, package) in PACKAGES {
        let line = versions.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        install.push(format!("{package}@{}", line.context("it is among the versions")?));
    }
    run("npm", &install.iter().map(String::as_str).collect::<Vec<_>>())?;
    let test = ["test", "--workspace", "--locked", "--test", "browser", "browser::", "--"];
    let modules = format!("{folder}/node_modules");
    let variables = [("WARREN_MODULES", modules.as_str()), ("WARREN_PICTURES", folder)];
    run_with(&cargo(), &[&test[..], &["--test-threads", "1"]].concat(), &variables)
}
