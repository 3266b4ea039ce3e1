//! What is done to sessions, as 0.3 writes it into the log and into checkpoints.

use std::{collections::BTreeMap, sync::Arc};

use warren_common::{
    Generation, Revision, SessionName, Timestamp,
    spec::{AgentProgram, Permissions, SessionOrder, SessionProgram, SessionWish},
};
use warren_model::{
    Command, Outcome, Principal,
    command::{
        SessionCommand,
        session::{AdoptSessions, CreateSession, NamedSession, RestartSession, TakeOverSessions},
    },
    state::{SessionRecord, session::MadeSession},
};

use super::{
    check,
    commands::{node, workspace},
    file::{Strings, golden},
    written,
};

fn name() -> SessionName {
    "review".parse().expect("a name")
}

fn program() -> SessionProgram {
    SessionProgram {
        agent: Some(AgentProgram::Codex),
        permissions: Permissions::Ask,
        command: "--model m".to_owned(),
        branch: Some("warren/review".to_owned()),
        prompt: "look\nclosely".to_owned(),
    }
}

fn adopt() -> AdoptSessions {
    let order = SessionOrder {
        name: name(),
        life: 7,
        run: 9,
        conversation: 8,
        wish: SessionWish::Stop,
        program: program(),
    };
    AdoptSessions {
        workspace: workspace(1),
        node: node(1),
        generation: Generation(5),
        told: Revision(6),
        sessions: vec![order],
    }
}

#[test]
fn what_is_taken_over_with_its_incarnation_is_read_and_still_written_alike() {
    let take = TakeOverSessions { incarnation: 4, adopt: adopt() };
    let take = Command::Session(Box::new(SessionCommand::TakeOver(take)));
    let kept = golden("v0.3-take-over.txt", &[written("take-over", &take)].into());
    check("take-over", &kept, &take);
}

#[test]
fn what_is_done_to_sessions_is_read_and_still_written_alike() {
    let named = || NamedSession { workspace: workspace(1), name: name() };
    let create = CreateSession { workspace: workspace(1), name: None, program: program() };
    let restart = RestartSession { workspace: workspace(1), name: name(), fresh: true };
    let commands = [
        ("create", SessionCommand::Create(create)),
        ("stop", SessionCommand::Stop(named())),
        ("restart", SessionCommand::Restart(restart)),
        ("delete", SessionCommand::Delete(named())),
        ("adopt", SessionCommand::Adopt(adopt())),
    ];
    let commands = commands.map(|(name, one)| (name, Command::Session(Box::new(one))));
    let outcome = Outcome::Session { workspace: workspace(1), life: 7 };
    let by = Principal::Person("ada".to_owned());
    let made = MadeSession { program: program(), by, at: Timestamp(1_764_000_000_000) };
    let record = SessionRecord {
        made: Some(Box::new(made)),
        life: 7,
        run: 9,
        conversation: 8,
        wish: SessionWish::Delete,
        revision: warren_common::Revision(11),
    };
    let records = Arc::new(BTreeMap::from([(name(), record)]));
    let mut today: Strings = commands.iter().map(|(name, one)| written(name, one)).collect();
    today.extend([written("outcome", &outcome), written("records", &records)]);
    let kept = golden("v0.3-sessions.txt", &today);
    assert_eq!(kept.len(), today.len(), "nothing is skipped");
    for (name, command) in &commands {
        check(name, &kept, command);
    }
    check("outcome", &kept, &outcome);
    check("records", &kept, &records);
}
