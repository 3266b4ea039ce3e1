//! One agent to a parent cgroup: two would each end and remove what is the other's.
//!
//! Every parent has a file below `/run` that is locked for as long as the agent's process lives,
//! whatever network, state folder or cluster it has. The lock is the kernel's: it goes with the
//! process, however that ends. The file goes where the process ends by itself.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::FlockOperation;
use tokio::time::{Instant, sleep};
use tracing::warn;
use warren_daemon::files::{self, FileError};

use super::level;

/// Where the files lie: apart from what any one agent has below `/run`, which goes with it.
pub const FOLDER: &str = "/run/warren-locks";
/// How long an agent that is replaced may take to end, and how often that is looked at.
const ENDING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(100));

/// Why parent cgroups are not this agent's.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Another agent has them.
    #[error(
        "CGROUPS_TAKEN: the cgroups below {parent} are those of another node agent on this machine \
         ({owner}): give each agent an [engine] cgroup_parent of its own, or end the other one"
    )]
    Taken {
        /// Which.
        parent: String,
        /// What the other one says of itself.
        owner: String,
    },
    /// The folder of the files cannot be made.
    #[error("the cgroups cannot be kept from other agents")]
    Folder(#[source] FileError),
    /// A file cannot be used.
    #[error("cannot lock {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The right to the cgroups below some parents; it goes with the process.
#[derive(Debug, Default)]
pub struct Owner(Vec<(PathBuf, File)>);

impl Owner {
    /// Takes all of these parents, for the agent with this state folder. One that is about to end
    /// is waited for, for 5 s.
    ///
    /// # Errors
    /// Another agent has one of them.
    pub async fn take(folder: &Path, parents: &[String], state: &Path) -> Result<Self, OwnerError> {
        files::private_folder(folder).map_err(OwnerError::Folder)?;
        let until = Instant::now() + ENDING.0;
        let mut told = false;
        loop {
            let mut owner = Self::default();
            let taken = parents.iter().try_for_each(|parent| owner.add(folder, parent, state));
            match taken {
                Ok(()) => return Ok(owner),
                Err(error @ OwnerError::Taken { .. }) if Instant::now() < until => {
                    if !told {
                        warn!(%error, "waiting a moment for it to end");
                    }
                    told = true;
                    sleep(ENDING.1).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn add(&mut self, folder: &Path, parent: &str, state: &Path) -> Result<(), OwnerError> {
        let path = folder.join(name(parent));
        match lock(&path, state) {
            Ok(Some(file)) => {
                self.0.push((path, file));
                Ok(())
            }
            Ok(None) => {
                let owner = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
                Err(OwnerError::Taken { parent: parent.to_owned(), owner })
            }
            Err(source) => Err(OwnerError::File { path, source }),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        for (path, file) in &self.0 {
            // somebody may have removed it: then another agent's lies there
            if lies_at(file, path).is_ok_and(|ours| ours) {
                // one that stays is taken by whoever comes next
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Returns the name of a parent's file: the same for every way to write that parent that the
/// configuration takes.
fn name(parent: &str) -> String {
    let path = level::below(parent);
    let parts = path.iter().filter(|part| *part != "/").map(|part| part.to_string_lossy());
    format!("cgroup%{}.lock", parts.collect::<Vec<_>>().join("%"))
}

/// Returns whether this file is the one that lies there.
fn lies_at(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, fs::metadata(path));
    Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
}

/// Locks a file and says in it whose it is; none where somebody else has it.
fn lock(path: &Path, state: &Path) -> io::Result<Option<File>> {
    loop {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // whoever ended meanwhile may have removed it: then the next one locks another file
        if lies_at(&file, path)? {
            file.set_len(0)?;
            let (pid, state) = (std::process::id(), state.display());
            writeln!(file, "process {pid} with the state folder {state}")?;
            return Ok(Some(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parents(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn of_two_agents_with_one_parent_the_second_is_refused_and_told_what_to_do() {
        let dir = tempfile::tempdir().expect("folder");
        let take = async |names: &[&str], state: &str| {
            Owner::take(dir.path(), &parents(names), Path::new(state)).await
        };
        let first = take(&["warren-n1.slice", "/warren-n1"], "/one").await.expect("nobody's");
        let _other = take(&["/warren-n2"], "/two").await.expect("another parent");
        // written otherwise, and beside one that is free
        let refused = take(&["/warren-n3", "warren-n1/"], "/three").await.expect_err("taken");
        let told = refused.to_string();
        for word in ["CGROUPS_TAKEN", "warren-n1/", "/one)", "cgroup_parent", &pid()] {
            assert!(told.contains(word), "no {word:?} in: {told}");
        }
        let _third = take(&["/warren-n3"], "/three").await.expect("it was let go again");
        drop(first);
        take(&["/warren-n1", "warren-n1.slice"], "/three").await.expect("its process ended");
        assert!(!dir.path().join(name("/warren-n1")).exists(), "nothing is left");
    }

    fn pid() -> String {
        format!("process {} ", std::process::id())
    }

    #[tokio::test]
    async fn an_agent_that_is_replaced_is_waited_for() {
        let dir = tempfile::tempdir().expect("folder");
        let one = parents(&["/warren-n1"]);
        let old = Owner::take(dir.path(), &one, Path::new("/old")).await.expect("nobody's");
        let ends = async {
            sleep(ENDING.1 * 2).await;
            drop(old);
        };
        let (new, ()) = tokio::join!(Owner::take(dir.path(), &one, Path::new("/new")), ends);
        let _new = new.expect("the old one ended");
        let said = fs::read_to_string(dir.path().join(name("/warren-n1"))).expect("its file");
        assert!(said.ends_with("with the state folder /new\n"), "{said}");
    }

    #[tokio::test]
    async fn one_whose_file_was_removed_leaves_that_of_the_next_agent() {
        let dir = tempfile::tempdir().expect("folder");
        let one = parents(&["/warren-n1"]);
        let path = dir.path().join(name("/warren-n1"));
        let first = Owner::take(dir.path(), &one, Path::new("/one")).await.expect("nobody's");
        fs::remove_file(&path).expect("removed");
        let second = Owner::take(dir.path(), &one, Path::new("/two")).await.expect("nobody's");
        drop(first);
        let said = fs::read_to_string(&path).expect("its file");
        assert!(said.ends_with("with the state folder /two\n"), "{said}");
        drop(second);
        assert!(!path.exists(), "nothing is left");
    }

    #[test]
    fn the_files_outlive_the_folders_that_one_installation_removes() {
        let paths = include_str!("../../../../deploy/quickstart.d/paths.sh");
        let folders = paths.lines().filter_map(|line| line.split_once("=$ROOT/"));
        let folders: Vec<_> = folders.map(|(_, folder)| Path::new("/").join(folder)).collect();
        assert!(folders.contains(&PathBuf::from("/run/warren")), "{folders:?}");
        let ours = folders.iter().find(|folder| Path::new(FOLDER).starts_with(folder));
        assert_eq!(ours, None);
    }

    #[tokio::test]
    async fn a_file_that_a_killed_agent_left_keeps_nobody_out() {
        let dir = tempfile::tempdir().expect("folder");
        fs::write(dir.path().join(name("/warren-n1")), "process 1 of long ago").expect("written");
        let began = Instant::now();
        let one = parents(&["/warren-n1"]);
        Owner::take(dir.path(), &one, Path::new("/new")).await.expect("nobody holds it");
        assert!(began.elapsed() < ENDING.0, "it was waited for");
    }
}
