//! `warren workspace logs`.

use clap::Args;
use warren_proto::pb::inside::v1::{Logs as Open, open};

use crate::{
    app::App,
    error::{Error, Kind, Outcome},
    terminal::{
        pipe,
        stream::{Event, Repeat, Stream},
    },
};

/// Arguments of `workspace logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// client/workspace, a bare name that fits one, or an id.
    workspace: String,
    /// Go on with what comes.
    #[arg(short, long)]
    follow: bool,
    /// Only this many lines from the end.
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u32).range(1..))]
    tail: Option<u32>,
}

pub(crate) async fn run(app: &App, logs: &Logs) -> Outcome {
    let open = open::What::Logs(Open { follow: logs.follow, tail: logs.tail.unwrap_or(0) });
    let mut api = app.api()?;
    let mut stream = Stream::open(&mut api, &logs.workspace, (open, Repeat::Allowed)).await?;
    loop {
        match stream.next().await {
            Event::Stdout(bytes) => pipe::stdout(&bytes).await?,
            // the engine tells the streams apart; a log shows both, each where it belongs
            Event::Stderr(bytes) => pipe::stderr(&bytes).await?,
            Event::Exited { .. } => return Ok(0),
            Event::Refused(error) => return Err(error),
            Event::Lost(why) => {
                return Err(Error::new(
                    Kind::Unreachable,
                    "CONNECTION_LOST",
                    format!("the connection to the log of {} broke", logs.workspace),
                )
                .why(why)
                .next(format!("warren workspace logs -f --tail 20 {}", logs.workspace)));
            }
        }
    }
}
