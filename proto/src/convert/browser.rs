//! What a browser does. It comes from a workspace: every text is cleaned and cut, every list is cut.

use warren_common::{
    Bytes, Timestamp,
    browser::{
        BrowserEnd, BrowserState, BrowserStatus, Dialog, Engine, Launcher, Page, Source, fit,
    },
};

use super::{InvalidMessage, enumeration, parse, unspecified};
use crate::pb::inside::v1 as pb;

/// Reads the browsers of one workspace. One that cannot be read is none: it comes from a workspace,
/// or from a later version, and must not cost a node its whole report.
pub(super) fn browsers(browsers: Vec<pb::BrowserStatus>) -> Vec<BrowserStatus> {
    let read = browsers.into_iter().filter_map(|one| BrowserStatus::try_from(one).ok());
    fit(read.collect())
}

impl From<BrowserStatus> for pb::BrowserStatus {
    fn from(status: BrowserStatus) -> Self {
        let BrowserEnd { code, signal, oom, lost } = status.end;
        let ended = status.state.has_ended();
        Self {
            id: status.id.to_string(),
            session: status.session.map(String::from).unwrap_or_default(),
            launcher: pb::BrowserLauncher::from(status.launcher).into(),
            engine: pb::BrowserEngine::from(status.engine).into(),
            version: status.version,
            headless: status.headless,
            display: status.display,
            state: pb::BrowserState::from(status.state).into(),
            unknown: status.unknown,
            since_unix_ms: status.since.0,
            started_unix_ms: status.started.0,
            end: ended.then_some(pb::BrowserEnd { code, signal, oom, lost }),
            source: match status.source {
                Source::Process => pb::BrowserSource::Process,
                Source::DevTools => pb::BrowserSource::Devtools,
                Source::Window => pb::BrowserSource::Window,
            }
            .into(),
            blind: status.blind,
            evidence_unix_ms: status.evidence.0,
            pages: status.pages.into_iter().map(Into::into).collect(),
            more_pages: status.more_pages,
            memory_bytes: status.memory.0,
            processes: status.processes,
            renderers: status.renderers,
        }
    }
}

impl TryFrom<pb::BrowserStatus> for BrowserStatus {
    type Error = InvalidMessage;
    fn try_from(status: pb::BrowserStatus) -> Result<Self, InvalidMessage> {
        let pb::BrowserEnd { code, signal, oom, lost } = status.end.unwrap_or_default();
        let session = Some(status.session.as_str()).filter(|name| !name.is_empty());
        let read = Self {
            id: parse("id", &status.id)?,
            session: session.map(|name| parse("session", name)).transpose()?,
            launcher: pb::BrowserLauncher::try_from(status.launcher).unwrap_or_default().into(),
            engine: engine(status.engine)?,
            version: status.version,
            headless: status.headless,
            display: status.display,
            state: enumeration::<pb::BrowserState>("state", status.state)?.try_into()?,
            unknown: status.unknown,
            since: Timestamp(status.since_unix_ms),
            started: Timestamp(status.started_unix_ms),
            end: BrowserEnd { code, signal, oom, lost },
            source: match enumeration("source", status.source)? {
                pb::BrowserSource::Unspecified => return Err(unspecified("source")),
                pb::BrowserSource::Process => Source::Process,
                pb::BrowserSource::Devtools => Source::DevTools,
                pb::BrowserSource::Window => Source::Window,
            },
            blind: status.blind,
            evidence: Timestamp(status.evidence_unix_ms),
            pages: status.pages.into_iter().map(Into::into).collect(),
            more_pages: status.more_pages,
            memory: Bytes(status.memory_bytes),
            processes: status.processes,
            renderers: status.renderers,
        };
        Ok(read.bounded())
    }
}

impl From<Page> for pb::BrowserPage {
    fn from(page: Page) -> Self {
        Self {
            id: page.id,
            url: page.url,
            title: page.title,
            loading: page.loading,
            navigated_unix_ms: page.navigated.unwrap_or_default().0,
            errors: page.errors,
            last_error: page.last_error,
            dialog: page.dialog.map(|one| pb::BrowserDialog { kind: one.kind, text: one.text }),
            crashed: page.crashed,
            hung_unix_ms: page.hung.unwrap_or_default().0,
        }
    }
}

impl From<pb::BrowserPage> for Page {
    fn from(page: pb::BrowserPage) -> Self {
        let moment = |unix_ms| Some(Timestamp(unix_ms)).filter(|at| at.0 > 0);
        Self {
            id: page.id,
            url: page.url,
            title: page.title,
            loading: page.loading,
            navigated: moment(page.navigated_unix_ms),
            errors: page.errors,
            last_error: page.last_error,
            dialog: page.dialog.map(|one| Dialog { kind: one.kind, text: one.text }),
            crashed: page.crashed,
            hung: moment(page.hung_unix_ms),
        }
    }
}

impl From<BrowserState> for pb::BrowserState {
    fn from(state: BrowserState) -> Self {
        match state {
            BrowserState::Starting => Self::Starting,
            BrowserState::Running => Self::Running,
            BrowserState::Hung => Self::Hung,
            BrowserState::Crashed => Self::Crashed,
            BrowserState::Closed => Self::Closed,
        }
    }
}

impl TryFrom<pb::BrowserState> for BrowserState {
    type Error = InvalidMessage;
    fn try_from(state: pb::BrowserState) -> Result<Self, InvalidMessage> {
        Ok(match state {
            pb::BrowserState::Unspecified => return Err(unspecified("state")),
            pb::BrowserState::Starting => Self::Starting,
            pb::BrowserState::Running => Self::Running,
            pb::BrowserState::Hung => Self::Hung,
            pb::BrowserState::Crashed => Self::Crashed,
            pb::BrowserState::Closed => Self::Closed,
        })
    }
}

impl From<Engine> for pb::BrowserEngine {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Chromium => Self::Chromium,
            Engine::Firefox => Self::Firefox,
            Engine::WebKit => Self::Webkit,
        }
    }
}

fn engine(engine: i32) -> Result<Engine, InvalidMessage> {
    Ok(match enumeration("engine", engine)? {
        pb::BrowserEngine::Unspecified => return Err(unspecified("engine")),
        pb::BrowserEngine::Chromium => Engine::Chromium,
        pb::BrowserEngine::Firefox => Engine::Firefox,
        pb::BrowserEngine::Webkit => Engine::WebKit,
    })
}

impl From<Launcher> for pb::BrowserLauncher {
    fn from(launcher: Launcher) -> Self {
        match launcher {
            Launcher::Unknown => Self::Unspecified,
            Launcher::Mcp => Self::Mcp,
            Launcher::Test => Self::Test,
            Launcher::Script => Self::Script,
            Launcher::Manual => Self::Manual,
        }
    }
}

impl From<pb::BrowserLauncher> for Launcher {
    fn from(launcher: pb::BrowserLauncher) -> Self {
        match launcher {
            pb::BrowserLauncher::Unspecified => Self::Unknown,
            pb::BrowserLauncher::Mcp => Self::Mcp,
            pb::BrowserLauncher::Test => Self::Test,
            pb::BrowserLauncher::Script => Self::Script,
            pb::BrowserLauncher::Manual => Self::Manual,
        }
    }
}
