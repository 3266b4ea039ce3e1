//! One agent acts as a node; labels and the end of a node are the operator's.

use std::collections::BTreeSet;

use warren_common::{
    Bytes, NodeEpoch, Timestamp,
    spec::{IsolationTier, Labels},
    status::{NodeFacts, RunState},
};
use warren_model::{
    Command, LiveView, Liveness, Opinion, Refusal, RefusalCode,
    command::{
        AccountNode, Availability, BeginIncarnation, JoinNode, NodeCommand, SetReplica,
        UpdateNodeFacts,
        node::{Claims, EnterNode, LabelNode, NoteRival, RejoinNode, RemoveNode},
    },
    event::EventKind,
    lease, liveness,
    state::{Desired, PhaseKind},
};

use crate::make::{
    World, coordinator, create_workspace, facts, issue, join, node, observed, spec, workspace,
};

fn command(one: NodeCommand) -> Command {
    Command::Node(Box::new(one))
}

fn claims(machine: &str, held: Option<u8>, asked: u8) -> Claims {
    Claims { machine: machine.to_owned(), held: held.map(|n| [n; 16]), asked: [asked; 16] }
}

fn enter(world: &mut World, claims: Option<Claims>) -> Result<NodeEpoch, Refusal> {
    let enter = EnterNode { node: node(1), facts: facts(Bytes::gib(8), 1), claims };
    let envelope = world.envelope(coordinator(), command(NodeCommand::Enter(Box::new(enter))));
    world.apply(&envelope).result?;
    Ok(world.state.nodes[&node(1)].epoch)
}

fn conflict(entered: Result<NodeEpoch, Refusal>) -> bool {
    matches!(entered, Err(Refusal { code: RefusalCode::IdentityConflict, .. }))
}

fn label(set: &[(&str, &str)], removed: &[&str]) -> Command {
    let own = |text: &&str| (*text).to_owned();
    command(NodeCommand::Label(LabelNode {
        node: node(1),
        set_labels: set.iter().map(|(key, value)| (own(key), own(value))).collect(),
        remove_labels: removed.iter().map(own).collect(),
    }))
}

fn remove(n: u8, lost: &[u8]) -> Command {
    let lost: BTreeSet<_> = lost.iter().map(|n| workspace(*n)).collect();
    command(NodeCommand::Remove(RemoveNode { node: node(n), lost }))
}

#[test]
fn of_two_agents_with_one_identity_the_newer_one_acts_and_the_older_is_refused() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let first = enter(&mut world, Some(claims("m1", None, 1))).expect("nobody sits there");
    // the copy shows what the original had when it was copied
    let copy = enter(&mut world, Some(claims("m1", Some(1), 2))).expect("it follows the claim");
    assert!(copy > first);
    let before = world.state.nodes[&node(1)].epoch;
    assert!(conflict(enter(&mut world, Some(claims("m1", Some(1), 3)))));
    assert!(conflict(enter(&mut world, Some(claims("m1", None, 4)))));
    assert_eq!(world.state.nodes[&node(1)].epoch, before, "a refused one raises nothing");
    assert!(enter(&mut world, Some(claims("m1", Some(2), 5))).is_ok(), "the copy goes on");
}

#[test]
fn a_registration_whose_answer_was_lost_is_repeated_with_its_claim() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    enter(&mut world, Some(claims("m1", None, 1))).expect("fresh");
    // the answer to 2 never came
    enter(&mut world, Some(claims("m1", Some(1), 2))).expect("it follows");
    enter(&mut world, Some(claims("m1", Some(1), 2))).expect("the same again");
    enter(&mut world, Some(claims("m1", Some(2), 3))).expect("and on");
}

#[test]
fn another_machine_is_refused_until_somebody_says_so() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    enter(&mut world, Some(claims("m1", None, 1))).expect("fresh");
    let refused = enter(&mut world, Some(claims("m2", Some(1), 2))).expect_err("elsewhere");
    assert!(refused.message.contains("another machine"), "{}", refused.message);
    enter(&mut world, Some(claims("", Some(1), 3))).expect("a machine that has no id is let be");
    assert!(conflict(enter(&mut world, Some(claims("m2", Some(3), 4)))), "it is still known");
    world.must(command(NodeCommand::Rejoin(RejoinNode { node: node(1) })));
    enter(&mut world, Some(claims("m2", None, 5))).expect("asked for");
    assert!(conflict(enter(&mut world, Some(claims("m1", Some(3), 6)))));
}

#[test]
fn an_agent_of_before_there_were_claims_is_let_in_and_so_is_its_upgrade() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    enter(&mut world, Some(claims("m1", None, 1))).expect("fresh");
    enter(&mut world, None).expect("an older agent");
    enter(&mut world, Some(claims("m1", Some(1), 2))).expect("upgraded again");
}

#[test]
fn a_restored_cluster_takes_nodes_whatever_they_claimed_since_the_backup() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    enter(&mut world, Some(claims("m1", None, 1))).expect("fresh");
    let replica = SetReplica {
        replica: warren_common::ReplicaId(9),
        api_address: "10.0.0.9:7400".to_owned(),
        raft_address: "10.0.0.9:7401".to_owned(),
    };
    let reason = "restored".to_owned();
    world.must(Command::BeginIncarnation(BeginIncarnation { incarnation: 8, replica, reason }));
    assert!(conflict(enter(&mut world, Some(claims("m2", Some(7), 8)))), "not another machine");
    enter(&mut world, Some(claims("m1", Some(7), 8))).expect("it registered since the backup");
    let accounted =
        AccountNode { node: node(1), revision: warren_common::Revision(0), holds: Vec::new() };
    world.must(Command::AccountNode(accounted));
}

#[test]
fn a_rival_is_told_of_for_a_while_and_not_noted_twice() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let note = |why: &str| {
        command(NodeCommand::NoteRival(NoteRival { node: node(1), reason: why.to_owned() }))
    };
    let (first, again, other) = (
        world.envelope(coordinator(), note("boot b")),
        world.envelope(coordinator(), note("boot b")),
        world.envelope(coordinator(), note("boot c")),
    );
    assert!(world.apply(&first).audit.is_some());
    assert!(world.apply(&again).audit.is_none(), "it was noted a moment ago");
    assert!(world.apply(&other).audit.is_some());
    let told = |world: &World| world.state.rival(node(1), world.now).map(|one| one.reason.clone());
    assert_eq!(told(&world).as_deref(), Some("boot c"));
    world.wait(15 * 60 * 1000);
    assert_eq!(told(&world), None, "it has stopped trying");
    // as every version applies it: marks of direction stay
    let odd = world.envelope(coordinator(), note("boot \u{200f}d"));
    world.apply(&odd).result.expect("noted");
    assert_eq!(told(&world).as_deref(), Some("boot \u{200f}d"));
}

#[test]
fn the_operators_labels_win_and_what_is_configured_comes_back() {
    let mut world = World::with_nodes(&[]);
    let configured = |zone: &str| {
        let labels: Labels = [("zone".to_owned(), zone.to_owned())].into();
        NodeFacts { labels, ..facts(Bytes::gib(8), 1) }
    };
    world.add_node(1, configured("a"));
    let zone = |world: &World| world.state.nodes[&node(1)].facts.labels.get("zone").cloned();
    world.must(label(&[("zone", "b"), ("disk", "nvme")], &[]));
    assert_eq!(zone(&world).as_deref(), Some("b"));
    // the node says the same as before: neither a registration nor its facts undo it
    world.register(1, configured("a"));
    assert_eq!(zone(&world).as_deref(), Some("b"));
    let again = UpdateNodeFacts { node: node(1), facts: configured("a") };
    let envelope = world.envelope(coordinator(), Command::UpdateNodeFacts(again));
    assert!(world.apply(&envelope).audit.is_none(), "nothing changed");
    let live = warren_model::plan(&world.state, &world.live, world.now);
    assert!(live.commands.is_empty(), "{:?}", live.commands);
    world.must(label(&[], &["disk"]));
    world.must(label(&[], &["zone", "unknown"]));
    assert_eq!(zone(&world).as_deref(), Some("a"), "what the configuration says");
    let refused = world.refused(label(&[], &["zone"]));
    assert!(refused.message.contains("configuration of node n1"), "{}", refused.message);
    let refused = world.refused(label(&[("warren.tier.gvisor", "yes")], &[]));
    assert!(refused.message.contains("engine"), "{}", refused.message);
}

#[test]
fn a_node_is_a_clients_own_by_label_and_tiers_are_what_its_engine_says() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let placed = |world: &mut World, n: u8, tier: IsolationTier| {
        let mut spec = spec(Bytes::mib(512));
        spec.placement.tier = tier;
        world.must(create_workspace(n, &format!("w{n}"), spec));
        let report = world.settle();
        let queued = report.queued.iter().find(|(id, _)| *id == workspace(n));
        queued.map(|(_, why)| why.candidates[0].misfit.clone().expect("out").detail)
    };
    let why = placed(&mut world, 1, IsolationTier::Dedicated).expect("nobody's");
    assert!(why.contains("warren.client=acme"), "{why}");
    world.must(label(&[("warren.client", "acme")], &[]));
    world.settle();
    assert!(world.workspace(1).assignment.is_some(), "it is acme's own now");
    let why = placed(&mut world, 2, IsolationTier::Gvisor).expect("no runsc");
    assert!(why.contains("runsc"), "{why}");
    let mut with = facts(Bytes::gib(8), 1);
    with.labels.insert("warren.tier.gvisor".to_owned(), "runsc 1".to_owned());
    world.register(1, with);
    world.settle();
    assert!(world.workspace(2).assignment.is_some());
    let why = placed(&mut world, 3, IsolationTier::UserNamespace).expect("no userns-remap");
    assert!(why.contains("remap"), "{why}");
}

#[test]
fn a_node_is_removed_when_it_is_empty_or_each_workspace_is_given_up() {
    let mut world = World::with_nodes(&[Bytes::gib(8), Bytes::gib(1)]);
    for n in 1..=3 {
        world.must(create_workspace(n, &format!("w{n}"), spec(Bytes::gib(1))));
    }
    world.settle();
    let on_first = |n: u8, world: &World| {
        world.workspace(n).assignment.as_ref().is_some_and(|one| one.node == node(1))
    };
    let there: Vec<u8> = (1..=3).filter(|n| on_first(*n, &world)).collect();
    let refused = world.refused(remove(1, &[]));
    assert_eq!(refused.code, RefusalCode::NodeNotEmpty);
    assert!(refused.message.contains(&format!("acme/w{}", there[0])), "{}", refused.message);
    let generation = world.workspace(there[0]).generation;
    let envelope = world.envelope(crate::make::person(), remove(1, &there));
    let effect = world.apply(&envelope);
    effect.result.expect("each was named");
    let retired = EventKind::NodeAvailability(node(1), Availability::Retired);
    assert!(effect.events.iter().any(|event| event.kind == retired));
    for n in &there {
        let one = world.workspace(*n);
        assert_eq!((&one.phase.kind, one.desired), (&PhaseKind::Stopped, Desired::Stopped));
        assert!(one.assignment.is_none() && one.phase.reason.contains("NODE_REMOVED"));
    }
    assert!(world.workspace(there[0]).generation > generation, "an older container is fenced");
    world.must(remove(1, &[]));
    assert_eq!(world.refused(remove(2, &there)).code, RefusalCode::WrongState);
    world.must(crate::make::set_run(there[0], warren_model::command::RunRequest::Start));
    assert_eq!(world.workspace(there[0]).phase.kind, PhaseKind::Queued);
}

#[test]
fn the_name_of_a_removed_node_may_be_taken_again() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    world.must(remove(1, &[]));
    let named = |world: &World| world.state.node_named(&"n1".parse().expect("a name")).cloned();
    assert_eq!(named(&world).map(|one| one.id), Some(node(1)), "it keeps it while it may");
    world.must(issue(2, world.now));
    let join = JoinNode { name: "n1".parse().expect("a name"), ..join(2, facts(Bytes::gib(4), 3)) };
    world.must(Command::JoinNode(join));
    assert_eq!(named(&world).map(|one| one.id), Some(node(2)));
    assert!(world.state.nodes[&node(1)].name.as_str().starts_with("n1-"));
}

#[test]
fn a_node_that_another_coordinator_hears_is_suspect_and_not_gone() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    world.wait(40_000);
    let judged = |world: &World| {
        liveness(world.state.nodes.get(&node(1)).expect("there"), &world.live, world.now)
    };
    assert_eq!(judged(&world).liveness, Liveness::Unreachable);
    let epoch = world.state.nodes[&node(1)].epoch;
    let heard = Opinion {
        epoch,
        by: warren_common::ReplicaId(2),
        at: Timestamp(world.now.0 - 1000),
        lease: None,
    };
    world.live.opinion(node(1), Opinion { epoch: NodeEpoch(epoch.0 - 1), ..heard });
    assert_eq!(judged(&world).liveness, Liveness::Unreachable, "that was another registration");
    world.live.opinion(node(1), heard);
    world.live.opinion(node(1), Opinion { at: Timestamp(heard.at.0 - 9000), ..heard });
    let told = judged(&world);
    assert_eq!(told.liveness, Liveness::Suspect);
    assert_eq!(told.last_seen, Some(heard.at));
    assert!(told.reason.contains("coordinator 2 heard it 1 s ago"), "{}", told.reason);
    assert_eq!(told.changes_at, Some(Timestamp(heard.at.0 + 5000)));
    world.wait(5000);
    assert_eq!(judged(&world).liveness, Liveness::Unreachable, "that was a while ago");
}

#[test]
fn a_registration_that_only_another_coordinator_hears_is_not_gone() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let epoch = world.state.nodes[&node(1)].epoch;
    let judged = |world: &World| {
        liveness(world.state.nodes.get(&node(1)).expect("there"), &world.live, world.now)
    };
    // as after a restart: nothing ever came here
    let empty = LiveView::new(world.now);
    // and as where the last word was of the registration before
    let mut older = empty.clone();
    older.seen(node(1), NodeEpoch(epoch.0 - 1), world.now);
    older.lease(node(1), NodeEpoch(epoch.0 - 1), Timestamp(world.now.0 - 100));
    for live in [empty, older] {
        world.live = live;
        world.wait(40_000);
        assert_eq!(judged(&world).liveness, Liveness::Unreachable);
        let (at, by) = (Timestamp(world.now.0 - 1000), warren_common::ReplicaId(3));
        let lease = Some(Timestamp(world.now.0 - 1500));
        world.live.opinion(node(1), Opinion { epoch, by, at, lease });
        let told = judged(&world);
        assert_eq!((told.liveness, told.last_seen), (Liveness::Suspect, Some(at)));
        assert_eq!(world.live.confirmed(node(1)), lease);
        world.live.clock_set(world.now, Timestamp(world.now.0 + 7_200_000));
        world.now = Timestamp(world.now.0 + 7_200_000);
        assert_eq!(judged(&world).liveness, Liveness::Suspect, "times move along");
    }
}

#[test]
fn a_lease_ends_a_window_after_the_renewal_was_sent_and_never_for_manual() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let mut manual = spec(Bytes::gib(1));
    manual.failover = warren_common::spec::Failover::Manual;
    world.must(create_workspace(1, "auto", spec(Bytes::gib(1))));
    world.must(create_workspace(2, "manual", manual));
    world.settle();
    world.report(1, false, vec![observed(1, 1, RunState::Running)]);
    assert_eq!(lease(&world.live, world.workspace(1)), None, "no renewal is known");
    let epoch = world.state.nodes[&node(1)].epoch;
    let sent = Timestamp(world.now.0 - 700);
    world.live.lease(node(1), epoch, sent);
    world.live.lease(node(1), epoch, Timestamp(sent.0 - 5000));
    let auto = lease(&world.live, world.workspace(1)).expect("known");
    assert_eq!((auto.confirmed, auto.expires), (sent, Some(Timestamp(sent.0 + 120_000))));
    assert_eq!(lease(&world.live, world.workspace(2)).expect("known").expires, None);
}
