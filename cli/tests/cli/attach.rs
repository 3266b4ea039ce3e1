//! `session attach` in a real terminal (a PTY of our own).

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use warren_proto::pb::{admin::v1 as pb, node::v1 as node};

use crate::support::{
    Bench, DEADLINE,
    data::{step, steps, web},
    fake::Follow,
    wait_until,
};

/// A terminal with `warren` in it.
struct Terminal {
    master: File,
    /// Kept open, so that the mode can be looked at after the command has ended.
    slave: OwnedFd,
    screen: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    fn run(bench: &Bench, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let name = name.into_string().expect("ascii");
        let slave = File::options().read(true).write(true).open(name).expect("the other end");
        resize(&master, 100, 30);
        let mut command = bench.command(arguments);
        command.env("TERM", "xterm-256color");
        let end = || Stdio::from(slave.try_clone().expect("cloned"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("it starts");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let master = File::from(master);
        let mut reader = master.try_clone().expect("cloned");
        let shown = screen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(size @ 1..) = reader.read(&mut buffer) {
                shown.lock().expect("no panic").extend_from_slice(&buffer[..size]);
            }
        });
        Self { master, slave: slave.into(), screen, child }
    }

    fn attach(bench: &Bench) -> Self {
        let terminal = Self::run(bench, &["session", "attach", "acme/web/main"]);
        terminal.see("welcome grüße");
        terminal
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no panic")).into_owned()
    }

    fn see(&self, text: &str) {
        let until = Instant::now() + DEADLINE;
        while !self.text().contains(text) {
            assert!(Instant::now() < until, "never saw {text:?} in {:?}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn key(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).expect("typed");
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.slave).expect("a terminal").local_modes;
        !modes.contains(LocalModes::ICANON) && !modes.contains(LocalModes::ECHO)
    }

    fn kill(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid")).expect("not zero");
        kill_process(pid, signal).expect("sent");
    }

    /// Waits for the end and returns the exit code; the terminal must be as it was.
    fn end(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("attach ends", || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        assert!(!self.is_raw(), "the terminal was left raw");
        status.and_then(|status| status.code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: impl std::os::fd::AsFd, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("resized");
}

#[test]
fn typing_detaching_and_the_mode_of_the_terminal() {
    let bench = Bench::new();
    let mut terminal = Terminal::attach(&bench);
    assert!(terminal.is_raw());
    let opened = bench.fake.state().opened[0].clone();
    let open = opened.open.and_then(|open| open.what);
    let Some(warren_proto::pb::inside::v1::open::What::Attach(attach)) = open else {
        panic!("no attach: {open:?}");
    };
    let size = attach.terminal.expect("a terminal");
    assert_eq!((size.term.as_str(), size.columns, size.rows), ("xterm-256color", 100, 30));
    terminal.key("hä\x03\x1b[<0;1;1M\x1d\x1d".as_bytes());
    terminal.see("hä\x03\x1b[<0;1;1M\x1d");
    terminal.key(b"last\x1d");
    terminal.key(b"d");
    assert_eq!(terminal.end(), Some(0));
    terminal.see("detached; it runs on");
    assert_eq!(bench.fake.state().typed, "hä\x03\x1b[<0;1;1M\x1dlast".as_bytes());
    assert!(terminal.text().contains("\x1b[?1049l"), "the screen was left");
}

#[test]
fn the_programs_exit_code_is_ours() {
    let bench = Bench::new();
    let mut terminal = Terminal::attach(&bench);
    terminal.key(b"exit\r");
    assert_eq!(terminal.end(), Some(3));
    let text = terminal.text();
    let left = text.find("\x1b[?1049l").expect("the alternate screen is left by us");
    assert!(text.find("\x1b[?1006l").expect("mouse reports end") < left, "{text:?}");
}

#[test]
fn a_new_size_is_passed_on() {
    let bench = Bench::new();
    let mut terminal = Terminal::attach(&bench);
    resize(&terminal.master, 120, 40);
    // the command stands in no session of its own, so the kernel does not tell it
    terminal.kill(Signal::WINCH);
    terminal.see("size 120x40");
    assert_eq!(bench.fake.state().resized, [(120, 40)]);
    terminal.key(b"\x1dd");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn a_dropped_connection_comes_back_by_itself() {
    let bench = Bench::new();
    let mut terminal = Terminal::attach(&bench);
    bench.fake.state().drop_next = true;
    terminal.key(b"drop\r");
    terminal.see("connection lost, the session runs on; reconnecting");
    wait_until("it is opened a third time", || bench.fake.state().opened.len() == 3);
    let before = terminal.text().matches("welcome").count();
    wait_until("the session is shown again", || {
        terminal.text().matches("welcome").count() >= before.max(3)
    });
    terminal.key(b"exit\r");
    assert_eq!(terminal.end(), Some(3));
}

#[test]
fn signals_restore_the_terminal() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let bench = Bench::new();
        let mut terminal = Terminal::attach(&bench);
        assert!(terminal.is_raw());
        terminal.kill(signal);
        assert_eq!(terminal.end(), Some(code));
        terminal.see("detached; it runs on");
    }
}

#[test]
fn looking_only_types_nothing_but_can_leave() {
    let bench = Bench::new();
    let arguments = ["s", "attach", "acme/web", "--read-only", "--detach-keys", "ctrl-p,ctrl-q"];
    let mut terminal = Terminal::run(&bench, &arguments);
    terminal.see("welcome");
    terminal.key(b"rm -rf\r\x1dd");
    terminal.key(b"\x10\x11");
    assert_eq!(terminal.end(), Some(0));
    assert!(bench.fake.state().typed.is_empty());
}

#[test]
fn a_session_that_is_not_there_is_said_in_a_sane_terminal() {
    let bench = Bench::new();
    let mut terminal = Terminal::run(&bench, &["session", "attach", "acme/web/missing"]);
    assert_eq!(terminal.end(), Some(3));
    terminal.see("error: no session missing");
    let mut terminal = Terminal::run(&bench, &["session", "attach", "nowhere"]);
    assert_eq!(terminal.end(), Some(3));
}

#[test]
fn a_delete_is_asked_for_in_a_terminal() {
    let bench = Bench::new();
    let mut terminal = Terminal::run(&bench, &["workspace", "delete", "web"]);
    terminal.see("acme/web (running) goes with its home, for good. Delete it? [y/N]");
    terminal.key(b"n\n");
    assert_eq!(terminal.end(), Some(1));
    assert!(bench.fake.state().deleted.is_empty());
}

#[test]
fn a_start_is_counted_on_a_live_line_that_goes_away() {
    let bench = Bench::new();
    let mut clone = step("clone", "git clone acme/web", node::StepState::Running, 100);
    clone.started_unix_ms = warren_daemon::clock::now().0;
    let cloning = web(pb::Phase::Active, node::RunState::Starting, vec![clone]);
    bench.fake.state().workspaces[0] = cloning.clone();
    bench.fake.state().follow.extend([Follow::Seen(Box::new(cloning)), Follow::Break]);
    let arguments = ["--timeout", "30s", "workspace", "create", "acme/web"];
    let mut terminal = Terminal::run(&bench, &arguments);
    terminal.see("\r  git clone acme/web ");
    let running = web(pb::Phase::Active, node::RunState::Running, steps());
    bench.fake.state().follow.push_back(Follow::Seen(Box::new(running)));
    terminal.see("acme/web is running. Next:");
    assert_eq!(terminal.end(), Some(0));
    let text = terminal.text();
    let last = text.rfind("\x1b[K").expect("the live line was cleared");
    assert!(!text[last..].contains("\r  "), "nothing is redrawn after it: {text:?}");
}
