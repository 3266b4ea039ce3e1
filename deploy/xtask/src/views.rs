//! The pages of a workspace in a real Chromium.

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo, root, run, run_with},
    packages,
};

/// What pages are made of, by their lines in `versions`.
const PACKAGES: [(&str, &str); 2] = [("NOVNC", "@novnc/novnc"), ("XTERM", "@xterm/xterm")];

/// Fetches noVNC and xterm.js where they were not, and shows the display and a terminal with them,
/// through coordinator, node agent and PID 1; pictures are kept in `target/views`. Needs npm,
/// Chromium, Xvfb, openbox, x11vnc and xev.
///
/// # Errors
/// Fails where something is missing, or a page does not show what it should.
pub(crate) fn command() -> Result<()> {
    let folder = root()?.join("target/views");
    packages::npm(&folder, &PACKAGES)?;
    run(&cargo(), &["build", "--workspace", "--locked", "--bins", "--test", "views"])?;
    let folder = folder.to_str().context("a path of plain text")?;
    let test = ["test", "--workspace", "--locked", "--test", "views", "--"];
    let modules = format!("{folder}/node_modules");
    let variables = [("WARREN_MODULES", modules.as_str()), ("WARREN_PICTURES", folder)];
    run_with(&cargo(), &[&test[..], &["--test-threads", "1"]].concat(), &variables)
}
