//! Running a program to its end: short ones for their output, long ones line by line.

use std::{
    io::{self, Write as _},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    clock,
    reaper::{Child, Reaper, Terminal, Worth},
    text::{Piece, Pieces},
};

/// Most output kept of a short program: its beginning.
pub(crate) const OUTPUT_BYTES: usize = 256 * 1024;
/// Most that a program is given on its standard input.
const INPUT_BYTES: usize = 32 * 1024;
/// How long output may still come after a program has ended: from what it left running.
const QUIET: Duration = Duration::from_millis(300);
/// From the hang-up to SIGKILL for a step that took too long.
const GRACE: Duration = Duration::from_secs(2);

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// It is not there or may not run.
    #[error("{program} cannot be started: {error}")]
    Start {
        /// Its name.
        program: String,
        /// What the kernel says.
        error: io::Error,
    },
    /// Its output cannot be read.
    #[error("the output of {program} cannot be read: {error}")]
    Read {
        /// Its name.
        program: String,
        /// What the kernel says.
        error: io::Error,
    },
    /// It was killed with everything it started.
    #[error("{program} took longer than {limit} and was stopped", limit = clock::span(*limit))]
    Timeout {
        /// Its name.
        program: String,
        /// How long it was given.
        limit: Duration,
    },
}

/// How a short program ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit code, 128 + n for signal n.
    pub(crate) code: i32,
    /// Output and error output in the order they came.
    pub(crate) text: String,
}

/// Runs `command` without input or terminal and returns its output.
///
/// # Errors
/// Fails where it cannot be started or has not ended after `limit`; it is killed then.
pub(crate) async fn output(
    reaper: &Reaper,
    command: Command,
    limit: Duration,
) -> Result<Output, RunError> {
    let mut command = command;
    command.stdin(Stdio::null());
    gathered(reaper, command, limit).await
}

/// Runs `command` with `input` on its standard input, without a terminal, and returns its output.
///
/// # Errors
/// As [`output`]; the input has more bytes than a pipe holds.
pub(crate) async fn fed(
    reaper: &Reaper,
    (mut command, input): (Command, &[u8]),
    limit: Duration,
) -> Result<Output, RunError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let piped = || {
        // a pipe holds that much before anybody reads: nobody need be waited for
        if input.len() > INPUT_BYTES {
            return Err(io::Error::other("its input is too long"));
        }
        let (read, mut write) = io::pipe()?;
        write.write_all(input)?;
        Ok(read)
    };
    let read = piped().map_err(|error| RunError::Start { program, error })?;
    command.stdin(Stdio::from(read));
    gathered(reaper, command, limit).await
}

async fn gathered(reaper: &Reaper, command: Command, limit: Duration) -> Result<Output, RunError> {
    let mut text = Vec::new();
    let code = follow(reaper, (command, Worth::Kept), limit, |bytes| {
        let room = OUTPUT_BYTES.saturating_sub(text.len()).min(bytes.len());
        text.extend_from_slice(&bytes[..room]);
    });
    let code = code.await?;
    Ok(Output { code, text: String::from_utf8_lossy(&text).into_owned() })
}

/// Runs `command` without input or terminal, hands each line of its output to `piece` as it comes,
/// and returns the exit code.
///
/// # Errors
/// Fails where it cannot be started or has not ended after `limit`; it is killed then.
pub(crate) async fn lines(
    reaper: &Reaper,
    command: Command,
    limit: Duration,
    mut piece: impl FnMut(Piece),
) -> Result<i32, RunError> {
    let mut pieces = Pieces::default();
    let mut command = command;
    command.stdin(Stdio::null());
    let what = (command, Worth::Victim);
    let code = follow(reaper, what, limit, |bytes| pieces.feed(bytes, &mut piece)).await;
    pieces.finish(&mut piece);
    code
}

/// Runs `command` without input or terminal, hands its output to `take` as it comes, and returns
/// the exit code. It is killed where the call is dropped.
///
/// # Errors
/// Fails where it cannot be started or has not ended after `limit`; it is killed then.
pub(crate) async fn follow(
    reaper: &Reaper,
    (mut command, worth): (Command, Worth),
    limit: Duration,
    mut take: impl FnMut(&[u8]),
) -> Result<i32, RunError> {
    let deadline = Instant::now() + limit;
    let program = command.get_program().to_string_lossy().into_owned();
    let start = |error| RunError::Start { program: program.clone(), error };
    let output = merge_output(&mut command).map_err(start)?;
    let child = reaper.spawn(command, Terminal::None, worth).map_err(start)?;
    let mut output = Receiver::from_owned_fd(output).map_err(start)?;
    match timeout_at(deadline, drain(&mut output, &child, &mut take)).await {
        Ok(Ok(code)) => Ok(code),
        Ok(Err(error)) => Err(RunError::Read { program, error }),
        Err(_) => {
            child.end(GRACE).await;
            Err(RunError::Timeout { program, limit })
        }
    }
}

/// Connects output and error output to one pipe and returns its other end.
fn merge_output(command: &mut Command) -> io::Result<OwnedFd> {
    let (read, write) = io::pipe()?;
    command.stdout(Stdio::from(write.try_clone()?));
    command.stderr(Stdio::from(write));
    Ok(read.into())
}

async fn drain(
    output: &mut Receiver,
    child: &Child,
    take: &mut impl FnMut(&[u8]),
) -> io::Result<i32> {
    let mut buffer = vec![0; 16 * 1024];
    let code = loop {
        tokio::select! {
            biased;
            read = output.read(&mut buffer) => match read? {
                0 => return Ok(child.wait().await),
                count => take(&buffer[..count]),
            },
            code = child.wait() => break code,
        }
    };
    // Something it left behind may hold the pipe open for ever.
    while let Ok(count) = timeout(QUIET, output.read(&mut buffer)).await {
        match count? {
            0 => break,
            count => take(&buffer[..count]),
        }
    }
    Ok(code)
}
