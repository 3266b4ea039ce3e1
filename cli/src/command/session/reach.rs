//! Waiting until a session is as it was asked to be.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{sessions_of, target::Target};
use crate::{
    api::Api,
    app::App,
    error::{Error, Kind, Outcome},
    value::show_duration,
    view::session::Session,
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// This run was begun, or a later one.
    Runs(u64),
    /// Nothing of it runs.
    Stopped,
    /// It is no more.
    Gone,
}

/// Waits unless it is not wanted, and prints the session as it is then.
pub(super) async fn finish(
    app: &App,
    api: &mut Api,
    (target, goal): (&Target, Goal),
    (session, no_wait): (Session, bool),
) -> Outcome {
    let session = match no_wait {
        true => Some(session),
        false => reached(app, api, target, goal).await?,
    };
    match session {
        Some(session) => app.output.object(&session, &session.address, || session.text())?,
        None => app.output.talk(&format!("session {} is gone", target.address())),
    }
    Ok(0)
}

/// Waits for the goal; returns the session as it is then, none where it is gone.
///
/// # Errors
/// It cannot be reached, was deleted meanwhile, or not within the time there is.
pub(super) async fn reached(
    app: &App,
    api: &mut Api,
    target: &Target,
    goal: Goal,
) -> Result<Option<Session>, Error> {
    let address = target.address();
    let (patience, begun) = (app.wait(), Instant::now());
    let mut told = String::new();
    loop {
        let listed = sessions_of(api, &target.workspace).await?;
        let session = listed.items.into_iter().find(|one| one.address == address);
        let Some(session) = session else {
            return match goal {
                Goal::Runs(_) => {
                    let message = format!("session {address} was deleted meanwhile");
                    Err(Error::new(Kind::NotFound, "SESSION_NOT_FOUND", message))
                }
                Goal::Stopped | Goal::Gone => Ok(None),
            };
        };
        if goal.is_reached(&session) {
            return failed(session).map(Some);
        }
        if session.waits() {
            app.output.talk(&format!("{address} comes up with its workspace, which does not run"));
            return Ok(Some(session));
        }
        let stands = session.seen.status();
        if stands != told {
            app.output.talk(&format!("  {address}: {stands}"));
            told = stands;
        }
        if begun.elapsed() >= patience {
            return Err(late(&session, goal, patience));
        }
        sleep(LOOK).await;
    }
}

impl Goal {
    fn is_reached(self, session: &Session) -> bool {
        match self {
            Self::Runs(run) => session.seen.run >= run && session.seen.state != "starting",
            Self::Stopped => session.seen.state != "running" && session.seen.state != "stopping",
            Self::Gone => false,
        }
    }
}

/// A session that could not be begun is there, and is no success.
fn failed(session: Session) -> Result<Session, Error> {
    match (&session.seen.problem, session.seen.state) {
        (Some(problem), "failed") => {
            let address = &session.address;
            let error =
                Error::new(Kind::Failed, "SESSION_FAILED", format!("{address} does not run"));
            Err(error.why(problem.clone()).next(format!(
                "mend that and warren session restart {address}, or warren session delete {address}"
            )))
        }
        (Some(_) | None, _) => Ok(session),
    }
}

fn late(session: &Session, goal: Goal, patience: Duration) -> Error {
    let address = &session.address;
    let verb = match goal {
        Goal::Runs(_) => "was not begun",
        Goal::Stopped => "is not stopped",
        Goal::Gone => "is not gone",
    };
    let message = format!("{address} {verb} within {}", show_duration(patience));
    let why = match session.observed_live {
        true => format!(
            "it is {}; a workspace that an older version started takes no orders",
            session.seen.status()
        ),
        false => "its node is not heard".to_owned(),
    };
    Error::new(Kind::Timeout, "TIMEOUT", message).why(why).next(format!(
        "it goes on: warren session show {address}; warren workspace restart brings its workspace up to date"
    ))
}
