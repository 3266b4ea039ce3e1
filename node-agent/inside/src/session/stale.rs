//! What a crash leaves locked: removed before anything starts that would stumble over it.
//!
//! Nothing of the workspace ran when this life of it began, so whatever is older is nobody's.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::journal::event;

/// Git's locks in its folder.
const LOCKS: [&str; 6] = [
    "index.lock",
    "HEAD.lock",
    "config.lock",
    "packed-refs.lock",
    "shallow.lock",
    "ORIG_HEAD.lock",
];
/// Files of one folder looked at, at most.
const MOST: usize = 4096;

/// Removes the locks of a checkout and its worktrees, and the records of agents that are gone, where
/// they are older than `began`.
pub(super) fn clean(home: &Path, checkout: Option<&Path>, began: SystemTime) {
    let mut found = Vec::new();
    if let Some(git) = checkout.map(|checkout| checkout.join(".git")) {
        let trees = entries(&git.join("worktrees"));
        for folder in trees.into_iter().chain([git]) {
            found.extend(LOCKS.iter().map(|lock| folder.join(lock)));
        }
    }
    // Claude Code's, named after a process that may be another one by now
    let records = entries(&home.join(".claude/sessions"));
    found.extend(records.into_iter().filter(|path| is_record(path)));
    for path in found.iter().filter(|path| is_older(path, began)) {
        match fs::remove_file(path) {
            Ok(()) => event!("{} was left behind and is removed", path.display()),
            Err(error) => event!("{} is left behind and stays: {error}", path.display()),
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MOST);
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn is_record(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let json = path.extension().is_some_and(|ending| ending == "json");
    json && !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_older(path: &Path, began: SystemTime) -> bool {
    let file = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
    file.and_then(|file| file.modified().ok()).is_some_and(|changed| changed < began)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_older_than_this_life_goes_and_nothing_else() {
        let home = tempfile::tempdir().expect("a folder");
        let checkout = home.path().join("web");
        let git = checkout.join(".git");
        let records = home.path().join(".claude/sessions");
        for folder in [git.join("worktrees/a"), records.clone()] {
            fs::create_dir_all(folder).expect("a folder");
        }
        let gone =
            [git.join("index.lock"), git.join("worktrees/a/index.lock"), records.join("41.json")];
        let kept = [git.join("index"), records.join("notes.json"), git.join("worktrees/a/HEAD")];
        for path in gone.iter().chain(&kept) {
            fs::write(path, "x").expect("a file");
        }
        let now = SystemTime::now();
        clean(home.path(), Some(&checkout), now - Duration::from_secs(60));
        assert!(gone.iter().all(|path| path.exists()), "they are of this life");
        clean(home.path(), Some(&checkout), now + Duration::from_secs(60));
        assert!(gone.iter().all(|path| !path.exists()) && kept.iter().all(|path| path.exists()));
    }
}
