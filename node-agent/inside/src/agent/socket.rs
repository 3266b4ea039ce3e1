//! The status socket: takes one message per connection, a few connections at a time.
//!
//! What comes too fast waits in the kernel and then in the spool; nothing is lost to a flood but
//! the flood.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use super::{Agents, message::MESSAGE_BYTES, pace::Pace};
use crate::journal::event;

/// Connections read at one time.
const CONNECTIONS: usize = 16;
/// How long a message may take to arrive.
const DEADLINE: Duration = Duration::from_secs(1);
/// Messages taken in one [`WINDOW`].
const PER_WINDOW: u32 = 64;
const WINDOW: Duration = Duration::from_millis(100);
/// Between two looks whether the socket is still there for others.
const LOOK: Duration = Duration::from_secs(5);
/// After the socket could not be made.
const PAUSE: Duration = Duration::from_secs(5);

/// Listens for ever; a socket that somebody removed is made again.
pub(super) async fn run(agents: &Agents) {
    let mut told = false;
    loop {
        match bind(agents) {
            Ok(listener) => {
                told = false;
                serve(agents, &listener).await;
            }
            Err(error) => {
                if !told {
                    event!("agents cannot tell what they do: {error}");
                }
                told = true;
                sleep(PAUSE).await;
            }
        }
    }
}

fn bind(agents: &Agents) -> io::Result<UnixListener> {
    let path = agents.socket();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&agents.runtime)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Returns where the socket's file is another one or gone.
async fn serve(agents: &Agents, listener: &UnixListener) {
    let made = inode(agents);
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut readers = JoinSet::new();
    let mut looks = interval(LOOK);
    let mut pace = Pace::new(PER_WINDOW, WINDOW);
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = readers.join_next() => continue,
            _ = looks.tick() => {
                if inode(agents) != made {
                    return;
                }
                continue;
            }
        };
        let Ok((socket, _)) = accepted else {
            // out of descriptors, or the caller has gone
            sleep(WINDOW).await;
            continue;
        };
        let agents = agents.clone();
        readers.spawn(async move {
            read(socket, &agents).await;
            drop(permit);
        });
        pace.took().await;
    }
}

fn inode(agents: &Agents) -> Option<u64> {
    fs::symlink_metadata(agents.socket()).ok().map(|file| file.ino())
}

async fn read(socket: UnixStream, agents: &Agents) {
    let mut bytes = Vec::new();
    let most = u64::try_from(MESSAGE_BYTES).unwrap_or(u64::MAX);
    let mut socket = socket.take(most + 1);
    // what came until the deadline is no message, and counted as none
    let _ = timeout(DEADLINE, socket.read_to_end(&mut bytes)).await;
    agents.take(&bytes);
}
