//! The display: RFB between a browser and the VNC server, filtered by who has control.

use std::{convert::Infallible, path::Path, time::Duration};

use bytes::Bytes;
use tokio::{
    io::AsyncReadExt as _,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{MissedTickBehavior, interval},
};
use warren_common::Limits;

use super::{
    Page,
    browser::{Ear, End, Mouth, Said, halves},
    control::Seat,
    hands::Hands,
    socket::Socket,
};

/// For the VNC server to be started and to answer.
const VNC_WAIT: Duration = Duration::from_secs(15);
/// Between two looks whether control has ended.
const LOOK: Duration = Duration::from_millis(250);

/// Shows the display until the browser or the VNC server goes. What the browser held down is let go
/// then, whoever ended it.
pub(super) async fn show(socket: &mut Socket, page: &Page) -> End {
    let services = &page.streams.services;
    let wanted = Duration::from_millis(page.view.control_ms.into());
    let wanted = (!wanted.is_zero()).then_some(wanted);
    let Some(_lease) = services.vnc.want(VNC_WAIT).await else {
        return End::Passing("the display's VNC server does not answer".to_owned());
    };
    let (mut read, write) = match connect(&services.vnc_socket()).await {
        Ok(server) => server.into_split(),
        Err(end) => return end,
    };
    // whoever gets control next gets it when this is dropped: after the release
    let seat = page.streams.control.sit(&page.view.token, wanted);
    let mut hands = Hands::new(write);
    let (ear, mouth) = halves(socket);
    let ended = tokio::select! {
        ended = hear(ear, &mut hands, &seat) => ended,
        ended = speak(mouth, &mut read) => ended,
        end = page.streams.viewers.stopped() => Err(end),
    };
    hands.release(read, &seat).await;
    let Err(end) = ended;
    end
}

async fn connect(path: &Path) -> Result<UnixStream, End> {
    UnixStream::connect(path)
        .await
        .map_err(|error| End::Passing(format!("the display's VNC server does not answer: {error}")))
}

/// Hands on what the browser may say.
async fn hear(
    mut ear: Ear<'_>,
    hands: &mut Hands<OwnedWriteHalf>,
    seat: &Seat,
) -> Result<Infallible, End> {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            said = ear.next() => match said? {
                Said::Bytes(bytes) => hands.feed(&bytes, seat).await?,
                Said::Text(_) => return Err(End::Final("the browser sent text".to_owned())),
            },
            _ = look.tick() => hands.look(seat).await?,
        }
    }
}

/// Shows what the VNC server says.
async fn speak(mut mouth: Mouth<'_>, server: &mut OwnedReadHalf) -> Result<Infallible, End> {
    let mut buffer = vec![0; Limits::VIEW_PIECE_BYTES];
    let gone = |why: &str| End::Passing(format!("the display's VNC server went away{why}"));
    loop {
        tokio::select! {
            count = server.read(&mut buffer) => {
                match count.map_err(|error| gone(&format!(": {error}")))? {
                    0 => return Err(gone("")),
                    count => mouth.show(Bytes::copy_from_slice(&buffer[..count])).await?,
                }
            }
            () = mouth.due() => mouth.ask().await?,
        }
    }
}
