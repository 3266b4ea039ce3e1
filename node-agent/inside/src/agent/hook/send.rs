//! Handing a message to PID 1 within a budget.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send,
        socket_with,
    },
};
use warren_common::Timestamp;

use crate::agent::{message::SOCKET, spool};

/// How long PID 1 may take.
const BUDGET: Duration = Duration::from_millis(200);
/// Between two attempts while too many others wait for it.
const PAUSE: Duration = Duration::from_millis(10);

/// Sends a message, or leaves it behind for PID 1 where it does not take it.
pub(super) fn deliver(runtime: &Path, at: Timestamp, bytes: &[u8]) {
    if tell(runtime, bytes).is_none() {
        // nobody to tell where that fails too
        let _ = spool::leave(runtime, at, bytes);
    }
}

/// Sends a message that the next one of its kind makes up for; none where PID 1 does not take it.
pub(super) fn tell(runtime: &Path, bytes: &[u8]) -> Option<()> {
    let deadline = Instant::now() + BUDGET;
    dial(&runtime.join(SOCKET), deadline).and_then(|to| write(&to, bytes, deadline)).ok()
}

fn dial(socket: &Path, deadline: Instant) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let to = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match connect(&to, &address) {
            Ok(()) => return Ok(to),
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < deadline => sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
}

fn write(to: &OwnedFd, mut bytes: &[u8], deadline: Instant) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match send(to, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Errno::TIMEDOUT);
                }
                let limit = Timespec::try_from(left).ok();
                poll(&mut [PollFd::new(to, PollFlags::OUT)], limit.as_ref())?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
