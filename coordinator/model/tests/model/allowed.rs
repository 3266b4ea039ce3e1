//! What clients are allowed: what changes, what is recorded, what nodes are told, and the bounds.

use std::collections::BTreeSet;

use warren_common::{Bytes, ClientName, Limits, Revision, spec::Destination};
use warren_model::{
    AuditRecord, Command, Refusal, RefusalCode,
    command::{ChangeAllowed, DeleteClient},
    event::EventKind,
    node_spec,
};

use crate::make::{World, client, create_workspace, node, person, spec};

fn destinations(texts: &[&str]) -> BTreeSet<Destination> {
    texts.iter().map(|text| text.parse().expect("a destination")).collect()
}

fn change(allow: &[&str], disallow: &[&str]) -> Command {
    let (allow, disallow) = (destinations(allow), destinations(disallow));
    Command::ChangeAllowed(ChangeAllowed { client: client(1), allow, disallow })
}

fn recorded(world: &mut World, command: Command) -> Option<AuditRecord> {
    let envelope = world.envelope(person(), command);
    let effect = world.apply(&envelope);
    effect.result.expect("it is allowed");
    let name: ClientName = "acme".parse().expect("a name");
    let events: Vec<EventKind> = effect.events.into_iter().map(|event| event.kind).collect();
    let expected = effect.audit.iter().map(|_| EventKind::ClientUpdated(client(1), name.clone()));
    assert_eq!(events, expected.collect::<Vec<_>>());
    effect.audit
}

fn refused(world: &mut World, command: Command) -> Refusal {
    world.refused(command)
}

#[test]
fn destinations_are_allowed_and_closed_and_each_change_is_on_record() {
    let mut world = World::new();
    let told = |record: Option<AuditRecord>| record.map(|one| (one.action, one.detail));
    let pair = |action: &str, detail: &str| Some((action.to_owned(), detail.to_owned()));
    let two = ["10.1.2.0/24:5432", "192.168.7.3:53/udp"];
    let first = recorded(&mut world, change(&two, &[]));
    assert_eq!(told(first), pair("client.allow", "10.1.2.0/24:5432/tcp, 192.168.7.3/32:53/udp"));
    assert_eq!(recorded(&mut world, change(&two[..1], &[])), None, "as it was");
    let second = recorded(&mut world, change(&["10.9.0.0/16:22"], &two[..1]));
    let detail = "10.9.0.0/16:22/tcp; closed: 10.1.2.0/24:5432/tcp";
    assert_eq!(told(second), pair("client.allow", detail));
    let third = recorded(&mut world, change(&[], &["10.9.0.0/16:22", two[1]]));
    let detail = "10.9.0.0/16:22/tcp, 192.168.7.3/32:53/udp";
    assert_eq!(told(third), pair("client.disallow", detail));
    assert!(world.state.allowed.is_empty(), "no client is named without reason");
}

#[test]
fn what_can_never_be_allowed_and_what_is_not_is_refused() {
    let mut world = World::new();
    let metadata = refused(&mut world, change(&["169.254.169.254:80"], &[]));
    assert_eq!(metadata.code, RefusalCode::InvalidSpec);
    assert!(metadata.message.contains("metadata"), "{}", metadata.message);
    let everything = refused(&mut world, change(&["0.0.0.0/0:443"], &[]));
    assert_eq!(everything.code, RefusalCode::InvalidSpec);
    let both = refused(&mut world, change(&["10.0.0.0/8:1"], &["10.0.0.0/8:1"]));
    assert_eq!(both.code, RefusalCode::InvalidSpec);
    let missing = refused(&mut world, change(&[], &["10.0.0.0/8:1"]));
    assert_eq!(missing.code, RefusalCode::NotFound);
    assert!(missing.message.contains("not allowed 10.0.0.0/8:1/tcp"), "{}", missing.message);
}

#[test]
fn a_client_is_allowed_as_many_as_the_limit_and_no_more() {
    let mut world = World::new();
    let texts: Vec<String> = (1..=Limits::ALLOWED + 1).map(|n| format!("10.0.0.1:{n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    world.must(change(&texts[..Limits::ALLOWED], &[]));
    let over = refused(&mut world, change(&texts[Limits::ALLOWED..], &[]));
    assert_eq!(over.code, RefusalCode::LimitReached);
    world.must(change(&texts[Limits::ALLOWED..], &texts[..1]));
}

#[test]
fn a_stale_revision_is_refused_and_a_deleted_client_leaves_nothing() {
    let mut world = World::new();
    world.must(change(&["10.0.0.1:1"], &[]));
    let mut envelope = world.envelope(person(), change(&["10.0.0.1:2"], &[]));
    envelope.if_revision = Some(Revision(1));
    let effect = world.apply(&envelope);
    assert_eq!(effect.result.expect_err("stale").code, RefusalCode::RevisionMismatch);
    world.must(Command::DeleteClient(DeleteClient { client: client(1) }));
    assert!(world.state.allowed.is_empty());
}

#[test]
fn a_node_is_told_of_the_clients_of_its_workspaces_alone() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    world.must(change(&["10.0.0.1:1"], &[]));
    assert!(node_spec(&world.state, node(1), 1).allowed.is_empty());
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    world.settle();
    let told = node_spec(&world.state, node(1), 1).allowed;
    assert_eq!(told, [(client(1), destinations(&["10.0.0.1:1"]))].into());
}
