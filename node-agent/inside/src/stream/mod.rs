//! Streams: a viewer of a session, a program beside the sessions, a connection to what listens here,
//! why an agent's status is what it is.
//!
//! Each stream is a connection of its own. What it started ends when the connection does: there is
//! no way to leave a viewer or a program behind.

pub(crate) mod attach;
mod connect;
mod exec;
mod explain;
mod pump;
mod screen;
mod shot;

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use warren_common::Limits;
use warren_proto::pb::inside::v1::{
    Exited, Failed, Frame, Hello, Open, Opened, Setup, frame, hello, open,
};

use crate::{
    agent::Agents,
    board::Board,
    browser::Browsers,
    config::Config,
    journal::event,
    reaper::Reaper,
    service::Services,
    tmux::Keeper,
    uplink::{self, PROTOCOL, chain},
    view::{control::Control, viewers::Viewers},
    wire::{self, Reader, WireError},
};

/// After the last frame: for the other side to read it and close.
const LINGER: Duration = Duration::from_secs(2);

/// What every stream works with.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    /// Where things are.
    pub(crate) config: Arc<Config>,
    /// What a viewer waits for.
    pub(crate) board: Board,
    /// What starts programs.
    pub(crate) reaper: Reaper,
    /// The sessions.
    pub(crate) keeper: Keeper,
    /// The agents in them.
    pub(crate) agents: Agents,
    /// The browsers.
    pub(crate) browsers: Browsers,
    /// The setup, for the checkout's folder.
    pub(crate) setup: watch::Receiver<Option<Arc<Setup>>>,
    /// One permit per stream.
    pub(crate) permits: Arc<Semaphore>,
    /// Room for connections.
    pub(crate) connects: Connects,
    /// What is kept up beside the sessions.
    pub(crate) services: Services,
    /// Who may use the display's keyboard and mouse.
    pub(crate) control: Control,
    /// Room for the browsers that look.
    pub(crate) viewers: Viewers,
    /// Held while a text and its keys are typed, so that those of two callers do not mix.
    pub(crate) typing: Arc<Mutex<()>>,
}

/// Returns the permits of [`Streams`].
pub(crate) fn permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(Limits::STREAMS_PER_WORKSPACE))
}

/// Room for connections; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Connects {
    /// One permit per connection.
    all: Arc<Semaphore>,
    /// One more per connection to a port.
    ports: Arc<Semaphore>,
}

/// Returns the connections of [`Streams`].
pub(crate) fn connects() -> Connects {
    let room = |most| Arc::new(Semaphore::new(most));
    Connects { all: room(Limits::CONNECTS_PER_WORKSPACE), ports: room(Limits::PORTS_PER_WORKSPACE) }
}

/// Why a stream was not opened: a stable code and a sentence.
pub(crate) type Refusal = (&'static str, String);

impl Streams {
    /// Serves each stream the node agent asks for, until it is dropped.
    pub(crate) async fn run(self, mut wanted: mpsc::Receiver<u64>) {
        let mut open = JoinSet::new();
        loop {
            let id = tokio::select! {
                id = wanted.recv() => id,
                Some(_) = open.join_next() => continue,
            };
            let Some(id) = id else { return };
            let streams = self.clone();
            open.spawn(async move {
                if let Err(error) = streams.serve(id).await {
                    event!("stream {id} broke: {}", chain(&error));
                }
            });
        }
    }

    /// Waits until no stream is open, at most `limit`.
    pub(crate) async fn closed(&self, limit: Duration) {
        let all = u32::try_from(Limits::STREAMS_PER_WORKSPACE).unwrap_or(u32::MAX);
        // The process ends either way.
        let _ = timeout(limit, self.permits.acquire_many(all)).await;
    }

    async fn serve(&self, id: u64) -> Result<(), WireError> {
        let (mut reader, line) = dial(&self.config, id).await?;
        let last = match self.permits.try_acquire() {
            Ok(_permit) => match self.open(&mut reader, &line).await? {
                Ok(Some(exited)) => frame::Kind::Exited(exited),
                // The caller has gone: nobody to tell.
                Ok(None) => return Ok(()),
                Err((reason, message)) => failed(reason, message),
            },
            Err(_) => {
                let most = Limits::STREAMS_PER_WORKSPACE;
                let message = format!("{most} streams are open already, which is the limit");
                failed("LIMIT_REACHED", message)
            }
        };
        line.send(last).await?;
        line.linger(reader).await;
        Ok(())
    }

    async fn open(
        &self,
        reader: &mut Reader<OwnedReadHalf>,
        line: &Line,
    ) -> Result<Served, WireError> {
        if self.reaper.is_closed() {
            return Ok(Err(("SHUTTING_DOWN", "the workspace is stopping".to_owned())));
        }
        let bad = |message: &str| Ok(Err(("INVALID_ARGUMENT", message.to_owned())));
        let first = match timeout(Limits::TUNNEL_TIMEOUT, reader.next::<Frame>()).await {
            Ok(first) => first?,
            Err(_) => return bad("the first frame did not come in time"),
        };
        match first.map(|frame| frame.kind) {
            None => Ok(Ok(None)),
            Some(Some(frame::Kind::Open(Open { what: Some(open) }))) => match open {
                open::What::Attach(attach) => attach::serve(self, attach, reader, line).await,
                open::What::Exec(exec) => exec::serve(self, exec, reader, line).await,
                open::What::Logs(_) => bad("logs are answered by the node agent"),
                open::What::Explain(explain) => explain::serve(self, explain, line).await,
                open::What::Send(send) => screen::send(self, &send, line).await,
                open::What::Read(read) => screen::read(self, &read, line).await,
                open::What::Connect(to) => connect::serve(self, to, reader, line).await,
                open::What::Shot(shot) => shot::serve(self, shot, line).await,
            },
            Some(_) => bad("the first frame does not open anything this version knows"),
        }
    }
}

fn failed(reason: &str, message: String) -> frame::Kind {
    frame::Kind::Failed(Failed { reason: reason.to_owned(), message })
}

/// What came of a stream: how its program ended, nothing where the caller went away, or why it
/// was not opened.
type Served = Result<Option<Exited>, Refusal>;

async fn dial(config: &Config, id: u64) -> Result<(Reader<OwnedReadHalf>, Line), WireError> {
    let socket: UnixStream = uplink::connect(&config.socket).await?;
    let (read, mut write) = socket.into_split();
    let hello = Hello { protocol: PROTOCOL, role: Some(hello::Role::StreamId(id)) };
    uplink::send(&mut write, &hello).await?;
    Ok((Reader::new(read), Line(Mutex::new(write))))
}

/// The way back to the caller, shared by output and error output.
#[derive(Debug)]
struct Line(Mutex<OwnedWriteHalf>);

impl Line {
    /// Writes one frame; waits as long as the caller takes to read, so that a slow caller slows
    /// the program and nothing piles up.
    async fn send(&self, kind: frame::Kind) -> Result<(), WireError> {
        wire::send(&mut *self.0.lock().await, &Frame { kind: Some(kind) }).await
    }

    /// Answers what was asked with all there is to say.
    async fn answer(&self, output: &[u8]) -> Result<Served, WireError> {
        self.send(frame::Kind::Opened(Opened {})).await?;
        for piece in output.chunks(Limits::FRAME_BYTES) {
            self.send(frame::Kind::Stdout(piece.to_vec().into())).await?;
        }
        Ok(Ok(Some(Exited { code: 0, detached: false })))
    }

    /// Lets the last frame arrive: input that is still on its way would reset the connection.
    async fn linger(self, mut reader: Reader<OwnedReadHalf>) {
        drop(self);
        let drain = async { while let Ok(Some(_)) = reader.next::<Frame>().await {} };
        // A caller that does not close is cut.
        let _ = timeout(LINGER, drain).await;
    }
}
