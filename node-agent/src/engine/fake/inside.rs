//! PID 1 of a fake container: a task that dials the agent and speaks `warren.inside.v1`.
//!
//! It does nothing and says that all went well, with these exceptions for tests: a repository
//! whose URL holds `missing` fails to clone, a setup script of `exit 1` fails, one of `sleep N`
//! takes N seconds from the container's start. Attach echoes what is typed. Exec knows `true`,
//! `false`, `cat`, `sh -c "exit N"`, `warren-fake-exit N` (the whole container ends with N) and
//! `warren-fake-agent` and `warren-fake-browser` (see [`super::agents`], [`super::browsers`]); of anything else it prints the words.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc},
    task::JoinSet,
};
use warren_common::{Limits, Timestamp};
use warren_proto::{
    convert::explanation_bytes,
    pb::inside::v1::{self as pb, frame, from_inside, hello, open, to_inside},
};

use super::{agents::Agents, browsers::Browsers, now};
use crate::container::{
    ContainerPlan,
    plan::{RUN, SOCKET},
};

const REDIAL: Duration = Duration::from_millis(50);
const HEARTBEAT: Duration = Duration::from_secs(5);
const PROTOCOL: u32 = 1;
/// The one port that something listens on.
const ECHO: u32 = 7;

/// One PID 1, which lives as long as its container.
pub(super) struct Inside {
    socket: PathBuf,
    run_serial: u64,
    started: Timestamp,
    log: PathBuf,
    shared: Arc<Shared>,
}

/// What control and streams share.
#[derive(Default)]
struct Shared {
    setup: Mutex<Option<pb::Setup>>,
    viewers: Mutex<BTreeMap<String, u32>>,
    agents: Mutex<Agents>,
    browsers: Mutex<Browsers>,
    changed: Notify,
}

impl Shared {
    fn setup(&self) -> MutexGuard<'_, Option<pb::Setup>> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn agents(&self) -> MutexGuard<'_, Agents> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, session: &str) -> bool {
        let setup = self.setup();
        setup.as_ref().is_some_and(|one| one.sessions.iter().any(|known| known.name == session))
    }

    fn browsers(&self) -> MutexGuard<'_, Browsers> {
        self.browsers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a browser do what a program's words say; returns the program's exit code.
    fn show(&self, words: &[String]) -> i32 {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let understood = self.browsers().play(&words);
        self.changed.notify_one();
        if understood { 0 } else { 2 }
    }

    /// Has an agent do what a program's words say; returns the program's exit code.
    fn play(&self, words: &[String]) -> i32 {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some((session, words)) = words.split_first() else { return 2 };
        if !self.has(session) || !self.agents().play(session, words) {
            return 2;
        }
        self.changed.notify_one();
        0
    }

    fn viewers(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    pub(super) fn new(plan: &ContainerPlan, started: Timestamp, log: PathBuf) -> Self {
        let run_serial = plan.env.get("WARREN_RUN_SERIAL").and_then(|text| text.parse().ok());
        Self {
            socket: plan.source(RUN).unwrap_or_else(|| RUN.as_ref()).join(SOCKET),
            run_serial: run_serial.unwrap_or(0),
            started,
            log,
            shared: Arc::default(),
        }
    }

    /// Dials and redials; returns the exit code once it was told to end.
    pub(super) async fn run(self) -> i32 {
        self.say(&format!("warren-inside (fake): run {}", self.run_serial));
        loop {
            if let Ok(connection) = UnixStream::connect(&self.socket).await
                && let Ok(Some(exit_code)) = self.control(connection).await
            {
                self.say(&format!("warren-inside (fake): exit {exit_code}"));
                return exit_code;
            }
            tokio::time::sleep(REDIAL).await;
        }
    }

    /// Serves one control connection; returns an exit code, or none when it broke.
    async fn control(&self, connection: UnixStream) -> io::Result<Option<i32>> {
        let (reader, mut writer) = connection.into_split();
        let (version, run_serial) = ("fake".to_owned(), self.run_serial);
        let control = pb::Control { version, run_serial, takes_orders: true };
        let role = Some(hello::Role::Control(control));
        send(&mut writer, &pb::Hello { protocol: PROTOCOL, role }).await?;
        let (exit, mut exits) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        let mut messages = listen(&mut tasks, reader);
        loop {
            let setup_ends = self.setup_ends();
            tokio::select! {
                message = messages.recv() => match message.and_then(|message| message.kind) {
                    Some(to_inside::Kind::Setup(setup)) => self.take(setup),
                    Some(to_inside::Kind::OpenStream(open)) => {
                        let stream = self.stream(open.stream_id, exit.clone());
                        // a stream that breaks is its viewer's loss alone
                        tasks.spawn(async move { let _ = stream.await; });
                    }
                    Some(to_inside::Kind::Shutdown(_)) => return Ok(Some(0)),
                    None => return Ok(None),
                },
                code = exits.recv() => return Ok(code),
                () = self.shared.changed.notified() => {}
                () = tokio::time::sleep(setup_ends.min(HEARTBEAT)) => {}
            }
            while tasks.try_join_next().is_some() {}
            if let Some(status) = self.status() {
                let kind = Some(from_inside::Kind::Status(status));
                send(&mut writer, &pb::FromInside { kind }).await?;
            }
        }
    }

    /// Keeps the first setup of its life and takes the sessions from later ones.
    fn take(&self, setup: pb::Setup) {
        let mut known = self.shared.setup();
        match known.as_mut() {
            None => *known = Some(setup),
            Some(known) if known.ordered || setup.ordered => {
                (known.ordered, known.sessions) = (true, setup.sessions);
            }
            Some(known) => {
                for session in setup.sessions {
                    if known.sessions.iter().all(|other| other.name != session.name) {
                        known.sessions.push(session);
                    }
                }
            }
        }
    }

    /// Returns how long the setup script still sleeps; a heartbeat where it does not.
    fn setup_ends(&self) -> Duration {
        let end = self.shared.setup().as_ref().map(|setup| self.setup_end(setup));
        match end.map(|end| end.since(now())) {
            Some(left) if left > Duration::ZERO => left,
            Some(_) | None => HEARTBEAT,
        }
    }

    fn setup_end(&self, setup: &pb::Setup) -> Timestamp {
        let seconds = setup.setup_script.trim().strip_prefix("sleep ");
        let seconds = seconds.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        self.started.plus(Duration::from_secs(seconds))
    }

    /// The whole picture, as soon as there is a setup.
    fn status(&self) -> Option<pb::Status> {
        let setup = self.shared.setup().clone()?;
        let sleeping = self.setup_end(&setup) > now();
        let mut steps = Vec::new();
        if !setup.git_name.is_empty() || !setup.git_email.is_empty() {
            steps.push(self.step("git-identity", "git identity", None));
        }
        if !setup.repo.is_empty() {
            let missing = setup.repo.contains("missing");
            let failure = missing.then_some("git clone failed: repository not found");
            steps.push(self.step("clone", &format!("git clone {}", setup.folder), failure));
        }
        if !setup.setup_script.is_empty() {
            let failed = setup.setup_script.trim() == "exit 1";
            let mut step = self.step("setup", "setup", failed.then_some("setup: exit code 1"));
            if sleeping {
                step.state = pb::StepState::Running.into();
                step.elapsed_ms = 0;
            }
            steps.push(step);
        }
        let viewers = self.shared.viewers();
        let mut sessions = Vec::new();
        for session in setup.sessions.iter().filter(|_| !sleeping) {
            let title = format!("session {}", session.name);
            steps.push(self.step(&format!("session:{}", session.name), &title, None));
            sessions.push(pb::SessionStatus {
                name: session.name.clone(),
                command: session.command.clone(),
                running: true,
                exit_code: 0,
                started_unix_ms: self.started.0,
                active_unix_ms: self.started.0,
                viewers: viewers.get(&session.name).copied().unwrap_or(0),
                panes: Vec::new(),
                agent: self.shared.agents().status(&session.name),
                run: session.run,
                branch: session.branch.clone(),
                ..pb::SessionStatus::default()
            });
        }
        let browsers = self.shared.browsers().statuses();
        Some(pb::Status { steps, started: !sleeping, sessions, browsers, services: Vec::new() })
    }

    fn step(&self, name: &str, title: &str, failure: Option<&str>) -> pb::Step {
        let state = failure.map_or(pb::StepState::Done, |_| pb::StepState::Failed);
        pb::Step {
            name: name.to_owned(),
            title: title.to_owned(),
            state: state.into(),
            message: failure.unwrap_or_default().to_owned(),
            started_unix_ms: self.started.0,
            elapsed_ms: 1,
            output: String::new(),
        }
    }

    fn say(&self, line: &str) {
        let file = fs::OpenOptions::new().create(true).append(true).open(&self.log);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            tracing::warn!(%error, "the fake engine's log cannot be written");
        }
    }

    /// Dials again and serves one stream.
    fn stream(
        &self,
        stream_id: u64,
        exit: mpsc::Sender<i32>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let (socket, shared) = (self.socket.clone(), Arc::clone(&self.shared));
        async move {
            let (mut reader, mut writer) = UnixStream::connect(socket).await?.into_split();
            let role = Some(hello::Role::StreamId(stream_id));
            send(&mut writer, &pb::Hello { protocol: PROTOCOL, role }).await?;
            let first: Option<pb::Frame> = receive(&mut reader).await?;
            let Some(frame::Kind::Open(open)) = first.and_then(|frame| frame.kind) else {
                return fail(&mut writer, "BAD_REQUEST", "the first frame does not open").await;
            };
            match open.what {
                Some(open::What::Attach(attach)) => {
                    if !shared.has(&attach.session) {
                        return no_session(&mut writer, &attach.session).await;
                    }
                    let viewer = Viewer::new(&shared, attach.session);
                    reply(&mut writer, frame::Kind::Opened(pb::Opened {})).await?;
                    let hello = format!("fake session {}\r\n", viewer.session);
                    reply(&mut writer, frame::Kind::Stdout(hello.into())).await?;
                    echo(&mut reader, &mut writer).await
                }
                Some(open::What::Exec(exec)) => {
                    reply(&mut writer, frame::Kind::Opened(pb::Opened {})).await?;
                    let code = match exec.argv.first().map(String::as_str) {
                        Some("warren-fake-agent") => shared.play(&exec.argv[1..]),
                        Some("warren-fake-browser") => shared.show(&exec.argv[1..]),
                        _ => run(&exec.argv, &mut reader, &mut writer, &exit).await?,
                    };
                    let exited = pb::Exited { code, detached: false };
                    reply(&mut writer, frame::Kind::Exited(exited)).await
                }
                Some(open::What::Explain(explain)) => {
                    if !shared.has(&explain.session) {
                        return no_session(&mut writer, &explain.session).await;
                    }
                    let why = explanation_bytes(&shared.agents().explain(&explain.session));
                    reply(&mut writer, frame::Kind::Opened(pb::Opened {})).await?;
                    reply(&mut writer, frame::Kind::Stdout(why.into())).await?;
                    let exited = pb::Exited { code: 0, detached: false };
                    reply(&mut writer, frame::Kind::Exited(exited)).await
                }
                Some(open::What::Connect(connect)) => {
                    if connect.target != Some(pb::connect::Target::Port(ECHO)) {
                        return fail(&mut writer, "PORT_CLOSED", "nothing listens there").await;
                    }
                    reply(&mut writer, frame::Kind::Opened(pb::Opened {})).await?;
                    echo(&mut reader, &mut writer).await?;
                    reply(&mut writer, frame::Kind::Stdout(Bytes::new())).await?;
                    let exited = pb::Exited { code: 0, detached: false };
                    reply(&mut writer, frame::Kind::Exited(exited)).await
                }
                Some(open::What::Shot(shot)) => {
                    let Some(picture) = shared.browsers().picture(&shot.browser) else {
                        return fail(&mut writer, "NOT_FOUND", "there is no such browser").await;
                    };
                    reply(&mut writer, frame::Kind::Opened(pb::Opened {})).await?;
                    reply(&mut writer, frame::Kind::Stdout(picture.into())).await?;
                    let exited = pb::Exited { code: 0, detached: false };
                    reply(&mut writer, frame::Kind::Exited(exited)).await
                }
                Some(open::What::Logs(_) | open::What::Send(_) | open::What::Read(_)) | None => {
                    fail(&mut writer, "BAD_REQUEST", "not served inside").await
                }
            }
        }
    }
}

/// Counts one viewer of a session for as long as it lives.
struct Viewer<'a> {
    shared: &'a Shared,
    session: String,
}

impl<'a> Viewer<'a> {
    fn new(shared: &'a Shared, session: String) -> Self {
        *shared.viewers().entry(session.clone()).or_default() += 1;
        shared.changed.notify_one();
        Self { shared, session }
    }
}

impl Drop for Viewer<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.shared.viewers().get_mut(&self.session) {
            *count = count.saturating_sub(1);
        }
        self.shared.changed.notify_one();
    }
}

/// Plays one program and returns its exit code.
async fn run(
    argv: &[String],
    reader: &mut OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    exit: &mpsc::Sender<i32>,
) -> io::Result<i32> {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let number = |text: &str| text.trim().parse().unwrap_or(0);
    match words[..] {
        ["true"] => Ok(0),
        ["false"] => Ok(1),
        ["cat"] => echo(reader, writer).await.map(|()| 0),
        ["sh", "-c", script] if script.starts_with("exit ") => Ok(number(&script[5..])),
        ["warren-fake-exit", code] => {
            // the container is gone before anybody reads on
            let _ = exit.send(number(code)).await;
            Ok(0)
        }
        _ => {
            let line = format!("{}\n", words.join(" "));
            reply(writer, frame::Kind::Stdout(line.into())).await.map(|()| 0)
        }
    }
}

/// Sends back what comes, until the other side closes.
async fn echo(reader: &mut OwnedReadHalf, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    while let Some(frame) = receive::<pb::Frame>(reader).await? {
        match frame.kind {
            Some(frame::Kind::Stdin(bytes)) => reply(writer, frame::Kind::Stdout(bytes)).await?,
            Some(frame::Kind::StdinClosed(_)) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

async fn reply(writer: &mut OwnedWriteHalf, kind: frame::Kind) -> io::Result<()> {
    send(writer, &pb::Frame { kind: Some(kind) }).await
}

async fn no_session(writer: &mut OwnedWriteHalf, session: &str) -> io::Result<()> {
    fail(writer, "SESSION_NOT_FOUND", &format!("there is no session {session}")).await
}

async fn fail(writer: &mut OwnedWriteHalf, reason: &str, message: &str) -> io::Result<()> {
    let failed = pb::Failed { reason: reason.to_owned(), message: message.to_owned() };
    reply(writer, frame::Kind::Failed(failed)).await
}

async fn send(writer: &mut OwnedWriteHalf, message: &impl Message) -> io::Result<()> {
    writer.write_all(&message.encode_length_delimited_to_vec()).await
}

/// Reads messages in a task of their own, since a read that is cut in two cannot go on.
fn listen(tasks: &mut JoinSet<()>, mut reader: OwnedReadHalf) -> mpsc::Receiver<pb::ToInside> {
    let (sender, receiver) = mpsc::channel(Limits::STREAM_REQUESTS);
    tasks.spawn(async move {
        while let Ok(Some(message)) = receive(&mut reader).await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Reads one length-delimited message; none at the end.
pub(super) async fn receive<M: Message + Default>(
    reader: &mut OwnedReadHalf,
) -> io::Result<Option<M>> {
    let mut length = 0usize;
    for shift in (0..).step_by(7).take(5) {
        let byte = match reader.read_u8().await {
            Ok(byte) => byte,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && shift == 0 => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        length |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if length > Limits::INSIDE_MESSAGE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message beyond the limit"));
    }
    let mut buffer = vec![0; length];
    reader.read_exact(&mut buffer).await?;
    let message = M::decode(Bytes::from(buffer));
    message.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
