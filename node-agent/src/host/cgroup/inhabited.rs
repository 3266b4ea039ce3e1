//! What runs in the level of a workspace, whatever engine made it, and its end.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use tracing::debug;

use super::{Layout, level::below};
use crate::host::freezer;

/// What runs in a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inhabited {
    /// The level in one of the trees that have processes in it.
    pub folder: PathBuf,
    /// The processes that could be read there, in order.
    pub pids: BTreeSet<u32>,
}

/// Returns what runs in the level or below it; none where nothing does.
///
/// # Errors
/// A cgroup that is there cannot be read: something may run in it.
pub fn inhabited(layout: &Layout, parent: &str) -> io::Result<Option<Inhabited>> {
    let path = below(parent);
    for root in layout.roots() {
        let folder = root.join(&path);
        let mut pids = BTreeSet::new();
        let gathered = gather(&folder, &mut pids);
        let populated = match layout.version {
            2 => is_populated(&folder)?,
            _ if pids.is_empty() => gathered.map(|()| false)?,
            _ => true,
        };
        if populated {
            return Ok(Some(Inhabited { folder, pids }));
        }
    }
    Ok(None)
}

/// Kills everything that is in the level or below it; what is gone already is fine. Blocks.
///
/// # Errors
/// What the kernel says. The same call goes on from there.
pub fn kill(layout: &Layout, parent: &str) -> io::Result<()> {
    let path = below(parent);
    let roots = layout.roots();
    let file = roots.iter().map(|root| root.join(&path).join("cgroup.kill"));
    if layout.version == 2
        && let Some(file) = file.clone().find(|file| file.exists())
    {
        return fs::write(file, "1");
    }
    // what stands still starts nothing, and no number that is read is another program's when it is
    // killed; where one of them does not stop, the rest is killed all the same
    let freezer = layout.root("freezer").map(|root| root.join(&path));
    if let Some(Err(error)) = freezer.as_deref().map(freezer::freeze) {
        debug!(cgroup = parent, %error, "killed without standing still");
    }
    let mut pids = BTreeSet::new();
    let gathered = roots.iter().map(|root| gather(&root.join(&path), &mut pids));
    let mut outcome = gathered.fold(Ok(()), Result::and);
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        match kill_process(pid, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => outcome = Err(error.into()),
        }
    }
    // a container below may have been paused: nobody dies who stands still
    match freezer {
        Some(folder) => outcome.and(walk(&folder, &mut |one| freezer::thaw(one))),
        None => outcome,
    }
}

/// Visits a cgroup and those below it, the highest first; what is gone has none below it. It goes
/// on after an error, and returns the first.
fn walk(folder: &Path, visit: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let outcome = visit(folder);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return outcome,
        Err(error) => return outcome.and(Err(error)),
    };
    let below = entries.map(|entry| {
        let entry = entry?;
        if entry.file_type()?.is_dir() { walk(&entry.path(), visit) } else { Ok(()) }
    });
    below.fold(outcome, Result::and)
}

/// Collects the processes of a cgroup and of those below it. What cannot be read keeps nothing else
/// from being collected.
fn gather(folder: &Path, pids: &mut BTreeSet<u32>) -> io::Result<()> {
    walk(folder, &mut |folder| {
        let procs = read(&folder.join("cgroup.procs"))?;
        pids.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
        Ok(())
    })
}

/// Returns whether the kernel has processes in a cgroup of version 2 or below it.
fn is_populated(folder: &Path) -> io::Result<bool> {
    let events = read(&folder.join("cgroup.events"))?;
    Ok(events.lines().any(|line| line == "populated 1"))
}

/// Reads a file of a cgroup; nothing is in one that is gone.
fn read(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Err(error) if is_gone(&error) => Ok(String::new()),
        read => read,
    }
}

/// Whether a cgroup went before or while it was looked at.
pub(super) fn is_gone(error: &io::Error) -> bool {
    let went = Some(Errno::NODEV.raw_os_error());
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == went
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroup::level::{levels, workspace_parent};

    fn parent(node: &str) -> String {
        let id = "0199a0b2-7f00-7000-8000-0000deadbeef".parse().expect("an id");
        workspace_parent(node, id)
    }

    fn look(layout: &Layout, parent: &str) -> Option<Inhabited> {
        inhabited(layout, parent).expect("readable")
    }

    #[test]
    fn what_is_in_a_level_is_killed_standing_still_and_thawed_again() {
        let dir = tempfile::tempdir().expect("folder");
        let mounts = format!("none {} cgroup rw,freezer 0 0\n", dir.path().display());
        let layout = Layout::parse(&mounts, |_| String::new());
        let parent = parent("/warren-n1");
        let level = dir.path().join(below(&parent));
        let container = level.join("4f1c");
        fs::create_dir_all(&container).expect("folder");
        let mut one = std::process::Command::new("sleep").arg("600").spawn().expect("a program");
        fs::write(level.join("freezer.state"), "THAWED").expect("file");
        fs::write(container.join("freezer.state"), "FROZEN").expect("file");
        fs::write(container.join("cgroup.procs"), format!("{}\n", one.id())).expect("file");
        let found = levels(&layout, "/warren-n1").expect("readable");
        assert_eq!(found, [parent.clone()].into());
        kill(&layout, &parent).expect("killed");
        let ended = std::os::unix::process::ExitStatusExt::signal(&one.wait().expect("ended"));
        assert_eq!(ended, Some(9));
        for folder in [&level, &container] {
            let state = fs::read_to_string(folder.join("freezer.state")).expect("file");
            assert_eq!(state, "THAWED");
        }
        // one whose process does not stand still is killed all the same
        let mut other = std::process::Command::new("sleep").arg("600").spawn().expect("a program");
        fs::write(container.join("cgroup.procs"), format!("{}\n", other.id())).expect("file");
        fs::remove_file(level.join("freezer.state")).expect("removed");
        fs::create_dir(level.join("freezer.state")).expect("in the way");
        kill(&layout, &parent).expect_err("it cannot be thawed");
        assert!(other.wait().is_ok_and(|ended| !ended.success()));
    }

    #[test]
    fn a_level_is_inhabited_where_a_process_is_in_it_or_below() {
        let dir = tempfile::tempdir().expect("folder");
        let parent = parent("/warren-n1");
        let trees = ["memory", "freezer"].map(|name| dir.path().join(name));
        let line = |root: &PathBuf| {
            let name = root.file_name().and_then(|name| name.to_str()).expect("a name");
            format!("none {} cgroup rw,{name} 0 0\n", root.display())
        };
        let mounts = trees.iter().map(line).collect::<String>();
        let layout = Layout::parse(&mounts, |_| String::new());
        assert_eq!(look(&layout, &parent), None, "it is not there");
        let levels = trees.map(|root| root.join(below(&parent)));
        for level in &levels {
            fs::create_dir_all(level.join("4f1c")).expect("folder");
            fs::write(level.join("cgroup.procs"), "").expect("file");
            fs::write(level.join("4f1c/cgroup.procs"), "").expect("file");
        }
        assert_eq!(look(&layout, &parent), None, "nothing runs");
        fs::write(levels[1].join("4f1c/cgroup.procs"), "12\n7\n").expect("file");
        let found = look(&layout, &parent).expect("one tree is enough");
        assert_eq!((found.folder, found.pids), (levels[1].clone(), BTreeSet::from([7, 12])));
        // what cannot be read may have something in it
        fs::remove_file(levels[1].join("4f1c/cgroup.procs")).expect("removed");
        fs::create_dir(levels[1].join("4f1c/cgroup.procs")).expect("in the way");
        inhabited(&layout, &parent).expect_err("unreadable");
    }

    #[test]
    fn of_version_2_the_kernel_says_whether_a_level_is_inhabited() {
        let dir = tempfile::tempdir().expect("folder");
        let parent = parent("warren-n1.slice");
        let level = dir.path().join(below(&parent));
        let layout = Layout::unified(dir.path());
        fs::create_dir_all(level.join("docker-4f1c.scope")).expect("folder");
        for (events, wanted) in [("populated 0\nfrozen 0\n", false), ("populated 1\n", true)] {
            fs::write(level.join("cgroup.events"), events).expect("file");
            assert_eq!(look(&layout, &parent).is_some(), wanted, "{events}");
        }
        fs::write(level.join("docker-4f1c.scope/cgroup.procs"), "7\n").expect("file");
        let pids = look(&layout, &parent).map(|found| found.pids);
        assert_eq!(pids, Some(BTreeSet::from([7])));
        fs::remove_file(level.join("cgroup.events")).expect("removed");
        assert_eq!(look(&layout, &parent), None, "it is gone");
        fs::create_dir(level.join("cgroup.events")).expect("in the way");
        inhabited(&layout, &parent).expect_err("unreadable");
    }
}
