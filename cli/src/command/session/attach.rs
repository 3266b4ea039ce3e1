//! `warren session attach`.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::Args;

use super::target;
use crate::{
    app::App,
    error::{Error, Outcome},
    terminal::{
        attach::{self, Viewer, Visit},
        detach::DetachKeys,
    },
};

/// How long a dropped connection may take to come back where nothing was said.
const PATIENCE: Duration = Duration::from_secs(120);

/// Arguments of `session attach`.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// client/workspace/session, client/workspace, or a bare name that fits one.
    session: String,
    /// Look only: nothing that is typed goes in.
    #[arg(long, short)]
    read_only: bool,
    /// The keys that leave, with commas between them, or none.
    #[arg(
        long,
        value_name = "KEYS",
        default_value = "ctrl-],d",
        value_parser = DetachKeys::parse,
        env = "WARREN_DETACH_KEYS",
        hide_env_values = true
    )]
    detach_keys: DetachKeys,
}

pub(crate) async fn run(app: &App, attach: &Attach) -> Outcome {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(Error::usage("session attach needs a terminal")
            .why("stdin or stdout is not one")
            .next("warren workspace exec WORKSPACE -- COMMAND runs a program without one"));
    }
    let mut api = app.api()?;
    let target = target::find(&mut api, &attach.session).await?;
    let viewer = Viewer {
        workspace: target.workspace,
        session: target.session,
        keys: attach.detach_keys.clone(),
        read_only: attach.read_only,
        patience: app.timeout().unwrap_or(PATIENCE),
    };
    match attach::run(&mut api, &viewer).await? {
        Visit::Ended(code) => {
            let address = format!("{}/{}", viewer.workspace, viewer.session);
            app.output.talk(&format!("{address} ended with exit code {code}"));
            Ok(code)
        }
        Visit::Left => {
            app.output.talk("detached; it runs on");
            Ok(0)
        }
        Visit::Signalled(code) => {
            app.output.talk("detached; it runs on");
            Ok(code)
        }
    }
}
