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
    /// What of it lets go of something, until the server has it all: whole messages, for another one.
    owed: Vec<u8>,
    /// Whether the viewer had control when that was last looked at.
    controlled: bool,
}

impl<W: AsyncWrite + Unpin> Hands<W> {
    /// Returns hands that hold nothing.
    pub(super) fn new(server: W) -> Self {
        let (filter, out, owed) = Default::default();
        Self { filter, server, out, owed, controlled: false }
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
                let stuck = seat.stuck();
                self.owed.extend_from_slice(&stuck);
                self.out.extend(stuck);
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
        // also what it did not take before
        if self.let_go(Limits::VIEW_RELEASE).await.is_err() {
            seat.leave_stuck(self.owed);
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
        self.owed.extend(self.filter.held());
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
            (self.out, self.owed) = Default::default();
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

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex, empty};

    use super::*;
    use crate::view::control::Control;

    const MINUTE: Duration = Duration::from_secs(60);
    const START: &[u8] = b"RFB 003.008\n\x01\x00";
    const DOWN: &[u8] = &[4, 1, 0, 0, 0, 0, 0, b'b'];
    const UP: &[u8] = &[4, 0, 0, 0, 0, 0, 0, b'b'];

    /// Hands that hold a key, and the server that was told so.
    async fn holding(seat: &Seat) -> (Hands<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(1024);
        let mut hands = Hands::new(near);
        let said = Bytes::from([START, DOWN].concat());
        hands.feed(&said, seat).await.expect("it is passed on");
        (hands, far)
    }

    fn lets_go(stuck: &[u8]) -> bool {
        stuck.windows(UP.len()).any(|message| message == UP)
    }

    #[tokio::test]
    async fn what_a_server_that_has_gone_did_not_hear_is_left_to_the_next_however_it_was_tried() {
        let control = Control::default();
        let seat = control.sit("first", Some(MINUTE));
        let (mut hands, far) = holding(&seat).await;
        drop(far);
        control.give("first", true);
        hands.look(&seat).await.expect_err("the server has gone");
        hands.release(empty(), &seat).await;
        assert!(lets_go(&seat.stuck()), "the key is down");

        // nor does it go with whoever took it and had no server either
        control.give("first", false);
        let (mut hands, far) = holding(&seat).await;
        seat.leave_stuck(UP.to_vec());
        drop(far);
        let word = Bytes::from_static(&[3, 1, 0, 0, 0, 0, 0, 9, 0, 9]);
        hands.feed(&word, &seat).await.expect_err("the server has gone");
        hands.release(empty(), &seat).await;
        let stuck = seat.stuck();
        assert_eq!(stuck.windows(UP.len()).filter(|message| *message == UP).count(), 2);
    }

    #[tokio::test]
    async fn what_the_server_has_heard_is_left_to_nobody() {
        let control = Control::default();
        let seat = control.sit("first", Some(MINUTE));
        let (mut hands, mut far) = holding(&seat).await;
        control.give("first", true);
        hands.look(&seat).await.expect("it takes it");
        hands.release(empty(), &seat).await;
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.expect("it ended");
        assert!(lets_go(&heard) && seat.stuck().is_empty());
    }
}
