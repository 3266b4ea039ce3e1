//! Real browsers: Chromium as people start it and as Playwright does, headless and on a display.
//!
//! They take what a workspace's image has, so they run where `cargo xtask browsers` has prepared it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use warren_proto::pb::inside::v1::{
    BrowserLauncher, BrowserPage, BrowserSource, BrowserState, BrowserStatus, frame,
};

use crate::{
    facts::Facts,
    stand::{BLUE, Display, Stand, middle, signal},
};

/// Who drives a browser, and how it is to be told.
struct Driver {
    name: &'static str,
    launcher: BrowserLauncher,
    headed: bool,
}

async fn goes_through_all_states(mut stand: Stand, driver: Driver) {
    let mut facts = Facts::of(driver.name);
    let began = Instant::now();
    let browser = stand.until_page("the first page", |page| page.title == "one").await;
    facts.note("first page", format!("{} ms", began.elapsed().as_millis()));
    assert_eq!(browser.headless, !driver.headed);
    assert_eq!((browser.launcher(), browser.source()), (driver.launcher, BrowserSource::Devtools));
    assert!(browser.version.starts_with(|first: char| first.is_ascii_digit()), "{browser:?}");
    let loaded = |page: &BrowserPage| !page.loading;
    stand.until_page("a page that has loaded", loaded).await;

    let at = stand.order("location = 'two.html?token=abc'");
    let two = |page: &BrowserPage| page.url.ends_with("/two.html?token=***");
    stand.until_page("the address", two).await;
    facts.took("URL", at);
    stand.until_page("both", |page| two(page) && page.title == "two" && !page.loading).await;
    let at = stand.order("document.title = 'three'");
    stand.until_page("the title", |page| page.title == "three").await;
    facts.took("title", at);
    facts.note("headed", if browser.headless { "no" } else { "yes" });
    assert_eq!(browser.session, "main");
    facts.note("session", browser.session.as_str());
    let at =
        stand.order("console.error('bad', 4); setTimeout(() => { throw new Error('thrown') })");
    let both = |page: &BrowserPage| page.errors == 2 && page.last_error == "Error: thrown";
    let browser = stand.until_page("two errors", both).await;
    facts.took("errors", at);

    let weighed = |one: &BrowserStatus| one.memory_bytes > 50 << 20 && one.renderers > 0;
    stand.until("its memory", weighed).await;
    let shot = stand.shot(&browser).await;
    assert!(matches!(shot.end, Some(frame::Kind::Exited(_))), "{:?}", shot.end);
    assert_eq!(middle(&shot.stdout), BLUE);
    facts.note("thumbnail", "ok");

    signal(&browser, Signal::STOP);
    let at = Instant::now();
    stand.until("a hung browser", |one| one.state() == BrowserState::Hung).await;
    assert!(at.elapsed() < Duration::from_secs(5), "{:?}", at.elapsed());
    facts.note("hung", format!("{} ms", at.elapsed().as_millis()));
    signal(&browser, Signal::CONT);
    stand.until("one that runs again", |one| one.state() == BrowserState::Running).await;

    signal(&browser, Signal::KILL);
    let at = Instant::now();
    let crashed = stand.until("the crash", |one| one.state() == BrowserState::Crashed).await;
    facts.took("crashed", at);
    let signal = crashed.end.and_then(|end| end.signal);
    assert!(signal.is_none_or(|signal| signal == 9), "{signal:?}");
    assert!(!stand.workspace.log().contains("panicked"));
    facts.keep();
}

#[tokio::test]
async fn plain_chromium_goes_through_all_states() {
    let display = Display::start();
    let script = format!(
        "DISPLAY={} $CHROMIUM $FLAGS --user-data-dir=$HOME/profile --remote-debugging-port=0 $PAGE",
        display.1
    );
    let driver = Driver { name: "chromium", launcher: BrowserLauncher::Manual, headed: true };
    goes_through_all_states(Stand::start(&script).await, driver).await;
}

#[tokio::test]
async fn a_headed_chromium_whose_page_hangs_is_told_until_it_is_closed() {
    let display = Display::start();
    // it leaves its lock and its page when it is asked to end so: only its exit code tells, and only
    // while who started it has not taken that
    let script = format!(
        "export DISPLAY={}
         exec python3 -c \"import subprocess, time; subprocess.Popen('exec $CHROMIUM $FLAGS \
         --user-data-dir=$HOME/profile --remote-debugging-port=0 $PAGE', shell=True); time.sleep(1000)\"",
        display.1
    );
    let mut stand = Stand::start(&script).await;
    let browser = stand.until_page("the page", |page| page.title == "one").await;
    assert_eq!((browser.headless, &browser.display), (false, &display.1));
    stand.order("while (true);");
    let hung = |page: &BrowserPage| page.hung_unix_ms > 0;
    // a page is asked now and then
    let hung = stand.until_page("a hung page", hung).await;
    assert_eq!(hung.state(), BrowserState::Running);
    signal(&browser, Signal::TERM);
    stand.until("the end", |one| one.state() == BrowserState::Closed).await;
}

#[tokio::test]
async fn one_without_a_port_is_known_by_the_title_of_its_window() {
    let mut facts = Facts::of("without a port");
    let display = Display::start();
    let script = format!(
        "export DISPLAY={}\nexec $CHROMIUM $FLAGS --user-data-dir=$HOME/profile $PAGE",
        display.1
    );
    let mut stand = Stand::start(&script).await;
    let browser = stand.until_page("the page", |page| page.title == "one").await;
    assert_eq!((browser.source(), browser.pages.len()), (BrowserSource::Window, 1));
    assert!(browser.pages[0].url.is_empty(), "{browser:?}");
    let at = stand.order("document.title = 'three'");
    stand.until_page("the title", |page| page.title == "three").await;
    // it is looked at each second
    facts.note("title", format!("{} ms", at.elapsed().as_millis()));
    let shot = stand.shot(&browser).await;
    let Some(frame::Kind::Failed(failed)) = shot.end else { panic!("a picture") };
    assert_eq!(failed.reason, "WRONG_STATE", "{}", failed.message);
    signal(&browser, Signal::KILL);
    stand.until("the end", |one| one.state() == BrowserState::Crashed).await;
    facts.keep();
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
    let driver =
        Driver { name: "playwright (headless)", launcher: BrowserLauncher::Script, headed: false };
    goes_through_all_states(stand, driver).await;
}

#[tokio::test]
async fn dialogs_of_playwright_are_seen_and_stay_its_own() {
    let display = Display::start();
    let script = format!("export DISPLAY={}\n{}", display.1, playwright("headless: false"));
    let mut stand = Stand::start(&script).await;
    let browser = stand.until_page("the page", |page| page.title == "one" && !page.loading).await;
    let at = stand.order("confirm('sure?') && (document.title = 'accepted')");
    let shown = |page: &BrowserPage| page.dialog.as_ref().is_some_and(|one| one.text == "sure?");
    stand.until_page("the dialog", shown).await;
    assert!(at.elapsed() < Duration::from_secs(1), "{:?}", at.elapsed());
    // the driver answers it, and nobody else
    stand.until_page("its answer", |page| page.title == "accepted" && page.dialog.is_none()).await;
    assert!(at.elapsed() > Duration::from_secs(4), "{:?}", at.elapsed());
    let node = stand.workspace.processes("chromium.launch");
    let driver = node.first().copied().expect("node runs");
    kill_process(Pid::from_raw(driver).expect("a pid"), Signal::USR2).expect("it runs");
    let closed = stand.until("the end", |one| one.state() == BrowserState::Closed).await;
    assert_eq!(closed.id, browser.id);
}

#[tokio::test]
async fn browsers_of_the_mcp_server_go_through_all_states() {
    let display = Display::start();
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"browser_navigate","arguments":{"url":"'$PAGE'"}}}"#;
    let begin = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}"#;
    let script = format!(
        "export DISPLAY={} NODE_OPTIONS=--require=$PRELOAD
         (echo '{begin}'; sleep 1; echo '{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}}'
          echo '{call}'; sleep 1000) | node $NODE_PATH/@playwright/mcp/cli.js --no-sandbox --executable-path $CHROMIUM",
        display.1
    );
    let driver = Driver { name: "@playwright/mcp", launcher: BrowserLauncher::Mcp, headed: true };
    goes_through_all_states(Stand::start(&script).await, driver).await;
}

#[tokio::test]
async fn browsers_of_python_go_through_all_states() {
    let display = Display::start();
    let script = format!(
        "export DISPLAY={} NODE_OPTIONS=--require=$PRELOAD
        exec $PYTHON -c \"
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    page = playwright.chromium.launch(executable_path='$CHROMIUM', headless=False).new_page()
    page.goto('$PAGE')
    page.wait_for_timeout(1000000)
\"",
        display.1
    );
    let driver = Driver { name: "Python", launcher: BrowserLauncher::Script, headed: true };
    goes_through_all_states(Stand::start(&script).await, driver).await;
}

#[tokio::test]
async fn browsers_of_the_test_runner_go_through_all_states() {
    let display = Display::start();
    let script = format!(
        "export DISPLAY={} NODE_OPTIONS=--require=$PRELOAD
        mkdir -p ~/tests && cd ~/tests
        echo \"module.exports = {{ timeout: 0,
              use: {{ headless: false, launchOptions: {{ executablePath: '$CHROMIUM' }} }} }}\" > playwright.config.js
        echo \"const {{ test }} = require('@playwright/test');
              test('it', async ({{ page }}) => {{ await page.goto('$PAGE'); await page.waitForTimeout(1000000); }});\" > a.spec.js
        exec node $NODE_PATH/@playwright/test/cli.js test",
        display.1
    );
    let driver = Driver { name: "@playwright/test", launcher: BrowserLauncher::Test, headed: true };
    goes_through_all_states(Stand::start(&script).await, driver).await;
}
