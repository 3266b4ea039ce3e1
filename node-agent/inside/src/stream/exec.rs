//! A program beside the sessions, in the checkout, killed when its caller goes away.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::net::unix::{
    OwnedReadHalf,
    pipe::{Receiver, Sender},
};
use warren_common::Limits;
use warren_proto::pb::inside::v1::{Exec, Exited, Opened, frame};

use super::{
    Line, Served, Streams,
    pump::{self, End, Ends, Signals},
};
use crate::{
    pty::{Pty, Size, known_term},
    reaper::{Child, Terminal, Worth},
    step,
    wire::{Reader, WireError},
};

/// From the hang-up to SIGKILL once the caller has gone.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the program to its end or the caller's.
pub(super) async fn serve(
    streams: &Streams,
    exec: Exec,
    reader: &mut Reader<OwnedReadHalf>,
    line: &Line,
) -> Result<Served, WireError> {
    let size: usize = exec.argv.iter().map(|word| word.len() + 1).sum();
    let Some(program) = exec.argv.first().filter(|program| !program.is_empty()) else {
        return Ok(Err(("INVALID_ARGUMENT", "no program was named".to_owned())));
    };
    if size > Limits::EXEC_BYTES || exec.argv.iter().any(|word| word.contains('\0')) {
        let most = Limits::EXEC_BYTES;
        let message = format!("the command has {size} bytes or holds a zero; the limit is {most}");
        return Ok(Err(("INVALID_ARGUMENT", message)));
    }
    match start(streams, &exec) {
        Ok((ends, child)) => {
            line.send(frame::Kind::Opened(Opened {})).await?;
            let end = pump::run(ends, &child, (reader, line), Signals::Forwarded).await;
            Ok(Ok(match end {
                End::Program(code) => Some(Exited { code, detached: false }),
                End::Caller => {
                    child.end(GRACE).await;
                    None
                }
            }))
        }
        Err(error) => {
            // As a shell says it, so that scripts see the codes they know.
            let (code, why) = match error.kind() {
                io::ErrorKind::NotFound => (127, "command not found".to_owned()),
                io::ErrorKind::PermissionDenied => (126, "permission denied".to_owned()),
                _ => (126, error.to_string()),
            };
            line.send(frame::Kind::Opened(Opened {})).await?;
            let text = format!("warren: {program}: {why}\r\n");
            let kind = match exec.terminal {
                Some(_) => frame::Kind::Stdout(text.into()),
                None => frame::Kind::Stderr(text.replace('\r', "").into()),
            };
            line.send(kind).await?;
            Ok(Ok(Some(Exited { code, detached: false })))
        }
    }
}

fn start(streams: &Streams, exec: &Exec) -> io::Result<(Ends, Child)> {
    let (program, arguments) = exec.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    let folder = step::exec_folder(&streams.config, streams.setup.borrow().as_deref());
    command.args(arguments).current_dir(folder);
    match &exec.terminal {
        Some(terminal) => {
            let home = &streams.config.home;
            command.env("TERM", known_term(&terminal.term, home, "xterm-256color"));
            let pty = Pty::open(Size::new(terminal.columns, terminal.rows), &mut command)?;
            Ok((
                Ends::Terminal(pty),
                streams.reaper.spawn(command, Terminal::Controlling, Worth::Victim)?,
            ))
        }
        None => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = streams.reaper.spawn(command, Terminal::None, Worth::Victim)?;
            let ends = pipes(&mut child)?;
            Ok((ends, child))
        }
    }
}

fn pipes(child: &mut Child) -> io::Result<Ends> {
    let (input, output, errors) = std::mem::take(&mut child.pipes);
    let missing = || io::Error::other("a pipe is missing");
    let input = Sender::from_owned_fd(OwnedFd::from(input.ok_or_else(missing)?))?;
    let output = Receiver::from_owned_fd(OwnedFd::from(output.ok_or_else(missing)?))?;
    let errors = Receiver::from_owned_fd(OwnedFd::from(errors.ok_or_else(missing)?))?;
    Ok(Ends::Pipes { input: Some(input), output, errors })
}
