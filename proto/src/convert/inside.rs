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
            sessions: spec.orders().iter().map(Into::into).collect(),
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

#[cfg(test)]
mod tests {
    use warren_common::{
        Bytes,
        spec::{AgentProgram, Extras, Resources, SessionProgram},
    };

    use super::*;

    #[test]
    fn a_session_of_the_spec_is_told_with_all_that_it_is_and_an_older_reader_has_its_command_line()
    {
        let program = SessionProgram {
            agent: Some(AgentProgram::Claude),
            command: "--model 'a b'".to_owned(),
            branch: Some("fix".to_owned()),
            prompt: "look\nclosely".to_owned(),
            ..SessionProgram::default()
        };
        let main =
            SessionSpec { name: "main".parse().expect("a name"), command: Some(program.line()) };
        let dev =
            SessionSpec { name: "dev".parse().expect("a name"), command: Some("make".to_owned()) };
        let sessions = vec![(main.name.clone(), program.clone())];
        let spec = WorkspaceSpec {
            template: "agent@1".to_owned(),
            image: "agents:1".to_owned(),
            repo: None,
            branch: None,
            setup: Extras { sessions, ..Extras::default() }.before(None),
            git_identity: None,
            sessions: vec![main, dev],
            resources: Resources::with_memory(Bytes::gib(1)),
            placement: Default::default(),
            failover: Default::default(),
            labels: Default::default(),
        };
        let setup = pb::Setup::from(&spec);
        let told = &setup.sessions[0];
        assert!(!setup.ordered && told.life == 0 && told.run == 0);
        assert_eq!((told.agent.as_str(), told.arguments.as_str()), ("claude", "--model 'a b'"));
        assert_eq!((told.branch.as_str(), told.prompt.as_str()), ("fix", "look\nclosely"));
        assert_eq!(told.command, "claude --dangerously-skip-permissions --model 'a b'");
        let plain = &setup.sessions[1];
        assert_eq!((plain.agent.as_str(), plain.command.as_str()), ("", "make"));
    }
}
