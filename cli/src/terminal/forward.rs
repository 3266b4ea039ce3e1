//! A port of this machine's loopback as the near end of streams: each connection to it is one.
//!
//! Only the loopback is listened on. Whoever can connect to it here can connect to what it stands
//! for; a page that PID 1 serves asks for its token beside that.

use std::{
    cell::RefCell,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::{Mutex, Semaphore, mpsc},
    task::{JoinSet, LocalSet},
    time::{Instant, sleep},
};
use tonic::codegen::Bytes;
use warren_common::Limits;
use warren_proto::{
    error::reason,
    pb::{
        admin::v1::OpenStreamRequest,
        inside::v1::{Connect, StdinClosed, connect::Target, frame, open},
    },
};

pub(crate) use super::pump::Signals;
use super::stream::{Event, Repeat, Stream, request};
use crate::{
    api::Api,
    error::{Error, Kind},
    render::Output,
};

/// How long a connection waits for a workspace that cannot be reached now: for a coordinator to take
/// over, or a node agent to start again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often another free port is looked for.
const ANY_PORT_TRIES: u32 = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What connections are opened to.
pub(crate) struct Far {
    workspace: String,
    connect: Connect,
    output: Output,
    /// The trouble that was told last, until there is none: a page has many connections, and all of
    /// them have the same.
    told: RefCell<Option<String>>,
}

/// One port of the loopback.
///
/// Browsers lead a name below `localhost` to `[::1]` first: where this machine has one, the port is
/// held there too, or whoever else takes it would be shown the address with its token.
pub(crate) struct Listener {
    four: TcpListener,
    six: Option<TcpListener>,
}

impl Listener {
    async fn bind(port: u16) -> io::Result<Self> {
        let four = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = four.local_addr()?.port();
        let six = match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(six) => Some(six),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            // no such address here, so nobody else can have it either
            Err(_) => None,
        };
        Ok(Self { four, six })
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some(six) = &self.six else { return self.four.accept().await };
        tokio::select! {
            accepted = self.four.accept() => accepted,
            accepted = six.accept() => accepted,
        }
    }
}

/// Listens on the loopback; port 0 takes any that is free.
///
/// # Errors
/// The port is taken here.
pub(crate) async fn listen(port: u16) -> Result<(Listener, u16), Error> {
    let bound = async {
        let mut tries = 0;
        let listener = loop {
            tries += 1;
            match Listener::bind(port).await {
                // one that is free in the one half and taken in the other
                Err(_) if port == 0 && tries < ANY_PORT_TRIES => {}
                bound => break bound?,
            }
        };
        let port = listener.four.local_addr()?.port();
        Ok((listener, port))
    };
    bound.await.map_err(|error: io::Error| {
        let message = format!("port {port} of this machine cannot be listened on");
        Error::new(Kind::Failed, "PORT_TAKEN", message)
            .why(error.to_string())
            .next("name another --local PORT, or none to take any that is free")
    })
}

impl Far {
    /// Returns something in a workspace, by its address or id; `output` is told of trouble.
    pub(crate) fn new(workspace: String, connect: Connect, output: Output) -> Self {
        Self { workspace, connect, output, told: RefCell::default() }
    }

    /// Opens one stream and closes it: says at once what would only show with the first connection.
    /// That nothing listens yet is told and is no error.
    ///
    /// # Errors
    /// Why no connection would be made.
    pub(crate) async fn probe(&self, api: &mut Api) -> Result<(), Error> {
        match self.open(api).await {
            Ok(_) => Ok(()),
            Err(error) if error.reason == reason::PORT_CLOSED => {
                self.output.talk(&format!("warning: {}", error.message));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Serves connections until a signal ends it. The signals are caught before anybody is told that
    /// it serves: one that comes between would be nobody's.
    ///
    /// # Errors
    /// The listener fails.
    pub(crate) async fn serve(
        self,
        api: Api,
        (listener, signals): (Listener, Signals),
    ) -> Result<(), Error> {
        // calls that may be repeated borrow what they send, which keeps them on one thread
        LocalSet::new().run_until(self.accept(api, listener, signals)).await
    }

    async fn accept(self, api: Api, listener: Listener, mut signals: Signals) -> Result<(), Error> {
        // what finds no room waits here, and is not refused there
        let most = match self.connect.target {
            Some(Target::Port(_)) => Limits::PORTS_PER_WORKSPACE,
            Some(Target::View(_)) | None => Limits::CONNECTS_PER_WORKSPACE,
        };
        let room = Arc::new(Semaphore::new(most));
        let (this, api) = (Rc::new(self), Rc::new(Mutex::new(api)));
        let mut open = JoinSet::new();
        loop {
            let accepted = async {
                // never closed
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, listener.accept().await)
            };
            tokio::select! {
                (permit, accepted) = accepted => {
                    let (socket, _) =
                        accepted.map_err(|error| Error::pipe("accepting a connection", &error))?;
                    let (this, api) = (Rc::clone(&this), Rc::clone(&api));
                    open.spawn_local(async move {
                        let _permit = permit;
                        if let Err(error) = this.connection(&api, socket).await {
                            this.tell(format!("a connection ended: {}", error.message));
                        }
                    });
                }
                Some(_) = open.join_next() => {}
                _ = signals.next() => return Ok(()),
            }
        }
    }

    async fn open(&self, api: &mut Api) -> Result<Stream, Error> {
        let what = open::What::Connect(self.connect.clone());
        Stream::open(api, &self.workspace, (what, Repeat::Allowed)).await
    }

    async fn connection(&self, shared: &Mutex<Api>, socket: TcpStream) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.attempt(shared).await {
                Ok(stream) => {
                    if self.told.take().is_some() {
                        self.output.talk("connected again");
                    }
                    return carry(stream, socket).await;
                }
                Err(error) if error.kind == Kind::Unreachable && Instant::now() < until => {
                    self.tell(format!("{}; trying again", error.message));
                }
                Err(error) => return Err(error),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, shared: &Mutex<Api>) -> Result<Stream, Error> {
        let mut api = shared.lock().await.beside().await?;
        let opened = self.open(&mut api).await;
        if opened.as_ref().is_err_and(|error| error.kind == Kind::Unreachable) {
            shared.lock().await.disconnect();
        }
        opened
    }

    /// Tells of trouble that was not the last one told.
    fn tell(&self, words: String) {
        if self.told.borrow().as_ref() != Some(&words) {
            self.output.talk(&words);
            self.told.replace(Some(words));
        }
    }
}

/// Moves bytes both ways until both directions have ended or one side has gone.
async fn carry(mut stream: Stream, socket: TcpStream) -> Result<(), Error> {
    // a key that is pressed must not wait for the next one
    let _ = socket.set_nodelay(true);
    let (read, mut write) = socket.into_split();
    let up = stream.up().clone();
    let down = async {
        loop {
            match stream.next().await {
                // the far side says nothing more
                Event::Stdout(bytes) if bytes.is_empty() => {
                    let _ = write.shutdown().await;
                }
                Event::Stdout(bytes) => {
                    if write.write_all(&bytes).await.is_err() {
                        return Ok(());
                    }
                }
                Event::Stderr(_) => {}
                Event::Exited { .. } => return Ok(()),
                Event::Refused(error) => return Err(error),
                Event::Lost(why) => {
                    let message = format!("the connection to the workspace broke: {why}");
                    return Err(Error::new(Kind::Unreachable, "CONNECTION_LOST", message));
                }
            }
        }
    };
    tokio::select! {
        ended = down => ended,
        () = send(read, up) => Ok(()),
    }
}

/// Sends what the near side says; returns only where it has gone altogether.
async fn send(mut read: OwnedReadHalf, up: mpsc::Sender<OpenStreamRequest>) {
    let mut buffer = vec![0; Limits::FRAME_BYTES];
    loop {
        let kind = match read.read(&mut buffer).await {
            Ok(0) => frame::Kind::StdinClosed(StdinClosed {}),
            Ok(count) => frame::Kind::Stdin(Bytes::copy_from_slice(&buffer[..count])),
            Err(_) => return,
        };
        let last = matches!(kind, frame::Kind::StdinClosed(_));
        if up.send(request(kind)).await.is_err() || last {
            // what the far side still says decides the end
            return std::future::pending().await;
        }
    }
}
