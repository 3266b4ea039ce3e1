//! Browsers in a real workspace, made from the image that people get: on its display, behind its walls,
//! told of, looked at through the tunnel, hung and killed.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Lab, Opened, wait_until};

const IMAGE: &str = "warren-workspace:browsers";
/// For what starts under load.
const SOON: Duration = Duration::from_secs(60);
/// What serves the page; nothing else on a display is of its colour.
const SETUP: &str = "mkdir -p ~/site && cat > ~/site/index.html <<'END'
<!doctype html><title>in the workspace</title><body style='background:#1e90ff'>
END
cat > ~/drive.js <<'END'
const { chromium } = require('playwright');
(async () => {
  const browser = await chromium.launch({ headless: false, executablePath: '/usr/bin/chromium' });
  const page = await browser.newPage();
  await page.goto('http://127.0.0.1:8080/driven.html');
  await new Promise(() => {});
})();
END
echo '<!doctype html><title>driven by Playwright</title>' > ~/site/driven.html";
const SERVE: &str = "server=busybox httpd -f -p 127.0.0.1:8080 -h /home/agent/site";
/// A browser as a person starts it.
const PLAIN: &str =
    "plain=exec chromium --no-first-run --start-maximized http://127.0.0.1:8080/index.html";
/// One as agents drive it.
const DRIVEN: &str = "driven=NODE_PATH=/usr/local/lib/node_modules exec node drive.js";
/// One that no session starts, and whose profile stays.
const OTHER: &str = "setsid -f chromium --headless --no-sandbox --user-data-dir=$HOME/other \
    --remote-debugging-port=0 about:blank >/dev/null 2>&1";
/// Stands for no session.
const NOBODY: &str = "nobody";
/// Opens the page of a display in a browser of its own, waits until most of what is shown has the
/// page's colour, and keeps a picture.
const LOOK: &str = "
const { chromium } = require('playwright');
(async () => {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage'] });
  const page = await browser.newPage({ viewport: { width: 1300, height: 850 } });
  await page.goto(process.argv[1]);
  await page.waitForFunction(() => {
    const c = document.querySelector('#view canvas');
    if (!c || !c.width) return false;
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let blue = 0, all = 0;
    for (let i = 0; i < d.length; i += 400, all++)
      if (Math.abs(d[i] - 30) < 9 && Math.abs(d[i + 1] - 144) < 9 && Math.abs(d[i + 2] - 255) < 9) blue++;
    return blue * 2 > all;
  }, null, { timeout: 60000 });
  await page.screenshot({ path: '/out/display.png' });
  console.log('the display shows the page');
  await browser.close();
})().catch((error) => { console.error(error); process.exit(1); });
";

/// The image with browsers, loaded.
fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e/agents-image.tar");
    ensure!(image.exists(), "there is no image with browsers: run ./deploy/test agents-image");
    lab.engine.docker(&["load", "-q", "-i", &image.to_string_lossy()])?;
    Ok(lab)
}

/// Returns the newest browser of a session, or of none, once `is` accepts it.
fn until(lab: &Lab, (session, what): (&str, &str), is: impl Fn(&Value) -> bool) -> Result<Value> {
    wait_until(&format!("{session} is {what}"), SOON, || {
        let listed = lab.cluster.json(&["browser", "list", "acme/web"])?;
        let all = listed.as_array().context("a list")?;
        let of = |one: &&Value| one["session"].as_str().unwrap_or(NOBODY) == session;
        let found = all.iter().filter(of).find(|one| is(one));
        found.cloned().with_context(|| {
            let screen = lab.try_shell("acme/web", &format!("tmux capture-pane -p -t {session}"));
            let screen = screen.map(|output| output.stdout).unwrap_or_default();
            format!("there are {listed}; its screen: {}", screen.trim())
        })
    })
}

fn shows(browser: &Value, title: &str) -> bool {
    let pages = browser["pages"].as_array();
    pages.is_some_and(|pages| pages.iter().any(|page| page["title"] == title))
}

/// Sends a signal to a browser's first process.
fn signal(lab: &Lab, browser: &Value, signal: &str) -> Result<()> {
    let id = browser["id"].as_str().and_then(|id| id.split('-').next()).context("an id")?;
    lab.shell("acme/web", &format!("kill -{signal} {id}")).map(drop)
}

/// Looks at the display with a browser on the node's machine, which stands in for a person's own.
fn look(lab: &Lab) -> Result<PathBuf> {
    let opened = Opened::new(lab, "acme/web", &["playwright"])?;
    let folder = lab.stage.root().join("looks");
    fs::create_dir(&folder)?;
    let bound = format!("{}:/out", folder.display());
    // the engine's own network is the node's, where the command opened its port
    let held = ["run", "--rm", "--network=host", "--user=root", "--entrypoint=node", "-v", &bound];
    let modules = ["-e", "NODE_PATH=/usr/local/lib/node_modules", "-e", "NODE_OPTIONS="];
    let words = [IMAGE, "-e", LOOK, &opened.url];
    lab.engine.docker(&[&held[..], &modules, &words].concat())?;
    Ok(folder.join("display.png"))
}

#[test]
fn the_display_and_the_browsers_of_a_real_workspace_are_seen_and_so_is_their_end() -> Result<()> {
    let lab = lab()?;
    let setup = lab.stage.root().join("setup.sh");
    fs::write(&setup, SETUP)?;
    let setup = format!("@{}", setup.display());
    let large = ["--image", IMAGE, "--memory", "2G", "--disk", "2G", "--setup", &setup];
    let sessions = ["--session", SERVE, "--session", PLAIN, "--session", DRIVEN];
    lab.cluster.warren(&[&["workspace", "create", "acme/web"], &large[..], &sessions].concat())?;

    let plain = until(&lab, ("plain", "at its page"), |one| shows(one, "in the workspace"))?;
    ensure!(plain["headless"] == false && plain["state"] == "running", "{plain}");
    ensure!(plain["pages"][0]["url"] == "http://127.0.0.1:8080/index.html", "{plain}");
    let driven = until(&lab, ("driven", "at its page"), |one| shows(one, "driven by Playwright"))?;
    ensure!(driven["headless"] == false, "{driven}");

    // the driven one's window is before the other: it goes, and the page of the first is seen
    signal(&lab, &driven, "STOP")?;
    until(&lab, ("driven", "hung"), |one| one["state"] == "hung")?;
    signal(&lab, &driven, "CONT")?;
    until(&lab, ("driven", "running"), |one| one["state"] == "running")?;
    signal(&lab, &driven, "KILL")?;
    until(&lab, ("driven", "crashed"), |one| one["state"] == "crashed")?;

    let picture = lab.stage.root().join("page.png");
    let address = plain["address"].as_str().context("an address")?;
    lab.cluster.warren(&["browser", "shot", address, &picture.to_string_lossy()])?;
    let picture = fs::read(&picture)?;
    ensure!(picture.starts_with(b"\x89PNG") && picture.len() > 200, "{} bytes", picture.len());
    let display = fs::read(look(&lab)?)?;
    ensure!(display.starts_with(b"\x89PNG") && display.len() > 2000, "{} bytes", display.len());

    // the end of the VNC server costs no browser
    lab.shell("acme/web", "pkill -KILL -x x11vnc")?;
    let on = until(&lab, ("plain", "running"), |one| one["state"] == "running")?;
    ensure!(on["id"] == plain["id"], "{on}");
    end_with_the_workspace(&lab, &plain)?;
    let plain = until(&lab, ("plain", "running"), |one| one["state"] == "running")?;
    signal(&lab, &plain, "KILL")?;
    until(&lab, ("plain", "crashed"), |one| one["state"] == "crashed")?;
    Ok(())
}

/// Kills the container: what a session starts again finds its profile free, and what nobody does is told.
fn end_with_the_workspace(lab: &Lab, plain: &Value) -> Result<()> {
    lab.shell("acme/web", OTHER)?;
    until(lab, (NOBODY, "running"), |one| one["state"] == "running")?;
    let locks = "test -L ~/other/SingletonLock && test -L ~/.config/chromium/SingletonLock";
    lab.shell("acme/web", locks)?;
    // which browsers run is looked at twice a second
    thread::sleep(Duration::from_secs(2));
    let id = lab.container("acme/web")?["Id"].as_str().context("an id")?.to_owned();
    lab.engine.docker(&["kill", &id])?;
    let back = |one: &Value| one["id"] != plain["id"] && shows(one, "in the workspace");
    until(lab, ("plain", "back at its page"), |one| one["state"] == "running" && back(one))?;
    let lost = until(lab, (NOBODY, "told as lost"), |one| one["exit"]["lost"] == true)?;
    ensure!(lost["status"] == "closed with its workspace", "{lost}");
    ensure!(lost["needs_me"] == false && lost["pages"][0]["url"] == "about:blank", "{lost}");
    let left = lab.shell("acme/web", "test -L ~/other/SingletonLock || echo gone")?;
    ensure!(left == "gone\n", "its lock is there");
    Ok(())
}
