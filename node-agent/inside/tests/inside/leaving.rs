//! Browsers that leave, stop reading or vanish: what they held is let go, and their room is free.

use std::{fs, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::Signal;
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::tungstenite::Message;
use warren_common::Limits;
use warren_proto::pb::inside::v1::{Connect, ServiceState, ViewKind, connect::Target, frame, open};

use crate::{
    agent::{Agent, PATIENCE},
    views::{
        HOST, Looker, Socket, TOKEN, XEV, closing, connect, get, kill, socket, until, view,
        wait_until_keyed, with_display,
    },
    workspace::{Workspace, sessions, wait_until},
};

/// More than a view lasts whose browser has gone.
const GONE: Duration = Duration::from_secs(45);
const MINUTES: Duration = Duration::from_secs(600);

/// Whether a key is down for the window. The VNC server switches off that keys repeat.
fn is_down(workspace: &Workspace) -> bool {
    let seen = fs::read_to_string(workspace.home().join("keys")).unwrap_or_default();
    seen.rfind("KeyPress event") > seen.rfind("KeyRelease event")
}

async fn press(workspace: &Workspace, looker: &mut Looker) {
    looker.send(&[4, 1, 0, 0, 0, 0, 0, b'b']).await;
    wait_until("the key to be down", || is_down(workspace)).await;
}

/// Waits until the key is up and stays so.
async fn until_up(workspace: &Workspace, way: &str, patience: Duration) {
    let until = Instant::now() + patience;
    let mut up = 0;
    while up < 5 {
        assert!(Instant::now() < until, "the key is down after: {way}");
        up = if is_down(workspace) { 0 } else { up + 1 };
        sleep(Duration::from_millis(100)).await;
    }
}

async fn say(agent: &mut Agent, method: &str, path: &str) -> String {
    let mut connection = connect(agent, view(ViewKind::Display, TOKEN, MINUTES)).await;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {HOST}\r\nx-warren-token: {TOKEN}\r\nconnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.expect("open");
    let mut answer = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut answer);
    timeout(PATIENCE, reading).await.expect("in time").expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_key_that_is_down_is_let_go_on_every_way_out() {
    let (mut workspace, mut agent) =
        Workspace::start_with(sessions(&[("main", XEV)]), &with_display());
    agent.until_started().await;
    wait_until("the window", || !workspace.processes("xev -geometry").is_empty()).await;
    let mut controls = Looker::new(&mut agent, TOKEN, MINUTES).await;
    wait_until_keyed(&workspace, &mut controls).await;

    press(&workspace, &mut controls).await;
    let state = say(&mut agent, "POST", "/give").await;
    assert!(state.contains("\"given\":true"), "{state}");
    until_up(&workspace, "control was given back", PATIENCE).await;
    controls.send(&[4, 0, 0, 0, 0, 0, 0, b'b']).await;
    say(&mut agent, "POST", "/take").await;
    sleep(Duration::from_millis(600)).await;

    press(&workspace, &mut controls).await;
    controls.socket.send(Message::Close(None)).await.expect("open");
    until_up(&workspace, "the page was closed", PATIENCE).await;
    drop(controls);

    let mut controls = Looker::new(&mut agent, TOKEN, MINUTES).await;
    press(&workspace, &mut controls).await;
    drop(controls);
    until_up(&workspace, "the browser was gone", PATIENCE).await;

    let mut controls = Looker::new(&mut agent, TOKEN, MINUTES).await;
    press(&workspace, &mut controls).await;
    controls.socket.send(Message::Text("odd".into())).await.expect("open");
    let close = closing(&mut controls.socket, PATIENCE).await;
    assert_eq!(close, "4000 the browser sent text");
    until_up(&workspace, "the browser was sent away", PATIENCE).await;

    // it is there and says nothing, not even that it is there
    let mut controls = Looker::new(&mut agent, TOKEN, MINUTES).await;
    press(&workspace, &mut controls).await;
    until_up(&workspace, "the browser was silent", GONE).await;
    assert!(workspace.log().contains("nothing was heard of the browser for 30 s"));
    drop(controls);

    // another has control for a moment, and the next one after that
    let short = Duration::from_secs(10);
    let mut first = Looker::new(&mut agent, "first-token-of-some-characters", short).await;
    press(&workspace, &mut first).await;
    let mut controls = Looker::new(&mut agent, TOKEN, MINUTES).await;
    until_up(&workspace, "the time was over and another took it", PATIENCE).await;
    sleep(Duration::from_millis(600)).await;
    press(&workspace, &mut controls).await;
    kill(&workspace, "x11vnc");
    let close = closing(&mut controls.socket, PATIENCE).await;
    assert!(close.starts_with("4001 "), "{close}");
    // one that is about to be gone takes connections still
    until(&mut agent, "vnc", ServiceState::Running, 1).await;
    let mut controls = Looker::new(&mut agent, TOKEN, MINUTES).await;
    until_up(&workspace, "the VNC server was killed and is there again", PATIENCE).await;

    press(&workspace, &mut controls).await;
    workspace.signal(Signal::TERM);
    let close = closing(&mut controls.socket, PATIENCE).await;
    assert_eq!(close, "4001 the workspace is stopping");
    // Views end first, and the VNC server has heard what is let go. Whether the display hands it on to a
    // window before it is told to end is not waited for: the window ends in the same moment.
    assert_eq!(workspace.ended().await, Some(0));
}

/// A terminal that shows output without end, and whose browser takes none of it.
async fn stuck(agent: &mut Agent) -> Socket {
    let mut terminal = socket(agent, view(ViewKind::Terminal, TOKEN, Duration::ZERO)).await;
    let size = r#"{"columns":200,"rows":60}"#;
    terminal.send(Message::Text(size.into())).await.expect("open");
    terminal
}

/// Resident memory of PID 1, and what of it is its own.
fn resident(workspace: &Workspace) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", workspace.pid())).expect("it runs");
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    (field("VmRSS:"), field("RssAnon:"))
}

/// Whether as many connections as a page needs may be opened.
async fn has_room(agent: &mut Agent) -> bool {
    let mut open = Vec::new();
    for _ in 0..Limits::VIEWERS {
        let target = Some(Target::View(view(ViewKind::Display, TOKEN, Duration::ZERO)));
        let mut stream = agent.open(open::What::Connect(Connect { target })).await;
        if !matches!(stream.next().await, Some(frame::Kind::Opened(_))) {
            return false;
        }
        open.push(stream);
    }
    true
}

const FLOOD: &str = "while :; do head -c 20000 /dev/urandom | base64; sleep 0.1; done";

#[tokio::test]
async fn as_many_stuck_browsers_as_there_may_be_cost_little_and_make_room() {
    let modules = tempfile::tempdir().expect("a folder");
    let core = modules.path().join("@novnc/novnc/core");
    fs::create_dir_all(&core).expect("a folder");
    fs::write(core.join("rfb.js"), vec![b' '; 3 << 20]).expect("written");
    let named = ("WARREN_MODULES", modules.path().display().to_string());
    let (workspace, mut agent) = Workspace::start_with(sessions(&[("main", FLOOD)]), &[named]);
    agent.until_started().await;
    // what is allocated once, with the first
    drop(stuck(&mut agent).await);
    wait_until("the viewer to be gone", || workspace.processes("attach-session").is_empty()).await;
    let before = resident(&workspace);

    let mut held = Vec::new();
    for _ in 0..Limits::VIEWERS {
        held.push(stuck(&mut agent).await);
    }
    let since = Instant::now();
    let first = resident(&workspace);
    let display = || view(ViewKind::Display, TOKEN, Duration::ZERO);
    let mut pages = Vec::new();
    for _ in Limits::VIEWERS + 1..Limits::CONNECTS_PER_WORKSPACE {
        let mut page = connect(&mut agent, display()).await;
        let ask = format!("GET /novnc/core/rfb.js HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        page.write_all(ask.as_bytes()).await.expect("open");
        pages.push(page);
    }
    let mut one_more = socket(&mut agent, view(ViewKind::Terminal, TOKEN, Duration::ZERO)).await;
    let close = closing(&mut one_more, PATIENCE).await;
    assert!(close.starts_with("4001 32 pages show this workspace"), "{close}");
    drop(one_more);
    let mut most = before;
    while since.elapsed() < Limits::VIEW_WRITE - Duration::from_secs(2) {
        most = most.max(resident(&workspace));
        sleep(Duration::from_millis(200)).await;
    }
    let (rss, own) = (most.0 - before.0, most.1 - before.1);
    println!(
        "{} stuck terminals and {} stuck pages: {rss} KiB more resident, {own} of its own; \
         {before:?} before, {first:?} with terminals that had not begun",
        held.len(),
        pages.len(),
    );
    assert!(own < 5 * 1024, "{own} KiB more");

    // nobody closes anything: each is taken for gone, and its room is there for another
    let until = Instant::now() + GONE;
    while !has_room(&mut agent).await {
        assert!(Instant::now() < until, "no room comes back");
        sleep(Duration::from_secs(1)).await;
    }
    let gone = || workspace.processes("attach-session").is_empty();
    wait_until("the viewers to be gone", gone).await;
    let mut again = socket(&mut agent, view(ViewKind::Terminal, TOKEN, Duration::ZERO)).await;
    let shown = timeout(PATIENCE, again.next()).await.expect("in time");
    assert!(matches!(shown, Some(Ok(Message::Binary(_)))), "{shown:?}");
    assert!(workspace.log().contains("the browser took nothing for"), "{}", workspace.log());
    let whole = get(&mut agent, display(), "/", &[&format!("host: {HOST}")]).await;
    assert!(whole.contains("page.js"), "{whole}");
    again.close(None).await.expect("open");
    drop((held, pages));
}

#[tokio::test]
async fn a_message_that_is_too_long_is_answered_with_the_reason() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[("main", "cat > ~/typed")]));
    agent.until_started().await;
    let mut terminal = socket(&mut agent, view(ViewKind::Terminal, TOKEN, Duration::ZERO)).await;
    terminal
        .send(Message::Binary(vec![b'a'; Limits::VIEW_MESSAGE_BYTES + 1].into()))
        .await
        .expect("open");
    let close = closing(&mut terminal, PATIENCE).await;
    assert_eq!(close, "4000 the browser sent a message of more than 32768 bytes");
}
