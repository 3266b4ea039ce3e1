//! `attach`: a session in our terminal, for as long as the person stays, whatever the connection
//! does. The session lives on the node; when the connection drops it is opened again.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout, timeout_at};
use warren_proto::pb::inside::v1::{Attach, open};

use super::{
    detach::{DetachKeys, Detacher},
    here,
    input::Input,
    pipe,
    pump::{End, OnSignal, Pump, Signals, exit_code, lost},
    raw::Raw,
    size,
    stream::{Repeat, Stream},
};
use crate::{
    api::Api,
    error::{Error, Kind},
    value::show_duration,
};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the other side may take to notice that we leave.
const GOODBYE: Duration = Duration::from_millis(500);

/// What to show.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    /// The workspace's address or id.
    pub(crate) workspace: String,
    /// The session's name.
    pub(crate) session: String,
    /// The keys that leave.
    pub(crate) keys: DetachKeys,
    /// Nothing that is typed goes in.
    pub(crate) read_only: bool,
    /// How long to try to come back when the connection drops.
    pub(crate) patience: Duration,
}

/// How a visit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// The session's program ended with this code.
    Ended(u8),
    /// We left; it runs on.
    Left,
    /// A signal sent us away; it runs on.
    Signalled(u8),
}

/// Shows a session until the person leaves or it ends. The terminal is as before afterwards.
///
/// # Errors
/// Where it cannot be opened, or the connection does not come back in time.
pub(crate) async fn run(api: &mut Api, viewer: &Viewer) -> Result<Visit, Error> {
    let mut stream = open(api, viewer).await?;
    let mut signals = Signals::catch()?;
    let raw = Raw::enter().map_err(|error| Error::pipe("taking over the terminal", &error))?;
    let mut input = Input::begin().map_err(|error| Error::pipe("reading stdin", &error))?;
    let mut keys = Detacher::new(&viewer.keys);
    loop {
        let pump = Pump {
            stream: &mut stream,
            input: Some(&mut input),
            keys: Some(&mut keys),
            raw: Some(&raw),
            mute: viewer.read_only,
            close: false,
            on_signal: OnSignal::Leave,
        };
        match pump.run(&mut signals).await? {
            End::Exited(code) => return Ok(Visit::Ended(exit_code(code))),
            End::Detached => return Ok(Visit::Left),
            End::Left => {
                goodbye(stream, &raw).await;
                return Ok(Visit::Left);
            }
            End::Signal(number) => return Ok(Visit::Signalled(exit_code(128 + number))),
            End::Refused(error) => return Err(error),
            End::Lost(why) => {
                drop(stream);
                let mut back = Back { api, viewer, why };
                match back.again((&mut input, &mut keys, &mut signals)).await? {
                    Returned::Stream(new) => stream = *new,
                    Returned::Visit(visit) => return Ok(visit),
                }
            }
        }
    }
}

async fn open(api: &mut Api, viewer: &Viewer) -> Result<Stream, Error> {
    let attach = Attach {
        session: viewer.session.clone(),
        terminal: Some(here()),
        read_only: viewer.read_only,
    };
    Stream::open(api, &viewer.workspace, (open::What::Attach(attach), Repeat::Allowed)).await
}

/// Lets what was typed last arrive and shows what is still written, for a moment.
async fn goodbye(stream: Stream, raw: &Raw) {
    let mut leaving = stream.leave();
    let rest = async {
        while let Some(bytes) = leaving.output().await {
            raw.watch(&bytes);
            if pipe::stdout(&bytes).await.is_err() {
                return;
            }
        }
    };
    // whatever was not tidied is reset when the terminal is restored
    let _ = timeout(GOODBYE, rest).await;
}

/// Coming back after the connection broke.
struct Back<'a> {
    api: &'a mut Api,
    viewer: &'a Viewer,
    why: String,
}

enum Returned {
    Stream(Box<Stream>),
    Visit(Visit),
}

impl Back<'_> {
    /// Opens the session again, with growing pauses, until it works, the time is up or the person
    /// goes.
    async fn again(
        &mut self,
        (input, keys, signals): (&mut Input, &mut Detacher, &mut Signals),
    ) -> Result<Returned, Error> {
        let until = Instant::now() + self.viewer.patience;
        let mut pause = FIRST_PAUSE;
        loop {
            self.note();
            tokio::select! {
                opened = self.attempt(pause, until) => match opened {
                    Ok(stream) => return Ok(Returned::Stream(Box::new(stream))),
                    Err(error) if error.kind != Kind::Unreachable => return Err(error),
                    Err(error) => self.why = error.why.unwrap_or(error.message),
                },
                () = leaves(input, keys) => return Ok(Returned::Visit(Visit::Left)),
                number = signals.next() => {
                    return Ok(Returned::Visit(Visit::Signalled(exit_code(128 + number))));
                }
            }
            if Instant::now() >= until {
                return Err(self.gave_up());
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&mut self, pause: Duration, until: Instant) -> Result<Stream, Error> {
        sleep(pause).await;
        self.api.disconnect();
        match timeout_at(until, open(self.api, self.viewer)).await {
            Ok(opened) => opened,
            Err(_) => Err(lost(&self.viewer.workspace, self.why.clone())),
        }
    }

    /// Says what goes on in the last line, over whatever the session shows there.
    fn note(&self) {
        let (columns, rows) = size();
        let leave = self.viewer.keys.spelled().map(|keys| format!(" ({keys} leaves)"));
        let text = format!(
            " connection lost, the session runs on; reconnecting{} … ",
            leave.unwrap_or_default()
        );
        let text: String = text.chars().take(columns.into()).collect();
        let mut out = io::stdout().lock();
        // it is only a note
        let _ = write!(out, "\x1b7\x1b[{rows};1H\x1b[7m{text}\x1b[0m\x1b[K\x1b8");
        let _ = out.flush();
    }

    fn gave_up(&self) -> Error {
        let (workspace, session) = (&self.viewer.workspace, &self.viewer.session);
        let patience = show_duration(self.viewer.patience);
        lost(&format!("{workspace}/{session}"), self.why.clone())
            .next(format!("the session runs on; warren session attach {workspace}/{session} (tried for {patience})"))
    }
}

/// Returns once the person types the detach keys or Ctrl-C, or the terminal goes away. What else
/// is typed meanwhile is dropped: nobody can see where it would go.
async fn leaves(input: &mut Input, keys: &mut Detacher) {
    while let Some(bytes) = input.next().await {
        let (pass, left) = keys.feed(&bytes);
        if left || pass.contains(&0x03) {
            return;
        }
    }
}
