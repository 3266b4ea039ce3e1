//! One program that is kept up: started, probed until it answers, started again when it ends.

use std::{
    io,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use warren_proto::pb::inside::v1::{ServiceState, ServiceStatus};

use super::find;
use crate::{
    board::Board,
    clock,
    journal::event,
    program::{self, RunError},
    reaper::{Reaper, Worth},
    text::{Piece, Pieces},
};

/// Between two looks whether a program answers.
const LOOK: Duration = Duration::from_millis(50);
/// For a program to answer.
const READY: Duration = Duration::from_secs(20);
/// From an end to the next start: doubled each time up to the most, anew after a good run.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MOST: Duration = Duration::from_secs(60);
/// A run that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(60);
/// The code of one that a SIGKILL ended.
const KILLED: i32 = 137;
/// No program is ended for its age.
const EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A program that may be kept up, and how it stands.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    binary: &'static str,
    board: Board,
    reaper: Reaper,
    /// Whether it answers now.
    answers: Arc<watch::Sender<bool>>,
    told: Mutex<ServiceStatus>,
}

impl Program {
    /// Returns a program that was not started; it is on the board at once.
    pub(crate) fn new(
        name: &'static str,
        binary: &'static str,
        (board, reaper): (&Board, &Reaper),
        answers: &Arc<watch::Sender<bool>>,
    ) -> Self {
        let program = Self {
            name,
            binary,
            board: board.clone(),
            reaper: reaper.clone(),
            answers: Arc::clone(answers),
            told: Mutex::default(),
        };
        match find(binary) {
            Some(_) => program.idle(""),
            None => program.absent(),
        }
        program
    }

    /// Says that the image does not have it, or that it is switched off there.
    pub(crate) fn absent(&self) {
        let reason = match find(self.binary) {
            Some(_) => "the image switches the display off".to_owned(),
            None => format!("the image has no {}", self.binary),
        };
        self.stand(ServiceState::Absent, &reason);
    }

    /// Says that it does not run and need not.
    pub(crate) fn idle(&self, reason: &str) {
        self.stand(ServiceState::Idle, reason);
    }

    fn stand(&self, state: ServiceState, reason: &str) {
        // no code path panics while it holds it
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.state() != state {
            told.since_unix_ms = clock::now_ms();
        }
        told.name = self.name.to_owned();
        told.reason = warren_common::status::reason(reason);
        told.restarts += u32::from(state == ServiceState::Failed);
        told.set_state(state);
        self.answers.send_replace(state == ServiceState::Running);
        self.board.service(told.clone());
    }
}

/// Keeps a program up until the workspace stops; it is killed where the call is dropped. `start`
/// makes its command line, `ready` says whether it answers.
pub(crate) async fn keep(
    program: &Program,
    start: impl Fn() -> io::Result<Command>,
    ready: impl Fn() -> bool,
) {
    if find(program.binary).is_none() {
        return program.absent();
    }
    let mut pause = PAUSE_FIRST;
    loop {
        program.stand(ServiceState::Starting, "");
        let since = Instant::now();
        let why = run(program, &start, &ready).await;
        if program.reaper.is_closed() {
            return;
        }
        if since.elapsed() > GOOD {
            pause = PAUSE_FIRST;
        }
        let why = format!("{why}; it is started again in {}", clock::span(pause));
        event!("{}: {why}", program.name);
        program.stand(ServiceState::Failed, &why);
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

/// Runs it once and returns why it runs no more.
async fn run(
    program: &Program,
    start: &impl Fn() -> io::Result<Command>,
    ready: &impl Fn() -> bool,
) -> String {
    let command = match start() {
        Ok(command) => command,
        Err(error) => return error.to_string(),
    };
    let (mut pieces, mut last) = (Pieces::default(), String::new());
    let mut keep_last = |piece: Piece| {
        if !piece.text.is_empty() {
            last = piece.text;
        }
    };
    let running = program::follow(&program.reaper, (command, Worth::Kept), EVER, |bytes| {
        pieces.feed(bytes, &mut keep_last);
    });
    let probing = async {
        let until = Instant::now() + READY;
        while !ready() {
            if Instant::now() > until {
                return;
            }
            sleep(LOOK).await;
        }
        program.stand(ServiceState::Running, "");
        std::future::pending().await
    };
    let ended = tokio::select! {
        ended = running => ended,
        () = probing => return format!("it did not answer within {}", clock::span(READY)),
    };
    match ended {
        // who is killed says nothing of it
        Ok(code) if last.is_empty() || code == KILLED => format!("it ended with code {code}"),
        Ok(code) => format!("it ended with code {code}: {last}"),
        Err(
            error @ (RunError::Start { .. } | RunError::Read { .. } | RunError::Timeout { .. }),
        ) => error.to_string(),
    }
}

/// A program that runs while somebody wants it; clones want the same one.
#[derive(Debug, Clone)]
pub(crate) struct Demand {
    users: Arc<watch::Sender<usize>>,
    /// Whether it answers now.
    pub(super) answers: Arc<watch::Sender<bool>>,
}

/// Somebody wants it, until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease(Arc<watch::Sender<usize>>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.send_modify(|users| *users -= 1);
    }
}

impl Demand {
    /// Returns a demand that nobody has.
    pub(crate) fn new() -> Self {
        Self { users: Arc::new(watch::Sender::new(0)), answers: Arc::default() }
    }

    /// Wants it, and waits until it answers; none where it does not in time.
    pub(crate) async fn want(&self, limit: Duration) -> Option<Lease> {
        self.users.send_modify(|users| *users += 1);
        let lease = Lease(Arc::clone(&self.users));
        let mut answers = self.answers.subscribe();
        let answered = timeout(limit, answers.wait_for(|up| *up)).await;
        answered.is_ok_and(|answer| answer.is_ok()).then_some(lease)
    }

    /// Keeps the program up while it is wanted, and for `idle` longer.
    pub(crate) async fn serve(
        &self,
        program: &Program,
        idle: Duration,
        (start, ready): (impl Fn() -> io::Result<Command>, impl Fn() -> bool),
    ) {
        let mut users = self.users.subscribe();
        loop {
            // the sender is ours
            let _ = users.wait_for(|users| *users > 0).await;
            tokio::select! {
                () = keep(program, &start, &ready) => return,
                () = unwanted(users.clone(), idle) => program.idle("nobody looks"),
            }
        }
    }
}

/// Returns once nobody has wanted it for `idle`.
async fn unwanted(mut users: watch::Receiver<usize>, idle: Duration) {
    loop {
        let _ = users.wait_for(|users| *users == 0).await;
        if timeout(idle, users.wait_for(|users| *users > 0)).await.is_err() {
            return;
        }
    }
}
