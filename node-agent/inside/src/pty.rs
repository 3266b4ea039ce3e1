//! Pseudo-terminals for viewers and for programs run beside the sessions.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Columns and rows of a terminal, within what tmux and programs can bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    columns: u16,
    rows: u16,
}

impl Size {
    /// Returns the size as asked, 80×24 for none, cut to 2..=1000 each way.
    pub(crate) fn new(columns: u32, rows: u32) -> Self {
        let side = |asked: u32, default: u16| match asked {
            0 => default,
            asked => u16::try_from(asked.clamp(2, 1000)).unwrap_or(default),
        };
        Self { columns: side(columns, 80), rows: side(rows, 24) }
    }
}

/// Our side of a terminal. Dropping it hangs up on the program behind it.
#[derive(Debug)]
pub(crate) struct Pty {
    master: AsyncFd<OwnedFd>,
}

impl Pty {
    /// Makes a terminal of this size and connects `command`'s standard streams to it. The command
    /// must be started with [`crate::reaper::Terminal::Controlling`].
    ///
    /// # Errors
    /// Fails where the kernel has no terminal left.
    pub(crate) fn open(size: Size, command: &mut Command) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        resize(&master, size)?;
        fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
        command.stdin(Stdio::from(slave.try_clone()?));
        command.stdout(Stdio::from(slave.try_clone()?));
        command.stderr(Stdio::from(slave));
        Ok(Self { master: watched(master)? })
    }

    /// Reads what the program wrote; 0 at the end. Cancel safe.
    ///
    /// # Errors
    /// Fails where the terminal does.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.master.async_io(Interest::READABLE, |master| {
            rustix::io::read(master, &mut *buffer).map_err(io::Error::from)
        });
        match read.await {
            // What Linux says once the last program has closed its side.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => Ok(0),
            other => other,
        }
    }

    /// Writes some of `bytes` and returns how many. Cancel safe.
    ///
    /// # Errors
    /// Fails where the program has gone.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.master
            .async_io(Interest::WRITABLE, |master| {
                rustix::io::write(master, bytes).map_err(io::Error::from)
            })
            .await
    }

    /// Tells the program its new size.
    ///
    /// # Errors
    /// Fails where the terminal does.
    pub(crate) fn resize(&self, size: Size) -> io::Result<()> {
        resize(self.master.get_ref(), size)
    }
}

#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
fn watched(master: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open until it is dropped, and nothing takes it out of the `AsyncFd`.
    Ok(unsafe { AsyncFd::register(master) }?)
}

fn resize(master: &OwnedFd, size: Size) -> io::Result<()> {
    let Size { columns, rows } = size;
    let window = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, window).map_err(io::Error::from)
}

/// Returns `asked` where the workspace has a description of this terminal, else `fallback`.
pub(crate) fn known_term(asked: &str, home: &Path, fallback: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
    let Some(first) = asked.chars().next().filter(char::is_ascii_alphanumeric) else {
        return fallback.to_owned();
    };
    if asked.len() > 64 || !asked.chars().all(plain) {
        return fallback.to_owned();
    }
    let folders: [PathBuf; 4] = [
        home.join(".terminfo"),
        "/etc/terminfo".into(),
        "/lib/terminfo".into(),
        "/usr/share/terminfo".into(),
    ];
    let described = folders.iter().any(|folder| {
        let by_letter = folder.join(first.to_string()).join(asked);
        let by_code = folder.join(format!("{:x}", u32::from(first))).join(asked);
        by_letter.is_file() || by_code.is_file()
    });
    if described { asked.to_owned() } else { fallback.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(Size::new(0, 0), Size { columns: 80, rows: 24 });
        assert_eq!(Size::new(1, 1_000_000), Size { columns: 2, rows: 1000 });
        assert_eq!(Size::new(120, 40), Size { columns: 120, rows: 40 });
    }

    #[test]
    fn unknown_terminals_fall_back() {
        let home = tempfile::tempdir().expect("a folder");
        let known = |asked| known_term(asked, home.path(), "xterm-256color");
        std::fs::create_dir_all(home.path().join(".terminfo/m")).expect("a folder");
        std::fs::write(home.path().join(".terminfo/m/mine"), "").expect("a file");
        assert_eq!(known("mine"), "mine");
        for odd in ["", "no-such-term", "../../etc/passwd", "m/../mine", "-x", "mine\n"] {
            assert_eq!(known(odd), "xterm-256color", "{odd:?}");
        }
    }
}
