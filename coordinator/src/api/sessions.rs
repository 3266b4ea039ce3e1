//! Which sessions a list shows, and in which order.

use warren_common::agent::{AgentStatus, Attention, AttentionKey, StateName};
use warren_proto::{
    error::ApiError,
    pb::admin::v1::{self as pb, AgentStateName, SessionOrder},
};

use super::{
    Moment, errors,
    page::key,
    place::{self, Place},
};

/// After the keys of all sessions with agents.
const NO_AGENT: &str = "~";

/// What a list of sessions is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) place: Place,
    /// Empty for all.
    states: Vec<StateName>,
    needs_me: bool,
    pub(super) order: SessionOrder,
}

impl Wanted {
    /// Reads a request.
    ///
    /// # Errors
    /// It names what there is not.
    pub(super) fn read(
        moment: &Moment,
        request: &pb::ListSessionsRequest,
    ) -> Result<Self, ApiError> {
        let order = SessionOrder::try_from(request.order)
            .map_err(|_| errors::invalid("order", "this coordinator knows no such order"))?;
        Ok(Self {
            place: Place::read(moment, (&request.workspace, &request.client, &request.node))?,
            states: states(&request.states)?,
            needs_me: request.needs_me,
            order,
        })
    }

    /// Whether a session is among them.
    pub(super) fn holds(&self, session: &pb::Session) -> bool {
        if self.states.is_empty() && !self.needs_me {
            return true;
        }
        let Some(agent) = agent(session) else { return false };
        let state = self.states.is_empty() || self.states.contains(&agent.state.name());
        state && (!self.needs_me || Attention::of(&agent).needs_person())
    }

    /// Returns the key by which a session stands in the list.
    pub(super) fn key(&self, session: &pb::Session) -> String {
        let name = session.observed.as_ref().map(|one| one.name.as_str()).unwrap_or_default();
        let address = key(&[&session.client, &session.workspace, name]);
        match self.order {
            SessionOrder::Unspecified => address,
            SessionOrder::Attention => {
                let place = agent(session).map_or_else(|| NO_AGENT.to_owned(), attention);
                key(&[&place, &address])
            }
        }
    }
}

/// Returns a text that sorts who needs a person first, and of equals who has for longest.
fn attention(agent: AgentStatus) -> String {
    let AttentionKey { attention, since } = AttentionKey::of(&agent);
    format!("{:02x}{:016x}", u8::MAX - attention as u8, since.0.0)
}

fn agent(session: &pb::Session) -> Option<AgentStatus> {
    let agent = session.observed.as_ref()?.agent.clone()?;
    AgentStatus::try_from(agent).ok()
}

fn states(numbers: &[i32]) -> Result<Vec<StateName>, ApiError> {
    place::states(numbers, |number| {
        let name = AgentStateName::try_from(number).ok()?;
        StateName::try_from(name).ok()
    })
}

#[cfg(test)]
mod tests {
    use warren_common::{
        Timestamp,
        agent::{
            AgentKind, AgentState, Confidence, Exit, Failure, FailureKind, Flags, Meter, Source,
            Wait, WaitKind,
        },
    };
    use warren_proto::pb::node::v1::SessionObserved;

    use super::*;
    use crate::api::page::Page;

    fn status(state: AgentState, since: u64) -> AgentStatus {
        AgentStatus {
            kind: AgentKind::Claude,
            state,
            since: Timestamp(since),
            last_activity: Timestamp(since),
            source: Source::Registry,
            confidence: Confidence::Exact,
            evidence: Timestamp(since),
            flags: Flags::default(),
            subagents: 0,
            meter: Meter::default(),
        }
    }

    fn waiting() -> AgentState {
        AgentState::Waiting(Wait {
            kind: WaitKind::Permission,
            text: "npm publish".to_owned(),
            options: Vec::new(),
            since: Timestamp(1),
        })
    }

    fn working() -> AgentState {
        AgentState::Working { phase: None, tool: None }
    }

    fn session(workspace: &str, agent: Option<AgentStatus>) -> pb::Session {
        pb::Session {
            client: "acme".to_owned(),
            workspace: workspace.to_owned(),
            observed: Some(SessionObserved {
                name: "main".to_owned(),
                running: true,
                agent: agent.map(Into::into),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn all() -> Vec<pb::Session> {
        let failed = Failure { kind: FailureKind::Other, text: String::new(), retry_at: None };
        let killed = Exit { oom: true, ..Exit::default() };
        let stalled = Flags { stalled: true, unseen: false };
        vec![
            session("a-shell", None),
            session("b-idle", Some(status(AgentState::Idle, 5))),
            session("c-works", Some(status(working(), 5))),
            session("d-stalled", Some(AgentStatus { flags: stalled, ..status(working(), 5) })),
            session("e-crashed", Some(status(AgentState::Exited(killed), 5))),
            session("f-failed", Some(status(AgentState::Error(failed), 5))),
            session("g-waits", Some(status(waiting(), 50))),
            session("h-waits-longer", Some(status(waiting(), 7))),
        ]
    }

    fn shown(wanted: &Wanted, sessions: &[pb::Session]) -> Vec<String> {
        let held = sessions.iter().filter(|one| wanted.holds(one));
        let mut keyed: Vec<_> = held.map(|one| (wanted.key(one), one.workspace.clone())).collect();
        keyed.sort();
        keyed.into_iter().map(|(_, workspace)| workspace).collect()
    }

    #[test]
    fn who_needs_a_person_comes_first_and_who_has_for_longest_before() {
        let order = SessionOrder::Attention;
        let wanted = Wanted { order, ..Wanted::default() };
        let expected = [
            "h-waits-longer",
            "g-waits",
            "f-failed",
            "e-crashed",
            "d-stalled",
            "c-works",
            "b-idle",
            "a-shell",
        ];
        assert_eq!(shown(&wanted, &all()), expected);
        let plain = shown(&Wanted::default(), &all());
        assert!(plain.is_sorted() && plain.len() == 8, "{plain:?}");
    }

    #[test]
    fn filters_leave_who_is_asked_for() {
        let needs_me = Wanted { needs_me: true, ..Wanted::default() };
        let five = ["d-stalled", "e-crashed", "f-failed", "g-waits", "h-waits-longer"];
        assert_eq!(shown(&needs_me, &all()), five);
        let states = vec![StateName::Working, StateName::Idle];
        let some = Wanted { states: states.clone(), ..Wanted::default() };
        assert_eq!(shown(&some, &all()), ["b-idle", "c-works", "d-stalled"]);
        let both = Wanted { states, needs_me: true, ..Wanted::default() };
        assert_eq!(shown(&both, &all()), ["d-stalled"]);
        assert!(super::states(&[3, 0]).is_err() && super::states(&[99]).is_err());
        assert_eq!(super::states(&[3]).expect("a state"), [StateName::Waiting]);
    }

    #[test]
    fn pages_by_attention_join_to_the_whole() {
        let order = SessionOrder::Attention;
        let wanted = Wanted { order, ..Wanted::default() };
        let (mut token, mut joined) = (String::new(), Vec::new());
        loop {
            let page = Page::read(3, &token).expect("its own token");
            let mut keyed: Vec<_> = all().into_iter().map(|one| (wanted.key(&one), one)).collect();
            keyed.sort_by(|one, other| one.0.cmp(&other.0));
            let paged = page.cut(keyed.into_iter(), |one| one);
            joined.extend(paged.items.into_iter().map(|one| one.workspace));
            token = paged.next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(joined, shown(&wanted, &all()));
    }
}
