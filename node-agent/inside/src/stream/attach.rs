//! A viewer of a session: a `tmux attach` on a terminal of its own.

use std::process::Command;

use tokio::net::unix::OwnedReadHalf;
use warren_common::SessionName;
use warren_proto::pb::inside::v1::{Attach, Exited, Opened, frame};

use super::{
    Line, Refusal, Served, Streams,
    pump::{self, End, Ends, Signals},
};
use crate::{
    pty::{Pty, Size, known_term},
    reaper::{Terminal, Worth},
    step::session_step,
    wire::{Reader, WireError},
};

/// Shows a session to the caller until it detaches, goes away, or the session ends. The viewer's
/// process never outlives this call; the session does.
pub(super) async fn serve(
    streams: &Streams,
    attach: Attach,
    reader: &mut Reader<OwnedReadHalf>,
    line: &Line,
) -> Result<Served, WireError> {
    if !is_there(streams, &attach.session).await {
        return Ok(Err(not_found(streams, &attach.session).await));
    }
    let terminal = attach.terminal.unwrap_or_default();
    let mut command = command(streams, &attach.session, attach.read_only);
    command.env("TERM", known_term(&terminal.term, &streams.config.home, "xterm-256color"));
    let opened =
        Pty::open(Size::new(terminal.columns, terminal.rows), &mut command).and_then(|pty| {
            Ok((pty, streams.reaper.spawn(command, Terminal::Controlling, Worth::Kept)?))
        });
    let (pty, child) = match opened {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(("INTERNAL", format!("no viewer can start: {error}")))),
    };
    line.send(frame::Kind::Opened(Opened {})).await?;
    let end = pump::run(Ends::Terminal(pty), &child, (reader, line), Signals::Ignored).await;
    Ok(Ok(match end {
        End::Program(code) => {
            let detached = streams.keeper.tmux().has(&attach.session).await;
            Some(Exited { code: if detached { 0 } else { code }, detached })
        }
        // Dropping the child kills the viewer.
        End::Caller => None,
    }))
}

/// Returns the command line of a viewer.
pub(crate) fn command(streams: &Streams, session: &str, read_only: bool) -> Command {
    let mut command = streams.keeper.tmux().command();
    command.args(["attach-session", "-t", &format!("={session}")]);
    if read_only {
        command.arg("-r");
    }
    command.current_dir(&streams.config.home);
    command
}

/// Returns whether there is a session of this name.
pub(crate) async fn is_there(streams: &Streams, name: &str) -> bool {
    name.parse::<SessionName>().is_ok() && streams.keeper.tmux().has(name).await
}

/// Says that there is no session of this name, or not yet, and which there are.
pub(crate) async fn not_found(streams: &Streams, name: &str) -> Refusal {
    let name: String = name.chars().take(80).collect();
    if streams.board.awaits(&session_step(&name)) {
        let step = streams.board.running_step().unwrap_or_else(|| "an earlier step".to_owned());
        return ("SESSION_NOT_FOUND", format!("session {name} has not started yet: {step}"));
    }
    let there = streams.keeper.tmux().list().await.unwrap_or_default();
    let names: Vec<&str> = there.iter().map(|seen| seen.name.as_str()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    ("SESSION_NOT_FOUND", format!("there is no session {name:?}; there are: {names}"))
}
