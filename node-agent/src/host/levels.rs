//! Makes, holds and removes the cgroups of level 1, with either driver of the engine.
//!
//! Where the engine has systemd make cgroups, the tree is systemd's: the level is a slice whose
//! caps are set through `systemctl`, and only told again where they differ from what was told last.

use std::{
    collections::BTreeMap,
    io,
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    process::Command,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use warren_common::WorkspaceId;

use super::cgroup::{
    Layout,
    inhabited::{self, Inhabited},
    level::{self, Caps},
};

/// One call of `systemctl`.
const SYSTEMCTL: Duration = Duration::from_secs(20);
/// How long a level may take to empty after its container was removed, and how often it is looked
/// at.
const EMPTYING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(50));

/// One look at a level: what runs in it.
type Look = fn(&Layout, &str) -> io::Result<Option<Inhabited>>;

/// Why a level is not known to be empty.
#[derive(Debug, thiserror::Error)]
pub enum NotEmpty {
    /// Something runs in it.
    #[error("{} processes run in {}", .0.pids.len(), .0.folder.display())]
    Inhabited(Inhabited),
    /// It cannot be looked at: something may run in it.
    #[error("the cgroups cannot be looked at")]
    Unknown(#[source] io::Error),
}

/// The levels of this node.
#[derive(Debug)]
pub struct Levels {
    layout: Option<Layout>,
    /// What slices were told.
    told: Mutex<BTreeMap<String, Caps>>,
}

impl Levels {
    /// Works in the cgroups of this host.
    pub fn new(layout: Layout) -> Self {
        Self { layout: Some(layout), told: Mutex::default() }
    }

    /// Does nothing: for engines without containers.
    pub fn off() -> Self {
        Self { layout: None, told: Mutex::default() }
    }

    /// Makes sure that a level is there and holds its caps.
    ///
    /// # Errors
    /// The kernel or systemd refuses, in words for people.
    pub async fn ensure(&self, parent: &str, caps: Caps) -> io::Result<()> {
        let Some(layout) = &self.layout else { return Ok(()) };
        if !parent.ends_with(".slice") {
            return level::ensure(layout, parent, caps);
        }
        if self.told().get(parent) == Some(&caps) {
            return Ok(());
        }
        systemctl(&properties(parent, caps, layout.version)).await?;
        systemctl(&["start".to_owned(), parent.to_owned()]).await?;
        self.told().insert(parent.to_owned(), caps);
        Ok(())
    }

    /// Holds the caps of a level that is there; one that is not is left alone: the container of an
    /// older version stands beside it.
    ///
    /// # Errors
    /// As [`Levels::ensure`].
    pub async fn hold(&self, parent: &str, caps: Caps) -> io::Result<()> {
        let root = self.layout.as_ref().and_then(|layout| layout.root("memory"));
        match root.is_some_and(|root| root.join(level::below(parent)).is_dir()) {
            true => self.ensure(parent, caps).await,
            false => Ok(()),
        }
    }

    /// Returns the levels of workspaces that are there below these parents.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub fn below(&self, parents: &[String]) -> Result<Vec<String>, NotEmpty> {
        let Some(layout) = &self.layout else { return Ok(Vec::new()) };
        let levels = parents.iter().map(|parent| level::levels(layout, parent));
        let levels = levels.collect::<io::Result<Vec<_>>>().map_err(NotEmpty::Unknown)?;
        Ok(levels.into_iter().flatten().collect())
    }

    /// Makes sure that nothing runs in levels that should be empty; what a container that was just
    /// removed leaves behind is given a moment to end.
    ///
    /// # Errors
    /// Something runs in one of them, or nobody can say.
    pub async fn empty(&self, parents: &[String]) -> Result<(), NotEmpty> {
        self.until_empty(parents, inhabited::inhabited).await
    }

    /// Kills what runs in levels that should be empty. Where it is dropped, the level that it is at
    /// is the last.
    ///
    /// # Errors
    /// Something does not end, or nobody can say.
    pub async fn end(&self, parents: &[String]) -> Result<(), NotEmpty> {
        self.until_empty(parents, kill_one).await
    }

    /// Looks at levels until nothing is in them any more, for a moment.
    async fn until_empty(&self, parents: &[String], look: Look) -> Result<(), NotEmpty> {
        let Some(layout) = &self.layout else { return Ok(()) };
        let until = Instant::now() + EMPTYING.0;
        let dropped = CancellationToken::new();
        let _drops = dropped.clone().drop_guard();
        loop {
            let (layout, parents) = (layout.clone(), parents.to_vec());
            let dropped = dropped.clone();
            // at all of them each time: a look may kill
            let looking = tokio::task::spawn_blocking(move || {
                // what starts after nobody asks any more is not to be killed
                let wanted = parents.iter().take_while(|_| !dropped.is_cancelled());
                wanted.map(|parent| look(&layout, parent)).collect::<Vec<_>>()
            });
            // one that broke off has seen nothing, and that is no word for empty
            let looked = looking.await.map_err(|broken| NotEmpty::Unknown(broken.into()))?;
            let found = looked.into_iter().find_map(Result::transpose).transpose();
            match found.map_err(NotEmpty::Unknown)? {
                None => return Ok(()),
                Some(found) if Instant::now() >= until => return Err(NotEmpty::Inhabited(found)),
                Some(_) => sleep(EMPTYING.1).await,
            }
        }
    }

    /// Removes a level where nothing is in it.
    pub async fn remove(&self, parent: &str) {
        let Some(layout) = &self.layout else { return };
        if parent.ends_with(".slice") {
            let known = self.told().remove(parent).is_some();
            let stop = ["stop", "revert"].map(|verb| [verb.to_owned(), parent.to_owned()]);
            for arguments in stop.iter().filter(|_| known) {
                if let Err(error) = systemctl(arguments).await {
                    debug!(%error, "a slice is kept");
                }
            }
        }
        level::remove(layout, parent);
    }

    /// Removes what is empty and belongs to none of the workspaces `kept`.
    pub fn sweep(&self, node: &str, kept: impl Fn(WorkspaceId) -> bool) {
        if let Some(layout) = &self.layout {
            level::sweep(layout, node, kept);
        }
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<String, Caps>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what was in a level, and kills it.
fn kill_one(layout: &Layout, parent: &str) -> io::Result<Option<Inhabited>> {
    let Some(found) = inhabited::inhabited(layout, parent)? else { return Ok(None) };
    match inhabited::kill(layout, parent) {
        Ok(()) => warn!(cgroup = %found.folder.display(), "killed what ran without a container"),
        Err(error) => warn!(cgroup = %found.folder.display(), %error, "it cannot be killed yet"),
    }
    Ok(Some(found))
}

/// Returns what `systemctl` is told: until the next boot, since the agent makes them again.
fn properties(slice: &str, caps: Caps, version: u32) -> Vec<String> {
    let (memory, swap) = (caps.memory.0, caps.swap.0);
    let set = match version {
        2 => vec![
            format!("MemoryMax={memory}"),
            format!("MemorySwapMax={swap}"),
            format!("CPUWeight={}", caps.weight()),
        ],
        _ => vec![format!("MemoryLimit={memory}"), format!("CPUShares={}", caps.cpu_weight)],
    };
    let mut arguments = ["set-property", "--runtime", slice].map(str::to_owned).to_vec();
    arguments.extend(set);
    arguments.push(format!("TasksMax={}", caps.pids));
    arguments
}

async fn systemctl(arguments: &[String]) -> io::Result<()> {
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let what = format!("systemctl {}", arguments.join(" "));
    let done = timeout(SYSTEMCTL, command.output()).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("{what} did not end in time"))
    })??;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(io::Error::other(format!("{what}: {said}")))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    };

    use warren_common::Bytes;

    use super::*;

    const CAPS: Caps = Caps { memory: Bytes::mib(1), swap: Bytes(0), pids: 9, cpu_weight: 1024 };

    #[test]
    fn systemd_is_told_each_cap_in_the_words_of_its_version() {
        let two = properties("warren-n1-w.slice", CAPS, 2).join(" ");
        assert_eq!(
            two,
            "set-property --runtime warren-n1-w.slice MemoryMax=1048576 MemorySwapMax=0 \
             CPUWeight=39 TasksMax=9"
        );
        let one = properties("warren-n1-w.slice", CAPS, 1).join(" ");
        assert_eq!(
            one,
            "set-property --runtime warren-n1-w.slice MemoryLimit=1048576 CPUShares=1024 TasksMax=9"
        );
    }

    #[tokio::test]
    async fn one_that_is_off_makes_nothing() {
        let levels = Levels::off();
        levels.ensure("/warren-n1/x", CAPS).await.expect("nothing to do");
        levels.remove("/warren-n1/x").await;
        assert_eq!(levels.below(&["/warren-n1".to_owned()]).expect("none"), Vec::<String>::new());
        let parents = ["/warren-n1/x".to_owned()];
        levels.empty(&parents).await.expect("nothing to look at");
        levels.end(&parents).await.expect("nothing to end");
    }

    /// One level in a folder, with its file of processes.
    fn stage() -> (tempfile::TempDir, std::path::PathBuf, Levels) {
        let dir = tempfile::tempdir().expect("folder");
        let level = dir.path().join("warren-n1/x");
        std::fs::create_dir_all(&level).expect("folder");
        let mounts = format!("none {} cgroup rw,memory 0 0\n", dir.path().display());
        let levels = Levels::new(Layout::parse(&mounts, |_| String::new()));
        (dir, level.join("cgroup.procs"), levels)
    }

    #[tokio::test]
    async fn a_level_is_given_a_moment_to_empty() {
        let (_dir, procs, levels) = stage();
        let parents = ["/warren-n1/x".to_owned()];
        std::fs::write(&procs, "7\n").expect("file");
        let ends = async {
            sleep(EMPTYING.1).await;
            std::fs::write(&procs, "").expect("file");
        };
        tokio::join!(levels.empty(&parents), ends).0.expect("it ended");
        std::fs::write(&procs, "7\n").expect("file");
        match levels.empty(&parents).await {
            Err(NotEmpty::Inhabited(stays)) => assert_eq!(stays.pids, [7].into()),
            other => panic!("it runs on: {other:?}"),
        }
    }

    #[test]
    fn one_that_is_dropped_looks_at_no_further_level() {
        static LOOKS: AtomicUsize = AtomicUsize::new(0);
        static MEETS: Barrier = Barrier::new(2);
        let look: Look = |_, _| {
            if LOOKS.fetch_add(1, Ordering::Relaxed) == 0 {
                MEETS.wait();
                MEETS.wait();
            }
            Ok(None)
        };
        let (_dir, _procs, levels) = stage();
        let parents = ["/warren-n1/x", "/warren-n1/y"].map(str::to_owned);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            tokio::select! {
                ended = levels.until_empty(&parents, look) => panic!("it waits: {ended:?}"),
                met = tokio::task::spawn_blocking(|| MEETS.wait()) => met.expect("they meet"),
            }
        });
        MEETS.wait();
        // waits for what blocks
        drop(runtime);
        assert_eq!(LOOKS.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_look_that_fails_is_no_word_for_empty() {
        let (_dir, procs, levels) = stage();
        let parents = ["/warren-n1/x".to_owned()];
        let broken = levels.until_empty(&parents, |_, _| panic!("as a fault of ours")).await;
        assert!(matches!(broken, Err(NotEmpty::Unknown(_))), "{broken:?}");
        std::fs::create_dir(&procs).expect("in the way");
        for looked in [levels.empty(&parents).await, levels.end(&parents).await] {
            assert!(matches!(looked, Err(NotEmpty::Unknown(_))), "{looked:?}");
        }
    }
}
