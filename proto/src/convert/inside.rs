//! What PID 1 of a workspace is told, and what it tells. Built without the `grpc` feature too.

use warren_common::{
    Limits,
    browser::BrowserStatus,
    spec::{SessionSpec, WorkspaceSpec},
    status::{ServiceObserved, SessionObserved, StartupStep},
};

use super::{InvalidMessage, browser::browsers, convert_all, parse};
use crate::pb::inside::v1 as pb;

/// The whole picture of a workspace as its PID 1 sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InsideStatus {
    /// The steps inside, in their order.
    pub steps: Vec<StartupStep>,
    /// Every step has ended and no required one failed.
    pub started: bool,
    /// The sessions, by name.
    pub sessions: Vec<SessionObserved>,
    /// What is kept up beside them.
    pub services: Vec<ServiceObserved>,
    /// The browsers, the running ones first.
    pub browsers: Vec<BrowserStatus>,
}

impl From<InsideStatus> for pb::Status {
    fn from(status: InsideStatus) -> Self {
        Self {
            steps: status.steps.into_iter().map(Into::into).collect(),
            started: status.started,
            sessions: status.sessions.into_iter().map(Into::into).collect(),
            services: status.services.into_iter().map(Into::into).collect(),
            browsers: status.browsers.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::Status> for InsideStatus {
    type Error = InvalidMessage;
    fn try_from(status: pb::Status) -> Result<Self, InvalidMessage> {
        Ok(Self {
            steps: convert_all("steps", status.steps, Limits::STEPS_INSIDE)?,
            started: status.started,
            sessions: convert_all("sessions", status.sessions, Limits::SESSIONS)?,
            services: convert_all("services", status.services, Limits::SERVICES)?,
            browsers: browsers(status.browsers),
        })
    }
}

impl From<&WorkspaceSpec> for pb::Setup {
    /// Takes the timeouts of [`Limits`].
    fn from(spec: &WorkspaceSpec) -> Self {
        let millis = |duration: std::time::Duration| duration.as_millis() as u64;
        let (git_name, git_email) = match &spec.git_identity {
            Some(identity) => (identity.name.clone(), identity.email.clone()),
            None => (String::new(), String::new()),
        };
        Self {
            repo: spec.repo.as_ref().map(|repo| repo.as_str().to_owned()).unwrap_or_default(),
            branch: spec.branch.clone().unwrap_or_default(),
            folder: spec.repo.as_ref().map(|repo| repo.folder()).unwrap_or_default(),
            git_name,
            git_email,
            setup_script: spec.setup.clone().unwrap_or_default(),
            clone_timeout_ms: millis(Limits::CLONE_TIMEOUT),
            setup_timeout_ms: millis(Limits::SETUP_TIMEOUT),
            sessions: spec.sessions.iter().cloned().map(Into::into).collect(),
            request_id: String::new(),
            ..Self::default()
        }
    }
}

impl From<SessionSpec> for pb::Session {
    fn from(session: SessionSpec) -> Self {
        let command = session.command.unwrap_or_default();
        Self { name: session.name.into(), command, ..Self::default() }
    }
}

impl TryFrom<pb::Session> for SessionSpec {
    type Error = InvalidMessage;
    fn try_from(session: pb::Session) -> Result<Self, InvalidMessage> {
        let command = Some(session.command).filter(|command| !command.is_empty());
        Ok(Self { name: parse("name", &session.name)?, command })
    }
}
