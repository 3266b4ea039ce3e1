//! Placement: the sentences people read, the filters in their order, and the laws.

use proptest::prelude::*;
use warren_common::{
    Bytes, Limits, MilliCpus, NodeEpoch, NodeId,
    measure::Pressure,
    spec::{IsolationTier, WorkspaceSpec},
    status::{Finding, FindingLevel},
};
use warren_model::{
    Ask, Command, Explanation, Plan,
    command::{Availability, RunRequest, SetNodeAvailability},
    explain, plan,
    plan::fit::{Cause, Filter, Need, fit},
    preview,
};

use crate::make::{World, client, create_workspace, facts, node, set_run, spec, workspace};

fn would_go(world: &World, spec: &WorkspaceSpec) -> Explanation {
    let ask = Ask { client: client(1), spec };
    preview(&world.state, &world.live, &ask, world.now).expect("acme is there")
}

fn cordon(world: &mut World, n: u8) {
    let availability = Availability::Cordoned;
    let command = SetNodeAvailability { node: node(n), availability };
    world.must(Command::SetNodeAvailability(command));
}

#[test]
fn the_sentences_are_the_designs() {
    let mut world = World::with_nodes(&[Bytes::gib(4), Bytes::mib(11_469), Bytes::gib(100)]);
    cordon(&mut world, 3);
    let nowhere = would_go(&world, &spec(Bytes::gib(64)));
    assert_eq!(
        nowhere.summary,
        "it asks for 64 GiB; of 3 nodes 2 lack memory (largest free 11.2 GiB on n2), \
         1 is cordoned (n3)"
    );
    assert_eq!((nowhere.node, nowhere.position), (None, Some(1)));
    world.must(create_workspace(1, "web", spec(Bytes::gib(4))));
    let plan = plan(&world.state, &world.live, world.now);
    let [(id, placed)] = &plan.report.placed[..] else { panic!("one is placed") };
    assert_eq!(*id, workspace(1));
    assert_eq!(placed.summary, "placed on n2 (11.2 GiB free, 0 workspaces of acme)");
    world.settle();
    let reason = &world.workspace(1).assignment.as_ref().expect("placed").reason;
    assert_eq!(reason.as_ref(), placed.summary);
    let explained = explain(&world.state, &world.live, workspace(1), world.now).expect("there");
    assert_eq!((explained.node, explained.summary.as_str()), (Some(node(2)), reason.as_ref()));
}

/// A plan judges what asks for the same once; `explain` judges the one it is asked for by itself.
#[test]
fn what_asks_for_the_same_is_told_what_it_would_be_told_alone() {
    let mut world =
        World::with_nodes(&[Bytes::gib(6), Bytes::gib(8), Bytes::gib(5), Bytes::gib(7)]);
    let labelled = {
        let mut labelled = spec(Bytes::gib(64));
        labelled.placement.required_labels.insert("disk".to_owned(), "fast".to_owned());
        labelled
    };
    let (large, small) = (spec(Bytes::gib(64)), spec(Bytes::gib(2)));
    let asked = [&large, &large, &labelled, &small, &large, &labelled, &large, &small, &small];
    for (n, spec) in (1..).zip(asked.into_iter().chain([&large, &large])) {
        world.wait(1);
        world.must(create_workspace(n, &format!("w{n}"), spec.clone()));
    }
    let Plan { report, .. } = plan(&world.state, &world.live, world.now);
    assert_eq!((report.placed.len(), report.queued.len()), (3, 8));
    for (id, told) in report.placed.iter().chain(&report.queued) {
        let mut alone = explain(&world.state, &world.live, *id, world.now).expect("there");
        assert_eq!(alone.candidates.len(), 4, "every node is told of");
        alone.candidates.truncate(told.candidates.len());
        assert_eq!(*told, alone);
    }
    let of_large = report.queued.iter().filter(|(_, why)| why.summary.contains("lack memory"));
    let mut told: Vec<_> = of_large.map(|(_, why)| why.summary.as_str()).collect();
    told.dedup();
    assert!(told.len() > 1, "what is free has changed between them: {told:?}");
}

#[test]
fn a_queue_is_told_its_places_and_a_small_one_may_pass() {
    let mut world = World::with_nodes(&[Bytes::gib(4)]);
    world.must(create_workspace(1, "large", spec(Bytes::gib(32))));
    world.wait(1);
    world.must(create_workspace(2, "larger", spec(Bytes::gib(64))));
    world.wait(1);
    world.must(create_workspace(3, "small", spec(Bytes::gib(1))));
    let report = world.settle();
    let queued: Vec<_> = report.queued.iter().map(|(id, why)| (*id, why.position)).collect();
    assert_eq!(queued, [(workspace(1), Some(1)), (workspace(2), Some(2))]);
    assert!(world.workspace(3).assignment.is_some());
    let why = explain(&world.state, &world.live, workspace(2), world.now).expect("there");
    assert_eq!((why.position, why.candidates.len()), (Some(2), 1));
    let wake = plan(&world.state, &world.live, world.now).wake_at.expect("a rescan at least");
    assert!(wake <= world.now.plus(warren_model::plan::RESCAN));
    world.must(set_run(1, RunRequest::Delete));
    let why = explain(&world.state, &world.live, workspace(2), world.now).expect("there");
    assert_eq!(why.position, Some(1), "it moved up");
}

#[test]
fn a_node_whose_processes_wait_for_memory_takes_nothing_new_until_that_is_over() {
    let mut world = World::with_nodes(&[Bytes::gib(4)]);
    let epoch = world.state.nodes[&node(1)].epoch;
    let asked = spec(Bytes::gib(1));
    let waits = |world: &mut World, full_60| {
        let pressure = Pressure { full_60, ..Pressure::default() };
        assert!(world.live.pressure(node(1), epoch, pressure));
        would_go(world, &asked)
    };
    assert_eq!(waits(&mut world, 49).node, Some(node(1)));
    let why = waits(&mut world, 73);
    assert_eq!(
        why.summary,
        "it asks for 1 GiB; the only node is under memory pressure (n1: all of it waited for memory \
         7.3 % of the last minute)"
    );
    let refused = why.filters.iter().find(|count| count.refused > 0).map(|count| count.filter);
    assert_eq!((why.node, refused), (None, Some(Filter::Memory)));
    assert_eq!(waits(&mut world, 21).node, None, "between the two it stays as it was");
    assert_eq!(waits(&mut world, 19).node, Some(node(1)));
    assert!(!world.live.pressure(node(1), NodeEpoch(99), Pressure::default()), "another epoch's");
    waits(&mut world, 900);
    let report = world.settle();
    assert!(report.queued.is_empty());
    let facts = world.state.nodes[&node(1)].facts.clone();
    world.register(1, facts);
    assert_eq!(would_go(&world, &asked).node, Some(node(1)), "a new registration has told nothing");
}

#[test]
fn no_nodes_at_all_is_said() {
    let world = World::new();
    let why = would_go(&world, &spec(Bytes::gib(1)));
    assert_eq!(why.summary, "it asks for 1 GiB; the cluster has no nodes yet");
}

#[test]
fn every_filter_refuses_in_its_order() {
    let small = Bytes::gib(4);
    let finding = Finding {
        code: "W1101".to_owned(),
        level: FindingLevel::Blocking,
        message: "no memory controller".to_owned(),
        fix: "boot with it".to_owned(),
    };
    let with = |change: &dyn Fn(&mut WorkspaceSpec)| {
        let mut spec = spec(Bytes::gib(1));
        change(&mut spec);
        spec
    };
    let cases: Vec<(Cause, WorkspaceSpec)> = vec![
        (Cause::NotPinned, with(&|spec| spec.placement.pin = Some(node(2)))),
        (
            Cause::Label,
            with(&|spec| {
                spec.placement.required_labels = [("region".to_owned(), "eu".to_owned())].into();
            }),
        ),
        (Cause::Tier, with(&|spec| spec.placement.tier = IsolationTier::Gvisor)),
        (Cause::Tier, with(&|spec| spec.placement.tier = IsolationTier::Dedicated)),
        (Cause::Disk, with(&|spec| spec.resources.disk = Bytes::gib(1001))),
        (Cause::Memory, with(&|spec| spec.resources.memory = Bytes::gib(5))),
        (Cause::Swap, with(&|spec| spec.resources.swap = Bytes::gib(1))),
        (Cause::Cpu, with(&|spec| spec.resources.cpus = Some(MilliCpus(8001)))),
    ];
    let world = World::with_nodes(&[small]);
    for (cause, spec) in cases {
        let why = would_go(&world, &spec);
        let misfit = why.candidates[0].misfit.as_ref().expect("out");
        assert_eq!(misfit.cause, cause, "{}", why.summary);
        let refused: Vec<_> = why.filters.iter().filter(|one| one.refused > 0).collect();
        assert_eq!((refused.len(), refused[0].filter), (1, cause.filter()));
    }
    let mut mended = World::new();
    let mut broken = facts(small, 1);
    broken.findings.push(finding);
    mended.add_node(1, broken);
    let why = would_go(&mended, &spec(Bytes::gib(1)));
    assert_eq!(
        why.summary,
        "it asks for 1 GiB; the only node has a blocking finding \
         (n1: W1101: no memory controller)"
    );
    assert!(Filter::ALL.is_sorted());
}

#[test]
fn a_silent_node_takes_nothing_new() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    world.wait(12_000);
    let why = would_go(&world, &spec(Bytes::gib(1)));
    assert_eq!(why.summary, "it asks for 1 GiB; the only node is not ready (n1)");
    assert_eq!(why.filters[0].refused, 1);
}

#[test]
fn a_node_kept_for_a_client_takes_only_theirs() {
    let mut world = World::new();
    let mut theirs = facts(Bytes::gib(8), 1);
    theirs.labels.insert("warren.client".to_owned(), "beta".to_owned());
    world.add_node(1, theirs.clone());
    let why = would_go(&world, &spec(Bytes::gib(1)));
    assert_eq!(why.candidates[0].misfit.as_ref().expect("out").cause, Cause::OtherClient);
    theirs.labels.insert("warren.client".to_owned(), "acme".to_owned());
    world.add_node(2, theirs);
    let mut own = spec(Bytes::gib(1));
    own.placement.tier = IsolationTier::Dedicated;
    assert_eq!(would_go(&world, &own).node, Some(node(2)));
}

#[test]
fn rule_b_counts_half_of_the_swap_and_every_share_of_it() {
    let mut world = World::new();
    let mut swapping = facts(Bytes::gib(4), 1);
    swapping.swap = Bytes::gib(4);
    world.add_node(1, swapping);
    let fits = |memory, swap| {
        let mut asked = spec(memory);
        asked.resources.swap = swap;
        would_go(&world, &asked).node.is_some()
    };
    assert!(fits(Bytes::gib(6), Bytes(0)) && !fits(Bytes(Bytes::gib(6).0 + 1), Bytes(0)));
    assert!(fits(Bytes::gib(4), Bytes::gib(2)) && !fits(Bytes::gib(5), Bytes::gib(2)));
    assert!(!fits(Bytes::gib(1), Bytes(Bytes::gib(2).0 + 1)));
}

#[test]
fn a_node_is_full_at_the_limit() {
    let mut world = World::with_nodes(&[Bytes::gib(4000)]);
    let limit = u8::try_from(Limits::WORKSPACES_PER_NODE).expect("it is 250");
    for n in 0..limit {
        let mut small = spec(Bytes::mib(64));
        small.resources.disk = Limits::DISK_MIN;
        world.must(create_workspace(n, &format!("w{n}"), small));
    }
    assert!(world.settle().queued.is_empty());
    let why = would_go(&world, &spec(Bytes::mib(64)));
    assert_eq!(why.candidates[0].misfit.as_ref().expect("out").cause, Cause::Full);
}

#[test]
fn few_nodes_are_spread_and_many_are_packed() {
    let mut few = World::with_nodes(&[Bytes::gib(8); 5]);
    for n in 1..=5 {
        few.must(create_workspace(n, &format!("w{n}"), spec(Bytes::gib(1))));
    }
    few.settle();
    let mut nodes: Vec<NodeId> =
        (1..=5).filter_map(|n| few.workspace(n).assignment.as_ref()).map(|one| one.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), 5);
    // packing weighs more than keeping one client's apart where the nodes fill up
    let mut many = World::with_nodes(&[Bytes::gib(8); 6]);
    many.must(create_workspace(1, "w1", spec(Bytes::gib(6))));
    many.settle();
    let second = would_go(&many, &spec(Bytes::gib(2)));
    assert_eq!(second.node, Some(node(1)));
    let parts = &second.candidates[0].parts;
    assert_eq!((parts[0].name, parts[0].value), ("pack", 1000));
    assert_eq!(parts.iter().map(|part| part.weight).sum::<u32>(), 1000);
}

fn sizes() -> impl Strategy<Value = (Vec<u64>, Vec<u64>, u64)> {
    let nodes = prop::collection::vec(256_u64..40_000, 0..8);
    let held = prop::collection::vec(64_u64..20_000, 0..12);
    (nodes, held, 64_u64..40_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_same_input_gives_the_same_plan_and_no_choice_breaks_the_fit(
        (nodes, held, asked) in sizes()
    ) {
        let memory: Vec<Bytes> = nodes.iter().map(|mib| Bytes::mib(*mib)).collect();
        let mut world = World::with_nodes(&memory);
        for (n, mib) in held.iter().enumerate() {
            let n = u8::try_from(n).expect("few");
            world.must(create_workspace(n, &format!("w{n}"), spec(Bytes::mib(*mib))));
        }
        let first = plan(&world.state, &world.live, world.now);
        prop_assert_eq!(&first, &plan(&world.state.clone(), &world.live.clone(), world.now));
        // every planned command is accepted, and leaves every invariant
        world.settle();
        let asked = spec(Bytes::mib(asked));
        let answer = would_go(&world, &asked);
        let acme = world.state.clients.get(&client(1)).expect("there");
        let need = Need::asked(acme, &asked);
        for candidate in &answer.candidates {
            let node = world.state.nodes.get(&candidate.node).expect("there");
            let fits = fit(node, &world.state.load(node.id), &need).is_ok();
            prop_assert_eq!(fits, candidate.misfit.is_none());
        }
        // what fits has exactly the room it is told to have
        for candidate in &answer.candidates {
            let free = spec(candidate.free);
            let acceptable = free.validate().is_ok();
            let need = Need::asked(acme, &free);
            let node = world.state.nodes.get(&candidate.node).expect("there");
            let fits = fit(node, &world.state.load(node.id), &need).is_ok();
            prop_assert!(fits || !acceptable, "{} on {}", candidate.free, candidate.name);
        }
    }

    #[test]
    fn another_node_never_makes_it_worse((nodes, held, asked) in sizes(), more in 256_u64..40_000) {
        let memory: Vec<Bytes> = nodes.iter().map(|mib| Bytes::mib(*mib)).collect();
        let mut world = World::with_nodes(&memory);
        for (n, mib) in held.iter().enumerate() {
            let n = u8::try_from(n).expect("few");
            world.must(create_workspace(n, &format!("w{n}"), spec(Bytes::mib(*mib))));
        }
        world.settle();
        let asked = spec(Bytes::mib(asked));
        let before = would_go(&world, &asked).node.is_some();
        // what was queued takes of the new node first; it is emptied to ask the same question
        let queued: Vec<u8> = (0..12)
            .filter(|n| {
                let found = world.state.workspaces.get(&workspace(*n));
                found.is_some_and(|one| one.assignment.is_none())
            })
            .collect();
        for n in queued {
            world.must(set_run(n, RunRequest::Delete));
        }
        world.add_node(100, facts(Bytes::mib(more), 1));
        prop_assert!(!before || would_go(&world, &asked).node.is_some());
    }
}
