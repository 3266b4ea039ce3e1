//! Labels of clients: what changes, what is recorded, and the bounds.

use std::collections::BTreeSet;

use warren_common::{Bytes, Limits, Revision, spec::Labels};
use warren_model::{
    AuditRecord, Command, Refusal, RefusalCode,
    command::{Availability, SetNodeAvailability, UpdateClient},
    event::EventKind,
    reads_alike,
};

use crate::make::{World, client, node, person};

fn update(set: &[(&str, &str)], removed: &[&str]) -> UpdateClient {
    let own = |text: &&str| (*text).to_owned();
    UpdateClient {
        client: client(1),
        set_labels: set.iter().map(|(key, value)| (own(key), own(value))).collect(),
        remove_labels: removed.iter().map(own).collect(),
    }
}

fn recorded(world: &mut World, update: UpdateClient) -> Option<AuditRecord> {
    let envelope = world.envelope(person(), Command::UpdateClient(update));
    let effect = world.apply(&envelope);
    effect.result.expect("it is allowed");
    let name: warren_common::ClientName = "acme".parse().expect("a name");
    let events: Vec<EventKind> = effect.events.into_iter().map(|event| event.kind).collect();
    let expected = effect.audit.iter().map(|_| EventKind::ClientUpdated(client(1), name.clone()));
    assert_eq!(events, expected.take(1).collect::<Vec<_>>());
    effect.audit
}

fn refused(world: &mut World, update: UpdateClient) -> Refusal {
    world.refused(Command::UpdateClient(update))
}

#[test]
fn labels_are_set_and_removed_and_the_others_stay() {
    let mut world = World::new();
    let detail = |record: Option<AuditRecord>| record.map(|record| record.detail);
    let first = recorded(&mut world, update(&[("team", "web"), ("tier", "gold")], &[]));
    assert_eq!(first.as_ref().map(|one| one.action.as_str()), Some("client.update"));
    assert_eq!(detail(first).as_deref(), Some("labels set: team, tier"));
    let second = recorded(&mut world, update(&[("tier", "tin"), ("team", "web")], &["gone"]));
    assert_eq!(detail(second).as_deref(), Some("labels set: tier"));
    let third = recorded(&mut world, update(&[("zone", "a")], &["tier"]));
    assert_eq!(detail(third).as_deref(), Some("labels set: zone; removed: tier"));
    assert_eq!(recorded(&mut world, update(&[("zone", "a")], &["tier"])), None, "as it was");
    let fourth = recorded(&mut world, update(&[], &["zone"]));
    assert_eq!(detail(fourth).as_deref(), Some("labels removed: zone"));
    let left = Labels::from([("team".to_owned(), "web".to_owned())]);
    assert_eq!(world.state.clients[&client(1)].labels, left);
}

#[test]
fn a_client_takes_as_many_labels_as_the_limit_and_no_more() {
    let mut world = World::new();
    let keys: Vec<String> = (0..=Limits::LABELS).map(|n| format!("k{n:02}")).collect();
    let (last, most) = keys.split_last().expect("more than none");
    let longest = "v".repeat(Limits::LABEL_BYTES);
    let full: Vec<(&str, &str)> = most.iter().map(|key| (key.as_str(), longest.as_str())).collect();
    world.must(Command::UpdateClient(update(&full, &[])));
    let refusal = refused(&mut world, update(&[(last, "")], &[]));
    assert_eq!(refusal.code, RefusalCode::InvalidSpec);
    assert!(refusal.message.contains("33"), "{refusal}");
    world.must(Command::UpdateClient(update(&[(last, "")], &[&keys[0]])));
    let longer = "v".repeat(Limits::LABEL_BYTES + 1);
    let refusal = refused(&mut world, update(&[(last, &longer)], &[]));
    assert_eq!(refusal.code, RefusalCode::InvalidSpec);
    let refusal = refused(&mut world, update(&[("a", "")], &["a"]));
    assert_eq!(refusal.message, "label a of client acme cannot be both set and removed");
}

#[test]
fn an_update_refuses_what_is_gone_or_has_changed_since() {
    let mut world = World::new();
    let seen = world.state.clients[&client(1)].revision;
    world.must(Command::UpdateClient(update(&[("a", "b")], &[])));
    let stale = Command::UpdateClient(update(&[("a", "c")], &[]));
    let mut envelope = world.envelope(person(), stale);
    envelope.if_revision = Some(seen);
    let refusal = world.apply(&envelope).result.expect_err("it has changed");
    assert_eq!(refusal.code, RefusalCode::RevisionMismatch);
    let mut envelope = world.envelope(person(), envelope.command);
    envelope.if_revision = Some(Revision(seen.0 + 1));
    assert!(world.apply(&envelope).result.is_ok());
    let gone = UpdateClient {
        client: client(9),
        set_labels: Labels::new(),
        remove_labels: BTreeSet::new(),
    };
    assert_eq!(refused(&mut world, gone).code, RefusalCode::NotFound);
}

#[test]
fn planning_does_not_look_at_labels_and_does_at_nodes() {
    let mut world = World::with_nodes(&[Bytes::gib(4)]);
    let before = world.state.clone();
    recorded(&mut world, update(&[("team", "web")], &[]));
    assert!(before.revision < world.state.revision && reads_alike(&before, &world.state));
    let availability = Availability::Cordoned;
    world.must(Command::SetNodeAvailability(SetNodeAvailability { node: node(1), availability }));
    assert!(!reads_alike(&before, &world.state));
}
