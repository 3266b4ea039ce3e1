//! A PID 1 of before sessions could be ordered: it takes every session that it does not know for one
//! to begin with, in the checkout, and runs on so until its workspace is restarted. It is told none
//! of those, and what is missing is said of them.

use warren_common::{
    Limits, Timestamp,
    status::{SessionObserved, SessionRun, SessionState},
};
use warren_proto::{convert::InsideStatus, pb::inside::v1 as pb};

/// What a person does about it.
const RESTART: &str = "the workspace's container was started by an older version that takes no \
                       orders of sessions: restart the workspace to get it";
/// The exit code of what was not begun, as a shell has it for a program that is not there.
const NOT_BEGUN: i32 = 127;

/// Returns what PID 1 is told of `setup`.
pub(super) fn told(setup: &pb::Setup, takes_orders: bool) -> pb::Setup {
    let mut told = setup.clone();
    if !takes_orders {
        told.ordered = false;
        told.stopped.clear();
        told.sessions.retain(is_of_spec);
    }
    told
}

/// Says of the sessions of `setup`, ordered at `at`, which are not so because nobody inside was told.
pub(super) fn explain((setup, at): (&pb::Setup, Timestamp), status: &mut InsideStatus) {
    let asked = setup.sessions.iter().filter(|session| !is_of_spec(session) || session.run > 0);
    for session in asked.chain(&setup.stopped) {
        let Ok(name) = session.name.parse() else { continue };
        let problem = RESTART.to_owned();
        if let Some(seen) = status.sessions.iter_mut().find(|seen| seen.name == name) {
            seen.run = Some(Box::new(SessionRun { problem, ..SessionRun::default() }));
            continue;
        }
        let run = SessionRun { run: session.run, problem, ..SessionRun::default() };
        let is_to_run = setup.sessions.iter().any(|wanted| wanted.name == session.name);
        if is_to_run && status.sessions.len() < Limits::SESSIONS {
            status.sessions.push(SessionObserved {
                name,
                command: session.command.clone(),
                state: SessionState::Exited { code: NOT_BEGUN },
                started: at,
                active: at,
                viewers: 0,
                panes: Vec::new(),
                killed: None,
                agent: None,
                run: Some(Box::new(run)),
            });
        }
    }
}

/// A session that was there from the beginning, and may have been asked to run anew since.
const fn is_of_spec(session: &pb::Session) -> bool {
    session.life == 0
}
