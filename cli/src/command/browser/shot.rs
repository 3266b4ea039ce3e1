//! `warren browser shot`.

use std::{fs, path::PathBuf};

use clap::Args;
use serde::Serialize;
use warren_common::Limits;
use warren_proto::pb::inside::v1::{Shot as Open, open};

use super::target;
use crate::{
    api::Api,
    app::App,
    error::{Error, Kind, Outcome},
    terminal::stream::{Event, Repeat, Stream},
    view::browser::Browser,
};

/// How a PNG and a JPEG begin.
const FORMATS: [(&[u8], &str); 2] = [(b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg")];

/// Arguments of `browser shot`.
#[derive(Debug, Args)]
pub(crate) struct Shot {
    /// client/workspace/ID, or client/workspace where there is one.
    browser: String,
    /// The file that the picture goes into; - for stdout.
    file: PathBuf,
    /// The page, by the beginning of its id; the one that navigated last without it.
    #[arg(long, value_name = "ID", default_value = "")]
    page: String,
}

/// A picture that was taken.
#[derive(Debug, Serialize)]
struct Taken {
    address: String,
    /// `png` or `jpeg`.
    format: &'static str,
    bytes: usize,
    file: PathBuf,
}

pub(crate) async fn run(app: &App, shot: &Shot) -> Outcome {
    let mut api = app.api()?;
    let (browser, _) = target::find(&mut api, &shot.browser).await?;
    let picture = take(&mut api, &browser, &shot.page).await?;
    let begins = |(begin, _): &&(&[u8], &str)| picture.starts_with(begin);
    let Some((_, format)) = FORMATS.iter().find(begins) else {
        let message = format!("what came of {} is no picture", browser.address);
        return Err(Error::new(Kind::Failed, "INCOMPLETE_ANSWER", message)
            .next("warren version shows whether the workspace's node is of another version"));
    };
    if shot.file.as_os_str() == "-" {
        app.output.bytes(&picture)?;
        return Ok(0);
    }
    fs::write(&shot.file, &picture).map_err(|error| {
        let message = format!("{} cannot be written", shot.file.display());
        Error::new(Kind::Failed, "FILE", message).why(error.to_string())
    })?;
    let (address, file) = (browser.address, shot.file.clone());
    let taken = Taken { address, format, bytes: picture.len(), file };
    app.output.object(&taken, &taken.address, || {
        format!("{}: {} ({} bytes)\n", taken.file.display(), taken.format, taken.bytes)
    })?;
    Ok(0)
}

async fn take(api: &mut Api, browser: &Browser, page: &str) -> Result<Vec<u8>, Error> {
    let open = Open { browser: browser.seen.id.clone(), page: page.to_owned() };
    let workspace = format!("{}/{}", browser.client, browser.workspace);
    let mut stream =
        Stream::open(api, &workspace, (open::What::Shot(open), Repeat::Allowed)).await?;
    let mut picture = Vec::new();
    loop {
        match stream.next().await {
            Event::Stdout(bytes) => {
                if picture.len() + bytes.len() > Limits::SHOT_BYTES {
                    let message = format!("the picture of {} is too large", browser.address);
                    return Err(Error::new(Kind::Failed, "INCOMPLETE_ANSWER", message));
                }
                picture.extend_from_slice(&bytes);
            }
            Event::Stderr(_) => {}
            Event::Exited { .. } => return Ok(picture),
            Event::Refused(error) => return Err(error),
            Event::Lost(why) => {
                let message = format!("the connection to {} broke", browser.address);
                let error = Error::new(Kind::Unreachable, "CONNECTION_LOST", message);
                return Err(error.why(why).next("take the picture again"));
            }
        }
    }
}
