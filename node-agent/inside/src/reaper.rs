//! The only place that starts processes and the only place that waits for them.
//!
//! PID 1 inherits every orphan of the workspace. Waiting for "any child" in one place and handing
//! the exits of our own children to whoever holds their [`Child`] reaps both without a race: all
//! of it runs on one thread, so no exit can be collected between a start and its registration.
//! The process also declares itself a subreaper, so that it behaves the same when it is not PID 1.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, ioctl_tiocsctty, kill_process_group,
    set_child_subreaper, setsid, wait,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    login, processes,
    victim::{Look, Mark},
};

/// Starts and reaps; clones share one table.
#[derive(Debug, Clone)]
pub(crate) struct Reaper {
    shared: Arc<Mutex<Table>>,
    /// Where `tmux` in a child looks for the workspace's server.
    runtime: Arc<Path>,
    mark: Mark,
    /// The display that programs show themselves on, where there is one.
    display: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Table {
    /// Children not reaped yet, by process id.
    running: HashMap<i32, watch::Sender<Option<i32>>>,
    /// Orphans that ended, the newest last: exit code and signal.
    orphans: VecDeque<(i32, Gone)>,
    closed: bool,
    /// How far the next look for programs goes that are not marked.
    look: Look,
}

/// Ends of orphans remembered.
const ORPHANS: usize = 64;

/// How a process ended that was not started here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// Whether a child gets a terminal of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// Its standard input is a terminal and becomes its controlling one.
    Controlling,
    /// It has none, so nothing in it can ask a person for anything.
    None,
}

/// What a child is to the workspace when its memory runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    /// As much as PID 1: tmux, and what asks it.
    Kept,
    /// Killed before those, with everything it starts: what runs for people.
    Victim,
}

impl Reaper {
    /// Returns a reaper with no children; `runtime` is the folder below which tmux's socket is.
    pub(crate) fn new(runtime: &Path) -> Self {
        Self { shared: Arc::default(), runtime: runtime.into(), mark: Mark::read(), display: None }
    }

    /// Has everything that is started show itself on this display.
    pub(crate) fn with_display(self, display: Option<String>) -> Self {
        Self { display: display.map(Into::into), ..self }
    }

    /// Makes orphans come here and reaps until the runtime ends.
    ///
    /// # Errors
    /// Fails where the kernel refuses the signal handler or the subreaper.
    pub(crate) fn start(&self) -> io::Result<()> {
        set_child_subreaper(Some(getpid()))?;
        let mut ended = signal(SignalKind::child())?;
        let reaper = self.clone();
        tokio::spawn(async move {
            loop {
                reaper.collect();
                if ended.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Starts `command` as the leader of its own session and process group.
    ///
    /// # Errors
    /// Fails where the program cannot be started, and once [`Self::close`] was called.
    pub(crate) fn spawn(
        &self,
        mut command: Command,
        terminal: Terminal,
        worth: Worth,
    ) -> io::Result<Child> {
        if self.table().closed {
            return Err(io::Error::other("the workspace is stopping"));
        }
        command.env_remove("WARREN_SOCKET").env_remove("WARREN_RUN_SERIAL");
        command.env("TMUX_TMPDIR", &*self.runtime);
        if let Some(display) = &self.display {
            command.env("DISPLAY", &**display);
        }
        // tools that are logged in go before the same tools that are not
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(login::links()).chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(path) {
            command.env("PATH", path);
        }
        let mark = (worth == Worth::Victim).then(|| self.mark.clone());
        prepare(&mut command, terminal, mark);
        let mut started = command.spawn()?;
        let pid = Pid::from_child(&started);
        let (sender, exit) = watch::channel(None);
        self.table().running.insert(pid.as_raw_nonzero().get(), sender);
        let pipes = (started.stdin.take(), started.stdout.take(), started.stderr.take());
        // Dropping the standard library's handle neither waits nor kills: that is done here.
        drop(started);
        Ok(Child { pid, exit, reaper: self.clone(), pipes })
    }

    /// Refuses every start from now on: the workspace is stopping.
    pub(crate) fn close(&self) {
        self.table().closed = true;
    }

    /// Returns whether [`Self::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.table().closed
    }

    /// Marks as [`Worth::Victim`] whatever runs below the tmux server, and what came here from
    /// there: the orphans. Tmux servers and what was started here stay as they are.
    pub(crate) fn mark_strays(&self, server: i32) {
        let look = std::mem::take(&mut self.table().look);
        let mut found = self.mark.apply_below(server, look);
        for child in processes::children(getpid().as_raw_nonzero().get()) {
            if self.table().running.contains_key(&child) || child == server {
                continue;
            }
            found |= match processes::is_tmux(child) {
                true => self.mark.apply_below(child, look),
                false => self.mark.apply_from(child, look),
            };
        }
        if found {
            self.table().look = Look::Whole;
        }
    }

    fn collect(&self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(sender) = self.table().running.remove(&pid.as_raw_nonzero().get()) {
                sender.send_replace(Some(code(status)));
                continue;
            }
            let mut table = self.table();
            if table.orphans.len() == ORPHANS {
                table.orphans.pop_front();
            }
            let gone = Gone { code: status.exit_status(), signal: status.terminating_signal() };
            table.orphans.push_back((pid.as_raw_nonzero().get(), gone));
        }
    }

    /// Returns how an orphan ended, where it did so lately.
    pub(crate) fn orphan(&self, pid: i32) -> Option<Gone> {
        let table = self.table();
        table.orphans.iter().rev().find(|(known, _)| *known == pid).map(|(_, gone)| *gone)
    }

    /// While this is true the process id cannot have been given to another process.
    fn holds(&self, pid: Pid) -> bool {
        self.table().running.contains_key(&pid.as_raw_nonzero().get())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code path panics while it holds the table; its content stays good either way.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(unsafe_code, reason = "the standard library has no safe call that makes a session leader")]
fn prepare(command: &mut Command, terminal: Terminal, mark: Option<Mark>) {
    let prepare = move || -> io::Result<()> {
        setsid()?;
        if let Some(mark) = &mark {
            // a program that runs unmarked is better than none
            let _ = mark.apply();
        }
        if terminal == Terminal::Controlling {
            ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes a few system calls through rustix,
    // which allocates nothing and takes no lock; what it writes was made before.
    unsafe { command.pre_exec(prepare) };
}

/// The exit code as a shell would show it: 128 + n for signal n.
fn code(status: WaitStatus) -> i32 {
    let signalled = status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or(signalled).unwrap_or(255)
}

type Pipes = (
    Option<std::process::ChildStdin>,
    Option<std::process::ChildStdout>,
    Option<std::process::ChildStderr>,
);

/// A process we started. Dropping it kills its whole session; the reaper collects it.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    exit: watch::Receiver<Option<i32>>,
    reaper: Reaper,
    /// The ends of its pipes, where pipes were asked for.
    pub(crate) pipes: Pipes,
}

impl Child {
    /// Waits for its end and returns the exit code, 128 + n for signal n. Cancel safe.
    pub(crate) async fn wait(&self) -> i32 {
        let mut exit = self.exit.clone();
        // The sender is only dropped after it has sent.
        exit.wait_for(Option::is_some).await.ok().and_then(|code| *code).unwrap_or(255)
    }

    /// Sends `signal` to its process group; nothing where it has been reaped.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.reaper.holds(self.pid) {
            // The group may be gone although its leader was not collected yet.
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// Ends it: hang-up and SIGTERM, then SIGKILL for its whole session after `grace`.
    pub(crate) async fn end(self, grace: Duration) -> i32 {
        for signal in [Signal::HUP, Signal::TERM, Signal::CONT] {
            self.signal(signal);
        }
        if let Ok(code) = tokio::time::timeout(grace, self.wait()).await {
            return code;
        }
        self.kill();
        self.wait().await
    }

    /// Kills its whole session at once; nothing where it has been reaped.
    pub(crate) fn kill(&self) {
        if self.reaper.holds(self.pid) {
            self.signal(Signal::KILL);
            processes::signal_session(self.pid, Signal::KILL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn codes_are_those_of_a_shell() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let reaper = Reaper::new(Path::new("/tmp"));
            reaper.start().expect("a reaper");
            for (script, code) in [("exit 3", 3), ("kill -KILL $$", 137), ("true", 0)] {
                let child =
                    reaper.spawn(shell(script), Terminal::None, Worth::Kept).expect("a shell");
                assert_eq!(child.wait().await, code, "{script}");
            }
            let mut command = shell("trap '' TERM HUP; echo; while :; do sleep 1; done");
            command.stdout(std::process::Stdio::piped());
            let mut stubborn = reaper.spawn(command, Terminal::None, Worth::Kept).expect("a shell");
            let mut stdout = stubborn.pipes.1.take().expect("a pipe");
            stdout.read_exact(&mut [0]).expect("the trap is set");
            assert_eq!(stubborn.end(Duration::from_millis(20)).await, 137);
            for (worth, more) in [(Worth::Kept, 0), (Worth::Victim, 200)] {
                let mut command = shell("cat /proc/self/oom_score_adj");
                command.stdout(std::process::Stdio::piped());
                let mut child = reaper.spawn(command, Terminal::None, worth).expect("a shell");
                let mut text = String::new();
                child.pipes.1.take().expect("a pipe").read_to_string(&mut text).expect("read");
                let own = std::fs::read_to_string("/proc/self/oom_score_adj").expect("ours");
                let number = |text: &str| text.trim().parse::<i32>().expect("a number");
                assert_eq!(number(&text), (number(&own) + more).min(1000), "{worth:?}");
            }
            reaper.close();
            assert!(reaper.spawn(shell("true"), Terminal::None, Worth::Kept).is_err());
        });
    }
}
