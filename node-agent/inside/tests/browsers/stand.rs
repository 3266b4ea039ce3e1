//! A workspace with a real browser in its session, and the page that it shows.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use warren_proto::pb::inside::v1::{BrowserPage, BrowserStatus, Shot, Status, open};

use crate::{
    agent::{Agent, PATIENCE, Transcript},
    server::{Manner, Server},
    workspace::{Workspace, sessions},
};

/// Debian's Chromium without its wrapper.
const CHROMIUM: &str = "/usr/lib/chromium/chromium";
/// What every Node.js program of a workspace loads.
pub(crate) const PRELOAD: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../deploy/workspace-image/root-browsers/opt/warren/browser.cjs"
);
/// A page that does what stands in `order.txt`, once for each new one, whichever page it led to.
const PAGE: &str = "<!doctype html><title>@</title><body style='background:#1e90ff'><script>
setInterval(async () => {
  const order = await (await fetch('order.txt', { cache: 'no-store' })).text();
  if (order === (sessionStorage.done ?? '0')) return;
  sessionStorage.done = order;
  setTimeout(() => (0, eval)(order), 0);
}, 40);</script>";
/// The colour of its background.
pub(crate) const BLUE: &str = "30 144 255";

/// A workspace with a browser in its session.
pub(crate) struct Stand {
    pub(crate) workspace: Workspace,
    agent: Agent,
    _server: Server,
    site: PathBuf,
    orders: u32,
}

impl Stand {
    /// Starts a session with a script that finds `$PAGE`, `$CHROMIUM` and the rest.
    pub(crate) async fn start(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let site = folder.path().join("site");
        for name in ["home", "run", "site"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        for name in ["one", "two"] {
            fs::write(site.join(format!("{name}.html")), PAGE.replace('@', name)).expect("a page");
        }
        fs::write(site.join("order.txt"), "0").expect("an order");
        let server = Server::start(Manner::Files(site.clone())).await;
        let page = server.url("one.html");
        let flags = "--no-sandbox --no-first-run --disable-gpu";
        let script = format!(
            "export PAGE={page} CHROMIUM='{CHROMIUM}' FLAGS='{flags}' PRELOAD={PRELOAD}
             export NODE_PATH={modules} PYTHON={python}\n{script}",
            modules = std::env::var("WARREN_NODE_MODULES").unwrap_or_default(),
            python = std::env::var("WARREN_PYTHON").unwrap_or_default(),
        );
        fs::write(folder.path().join("home/start"), script).expect("a script");
        let wanted = sessions(&[("main", "bash ~/start")]);
        let (workspace, agent) = Workspace::start_in(folder, wanted);
        Self { workspace, agent, _server: server, site, orders: 0 }
    }

    /// Has the page do something; returns when it was told to.
    pub(crate) fn order(&mut self, order: &str) -> Instant {
        self.orders += 1;
        let new = self.site.join("new");
        fs::write(&new, format!("/* {} */ {order}", self.orders)).expect("an order");
        fs::rename(new, self.site.join("order.txt")).expect("an order");
        Instant::now()
    }

    /// Waits until the browser is so.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        fits: impl Fn(&BrowserStatus) -> bool,
    ) -> BrowserStatus {
        let browser = |status: &Status| status.browsers.first().cloned();
        let fits = |status: &Status| browser(status).is_some_and(|one| fits(&one));
        browser(&self.agent.until(what, fits).await).expect("it is there")
    }

    /// Waits until a page of it is so.
    pub(crate) async fn until_page(
        &mut self,
        what: &str,
        fits: impl Fn(&BrowserPage) -> bool,
    ) -> BrowserStatus {
        self.until(what, |browser| browser.pages.iter().any(&fits)).await
    }

    /// Takes a picture of its page.
    pub(crate) async fn shot(&mut self, browser: &BrowserStatus) -> Transcript {
        let shot = Shot { browser: browser.id.clone(), page: String::new() };
        self.agent.open(open::What::Shot(shot)).await.finish().await
    }
}

/// Sends a signal to the browser's own process.
pub(crate) fn signal(browser: &BrowserStatus, signal: Signal) {
    let pid = browser.id.split_once('-').and_then(|(pid, _)| pid.parse().ok()).expect("a pid");
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("it runs");
}

/// A display of its own, gone with this value.
pub(crate) struct Display(Child, pub(crate) String);

impl Display {
    /// Starts one that nobody else on this machine has.
    pub(crate) fn start() -> Self {
        static DISPLAYS: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() * 8 + DISPLAYS.fetch_add(1, Ordering::Relaxed);
        let number = 53_000 + number % 5_000;
        let name = format!(":{number}");
        let mut server = Command::new("Xvfb");
        server.args([&name, "-screen", "0", "1280x800x24", "-nolisten", "tcp"]);
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("Xvfb");
        let socket = format!("/tmp/.X11-unix/X{number}");
        let until = Instant::now() + PATIENCE;
        while !std::path::Path::new(&socket).exists() {
            assert!(Instant::now() < until, "no display");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(server, name)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Prints the colour in the middle of a PNG of eight bits a channel.
const MIDDLE: &str = "
import struct, sys, zlib
png, at, data = sys.stdin.buffer.read(), 8, b''
while at < len(png):
    size, kind = struct.unpack('>I4s', png[at:at + 8])
    part = png[at + 8:at + 8 + size]
    if kind == b'IHDR': width, height, _, colour = struct.unpack('>IIBB', part[:10])
    if kind == b'IDAT': data += part
    at += size + 12
step = {2: 3, 6: 4}[colour]
raw, line, above = zlib.decompress(data), width * step, bytearray(width * step)
for row in range(height // 2 + 1):
    how, now = raw[row * (line + 1)], bytearray(raw[row * (line + 1) + 1:(row + 1) * (line + 1)])
    for i in range(line):
        a, b, c = (now[i - step], above[i], above[i - step]) if i >= step else (0, above[i], 0)
        p = a + b - c
        near = min((abs(p - x), n, x) for n, x in enumerate((a, b, c)))[2]
        now[i] = now[i] + (0, a, b, (a + b) // 2, near)[how] & 255
    above = now
at = width // 2 * step
print(*above[at:at + 3])
";

/// Returns the colour in the middle of a PNG.
pub(crate) fn middle(picture: &[u8]) -> String {
    let mut python = Command::new("python3");
    python.args(["-c", MIDDLE]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("python3");
    python.stdin.take().expect("a pipe").write_all(picture).expect("it reads");
    let read = python.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&read.stdout).trim().to_owned()
}
