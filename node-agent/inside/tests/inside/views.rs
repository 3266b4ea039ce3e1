//! Views: the display and a terminal in a browser, over the bytes of streams.
//!
//! Real Xvfb, openbox, x11vnc and xev; the browser is a WebSocket client that speaks RFB.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::Request},
};
use warren_common::Limits;
use warren_proto::pb::inside::v1::{
    Connect, Failed, Frame, ServiceState, Status, View, ViewKind, connect::Target, frame, open,
};

use crate::{
    agent::{Agent, PATIENCE},
    wire,
    workspace::{Workspace, sessions, wait_until},
};

pub(crate) const HOST: &str = "127.0.0.1:4711";
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const OTHER: &str = "fedcba9876543210fedcba9876543210";
/// Of the letter a.
const KEY: u8 = 0x61;

/// A display of its own: tests run beside each other on one machine.
pub(crate) fn with_display() -> Vec<(&'static str, String)> {
    static DISPLAYS: AtomicU32 = AtomicU32::new(0);
    let number = DISPLAYS.fetch_add(1, Ordering::Relaxed);
    let display = 1000 + (std::process::id() * 8 + number) % 30_000;
    vec![("WARREN_DISPLAY", display.to_string()), ("WARREN_DISPLAY_SIZE", "640x480x24".to_owned())]
}

pub(crate) fn view(kind: ViewKind, token: &str, control: Duration) -> View {
    View {
        kind: kind.into(),
        token: token.to_owned(),
        host: HOST.to_owned(),
        control_ms: control.as_millis().try_into().expect("short"),
        session: String::new(),
    }
}

/// One connection of a browser.
pub(crate) async fn connect(agent: &mut Agent, view: View) -> DuplexStream {
    let target = Some(Target::View(view));
    let mut stream = agent.open(open::What::Connect(Connect { target })).await;
    stream.opened().await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut read, mut write) = tokio::io::split(far);
    let mut up = stream.take_write();
    tokio::spawn(async move {
        let mut buffer = vec![0; Limits::FRAME_BYTES];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            let kind = Some(frame::Kind::Stdin(buffer[..count].to_vec().into()));
            if wire::send(&mut up, &Frame { kind }).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(frame::Kind::Stdout(bytes)) = stream.next().await {
            if bytes.is_empty() || write.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = write.shutdown().await;
    });
    near
}

/// Asks for a page and returns what the answer says, head and body.
pub(crate) async fn get(agent: &mut Agent, view: View, path: &str, heads: &[&str]) -> String {
    let mut socket = connect(agent, view).await;
    let heads: String = heads.iter().map(|head| format!("{head}\r\n")).collect();
    let request = format!("GET {path} HTTP/1.1\r\n{heads}connection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("open");
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("in time").expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) type Socket = WebSocketStream<DuplexStream>;

fn request(host: &str, protocols: &str) -> Request<()> {
    let mut request = format!("ws://{host}/socket").into_client_request().expect("a request");
    let protocols = protocols.parse().expect("a header");
    request.headers_mut().insert("sec-websocket-protocol", protocols);
    request
}

pub(crate) async fn socket(agent: &mut Agent, view: View) -> Socket {
    let request = request(HOST, &format!("warren, token.{}", view.token));
    let connection = connect(agent, view).await;
    client_async(request, connection).await.expect("a WebSocket").0
}

async fn binary(socket: &mut Socket) -> Vec<u8> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("in time") {
            Some(Ok(Message::Binary(bytes))) => return bytes.to_vec(),
            // the workspace asks whether we are there
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("{other:?} instead of bytes"),
        }
    }
}

/// Reads to the end and returns code and reason.
pub(crate) async fn closing(socket: &mut Socket, patience: Duration) -> String {
    let reading = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(close)))) => {
                    return format!("{} {}", u16::from(close.code), close.reason);
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?} instead of a reason"),
            }
        }
    };
    timeout(patience, reading).await.expect("in time")
}

/// A browser that shows the display.
pub(crate) struct Looker {
    pub(crate) socket: Socket,
    pending: Vec<u8>,
}

impl Looker {
    /// Speaks RFB up to the server's first message.
    pub(crate) async fn new(agent: &mut Agent, token: &str, control: Duration) -> Self {
        let socket = socket(agent, view(ViewKind::Display, token, control)).await;
        let mut this = Self { socket, pending: Vec::new() };
        this.until(12).await;
        this.send(b"RFB 003.008\n").await;
        assert_eq!(this.until(2).await[..2], [1, 1], "one security type: none");
        // not shared: nobody is sent away all the same
        this.send(&[1]).await;
        this.until(4).await;
        this.send(&[0]).await;
        let init = this.until(24).await;
        assert_eq!(init[..4], [2, 128, 1, 224], "640 by 480");
        let name = u32::from_be_bytes([init[20], init[21], init[22], init[23]]);
        this.until(name.try_into().expect("short")).await;
        this
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.socket.send(Message::Binary(bytes.to_vec().into())).await.expect("open");
    }

    /// Returns the next bytes of the server, however they were cut.
    async fn until(&mut self, count: usize) -> Vec<u8> {
        while self.pending.len() < count {
            self.pending.extend(binary(&mut self.socket).await);
        }
        self.pending.drain(..count).collect()
    }

    async fn press(&mut self, key: u8) {
        for down in [1, 0] {
            self.send(&[4, down, 0, 0, 0, 0, 0, key]).await;
        }
    }

    /// Asks for a picture of a corner and reads it.
    pub(crate) async fn picture(&mut self) {
        self.send(&[3, 0, 0, 0, 0, 0, 0, 8, 0, 8]).await;
        loop {
            match self.until(1).await[0] {
                0 => break,
                // a bell
                2 => {}
                other => panic!("a message of type {other}"),
            }
        }
        let head = self.until(3).await;
        for _ in 0..u16::from_be_bytes([head[1], head[2]]) {
            let head = self.until(12).await;
            let side = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
            assert_eq!(head[8..], [0; 4], "raw: nothing else was asked for");
            self.until(side(4) * side(6) * 4).await;
        }
    }
}

pub(crate) fn service(status: &Status, name: &str) -> (ServiceState, u32, String) {
    let found = status.services.iter().find(|service| service.name == name);
    let service = found.unwrap_or_else(|| panic!("no {name}: {:?}", status.services));
    (service.state(), service.restarts, service.reason.clone())
}

pub(crate) async fn until(
    agent: &mut Agent,
    name: &str,
    state: ServiceState,
    restarts: u32,
) -> Status {
    agent
        .until(&format!("{name} {state:?}"), |status| {
            status
                .services
                .iter()
                .any(|one| one.name == name && one.state() == state && one.restarts >= restarts)
        })
        .await
}

/// A window that writes down the keys it gets.
pub(crate) const XEV: &str =
    "stdbuf -oL xev -geometry 600x400+10+10 -event keyboard > ~/keys; echo gone > ~/gone";

pub(crate) fn keys(workspace: &Workspace) -> usize {
    let seen = fs::read_to_string(workspace.home().join("keys")).unwrap_or_default();
    seen.matches("KeyPress event").count()
}

#[tokio::test]
async fn keys_reach_the_display_only_from_whoever_has_control_and_while_they_have_it() {
    let (workspace, mut agent) = Workspace::start_with(sessions(&[("main", XEV)]), &with_display());
    let status = agent.until_started().await;
    let running = (ServiceState::Running, 0, String::new());
    assert_eq!(service(&status, "display"), running, "before the first session");
    assert_eq!(service(&status, "vnc").0, ServiceState::Idle, "nobody looks");
    wait_until("the window", || !workspace.processes("xev -geometry").is_empty()).await;

    let mut looks = Looker::new(&mut agent, OTHER, Duration::ZERO).await;
    looks.picture().await;
    let short = Duration::from_secs(8);
    let mut controls = Looker::new(&mut agent, TOKEN, short).await;
    // keys go to the window under the pointer, or to the one that openbox gave the focus
    wait_until_keyed(&workspace, &mut controls).await;
    let before = keys(&workspace);
    for _ in 0..5 {
        looks.press(KEY).await;
    }
    looks.picture().await;
    // what the viewer sent came before this key
    controls.press(KEY).await;
    wait_until("the key", || keys(&workspace) > before).await;
    assert_eq!(keys(&workspace), before + 1, "those of a viewer do not arrive");

    let state = get(
        &mut agent,
        view(ViewKind::Display, TOKEN, short),
        "/state",
        &[&format!("host: {HOST}"), &format!("x-warren-token: {TOKEN}")],
    )
    .await;
    assert!(state.contains("\"watching\":2,\"taken_ms\":"), "{state}");
    assert!(state.contains("\"asked\":true,\"mine\":true"), "{state}");
    // the second one is told that somebody has it, and gets it for no word of theirs
    let mut second = Looker::new(&mut agent, "another-token-of-32-characters-xx", short).await;
    second.press(KEY).await;
    second.picture().await;

    // a key is held down when the time is over: it is let go, and no other goes through
    controls.send(&[4, 1, 0, 0, 0, 0, 0, b'b']).await;
    drop(second);
    tokio::time::sleep(short).await;
    let after = keys(&workspace);
    controls.press(KEY).await;
    controls.picture().await;
    let seen = fs::read_to_string(workspace.home().join("keys")).expect("keys");
    assert_eq!(keys(&workspace), after, "the time is over");
    let last = seen.rfind("KeyPress event").expect("a key");
    assert!(seen[last..].contains("KeyRelease event"), "what was down is up");
}

/// Presses until the window gets it: it may not have the focus yet.
pub(crate) async fn wait_until_keyed(workspace: &Workspace, controls: &mut Looker) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while keys(workspace) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "no key arrives");
        for buttons in [0, 1, 0] {
            controls.send(&[5, buttons, 1, 64, 0, 200]).await;
        }
        controls.press(KEY).await;
        controls.picture().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // what is on its way arrives before the next one is counted
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test]
async fn the_vnc_servers_end_costs_no_window_and_the_displays_end_is_mended_and_said() {
    let (workspace, mut agent) = Workspace::start_with(sessions(&[("main", XEV)]), &with_display());
    agent.until_started().await;
    // the program itself: the session's shell, and what that starts, name it too
    let is_it =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "xev\n");
    let windows =
        || workspace.processes("xev -geometry").into_iter().filter(is_it).collect::<Vec<_>>();
    wait_until("the window", || windows().len() == 1).await;
    let before = windows();
    let mut looks = Looker::new(&mut agent, TOKEN, Duration::ZERO).await;
    looks.picture().await;
    let server = workspace.processes("x11vnc");
    kill(&workspace, "x11vnc");
    let close = closing(&mut looks.socket, PATIENCE).await;
    assert!(close.contains("VNC server went away"), "{close:?}");
    let status = until(&mut agent, "vnc", ServiceState::Failed, 1).await;
    let (_, _, reason) = service(&status, "vnc");
    assert!(reason.starts_with("it ended with code 137; it is started again in"), "{reason}");
    let segments = fs::read_to_string("/proc/sysvipc/shm").expect("the segments");
    let made_by = |line: &str| line.split_whitespace().nth(4).and_then(|pid| pid.parse().ok());
    let left = segments.lines().filter_map(made_by).filter(|pid| server.contains(pid));
    assert_eq!(left.count(), 0, "memory of the killed server:\n{segments}");
    let mut again = Looker::new(&mut agent, TOKEN, Duration::ZERO).await;
    again.picture().await;
    assert_eq!(windows(), before, "the window lives on");
    assert_eq!(
        service(&until(&mut agent, "display", ServiceState::Running, 0).await, "display").1,
        0
    );

    kill(&workspace, "Xvfb");
    until(&mut agent, "display", ServiceState::Running, 1).await;
    wait_until("its windows to be gone", || workspace.home().join("gone").exists()).await;
    until(&mut agent, "windows", ServiceState::Running, 0).await;
    let mut anew = Looker::new(&mut agent, TOKEN, Duration::ZERO).await;
    anew.picture().await;
}

pub(crate) fn kill(workspace: &Workspace, words: &str) {
    let pids = workspace.processes(words);
    assert!(!pids.is_empty(), "no {words}");
    for pid in pids {
        let _ = kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL);
    }
}

#[tokio::test]
async fn what_a_killed_display_left_is_cleaned_and_anothers_is_not_taken() {
    let display = with_display();
    let number = display[0].1.clone();
    let lock = format!("/tmp/.X{number}-lock");
    // of a run that was killed: the process id is somebody else's now
    fs::write(&lock, format!("{:>10}\n", std::process::id())).expect("written");
    let (workspace, mut agent) = Workspace::start_with(sessions(&[]), &display);
    until(&mut agent, "display", ServiceState::Running, 0).await;
    let (other, mut second) = Workspace::start_with(sessions(&[]), &display);
    let status = until(&mut second, "display", ServiceState::Failed, 1).await;
    let (_, _, reason) = service(&status, "display");
    assert!(reason.contains(&format!("another X server has display :{number}")), "{reason}");
    assert_eq!(other.processes("Xvfb"), Vec::<i32>::new());
    assert_eq!(workspace.processes("Xvfb").len(), 1);
}

#[tokio::test]
async fn a_page_is_for_its_own_address_and_shows_nothing_without_the_token() {
    let modules = tempfile::tempdir().expect("a folder");
    let core = modules.path().join("@novnc/novnc/core");
    fs::create_dir_all(&core).expect("a folder");
    fs::write(core.join("rfb.js"), "export default 7;\n").expect("written");
    let named = ("WARREN_MODULES", modules.path().display().to_string());
    let (_workspace, mut agent) = Workspace::start_with(sessions(&[("main", "")]), &[named]);
    agent.until_started().await;
    let display = || view(ViewKind::Display, TOKEN, Duration::ZERO);
    let host = format!("host: {HOST}");
    let shown = format!("x-warren-token: {TOKEN}");
    let origin = format!("origin: http://{HOST}");

    let page = get(&mut agent, display(), "/", &[&host, &origin]).await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("/page.js"), "{page}");
    let head = page.to_ascii_lowercase();
    for wanted in ["default-src 'none'", "x-frame-options: deny", "cache-control: no-store"] {
        assert!(head.contains(wanted), "{page}");
    }
    let script = get(&mut agent, display(), "/novnc/core/rfb.js", &[&host]).await;
    assert!(script.ends_with("export default 7;\n"), "{script}");
    let missing = get(&mut agent, display(), "/novnc/core/x.js", &[&host]).await;
    assert!(missing.contains("404") && missing.contains("image with browsers"), "{missing}");
    let state = get(&mut agent, display(), "/state", &[&host, &shown]).await;
    assert!(state.contains("\"watching\":0"), "{state}");

    let wrong = format!("x-warren-token: {OTHER}");
    for (path, heads) in [
        // a name of somebody else's that leads to the same address
        ("/", vec!["host: evil.example:4711"]),
        ("/", vec!["host: localhost:4711"]),
        ("/", vec![]),
        // a page of another site
        ("/", vec![&host, "origin: https://evil.example"]),
        ("/state", vec![&host, &shown, "origin: null"]),
        ("/state", vec![&host]),
        ("/state", vec![&host, &wrong]),
        ("/state", vec![&host, "x-warren-token: 0123"]),
    ] {
        let refused = get(&mut agent, display(), path, &heads).await;
        let known = refused.starts_with("HTTP/1.1 403") || refused.starts_with("HTTP/1.1 400");
        assert!(known, "{path} {heads:?}: {refused}");
        assert!(!refused.contains("watching") && !refused.contains("page.js"), "{refused}");
    }
    for (host, protocols) in [
        (HOST, format!("warren, token.{OTHER}")),
        (HOST, "warren".to_owned()),
        ("evil.example:4711", format!("warren, token.{TOKEN}")),
    ] {
        let connection = connect(&mut agent, view(ViewKind::Terminal, TOKEN, Duration::ZERO)).await;
        match client_async(request(host, &protocols), connection).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 403),
            other => panic!("{other:?}"),
        }
    }
    for odd in [
        view(ViewKind::Unspecified, TOKEN, Duration::ZERO),
        view(ViewKind::Display, "short", Duration::ZERO),
    ] {
        let target = Some(Target::View(odd));
        let stream = agent.open(open::What::Connect(Connect { target })).await;
        let end = stream.finish().await.end;
        assert!(
            matches!(end, Some(frame::Kind::Failed(Failed { reason, .. })) if reason == "PORT_CLOSED")
        );
    }
}

#[tokio::test]
async fn a_session_is_typed_into_from_a_browser_and_outlives_it() {
    let (workspace, mut agent) = Workspace::start(sessions(&[("main", "")]));
    agent.until_started().await;
    let mut terminal = socket(&mut agent, view(ViewKind::Terminal, TOKEN, Duration::ZERO)).await;
    let size = r#"{"columns":91,"rows":31}"#;
    terminal.send(Message::Text(size.into())).await.expect("open");
    let width = || workspace.tmux(&["display-message", "-p", "-t", "=main:", "#{window_width}"]);
    wait_until("the new size", || width() == "91").await;
    let typed = "echo $((40+2))-grüße\r";
    terminal.send(Message::Binary(typed.as_bytes().to_vec().into())).await.expect("open");
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("42-grüße") {
        shown.extend(binary(&mut terminal).await);
    }
    drop(terminal);
    wait_until("the viewer to be gone", || workspace.processes("attach-session").is_empty()).await;
    assert_eq!(workspace.tmux(&["list-sessions", "-F", "#{session_name}"]), "main");

    let mut unknown = view(ViewKind::Terminal, TOKEN, Duration::ZERO);
    unknown.session = "nope".to_owned();
    let mut unknown = socket(&mut agent, unknown).await;
    let close = closing(&mut unknown, PATIENCE).await;
    assert!(close.starts_with("4000 ") && close.contains("there are: main"), "{close}");
}
