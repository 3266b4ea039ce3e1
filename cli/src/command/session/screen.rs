//! `warren session send` and `session read`: without a terminal, for scripts and other agents.

use std::io::{self, Read as _};

use clap::Args;
use serde::Serialize;
use warren_common::{Limits, status::clean};
use warren_proto::pb::inside::v1::{Read as Shown, Send as Typed, open};

use super::target::{self, Target};
use crate::{
    api::Api,
    app::App,
    error::{Error, Kind, Outcome},
    terminal::stream::{Event, Repeat, Stream},
};

/// What is taken of a session's text, whatever comes.
const TEXT_BYTES: usize = 4 * 1024 * 1024;

/// Arguments of `session send`.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// client/workspace/session, client/workspace, or a bare name that fits one.
    session: String,
    /// The text; - reads it from stdin.
    #[arg(allow_hyphen_values = true)]
    text: Option<String>,
    /// Press this key after the text, by its name in tmux; as often as wanted.
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Leave the text in the input line: do not press Enter after it.
    #[arg(long, conflicts_with = "keys")]
    no_enter: bool,
}

/// Arguments of `session read`.
#[derive(Debug, Args)]
pub(crate) struct Read {
    /// client/workspace/session, client/workspace, or a bare name that fits one.
    session: String,
    /// So many lines above the screen too.
    #[arg(long, value_name = "LINES", default_value_t = 0)]
    history: u32,
}

/// What a session shows.
#[derive(Debug, Serialize)]
struct Screen {
    address: String,
    /// From the top, without the empty ones at the end.
    lines: Vec<String>,
}

pub(crate) async fn send(app: &App, send: &Send) -> Outcome {
    let text = match send.text.as_deref() {
        Some("-") => from_stdin()?,
        Some(text) => text.to_owned(),
        None => String::new(),
    };
    let mut keys = send.keys.clone();
    if text.is_empty() && keys.is_empty() {
        return Err(Error::usage("there is nothing to type")
            .next("give a text, - for stdin, or --key Enter"));
    }
    if keys.is_empty() && !send.no_enter {
        keys.push("Enter".to_owned());
    }
    let mut api = app.api()?;
    let target = target::find(&mut api, &send.session).await?;
    let open = open::What::Send(Typed { session: target.session.clone(), text, keys });
    // twice would type twice
    collect(&mut api, &target, (open, Repeat::Never)).await?;
    app.output.talk(&format!("typed into {}", target.address()));
    Ok(0)
}

pub(crate) async fn read(app: &App, read: &Read) -> Outcome {
    if read.history > Limits::READ_LINES {
        return Err(Error::usage(format!("--history is at most {}", Limits::READ_LINES))
            .next("attach and scroll back, or have the program write to a file"));
    }
    let mut api = app.api()?;
    let target = target::find(&mut api, &read.session).await?;
    let open = Shown { session: target.session.clone(), history: read.history };
    let text = collect(&mut api, &target, (open::What::Read(open), Repeat::Allowed)).await?;
    let text = clean(&String::from_utf8_lossy(&text), TEXT_BYTES);
    let lines = text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect();
    let screen = Screen { address: target.address(), lines };
    app.output.object(&screen, &screen.address, || screen.text())?;
    Ok(0)
}

impl Screen {
    fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Opens a stream that ends by itself and returns its output.
async fn collect(
    api: &mut Api,
    target: &Target,
    what: (open::What, Repeat),
) -> Result<Vec<u8>, Error> {
    let mut stream = Stream::open(api, &target.workspace, what).await?;
    let mut output = Vec::new();
    loop {
        match stream.next().await {
            Event::Stdout(bytes) => {
                let room = TEXT_BYTES.saturating_sub(output.len()).min(bytes.len());
                output.extend_from_slice(&bytes[..room]);
            }
            Event::Stderr(_) => {}
            Event::Exited { .. } => return Ok(output),
            Event::Refused(error) => return Err(error),
            Event::Lost(why) => {
                let address = target.address();
                let message = format!("the connection to {address} broke");
                return Err(Error::new(Kind::Unreachable, "CONNECTION_LOST", message)
                    .why(why)
                    .next(format!("warren session read {address} shows what the session has")));
            }
        }
    }
}

/// Reads the text; one byte more than the limit is enough to refuse it. The last line's end is
/// the file's, and Enter follows.
fn from_stdin() -> Result<String, Error> {
    let limit = u64::try_from(Limits::SEND_BYTES).unwrap_or(u64::MAX) + 1;
    let mut text = Vec::new();
    let read = io::stdin().lock().take(limit).read_to_end(&mut text);
    read.map_err(|error| Error::pipe("reading stdin", &error))?;
    if text.len() > Limits::SEND_BYTES {
        let message =
            format!("the text has more than {} bytes, which is the limit", Limits::SEND_BYTES);
        return Err(Error::usage(message)
            .next("put it into a file in the workspace and send the file's name"));
    }
    let text = String::from_utf8(text).map_err(|_| Error::usage("the text is not UTF-8"))?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}
