//! Everybody who looks goes away: what runs in the workspace goes on.
//!
//! A browser and a program of the session write down when they moved. Other kinds of viewers, and an
//! agent in a real container, are in `tests/e2e/viewers.rs`.

use std::{thread, time::Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_daemon::clock;
use warren_tests::{
    alone::{MINUTE, goes_on},
    program::binary,
    terminal::Terminal,
    wait_until,
};

use crate::{
    chromium::{Chromium, PATIENCE},
    pages::HEADED,
    stand::Stand,
};

/// Serves a page that counts and tells how far it is, and writes down when it was told.
const SERVE: &str = "cat > ~/serve.py <<'END'
import http.server, os, time
PAGE = b'<!doctype html><title>at 0</title><body><script>let n = 0; setInterval(() => {\
 document.title = `at ${++n}`; fetch(`/${n}`); }, 500)</script>'
class Serve(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = self.path[1:]
        if told.isdigit(): print(int(time.time() * 1000), told, file=moved, flush=True)
        self.send_response(200)
        self.send_header('Content-Type', 'text/html')
        self.end_headers()
        if not told: self.wfile.write(PAGE)
    def log_message(self, *_): pass
moved = open(os.path.expanduser('~/moved-page'), 'a')
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Serve)
with open(os.path.expanduser('~/port.new'), 'w') as port: port.write(str(server.server_port))
os.rename(port.name, os.path.expanduser('~/port'))
server.serve_forever()
END
python3 ~/serve.py & until [ -e ~/port ]; do sleep 0.1; done
";
/// Counts as the page does.
const COUNT: &str = "
while :; do echo \"$(date +%s%3N) $((n += 1))\" >> ~/moved-program; echo $n; sleep 0.5; done";

#[test]
fn all_viewers_are_killed_for_a_minute_and_a_browser_and_a_program_go_on() -> Result<()> {
    let page = format!("{HEADED} http://127.0.0.1:$(cat ~/port)/ > ~/chromium.log 2>&1 &");
    let stand = Stand::start(&format!("{SERVE}{page}{COUNT}"))?;
    let browser = || -> Result<Value> {
        let listed = stand.cluster.json(&["browser", "list", "acme/web"])?;
        let is = &listed[0];
        let title = is["pages"][0]["title"].as_str().unwrap_or_default();
        ensure!(is["state"] == "running" && title.starts_with("at "), "{listed}");
        Ok(is.clone())
    };
    let before = wait_until("its page is told", PATIENCE, browser)?;
    let display = stand.processes("Xvfb");

    let (display_page, terminal_page) = (stand.open(&["playwright"])?, stand.open(&["terminal"])?);
    let looker = |name: &str, url: &str| Chromium::open(&stand.looker()?.join(name), url);
    let mut lookers =
        [looker("display", &display_page.url)?, looker("terminal", &terminal_page.url)?];
    lookers[0].until("the display", "document.querySelector('#view canvas')?.width > 0")?;
    lookers[1]
        .until("the terminal", "document.querySelectorAll('.xterm-rows > div').length > 20")?;
    let attach = format!("{} session attach acme/web/main", binary("warren")?.display());
    let terminal = Terminal::start(stand.cluster.around()?, &attach)?;
    let viewers = |count: u32| {
        wait_until(&format!("{count} terminals look"), PATIENCE, || {
            let session = stand.cluster.json(&["session", "show", "acme/web/main"])?;
            ensure!(session["viewers"] == count, "{session}");
            Ok(session)
        })
    };
    viewers(2)?;
    // with SIGKILL, all of them
    terminal.kill_program()?;
    drop((lookers, display_page, terminal_page));
    let (gone, since) = (clock::now(), Instant::now());
    viewers(0)?;
    thread::sleep(MINUTE.saturating_sub(since.elapsed()));

    for name in ["page", "program"] {
        let mut counts = goes_on(&stand.read(&format!("moved-{name}")), gone).context(name)?;
        // those of the page are written by threads
        counts.sort_unstable();
        let began = counts.windows(2).any(|two| two[1] != two[0] + 1);
        ensure!(!began, "the {name} began anew: {counts:?}");
    }
    let after = browser()?;
    ensure!(after["id"] == before["id"], "another browser: {before} {after}");
    ensure!(!display.is_empty() && stand.processes("Xvfb") == display, "another display");
    Ok(())
}
