//! Freezing and thawing a container through the files of its own cgroup, versions 1 and 2.
//!
//! No engine is asked: it may be what is away. Who may thaw is the ledger's business.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::cgroup::Layout;

/// How long a freeze may take before it is told as failed; a process in the kernel is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(2);

impl Layout {
    /// Returns the folder of the cgroup in which a container's PID 1 can be frozen; none where the
    /// process is in no cgroup of a container any more.
    ///
    /// # Errors
    /// The process is gone.
    pub fn freezer(&self, pid: u32) -> io::Result<Option<PathBuf>> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let folder = self.folder(&groups, "freezer")?;
        let named = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Ok(is_container(named).then_some(folder))
    }
}

/// Returns whether a cgroup's name is one that an engine gives to a container.
fn is_container(name: &str) -> bool {
    let id = name.trim_start_matches("docker-").trim_end_matches(".scope");
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Freezes everything in a cgroup and waits until it stands still; blocks for 2 s at most. One that
/// is gone stands still.
///
/// # Errors
/// The kernel says no, or something in it does not stop.
pub fn freeze(folder: &Path) -> io::Result<()> {
    set(folder, true)
}

/// Thaws it again; blocks as [`freeze`]. One that is gone is fine.
///
/// # Errors
/// As [`freeze`].
pub fn thaw(folder: &Path) -> io::Result<()> {
    set(folder, false)
}

fn set(folder: &Path, frozen: bool) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let (file, word) = match (folder.join("freezer.state"), frozen) {
        (one, true) if one.exists() => (one, "FROZEN"),
        (one, false) if one.exists() => (one, "THAWED"),
        (_, true) => (folder.join("cgroup.freeze"), "1"),
        (_, false) => (folder.join("cgroup.freeze"), "0"),
    };
    let until = Instant::now() + PATIENCE;
    loop {
        match fs::write(&file, word) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            outcome => outcome?,
        }
        if is_frozen(folder) == frozen {
            return Ok(());
        }
        if Instant::now() > until {
            let message = format!("{} did not become {word}", folder.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        thread::sleep(POLL);
    }
}

/// Returns whether everything in a cgroup stands still.
pub fn is_frozen(folder: &Path) -> bool {
    if let Ok(state) = fs::read_to_string(folder.join("freezer.state")) {
        return state.trim() == "FROZEN";
    }
    let events = fs::read_to_string(folder.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "frozen 1")
}

/// Returns whether somebody holds this very cgroup frozen, or is about to: not one above it.
pub fn is_held(folder: &Path) -> bool {
    let says = |file| fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim() == "1");
    says("freezer.self_freezing") || says("cgroup.freeze")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_from_their_parents() {
        let id = "0123456789abcdef".repeat(4);
        assert!(is_container(&id) && is_container(&format!("docker-{id}.scope")));
        for other in ["warren-n1", "", "docker-x.scope", &id[1..]] {
            assert!(!is_container(other), "{other:?}");
        }
    }

    #[test]
    fn version_2_is_asked_by_its_own_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        std::fs::write(path.join("cgroup.freeze"), "0").expect("written");
        std::fs::write(path.join("cgroup.events"), "populated 1\nfrozen 1\n").expect("written");
        freeze(path).expect("frozen");
        assert_eq!(std::fs::read_to_string(path.join("cgroup.freeze")).expect("read"), "1");
        assert!(is_frozen(path));
        std::fs::write(path.join("cgroup.events"), "populated 1\nfrozen 0\n").expect("written");
        thaw(path).expect("thawed");
        assert_eq!(std::fs::read_to_string(path.join("cgroup.freeze")).expect("read"), "0");
    }

    #[test]
    fn version_1_is_asked_by_its_own_files_and_what_is_gone_is_fine() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        std::fs::write(path.join("freezer.state"), "THAWED\n").expect("written");
        freeze(path).expect("frozen");
        assert!(is_frozen(path));
        thaw(path).expect("thawed");
        assert!(!is_frozen(path));
        freeze(&path.join("gone")).expect("nothing runs there");
    }
}
