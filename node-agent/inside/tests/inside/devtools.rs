//! A browser played by a test: its process, its port, and DevTools that say what they are told to.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::broadcast,
    time::Instant,
};
use tokio_tungstenite::tungstenite::Message;
use warren_proto::pb::inside::v1::{
    BrowserSource, BrowserState, BrowserStatus, Shot, Status, frame, open,
};

use crate::{
    agent::{Agent, Transcript},
    workspace::{Workspace, sessions},
};

const PAGE: &str = "A1B2C3D4";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\nnot much of one";

/// What the test tells the browser's side to do.
#[derive(Clone)]
enum Act {
    /// Say this.
    Say(Value),
    /// The list of pages from now on.
    Pages(Value),
    /// Answer nothing any more, or again.
    Deaf(bool),
    /// Answer probes no more, or again.
    Stuck(bool),
    /// Close the connection.
    Drop,
}

struct Stand {
    workspace: Workspace,
    agent: Agent,
    acts: broadcast::Sender<Act>,
    pid: i32,
}

fn pages(url: &str, title: &str) -> Value {
    json!([
        { "targetId": "UI", "type": "browser_ui", "title": "", "url": "chrome://omnibox" },
        { "targetId": PAGE, "type": "page", "title": title, "url": url },
    ])
}

impl Stand {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("home");
        for name in ["home/bin", "home/profile", "run"] {
            fs::create_dir_all(folder.path().join(name)).expect("a folder");
        }
        let script = "import time\ntime.sleep(1000)\n";
        fs::write(home.join("bin/idle.py"), script).expect("a script");
        // as a browser does that runs; whoever is killed leaves it
        let start = "ln -sf host-$$ ~/profile/SingletonLock; DISPLAY=:42 exec -a /opt/chromium/chromium python3 ~/bin/idle.py \
                     --user-data-dir=$HOME/profile --remote-debugging-port=0";
        fs::write(home.join("start"), start).expect("a script");
        let (workspace, mut agent) =
            Workspace::start_in(folder, sessions(&[("main", "bash ~/start")]));
        let seen = agent.until("a browser", |status| !status.browsers.is_empty()).await;
        let browser = &seen.browsers[0];
        assert_eq!((browser.state(), browser.session.as_str()), (BrowserState::Starting, "main"));
        assert_eq!((browser.headless, browser.display.as_str()), (false, ":42"));
        let pid = browser.id.split_once('-').and_then(|(pid, _)| pid.parse().ok()).expect("a pid");
        let acts = serve(&workspace.home().join("profile"), pid).await;
        Self { workspace, agent, acts, pid }
    }

    fn act(&self, act: Act) {
        self.acts.send(act).ok().expect("it is played");
    }

    fn say(&self, method: &str, params: Value) {
        self.act(Act::Say(json!({ "method": method, "params": params, "sessionId": "S1" })));
    }

    async fn until(&mut self, what: &str, fits: impl Fn(&BrowserStatus) -> bool) -> BrowserStatus {
        let fits = |status: &Status| status.browsers.first().is_some_and(&fits);
        self.agent.until(what, fits).await.browsers[0].clone()
    }

    async fn shot(&mut self, page: &str) -> Transcript {
        let browser = self.until("it", |_| true).await.id;
        let shot = Shot { browser, page: page.to_owned() };
        self.agent.open(open::What::Shot(shot)).await.finish().await
    }
}

/// How the browser's side stands.
struct Play {
    pages: Value,
    deaf: bool,
    stuck: bool,
    pid: i32,
}

/// Plays DevTools on a port of their own.
async fn serve(profile: &Path, pid: i32) -> broadcast::Sender<Act> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (acts, _) = broadcast::channel(16);
    let all = acts.clone();
    let pages = pages("https://shop.example/?token=abc", "Shop");
    let play = Arc::new(Mutex::new(Play { pages, deaf: false, stuck: false, pid }));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a caller");
            let (play, told) = (Arc::clone(&play), all.subscribe());
            tokio::spawn(async move { converse(socket, play, told).await });
        }
    });
    let file = profile.join("DevToolsActivePort");
    fs::write(file, format!("{port}\n/devtools/browser/5a-b1")).expect("a file");
    acts
}

async fn converse(socket: TcpStream, play: Arc<Mutex<Play>>, mut told: broadcast::Receiver<Act>) {
    let mut socket = tokio_tungstenite::accept_async(socket).await.expect("a WebSocket");
    loop {
        let act = tokio::select! {
            message = socket.next() => {
                let Some(Ok(message)) = message else { return };
                let Message::Text(text) = message else { continue };
                let call: Value = serde_json::from_str(&text).expect("a call");
                let answer = answer(&call, &play.lock().expect("no panic"));
                if let Some(answer) = answer {
                    let _ = socket.send(Message::text(answer.to_string())).await;
                }
                continue;
            }
            act = told.recv() => act,
        };
        let Ok(act) = act else { return };
        match act {
            Act::Say(event) => drop(socket.send(Message::text(event.to_string())).await),
            Act::Pages(now) => play.lock().expect("no panic").pages = now,
            Act::Deaf(now) => play.lock().expect("no panic").deaf = now,
            Act::Stuck(now) => play.lock().expect("no panic").stuck = now,
            Act::Drop => return,
        }
    }
}

/// Answers as Chromium does; what would change how a page behaves is not answered at all.
fn answer(call: &Value, play: &Play) -> Option<Value> {
    if play.deaf || play.stuck && call["method"] == "Runtime.evaluate" {
        return None;
    }
    let (pages, pid) = (&play.pages, play.pid);
    let result = match call["method"].as_str().expect("a method") {
        "Browser.getVersion" => json!({ "product": "Chrome/156.0.1" }),
        "SystemInfo.getProcessInfo" => json!({ "processInfo": [
            { "type": "renderer", "id": 1, "cpuTime": 0.1 },
            { "type": "browser", "id": pid, "cpuTime": 0.1 },
        ] }),
        "Target.getTargets" => json!({ "targetInfos": pages }),
        "Target.attachToTarget" => {
            assert_eq!(
                (&call["params"]["flatten"], &call["params"]["targetId"]),
                (&true.into(), &PAGE.into())
            );
            json!({ "sessionId": "S1" })
        }
        "Runtime.evaluate" => {
            assert_eq!(call["sessionId"], "S1");
            json!({ "result": { "type": "string", "value": "complete" } })
        }
        "Page.captureScreenshot" if call["params"]["format"] == "png" => {
            use base64::Engine as _;
            json!({ "data": base64::engine::general_purpose::STANDARD.encode(PNG) })
        }
        "Target.setDiscoverTargets" | "Runtime.enable" | "Runtime.disable" => json!({}),
        other => panic!("nothing drives it: {other} must not be called"),
    };
    Some(json!({ "id": call["id"], "result": result }))
}

#[tokio::test]
async fn what_devtools_say_is_told() {
    let mut stand = Stand::start().await;
    let browser = stand.until("its page", |one| one.pages.len() == 1).await;
    assert_eq!(browser.version, "156.0.1");
    assert_eq!(
        (browser.source(), browser.state()),
        (BrowserSource::Devtools, BrowserState::Running)
    );
    assert_eq!(browser.pages[0].url, "https://shop.example/?token=***");
    stand.until("a page that has loaded", |one| !one.pages[0].loading).await;
    let thrown = json!({ "exceptionDetails": { "text": "Uncaught",
        "exception": { "type": "object", "description": "Error: no\n  at x" } } });
    stand.say("Runtime.exceptionThrown", thrown);
    stand.say("Runtime.consoleAPICalled", json!({ "type": "log", "args": [{ "value": "hi" }] }));
    let seen = stand.until("an error", |one| one.pages[0].errors > 0).await;
    assert_eq!((seen.pages[0].errors, seen.pages[0].last_error.as_str()), (1, "Error: no"));
    stand.act(Act::Pages(pages("https://shop.example/paid", "Paid")));
    let at = Instant::now();
    let seen = stand.until("the next page", |one| one.pages[0].title == "Paid").await;
    assert!(at.elapsed() < Duration::from_secs(1), "{:?}", at.elapsed());
    assert_eq!(
        (seen.pages[0].errors, seen.pages[0].url.as_str()),
        (0, "https://shop.example/paid")
    );

    let shot = stand.shot("").await;
    assert_eq!(shot.stdout, PNG);
    let at = Instant::now();
    assert_eq!(stand.shot(PAGE).await.stdout, PNG);
    assert!(at.elapsed() > Duration::from_secs(1), "a page is not pictured all the time");
    let Some(frame::Kind::Failed(failed)) = stand.shot("other").await.end else { panic!("none") };
    assert_eq!(failed.reason, "NOT_FOUND");

    stand
        .act(Act::Say(json!({ "method": "Target.targetCrashed", "params": { "targetId": PAGE } })));
    stand.until("a page that crashed", |one| one.pages[0].crashed).await;
}

#[tokio::test]
async fn who_does_not_answer_is_hung_and_who_is_gone_has_crashed() {
    let mut stand = Stand::start().await;
    stand.until("its page", |one| one.pages.len() == 1 && !one.pages[0].loading).await;
    stand.act(Act::Deaf(true));
    let at = Instant::now();
    stand.until("a hung one", |one| one.state() == BrowserState::Hung).await;
    assert!((1..5).contains(&at.elapsed().as_secs()), "{:?}", at.elapsed());
    stand.act(Act::Deaf(false));
    // what was asked meanwhile is never answered: it is begun anew
    stand.act(Act::Drop);
    stand
        .until("one that answers", |one| {
            one.state() == BrowserState::Running && one.pages.len() == 1
        })
        .await;
    stand.act(Act::Stuck(true));
    stand.act(Act::Pages(pages("https://shop.example/loop", "Loop")));
    let hung = stand.until("a hung page", |one| one.pages[0].hung_unix_ms > 0).await;
    assert_eq!(hung.state(), BrowserState::Running);

    let pid = rustix::process::Pid::from_raw(stand.pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    let at = Instant::now();
    let gone = stand.until("a crash", |one| one.state() == BrowserState::Crashed).await;
    assert!(at.elapsed() < Duration::from_secs(1), "{:?}", at.elapsed());
    assert_eq!(gone.pages.len(), 1, "it is shown what it showed last");
    let Some(frame::Kind::Failed(failed)) = stand.shot("").await.end else { panic!("a picture") };
    assert_eq!(failed.reason, "WRONG_STATE");
}

#[tokio::test]
async fn what_is_too_much_is_passed_over() {
    let mut stand = Stand::start().await;
    stand.until("its page", |one| one.pages.len() == 1 && !one.pages[0].loading).await;
    let long = "x\u{1b}[2J\n".repeat(300_000);
    stand.say("Runtime.consoleAPICalled", json!({ "type": "error", "args": [{ "value": long }] }));
    let lines = "y\u{1b}[2J\n".repeat(20_000);
    stand.say("Runtime.consoleAPICalled", json!({ "type": "error", "args": [{ "value": lines }] }));
    let seen = stand.until("the shorter line", |one| one.pages[0].errors == 1).await;
    assert!(
        seen.pages[0].last_error.starts_with("y[2J y[2J") && seen.pages[0].last_error.len() <= 160
    );
    // titles of 1 MB: the list of pages itself is passed over, and nobody is hung
    stand.act(Act::Pages(pages("https://shop.example/long", &long)));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let seen = stand.until("it", |_| true).await;
    assert_eq!(seen.state(), BrowserState::Running);
    let status = fs::read_to_string(format!("/proc/{}/status", stand.workspace.pid()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib: u64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(kib < 40_000, "{kib} KiB");
    assert!(!stand.workspace.log().contains("panicked"));
}
