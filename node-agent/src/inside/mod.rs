//! The agent's side of PID 1: one socket per workspace, and who speaks through it.
//!
//! [`Doors`] keeps a [`Door`] per workspace. The agent listens and PID 1 dials; which socket it
//! is, and whose container the process belongs to, say who is speaking. Nothing here knows what
//! should run; `proto/warren/inside/v1` is the protocol.

mod codec;
mod connection;
mod door;
mod older;
mod pace;
mod peer;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::warn;
use warren_common::WorkspaceId;

pub use codec::{CodecError, read_message, write_message};
pub use door::{Door, Expected, InsideStream, InsideView, OpenError};
pub use peer::{PeerCheck, PeerError};

/// Every workspace's socket, below the agent's runtime folder.
#[derive(Debug)]
pub struct Doors {
    runtime: PathBuf,
    check: PeerCheck,
    open: Mutex<HashMap<WorkspaceId, Arc<Door>>>,
}

impl Doors {
    /// Makes the runtime folder, readable by its owner alone.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(runtime: &Path, check: PeerCheck) -> io::Result<Self> {
        fs::create_dir_all(runtime)?;
        fs::set_permissions(runtime, Permissions::from_mode(0o700))?;
        Ok(Self { runtime: runtime.to_owned(), check, open: Mutex::default() })
    }

    /// Returns the folder of a workspace's socket, whether it is open or not.
    pub fn dir(&self, workspace: WorkspaceId) -> PathBuf {
        self.runtime.join(workspace.to_string())
    }

    /// Returns the workspace's door, opening it where it is not.
    ///
    /// # Errors
    /// The folder or the socket cannot be made.
    pub fn open(&self, workspace: WorkspaceId) -> io::Result<Arc<Door>> {
        let mut open = self.lock();
        if let Some(door) = open.get(&workspace) {
            return Ok(Arc::clone(door));
        }
        let door = Arc::new(Door::open(workspace, &self.dir(workspace), self.check)?);
        open.insert(workspace, Arc::clone(&door));
        Ok(door)
    }

    /// Returns the workspace's door where it is open.
    pub fn get(&self, workspace: WorkspaceId) -> Option<Arc<Door>> {
        self.lock().get(&workspace).map(Arc::clone)
    }

    /// Returns how many are open.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Closes the workspace's door: connections end, socket and folder go, also
    /// those that an earlier agent left.
    pub async fn close(&self, workspace: WorkspaceId) {
        let door = self.lock().remove(&workspace);
        if let Some(door) = door {
            door.close().await;
        }
        let dir = self.dir(workspace);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%workspace, %error, "cannot remove the socket's folder");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkspaceId, Arc<Door>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
