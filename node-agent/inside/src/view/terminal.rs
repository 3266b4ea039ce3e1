//! A session in a browser: the same viewer as `session attach` starts, on a terminal of its own.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

use super::{Page, socket::Socket};
use crate::{
    pty::{Pty, Size},
    reaper::{Child, Terminal, Worth},
    stream::attach,
};

const PIECE: usize = 16 * 1024;
/// Code of a close frame that says why.
const TROUBLE: u16 = 4000;

/// What a page says in text: the size of its window.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resize {
    columns: u32,
    rows: u32,
}

/// Shows a session until the browser leaves, it detaches or the session ends. The viewer's process
/// never outlives this call; the session does.
pub(super) async fn show(mut socket: Socket, page: &Page) -> Result<(), String> {
    let why = match start(page).await {
        Ok((pty, child)) => relay(&mut socket, &pty, &child).await,
        Err(why) => Err(why),
    };
    let reason = why.clone().err().unwrap_or_else(|| "the session has ended".to_owned());
    let frame = CloseFrame { code: TROUBLE.into(), reason: reason.into() };
    // a browser that has gone is not told
    let _ = socket.close(Some(frame)).await;
    why
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

async fn relay(socket: &mut Socket, pty: &Pty, child: &Child) -> Result<(), String> {
    let mut buffer = vec![0; PIECE];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        match pty.write(rest).await {
                            Ok(count) if count > 0 => rest = &rest[count..],
                            // its end shows in its output
                            Ok(_) | Err(_) => break,
                        }
                    }
                }
                Some(Ok(Message::Text(text))) => {
                    let size: Resize = serde_json::from_str(text.as_str())
                        .map_err(|_| "it sent text that is no size".to_owned())?;
                    // a terminal that is gone shows in its output
                    let _ = pty.resize(Size::new(size.columns, size.rows));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
            },
            count = pty.read(&mut buffer) => match count {
                Ok(count @ 1..) => {
                    let bytes = Bytes::copy_from_slice(&buffer[..count]);
                    if socket.send(Message::Binary(bytes)).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(_) | Err(_) => return Ok(()),
            },
            _ = child.wait() => return Ok(()),
        }
    }
}
