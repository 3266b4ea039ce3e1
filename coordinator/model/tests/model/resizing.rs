//! Other caps: what fits, what is refused and with which words, and what is told of it.

use std::sync::Arc;

use warren_common::{
    Bytes, MilliCpus,
    status::{RunState, Usage, VolumeUse, WorkspaceObserved},
};
use warren_model::{
    Command, Refusal, RefusalCode,
    command::{ResizeWorkspace, RunRequest},
    event::EventKind,
    node_spec,
    plan::resize::{home_over, in_use},
};

use crate::make::{
    START, World, create_workspace, facts, node, observed, person, set_run, spec, workspace,
};

fn none() -> ResizeWorkspace {
    ResizeWorkspace::of(workspace(1))
}

fn memory(gib: u64) -> ResizeWorkspace {
    ResizeWorkspace { memory: Some(Bytes::gib(gib)), ..none() }
}

/// One node of 16 GiB with two workspaces of 4 GiB, of which half is reserved.
pub(crate) fn two() -> World {
    let mut world = World::with_nodes(&[Bytes::gib(16)]);
    world.must(create_workspace(1, "web", spec(Bytes::gib(4))));
    world.must(create_workspace(2, "api", spec(Bytes::gib(4))));
    world.settle();
    world
}

fn refused(world: &mut World, resize: ResizeWorkspace) -> Refusal {
    world.refused(Command::ResizeWorkspace(resize))
}

#[test]
fn caps_change_in_place_and_the_node_is_told_of_nothing_else() {
    let mut world = two();
    let before = world.workspace(1).clone();
    let ordered = |world: &World| {
        let spec = node_spec(&world.state, node(1), 1).workspaces;
        spec.into_iter().find(|order| order.workspace == workspace(1)).expect("an order")
    };
    let order = ordered(&world);
    let resize =
        ResizeWorkspace { disk: Some(Bytes::gib(40)), cpus: Some(MilliCpus(1500)), ..memory(8) };
    let envelope = world.envelope(person(), Command::ResizeWorkspace(resize));
    let effect = world.apply(&envelope);
    effect.result.clone().expect("it fits");
    let audit = effect.audit.expect("a record");
    assert_eq!(
        (audit.action.as_str(), audit.object.address.as_str()),
        ("workspace.resize", "acme/web")
    );
    let told =
        "memory 4 GiB to 8 GiB, reserve 2 GiB to 4 GiB, cpus none to 1.5, disk 20 GiB to 40 GiB";
    assert_eq!(audit.detail, told);
    let kinds: Vec<EventKind> = effect.events.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::WorkspaceResized(workspace(1))]);
    let after = world.workspace(1);
    assert_eq!(after.spec.resources.memory, Bytes::gib(8));
    assert_eq!((after.run_serial, &after.phase), (before.run_serial, &before.phase));
    assert_eq!(after.assignment, before.assignment, "neither moved nor fenced");
    let mut expected = order;
    expected.spec.resources = after.spec.resources.clone();
    assert_eq!(ordered(&world), expected);
    let again = world.apply(&envelope).result.expect("answered again");
    assert!(again.repeated);
    let same = world.envelope(person(), Command::ResizeWorkspace(memory(8)));
    assert!(world.apply(&same).audit.is_none(), "everything is as asked");
}

#[test]
fn a_refusal_says_what_is_free() {
    let mut world = two();
    let said = refused(&mut world, memory(13));
    assert_eq!(said.code, RefusalCode::NoNodeFits);
    let words = "node n1 has no room for workspace acme/web: 9 GiB more of memory and swap asked \
                 for, 8 GiB is free";
    assert_eq!(said.message, words);
    world.must(Command::ResizeWorkspace(memory(12)));
    let reserve = ResizeWorkspace { reserve: Some(Bytes::gib(12)), ..none() };
    world.must(Command::ResizeWorkspace(reserve));
    let more =
        ResizeWorkspace { reserve: Some(Bytes::gib(12)), memory: Some(Bytes::gib(4)), ..none() };
    assert_eq!(refused(&mut world, more).code, RefusalCode::InvalidSpec, "more than the cap");
    let other =
        ResizeWorkspace { reserve: Some(Bytes::gib(4)), ..ResizeWorkspace::of(workspace(2)) };
    world.must(Command::ResizeWorkspace(other));
    for (resize, words) in [
        (
            ResizeWorkspace { disk: Some(Bytes::gib(2000)), ..none() },
            "of disk asked for, 960 GiB is free",
        ),
        (ResizeWorkspace { swap: Some(Bytes::gib(1)), ..none() }, "of swap asked for, 0 B is free"),
        (ResizeWorkspace { cpus: Some(MilliCpus(9000)), ..none() }, "9 cores asked for, it has 8"),
    ] {
        let said = refused(&mut world, resize);
        assert_eq!(said.code, RefusalCode::NoNodeFits);
        assert!(said.message.contains(words), "{}", said.message);
    }
}

#[test]
fn less_is_never_refused_for_what_others_have() {
    let mut world = two();
    // the node shrank below what it holds
    world.must(Command::UpdateNodeFacts(warren_model::command::UpdateNodeFacts {
        node: node(1),
        facts: facts(Bytes::gib(6), 1),
    }));
    assert!(world.state.nodes[&node(1)].overcommitted);
    let swapped = ResizeWorkspace { disk: Some(Bytes::gib(30)), ..memory(3) };
    world.must(Command::ResizeWorkspace(swapped));
    assert_eq!(refused(&mut world, memory(4)).code, RefusalCode::NoNodeFits, "more is");
    let rest = ResizeWorkspace { memory: Some(Bytes::gib(3)), ..ResizeWorkspace::of(workspace(2)) };
    world.must(Command::ResizeWorkspace(rest));
    assert!(!world.state.nodes[&node(1)].overcommitted, "now it holds again");
}

#[test]
fn a_queued_one_is_placed_once_it_is_small_enough_and_a_deleted_one_is_left_alone() {
    let mut world = World::with_nodes(&[Bytes::gib(4)]);
    world.must(create_workspace(1, "web", spec(Bytes::gib(8))));
    world.settle();
    assert!(world.workspace(1).assignment.is_none());
    world.must(Command::ResizeWorkspace(memory(2)));
    world.settle();
    assert!(world.workspace(1).assignment.is_some());
    world.must(set_run(1, RunRequest::Stop));
    world.must(Command::ResizeWorkspace(memory(3)));
    world.must(set_run(1, RunRequest::Delete));
    assert_eq!(refused(&mut world, memory(1)).code, RefusalCode::WrongState);
    let unknown =
        ResizeWorkspace { memory: Some(Bytes::gib(1)), ..ResizeWorkspace::of(workspace(9)) };
    assert_eq!(refused(&mut world, unknown).code, RefusalCode::NotFound);
}

fn seen(held: u64, swap: u64, home: u64) -> WorkspaceObserved {
    let usage = Usage { held: Bytes::mib(held), swap: Bytes::mib(swap), ..Usage::default() };
    let volume = Some(VolumeUse { used: Bytes::gib(home), limit: Bytes::gib(20) });
    WorkspaceObserved { usage, volume, ..observed(1, 1, RunState::Running) }
}

#[test]
fn a_cap_below_what_cannot_be_given_back_is_told_before_it_kills() {
    let mut world = two();
    let ask = |world: &World, resize: &ResizeWorkspace| {
        let one = world.workspace(1);
        let after = resize.applied_to(&one.spec.resources);
        in_use((&world.state, &world.live), one, &after, world.now)
    };
    assert_eq!(ask(&world, &memory(1)), None, "nothing is known of it");
    world.report(1, true, vec![seen(1536, 0, 5), observed(2, 1, RunState::Running)]);
    let why = ask(&world, &memory(1)).expect("it would be killed");
    assert_eq!(why, "it holds 1.5 GiB that it cannot give back, and would get 1 GiB");
    assert_eq!(ask(&world, &memory(2)), None);
    assert_eq!(ask(&world, &memory(8)), None);
    world.report(1, false, vec![seen(1500, 1500, 5)]);
    assert!(ask(&world, &memory(2)).is_some_and(|why| why.contains("with what is swapped")));
    world.wait(60_000);
    assert_eq!(ask(&world, &memory(1)), None, "its node is silent: it asks again itself");
    assert!(world.now > START);
}

#[test]
fn a_home_may_get_less_than_it_holds_and_that_is_said() {
    let mut world = two();
    world.report(1, true, vec![seen(10, 0, 15), observed(2, 1, RunState::Running)]);
    let disk = |gib| ResizeWorkspace { disk: Some(Bytes::gib(gib)), ..none() };
    world.must(Command::ResizeWorkspace(disk(10)));
    let one = Arc::new(world.workspace(1).clone());
    let told = home_over(&world.live, &one).expect("over");
    assert!(told.contains("holds 15 GiB and may hold 10 GiB"), "{told}");
    assert!(told.ends_with("until 5 GiB is deleted"), "{told}");
    world.must(Command::ResizeWorkspace(disk(16)));
    assert_eq!(home_over(&world.live, world.workspace(1)), None);
}
