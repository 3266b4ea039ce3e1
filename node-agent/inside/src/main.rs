//! `warren-inside`: PID 1 of a workspace.
//!
//! It dials the node agent, runs the startup steps, keeps tmux and its sessions, serves viewers and
//! programs, reports status, reaps, and ends everything cleanly. One thread, no privileges, no
//! secrets; it works the same when it is not PID 1, which is how the tests run it. It decides
//! nothing: what to run comes from the node agent, and restarting a workspace is its business.
//! Read [`step`] for the start, [`stream`] for people, [`agent`] for what runs for them,
//! [`browser`] for what that opens, [`reaper`] for processes.

mod agent;
mod board;
mod browser;
mod clock;
mod config;
mod credential;
mod files;
mod journal;
mod login;
mod processes;
mod program;
mod pty;
mod reaper;
mod service;
mod session;
mod step;
mod stop;
mod stream;
mod text;
mod tmux;
mod uplink;
mod victim;
mod view;
mod websocket;
mod wire;

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use warren_common::Limits;

use crate::{
    agent::Agents,
    board::Board,
    browser::Browsers,
    config::Config,
    journal::event,
    reaper::Reaper,
    service::Services,
    session::{Means, Sessions, book::Book},
    step::Startup,
    stream::Streams,
    tmux::{Keeper, Tmux},
    uplink::Orders,
    view::{control::Control, viewers::Viewers},
};

/// Left of the engine's own grace for what comes after ours.
const STOP_MARGIN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // before anything that touches standard output: it is the shell's
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next() {
        if victim::is_shell(&name) {
            return victim::become_shell(&name, arguments);
        }
        if let Some(program) = login::stands_for(&name) {
            return login::stand_in(program, arguments);
        }
    }
    match arguments.next().as_deref().and_then(|word| word.to_str()) {
        Some("hook") => return agent::hook::report(arguments),
        Some("status-line") => return agent::hook::status_line(),
        Some("git-credential") => return credential::answer(arguments),
        Some("with-secrets") => return login::with_secrets(arguments),
        Some(_) | None => {}
    }
    journal::init();
    let config = match Config::from_environment() {
        Ok(config) => config,
        Err(error) => {
            event!("{error}; this program is started by a Warren node agent");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(run(config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            event!("cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> io::Result<()> {
    event!("warren-inside {} starts", env!("CARGO_PKG_VERSION"));
    let config = Arc::new(config);
    let board = Board::new();
    let reaper = Reaper::new(&config.runtime).with_display(service::display_name(&config));
    reaper.start()?;
    let services = Services::new(&config, &board, &reaper);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hints = signal(SignalKind::user_defined1())?;
    let agents = Agents::new(&config, board.clone());
    let browsers = Browsers::new(board.clone(), reaper.clone(), &config.state());
    let keeper = Keeper::new(Tmux::new(&config, reaper.clone()), board.clone(), agents.clone());

    let (setup_sender, setup) = watch::channel(None);
    let (stream_sender, stream_orders) = mpsc::channel(Limits::STREAMS_PER_WORKSPACE);
    let (shutdown_sender, mut shutdown) = mpsc::channel(1);
    let orders = Orders { setup: setup_sender, streams: stream_sender, shutdown: shutdown_sender };
    let startup = Startup {
        config: Arc::clone(&config),
        board: board.clone(),
        reaper: reaper.clone(),
        keeper: keeper.clone(),
        services: services.clone(),
    };
    let typing = Arc::default();
    let sessions = Sessions::new(Means {
        config: Arc::clone(&config),
        board: board.clone(),
        reaper: reaper.clone(),
        keeper: keeper.clone(),
        agents: agents.clone(),
        book: Book::open(&config),
        typing: Arc::clone(&typing),
        git: Arc::default(),
    });
    let streams = Streams {
        config: Arc::clone(&config),
        board: board.clone(),
        reaper: reaper.clone(),
        keeper: keeper.clone(),
        agents: agents.clone(),
        browsers: browsers.clone(),
        setup: setup.clone(),
        permits: stream::permits(),
        typing,
        connects: stream::connects(),
        services: services.clone(),
        control: Control::default(),
        viewers: Viewers::new(),
    };
    let mut parts = JoinSet::new();
    parts.spawn(agents.run());
    parts.spawn(services.run());
    parts.spawn(browsers.run());
    let keeping = parts.spawn(keeper.run(hints));
    parts.spawn(startup.run(sessions, setup));
    parts.spawn(streams.clone().run(stream_orders));
    parts.spawn(uplink::run(config, board, orders));

    let grace = tokio::select! {
        _ = terminate.recv() => Limits::STOP_GRACE.saturating_sub(STOP_MARGIN),
        _ = interrupt.recv() => Limits::STOP_GRACE.saturating_sub(STOP_MARGIN),
        asked = shutdown.recv() => Duration::from_millis(asked.unwrap_or_default().grace_ms),
    };
    event!("stopping: every program has {} to end", clock::span(grace));
    reaper.close();
    keeping.abort();
    end(&streams, grace).await;
    event!("stopped");
    Ok(())
}

/// Ends everything within `grace`: views first, so that what they hold down on the display is let go
/// while there is one.
async fn end(streams: &Streams, grace: Duration) {
    let since = Instant::now();
    streams.browsers.close();
    streams.viewers.end(Limits::VIEW_RELEASE).await;
    stop::everything(grace.saturating_sub(since.elapsed())).await;
    streams.closed(Duration::from_secs(1)).await;
}
