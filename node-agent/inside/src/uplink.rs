//! The control connection: dials the node agent for ever, sends status up, takes orders down.
//!
//! A node agent that is restarted or replaced finds the same sessions, the same steps and a fresh
//! connection; nothing inside notices. What an order means is decided elsewhere.

use std::{
    mem::{Discriminant, discriminant},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::UnixStream,
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use warren_proto::pb::inside::v1::{
    Control, FromInside, Hello, SessionStatus, Setup, Shutdown, Status, ToInside,
    agent_state::State, from_inside, hello, to_inside,
};

use crate::{
    board::{Board, Picture},
    config::Config,
    journal::event,
    wire::{self, Reader, WireError},
};

/// Version of the protocol in each Hello.
pub(crate) const PROTOCOL: u32 = 1;
/// Between two status messages where nothing changes.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Between two status messages where everything changes.
const STATUS_GAP: Duration = Duration::from_millis(100);
/// Messages between two heartbeats that need not keep that gap.
const AT_ONCE: u32 = 50;
/// A connect to the socket, and a write to a node agent that reads nothing.
const IO_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection that held this long is dialled again without a pause.
const STEADY: Duration = Duration::from_secs(1);
const REDIAL_FIRST: Duration = Duration::from_millis(50);
const REDIAL_MOST: Duration = Duration::from_secs(2);

/// Where orders go.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    /// The newest setup; older ones it replaces hold nothing that it does not.
    pub(crate) setup: watch::Sender<Option<Arc<Setup>>>,
    /// Streams to open.
    pub(crate) streams: mpsc::Sender<u64>,
    /// The request to stop.
    pub(crate) shutdown: mpsc::Sender<Shutdown>,
}

/// Keeps a control connection up for the life of the process.
pub(crate) async fn run(config: Arc<Config>, board: Board, orders: Orders) {
    let mut pause = REDIAL_FIRST;
    let mut told = false;
    loop {
        match connect(&config.socket).await {
            Ok(socket) => {
                event!("connected to the node agent");
                told = false;
                let since = Instant::now();
                if let Err(error) = converse(socket, &config, &board, &orders).await {
                    event!("the connection to the node agent ended: {}", chain(&error));
                } else {
                    event!("the node agent closed the connection");
                }
                if since.elapsed() > STEADY {
                    pause = REDIAL_FIRST;
                }
            }
            Err(error) if !told => {
                event!("no node agent at {}: {}", config.socket.display(), chain(&error));
                told = true;
            }
            Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(REDIAL_MOST);
    }
}

/// Dials the node agent.
///
/// # Errors
/// Fails where nobody listens.
pub(crate) async fn connect(socket: &Path) -> Result<UnixStream, WireError> {
    match timeout(IO_TIMEOUT, UnixStream::connect(socket)).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(WireError::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

async fn converse(
    socket: UnixStream,
    config: &Config,
    board: &Board,
    orders: &Orders,
) -> Result<(), WireError> {
    let (read, mut write) = socket.into_split();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let control = Control { version, run_serial: config.run_serial, takes_orders: true };
    let hello = Hello { protocol: PROTOCOL, role: Some(hello::Role::Control(control)) };
    send(&mut write, &hello).await?;
    tokio::select! {
        ended = listen(Reader::new(read), orders) => ended,
        ended = report(write, board.subscribe()) => ended,
    }
}

async fn listen(
    mut reader: Reader<tokio::net::unix::OwnedReadHalf>,
    orders: &Orders,
) -> Result<(), WireError> {
    while let Some(message) = reader.next::<ToInside>().await? {
        match message.kind {
            Some(to_inside::Kind::Setup(setup)) => {
                orders.setup.send_replace(Some(Arc::new(setup)));
            }
            Some(to_inside::Kind::OpenStream(open)) => {
                if orders.streams.try_send(open.stream_id).is_err() {
                    event!("stream {} was not opened: too many at once", open.stream_id);
                }
            }
            Some(to_inside::Kind::Shutdown(shutdown)) => {
                // A second request changes nothing.
                let _ = orders.shutdown.try_send(shutdown);
            }
            None => event!("the node agent sent an order this version does not know"),
        }
    }
    Ok(())
}

async fn report(
    mut write: tokio::net::unix::OwnedWriteHalf,
    mut board: watch::Receiver<Picture>,
) -> Result<(), WireError> {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut at_once = AT_ONCE;
    loop {
        tokio::select! {
            _ = heartbeat.tick() => at_once = AT_ONCE,
            changed = board.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
        }
        let status = board.borrow_and_update().to_status();
        let told = standing(&status);
        send(&mut write, &FromInside { kind: Some(from_inside::Kind::Status(status)) }).await?;
        // progress is gathered; a step that ends is told at once, since people wait for it
        let mut seen = false;
        let until = Instant::now() + STATUS_GAP;
        if timeout(STATUS_GAP, moved_on(&mut board, &told, &mut seen)).await.is_ok() {
            match at_once.checked_sub(1) {
                Some(left) => at_once = left,
                // an agent may come and go without end
                None => sleep_until(until).await,
            }
        }
        if seen {
            board.mark_changed();
        }
    }
}

/// What people wait for: the state of each step, whether each session runs and which state its
/// agent is in, and the state of each browser.
type Standing = (Vec<i32>, Vec<(String, bool, Option<Discriminant<State>>)>, Vec<(String, i32)>);

fn standing(status: &Status) -> Standing {
    let steps = status.steps.iter().map(|step| step.state).collect();
    let agent = |one: &SessionStatus| {
        let state = one.agent.as_ref()?.state.as_ref()?.state.as_ref()?;
        Some(discriminant(state))
    };
    let sessions =
        status.sessions.iter().map(|one| (one.name.clone(), one.running, agent(one))).collect();
    let browsers = status.browsers.iter().map(|one| (one.id.clone(), one.state)).collect();
    (steps, sessions, browsers)
}

/// Waits until something stands otherwise than was told; `seen` says whether anything changed.
async fn moved_on(board: &mut watch::Receiver<Picture>, told: &Standing, seen: &mut bool) {
    while board.changed().await.is_ok() {
        *seen = true;
        if standing(&board.borrow().to_status()) != *told {
            return;
        }
    }
}

/// Writes one message within the time a node agent has to read it.
///
/// # Errors
/// Fails where the connection does, or where nobody reads it.
pub(crate) async fn send<M: prost::Message>(
    write: &mut tokio::net::unix::OwnedWriteHalf,
    message: &M,
) -> Result<(), WireError> {
    match timeout(IO_TIMEOUT, wire::send(write, message)).await {
        Ok(sent) => sent,
        Err(_) => Err(WireError::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_proto::pb::inside::v1::{AgentIdle, AgentState, AgentStatus, AgentWorking};

    fn agent(state: State, subagents: u32) -> AgentStatus {
        let state = Some(AgentState { state: Some(state) });
        AgentStatus { state, subagents, ..AgentStatus::default() }
    }

    #[test]
    fn a_state_that_changes_without_end_is_told_now_and_then() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let told = runtime.expect("a runtime").block_on(async {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let board = Board::new();
            board.sessions(vec![SessionStatus::default()], &[]);
            let reporting = tokio::spawn(report(ours.into_split().1, board.subscribe()));
            let counting = tokio::spawn(async move {
                let mut reader = Reader::new(theirs);
                let mut told = 0_u32;
                while let Ok(Some(FromInside { .. })) = reader.next().await {
                    told += 1;
                }
                told
            });
            for round in 0..400 {
                let state = match round % 2 {
                    0 => State::Idle(AgentIdle {}),
                    _ => State::Working(AgentWorking::default()),
                };
                board.agent("", agent(state, 0));
                sleep(Duration::from_millis(2)).await;
            }
            reporting.abort();
            counting.await.expect("no panic")
        });
        assert!((AT_ONCE..AT_ONCE + 100).contains(&told), "{told} of 400");
    }

    #[test]
    fn an_agents_state_is_waited_for_and_its_details_are_not() {
        let status = |state: State, subagents| {
            let agent = Some(agent(state, subagents));
            let session = SessionStatus { agent, ..SessionStatus::default() };
            standing(&Status { sessions: vec![session], ..Status::default() })
        };
        let working = || State::Working(AgentWorking { phase: 1, tool: None });
        assert_eq!(status(working(), 0), status(State::Working(AgentWorking::default()), 3));
        assert_ne!(status(working(), 0), status(State::Idle(AgentIdle {}), 0));
    }
}
