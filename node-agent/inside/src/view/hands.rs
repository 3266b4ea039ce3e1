//! What a viewer presses on the display, and that it is let go on every way out.

use std::{io, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use warren_common::Limits;

use super::{browser::End, control::Seat, rfb::Filter};

/// Bytes of a message that are looked at before they are passed on.
const PIECE: usize = 4 * 1024;

/// The way of one viewer's keys to the VNC server. Whoever has it ends it with [`Hands::release`].
#[derive(Debug)]
#[must_use = "keys that are down are let go by release"]
pub(super) struct Hands<W> {
    filter: Filter,
    server: W,
    /// What the server is still to get: a call that is dropped leaves no half of a message there.
    out: Vec<u8>,
    /// Whether the viewer had control when that was last looked at.
    controlled: bool,
}

impl<W: AsyncWrite + Unpin> Hands<W> {
    /// Returns hands that hold nothing.
    pub(super) fn new(server: W) -> Self {
        Self { filter: Filter::default(), server, out: Vec::new(), controlled: false }
    }

    /// Passes on what the viewer may say.
    ///
    /// # Errors
    /// The viewer is to be sent away, or the server takes nothing.
    pub(super) async fn feed(&mut self, bytes: &Bytes, seat: &Seat) -> Result<(), End> {
        for piece in bytes.chunks(PIECE) {
            self.look(seat).await?;
            let fed = self.filter.feed(piece, self.controlled, &mut self.out);
            if self.filter.is_between() {
                self.out.append(&mut seat.stuck());
            }
            // what was said before it is the server's all the same
            self.write(Limits::VIEW_INPUT).await?;
            fed.map_err(|why| End::Final(why.to_string()))?;
        }
        Ok(())
    }

    /// Looks whether the viewer has control, and lets go of everything where that has ended.
    ///
    /// # Errors
    /// The server takes nothing.
    pub(super) async fn look(&mut self, seat: &Seat) -> Result<(), End> {
        let before = std::mem::replace(&mut self.controlled, seat.controls());
        if before && !self.controlled {
            self.let_go(Limits::VIEW_INPUT).await?;
        }
        if !self.controlled {
            // only now may another have it
            seat.let_go();
        }
        Ok(())
    }

    /// Lets go of everything and waits, for a moment, until the server has heard all that was said. Of a
    /// server that has gone the next one hears it, from whoever looks next.
    pub(super) async fn release(mut self, mut heard: impl AsyncRead + Unpin, seat: &Seat) {
        let held = self.filter.held();
        if self.let_go(Limits::VIEW_RELEASE).await.is_err() {
            seat.leave_stuck(held);
            return;
        }
        let ending = async {
            let _ = self.server.shutdown().await;
            // it closes once it has read to the end
            let mut ignored = vec![0; PIECE];
            while let Ok(1..) = heard.read(&mut ignored).await {}
        };
        // a server that does not end its side has its keys all the same
        let _ = timeout(Limits::VIEW_RELEASE, ending).await;
    }

    async fn let_go(&mut self, limit: Duration) -> Result<(), End> {
        self.filter.release(&mut self.out);
        self.write(limit).await
    }

    async fn write(&mut self, limit: Duration) -> Result<(), End> {
        let writing = async {
            while !self.out.is_empty() {
                match self.server.write(&self.out).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => drop(self.out.drain(..count)),
                }
            }
            self.out = Vec::new();
            Ok::<_, io::Error>(())
        };
        match timeout(limit, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(End::Passing(format!("the display's VNC server went away: {error}")))
            }
            Err(_) => Err(End::Passing("the display's VNC server takes no input".to_owned())),
        }
    }
}
