//! How a browser's process ends: when, and as far as the kernel tells, how.
//!
//! Only a parent is told the exit status, and that is rarely this process. It stands in `stat` for as
//! long as the parent has not taken it, which is read at once; what is missed is guessed from what
//! the browser did before and left behind.

use std::{fs, time::Duration};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::{net::unix::pipe::Receiver, time::sleep};
use warren_common::browser::{BrowserEnd, Ended};

use super::find::Browser;
use crate::{agent::tree::Life, reaper::Reaper};

/// Between two looks where the kernel cannot wake.
const LOOK: Duration = Duration::from_millis(500);
/// For what drove a browser to end as well, and for an orphan to be collected.
const SETTLE: Duration = Duration::from_millis(250);
/// Place of `exit_code` in `stat`, counted from the state.
const EXIT_CODE: usize = 49;

/// Waits for the end of a process. Cancel safe.
#[derive(Debug)]
pub(super) struct Death {
    life: Life,
    descriptor: Option<Receiver>,
}

impl Death {
    pub(super) fn of(life: Life) -> Self {
        let pid = i32::try_from(life.pid).ok().and_then(Pid::from_raw);
        let descriptor = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
        let descriptor = descriptor
            // it is no pipe, and is waited for as one
            .and_then(|one| Receiver::from_owned_fd_unchecked(one).ok())
            // it may have been another one's by then
            .filter(|_| life.is_there());
        Self { life, descriptor }
    }

    /// Waits, and returns what the kernel told.
    pub(super) async fn wait(&self) -> BrowserEnd {
        let woken = match &self.descriptor {
            Some(descriptor) => descriptor.readable().await.is_ok(),
            None => false,
        };
        while !woken && self.life.is_there() {
            sleep(LOOK).await;
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.life.pid));
        stat.ok().and_then(|stat| status(&stat)).unwrap_or_default()
    }
}

/// Completes what is known of an end a moment after it.
pub(super) async fn settle(browser: &Browser, end: BrowserEnd, reaper: &Reaper) -> Ended {
    // it goes with the browser where that is closed
    let lock_left = browser.has_left_lock();
    sleep(SETTLE).await;
    let orphan = i32::try_from(browser.life.pid).ok().and_then(|pid| reaper.orphan(pid));
    let driver_ended = browser.driven && browser.parent.is_some_and(|parent| !parent.is_there());
    match orphan {
        Some(gone) => {
            let end = BrowserEnd { code: gone.code, signal: gone.signal, ..BrowserEnd::default() };
            Ended { end, driver_ended, lock_left }
        }
        // a driver that lived to collect it ended because of it, and not it because of the driver
        None => Ended { end, driver_ended: false, lock_left },
    }
}

/// Reads how a process ended from its `stat`; none where it has not, or is another one.
fn status(stat: &str) -> Option<BrowserEnd> {
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    if *fields.first()? != "Z" {
        return None;
    }
    let status: i32 = fields.get(EXIT_CODE)?.parse().ok()?;
    let (signal, code) = (status & 0x7f, status >> 8 & 0xff);
    Some(match signal {
        0 => BrowserEnd { code: Some(code), ..BrowserEnd::default() },
        signal => BrowserEnd { signal: Some(signal), ..BrowserEnd::default() },
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn an_end_is_read_while_nobody_has_taken_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            for (script, end) in [
                ("read x; exit 3", BrowserEnd { code: Some(3), ..BrowserEnd::default() }),
                ("read x; kill -KILL $$", BrowserEnd { signal: Some(9), ..BrowserEnd::default() }),
            ] {
                let mut shell = Command::new("/bin/sh");
                let mut child =
                    shell.args(["-c", script]).stdin(Stdio::piped()).spawn().expect("a shell");
                let death = Death::of(Life::of(child.id()).expect("it runs"));
                assert!(death.descriptor.is_some());
                drop(child.stdin.take());
                assert_eq!(death.wait().await, end, "{script}");
                child.wait().expect("a child");
                assert_eq!(Death::of(death.life).wait().await, BrowserEnd::default());
            }
        });
        assert_eq!(status("7 (a) S 1"), None);
    }
}
