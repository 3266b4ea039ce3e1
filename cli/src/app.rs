//! What every command has at hand: output, contexts, deadlines.

use std::{
    env,
    io::{self, IsTerminal as _},
    sync::OnceLock,
    time::Duration,
};

use uuid::Uuid;
use warren_common::Limits;

use crate::{
    api::{self, Api},
    args::Global,
    context::Store,
    error::Error,
    render::Output,
};

/// How long `--wait` waits where nothing was said.
const WAIT: Duration = Duration::from_secs(600);

/// One run of the command line.
pub(crate) struct App {
    pub(crate) output: Output,
    context: Option<String>,
    timeout: Option<Duration>,
    /// The id of this run, where a change was asked under one.
    request: OnceLock<String>,
}

impl App {
    /// Takes over the global options.
    pub(crate) fn new(global: &Global) -> Self {
        let colour = !global.no_color
            && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && io::stderr().is_terminal();
        let output = Output { format: global.output, quiet: global.quiet, colour, as_of: None };
        Self {
            output,
            context: global.context.clone(),
            timeout: global.timeout,
            request: OnceLock::new(),
        }
    }

    /// Returns the context that was named with `--context`.
    pub(crate) fn named_context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// Returns how long a call may take, where that was said.
    pub(crate) const fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Returns how long `--wait` waits.
    pub(crate) fn wait(&self) -> Duration {
        self.timeout.unwrap_or(WAIT)
    }

    /// Returns the request id of this run's change, minted with the first asking unless one is
    /// `given`: calls that are prepared after it carry it.
    pub(crate) fn request_id(&self, given: Option<Uuid>) -> String {
        let made = || given.map_or_else(api::request_id, |id| id.hyphenated().to_string());
        let asked = self.request.get_or_init(made);
        // one that is given counts, even where calls carry another one already
        given.map_or_else(|| asked.clone(), |id| id.hyphenated().to_string())
    }

    /// Prepares calls to the cluster of the context in use.
    ///
    /// # Errors
    /// Where there is no context, or its files cannot be read.
    pub(crate) fn api(&self) -> Result<Api, Error> {
        let store = Store::locate()?;
        let (name, context) = store.choose(self.context.as_deref())?;
        let identity = store.identity(&name, &context)?;
        let folder = store.folder(&name)?;
        let api = Api::new(context, &identity, self.timeout, self.output.clone())?;
        Ok(api.renewing(folder, &identity).asked_as(&self.request_id(None)))
    }

    /// Remembers where the coordinators of the context in use are, so that any of them can be asked
    /// next time: what was known stays first, because from here it may be the only way.
    ///
    /// # Errors
    /// Where the contexts cannot be read or written.
    pub(crate) fn remember(&self, coordinators: Vec<String>) -> Result<(), Error> {
        let store = Store::locate()?;
        let (name, context) = store.choose(self.context.as_deref())?;
        let before = context.coordinators;
        let mut all = before.clone();
        all.extend(coordinators.into_iter().filter(|address| !before.contains(address)));
        all.truncate(Limits::ADDRESSES);
        if all == before {
            return Ok(());
        }
        let mut config = store.load()?;
        if let Some(context) = config.contexts.get_mut(&name) {
            context.coordinators = all;
        }
        store.save(&config)
    }
}
