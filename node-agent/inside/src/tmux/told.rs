//! What is told of sessions: what was seen of them beside what was asked.

use warren_common::{
    Limits,
    status::{clean, reason},
};
use warren_proto::pb::inside::v1::{
    AgentError, AgentErrorKind, AgentSource, AgentState, AgentStatus, SessionStatus, agent_state,
};

use super::{Seen, Wanted, keeper::place, list::COMMAND_SHOWN_BYTES};

/// The exit code of what was not begun, as a shell has it for a program that is not there.
const NOT_BEGUN: i32 = 127;

/// Returns the sessions that were seen, in their order, then those that could not be begun.
pub(super) fn to_statuses(wanted: &[Wanted], seen: Vec<Seen>) -> Vec<SessionStatus> {
    let there: Vec<String> = seen.iter().map(|session| session.name.clone()).collect();
    let status = |session: Seen| {
        let asked = wanted.get(place(wanted, &session.name));
        let command = match asked.map(|wanted| wanted.command.as_str()) {
            Some("") => "bash".to_owned(),
            Some(command) => clean(command, COMMAND_SHOWN_BYTES),
            None => session.command,
        };
        // its program may have ended, and not yet what it started
        let exit = session.exit.filter(|_| asked.is_none_or(|wanted| !wanted.about.ending));
        let seen = SessionStatus {
            name: session.name,
            command,
            running: exit.is_none(),
            exit_code: exit.unwrap_or_default(),
            started_unix_ms: session.created.saturating_mul(1000),
            active_unix_ms: session.active.saturating_mul(1000),
            viewers: session.viewers,
            panes: session.panes.iter().map(|pane| pane.process).collect(),
            ..SessionStatus::default()
        };
        asked.map_or(seen.clone(), |wanted| with_about(seen, wanted))
    };
    let mut statuses: Vec<SessionStatus> = seen.into_iter().map(status).collect();
    let lost = |wanted: &&Wanted| wanted.about.failed.is_some() && !there.contains(&wanted.name);
    statuses.extend(wanted.iter().filter(lost).map(failed));
    statuses.truncate(Limits::SESSIONS);
    statuses
}

fn with_about(seen: SessionStatus, wanted: &Wanted) -> SessionStatus {
    let (launch, about) = (&wanted.launch, &wanted.about);
    let known = launch.book.conversation(&wanted.name, launch.life, launch.conversation);
    SessionStatus {
        run: about.run,
        branch: clean(&about.branch, Limits::LABEL_BYTES),
        worktree: clean(&about.worktree, Limits::WORKTREE_BYTES),
        conversation: known.filter(|_| launch.program.agent.is_some()).unwrap_or_default(),
        resumed: about.resumed,
        problem: reason(&about.problem),
        ..seen
    }
}

/// A session that was not begun: its agent, where it has one, is in error.
fn failed(wanted: &Wanted) -> SessionStatus {
    let at = wanted.about.failed.unwrap_or_default();
    let error = AgentError {
        kind: AgentErrorKind::Other.into(),
        text: clean(&wanted.about.problem, Limits::AGENT_TEXT_BYTES),
        retry_at_unix_ms: None,
    };
    let agent = wanted.launch.program.agent.map(|agent| AgentStatus {
        kind: agent.to_string(),
        state: Some(AgentState { state: Some(agent_state::State::Error(error)) }),
        since_unix_ms: at,
        last_activity_unix_ms: at,
        evidence_unix_ms: at,
        source: AgentSource::Process.into(),
        unseen: true,
        ..AgentStatus::default()
    });
    let seen = SessionStatus {
        name: wanted.name.clone(),
        command: clean(&wanted.command, COMMAND_SHOWN_BYTES),
        exit_code: NOT_BEGUN,
        started_unix_ms: at,
        active_unix_ms: at,
        agent,
        ..SessionStatus::default()
    };
    with_about(seen, wanted)
}
