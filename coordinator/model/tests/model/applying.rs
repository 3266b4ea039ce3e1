//! What is refused and how it reads, what is recorded, what it leads to.

use warren_common::{Bytes, Generation, Limits, Revision, Timestamp};
use warren_model::{
    AuditHead, Command, EventKind, Outcome, Principal, RefusalCode,
    audit::BrokenChain,
    command::{
        Advance, Assign, Availability, DeleteClient, JoinNode, RegisterNode, RevokeCertificate,
        RunRequest, SetNodeAvailability, Step, UpdateNodeFacts,
    },
    state::{Desired, PhaseKind},
    verify_chain,
};

use crate::make::{
    START, World, boot, client, create_client, create_workspace, facts, issue, join, node, set_run,
    spec, workspace,
};

fn placed() -> World {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    world.settle();
    world
}

fn advance(step: Step) -> Advance {
    let generation = Generation::new(7, 1);
    Advance { workspace: workspace(1), generation, run_serial: 1, step }
}

#[test]
fn refusals_name_their_objects() {
    let mut world = placed();
    let over = spec(Bytes::gib(5000));
    let availability = Availability::Retired;
    let cases = [
        (create_client(2, "acme"), RefusalCode::NameTaken, "client acme already exists"),
        (
            create_workspace(2, "web", spec(Bytes::gib(1))),
            RefusalCode::NameTaken,
            "workspace acme/web already exists",
        ),
        (
            create_workspace(2, "api", over),
            RefusalCode::InvalidSpec,
            "--memory 4.9 TiB is outside 64 MiB to 4 TiB",
        ),
        (
            Command::DeleteClient(DeleteClient { client: client(1) }),
            RefusalCode::ClientNotEmpty,
            "client acme still has 1 workspace: web",
        ),
        (
            Command::SetNodeAvailability(SetNodeAvailability { node: node(1), availability }),
            RefusalCode::WrongState,
            "node n1 still has 1 workspace; drain it first",
        ),
        (
            Command::Assign(Assign {
                workspace: workspace(1),
                node: node(1),
                previous: Generation::new(7, 1),
                reason: String::new(),
            }),
            RefusalCode::WrongState,
            "workspace acme/web is assigned, not queued",
        ),
        (
            Command::Advance(advance(Step::Active)),
            RefusalCode::WrongState,
            "workspace acme/web is assigned, it cannot become active: that does not follow",
        ),
    ];
    for (command, code, message) in cases {
        let before = world.state.clone();
        let refusal = world.refused(command);
        assert_eq!((refusal.code, refusal.message.as_str()), (code, message));
        let requests = world.state.requests.clone();
        assert_eq!(world.state, warren_model::ClusterState { requests, ..before }, "{message}");
    }
    world.must(set_run(1, RunRequest::Delete));
    assert_eq!(
        world.refused(set_run(1, RunRequest::Start)).message,
        "workspace acme/web is being deleted"
    );
    assert_eq!(
        world.refused(create_workspace(2, "web", spec(Bytes::gib(1)))).message,
        "workspace acme/web is still being deleted"
    );
}

#[test]
fn what_was_seen_of_another_generation_or_run_is_refused() {
    let mut world = placed();
    for stale in [
        Advance { generation: Generation::new(7, 2), ..advance(Step::Preparing) },
        Advance { generation: Generation::new(6, 9), ..advance(Step::Preparing) },
        Advance { run_serial: 2, ..advance(Step::Preparing) },
        Advance { run_serial: 0, ..advance(Step::Preparing) },
        advance(Step::Permit { boot: boot(2) }),
    ] {
        assert_eq!(world.refused(Command::Advance(stale)).code, RefusalCode::WrongState);
    }
    world.must(Command::Advance(advance(Step::Preparing)));
}

#[test]
fn if_revision_refuses_what_has_changed_since() {
    let mut world = placed();
    let seen = world.workspace(1).revision;
    let stop = set_run(1, RunRequest::Stop);
    let mut envelope = world.envelope(crate::make::person(), stop);
    envelope.if_revision = Some(Revision(seen.0 - 1));
    let refusal = world.apply(&envelope).result.expect_err("it changed");
    assert_eq!(refusal.code, RefusalCode::RevisionMismatch);
    let mut envelope = world.envelope(crate::make::person(), envelope.command);
    envelope.if_revision = Some(seen);
    assert!(world.apply(&envelope).result.is_ok());
}

#[test]
fn only_coordinators_decide_and_nodes_speak_for_themselves() {
    let mut world = placed();
    let person = Principal::Person("ada".to_owned());
    let facts = facts(Bytes::gib(4), 1);
    let update = Command::UpdateNodeFacts(UpdateNodeFacts { node: node(1), facts });
    let cases = [
        (person, Command::Advance(advance(Step::Preparing)), false),
        (Principal::Node(node(1)), Command::Advance(advance(Step::Preparing)), false),
        (Principal::Node(node(1)), create_client(3, "mine"), false),
        (Principal::Node(node(2)), update.clone(), false),
        (Principal::Node(node(1)), update, true),
    ];
    for (principal, command, allowed) in cases {
        let envelope = world.envelope(principal, command);
        let result = world.apply(&envelope).result;
        assert_eq!(result.is_ok(), allowed, "{envelope:?}");
        let refused = |refusal: warren_model::Refusal| refusal.code == RefusalCode::NotAllowed;
        assert!(allowed || result.is_err_and(refused));
    }
}

#[test]
fn a_join_token_is_good_once_and_for_its_key() {
    let mut world = World::new();
    world.must(issue(1, world.now));
    let good = join(1, facts(Bytes::gib(8), 1));
    let code = |world: &mut World, join: JoinNode| world.refused(Command::JoinNode(join)).code;
    let wrong = JoinNode { secret_hash: [9; 32], ..good.clone() };
    assert_eq!(code(&mut world, wrong), RefusalCode::TokenInvalid);
    let late = world.clone().with_clock(900_001);
    assert_eq!(code(&mut { late }, good.clone()), RefusalCode::TokenExpired);
    assert_eq!(world.must(Command::JoinNode(good.clone())).outcome, Outcome::Node(node(1)));
    let retry = JoinNode { node: node(2), ..good.clone() };
    let revision = world.state.revision;
    assert_eq!(world.must(Command::JoinNode(retry)).outcome, Outcome::Node(node(1)));
    assert_eq!(world.state.revision, revision, "nothing happened");
    let thief = JoinNode { key_hash: [8; 32], node: node(2), ..good };
    assert_eq!(code(&mut world, thief), RefusalCode::TokenUsed);
}

impl World {
    fn with_clock(mut self, millis: u64) -> Self {
        self.wait(millis);
        self
    }
}

#[test]
fn what_asks_for_nothing_new_leaves_no_trace() {
    let mut world = placed();
    let before = (world.state.revision, world.state.audit);
    world.must(set_run(1, RunRequest::Start));
    let availability = Availability::Active;
    let same = SetNodeAvailability { node: node(1), availability };
    world.must(Command::SetNodeAvailability(same));
    assert_eq!((world.state.revision, world.state.audit), before);
}

#[test]
fn the_chain_holds_and_any_change_breaks_it() {
    let mut world = World::new();
    let mut records = Vec::new();
    let head = world.state.audit;
    for n in 2..6 {
        let command = create_client(n, &format!("c{n}"));
        let envelope = world.envelope(crate::make::person(), command);
        records.extend(world.apply(&envelope).audit);
    }
    assert_eq!(verify_chain(head, &records), Ok(world.state.audit));
    assert_eq!(records[0].action, "client.create");
    assert_eq!(records[0].object.address, "c2");
    let mut changed = records.clone();
    changed[1].object.address.push('x');
    let broken = verify_chain(head, &changed);
    assert_eq!(broken, Err(BrokenChain::Content(changed[1].sequence)));
    let mut resealed = changed;
    resealed[1].hash = resealed[1].seal();
    let broken = verify_chain(head, &resealed);
    assert_eq!(broken, Err(BrokenChain::Link(resealed[2].sequence)));
    let gap: Vec<_> = records.iter().filter(|one| one.sequence != records[1].sequence).collect();
    assert!(matches!(verify_chain(head, gap), Err(BrokenChain::Sequence { .. })));
    assert!(verify_chain(AuditHead::default(), &records).is_err(), "it began earlier");
}

#[test]
fn events_tell_what_happened() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let create = create_workspace(1, "web", spec(Bytes::gib(1)));
    let envelope = world.envelope(crate::make::person(), create);
    let effect = world.apply(&envelope);
    let kinds: Vec<EventKind> = effect.events.into_iter().map(|event| event.kind).collect();
    let address = "acme/web".parse().expect("an address");
    let (id, to) = (workspace(1), PhaseKind::Queued);
    assert_eq!(
        kinds,
        [
            EventKind::WorkspaceCreated(id, address),
            EventKind::WorkspacePhase { workspace: id, from: None, to }
        ]
    );
}

#[test]
fn a_workspace_without_a_node_stops_and_goes_at_once() {
    let mut world = World::new();
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    world.must(set_run(1, RunRequest::Stop));
    assert_eq!(world.workspace(1).phase.kind, PhaseKind::Stopped);
    assert!(world.settle().queued.is_empty(), "a stopped one waits for nothing");
    world.must(set_run(1, RunRequest::Start));
    assert_eq!(world.workspace(1).phase.kind, PhaseKind::Queued);
    world.must(set_run(1, RunRequest::Delete));
    assert!(world.state.workspaces.is_empty() && world.state.workspace_names.is_empty());
}

#[test]
fn a_node_that_shrinks_keeps_what_it_has_and_takes_nothing_new() {
    let mut world = placed();
    let less = RegisterNode { node: node(1), facts: facts(Bytes::mib(700), 1) };
    world.must(Command::RegisterNode(less));
    world.report(1, true, Vec::new());
    assert!(world.state.nodes[&node(1)].overcommitted);
    assert_eq!(world.workspace(1).desired, Desired::Running);
    world.must(create_workspace(2, "api", spec(Bytes::mib(64))));
    let report = world.settle();
    assert_eq!(
        report.queued[0].1.summary,
        "it asks for 64 MiB; the only node is overcommitted (n1)"
    );
    let refusal = world.refused(Command::Assign(Assign {
        workspace: workspace(2),
        node: node(1),
        previous: Generation::default(),
        reason: String::new(),
    }));
    assert_eq!(refusal.code, RefusalCode::NoNodeFits);
    let more = UpdateNodeFacts { node: node(1), facts: facts(Bytes::gib(4), 1) };
    world.must(Command::UpdateNodeFacts(more));
    assert!(!world.state.nodes[&node(1)].overcommitted);
    world.settle();
    assert!(world.workspace(2).assignment.is_some());
}

#[test]
fn the_deny_list_is_swept_of_what_could_not_renew_any_more() {
    let mut world = World::new();
    let revoke = |serial: u8, expires| {
        let subject = "spiffe://x/person/admin/ada".to_owned();
        Command::RevokeCertificate(RevokeCertificate { serial: vec![serial], subject, expires })
    };
    world.must(revoke(1, Timestamp(START.0 + 10)));
    world.wait(20);
    world.must(revoke(2, Timestamp(START.0 + 1000)));
    let serials = |world: &World| world.state.revoked.keys().cloned().collect::<Vec<_>>();
    assert_eq!(serials(&world), [vec![1], vec![2]], "an expired certificate may renew");
    world.wait(u64::try_from(Limits::RENEWAL_GRACE.as_millis()).expect("fits"));
    world.must(revoke(3, Timestamp(world.now.0 + 1000)));
    assert_eq!(serials(&world), [vec![2], vec![3]]);
    let long = vec![1; Limits::SERIAL_BYTES + 1];
    let (subject, expires) = ("x".to_owned(), world.now);
    let command = RevokeCertificate { serial: long, subject, expires };
    assert_eq!(world.refused(Command::RevokeCertificate(command)).code, RefusalCode::InvalidSpec);
}
