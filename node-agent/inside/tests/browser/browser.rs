//! The pages in a real Chromium, with noVNC and xterm.js as npm brings them: `cargo xtask views`.

use std::{
    env, fs,
    net::Ipv4Addr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::Engine as _;
use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use warren_proto::pb::inside::v1::{View, ViewKind};

use crate::{
    agent::{Agent, PATIENCE},
    views::{TOKEN, XEV, connect, keys, kill, with_display},
    workspace::{Workspace, sessions, wait_until},
};

/// A Chromium without a window, asked over its DevTools.
struct Browser {
    process: Child,
    socket: WebSocketStream<TcpStream>,
    asked: u64,
}

impl Browser {
    async fn open(folder: &Path, url: &str) -> Self {
        let process = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--remote-debugging-port=0", "--window-size=1000,700", "--no-first-run"])
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .arg(url)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium");
        let port = folder.join("profile/DevToolsActivePort");
        wait_until("Chromium's port", || port.exists()).await;
        let port = fs::read_to_string(port).expect("a port");
        let port: u16 = port.lines().next().and_then(|n| n.parse().ok()).expect("a port");
        let path = page(port).await;
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("it listens");
        let (socket, _) = client_async(path, socket).await.expect("a WebSocket");
        Self { process, socket, asked: 0 }
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let call = json!({"id": self.asked, "method": method, "params": params}).to_string();
        self.socket.send(Message::Text(call.into())).await.expect("open");
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("in time");
            let Some(Ok(Message::Text(text))) = message else { continue };
            let answer: Value = serde_json::from_str(text.as_str()).expect("JSON");
            if answer["id"] == self.asked {
                return answer["result"].clone();
            }
        }
    }

    /// Waits until an expression of the page's is true.
    async fn until(&mut self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let asked = json!({"expression": expression, "returnByValue": true});
            let answer = self.call("Runtime.evaluate", asked).await;
            if answer["result"]["value"] == true {
                return;
            }
            if Instant::now() > until {
                let asked = json!({"expression": "document.body.innerText"});
                let text = self.call("Runtime.evaluate", asked).await;
                panic!("not {expression}: {answer}; the page says {text}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn evaluate(&mut self, expression: &str) {
        self.call("Runtime.evaluate", json!({"expression": expression})).await;
    }

    async fn keep_picture(&mut self, name: &str) {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"})).await;
        let data = answer["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        let file = PathBuf::from(env::var_os("WARREN_PICTURES").expect("a folder")).join(name);
        fs::write(file, bytes).expect("written");
    }

    async fn type_key(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": format!("Key{}", key.to_uppercase()),
                "text": key, "windowsVirtualKeyCode": 65,
            });
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Down and up: text that comes while a key is down is taken for that key's.
    async fn press_enter(&mut self) {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { "\r" } else { "" };
            let event = json!({
                "type": kind, "key": "Enter", "code": "Enter", "text": text,
                "windowsVirtualKeyCode": 13,
            });
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    async fn click(&mut self, x: u32, y: u32) {
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // with whatever it started
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}

/// Returns the address of the page's own DevTools.
async fn page(port: u16) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("it listens");
        let ask = format!(
            "GET /json/list HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n"
        );
        socket.write_all(ask.as_bytes()).await.expect("open");
        let mut answer = Vec::new();
        // it keeps the connection open in spite of what it is asked
        let reading = async { while let Ok(1..) = socket.read_buf(&mut answer).await {} };
        let _ = timeout(Duration::from_secs(1), reading).await;
        let answer = String::from_utf8_lossy(&answer);
        let list = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let pages: Vec<Value> = serde_json::from_str(list).unwrap_or_default();
        let found = pages.iter().find(|page| page["type"] == "page");
        if let Some(url) = found.and_then(|page| page["webSocketDebuggerUrl"].as_str()) {
            return url.to_owned();
        }
        assert!(Instant::now() < until, "Chromium shows no page: {answer}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// What `workspace open` does: a port of this machine, each connection to it a stream.
async fn forward(mut agent: Agent, kind: ViewKind, control: Duration) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // as the command line names it: the browser leads it to the loopback without asking anybody
    let host = format!("w0123456789abcdef.localhost:{port}");
    let view = View {
        kind: kind.into(),
        token: TOKEN.to_owned(),
        host: host.clone(),
        control_ms: control.as_millis().try_into().expect("short"),
        session: String::new(),
    };
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut stream = connect(&mut agent, view.clone()).await;
            tokio::spawn(async move {
                let _ = copy_bidirectional(&mut socket, &mut stream).await;
            });
        }
    });
    format!("http://{host}/#{TOKEN}")
}

fn modules() -> (&'static str, String) {
    ("WARREN_MODULES", env::var("WARREN_MODULES").expect("cargo xtask views sets it"))
}

/// Whether the picture has a white point: the window; nothing else on the display is white.
const WHITE: &str = "(() => { const c = document.querySelector('#view canvas'); if (!c) return false; \
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
    for (let i = 0; i < d.length; i += 400) if (d[i] + d[i+1] + d[i+2] > 750) return true; \
    return false; })()";

#[tokio::test]
async fn the_display_is_shown_by_novnc_and_typed_into_with_control() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut more = with_display();
    more.push(modules());
    let (workspace, mut agent) = Workspace::start_with(sessions(&[("main", XEV)]), &more);
    agent.until_started().await;
    let url = forward(agent, ViewKind::Display, Duration::from_secs(60)).await;
    let mut browser = Browser::open(folder.path(), &url).await;
    browser
        .until("document.getElementById('what').textContent.startsWith('you have control')")
        .await;
    browser.until(WHITE).await;
    browser.keep_picture("display.png").await;
    browser.click(400, 300).await;
    let until = Instant::now() + PATIENCE;
    while keys(&workspace) == 0 {
        assert!(Instant::now() < until, "no key arrives");
        browser.type_key("a").await;
        sleep(Duration::from_millis(200)).await;
    }

    kill(&workspace, "x11vnc");
    browser.until(&says("went away; trying again")).await;
    browser.until(&says("you have control for")).await;
    browser.until(WHITE).await;
    control_is_given_back_and_taken(&mut browser).await;
    phone(&mut browser).await;
    browser
        .until("document.querySelector('#view canvas').getBoundingClientRect().width <= 390")
        .await;
    browser.keep_picture("display-phone.png").await;
    // what a phone's keyboard writes arrives as keys
    browser.evaluate("document.getElementById('keyboard').click()").await;
    let before = keys(&workspace);
    browser.call("Input.insertText", json!({"text": "abc"})).await;
    wait_until("what was written", || keys(&workspace) >= before + 3).await;
    browser.evaluate("document.getElementById('fit').click()").await;
    browser.until("document.querySelector('#view canvas').width <= 390").await;
}

/// Whether the page's line of words holds these.
fn says(words: &str) -> String {
    format!("document.getElementById('what').textContent.includes('{words}')")
}

async fn control_is_given_back_and_taken(browser: &mut Browser) {
    for (now, then) in
        [("Give back control", "you gave control back"), ("Take control", "you have control")]
    {
        browser.until(&format!("document.getElementById('control').textContent === '{now}'")).await;
        browser.evaluate("document.getElementById('control').click()").await;
        browser.until(&says(then)).await;
    }
}

/// Makes it a phone: everything fits, and what is touched is large enough to be hit.
async fn phone(browser: &mut Browser) {
    let size = json!({"width": 390, "height": 844, "deviceScaleFactor": 3, "mobile": true});
    browser.call("Emulation.setDeviceMetricsOverride", size).await;
    browser.call("Emulation.setTouchEmulationEnabled", json!({"enabled": true})).await;
    browser.until("innerWidth === 390 && document.scrollingElement.scrollWidth <= 390").await;
    let large = "[...document.querySelectorAll('button')].filter((one) => one.offsetParent)\
        .every((one) => one.offsetWidth >= 44 && one.offsetHeight >= 44)";
    browser.until(large).await;
}

#[tokio::test]
async fn a_session_is_shown_by_xterm_and_typed_into() {
    let folder = tempfile::tempdir().expect("a folder");
    let (workspace, mut agent) = Workspace::start_with(sessions(&[("main", "")]), &[modules()]);
    agent.until_started().await;
    let url = forward(agent, ViewKind::Terminal, Duration::ZERO).await;
    let mut browser = Browser::open(folder.path(), &url).await;
    browser.until("document.querySelectorAll('.xterm-rows > div').length > 20").await;
    let width = || workspace.tmux(&["display-message", "-p", "-t", "=main:", "#{window_width}"]);
    wait_until("the size of the window", || width().parse::<u32>().is_ok_and(|n| n > 90)).await;
    browser.click(300, 300).await;
    browser.call("Input.insertText", json!({"text": "echo $((40+2))-grüße"})).await;
    browser.press_enter().await;
    browser.until("document.querySelector('.xterm-rows').innerText.includes('42-grüße')").await;
    browser.keep_picture("terminal.png").await;

    phone(&mut browser).await;
    wait_until("the phone's size", || width().parse::<u32>().is_ok_and(|n| n < 60)).await;
    browser.until("document.querySelectorAll('#touch button').length === 7").await;
    browser.until("document.getElementById('touch').offsetHeight >= 44").await;
    browser.call("Input.insertText", json!({"text": "sleep 1000"})).await;
    browser.press_enter().await;
    let running = || !workspace.processes("sleep 1000").is_empty();
    wait_until("the program", running).await;
    browser.evaluate("[...document.querySelectorAll('#touch button')][2].click()").await;
    browser.call("Input.insertText", json!({"text": "c"})).await;
    wait_until("Ctrl and C", || !running()).await;
    // a large paste goes in pieces
    browser.call("Input.insertText", json!({"text": "cat > ~/pasted"})).await;
    browser.press_enter().await;
    wait_until("the file", || workspace.home().join("pasted").exists()).await;
    let paste = "const data = new DataTransfer(); \
        data.setData('text/plain', '0123456789abcde\\n'.repeat(6000)); \
        document.querySelector('.xterm-helper-textarea') \
        .dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))";
    browser.evaluate(paste).await;
    let pasted = || fs::metadata(workspace.home().join("pasted")).map_or(0, |file| file.len());
    wait_until("the paste", || pasted() > 90_000).await;
    browser.keep_picture("terminal-phone.png").await;
}
