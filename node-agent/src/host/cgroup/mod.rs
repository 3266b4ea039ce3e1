//! What a container uses, read from its cgroup's files: versions 1 and 2.
//!
//! Asking the engine takes a second per container; these files take microseconds. The cgroup is
//! found through `/proc/<pid>/cgroup` and must carry the container's id, so that a pid that was
//! given to another process meanwhile is noticed.
//!
//! [`level`] makes the folder above each container's own: one per workspace, the agent's, which the
//! fence alone freezes. What is read again and again is [`crate::gauge`]'s.

pub mod level;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use warren_common::{Bytes, status::Usage};

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
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    usage_of(&Layout::read()?, &groups, container)
}

fn usage_of(layout: &Layout, groups: &str, container: &str) -> io::Result<Usage> {
    let memory = layout.folder(groups, "memory")?;
    if container.is_empty() || !memory.to_string_lossy().contains(container) {
        let other = "the process is not of this container";
        return Err(io::Error::new(io::ErrorKind::NotFound, other));
    }
    let pids = layout.folder(groups, "pids").and_then(|folder| number(&folder, "pids.current"));
    let pids = u32::try_from(pids.unwrap_or(0)).unwrap_or(u32::MAX);
    if layout.version == 2 {
        return Ok(Usage {
            memory: Bytes(number(&memory, "memory.current")?),
            swap: Bytes(number(&memory, "memory.swap.current").unwrap_or(0)),
            pids,
            cpu_ms: keyed(&memory, "cpu.stat", "usage_usec").unwrap_or(0) / 1000,
            oom_kills: keyed(&memory, "memory.events", "oom_kill").unwrap_or(0),
            held: held(&memory, ("file", "shmem"), number(&memory, "memory.current")?),
            ..Usage::default()
        });
    }
    let used = number(&memory, "memory.usage_in_bytes")?;
    // absent where the kernel does not count swap
    let with_swap = number(&memory, "memory.memsw.usage_in_bytes").unwrap_or(used);
    let cpu = layout.folder(groups, "cpuacct").and_then(|folder| number(&folder, "cpuacct.usage"));
    Ok(Usage {
        memory: Bytes(used),
        swap: Bytes(with_swap.saturating_sub(used)),
        pids,
        cpu_ms: cpu.unwrap_or(0) / 1_000_000,
        oom_kills: keyed(&memory, "memory.oom_control", "oom_kill").unwrap_or(0),
        held: held(&memory, ("total_cache", "total_shmem"), used),
        ..Usage::default()
    })
}

/// Returns what is left of `used` where the kernel drops every page it could read again: shared
/// memory counts as cache and is none. Older kernels do not tell it; then it is taken for cache.
fn held(folder: &Path, (cache, shared): (&str, &str), used: u64) -> Bytes {
    let part = |key| keyed(folder, "memory.stat", key).unwrap_or(0);
    Bytes(used).minus(Bytes(part(cache).saturating_sub(part(shared))))
}

fn number(folder: &Path, file: &str) -> io::Result<u64> {
    let text = fs::read_to_string(folder.join(file))?;
    text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads the value of one `key value` line.
fn keyed(folder: &Path, file: &str, key: &str) -> io::Result<u64> {
    let text = fs::read_to_string(folder.join(file))?;
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        if name == key { value.trim().parse().ok() } else { None }
    });
    value.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no {key} in {file}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).expect("folder");
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("file");
        }
    }

    #[test]
    fn version_1_is_read_controller_by_controller() {
        let root = tempfile::tempdir().expect("folder");
        let of = |controller: &str| root.path().join(controller);
        write(
            &of("memory").join("warren-n1/abc"),
            &[
                ("memory.usage_in_bytes", "1000\n"),
                ("memory.memsw.usage_in_bytes", "1500\n"),
                ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
                ("memory.stat", "cache 9\ntotal_cache 400\ntotal_rss 600\ntotal_shmem 100\n"),
            ],
        );
        write(&of("pids").join("warren-n1/abc"), &[("pids.current", "7\n")]);
        write(&of("cpu").join("warren-n1/abc"), &[("cpuacct.usage", "2500000000\n")]);
        let mounts = format!(
            "none {r}/memory cgroup rw,memory 0 0\nnone {r}/pids cgroup rw,pids 0 0\n\
             none {r}/cpu cgroup rw,cpu,cpuacct 0 0\nnone {r}/s cgroup rw,name=systemd 0 0\n",
            r = root.path().display()
        );
        let layout = Layout::parse(&mounts, |_| String::new());
        assert_eq!(layout.version, 1);
        assert!(layout.controllers.contains("memory") && !layout.controllers.contains("freezer"));
        let groups = "4:memory:/warren-n1/abc\n3:cpu,cpuacct:/warren-n1/abc\n\
                      2:pids:/warren-n1/abc\n1:name=systemd:/\n";
        let usage = usage_of(&layout, groups, "abc").expect("usage");
        let wanted = Usage {
            memory: Bytes(1000),
            swap: Bytes(500),
            pids: 7,
            cpu_ms: 2500,
            oom_kills: 3,
            held: Bytes(700),
            ..Usage::default()
        };
        assert_eq!(usage, wanted);
        assert!(usage_of(&layout, groups, "other").is_err(), "a pid that was given away");
        assert!(usage_of(&layout, groups, "").is_err());
    }

    #[test]
    fn version_2_is_read_from_one_folder() {
        let root = tempfile::tempdir().expect("folder");
        write(
            &root.path().join("warren-n1.slice/docker-abc.scope"),
            &[
                ("memory.current", "2000\n"),
                ("memory.swap.current", "10\n"),
                ("memory.stat", "anon 1400\nfile 500\nshmem 100\n"),
                ("memory.events", "low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\noom_group_kill 9\n"),
                ("cpu.stat", "usage_usec 5000\nuser_usec 1\n"),
                ("pids.current", "2\n"),
            ],
        );
        let mounts = format!("cgroup2 {} cgroup2 rw,nosuid 0 0\n", root.path().display());
        let layout = Layout::parse(&mounts, |_| "cpuset cpu io memory pids\n".to_owned());
        assert_eq!(layout.version, 2);
        assert!(layout.controllers.contains("freezer"));
        let usage =
            usage_of(&layout, "0::/warren-n1.slice/docker-abc.scope\n", "abc").expect("usage");
        let wanted = Usage {
            memory: Bytes(2000),
            swap: Bytes(10),
            pids: 2,
            cpu_ms: 5,
            oom_kills: 1,
            held: Bytes(1600),
            ..Usage::default()
        };
        assert_eq!(usage, wanted);
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
