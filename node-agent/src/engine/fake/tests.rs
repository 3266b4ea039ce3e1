//! The fake must behave as Docker does where the agent can tell.

use std::time::Instant;

use prost::Message;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use uuid::Uuid;
use warren_common::spec::WorkspaceOrder;
use warren_proto::pb::inside::v1::{self as pb, frame, from_inside, hello, open, to_inside};

use super::{inside::receive, *};
use crate::container::{
    Ground,
    fixture::{ground, order},
    plan, plan_network,
};

const DEADLINE: Duration = Duration::from_secs(20);

struct Stage {
    folder: tempfile::TempDir,
    boot: BootId,
    order: WorkspaceOrder,
    ground: Ground,
    listener: UnixListener,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let run = folder.path().join("run");
        fs::create_dir(&run).expect("folder");
        let listener = UnixListener::bind(run.join("agent.sock")).expect("bind");
        let ground = Ground { run, ..ground() };
        Self { folder, boot: BootId::new(Uuid::new_v4()), order: order(), ground, listener }
    }

    fn open(&self) -> FakeEngine {
        FakeEngine::open(self.folder.path().join("engine"), self.boot).expect("opened")
    }

    fn control(&self, text: &str) {
        let file = self.folder.path().join("engine").join(control::FILE);
        let new = file.with_extension("new");
        fs::write(&new, text).expect("write");
        fs::rename(new, file).expect("rename");
    }

    async fn create(&self, engine: &FakeEngine) -> String {
        let network = plan_network(&self.order, &self.ground, "10.213.0.0/16");
        engine.ensure_network(&network).await.expect("a network");
        engine.create(&plan(&self.order, &self.ground)).await.expect("created")
    }

    /// Accepts one connection and its Hello.
    async fn accept(&self) -> (hello::Role, OwnedReadHalf, OwnedWriteHalf) {
        let accepted = tokio::time::timeout(DEADLINE, self.listener.accept()).await;
        let (connection, _): (UnixStream, _) = accepted.expect("in time").expect("accepted");
        let (mut reader, writer) = connection.into_split();
        let hello: pb::Hello = receive(&mut reader).await.expect("read").expect("a hello");
        assert_eq!(hello.protocol, 1);
        (hello.role.expect("a role"), reader, writer)
    }

    /// Accepts the control connection and sends the setup; returns the first status too.
    async fn control_connection(&self) -> (OwnedReadHalf, OwnedWriteHalf, pb::Status) {
        let (role, mut reader, mut writer) = self.accept().await;
        let hello::Role::Control(control) = role else { panic!("not control: {role:?}") };
        assert_eq!(control.run_serial, 7);
        let session = pb::Session { name: "main".to_owned(), ..pb::Session::default() };
        let setup = pb::Setup {
            repo: "https://git.example/acme/web.git".to_owned(),
            folder: "web".to_owned(),
            sessions: vec![session],
            ..pb::Setup::default()
        };
        send(&mut writer, to_inside::Kind::Setup(setup)).await;
        let status = status(&mut reader).await;
        (reader, writer, status)
    }
}

async fn send(writer: &mut OwnedWriteHalf, kind: to_inside::Kind) {
    let message = pb::ToInside { kind: Some(kind) };
    writer.write_all(&message.encode_length_delimited_to_vec()).await.expect("sent");
}

async fn frame(writer: &mut OwnedWriteHalf, kind: frame::Kind) {
    let message = pb::Frame { kind: Some(kind) };
    writer.write_all(&message.encode_length_delimited_to_vec()).await.expect("sent");
}

async fn next(reader: &mut OwnedReadHalf) -> frame::Kind {
    let frame: pb::Frame = receive(reader).await.expect("read").expect("a frame");
    frame.kind.expect("a kind")
}

async fn status(reader: &mut OwnedReadHalf) -> pb::Status {
    let message: pb::FromInside = receive(reader).await.expect("read").expect("a message");
    let Some(from_inside::Kind::Status(status)) = message.kind else { panic!("no status") };
    status
}

async fn state(engine: &FakeEngine) -> ContainerState {
    engine.list().await.expect("a list")[0].state
}

async fn until(engine: &FakeEngine, wanted: ContainerState) {
    let begin = Instant::now();
    while state(engine).await != wanted {
        assert!(begin.elapsed() < DEADLINE, "{:?}, not {wanted:?}", state(engine).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_started_container_dials_and_serves_streams() {
    let stage = Stage::new();
    let engine = stage.open();
    let id = stage.create(&engine).await;
    assert_eq!(state(&engine).await, ContainerState::Created);
    engine.start(&id).await.expect("started");
    let (mut reader, mut writer, first) = stage.control_connection().await;
    assert!(first.started);
    let names: Vec<&str> = first.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["clone", "session:main"]);
    assert!(first.sessions[0].running);

    let open_stream = |stream_id| to_inside::Kind::OpenStream(pb::OpenStream { stream_id });
    send(&mut writer, open_stream(9)).await;
    let (role, mut from, mut to) = stage.accept().await;
    assert_eq!(role, hello::Role::StreamId(9));
    let attach = pb::Attach { session: "main".to_owned(), ..pb::Attach::default() };
    let what = Some(open::What::Attach(attach));
    frame(&mut to, frame::Kind::Open(pb::Open { what })).await;
    assert_eq!(next(&mut from).await, frame::Kind::Opened(pb::Opened {}));
    assert!(matches!(next(&mut from).await, frame::Kind::Stdout(_)));
    frame(&mut to, frame::Kind::Stdin("hi".into())).await;
    assert_eq!(next(&mut from).await, frame::Kind::Stdout("hi".into()));
    while status(&mut reader).await.sessions[0].viewers != 1 {}
    drop((from, to));
    while status(&mut reader).await.sessions[0].viewers != 0 {}

    send(&mut writer, open_stream(10)).await;
    let (_, mut from, mut to) = stage.accept().await;
    let argv = ["sh", "-c", "exit 4"].map(str::to_owned).into();
    let what = Some(open::What::Exec(pb::Exec { argv, terminal: None }));
    frame(&mut to, frame::Kind::Open(pb::Open { what })).await;
    assert_eq!(next(&mut from).await, frame::Kind::Opened(pb::Opened {}));
    let exited = pb::Exited { code: 4, detached: false };
    assert_eq!(next(&mut from).await, frame::Kind::Exited(exited));

    send(&mut writer, to_inside::Kind::Shutdown(pb::Shutdown { grace_ms: 1 })).await;
    until(&engine, ContainerState::Exited { exit_code: 0, oom: false }).await;
}

#[tokio::test]
async fn containers_outlive_the_agent_but_not_the_boot() {
    let mut stage = Stage::new();
    let engine = stage.open();
    let id = stage.create(&engine).await;
    engine.start(&id).await.expect("started");
    let ContainerState::Running { pid } = state(&engine).await else { panic!("not running") };
    drop(stage.control_connection().await);
    drop(engine);

    let engine = stage.open();
    assert_eq!(state(&engine).await, ContainerState::Running { pid });
    let (_reader, _writer, status) = stage.control_connection().await;
    assert!(status.started, "it dials again and says the same");
    drop(engine);

    stage.boot = BootId::new(Uuid::new_v4());
    let engine = stage.open();
    assert_eq!(state(&engine).await, ContainerState::Exited { exit_code: 255, oom: false });
    engine.remove(&id).await.expect("removed");
    drop(engine);
    assert_eq!(stage.open().list().await.expect("a list"), []);
}

#[tokio::test]
async fn it_fails_is_slow_and_ends_containers_when_told() {
    let stage = Stage::new();
    let engine = stage.open();
    let id = stage.create(&engine).await;
    stage.control(
        r#"{"fail": {"start": {"code": "DISK_FULL", "times": 1}}, "slow_ms": {"list": 200},
            "missing_images": ["nowhere:1"]}"#,
    );
    assert_eq!(engine.start(&id).await.expect_err("told to").code(), "DISK_FULL");
    let begin = Instant::now();
    engine.list().await.expect("a list");
    assert!(begin.elapsed() >= Duration::from_millis(200));
    let quiet: Progress = Arc::new(|_| {});
    let error = engine.ensure_image("nowhere:1", quiet.clone()).await.expect_err("missing");
    assert_eq!(error.code(), "IMAGE_MISSING");
    engine.ensure_image("debian", quiet).await.expect("here");

    let mut events = engine.events();
    engine.start(&id).await.expect("only once");
    stage.control(r#"{"exit": {"acme/web": {"run": 6, "exit_code": 1}}}"#);
    assert!(matches!(state(&engine).await, ContainerState::Running { .. }), "another run");
    stage.control(r#"{"exit": {"acme/web": {"run": 7, "exit_code": 137, "oom": true}}}"#);
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        kinds.push(events.next().await.expect("open").expect("an event").kind);
    }
    let died = EngineEventKind::Died { exit_code: 137 };
    assert_eq!(kinds, [EngineEventKind::Started, EngineEventKind::OutOfMemory, died]);
    assert_eq!(state(&engine).await, ContainerState::Exited { exit_code: 137, oom: true });
}

#[tokio::test]
async fn calls_are_idempotent_as_with_docker() {
    let stage = Stage::new();
    let engine = stage.open();
    let id = stage.create(&engine).await;
    assert_eq!(stage.create(&engine).await, id);
    engine.start(&id).await.expect("started");
    engine.start(&id).await.expect("runs already");
    let plan = plan(&stage.order, &stage.ground);
    assert_eq!(engine.create(&plan).await.expect_err("runs").code(), "ENGINE_CONFLICT");
    let seen = engine.list().await.expect("a list").remove(0);
    assert_eq!((seen.run_serial, seen.workspace), (7, stage.order.workspace));
    assert!(engine.usage(&seen).await.expect("usage").pids > 0);
    engine.stop(&id, Duration::ZERO).await.expect("stopped");
    engine.stop(&id, Duration::ZERO).await.expect("stopped already");
    let mut log = engine.logs(&id, LogQuery { follow: true, tail: Some(1) });
    while let Some(chunk) = log.next().await {
        assert!(!chunk.expect("a chunk").stderr);
    }
    drop(log);
    let again = engine.create(&plan).await.expect("made again");
    assert_ne!(again, id);
    for _ in 0..2 {
        engine.remove(&again).await.expect("gone");
        engine.stop(&again, Duration::ZERO).await.expect("gone");
        engine.remove_network(&plan.network).await.expect("gone");
    }
    assert_eq!(engine.start(&again).await.expect_err("gone").code(), "ENGINE_NOT_FOUND");
}

#[test]
fn the_tail_of_a_log_is_its_last_lines() {
    let text = b"a\nb\nc\n";
    assert_eq!(&text[tail_start(text, 1)..], b"c\n");
    assert_eq!(tail_start(text, 3), 0);
    assert_eq!(tail_start(text, 99), 0);
    assert_eq!(tail_start(text, 0), text.len());
}
