//! The container's log: one line per event or line of output, with a time and a source.
//!
//! PID 1 must never wait for whoever reads its log (while the engine restarts nobody does), so a
//! pipe is written without blocking; lines that do not fit are counted and the count is logged when
//! there is room again. No levels, no fields: the node agent has those.

use std::{
    io::{ErrorKind, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::{FileType, OFlags};

use crate::clock;

/// Longest line: a write of at most `PIPE_BUF` bytes is whole or not at all.
const LINE_BYTES: usize = 4000;

static LOST: AtomicU64 = AtomicU64::new(0);
/// The request that asked for this run, once the node agent has told it.
static REQUEST: OnceLock<String> = OnceLock::new();

/// Adds the request that asked for this run to every later line of PID 1 itself. The first one of
/// its life holds; a later one changed nothing here.
pub(crate) fn run_for(request: &str) {
    let plain = |c: char| c.is_ascii_hexdigit() || c == '-';
    if !request.is_empty() && request.len() <= 36 && request.chars().all(plain) {
        let _ = REQUEST.set(request.to_owned());
    }
}

/// Logs an event of PID 1 itself.
pub(crate) fn own(text: &str) {
    match REQUEST.get() {
        Some(request) => log("warren", &format!("{text} request={request}")),
        None => log("warren", text),
    }
}

/// Makes writing to stdout non-blocking where it is a pipe. A terminal or a file is left alone.
pub(crate) fn init() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let stdout = rustix::stdio::stdout();
        let pipe = rustix::fs::fstat(stdout)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        if let (true, Ok(flags)) = (pipe, rustix::fs::fcntl_getfl(stdout)) {
            // Where it fails the log blocks as any program's does.
            let _ = rustix::fs::fcntl_setfl(stdout, flags | OFlags::NONBLOCK);
        }
    });
}

/// Logs one line from `source`, such as `clone` or `warren`.
pub(crate) fn log(source: &str, text: &str) {
    let lost = LOST.swap(0, Ordering::Relaxed);
    if lost > 0 && !write("warren", &format!("{lost} log lines were lost: nobody read them")) {
        LOST.fetch_add(lost, Ordering::Relaxed);
    }
    if !write(source, text) {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

fn write(source: &str, text: &str) -> bool {
    let line = line(source, text);
    match std::io::stdout().lock().write_all(line.as_bytes()) {
        Ok(()) => true,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

fn line(source: &str, text: &str) -> String {
    let head = format!("{} {source}: ", clock::rfc3339(clock::now_ms()));
    let room = LINE_BYTES.saturating_sub(head.len() + 1);
    let text = warren_common::status::clean(text, room).replace('\n', " ");
    format!("{head}{text}\n")
}

/// Logs an event of PID 1 itself.
macro_rules! event {
    ($($text:tt)*) => { $crate::journal::own(&format!($($text)*)) };
}
pub(crate) use event;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_fits_a_pipe() {
        let line = line("setup", &format!("a\nb\x1b[0m{}", "ä".repeat(5000)));
        assert!(line.len() <= LINE_BYTES && line.ends_with("ä\n"), "{}", line.len());
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains("Z setup: a b[0m"));
    }
}
