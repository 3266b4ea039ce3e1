//! Packages of npm and Python that tests take, in the versions of the images.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::command::{root, run, run_with};

/// What was put into a folder of packages, so that it is not asked for again.
const KEPT: &str = "packages.txt";

/// Puts packages of npm into a folder, each by its line in `versions`; what is there already stays.
///
/// # Errors
/// Fails where there is no such line, and where npm does.
pub(crate) fn npm(folder: &Path, packages: &[(&str, &str)]) -> Result<()> {
    let wanted = packages.iter().map(|(name, package)| Ok(format!("{package}@{}", version(name)?)));
    let wanted: Vec<String> = wanted.collect::<Result<_>>()?;
    kept(folder, &wanted.join(" "), || {
        let at = folder.to_str().context("the folder's name is not UTF-8")?;
        // there are no browsers to be fetched: Debian's is taken
        let alone = [("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")];
        let install = ["install", "--prefix", at, "--no-audit", "--no-fund"];
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        run_with("npm", &[&install[..], &wanted].concat(), &alone)
    })
}

/// Puts a package of Python into a folder of its own by its line in `versions`, where it is not there
/// already.
///
/// # Errors
/// Fails where there is no such line, and where Python or its pip does.
pub(crate) fn python(folder: &Path, (name, package): (&str, &str)) -> Result<()> {
    let wanted = format!("{package}=={}", version(name)?);
    kept(folder, &wanted, || {
        let at = folder.to_str().context("the folder's name is not UTF-8")?;
        run("python3", &["-m", "venv", "--clear", at])?;
        run(&format!("{at}/bin/pip"), &["install", "--quiet", &wanted])
    })
}

/// Returns what a line of `versions` says.
fn version(name: &str) -> Result<String> {
    let versions = fs::read_to_string(root()?.join("deploy/workspace-image/versions"))?;
    let line = versions.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Ok(line.with_context(|| format!("no version of {name}"))?.trim().to_owned())
}

/// Makes what a folder does not hold yet, and notes that it holds it once it does.
fn kept(folder: &Path, wanted: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let file = folder.join(KEPT);
    if fs::read_to_string(&file).is_ok_and(|kept| kept == wanted) {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    make()?;
    fs::write(&file, wanted).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_made_once_and_anew_where_something_else_is_wanted() {
        let folder = std::env::temp_dir().join(format!("warren-packages-{}", std::process::id()));
        let mut made = 0;
        for (wanted, fails, total) in
            [("a@1", true, 1), ("a@1", false, 2), ("a@1", false, 2), ("a@2", false, 3)]
        {
            let make = || {
                made += 1;
                if fails { anyhow::bail!("told to") } else { Ok(()) }
            };
            assert_eq!(kept(&folder, wanted, make).is_err(), fails);
            assert_eq!(made, total, "{wanted}");
        }
        fs::remove_dir_all(folder).expect("gone");
    }
}
