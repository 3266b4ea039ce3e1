//! The same pages on a phone, and what they say when something behind them ends.

use std::time::Duration;

use anyhow::{Result, ensure};
use warren_tests::wait_until;

use crate::{
    chromium::{Chromium, PATIENCE},
    pages::XEV,
    stand::Stand,
};

/// Whether the page's line of words holds these.
fn says(words: &str) -> String {
    format!("document.getElementById('what').textContent.includes('{words}')")
}

#[test]
fn a_display_outlives_its_server_and_fits_a_phone() -> Result<()> {
    let stand = Stand::start(XEV)?;
    let opened = stand.open(&["playwright", "--control", "5"])?;
    let mut looker = Chromium::open(&stand.looker()?, &opened.url)?;
    looker.until("control", &says("you have control for"))?;
    stand.kill("x11vnc");
    looker.until("the loss", &says("went away"))?;
    looker.until("control again", &says("you have control for"))?;
    for (now, then) in
        [("Give back control", "you gave control back"), ("Take control", "you have control")]
    {
        let is = format!("document.getElementById('control').textContent === '{now}'");
        looker.until(now, &is)?;
        looker.touch("#control")?;
        looker.until(then, &says(then))?;
    }
    looker.become_phone()?;
    let narrow = "document.querySelector('#view canvas').getBoundingClientRect().width <= 390";
    looker.until("a small picture", narrow)?;
    looker.keep_picture("display-phone")?;
    // what a phone's keyboard writes arrives as keys
    let keys = || stand.read("keys").matches("KeyPress event").count();
    looker.touch("#keyboard")?;
    let before = keys();
    looker.write("abc")?;
    wait_until("what was written", PATIENCE, || {
        let now = keys();
        ensure!(now >= before + 3, "{now} after {before}");
        Ok(())
    })?;
    looker.touch("#fit")?;
    looker.until("a display as large", "document.querySelector('#view canvas').width <= 390")
}

#[test]
fn a_terminal_fits_a_phone_and_has_the_keys_that_one_lacks() -> Result<()> {
    let stand = Stand::start("exec bash")?;
    let opened = stand.open(&["terminal"])?;
    let mut looker = Chromium::open(&stand.looker()?, &opened.url)?;
    looker.until("the terminal", "document.querySelectorAll('.xterm-rows > div').length > 20")?;
    looker.become_phone()?;
    looker.until("the keys", "document.querySelectorAll('#touch button').length === 7")?;
    looker.click(200, 300)?;
    let running = || stand.processes("sleep 1000").len();
    // again: what is typed before the page has joined goes nowhere
    wait_until("the program", PATIENCE, || {
        looker.write("sleep 1000")?;
        looker.press_enter()?;
        ensure!(running() > 0, "it does not run");
        Ok(())
    })?;
    wait_until("Ctrl and C", PATIENCE, || {
        looker.touch("#touch button:nth-of-type(3)")?;
        looker.write("c")?;
        // one that is pressed twice may end what comes next
        wait_until("its end", Duration::from_secs(3), || {
            ensure!(running() == 0, "it runs");
            Ok(())
        })
    })?;
    looker.write("echo over-$((40+2))")?;
    looker.press_enter()?;
    looker
        .until("a prompt", "document.querySelector('.xterm-rows').innerText.includes('over-42')")?;
    // a large paste goes in pieces
    looker.write("cat > ~/pasted")?;
    looker.press_enter()?;
    let paste = "const data = new DataTransfer(); \
        data.setData('text/plain', '0123456789abcde\\n'.repeat(6000)); \
        document.querySelector('.xterm-helper-textarea') \
        .dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))";
    wait_until("the file", PATIENCE, || {
        ensure!(stand.has("pasted"), "not yet");
        Ok(())
    })?;
    looker.evaluate(paste)?;
    wait_until("the paste", PATIENCE, || {
        let length = stand.read("pasted").len();
        let mut shown = || looker.evaluate("document.body.innerText");
        ensure!(length > 90_000, "{length} bytes; the page says {}", shown()?);
        Ok(())
    })?;
    looker.keep_picture("terminal-phone")
}
