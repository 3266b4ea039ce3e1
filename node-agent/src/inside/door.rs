//! One workspace's socket: who comes through it, and what is known because of it.
//!
//! The door outlives the container: it is opened before the container starts, again after a
//! restart of the agent, and closed when the workspace leaves the node. Everything that comes in
//! is untrusted: it is bounded by [`Limits`], must come from the workspace's own container, and
//! changes nothing but the [`InsideView`] of that workspace.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use warren_common::{Limits, Timestamp, WorkspaceId, status::clean};
use warren_daemon::clock;
use warren_proto::{
    convert::InsideStatus,
    pb::inside::v1::{self as pb, hello::Role, to_inside},
};

use super::{connection, older, pace::Pace, peer::PeerCheck};
use crate::container::plan::SOCKET;

/// Connections of one workspace that may be in their first second at one time.
const GREETINGS: usize = 16;
/// Connections that one workspace may make at once, and how soon it may make another: viewers come
/// one at a time, so only a flood waits.
const CONNECTIONS: (u32, Duration) = (64, Duration::from_millis(50));
/// Lines of the journal that one workspace may cause at once, and how soon another.
const LINES: (u32, Duration) = (20, Duration::from_secs(60));

/// What is known of a workspace from inside; the newest picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InsideView {
    /// PID 1 is connected.
    pub connected: bool,
    /// Version of its binary.
    pub version: String,
    /// What it last said in this run.
    pub status: Option<InsideStatus>,
    /// When it last said how it stands; none where it never did in this run. That it connects again
    /// says nothing of the agents inside.
    pub heard: Option<Timestamp>,
}

/// The run that may connect.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expected {
    /// The engine's id of the container; none where there is none.
    pub container: Option<String>,
    /// The run it was made for.
    pub run_serial: u64,
    /// What PID 1 is told.
    pub setup: pb::Setup,
}

/// Why a stream into a workspace could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// PID 1 is not connected.
    #[error("the workspace's PID 1 is not connected to the node agent")]
    NotConnected,
    /// [`Limits::STREAMS_PER_WORKSPACE`] are open.
    #[error(
        "{} streams are open in this workspace, which is the limit",
        Limits::STREAMS_PER_WORKSPACE
    )]
    TooMany,
    /// PID 1 did not dial back in time.
    #[error("the workspace's PID 1 did not answer within {} s", Limits::TUNNEL_TIMEOUT.as_secs())]
    Silent,
}

/// A stream connection of PID 1, to carry frames both ways.
#[derive(Debug)]
pub struct InsideStream {
    /// The connection; its next message is PID 1's first frame.
    pub stream: UnixStream,
    /// Its share of the workspace's streams.
    _share: OwnedSemaphorePermit,
}

/// One workspace's socket and what came through it. Dropping it closes the socket.
#[derive(Debug)]
pub struct Door {
    shared: Arc<Shared>,
    dir: PathBuf,
    stop: CancellationToken,
    listener: Mutex<Option<JoinHandle<()>>>,
}

/// What connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) workspace: WorkspaceId,
    pub(super) check: PeerCheck,
    pub(super) view: watch::Sender<InsideView>,
    pub(super) expected: watch::Sender<Expected>,
    control: Mutex<ControlSlot>,
    pending: Mutex<Pending>,
    streams: Arc<Semaphore>,
    /// What the workspace does is told at this pace; what is passed over is lost.
    pub(super) lines: Pace,
}

#[derive(Debug, Default)]
struct ControlSlot {
    serial: u64,
    current: Option<Control>,
}

#[derive(Debug)]
struct Control {
    serial: u64,
    /// The newest setup; an older one that was not sent yet is not needed any more.
    setup: watch::Sender<pb::Setup>,
    sender: mpsc::Sender<pb::ToInside>,
    replaced: CancellationToken,
    /// It takes orders of sessions.
    takes_orders: bool,
    /// When it last had a setup to be told.
    ordered: Timestamp,
}

/// What a control connection works with while it is the current one.
#[derive(Debug)]
pub(super) struct ControlTurn {
    pub(super) serial: u64,
    pub(super) outgoing: mpsc::Receiver<pb::ToInside>,
    pub(super) replaced: CancellationToken,
    /// What it is told first, and again when it changes.
    pub(super) setup: watch::Receiver<pb::Setup>,
}

#[derive(Debug, Default)]
struct Pending {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<UnixStream>>,
}

impl Door {
    /// Opens the socket in the workspace's folder `dir`, over one that an earlier agent left.
    /// Containers that have the folder mounted see the new socket.
    ///
    /// # Errors
    /// The folder or the socket cannot be made.
    pub fn open(workspace: WorkspaceId, dir: &Path, check: PeerCheck) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o755))?;
        let listener = bind(dir)?;
        let shared = Arc::new(Shared {
            workspace,
            check,
            view: watch::Sender::default(),
            expected: watch::Sender::default(),
            control: Mutex::default(),
            pending: Mutex::default(),
            streams: Arc::new(Semaphore::new(Limits::STREAMS_PER_WORKSPACE)),
            lines: Pace::new(LINES.0, LINES.1),
        });
        let stop = CancellationToken::new();
        let listener = tokio::spawn(listen(listener, Arc::clone(&shared), stop.clone()));
        Ok(Self { shared, dir: dir.to_owned(), stop, listener: Mutex::new(Some(listener)) })
    }

    /// Returns the folder to mount into the container.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Says which run may connect and what it is told. Another container or run than before
    /// forgets what the earlier one said and cuts its connections; new sessions are passed on.
    pub fn expect(&self, expected: Expected) {
        let before = self.shared.expected.send_replace(expected.clone());
        let known = before.container.is_some() || before.run_serial != 0;
        let same =
            before.container == expected.container && before.run_serial == expected.run_serial;
        if known && !same {
            self.shared.disconnect();
            self.shared.view.send_replace(InsideView::default());
        } else if before.setup != expected.setup {
            self.shared.order(&expected.setup);
        }
    }

    /// Watches what is known from inside.
    pub fn view(&self) -> watch::Receiver<InsideView> {
        self.shared.view.subscribe()
    }

    /// Asks PID 1 to end everything and exit; returns whether it was there to hear it.
    pub fn shut_down(&self, grace: Duration) -> bool {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.shared.tell(to_inside::Kind::Shutdown(pb::Shutdown { grace_ms }))
    }

    /// Asks PID 1 for a stream connection and waits for it, at most [`Limits::TUNNEL_TIMEOUT`].
    ///
    /// # Errors
    /// PID 1 is not there, does not answer, or too many streams are open.
    pub async fn stream(&self) -> Result<InsideStream, OpenError> {
        let share =
            Arc::clone(&self.shared.streams).try_acquire_owned().map_err(|_| OpenError::TooMany)?;
        let (id, dialled) = self.shared.await_stream();
        if !self.shared.tell(to_inside::Kind::OpenStream(pb::OpenStream { stream_id: id })) {
            self.shared.pending().waiting.remove(&id);
            return Err(OpenError::NotConnected);
        }
        let answer = timeout(Limits::TUNNEL_TIMEOUT, dialled).await;
        self.shared.pending().waiting.remove(&id);
        match answer {
            Ok(Ok(stream)) => Ok(InsideStream { stream, _share: share }),
            Ok(Err(_)) => Err(OpenError::NotConnected),
            Err(_) => Err(OpenError::Silent),
        }
    }

    /// Ends every connection and the listener; the socket stays, dead, until its folder goes.
    pub async fn close(&self) {
        self.stop.cancel();
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(listener) = listener else { return };
        if timeout(Limits::SHUTDOWN, listener).await.is_err() {
            warn!(workspace = %self.shared.workspace, "a listener did not end in time");
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    /// Makes this connection the control connection and closes an older one; none where PID 1
    /// is of another run than the one expected.
    pub(super) fn take_control(&self, hello: pb::Control) -> Option<ControlTurn> {
        let (sender, outgoing) = mpsc::channel(Limits::STREAM_REQUESTS);
        let mut slot = self.control();
        let expected = self.expected.borrow();
        if hello.run_serial != expected.run_serial {
            return None;
        }
        slot.serial += 1;
        let (serial, replaced) = (slot.serial, CancellationToken::new());
        let takes_orders = hello.takes_orders;
        let (orders, setup) = watch::channel(older::told(&expected.setup, takes_orders));
        let current = Control {
            serial,
            setup: orders,
            sender,
            replaced: replaced.clone(),
            takes_orders,
            ordered: clock::now(),
        };
        if let Some(older) = slot.current.replace(current) {
            older.replaced.cancel();
        }
        self.view.send_modify(|view| {
            view.connected = true;
            view.version = clean(&hello.version, Limits::NAME_BYTES);
        });
        Some(ControlTurn { serial, outgoing, replaced, setup })
    }

    /// Shows what the control connection of this serial said; wakes watchers only where it differs.
    pub(super) fn publish(&self, serial: u64, mut status: InsideStatus) {
        let slot = self.control();
        let Some(current) = slot.current.as_ref().filter(|current| current.serial == serial) else {
            return;
        };
        if !current.takes_orders {
            older::explain((&self.expected.borrow().setup, current.ordered), &mut status);
        }
        let now = clock::now();
        self.view.send_if_modified(|view| {
            let unheard = view.heard.is_none_or(|heard| now.since(heard) >= Limits::AGENT_UNHEARD);
            let differs = unheard || view.status.as_ref() != Some(&status);
            (view.status, view.heard) = (Some(status), Some(now));
            differs
        });
    }

    /// Ends this control connection's time, unless a newer one has taken over.
    pub(super) fn leave_control(&self, serial: u64) {
        let mut slot = self.control();
        if slot.current.as_ref().is_some_and(|current| current.serial == serial) {
            slot.current = None;
            self.view.send_modify(|view| view.connected = false);
        }
    }

    /// Hands a dialled stream to whoever asked for it; gives it back where nobody did.
    pub(super) fn hand_over(&self, id: u64, stream: UnixStream) -> Result<(), UnixStream> {
        match self.pending().waiting.remove(&id) {
            Some(waiting) => waiting.send(stream),
            None => Err(stream),
        }
    }

    /// Has PID 1 told this setup, whatever else it has to be told first.
    fn order(&self, setup: &pb::Setup) {
        if let Some(current) = &mut self.control().current {
            current.ordered = clock::now();
            current.setup.send_replace(older::told(setup, current.takes_orders));
        }
    }

    fn tell(&self, kind: to_inside::Kind) -> bool {
        let message = pb::ToInside { kind: Some(kind) };
        let slot = self.control();
        slot.current.as_ref().is_some_and(|current| current.sender.try_send(message).is_ok())
    }

    fn disconnect(&self) {
        if let Some(current) = self.control().current.take() {
            current.replaced.cancel();
        }
        self.pending().waiting.clear();
    }

    fn await_stream(&self) -> (u64, oneshot::Receiver<UnixStream>) {
        let (sender, receiver) = oneshot::channel();
        let mut pending = self.pending();
        pending.last += 1;
        let id = pending.last;
        pending.waiting.insert(id, sender);
        (id, receiver)
    }

    fn control(&self) -> MutexGuard<'_, ControlSlot> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Binds beside the socket and renames over it, so that there is always one to dial.
fn bind(dir: &Path) -> io::Result<UnixListener> {
    let (fresh, path) = (dir.join(".new"), dir.join(SOCKET));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o666))?;
    fs::rename(&fresh, &path)?;
    Ok(listener)
}

async fn listen(listener: UnixListener, shared: Arc<Shared>, stop: CancellationToken) {
    let greetings = Arc::new(Semaphore::new(GREETINGS));
    let tasks = tokio_util::task::TaskTracker::new();
    let pace = Pace::new(CONNECTIONS.0, CONNECTIONS.1);
    let accepting = async {
        loop {
            pace.turn().await;
            let Ok(turn) = Arc::clone(&greetings).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (shared, stop) = (Arc::clone(&shared), stop.clone());
                    tasks.spawn(async move {
                        let serving = connection::serve(stream, shared, turn);
                        stop.run_until_cancelled(serving).await;
                    });
                }
                Err(error) => {
                    warn!(workspace = %shared.workspace, %error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
    tasks.close();
    tasks.wait().await;
}

/// What a first message asks for.
pub(super) fn role_of(hello: pb::Hello) -> Option<Role> {
    (hello.protocol == 1).then_some(hello.role).flatten()
}
