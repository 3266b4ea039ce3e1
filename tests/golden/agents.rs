//! What agents do, on the wire: as 0.2 wrote it.

#![allow(clippy::needless_update, reason = "a field that is added later was never sent by 0.2")]

use prost::Message;
use warren_common::agent::{AgentState, AgentStatus, StateName};
use warren_proto::{
    convert::explanation,
    pb::{
        admin::v1 as admin,
        inside::v1::{self as inside, agent_state::State},
        node::v1 as node,
    },
};

use super::file::{Strings, golden};

fn waiting() -> inside::AgentStatus {
    let wait = inside::AgentWaiting {
        kind: inside::AgentWaitKind::Permission.into(),
        text: "npm publish".to_owned(),
        options: vec!["Yes".to_owned(), "No".to_owned()],
        since_unix_ms: 1_800_000_000_001,
        ..Default::default()
    };
    inside::AgentStatus {
        kind: "claude".to_owned(),
        state: Some(inside::AgentState { state: Some(State::Waiting(wait)), ..Default::default() }),
        unknown: true,
        since_unix_ms: 1_800_000_000_002,
        last_activity_unix_ms: 1_800_000_000_003,
        source: inside::AgentSource::Hook.into(),
        event: "PermissionRequest".to_owned(),
        derived: true,
        evidence_unix_ms: 1_800_000_000_004,
        unseen: true,
        stalled: true,
        subagents: 2,
        ..Default::default()
    }
}

fn session() -> admin::Session {
    admin::Session {
        client: "acme".to_owned(),
        workspace: "web".to_owned(),
        node: "n1".to_owned(),
        observed: Some(node::SessionObserved {
            name: "main".to_owned(),
            command: "claude".to_owned(),
            running: true,
            agent: Some(waiting()),
            ..Default::default()
        }),
        observed_unix_ms: 1_800_000_000_005,
        observed_live: true,
        ..Default::default()
    }
}

fn told() -> admin::WatchResponse {
    let gone = admin::SessionGone {
        client: "acme".to_owned(),
        workspace: "web".to_owned(),
        session: "tests".to_owned(),
        ..Default::default()
    };
    let sessions = admin::Sessions {
        sessions: vec![session()],
        gone: vec![gone],
        begins: true,
        complete: true,
        served_unix_ms: 1_800_000_000_006,
        ..Default::default()
    };
    let kind = Some(admin::watch_response::Kind::Sessions(sessions));
    admin::WatchResponse { kind, ..Default::default() }
}

fn list() -> admin::ListSessionsRequest {
    admin::ListSessionsRequest {
        workspace: "acme/web".to_owned(),
        page_size: 20,
        page_token: "next".to_owned(),
        states: vec![admin::AgentStateName::Waiting.into(), admin::AgentStateName::Error.into()],
        needs_me: true,
        client: "acme".to_owned(),
        node: "n1".to_owned(),
        order: admin::SessionOrder::Attention.into(),
        ..Default::default()
    }
}

fn watch() -> admin::WatchRequest {
    admin::WatchRequest { sessions: true, no_events: true, ..Default::default() }
}

fn explained() -> inside::AgentExplanation {
    let evidence = inside::AgentEvidence {
        at_unix_ms: 1_800_000_000_007,
        source: inside::AgentSource::Registry.into(),
        said: "waiting".to_owned(),
        verdict: "set waiting".to_owned(),
        decides: true,
        ..Default::default()
    };
    inside::AgentExplanation {
        status: Some(waiting()),
        evidence: vec![evidence],
        ..Default::default()
    }
}

fn explain() -> inside::Open {
    let what = inside::open::What::Explain(inside::Explain { session: "main".to_owned() });
    inside::Open { what: Some(what), ..Default::default() }
}

#[test]
fn agents_of_0_2_are_read_and_still_written_alike() {
    let today: Strings = [
        ("admin watched sessions".to_owned(), told().encode_to_vec()),
        ("admin list sessions".to_owned(), list().encode_to_vec()),
        ("admin watch sessions".to_owned(), watch().encode_to_vec()),
        ("inside explanation".to_owned(), explained().encode_to_vec()),
        ("inside explain".to_owned(), explain().encode_to_vec()),
    ]
    .into();
    let kept = golden("v0.2-agents.txt", &today);
    assert_eq!(kept, today);
    let read = |name: &str| &kept[name][..];
    assert_eq!(admin::WatchResponse::decode(read("admin watched sessions")), Ok(told()));
    assert_eq!(admin::ListSessionsRequest::decode(read("admin list sessions")), Ok(list()));
    assert_eq!(admin::WatchRequest::decode(read("admin watch sessions")), Ok(watch()));
    assert_eq!(explanation(read("inside explanation")), Ok(explained()));
    assert_eq!(inside::Open::decode(read("inside explain")), Ok(explain()));
    // And they still mean what they meant.
    let status = AgentStatus::try_from(waiting()).expect("a valid status");
    let AgentState::Unknown { last } = &status.state else { panic!("{status:?}") };
    assert_eq!(last.name(), StateName::Waiting);
}
