//! `warren session wait`.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, timeout_at};
use warren_common::agent::StateName;
use warren_proto::{error::reason, pb::admin::v1 as pb};

use super::{State, sessions_of, target};
use crate::{
    app::App,
    error::{Error, Kind, Outcome},
    follow::{Seen, Watching},
    value::show_duration,
    view::session::Session,
};

/// Arguments of `session wait`.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// client/workspace/session, client/workspace, or a bare name that fits one.
    session: String,
    /// The states to wait for. A session without an agent has exited when its program has.
    #[arg(
        long,
        value_name = "STATES",
        value_enum,
        value_delimiter = ',',
        default_values_t = [State::Waiting, State::Idle, State::Error, State::Exited]
    )]
    until: Vec<State>,
}

pub(crate) async fn run(app: &App, wait: &Wait) -> Outcome {
    let patience = app.wait();
    let deadline = Instant::now() + patience;
    let mut api = app.api()?;
    let target = target::find(&mut api, &wait.session).await?;
    let address = target.address();
    // a workspace that there is not is told by the list, and by no watch
    let listed = sessions_of(&mut api, &target.workspace).await?;
    let mut last = listed.items.into_iter().find(|one| one.address == address);
    if last.is_none() {
        let message = format!("no session {address}");
        let error = Error::new(Kind::NotFound, reason::SESSION_NOT_FOUND, message);
        return Err(error.next(format!("warren session list {}", target.workspace)));
    }
    let request = pb::WatchRequest { workspace: target.workspace, ..Default::default() };
    let mut watching = Watching::<Session>::new(request, app.timeout(), &app.output);
    loop {
        if let Some(session) = last.as_ref().filter(|one| wait.has_come(one)) {
            return show(app, session);
        }
        let seen = timeout_at(deadline, watching.next(&mut api)).await;
        let Ok(seen) = seen else { return Err(wait.late(&address, last.as_ref(), patience)) };
        match seen? {
            Seen::Stands(session) if session.address == address => last = Some(*session),
            Seen::Gone(gone) if gone == address => {
                let message = format!("session {address} is there no more");
                let error = Error::new(Kind::NotFound, reason::SESSION_NOT_FOUND, message);
                return Err(error.next(format!("warren workspace show {}", wait.session)));
            }
            Seen::Stands(_) | Seen::Gone(_) | Seen::All => {}
        }
    }
}

impl Wait {
    fn has_come(&self, session: &Session) -> bool {
        let reached = session.seen.reached();
        self.until.iter().any(|state| reached == Some(StateName::from(*state)))
    }

    fn late(&self, address: &str, last: Option<&Session>, patience: Duration) -> Error {
        let states: Vec<&str> =
            self.until.iter().map(|state| StateName::from(*state).as_str()).collect();
        let message = format!(
            "{address} did not come to {} within {}",
            states.join(" or "),
            show_duration(patience)
        );
        let error = Error::new(Kind::Timeout, "TIMEOUT", message);
        let error = match last {
            Some(session) => error.why(format!("it is {}", session.seen.status())),
            None => error,
        };
        error.next(format!("warren session explain {address}"))
    }
}

fn show(app: &App, session: &Session) -> Outcome {
    let text = || format!("{}: {}\n", session.address, session.seen.status());
    app.output.object(session, &session.address, text)?;
    Ok(0)
}
