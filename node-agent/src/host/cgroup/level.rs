//! Level 1: one cgroup per workspace, `warren-<node>/<workspace>`, above that of its container.
//!
//! The agent makes it, holds the workspace's caps in it and removes it when it is empty; the fence
//! alone freezes it. The container's own cgroup stands below, is the engine's, and may be frozen
//! for a snapshot. The caps stand here a second time because what is changed behind the agent's
//! back on the container (`docker update`), or is charged beside it while one container goes and
//! the next comes, is then still within the workspace; the processor's weight stands here because
//! weights only count among neighbours, and the neighbours of a container are no longer the others.
//!
//! Names: with the cgroupfs driver a path; with systemd a slice, whose dashes are its path
//! (`warren-n1-<id>.slice` lies in `warren.slice/warren-n1.slice`), so ids lose theirs.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use tracing::debug;
use warren_common::{Bytes, WorkspaceId};

use super::{Layout, inhabited::is_gone};

/// Controllers of version 1 in which a level is made before the engine needs it: those with caps,
/// and the freezer. The engine makes the others.
const OWN: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", "freezer"];
/// Controllers of version 2 that are switched on for what is below.
const ENABLED: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// Returns the parent of one workspace's container below that of the node, as the engine wants it.
pub fn workspace_parent(node: &str, workspace: WorkspaceId) -> String {
    match node.strip_suffix(".slice") {
        Some(stem) => format!("{stem}-{}.slice", workspace.to_string().replace('-', "")),
        None => format!("{}/{workspace}", node.trim_end_matches('/')),
    }
}

/// Returns where a parent lies below the root of a tree: a path as it stands, a slice in those that
/// its dashes name.
pub fn below(parent: &str) -> PathBuf {
    let Some(stem) = parent.strip_suffix(".slice") else {
        return PathBuf::from(parent.trim_start_matches('/'));
    };
    let mut path = PathBuf::new();
    for (at, _) in stem.match_indices('-') {
        path.push(format!("{}.slice", &stem[..at]));
    }
    path.push(parent);
    path
}

/// What the level holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Memory.
    pub memory: Bytes,
    /// Swap beyond it.
    pub swap: Bytes,
    /// Processes and threads.
    pub pids: u32,
    /// Docker's `cpu-shares`.
    pub cpu_weight: u32,
}

impl Caps {
    /// Returns the weight as version 2 counts it, 1 to 10,000: the engine's own formula.
    pub fn weight(self) -> u64 {
        1 + (u64::from(self.cpu_weight.clamp(2, 262_144)) - 2) * 9999 / 262_142
    }
}

/// Makes sure that the level of this parent is there and holds the caps, in a tree that the agent
/// may make folders in. Only what differs is written.
///
/// # Errors
/// Where a folder cannot be made, or the kernel refuses a memory or process cap.
pub fn ensure(layout: &Layout, parent: &str, caps: Caps) -> io::Result<()> {
    let path = below(parent);
    if layout.version == 2 {
        let root = layout.root("").ok_or_else(|| missing("cgroup version 2"))?;
        return ensure_unified(root, &path, caps);
    }
    for controller in OWN {
        let Some(root) = layout.root(controller) else { continue };
        let level = root.join(&path);
        make(root, &path)?;
        match controller {
            "memory" => set_memory(&level, caps)?,
            "pids" => write(&level, "pids.max", &caps.pids.to_string())?,
            // another controller may be mounted in the same place: then this is done once more
            "cpu" => write(&level, "cpu.shares", &caps.cpu_weight.to_string())?,
            _ => {}
        }
    }
    Ok(())
}

/// Removes the level where nothing is in it; what is in use is left.
pub fn remove(layout: &Layout, parent: &str) {
    let path = below(parent);
    for root in layout.roots() {
        let level = root.join(&path);
        if let Err(error) = fs::remove_dir(&level)
            && error.kind() != io::ErrorKind::NotFound
        {
            debug!(cgroup = %level.display(), %error, "a cgroup is kept");
        }
    }
}

/// Returns the levels of workspaces below the node's, in any tree.
///
/// # Errors
/// One that is there cannot be read.
pub fn levels(layout: &Layout, node: &str) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for root in layout.roots() {
        let entries = match fs::read_dir(root.join(below(node))) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let id = entry?.file_name().to_str().and_then(level_of);
            found.extend(id.map(|id| workspace_parent(node, id)));
        }
    }
    Ok(found)
}

/// Removes every empty level below the node's that belongs to none of the workspaces `kept`.
pub fn sweep(layout: &Layout, node: &str, kept: impl Fn(WorkspaceId) -> bool) {
    let folder = below(node);
    for root in layout.roots() {
        let Ok(entries) = fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let ours = name.to_str().and_then(level_of).filter(|id| !kept(*id));
            if ours.is_some() && fs::remove_dir(entry.path()).is_ok() {
                debug!(cgroup = %entry.path().display(), "removed an empty cgroup");
            }
        }
    }
}

/// Returns the workspace whose level has this name.
fn level_of(name: &str) -> Option<WorkspaceId> {
    let Some(stem) = name.strip_suffix(".slice") else { return name.parse().ok() };
    let id = stem.rsplit('-').next().filter(|id| id.len() == 32 && id.is_ascii())?;
    let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
    parts.join("-").parse().ok()
}

fn ensure_unified(root: &Path, path: &Path, caps: Caps) -> io::Result<()> {
    let mut at = root.to_owned();
    for part in path {
        for controller in ENABLED {
            // a controller that the kernel lacks, or that is on already
            let _ = write(&at, "cgroup.subtree_control", &format!("+{controller}"));
        }
        at.push(part);
        if !at.is_dir() {
            fs::create_dir(&at)?;
        }
    }
    write(&at, "memory.max", &caps.memory.0.to_string())?;
    if at.join("memory.swap.max").exists() {
        write(&at, "memory.swap.max", &caps.swap.0.to_string())?;
    }
    // the runaway process dies, not everything in the workspace
    write(&at, "memory.oom.group", "0")?;
    write(&at, "pids.max", &caps.pids.to_string())?;
    write(&at, "cpu.weight", &caps.weight().to_string())
}

/// Makes a level of version 1; older kernels count what is below only where they are told to.
fn make(root: &Path, path: &Path) -> io::Result<()> {
    let mut at = root.to_owned();
    for part in path {
        let _ = write(&at, "memory.use_hierarchy", "1");
        at.push(part);
        if !at.is_dir() {
            fs::create_dir(&at)?;
        }
    }
    Ok(())
}

fn set_memory(level: &Path, caps: Caps) -> io::Result<()> {
    let both = caps.memory.plus(caps.swap).0.to_string();
    // the sum may never be below the memory: raised first, lowered last
    let _ = write(level, "memory.memsw.limit_in_bytes", &both);
    write(level, "memory.limit_in_bytes", &caps.memory.0.to_string())?;
    if level.join("memory.memsw.limit_in_bytes").exists() {
        write(level, "memory.memsw.limit_in_bytes", &both)?;
    }
    Ok(())
}

/// Writes a file that is there and says something else.
fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = folder.join(file);
    match fs::read_to_string(&path) {
        Ok(text) if text.trim() == value => Ok(()),
        Ok(_) => fs::write(&path, value),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // a file that can only be written
        Err(_) => fs::write(&path, value),
    }
}

fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{what} is not mounted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> WorkspaceId {
        "0199a0b2-7f00-7000-8000-0000deadbeef".parse().expect("an id")
    }

    const CAPS: Caps =
        Caps { memory: Bytes::mib(256), swap: Bytes::mib(64), pids: 100, cpu_weight: 1024 };

    /// Makes the files that the kernel shows in a folder of this name, so that they can be written.
    fn kernel(folder: &Path, files: &[&str]) {
        fs::create_dir_all(folder).expect("folder");
        for file in files {
            fs::write(folder.join(file), "old\n").expect("file");
        }
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).expect("a file").trim().to_owned()
    }

    #[test]
    fn a_path_and_a_slice_name_the_same_level() {
        let path = workspace_parent("/warren-n-1", id());
        assert_eq!(path, "/warren-n-1/0199a0b2-7f00-7000-8000-0000deadbeef");
        assert_eq!(below(&path), Path::new("warren-n-1/0199a0b2-7f00-7000-8000-0000deadbeef"));
        let slice = workspace_parent("warren-n_1.slice", id());
        assert_eq!(slice, "warren-n_1-0199a0b27f00700080000000deadbeef.slice");
        assert_eq!(
            below(&slice),
            Path::new(
                "warren.slice/warren-n_1.slice/warren-n_1-0199a0b27f00700080000000deadbeef.slice"
            )
        );
        for name in [&path, &slice] {
            let level = below(name);
            let last = level.file_name().and_then(|name| name.to_str()).expect("a name");
            assert_eq!(level_of(last), Some(id()));
        }
        assert_eq!((level_of("4f1c"), level_of("warren-n1.slice")), (None, None));
    }

    #[test]
    fn version_1_has_a_level_with_its_caps_in_every_controller_that_matters() {
        let dir = tempfile::tempdir().expect("folder");
        let of = |controller: &str| dir.path().join(controller);
        let path = below(&workspace_parent("/warren-n1", id()));
        kernel(
            &of("memory").join(&path),
            &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"],
        );
        kernel(&of("pids").join(&path), &["pids.max"]);
        kernel(&of("cpu").join(&path), &["cpu.shares"]);
        for bare in ["freezer", "devices"] {
            fs::create_dir_all(of(bare)).expect("folder");
        }
        let line = |mount: &str| format!("none {} cgroup rw,{mount} 0 0\n", of(mount).display());
        let mounts = ["memory", "pids", "cpu", "freezer", "devices"].map(line).concat();
        let layout = Layout::parse(&mounts, |_| String::new());
        let parent = workspace_parent("/warren-n1", id());
        ensure(&layout, &parent, CAPS).expect("made");
        let memory = of("memory").join(&path);
        assert_eq!(text(&memory.join("memory.limit_in_bytes")), Bytes::mib(256).0.to_string());
        assert_eq!(
            text(&memory.join("memory.memsw.limit_in_bytes")),
            Bytes::mib(320).0.to_string()
        );
        assert_eq!(text(&of("pids").join(&path).join("pids.max")), "100");
        assert_eq!(text(&of("cpu").join(&path).join("cpu.shares")), "1024");
        assert!(of("freezer").join(&path).is_dir(), "for the fence to freeze");
        assert!(!of("devices").join(&path).exists(), "the engine makes the rest");
    }

    #[test]
    fn version_2_has_one_level_under_both_drivers() {
        for node in ["/warren-n1", "warren-n1.slice"] {
            let dir = tempfile::tempdir().expect("folder");
            let parent = workspace_parent(node, id());
            let level = dir.path().join(below(&parent));
            kernel(dir.path(), &["cgroup.subtree_control"]);
            kernel(&level, &["memory.max", "memory.swap.max", "memory.oom.group", "pids.max"]);
            kernel(&level, &["cpu.weight"]);
            let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", dir.path().display());
            let layout = Layout::parse(&mounts, |_| "cpu io memory pids\n".to_owned());
            ensure(&layout, &parent, CAPS).expect("made");
            let read = |file: &str| text(&level.join(file));
            assert_eq!(read("memory.max"), Bytes::mib(256).0.to_string(), "{node}");
            assert_eq!(read("memory.swap.max"), Bytes::mib(64).0.to_string(), "swap alone");
            assert_eq!((read("memory.oom.group"), read("pids.max")), ("0".into(), "100".into()));
            assert_eq!(read("cpu.weight"), "39", "1024 shares as Docker turns them");
            assert!(text(&dir.path().join("cgroup.subtree_control")).starts_with('+'));
        }
    }

    #[test]
    fn only_empty_levels_of_workspaces_that_are_gone_are_removed() {
        let dir = tempfile::tempdir().expect("folder");
        let other: WorkspaceId = "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id");
        let node = dir.path().join("warren-n1");
        for folder in [format!("{}", id()), format!("{other}/4f1c"), "4f1c".to_owned()] {
            fs::create_dir_all(node.join(folder)).expect("folder");
        }
        let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", dir.path().display());
        let layout = Layout::parse(&mounts, |_| "memory\n".to_owned());
        sweep(&layout, "/warren-n1", |known| known == id());
        assert!(node.join(id().to_string()).exists(), "it is known");
        sweep(&layout, "/warren-n1", |_| false);
        assert!(!node.join(id().to_string()).exists());
        assert!(node.join(other.to_string()).exists(), "something is in it");
        assert!(node.join("4f1c").exists(), "a container of an older version is none");
        remove(&layout, &workspace_parent("/warren-n1", other));
        assert!(node.join(other.to_string()).exists(), "still something in it");
    }

    #[test]
    fn weights_are_those_of_the_engine() {
        let weight = |cpu_weight| Caps { cpu_weight, ..CAPS }.weight();
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }
}
