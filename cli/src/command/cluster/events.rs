//! `warren cluster events`.

use clap::Args;

use crate::{app::App, error::Outcome, follow};

/// Arguments of `cluster events`.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The first revision to show; everything that is kept without it.
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,
    /// Go on with what happens, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

pub(crate) async fn run(app: &App, events: &Events) -> Outcome {
    follow::events(app, &mut app.api()?, (events.from.unwrap_or(0), events.watch)).await
}
