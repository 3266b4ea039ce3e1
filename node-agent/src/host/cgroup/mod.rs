//! What a container uses, read from its cgroup's files: versions 1 and 2.
//!
//! Asking the engine takes a second per container; these files take microseconds. The cgroup is
//! found through `/proc/<pid>/cgroup` and must carry the container's id, so that a pid that was
//! given to another process meanwhile is noticed.
//!
//! [`level`] makes the folder above each container's own: one per workspace, the agent's, which the
//! fence alone freezes; [`inhabited`] says what runs in it. [`owner`] keeps other agents out of
//! them. [`crate::gauge`] keeps the files of each container open and reads them again and again.

mod files;
pub mod inhabited;
pub mod level;
pub mod owner;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use warren_common::status::Usage;

pub(crate) use files::{Buffer, Files};

/// How this host's cgroups are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// `2` where the one hierarchy holds the controllers, else `1`.
    pub version: u32,
    /// Controllers that can be used, by name; version 2 always has `freezer`.
    pub controllers: BTreeSet<String>,
    /// Mount points: of version 2 with an empty name, of version 1 by controller.
    mounts: Vec<(String, PathBuf)>,
}

impl Layout {
    /// Reads the layout of this host.
    ///
    /// # Errors
    /// Where the kernel does not tell its mounts.
    pub fn read() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        Ok(Self::parse(&mounts, |root| {
            fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
        }))
    }

    /// Returns the layout of this host, read once: what is mounted where stays while the host is
    /// up, and a host with many containers has many mounts.
    ///
    /// # Errors
    /// As [`Layout::read`], and where memory has no place in it; the next call tries again.
    pub fn of_host() -> io::Result<&'static Self> {
        static READ: OnceLock<Layout> = OnceLock::new();
        match READ.get() {
            Some(read) => Ok(read),
            None => {
                let read = Self::read()?;
                let missing = "no memory controller is mounted";
                let missing = || io::Error::new(io::ErrorKind::NotFound, missing);
                read.root("memory").ok_or_else(missing)?;
                Ok(READ.get_or_init(|| read))
            }
        }
    }

    /// Takes a folder for the tree of version 2, as tests make one.
    pub(crate) fn unified(root: &Path) -> Self {
        let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", root.display());
        Self::parse(&mounts, |_| "cpu io memory pids\n".to_owned())
    }

    /// `controllers` answers with the controllers of a version 2 root.
    pub(crate) fn parse(mounts: &str, controllers: impl Fn(&Path) -> String) -> Self {
        let mut layout = Self { version: 1, controllers: BTreeSet::new(), mounts: Vec::new() };
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, point, kind, options, ..] = fields[..] else { continue };
            let point = PathBuf::from(point);
            if kind == "cgroup2" {
                let found = controllers(&point);
                if found.split_whitespace().any(|name| name == "memory") {
                    layout.version = 2;
                    layout.controllers.insert("freezer".to_owned());
                }
                layout.controllers.extend(found.split_whitespace().map(str::to_owned));
                layout.mounts.push((String::new(), point));
            } else if kind == "cgroup" {
                for name in options.split(',') {
                    layout.mounts.push((name.to_owned(), point.clone()));
                    layout.controllers.insert(name.to_owned());
                }
            }
        }
        layout
    }

    /// Returns where a controller's tree begins; of version 2 that of the one hierarchy.
    pub fn root(&self, controller: &str) -> Option<&Path> {
        let name = if self.version == 2 { "" } else { controller };
        self.mounts.iter().find(|(of, _)| of == name).map(|(_, root)| root.as_path())
    }

    /// Returns every tree that has controllers or processes, each once, in the order of mounting.
    pub fn roots(&self) -> Vec<&Path> {
        let mut roots: Vec<&Path> = Vec::new();
        for (name, root) in &self.mounts {
            // beside version 1 the unified tree holds no controller and the engine leaves it alone
            let used = self.version != 2 || name.is_empty();
            if used && !roots.contains(&root.as_path()) {
                roots.push(root);
            }
        }
        roots
    }

    /// Returns the folder of one process for a controller; `groups` is its `/proc/<pid>/cgroup`.
    ///
    /// # Errors
    /// Where the host has no such controller.
    pub fn folder(&self, groups: &str, controller: &str) -> io::Result<PathBuf> {
        let name = if self.version == 2 { "" } else { controller };
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no cgroup {name:?}"));
        let path = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            names.split(',').any(|other| other == name).then_some(path)
        });
        let path = path.ok_or_else(missing)?.trim_start_matches('/');
        let (_, root) = self.mounts.iter().find(|(of, _)| of == name).ok_or_else(missing)?;
        Ok(root.join(path))
    }
}

/// Reads what the container with this PID 1 uses.
///
/// # Errors
/// Where the process is gone, belongs to another container, or a file cannot be read.
pub fn usage(pid: u32, container: &str) -> io::Result<Usage> {
    Files::open(Layout::of_host()?, pid, container)?.usage(&mut Buffer::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_that_are_mounted_together_have_one_place() {
        let mounts = "none /r/memory cgroup rw,memory 0 0\n\
                      none /r/cpu cgroup rw,cpu,cpuacct 0 0\nnone /r/s cgroup rw,name=systemd 0 0\n";
        let layout = Layout::parse(mounts, |_| String::new());
        assert_eq!(layout.version, 1);
        assert!(layout.controllers.contains("memory") && !layout.controllers.contains("freezer"));
        let groups = "4:memory:/n1/abc\n3:cpu,cpuacct:/n1/abc\n1:name=systemd:/\n";
        for controller in ["cpu", "cpuacct"] {
            let folder = layout.folder(groups, controller).expect("mounted");
            assert_eq!(folder, Path::new("/r/cpu/n1/abc"));
        }
        layout.folder(groups, "pids").expect_err("not mounted");
    }

    #[test]
    fn version_2_has_one_place_for_all_and_always_a_freezer() {
        let layout = Layout::unified(Path::new("/r"));
        assert_eq!(layout.version, 2);
        assert!(layout.controllers.contains("freezer"));
        let folder = layout.folder("0::/n1.slice/docker-abc.scope\n", "memory").expect("there");
        assert_eq!(folder, Path::new("/r/n1.slice/docker-abc.scope"));
    }

    #[test]
    fn what_is_read_once_is_checked_as_well() {
        let error = usage(std::process::id(), "no-such-container").expect_err("not of it");
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    }

    #[test]
    fn a_hybrid_host_counts_as_version_1() {
        let mounts = "none /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      none /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(Layout::parse(mounts, |_| String::new()).version, 1);
    }

    #[test]
    fn this_host_has_a_layout() {
        let layout = Layout::read().expect("mounts");
        assert!(layout.version == 1 || layout.version == 2);
    }
}
