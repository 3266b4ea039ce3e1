//! Real browsers: Chromium as people start it and as Playwright does, headless and on a display.
//!
//! They take what a workspace's image has, so they run where `cargo xtask browsers` has prepared it.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use warren_proto::pb::inside::v1::{
    BrowserLauncher, BrowserPage, BrowserSource, BrowserState, BrowserStatus, Shot, Status, frame,
    open,
};

use crate::{
    agent::{Agent, PATIENCE, Transcript},
    server::{Manner, Server},
    workspace::{Workspace, sessions},
};

/// Debian's Chromium without its wrapper.
const CHROMIUM: &str = "/usr/lib/chromium/chromium";
/// What every Node.js program of a workspace loads.
const PRELOAD: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../deploy/workspace-image/root-full/opt/warren/browser.cjs"
);
/// A page that does what stands in `order.txt`, once for each new one.
const PAGE: &str = "<!doctype html><title>@</title><body style='background:#1e90ff'><script>
let last; setInterval(async () => {
  const order = await (await fetch('order.txt', { cache: 'no-store' })).text();
  if (last === undefined) last = order;
  if (order !== last) { last = order; setTimeout(() => (0, eval)(order), 0); }
}, 40);</script>";
/// The colour of its background.
const BLUE: &str = "30 144 255";

/// A workspace with a browser in its session.
struct Stand {
    workspace: Workspace,
    agent: Agent,
    _server: Server,
    site: PathBuf,
    orders: u32,
}

impl Stand {
    /// Starts a session with a script that finds `$PAGE`, `$CHROMIUM` and the rest.
    async fn start(script: &str) -> Self {
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
    fn order(&mut self, order: &str) -> Instant {
        self.orders += 1;
        let new = self.site.join("new");
        fs::write(&new, format!("/* {} */ {order}", self.orders)).expect("an order");
        fs::rename(new, self.site.join("order.txt")).expect("an order");
        Instant::now()
    }

    /// Waits until the browser is so.
    async fn until(&mut self, what: &str, fits: impl Fn(&BrowserStatus) -> bool) -> BrowserStatus {
        let browser = |status: &Status| status.browsers.first().cloned();
        let fits = |status: &Status| browser(status).is_some_and(|one| fits(&one));
        browser(&self.agent.until(what, fits).await).expect("it is there")
    }

    /// Waits until a page of it is so.
    async fn until_page(
        &mut self,
        what: &str,
        fits: impl Fn(&BrowserPage) -> bool,
    ) -> BrowserStatus {
        self.until(what, |browser| browser.pages.iter().any(&fits)).await
    }

    async fn shot(&mut self, browser: &BrowserStatus) -> Transcript {
        let shot = Shot { browser: browser.id.clone(), page: String::new() };
        self.agent.open(open::What::Shot(shot)).await.finish().await
    }
}

fn signal(browser: &BrowserStatus, signal: Signal) {
    let pid = browser.id.split_once('-').and_then(|(pid, _)| pid.parse().ok()).expect("a pid");
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("it runs");
}

fn tell(what: &str, since: Instant) {
    let told = since.elapsed();
    #[expect(clippy::print_stderr, reason = "a figure for whoever reads along")]
    {
        eprintln!("{what}: {} ms", told.as_millis());
    }
    assert!(told < Duration::from_secs(1), "{what} took {told:?}");
}

/// A display of its own, gone with this value.
struct Display(Child, String);

impl Display {
    fn start(number: u32) -> Self {
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
        let _ = self.0.kill();
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
fn middle(picture: &[u8]) -> String {
    let mut python = Command::new("python3");
    python.args(["-c", MIDDLE]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("python3");
    python.stdin.take().expect("a pipe").write_all(picture).expect("it reads");
    let read = python.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&read.stdout).trim().to_owned()
}

async fn goes_through_all_states(mut stand: Stand, launcher: BrowserLauncher) {
    let began = Instant::now();
    let browser = stand.until_page("the first page", |page| page.title == "one").await;
    #[expect(clippy::print_stderr, reason = "a figure for whoever reads along")]
    {
        eprintln!("from the session to the first page: {} ms", began.elapsed().as_millis());
    }
    assert_eq!(browser.session, "main");
    assert_eq!((browser.launcher(), browser.source()), (launcher, BrowserSource::Devtools));
    assert!(browser.version.starts_with(|first: char| first.is_ascii_digit()), "{browser:?}");
    let loaded = |page: &BrowserPage| !page.loading;
    stand.until_page("a page that has loaded", loaded).await;

    let at = stand.order("document.title = 'three'");
    stand.until_page("the title", |page| page.title == "three").await;
    tell("title", at);
    let at = stand.order("location = 'two.html?token=abc'");
    let two = |page: &BrowserPage| page.url.ends_with("/two.html?token=***");
    stand.until_page("the address", two).await;
    tell("address", at);
    stand.until_page("both", |page| two(page) && page.title == "two" && !page.loading).await;
    let at =
        stand.order("console.error('bad', 4); setTimeout(() => { throw new Error('thrown') })");
    let both = |page: &BrowserPage| page.errors == 2 && page.last_error == "Error: thrown";
    let browser = stand.until_page("two errors", both).await;
    tell("errors", at);

    let weighed = |one: &BrowserStatus| one.memory_bytes > 50 << 20 && one.renderers > 0;
    stand.until("its memory", weighed).await;
    let shot = stand.shot(&browser).await;
    assert!(matches!(shot.end, Some(frame::Kind::Exited(_))), "{:?}", shot.end);
    assert_eq!(middle(&shot.stdout), BLUE);

    signal(&browser, Signal::STOP);
    let at = Instant::now();
    stand.until("a hung browser", |one| one.state() == BrowserState::Hung).await;
    assert!(at.elapsed() < Duration::from_secs(5), "{:?}", at.elapsed());
    signal(&browser, Signal::CONT);
    stand.until("one that runs again", |one| one.state() == BrowserState::Running).await;

    signal(&browser, Signal::KILL);
    let at = Instant::now();
    let crashed = stand.until("the crash", |one| one.state() == BrowserState::Crashed).await;
    tell("crash", at);
    let signal = crashed.end.and_then(|end| end.signal);
    #[expect(clippy::print_stderr, reason = "how often the kernel tells")]
    {
        eprintln!("its signal: {signal:?}");
    }
    assert!(signal.is_none_or(|signal| signal == 9), "{signal:?}");
    assert!(!stand.workspace.log().contains("panicked"));
}

#[tokio::test]
async fn plain_chromium_goes_through_all_states() {
    let script = "$CHROMIUM $FLAGS --headless --remote-debugging-port=0 $PAGE";
    goes_through_all_states(Stand::start(script).await, BrowserLauncher::Manual).await;
}

#[tokio::test]
async fn a_headed_chromium_is_seen_on_its_display_until_it_is_closed() {
    let display = Display::start(94);
    let script = format!(
        "DISPLAY={} $CHROMIUM $FLAGS --user-data-dir=$HOME/profile --remote-debugging-port=0 $PAGE",
        display.1
    );
    let mut stand = Stand::start(&script).await;
    let browser = stand.until_page("the page", |page| page.title == "one").await;
    assert_eq!((browser.headless, &browser.display), (false, &display.1));
    let shot = stand.shot(&browser).await;
    assert_eq!(middle(&shot.stdout), BLUE);
    stand.order("while (true);");
    let hung = |page: &BrowserPage| page.hung_unix_ms > 0;
    // a page is asked now and then
    let hung = stand.until_page("a hung page", hung).await;
    assert_eq!(hung.state(), BrowserState::Running);
    signal(&browser, Signal::TERM);
    stand.until("the end", |one| one.state() == BrowserState::Closed).await;
}

/// A script of Playwright's that opens the page and waits.
fn playwright(options: &str) -> String {
    format!(
        "NODE_OPTIONS=--require=$PRELOAD node -e \"
           const {{ chromium }} = require('playwright');
           (async () => {{
             const browser = await chromium.launch({{ executablePath: '$CHROMIUM', {options} }});
             const page = await browser.newPage();
             page.on('dialog', (dialog) => setTimeout(() => dialog.accept(), 4000));
             await page.goto('$PAGE');
             process.on('SIGUSR2', () => browser.close());
             setInterval(() => {{}}, 1000);
           }})();\""
    )
}

#[tokio::test]
async fn playwright_goes_through_all_states() {
    let stand = Stand::start(&playwright("args: ['--disable-gpu']")).await;
    goes_through_all_states(stand, BrowserLauncher::Script).await;
}

#[tokio::test]
async fn dialogs_of_playwright_are_seen_and_stay_its_own() {
    let display = Display::start(95);
    let script = format!("export DISPLAY={}\n{}", display.1, playwright("headless: false"));
    let mut stand = Stand::start(&script).await;
    let browser = stand.until_page("the page", |page| page.title == "one" && !page.loading).await;
    let at = stand.order("confirm('sure?') && (document.title = 'accepted')");
    let shown = |page: &BrowserPage| page.dialog.as_ref().is_some_and(|one| one.text == "sure?");
    stand.until_page("the dialog", shown).await;
    tell("dialog", at);
    // the driver answers it, and nobody else
    stand.until_page("its answer", |page| page.title == "accepted" && page.dialog.is_none()).await;
    assert!(at.elapsed() > Duration::from_secs(4), "{:?}", at.elapsed());
    let node = stand.workspace.processes("chromium.launch");
    let driver = node.first().copied().expect("node runs");
    kill_process(Pid::from_raw(driver).expect("a pid"), Signal::USR2).expect("it runs");
    let closed = stand.until("the end", |one| one.state() == BrowserState::Closed).await;
    assert_eq!(closed.id, browser.id);
}

/// Sees who started it, and where it goes.
async fn is_seen(script: &str, launcher: BrowserLauncher) {
    let mut stand = Stand::start(script).await;
    let browser = stand.until_page("the page", |page| page.title == "one" && !page.loading).await;
    assert_eq!((browser.launcher(), browser.source()), (launcher, BrowserSource::Devtools));
    let at = stand.order("location = 'two.html'");
    let two = |page: &BrowserPage| page.url.ends_with("/two.html") && page.title == "two";
    stand.until_page("the next page", two).await;
    tell("address and title", at);
    assert_eq!(middle(&stand.shot(&browser).await.stdout), BLUE);
}

#[tokio::test]
async fn browsers_of_the_mcp_server_are_an_agents() {
    let display = Display::start(96);
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"browser_navigate","arguments":{"url":"'$PAGE'"}}}"#;
    let begin = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}"#;
    let script = format!(
        "export DISPLAY={} NODE_OPTIONS=--require=$PRELOAD
         (echo '{begin}'; sleep 1; echo '{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}}'
          echo '{call}'; sleep 1000) | node $NODE_PATH/@playwright/mcp/cli.js --no-sandbox --executable-path $CHROMIUM",
        display.1
    );
    is_seen(&script, BrowserLauncher::Mcp).await;
}

#[tokio::test]
async fn browsers_of_python_are_seen() {
    let script = "export NODE_OPTIONS=--require=$PRELOAD
        exec $PYTHON -c \"
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    page = playwright.chromium.launch(executable_path='$CHROMIUM').new_page()
    page.goto('$PAGE')
    page.wait_for_timeout(1000000)
\"";
    is_seen(script, BrowserLauncher::Script).await;
}

#[tokio::test]
async fn browsers_of_the_test_runner_are_seen() {
    let script = "export NODE_OPTIONS=--require=$PRELOAD
        mkdir -p ~/tests && cd ~/tests
        echo \"module.exports = { timeout: 0, use: { launchOptions: { executablePath: '$CHROMIUM' } } }\" > playwright.config.js
        echo \"const { test } = require('playwright/test');
              test('it', async ({ page }) => { await page.goto('$PAGE'); await page.waitForTimeout(1000000); });\" > a.spec.js
        exec node $NODE_PATH/playwright/cli.js test";
    is_seen(script, BrowserLauncher::Test).await;
}
