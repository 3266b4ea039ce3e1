//! What PID 1 keeps up beside the sessions: the display, its windows and its VNC server, the editor.
//!
//! [`supervise`] starts a program, waits until it answers and starts it again when it ends; here
//! stands which programs these are and what each of them needs. The display is started with the
//! workspace, since agents' browsers need it; what people look at it through only while somebody
//! looks, and its end costs no browser.

mod supervise;

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::{sync::watch, time::timeout};

use crate::{board::Board, config::Config, files, journal::event, reaper::Reaper};
pub(crate) use supervise::Demand;
use supervise::{Program, keep};

/// How long a start waits for the display before it goes on without.
const DISPLAY_WAIT: Duration = Duration::from_secs(10);
/// How long the VNC server stays when nobody looks any more.
const VNC_IDLE: Duration = Duration::from_secs(60);
/// How long the editor stays when nobody edits any more: what is unsaved is in the browser, and what
/// runs in its terminals ends with it.
const EDITOR_IDLE: Duration = Duration::from_secs(30 * 60);
/// Whom the kernel kills first where memory runs out: before the agents.
const EDITOR_SCORE: u32 = 600;
/// Manages the windows of the display.
const WINDOWS: &str = "openbox";
/// Where X servers put their sockets.
const X_SOCKETS: &str = "/tmp/.X11-unix";

/// The services of one workspace; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    config: Arc<Config>,
    board: Board,
    reaper: Reaper,
    /// Whether the display answers.
    display: Arc<watch::Sender<bool>>,
    /// Whether its windows are managed.
    windows: Arc<watch::Sender<bool>>,
    /// The VNC server, wanted by whoever looks.
    pub(crate) vnc: Demand,
    /// The editor, wanted by whoever edits.
    pub(crate) editor: Demand,
}

/// Returns the number of the display, where the image can show one.
fn display(config: &Config) -> Option<u16> {
    config.display.filter(|_| find("Xvfb").is_some())
}

/// Returns the name of the display, where there is one.
pub(crate) fn display_name(config: &Config) -> Option<String> {
    display(config).map(|number| format!(":{number}"))
}

impl Services {
    /// Returns the services; nothing is started.
    pub(crate) fn new(config: &Arc<Config>, board: &Board, reaper: &Reaper) -> Self {
        Self {
            config: Arc::clone(config),
            board: board.clone(),
            reaper: reaper.clone(),
            display: Arc::default(),
            windows: Arc::default(),
            vnc: Demand::new(),
            editor: Demand::new(),
        }
    }

    /// Keeps everything up that the image has, for the life of the process.
    pub(crate) async fn run(self) {
        let display = self.program("display", "Xvfb", &self.display);
        let windows = self.program("windows", WINDOWS, &self.windows);
        let vnc = self.program("vnc", "x11vnc", &self.vnc.answers);
        let editor = self.program("editor", "code-server", &self.editor.answers);
        tokio::join!(
            self.keep_display(display),
            self.keep_windows(windows),
            self.keep_vnc(vnc),
            self.keep_editor(editor)
        );
    }

    /// Waits until programs can show themselves, where the image has a display at all and it does
    /// not take too long. A window that is there before its manager never gets the keyboard.
    pub(crate) async fn display_is_up(&self) {
        if display(&self.config).is_none() {
            return;
        }
        let managed = find(WINDOWS).is_some();
        let (mut display, mut windows) = (self.display.subscribe(), self.windows.subscribe());
        let up = async {
            // the senders live as long as this
            let _ = display.wait_for(|up| *up).await;
            let _ = windows.wait_for(|up| *up || !managed).await;
        };
        if timeout(DISPLAY_WAIT, up).await.is_err() {
            event!("the display does not answer; the sessions start without it");
        }
    }

    /// Returns where the VNC server listens.
    pub(crate) fn vnc_socket(&self) -> PathBuf {
        self.config.runtime.join("vnc.sock")
    }

    /// Returns where the editor listens.
    pub(crate) fn editor_socket(&self) -> PathBuf {
        self.config.runtime.join("editor.sock")
    }

    fn program(
        &self,
        name: &'static str,
        binary: &'static str,
        answers: &Arc<watch::Sender<bool>>,
    ) -> Program {
        Program::new(name, binary, (&self.board, &self.reaper), answers)
    }

    async fn keep_display(&self, program: Program) {
        let Some(number) = display(&self.config) else { return program.absent() };
        let start = || {
            clean_display(number)?;
            let mut command = Command::new("Xvfb");
            command.arg(format!(":{number}"));
            command.args(["-screen", "0", &self.config.display_size]);
            command.args(["-nolisten", "tcp", "-noreset"]);
            Ok(command)
        };
        keep(&program, start, || answers(&socket_of(number))).await;
    }

    async fn keep_windows(&self, program: Program) {
        if display(&self.config).is_none() {
            return program.absent();
        }
        let mut display = self.display.subscribe();
        let up = self.config.runtime.join("windows.up");
        loop {
            // the sender lives as long as this
            let _ = display.wait_for(|up| *up).await;
            let start = || {
                remove(&up)?;
                let mut command = Command::new(WINDOWS);
                // it manages what is there before it starts anything
                command.arg("--startup").arg(format!("touch '{}'", up.display()));
                Ok(command)
            };
            tokio::select! {
                () = keep(&program, start, || up.exists()) => return,
                _ = display.wait_for(|up| !*up) => program.idle("the display is down"),
            }
        }
    }

    async fn keep_vnc(&self, program: Program) {
        let Some(display) = display_name(&self.config) else { return program.absent() };
        let socket = self.vnc_socket();
        let start = || {
            remove(&socket)?;
            let mut command = Command::new("x11vnc");
            command.args(["-display", &display]);
            command.arg("-unixsock").arg(&socket);
            // no port of any kind: whoever looks comes through PID 1
            command.args(["-rfbport", "0", "-no6", "-noipv6", "-nolookup"]);
            command.args(["-forever", "-shared", "-nopw", "-noxrecord", "-nosel"]);
            // System V's segments outlive whoever is killed, and 4,096 are all there are
            command.arg("-noshm");
            // one that reads nothing holds up the others for so long and is cut
            command.args(["-rfbwait", "5000"]);
            command.env("XDG_RUNTIME_DIR", &self.config.runtime);
            Ok(command)
        };
        let ready = || answers(&socket);
        self.vnc.serve(&program, VNC_IDLE, (start, ready)).await;
    }

    async fn keep_editor(&self, program: Program) {
        let socket = self.editor_socket();
        let start = || {
            remove(&socket)?;
            let mut command = Command::new("/bin/sh");
            // a process may make itself a likelier victim; what it starts inherits that
            let script = format!("echo {EDITOR_SCORE} >/proc/self/oom_score_adj; exec \"$@\"");
            command.args(["-c", &script, "sh", "code-server"]);
            command.arg("--socket").arg(&socket).args(["--socket-mode", "600"]);
            // PID 1 asks for the token; nothing is sent anywhere
            command.args(["--auth", "none", "--disable-telemetry", "--disable-update-check"]);
            command.args(["--disable-workspace-trust", "--disable-getting-started-override"]);
            command.arg(&self.config.home).current_dir(&self.config.home);
            Ok(command)
        };
        let ready = || answers(&socket);
        self.editor.serve(&program, EDITOR_IDLE, (start, ready)).await;
    }
}

/// Returns where a display listens.
pub(crate) fn socket_of(number: u16) -> PathBuf {
    Path::new(X_SOCKETS).join(format!("X{number}"))
}

/// Whether somebody takes connections there. Never waits: a listener that lets its queue fill up takes
/// none, and anybody in the workspace may be one.
fn answers(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let asked = SocketAddrUnix::new(path).and_then(|address| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)
    });
    asked.is_ok()
}

/// Removes what a display that was killed left: its lock, which may name a process id that is
/// another's by now, and its socket.
///
/// # Errors
/// Another X server answers on it.
fn clean_display(number: u16) -> io::Result<()> {
    let socket = socket_of(number);
    if answers(&socket) {
        return Err(io::Error::other(format!("another X server has display :{number}")));
    }
    for path in [socket, PathBuf::from(format!("/tmp/.X{number}-lock"))] {
        // what cannot be removed shows when the server starts
        let _ = remove(&path);
    }
    // a server without rights does not make it, and goes on without a socket that we could look at
    match fs::create_dir(X_SOCKETS) {
        Ok(()) => fs::set_permissions(X_SOCKETS, Permissions::from_mode(0o1777)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns where a program is on the path.
pub(crate) fn find(binary: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(binary)).find(|one| files::runs(one))
}

#[cfg(test)]
mod tests {
    use rustix::net::{bind, listen};

    use super::*;

    #[test]
    fn a_listener_that_takes_nobody_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("full.sock");
        assert!(!answers(&path), "nobody is there");
        let flags = SocketFlags::CLOEXEC;
        let server = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let server = server.expect("a socket");
        let address = SocketAddrUnix::new(&path).expect("short");
        bind(&server, &address).expect("bound");
        listen(&server, 0).expect("it listens");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let caller = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
                let caller = caller.expect("a socket");
                let taken = connect(&caller, &address).is_ok();
                (caller, taken)
            })
            .collect();
        assert!(callers.iter().any(|(_, taken)| !taken), "its queue is full");
        assert!(!answers(&path), "and that is said at once");
    }
}
