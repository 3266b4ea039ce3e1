//! Whether what is shown of browsers is what they show: Debian's Chromium, alone and driven by
//! Playwright in its several forms, looked at by the real PID 1.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, root, run as shown, run_with};

/// What the tests start beside Playwright.
const PROGRAMS: [(&str, &str); 2] =
    [("/usr/lib/chromium/chromium", "chromium"), ("/usr/bin/Xvfb", "xvfb")];

/// Fetches Playwright where it was not, in the versions of the image, and runs the tests that take it.
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
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let at = folder.to_str().context("the folder's name is not UTF-8")?;
    let versions = fs::read_to_string(root()?.join("deploy/workspace-image/versions"))?;
    let version = |name: &str| {
        let line = versions.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(str::trim).with_context(|| format!("no version of {name}"))
    };
    let playwright = format!("playwright@{}", version("PLAYWRIGHT")?);
    let mcp = format!("@playwright/mcp@{}", version("PLAYWRIGHT_MCP")?);
    // there are no browsers to be fetched: Debian's is taken
    let alone = [("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")];
    let install = ["install", "--prefix", at, "--no-audit", "--no-fund", &playwright, &mcp];
    run_with("npm", &install, &alone)?;
    let python = format!("{at}/python");
    shown("python3", &["-m", "venv", &python])?;
    shown(&format!("{python}/bin/pip"), &["install", "--quiet", "playwright"])?;
    let test = ["test", "--workspace", "--locked", "--test", "browsers"];
    let one_by_one = ["--", "--nocapture", "--test-threads", "1"];
    let (modules, python) = (format!("{at}/node_modules"), format!("{python}/bin/python"));
    let found = [("WARREN_NODE_MODULES", modules.as_str()), ("WARREN_PYTHON", python.as_str())];
    run_with(&cargo(), &[&test[..], &one_by_one].concat(), &found)
}
