//! Browsers that are too many, that lie, or that are killed for memory: a true state of each, and PID 1
//! as small as ever.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tokio_tungstenite::tungstenite::Message;
use warren_common::Limits;
use warren_proto::pb::inside::v1::{
    BrowserSource, BrowserState, BrowserStatus, Shot, Status, frame, open,
};

use crate::{
    agent::{Agent, PATIENCE},
    workspace::{Workspace, sessions, wait_until},
};

/// As many as the issue names.
const MANY: usize = 100;
/// Of the debug build, with all conversations at once.
const RSS_KIB: u64 = 20_000;
/// With as many pictures as may be on their way.
const PICTURES_KIB: u64 = 32_000;
/// What they take of a core, in per cent.
const CPU_PERCENT: u64 = 60;
/// How a WebSocket begins, where nobody checks the key.
const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// How a server treats whoever asks for DevTools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It takes the connection and says nothing.
    Silent,
    /// It answers with what is nothing.
    Garbage,
    /// It begins a message and goes on with it.
    Endless,
    /// It sends to another port.
    Elsewhere(u16),
    /// It hangs up at the first message.
    HangsUp,
}

async fn rogue(manner: Manner) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a caller");
            tokio::spawn(async move { drop(treat(socket, manner).await) });
        }
    });
    port
}

async fn treat(mut socket: TcpStream, manner: Manner) -> std::io::Result<()> {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        if socket.read_buf(&mut asked).await? == 0 {
            return Ok(());
        }
    }
    match manner {
        Manner::Silent => sleep(Duration::from_secs(600)).await,
        Manner::Garbage => {
            socket.write_all(UPGRADED.as_bytes()).await?;
            socket.write_all(&[0xff; 4096]).await?;
        }
        Manner::Endless => {
            socket.write_all(UPGRADED.as_bytes()).await?;
            socket.write_all(&[1, 1, b'{']).await?;
            loop {
                socket.write_all(&[0, 1, b' ']).await?;
                sleep(Duration::from_millis(50)).await;
            }
        }
        Manner::Elsewhere(port) => {
            let moved = format!(
                "HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:{port}/devtools/browser/1\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            socket.write_all(moved.as_bytes()).await?;
            sleep(Duration::from_secs(1)).await;
        }
        Manner::HangsUp => {
            socket.write_all(UPGRADED.as_bytes()).await?;
            socket.read_u8().await?;
        }
    }
    Ok(())
}

/// Starts processes that look like browsers, each with the address of its DevTools in its profile.
fn start(ports: &[u16]) -> (Workspace, Agent) {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["home", "run"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    for (number, port) in ports.iter().enumerate() {
        let profile = folder.path().join(format!("home/p{number}"));
        fs::create_dir(&profile).expect("a folder");
        let file = profile.join("DevToolsActivePort");
        fs::write(file, format!("{port}\n/devtools/browser/{number}")).expect("a file");
    }
    let last = ports.len() - 1;
    // each waits for a line that never comes
    let script = format!(
        "mkfifo ~/f; exec 9<>~/f; for n in $(seq 0 {last}); do (exec -a /opt/chromium/chromium \
         sh -c 'read x' x --user-data-dir=$HOME/p$n --remote-debugging-port=0 --n=$n <&9) & done; wait"
    );
    fs::write(folder.path().join("home/start"), script).expect("a script");
    Workspace::start_in(folder, sessions(&[("main", "bash ~/start")]))
}

fn pid(browser: &BrowserStatus) -> i32 {
    browser.id.split_once('-').and_then(|(pid, _)| pid.parse().ok()).expect("a pid")
}

fn of(status: &Status, number: usize) -> Option<BrowserStatus> {
    let flag = format!("--n={number}");
    let is_it = |one: &&BrowserStatus| {
        let line = fs::read(format!("/proc/{}/cmdline", pid(one))).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == flag.as_bytes())
    };
    status.browsers.iter().find(is_it).cloned()
}

/// What PID 1 holds in KiB, and the hundredths of a second that it has worked.
fn weight(workspace: &Workspace) -> (u64, u64) {
    let read = |file: &str| {
        let path = format!("/proc/{}/{file}", workspace.pid());
        fs::read_to_string(path).expect("it runs")
    };
    let status = read("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib = line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    let stat = read("stat");
    let fields = stat.rsplit(')').next().expect("fields").split_whitespace();
    let ticks = fields.skip(11).take(2).map(|n| n.parse::<u64>().expect("a number")).sum();
    (kib, ticks)
}

#[expect(clippy::print_stderr, reason = "a figure for whoever reads along")]
fn tell(words: &str) {
    eprintln!("{words}");
}

#[tokio::test]
async fn what_is_no_devtools_is_said_to_be_none_and_nobody_is_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let lured = Manner::Elsewhere(elsewhere.local_addr().expect("an address").port());
    let manners = [Manner::Silent, Manner::Garbage, Manner::Endless, lured, Manner::HangsUp];
    let mut ports = Vec::new();
    for manner in manners {
        ports.push(rogue(manner).await);
    }
    let (workspace, mut agent) = start(&ports);
    let settled = |status: &Status| {
        let settled =
            |one: BrowserStatus| one.state() == BrowserState::Hung || !one.blind.is_empty();
        (0..manners.len()).all(|number| of(status, number).is_some_and(settled))
    };
    let status = agent.until("a word on each", settled).await;
    for (number, manner) in manners.into_iter().enumerate() {
        let told = of(&status, number).expect("it runs");
        let hung = matches!(manner, Manner::Silent | Manner::Endless);
        let state = if hung { BrowserState::Hung } else { BrowserState::Running };
        assert_eq!((told.state(), told.source()), (state, BrowserSource::Process), "{manner:?}");
        assert!(told.pages.is_empty() && hung == told.blind.is_empty(), "{manner:?}: {told:?}");
        let shot = Shot { browser: told.id.clone(), page: String::new() };
        let shot = agent.open(open::What::Shot(shot)).await.finish().await;
        let Some(frame::Kind::Failed(failed)) = shot.end else { panic!("{manner:?}: a picture") };
        assert_eq!(failed.reason, "WRONG_STATE", "{manner:?}");
    }
    assert!(
        tokio::time::timeout(Duration::from_millis(10), elsewhere.accept()).await.is_err(),
        "it went where it was sent"
    );
    let (kib, before) = weight(&workspace);
    sleep(Duration::from_secs(3)).await;
    let worked = weight(&workspace).1 - before;
    tell(&format!("5 rogues: {kib} KiB, {} % of a core", worked / 3));
    assert!(kib < RSS_KIB && worked / 3 < CPU_PERCENT, "{kib} KiB, {worked} ticks");
    assert!(!workspace.log().contains("panicked"));
}

/// DevTools of many browsers whose pages never rest.
async fn restless(asked: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a caller");
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                let mut socket =
                    tokio_tungstenite::accept_async(socket).await.expect("a WebSocket");
                while let Some(Ok(Message::Text(text))) = socket.next().await {
                    let call: Value = serde_json::from_str(&text).expect("a call");
                    let answer = answer(&call, asked.fetch_add(1, Ordering::Relaxed));
                    if socket.send(Message::text(answer.to_string())).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn answer(call: &Value, count: usize) -> Value {
    let page = |n: usize| {
        json!({ "targetId": format!("P{n}"), "type": "page", "url": format!("http://h/{n}"),
                "title": format!("\u{202e}\u{1b}[2J{count}") })
    };
    let pages = || (0..4).map(page).collect::<Vec<_>>();
    let result = match call["method"].as_str().expect("a method") {
        "Browser.getVersion" => json!({ "product": "Chrome/156.0.1" }),
        "SystemInfo.getProcessInfo" => json!({ "processInfo": [] }),
        "Target.getTargets" => json!({ "targetInfos": pages() }),
        "Target.attachToTarget" => json!({ "sessionId": call["params"]["targetId"] }),
        "Page.captureScreenshot" => json!({ "data": "AAAA".repeat(Limits::SHOT_BYTES / 3) }),
        "Runtime.evaluate" => json!({ "result": { "type": "string", "value": "complete" } }),
        _ => json!({}),
    };
    json!({ "id": call["id"], "result": result })
}

#[tokio::test]
async fn of_a_hundred_browsers_as_many_are_told_as_may_be_and_another_takes_a_dead_ones_place() {
    let asked = Arc::<AtomicUsize>::default();
    let port = restless(Arc::clone(&asked)).await;
    let (workspace, mut agent) = start(&[port; MANY]);
    let runs = |one: &BrowserStatus| {
        one.state() == BrowserState::Running && one.source() == BrowserSource::Devtools
    };
    let all = |status: &Status| status.browsers.iter().filter(|one| runs(one)).count();
    let status = agent.until("all that may be", |status| all(status) == Limits::BROWSERS).await;
    // they are told as they start
    wait_until("all of them", || workspace.processes("--remote-debugging-port").len() == MANY)
        .await;
    let titles = status.browsers.iter().flat_map(|one| &one.pages).map(|page| &page.title);
    for title in titles {
        assert!(title.starts_with("[2J") && title.chars().all(|one| one.is_ascii_graphic()));
    }

    let (before, began, first) =
        (weight(&workspace).1, Instant::now(), asked.load(Ordering::Relaxed));
    sleep(Duration::from_secs(8)).await;
    let (kib, after) = weight(&workspace);
    let share =
        (after - before) * 1000 / u64::try_from(began.elapsed().as_millis()).expect("short");
    let answers = asked.load(Ordering::Relaxed) - first;
    tell(&format!("{MANY} browsers: {kib} KiB, {share} % of a core, {answers} answers in 8 s"));
    assert!(kib < RSS_KIB && share < CPU_PERCENT, "{kib} KiB, {share} %");

    let known: Vec<String> = status.browsers.iter().map(|one| one.id.clone()).collect();
    let dead = pid(&status.browsers[0]);
    kill_process(Pid::from_raw(dead).expect("a pid"), Signal::KILL).expect("it runs");
    let another = |status: &Status| {
        let new = |one: &BrowserStatus| runs(one) && !known.contains(&one.id);
        status.browsers.iter().any(new) && all(status) == Limits::BROWSERS
    };
    agent.until("another one in its place", another).await;
    let gone = &status.browsers[0].id;
    let told = |status: &Status| {
        let ended = [BrowserState::Crashed, BrowserState::Closed];
        status.browsers.iter().any(|one| &one.id == gone && ended.contains(&one.state()))
    };
    // what has become old is looked through each 5 s
    sleep(Duration::from_secs(6)).await;
    agent.until("the dead one still", |status| told(status) && another(status)).await;
    assert!(!workspace.log().contains("panicked"));
}

#[tokio::test]
async fn pictures_that_nobody_reads_are_few_and_make_room_when_their_viewers_go() {
    let port = restless(Arc::default()).await;
    let (workspace, mut agent) = start(&[port]);
    let full = |status: &Status| status.browsers.first().is_some_and(|one| one.pages.len() == 4);
    let browser = agent.until("its pages", full).await.browsers[0].id.clone();
    let shot =
        |page: usize| open::What::Shot(Shot { browser: browser.clone(), page: format!("P{page}") });
    let mut viewers = Vec::new();
    for page in 0..Limits::SHOTS {
        viewers.push(agent.open(shot(page)).await);
    }
    // each was taken long ago, and is more than a socket holds
    sleep(3 * Limits::SHOT_PACE).await;
    let refused = agent.open(shot(0)).await.finish().await;
    let Some(frame::Kind::Failed(failed)) = refused.end else { panic!("a fifth picture") };
    assert_eq!(failed.reason, "LIMIT_REACHED");
    let kib = weight(&workspace).0;
    tell(&format!("{} pictures that nobody reads: {kib} KiB", viewers.len()));
    assert!(kib < PICTURES_KIB, "{kib} KiB");
    drop(viewers.pop());
    let until = Instant::now() + PATIENCE;
    let picture = loop {
        let taken = agent.open(shot(0)).await.finish().await;
        if matches!(taken.end, Some(frame::Kind::Exited(_))) {
            break taken.stdout;
        }
        assert!(Instant::now() < until, "{:?}", taken.end);
        sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(picture.len(), Limits::SHOT_BYTES / 3 * 3);
    // the others take theirs as late as they like, within its time
    assert_eq!(viewers.remove(0).finish().await.stdout.len(), picture.len());
}

/// A control group with little memory, gone with this value.
struct Group {
    folder: PathBuf,
    /// Where the counters are that this program looks at.
    seen: &'static str,
    /// Which of them counts kills.
    counter: &'static str,
}

impl Group {
    const MEMORY: &str = "128M";

    /// Makes one, of whichever version this machine has.
    ///
    /// # Errors
    /// This machine lets nobody make one, or gives it no say over memory.
    fn new() -> std::io::Result<Self> {
        static GROUPS: AtomicU32 = AtomicU32::new(0);
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let second = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let (seen, counter) = match second {
            true => ("/sys/fs/cgroup", "memory.events"),
            false => ("/sys/fs/cgroup/memory", "memory.oom_control"),
        };
        if second {
            // it has no say over memory before that, and where it has this changes nothing
            fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")?;
        }
        let folder = Path::new(seen).join(format!("wt{}-oom{number}", std::process::id()));
        fs::create_dir(&folder)?;
        let group = Self { folder, seen, counter };
        let (cap, swap) = match second {
            true => (("memory.max", Self::MEMORY), ("memory.swap.max", "0")),
            // the cap first: memory and swap together are never less
            false => (
                ("memory.limit_in_bytes", Self::MEMORY),
                ("memory.memsw.limit_in_bytes", Self::MEMORY),
            ),
        };
        fs::write(group.folder.join(cap.0), cap.1)?;
        // not there where the kernel counts no swap
        let file = group.folder.join(swap.0);
        if file.exists() {
            fs::write(file, swap.1)?;
        }
        Ok(group)
    }

    /// Returns how many the kernel killed in it for memory.
    fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(self.counter)).expect("a counter");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).expect("kills are counted")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = std::time::Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.folder).is_err() && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Where groups are somebody else's (in a container, or for who is not root) and where none has a say
/// over memory.
const NOT_OURS: [ErrorKind; 4] = [
    ErrorKind::PermissionDenied,
    ErrorKind::ReadOnlyFilesystem,
    ErrorKind::ResourceBusy,
    ErrorKind::NotFound,
];

#[tokio::test]
async fn a_browser_that_the_kernel_killed_for_memory_is_said_to_be() {
    let group = match Group::new() {
        Ok(group) => group,
        Err(error) if NOT_OURS.contains(&error.kind()) => {
            // not by print: what passes is not shown
            let why = format!("SKIPPED: no control group with a memory cap: {error}\n");
            return std::io::stderr().write_all(why.as_bytes()).expect("standard error");
        }
        Err(error) => panic!("no control group with a memory cap: {error}"),
    };
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["home", "run"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    let eat = "import os, time\nwhile not os.path.exists(os.path.expanduser('~/go')): time.sleep(.05)\n\
               eaten = []\nwhile True: eaten.append(bytearray(1 << 20))\n";
    fs::write(folder.path().join("home/eat.py"), eat).expect("a script");
    let start = "exec -a /opt/chromium/chromium python3 ~/eat.py --headless";
    fs::write(folder.path().join("home/start"), start).expect("a script");
    // as a container does: the group of its own is the one that it sees
    let enter =
        format!("mount --bind \"$0\" {0} && echo $$ > {0}/cgroup.procs && exec \"$@\"", group.seen);
    let path = group.folder.display().to_string();
    let before = ["unshare", "-m", "sh", "-c", enter.as_str(), path.as_str()];
    let wanted = sessions(&[("main", "bash ~/start")]);
    let (workspace, mut agent) = Workspace::start_by(&before, folder, wanted, &[]);
    agent.until("a browser", |status| !status.browsers.is_empty()).await;
    fs::write(workspace.home().join("go"), "").expect("a file");
    let crashed = |status: &Status| {
        status.browsers.first().is_some_and(|one| one.state() == BrowserState::Crashed)
    };
    let status = agent.until("a crash", crashed).await;
    let end = status.browsers[0].end.expect("how it ended");
    assert_eq!((end.oom, end.signal), (true, Some(9)), "{end:?}");
    assert!(group.kills() > 0, "it was not for memory");
    drop(workspace);
}
