//! The display with noVNC and a terminal with xterm.js, through the real tunnel.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use warren_tests::{Program, wait_until};

use crate::{
    chromium::{Chromium, PATIENCE},
    stand::Stand,
};

/// A window that writes down the keys it gets.
pub(crate) const XEV: &str = "exec stdbuf -oL xev -geometry 600x400+10+10 -event keyboard > ~/keys";
/// A browser as agents drive it: with a window, and with its DevTools open.
pub(crate) const HEADED: &str = "chromium --no-sandbox --no-first-run --disable-gpu \
    --user-data-dir=$HOME/profile --remote-debugging-port=0 --window-size=780,560 \
    --window-position=0,0";
/// It counts nothing and moves nothing.
const PAGE: &str =
    "<!doctype html><title>in the workspace</title><body style='background:#1e90ff'>";

/// Counts the points of the picture that a test accepts, of some thousand looked at.
fn points(test: &str) -> String {
    format!(
        "(() => {{ const c = document.querySelector('#view canvas'); if (!c) return 0; \
         const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; \
         for (let i = 0; i < d.length; i += 400) if ({test}) n++; return n; }})()"
    )
}

fn shows(look: &str) -> String {
    format!("document.getElementById('what').textContent.startsWith('{look}')")
}

#[test]
fn the_display_is_shown_by_novnc_and_typed_into_with_control() -> Result<()> {
    let stand = Stand::start(XEV)?;
    let opened = stand.open(&["playwright", "--control", "1"])?;
    let mut looker = Chromium::open(&stand.looker()?, &opened.url)?;
    looker.until("control", &shows("you have control"))?;
    // the window: nothing else on the display is white
    let white = points("d[i] + d[i+1] + d[i+2] > 750");
    looker.until("the window", &format!("{white} > 0"))?;
    looker.keep_picture("display")?;
    looker.click(400, 300)?;
    wait_until("a key arrives", PATIENCE, || {
        looker.press('a')?;
        ensure!(stand.read("keys").contains("KeyPress event"), "none yet");
        Ok(())
    })?;
    ensure!(!stand.log().contains("panicked"), "{}", stand.log());
    Ok(())
}

#[test]
fn a_browser_of_the_workspace_is_told_pictured_and_seen_on_its_display_and_its_end_too()
-> Result<()> {
    let page = "cat > ~/page.html <<'END'\n".to_owned() + PAGE + "\nEND\n";
    let stand = Stand::start(&format!("{page}exec {HEADED} file://$HOME/page.html"))?;
    let of = || -> Result<Value> {
        let listed = stand.cluster.json(&["browser", "list", "acme/web"])?;
        Ok(listed[0].clone())
    };
    let told = wait_until("its page is told", PATIENCE, || {
        let browser = of()?;
        let page = &browser["pages"][0];
        ensure!(page["title"] == "in the workspace" && page["loading"] == false, "{browser}");
        Ok(browser)
    })?;
    ensure!(told["session"] == "main" && told["headless"] == false, "{told}");

    let opened = stand.open(&["playwright"])?;
    let mut looker = Chromium::open(&stand.looker()?, &opened.url)?;
    // most of the display is the page, and the page is blue
    let blue = points(
        "Math.abs(d[i] - 30) < 9 && Math.abs(d[i+1] - 144) < 9 && Math.abs(d[i+2] - 255) < 9",
    );
    looker.until("the page", &format!("{blue} > 1500"))?;
    looker.keep_picture("browser")?;

    let file = stand.looker()?.join("page.png");
    let shot = ["browser", "shot", "acme/web"];
    stand.cluster.warren(&[&shot[..], &[&file.display().to_string()]].concat())?;
    let picture = fs::read(&file)?;
    ensure!(picture.starts_with(b"\x89PNG") && picture.len() > 200, "{} bytes", picture.len());

    let id = told["id"].as_str().context("an id")?;
    let pid = id.split('-').next().context("a process")?;
    Program::new("kill").args(["-KILL", pid]).run()?.success()?;
    let since = Instant::now();
    wait_until("its crash is told", Duration::from_secs(10), || {
        let browser = of()?;
        ensure!(browser["state"] == "crashed", "{browser}");
        Ok(())
    })?;
    eprintln!("from the kill to the command line's word: {} ms", since.elapsed().as_millis());
    Ok(())
}

#[test]
fn a_session_is_shown_by_xterm_and_typed_into() -> Result<()> {
    let stand = Stand::start("exec bash")?;
    let opened = stand.open(&["terminal"])?;
    let mut looker = Chromium::open(&stand.looker()?, &opened.url)?;
    looker.until("the terminal", "document.querySelectorAll('.xterm-rows > div').length > 20")?;
    looker.until("a prompt", "document.querySelector('.xterm-rows').innerText.trim() !== ''")?;
    looker.click(300, 300)?;
    wait_until("what was typed", PATIENCE, || {
        let command = json!({"text": "echo $((40+2))-grüße-$(tput cols)"});
        looker.call("Input.insertText", &command)?;
        looker.press_enter()?;
        // as wide as the page, which the window of a session is not by itself
        let told =
            "/42-grüße-(9\\d|1\\d\\d)/.test(document.querySelector('.xterm-rows').innerText)";
        let shown = looker.evaluate("document.querySelector('.xterm-rows').innerText")?;
        ensure!(looker.evaluate(told)? == true, "it shows {shown}");
        Ok(())
    })?;
    looker.keep_picture("terminal")?;
    Ok(())
}
