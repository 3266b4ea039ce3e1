//! A node agent as far as PID 1 can see one.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use warren_proto::pb::inside::v1::{
    Frame, FromInside, Hello, Open, OpenStream, Setup, Shutdown, Status, ToInside, frame,
    from_inside, hello, open, to_inside,
};

use crate::wire::{self, Reader};

/// Longest any test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Stream>>>>;

/// Listens on the socket, answers each control connection with `setup`.
pub(crate) struct Agent {
    path: PathBuf,
    status: watch::Receiver<Status>,
    orders: mpsc::Sender<ToInside>,
    waiting: Waiting,
    next: u64,
    task: JoinHandle<()>,
}

impl Agent {
    pub(crate) fn listen(path: &Path, setup: Setup) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("a socket");
        let (status_sender, status) = watch::channel(Status::default());
        let (orders, mut wanted) = mpsc::channel::<ToInside>(100);
        let waiting = Waiting::default();
        let streams = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            // Dropped with this task, so that a "crash" closes every connection.
            let mut readers = JoinSet::new();
            let mut control: Option<OwnedWriteHalf> = None;
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (socket, _) = accepted.expect("a connection");
                        if let Some(write) =
                            greet(socket, &setup, (&status_sender, &streams), &mut readers).await
                        {
                            control = Some(write);
                        }
                    }
                    Some(order) = wanted.recv() => {
                        let write = control.as_mut().expect("PID 1 is connected");
                        wire::send(write, &order).await.expect("PID 1 reads");
                    }
                }
            }
        });
        Self { path: path.to_owned(), status, orders, waiting, next: 1, task }
    }

    /// Goes away with every connection, as if killed.
    pub(crate) async fn crash(mut self) -> PathBuf {
        self.task.abort();
        let _ = (&mut self.task).await;
        std::fs::remove_file(&self.path).expect("the socket's file");
        self.path.clone()
    }

    pub(crate) async fn order(&self, kind: to_inside::Kind) {
        self.orders.send(ToInside { kind: Some(kind) }).await.expect("the agent runs");
    }

    pub(crate) async fn shutdown(&self, grace_ms: u64) {
        self.order(to_inside::Kind::Shutdown(Shutdown { grace_ms })).await;
    }

    /// Waits until a status fits and returns it.
    pub(crate) async fn until(&mut self, what: &str, fits: impl FnMut(&Status) -> bool) -> Status {
        let found = timeout(PATIENCE, self.status.wait_for(fits)).await;
        let found = found.map(|status| status.expect("the agent runs").clone());
        if let Ok(status) = found {
            return status;
        }
        panic!("no status with {what}; the last is {:#?}", self.status.borrow());
    }

    pub(crate) async fn until_started(&mut self) -> Status {
        self.until("everything started", |status| status.started).await
    }

    /// Opens a stream and sends its first frame.
    pub(crate) async fn open(&mut self, what: open::What) -> Stream {
        let id = self.next;
        self.next += 1;
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().expect("no panic").insert(id, sender);
        self.order(to_inside::Kind::OpenStream(OpenStream { stream_id: id })).await;
        let dialled = timeout(PATIENCE, receiver).await.expect("PID 1 dials in time");
        let mut stream = dialled.expect("the agent runs");
        stream.send(frame::Kind::Open(Open { what: Some(what) })).await;
        stream
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn greet(
    socket: UnixStream,
    setup: &Setup,
    (status, streams): (&watch::Sender<Status>, &Waiting),
    readers: &mut JoinSet<()>,
) -> Option<OwnedWriteHalf> {
    let (read, mut write) = socket.into_split();
    let mut reader = Reader::new(read);
    let hello: Hello = timeout(PATIENCE, reader.next()).await.ok()?.ok()??;
    assert_eq!(hello.protocol, 1);
    match hello.role.expect("a role") {
        hello::Role::Control(control) => {
            assert_eq!(control.run_serial, 7);
            let setup = ToInside { kind: Some(to_inside::Kind::Setup(setup.clone())) };
            wire::send(&mut write, &setup).await.ok()?;
            let status = status.clone();
            readers.spawn(async move {
                while let Ok(Some(message)) = reader.next::<FromInside>().await {
                    let Some(from_inside::Kind::Status(seen)) = message.kind else { continue };
                    status.send_replace(seen);
                }
            });
            Some(write)
        }
        hello::Role::StreamId(id) => {
            let stream = Stream { reader, write: Some(write) };
            if let Some(waiting) = streams.lock().expect("no panic").remove(&id) {
                let _ = waiting.send(stream);
            }
            None
        }
    }
}

/// The caller's side of a stream. Dropping it is a caller that goes away.
pub(crate) struct Stream {
    reader: Reader<OwnedReadHalf>,
    write: Option<OwnedWriteHalf>,
}

/// What came back until the end of a stream.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) end: Option<frame::Kind>,
}

impl Stream {
    pub(crate) async fn send(&mut self, kind: frame::Kind) {
        let write = self.write.as_mut().expect("open");
        wire::send(write, &Frame { kind: Some(kind) }).await.expect("PID 1 reads");
    }

    pub(crate) async fn type_text(&mut self, text: &str) {
        self.send(frame::Kind::Stdin(text.to_owned().into())).await;
    }

    pub(crate) async fn next(&mut self) -> Option<frame::Kind> {
        let next = timeout(PATIENCE, self.reader.next::<Frame>()).await.expect("a frame in time");
        next.expect("a frame").map(|frame| frame.kind.expect("a kind"))
    }

    /// Expects the stream to be open.
    pub(crate) async fn opened(&mut self) {
        let next = self.next().await;
        assert!(matches!(next, Some(frame::Kind::Opened(_))), "{next:?}");
    }

    /// Reads output until `wanted` is in it.
    pub(crate) async fn until(&mut self, wanted: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(wanted) {
            match self.next().await {
                Some(frame::Kind::Stdout(bytes) | frame::Kind::Stderr(bytes)) => {
                    seen.push_str(&String::from_utf8_lossy(&bytes));
                }
                other => panic!("{other:?} instead of {wanted:?} after {seen:?}"),
            }
        }
        seen
    }

    /// Reads to the end.
    pub(crate) async fn finish(mut self) -> Transcript {
        let mut transcript = Transcript::default();
        while let Some(kind) = self.next().await {
            match kind {
                frame::Kind::Stdout(bytes) => transcript.stdout.extend_from_slice(&bytes),
                frame::Kind::Stderr(bytes) => transcript.stderr.extend_from_slice(&bytes),
                frame::Kind::Opened(_) => {}
                end => {
                    transcript.end = Some(end);
                    break;
                }
            }
        }
        transcript
    }

    /// Splits off a way to write while the rest reads.
    pub(crate) fn take_write(&mut self) -> OwnedWriteHalf {
        self.write.take().expect("open")
    }
}

impl Transcript {
    /// The exit code; panics for any other end.
    pub(crate) fn code(&self) -> i32 {
        match &self.end {
            Some(frame::Kind::Exited(exited)) => exited.code,
            other => panic!("{other:?} is not an exit"),
        }
    }
}
