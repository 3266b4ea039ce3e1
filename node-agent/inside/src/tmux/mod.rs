//! The workspace's own tmux server, and what is asked of it.
//!
//! Each call is one short `tmux` process; the server daemonises itself and survives all of them.
//! Who keeps the server and its sessions alive is [`keeper`].

mod conf;
mod crash;
mod keeper;
mod list;
mod told;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, symlink},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

pub(crate) use crash::Crashes;
pub(crate) use keeper::{About, Keeper, Wanted};
#[cfg(test)]
pub(crate) use list::COMMAND_SHOWN_BYTES;
pub(crate) use list::{Pane, Seen};

use crate::{
    config::Config,
    files,
    program::{self, RunError},
    reaper::Reaper,
    victim,
};

/// One call; a server on a machine under pressure may take seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// tmux's name for a text on its way into a session.
const BUFFER: &str = "warren-paste";
/// From a paste to the keys after it: agents take an Enter that comes with a paste as a part of it.
const TAKEN: Duration = Duration::from_millis(200);

/// Speaks to the server.
#[derive(Debug, Clone)]
pub(crate) struct Tmux {
    socket: PathBuf,
    conf: PathBuf,
    conf_text: String,
    /// This program, and the link to it that tmux takes for the shell.
    this: PathBuf,
    shell: PathBuf,
    reaper: Reaper,
}

/// Why tmux did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TmuxError {
    /// Its files cannot be made.
    #[error("tmux's folder {0} cannot be made: {1}")]
    Folder(PathBuf, io::Error),
    /// It cannot be run.
    #[error("{0}; the image needs tmux")]
    Run(#[source] RunError),
    /// It refused.
    #[error("tmux refused: {0}")]
    Refused(String),
    /// No server answers.
    #[error("no tmux server answers")]
    NoServer,
}

impl Tmux {
    /// Returns tmux for this workspace; nothing is started.
    pub(crate) fn new(config: &Config, reaper: Reaper) -> Self {
        let uid = rustix::process::getuid().as_raw();
        let shell = config.runtime.join(victim::LINK);
        let this = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/warren/inside"));
        Self {
            // Where `tmux` looks by itself with TMUX_TMPDIR set to the runtime folder, so that
            // programs in the workspace reach the same server.
            socket: config.runtime.join(format!("tmux-{uid}/default")),
            conf: config.runtime.join("tmux.conf"),
            conf_text: conf::text(config, &shell),
            this,
            shell,
            reaper,
        }
    }

    /// Returns the start of a `tmux` command line.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(&self.socket).arg("-f").arg(&self.conf);
        command.env_remove("TMUX").env_remove("TMUX_PANE");
        command
    }

    /// Starts the server where none runs.
    ///
    /// # Errors
    /// Fails where tmux is missing or its folder cannot be written.
    pub(crate) async fn start(&self) -> Result<(), TmuxError> {
        let folder = self.socket.parent().unwrap_or(&self.socket);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        let linked = made.and_then(|()| self.link());
        let written = linked.and_then(|()| files::write_anew(&self.conf, &self.conf_text, 0o600));
        written.map_err(|error| TmuxError::Folder(folder.to_owned(), error))?;
        let mut command = self.command();
        command.arg("start-server");
        self.ask(command).await.map(drop)
    }

    /// Makes the link anew: this program may have moved since an earlier run.
    fn link(&self) -> io::Result<()> {
        match fs::remove_file(&self.shell) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => symlink(&self.this, &self.shell),
        }
    }

    /// Makes a session that runs the command line `line` in a login shell, or the shell itself.
    ///
    /// # Errors
    /// Fails where one of its name is there, or where tmux refuses.
    async fn create(&self, wanted: &Wanted, line: &str) -> Result<(), TmuxError> {
        let mut command = self.command();
        command.args(["new-session", "-d", "-s"]).arg(&wanted.name);
        command.arg("-c").arg(literal(&wanted.folder.to_string_lossy()));
        command.arg("-e").arg(format!("WARREN_SESSION={}", wanted.name));
        command.arg("--").arg(&self.shell);
        if line.is_empty() {
            command.arg("-l");
        } else {
            command.arg("-lc").arg(literal(line));
        }
        self.ask(command).await.map(drop)
    }

    /// Starts the command line `line` anew in a pane of a session whose program has ended.
    ///
    /// # Errors
    /// Fails where tmux refuses, such as where a program runs there.
    async fn respawn(&self, (wanted, pane): (&Wanted, &str), line: &str) -> Result<(), TmuxError> {
        let mut command = self.command();
        command.args(["respawn-pane", "-t", pane]);
        command.arg("-c").arg(literal(&wanted.folder.to_string_lossy()));
        command.arg("-e").arg(format!("WARREN_SESSION={}", wanted.name));
        command.arg("--").arg(&self.shell).arg("-lc").arg(literal(line));
        self.ask(command).await.map(drop)
    }

    /// Ends the terminals of a session; what was started in them may live on.
    async fn close(&self, name: &str) -> Result<(), TmuxError> {
        let mut command = self.command();
        command.args(["kill-session", "-t"]).arg(format!("={name}"));
        self.ask(command).await.map(drop)
    }

    /// Returns whether a session of exactly this name is there.
    pub(crate) async fn has(&self, name: &str) -> bool {
        let mut command = self.command();
        command.args(["has-session", "-t"]).arg(format!("={name}"));
        self.ask(command).await.is_ok()
    }

    /// Returns the sessions there are, by name.
    ///
    /// # Errors
    /// [`TmuxError::NoServer`] where the server is gone.
    pub(crate) async fn list(&self) -> Result<Vec<Seen>, TmuxError> {
        let mut command = self.command();
        command.args(["list-panes", "-a", "-F", list::PANES, ";"]);
        // last what the workspace may make long: an answer is cut at its end
        command.args(["list-clients", "-F", list::CLIENTS, ";"]);
        command.args(["list-panes", "-a", "-F", list::TEXTS]);
        match self.ask(command).await {
            Ok(text) => {
                let listing = list::parse(&text);
                listing.unreaped.into_iter().for_each(remind);
                listing.server.into_iter().for_each(|server| self.reaper.mark_strays(server));
                Ok(listing.sessions)
            }
            // What list-clients says where there is no session at all.
            Err(TmuxError::Refused(text)) if text.contains("no current target") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Types `text` into a session as if it had been pasted there, then presses `keys`. A program
    /// that takes pastes apart from keys gets the text as one paste.
    ///
    /// # Errors
    /// Fails where tmux refuses, or where the text cannot be handed to it.
    pub(crate) async fn type_into(
        &self,
        session: &str,
        text: &str,
        keys: &[String],
    ) -> Result<(), TmuxError> {
        let target = pane_of(session);
        // a person who scrolled back would get the keys instead of the program
        let mut command = self.command();
        command.args(["if-shell", "-F", "-t", &target, "#{pane_in_mode}"]);
        command.arg(format!("send-keys -t '{target}' -X cancel"));
        self.ask(command).await?;
        if !text.is_empty() {
            self.paste(&target, text).await?;
        }
        if keys.is_empty() {
            return Ok(());
        }
        if !text.is_empty() {
            sleep(TAKEN).await;
        }
        let mut command = self.command();
        command.args(["send-keys", "-t", &target, "--"]).args(keys.iter().map(|key| literal(key)));
        self.ask(command).await.map(drop)
    }

    /// Through a file: other programs see what a command line holds.
    async fn paste(&self, target: &str, text: &str) -> Result<(), TmuxError> {
        let file = self.conf.with_file_name("paste");
        files::write_anew(&file, text, 0o600)
            .map_err(|error| TmuxError::Folder(file.clone(), error))?;
        let mut command = self.command();
        command.args(["load-buffer", "-b", BUFFER]).arg(&file);
        command.args([";", "paste-buffer", "-d", "-p", "-b", BUFFER, "-t", target]);
        let pasted = self.ask(command).await.map(drop);
        // one that stays is removed before the next
        let _ = fs::remove_file(&file);
        pasted
    }

    /// Returns the text on the screen of a pane, with so many lines above it.
    ///
    /// # Errors
    /// Fails where there is no such pane.
    pub(crate) async fn screen(&self, pane: &str, history: u32) -> Result<String, TmuxError> {
        let mut history = history;
        loop {
            let mut command = self.command();
            command.args(["capture-pane", "-p", "-t", pane]);
            command.args(["-S", &format!("-{history}")]);
            let text = self.ask(command).await?;
            if text.len() < program::OUTPUT_BYTES || history == 0 {
                return Ok(text);
            }
            // the beginning is kept of what is too long, and the end is what people want
            history /= 2;
        }
    }

    async fn ask(&self, command: Command) -> Result<String, TmuxError> {
        let done =
            program::output(&self.reaper, command, CALL_TIMEOUT).await.map_err(TmuxError::Run)?;
        if done.code == 0 {
            return Ok(done.text);
        }
        let text = done.text.trim();
        let gone = ["no server running", "error connecting", "server exited", "lost server"];
        if gone.iter().any(|word| text.contains(word)) {
            return Err(TmuxError::NoServer);
        }
        Err(TmuxError::Refused(warren_common::status::reason(text)))
    }
}

/// Returns an argument as tmux takes it for itself: a semicolon at its end would end the command.
fn literal(argument: &str) -> String {
    argument.strip_suffix(';').map_or_else(|| argument.to_owned(), |start| format!("{start}\\;"))
}

/// The pane of a session that a person who attaches would type into.
pub(crate) fn pane_of(session: &str) -> String {
    format!("={session}:")
}

/// Makes the server look for children that ended. Debian's tmux records logins through libutempter,
/// which resets the SIGCHLD handler around its helper: a program that ends in that moment stays a
/// zombie, and its exit code unknown, until the next signal.
fn remind(server: i32) {
    if let Some(server) = Pid::from_raw(server).filter(|server| server.as_raw_nonzero().get() > 1) {
        // A server that has gone is noticed by the next call.
        let _ = kill_process(server, Signal::CHILD);
    }
}
