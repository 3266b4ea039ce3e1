//! `warren session explain`.

use clap::Args;
use warren_common::Limits;
use warren_proto::{
    convert::explanation,
    pb::inside::v1::{Explain as Open, open},
};

use super::{sessions_of, target};
use crate::{
    app::App,
    error::{Error, Kind, Outcome},
    terminal::stream::{Event, Repeat, Stream},
    view::evidence::Explained,
};

/// Arguments of `session explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// client/workspace/session, client/workspace, or a bare name that fits one.
    session: String,
}

pub(crate) async fn run(app: &App, explain: &Explain) -> Outcome {
    let mut api = app.api()?;
    let target = target::find(&mut api, &explain.session).await?;
    // ages are counted by the coordinators' clock
    let now = sessions_of(&mut api, &target.workspace).await?.now;
    let open = open::What::Explain(Open { session: target.session.clone() });
    let mut stream = Stream::open(&mut api, &target.workspace, (open, Repeat::Allowed)).await?;
    let address = target.address();
    let mut answer = Vec::new();
    loop {
        match stream.next().await {
            Event::Stdout(bytes) => {
                if answer.len() + bytes.len() > Limits::INSIDE_MESSAGE_BYTES {
                    return Err(unreadable(&address, "it is longer than any may be"));
                }
                answer.extend_from_slice(&bytes);
            }
            Event::Stderr(_) => {}
            Event::Exited { .. } => break,
            Event::Refused(error) => return Err(error),
            Event::Lost(why) => {
                let message = format!("the connection to {address} broke");
                let error = Error::new(Kind::Unreachable, "CONNECTION_LOST", message);
                return Err(error.why(why).next(format!("warren session explain {address}")));
            }
        }
    }
    let said = explanation(&answer).map_err(|error| unreadable(&address, &error.to_string()))?;
    let explained = Explained::new(address, said);
    app.output.object(&explained, &explained.address, || explained.text(now))?;
    Ok(0)
}

fn unreadable(address: &str, why: &str) -> Error {
    let message = format!("the explanation of {address} cannot be read");
    Error::new(Kind::Failed, "INCOMPLETE_ANSWER", message)
        .why(why)
        .next("warren version shows whether the workspace's node is of another version")
}
