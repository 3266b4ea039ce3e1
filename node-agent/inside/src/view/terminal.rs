//! A session in a browser: the same viewer as `session attach` starts, on a terminal of its own.

use std::convert::Infallible;

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::timeout;
use warren_common::Limits;

use super::{
    Page,
    browser::{Ear, End, Mouth, Said, halves},
    socket::Socket,
};
use crate::{
    pty::{Pty, Size},
    reaper::{Child, Terminal, Worth},
    stream::attach,
};

/// What a page says in text: the size of its window.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resize {
    columns: u32,
    rows: u32,
}

/// Shows a session until the browser leaves, it detaches or the session ends. The viewer's process
/// never outlives this call; the session does.
pub(super) async fn show(socket: &mut Socket, page: &Page) -> End {
    let (pty, child) = match start(page).await {
        Ok(started) => started,
        Err(why) => return End::Final(why),
    };
    let (ear, mouth) = halves(socket);
    let ended = tokio::select! {
        ended = hear(ear, &pty) => ended,
        ended = speak(mouth, &pty) => ended,
        _ = child.wait() => Err(over()),
        end = page.streams.viewers.stopped() => Err(end),
    };
    let Err(end) = ended;
    end
}

fn over() -> End {
    End::Final("the session has ended".to_owned())
}

async fn start(page: &Page) -> Result<(Pty, Child), String> {
    let streams = &page.streams;
    let name = match page.view.session.as_str() {
        "" => {
            let there = streams.keeper.tmux().list().await.unwrap_or_default();
            there.first().map(|seen| seen.name.clone()).unwrap_or_default()
        }
        name => name.to_owned(),
    };
    if !attach::is_there(streams, &name).await {
        return Err(attach::not_found(streams, &name).await.1);
    }
    let mut command = attach::command(streams, &name, false);
    command.env("TERM", "xterm-256color").env("COLORTERM", "truecolor");
    let opened = Pty::open(Size::new(0, 0), &mut command).and_then(|pty| {
        Ok((pty, streams.reaper.spawn(command, Terminal::Controlling, Worth::Kept)?))
    });
    opened.map_err(|error| format!("no viewer can start: {error}"))
}

/// Hands on what is typed.
async fn hear(mut ear: Ear<'_>, pty: &Pty) -> Result<Infallible, End> {
    loop {
        match ear.next().await? {
            Said::Bytes(bytes) => {
                if timeout(Limits::VIEW_INPUT, write(pty, &bytes)).await.is_err() {
                    return Err(End::Passing("the session takes no input".to_owned()));
                }
            }
            Said::Text(text) => {
                let size: Resize = serde_json::from_str(&text)
                    .map_err(|_| End::Final("the browser sent text that is no size".to_owned()))?;
                // a terminal that is gone shows in its output
                let _ = pty.resize(Size::new(size.columns, size.rows));
            }
        }
    }
}

/// Writes all of it; the end of the terminal shows in its output.
async fn write(pty: &Pty, mut rest: &[u8]) {
    while let Ok(count @ 1..) = pty.write(rest).await {
        rest = &rest[count..];
        if rest.is_empty() {
            return;
        }
    }
}

/// Shows what the session does.
async fn speak(mut mouth: Mouth<'_>, pty: &Pty) -> Result<Infallible, End> {
    let mut buffer = vec![0; Limits::VIEW_PIECE_BYTES];
    loop {
        tokio::select! {
            count = pty.read(&mut buffer) => match count {
                Ok(count @ 1..) => mouth.show(Bytes::copy_from_slice(&buffer[..count])).await?,
                Ok(_) | Err(_) => return Err(over()),
            },
            () = mouth.due() => mouth.ask().await?,
        }
    }
}
