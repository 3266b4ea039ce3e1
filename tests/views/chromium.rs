//! A Chromium without a window, asked through the pipes of its DevTools.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use warren_tests::{Program, wait_until};

/// Longest any of it may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// It reads calls from descriptor 3 and writes answers to 4.
const PIPES: &str = "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// The browser of whoever looks.
pub(crate) struct Chromium {
    process: Child,
    calls: ChildStdin,
    answers: mpsc::Receiver<Value>,
    asked: u64,
    session: Option<String>,
}

impl Chromium {
    /// Opens an address.
    pub(crate) fn open(folder: &Path, url: &str) -> Result<Self> {
        let mut process = Command::new("sh");
        process.args(["-c", PIPES, "sh", "chromium"]);
        process.args(["--headless=new", "--no-sandbox", "--disable-gpu"]);
        process.args(["--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe"]);
        process.args(["--window-size=1000,700"]);
        process.arg(format!("--user-data-dir={}", folder.display())).arg(url);
        // it needs no home and leaves nothing in one
        process.env("HOME", folder).process_group(0);
        process.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = process.spawn().context("cannot start chromium")?;
        let calls = process.stdin.take().context("piped")?;
        let answers = read(process.stdout.take().context("piped")?);
        let mut this = Self { process, calls, answers, asked: 0, session: None };
        let page = wait_until("Chromium shows a page", PATIENCE, || {
            let listed = this.call("Target.getTargets", &json!({}))?;
            let all = listed["targetInfos"].as_array().context("targets")?;
            let page = all.iter().find(|one| one["type"] == "page").context("no page")?;
            Ok(page["targetId"].as_str().context("an id")?.to_owned())
        })?;
        let attach = json!({"targetId": page, "flatten": true});
        let attached = this.call("Target.attachToTarget", &attach)?;
        this.session = Some(attached["sessionId"].as_str().context("a session")?.to_owned());
        Ok(this)
    }

    /// Calls and waits for the answer.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.asked += 1;
        let mut call = json!({"id": self.asked, "method": method, "params": params});
        if let Some(session) = &self.session {
            call["sessionId"] = session.as_str().into();
        }
        self.calls.write_all(format!("{call}\0").as_bytes())?;
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.answers.recv_timeout(left);
            let answer = answer.with_context(|| format!("no answer to {method}"))?;
            if answer["id"] == self.asked {
                ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].clone());
            }
        }
    }

    /// Returns what an expression of the page's is.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({"expression": expression, "returnByValue": true});
        Ok(self.call("Runtime.evaluate", &asked)?["result"]["value"].clone())
    }

    /// Waits until an expression of the page's is true.
    pub(crate) fn until(&mut self, what: &str, expression: &str) -> Result<()> {
        wait_until(what, PATIENCE, || {
            let value = self.evaluate(expression)?;
            if value == true {
                return Ok(());
            }
            let text = self.evaluate("document.body.innerText")?;
            anyhow::bail!("{expression} is {value}; the page says {text}")
        })
    }

    /// Keeps a picture of the page for people.
    pub(crate) fn keep_picture(&mut self, name: &str) -> Result<()> {
        let answer = self.call("Page.captureScreenshot", &json!({"format": "png"}))?;
        let data = answer["data"].as_str().context("a picture")?;
        let folder = env::var_os("WARREN_PICTURES").context("cargo xtask views says where")?;
        let text = PathBuf::from(folder).join(name).with_extension("base64");
        fs::write(&text, data)?;
        let decode = "base64 -d < \"$1\" > \"$2\" && rm \"$1\"";
        let file = text.with_extension("png");
        let shell = Program::new("sh").args(["-c", decode, "sh"]).args([&text, &file]);
        shell.run()?.success()?;
        ensure!(fs::read(&file)?.starts_with(b"\x89PNG"), "{} is no picture", file.display());
        Ok(())
    }

    /// Presses a letter.
    pub(crate) fn press(&mut self, key: char) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let code = format!("Key{}", key.to_ascii_uppercase());
            let number = u32::from(key.to_ascii_uppercase());
            let event = json!({
                "type": kind, "key": key, "code": code, "text": key, "windowsVirtualKeyCode": number,
            });
            self.call("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    /// Down and up: text that comes while a key is down is taken for that key's.
    pub(crate) fn press_enter(&mut self) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { "\r" } else { "" };
            let event = json!({
                "type": kind, "key": "Enter", "code": "Enter", "text": text,
                "windowsVirtualKeyCode": 13,
            });
            self.call("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    /// Writes a text as a person's keyboard does that has no keys, such as a phone's.
    pub(crate) fn write(&mut self, text: &str) -> Result<()> {
        self.call("Input.insertText", &json!({"text": text})).map(drop)
    }

    /// Makes it a phone: everything fits, and what is touched is large enough to be hit.
    pub(crate) fn become_phone(&mut self) -> Result<()> {
        let size = json!({"width": 390, "height": 844, "deviceScaleFactor": 3, "mobile": true});
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        self.call("Emulation.setTouchEmulationEnabled", &json!({"enabled": true}))?;
        let fits = "innerWidth === 390 && document.scrollingElement.scrollWidth <= 390";
        self.until("everything fits", fits)?;
        let large = "[...document.querySelectorAll('button')].filter((one) => one.offsetParent)\
            .every((one) => one.offsetWidth >= 44 && one.offsetHeight >= 44)";
        self.until("large buttons", large)
    }

    /// Clicks on whatever a selector finds first.
    pub(crate) fn touch(&mut self, selector: &str) -> Result<()> {
        self.evaluate(&format!("document.querySelector({selector:?}).click()")).map(drop)
    }

    /// Clicks on a point of the page.
    pub(crate) fn click(&mut self, x: u32, y: u32) -> Result<()> {
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", &event)?;
        }
        Ok(())
    }
}

/// Returns the messages as they come, each ended by a zero.
fn read(source: impl std::io::Read + Send + 'static) -> mpsc::Receiver<Value> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for message in BufReader::new(source).split(0).map_while(Result::ok) {
            let message = serde_json::from_slice(&message).unwrap_or_default();
            if send.send(message).is_err() {
                return;
            }
        }
    });
    receive
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // with whatever it started; one that has ended is what is wanted
        if let Ok(pid) = i32::try_from(self.process.id())
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}
