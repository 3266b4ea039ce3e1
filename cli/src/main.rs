//! `warren`: the command line.
//!
//! Reads arguments, runs one command, prints what went wrong and ends with the exit code of its
//! kind. `args` says what can be asked, `command` does it, `view` and `render` print it.

mod api;
mod app;
mod args;
mod command;
mod context;
mod error;
mod follow;
mod progress;
mod render;
mod terminal;
mod usage;
mod value;
mod view;

use std::{
    io::{self, Write as _},
    process,
};

use clap::Parser as _;

use crate::{
    app::App,
    args::Cli,
    error::{Error, Kind},
    render::Format,
};

fn main() {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => process::exit(usage::explain(&error).into()),
    };
    let app = App::new(&cli.global);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(command::run(&app, cli.noun)),
        Err(error) => Err(Error::pipe("starting the runtime", &error)),
    };
    let code = match outcome {
        Ok(code) => code,
        Err(error) => {
            say(&app, &error);
            error.kind.code()
        }
    };
    // not a return: a thread may still wait for stdin, and nothing else is left to do
    process::exit(code.into());
}

/// Prints an error to stderr: JSON where data is JSON, silence where the reader went away.
fn say(app: &App, error: &Error) {
    if error.kind == Kind::BrokenPipe {
        return;
    }
    let text = match app.output.format {
        Format::Json => error.json(),
        Format::Table | Format::Yaml | Format::Name => error.text(app.output.colour),
    };
    // where stderr is gone nobody is left to be told
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
