//! One connection from inside a workspace, from its first message to its end.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{UnixStream, unix::OwnedReadHalf, unix::OwnedWriteHalf},
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};
use warren_proto::{
    convert::InsideStatus,
    pb::inside::v1::{self as pb, frame, from_inside, hello::Role, to_inside},
};

use super::{
    codec::{CodecError, read_message, write_message},
    door::{Shared, role_of},
};

/// A connecting process must have said who it is by then.
const GREETING: Duration = Duration::from_secs(5);
/// PID 1 says how it stands every 5 s; a control connection silent for longer than this is dead.
const SILENCE: Duration = Duration::from_secs(20);
/// A message for PID 1 must have been taken by then.
const SENDING: Duration = Duration::from_secs(10);
/// Pause after each status: a workspace that floods its socket only slows itself down.
const STATUS_PAUSE: Duration = Duration::from_millis(20);

/// Why a control connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("it was closed")]
    Closed,
    #[error("it was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("it did not take a message within {} s", SENDING.as_secs())]
    Stuck,
    #[error("it sent what is no status: {0}")]
    Nonsense(#[source] warren_proto::convert::InvalidMessage),
    #[error("{0}")]
    Codec(#[source] CodecError),
}

/// Serves one connection; `turn` is given back once it has said who it is.
pub(super) async fn serve(mut stream: UnixStream, shared: Arc<Shared>, turn: OwnedSemaphorePermit) {
    let workspace = shared.workspace;
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let container = shared.expected.borrow().container.clone();
    if let Err(error) = shared.check.admit(pid, container.as_deref()) {
        if shared.lines.now() {
            warn!(%workspace, %error, "a connection was turned away");
        }
        return;
    }
    let hello = match timeout(GREETING, read_message::<pb::Hello, _>(&mut stream)).await {
        Ok(Ok(Some(hello))) => hello,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return debug!(%workspace, %error, "a connection said nothing sensible"),
        Err(_) => return debug!(%workspace, "a connection did not say who it is"),
    };
    let protocol = hello.protocol;
    match role_of(hello) {
        Some(Role::Control(hello)) => {
            drop(turn);
            control(stream, &shared, hello).await;
        }
        Some(Role::StreamId(id)) => {
            if shared.hand_over(id, stream).is_err() {
                debug!(%workspace, id, "nobody waits for this stream");
            }
        }
        None => {
            if shared.lines.now() {
                warn!(%workspace, protocol, "PID 1 speaks a protocol this agent does not know");
            }
            let failed = pb::Failed {
                reason: "PROTOCOL_UNKNOWN".to_owned(),
                message: "this node agent knows protocol 1".to_owned(),
            };
            let frame = pb::Frame { kind: Some(frame::Kind::Failed(failed)) };
            // the other side may be gone already, which is where this leads anyway
            let _ = timeout(GREETING, write_message(&mut stream, &frame)).await;
        }
    }
}

async fn control(stream: UnixStream, shared: &Shared, hello: pb::Control) {
    let workspace = shared.workspace;
    let given = hello.run_serial;
    let Some(turn) = shared.take_control(hello) else {
        if shared.lines.now() {
            warn!(%workspace, run_serial = given, "PID 1 of another run was turned away");
        }
        return;
    };
    if shared.lines.now() {
        info!(%workspace, "PID 1 is connected");
    }
    let (reader, writer) = stream.into_split();
    let talking = async {
        tokio::select! {
            ended = listen(reader, shared, turn.serial) => ended,
            ended = tell(writer, turn.setup, turn.outgoing) => ended,
        }
    };
    if let Some(ended) = turn.replaced.run_until_cancelled(talking).await
        && shared.lines.now()
    {
        info!(%workspace, reason = %ended, "PID 1 is disconnected");
    }
    shared.leave_control(turn.serial);
}

async fn listen(mut reader: OwnedReadHalf, shared: &Shared, serial: u64) -> Ended {
    loop {
        let message = match timeout(SILENCE, read_message::<pb::FromInside, _>(&mut reader)).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Ended::Closed,
            Ok(Err(error)) => return Ended::Codec(error),
            Err(_) => return Ended::Silent,
        };
        if let Some(from_inside::Kind::Status(status)) = message.kind {
            match InsideStatus::try_from(status) {
                Ok(status) => shared.publish(serial, status),
                Err(error) => return Ended::Nonsense(error),
            }
        }
        sleep(STATUS_PAUSE).await;
    }
}

/// Sends the newest setup first and whenever there is a newer one, and what else is asked.
async fn tell(
    mut writer: OwnedWriteHalf,
    mut setups: watch::Receiver<pb::Setup>,
    mut outgoing: mpsc::Receiver<pb::ToInside>,
) -> Ended {
    setups.mark_changed();
    loop {
        let kind = tokio::select! {
            biased;
            changed = setups.changed() => match changed {
                Ok(()) => Some(to_inside::Kind::Setup(setups.borrow_and_update().clone())),
                Err(_) => return Ended::Closed,
            },
            message = outgoing.recv() => match message {
                Some(message) => message.kind,
                None => return Ended::Closed,
            },
        };
        match timeout(SENDING, write_message(&mut writer, &pb::ToInside { kind })).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Ended::Codec(error),
            Err(_) => return Ended::Stuck,
        }
    }
}
