//! `warren workspace exec`.

use std::io::{self, IsTerminal as _};

use clap::Args;
use warren_common::Limits;
use warren_proto::pb::inside::v1 as inside;

use crate::{
    app::App,
    error::{Error, Outcome},
    terminal::{
        exec::{self, Program},
        here,
    },
};

/// Arguments of `workspace exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Pass stdin on.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Run it in a terminal of its own; needs one here.
    #[arg(short = 't', long)]
    tty: bool,
    /// client/workspace, a bare name that fits one, or an id.
    workspace: String,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    argv: Vec<String>,
}

pub(crate) async fn run(app: &App, exec: &Exec) -> Outcome {
    let size: usize = exec.argv.iter().map(|argument| argument.len() + 1).sum();
    if size > Limits::EXEC_BYTES {
        return Err(Error::usage(format!(
            "the command line has {size} bytes, the limit is {}",
            Limits::EXEC_BYTES
        ))
        .next("send long input over stdin with -i"));
    }
    if exec.tty && !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(Error::usage("exec -t needs a terminal")
            .why("stdin or stdout is not one")
            .next(format!("warren workspace exec -i {} -- …", exec.workspace)));
    }
    let terminal = if exec.tty { Some(here()) } else { None };
    let open = inside::Exec { argv: exec.argv.clone(), terminal };
    let program = Program { workspace: exec.workspace.clone(), open, stdin: exec.stdin };
    exec::run(&mut app.api()?, program).await
}
