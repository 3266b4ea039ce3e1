//! Whole lives: the planner, `apply` and the node's `diff` around a node that exists in memory only.

use warren_common::{
    BootId, Bytes, Generation, Limits, WorkspaceId, spec::NodeSpec, status::RunState,
};
use warren_model::{
    Action, Command, Held, HeldContainer, HeldState,
    command::{RegisterNode, RunRequest},
    diff, node_spec, plan,
    state::{PhaseKind, workspace::RUN_WELL},
};

use crate::make::{World, boot, create_workspace, facts, node, observed, set_run, spec, workspace};

/// Node `n1`: it has an engine that never fails, and refuses older documents.
struct FakeNode {
    boot: BootId,
    spec: NodeSpec,
    held: Held,
    /// Every start, to prove that no run starts twice.
    starts: Vec<(Generation, u64)>,
    /// It hears and says nothing.
    silent: bool,
}

impl FakeNode {
    fn new() -> Self {
        let (spec, held) = (NodeSpec::default(), Held::default());
        Self { boot: boot(1), spec, held, starts: Vec::new(), silent: false }
    }

    /// Takes the newest document, goes one step and reports. Returns whether anything was done.
    fn turn(&mut self, world: &mut World) -> bool {
        if self.silent {
            return false;
        }
        let spec = node_spec(&world.state, node(1), 1);
        if spec.rank() >= self.spec.rank() {
            self.spec = spec;
        }
        let order = self.spec.workspaces.iter().find(|one| one.workspace == workspace(1)).cloned();
        let next = diff(order.as_ref(), &self.held, self.boot);
        let busy = !matches!(next.action, Action::Nothing | Action::AwaitPermit | Action::Refuse);
        self.take(next.action);
        if let Some(order) = order {
            let mut said = observed(1, order.run_serial, next.report);
            said.generation = order.generation;
            world.report(1, true, vec![said]);
        }
        busy
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Nothing | Action::AwaitPermit | Action::Refuse => {}
            Action::EnsureVolume => self.held.volume = true,
            Action::EnsureNetwork => self.held.network = true,
            Action::CreateContainer => {
                let order = &self.spec.workspaces[0];
                self.held.container = Some(HeldContainer {
                    generation: order.generation,
                    run_serial: order.run_serial,
                    state: HeldState::Created,
                    started_in_boot: None,
                });
            }
            Action::Start => {
                let container = self.held.container.as_mut().expect("made before");
                let run = (container.generation, container.run_serial);
                container.started_in_boot = Some(self.boot);
                container.state = HeldState::Running { settled: true };
                self.held.started = Some(run);
                assert!(!self.starts.contains(&run), "run {run:?} started twice");
                self.starts.push(run);
            }
            Action::Stop => self.exit(143, false),
            Action::RemoveContainer => self.held.container = None,
            Action::RemoveNetwork => self.held.network = false,
            Action::RemoveVolume => self.held.volume = false,
        }
    }

    fn exit(&mut self, code: i32, oom: bool) {
        let container = self.held.container.as_mut().expect("it runs");
        container.state = HeldState::Exited { code: Some(code), oom };
    }

    /// Power cut and back: another boot, nothing runs, the agent registers anew.
    fn reboot(&mut self, world: &mut World) {
        self.boot = boot(2);
        if let Some(HeldContainer { state: HeldState::Running { .. }, .. }) = self.held.container {
            self.exit(137, false);
        }
        let facts = facts(Bytes::gib(8), 2);
        world.must(Command::RegisterNode(RegisterNode { node: node(1), facts }));
    }
}

/// Lets planner and node run until neither has anything to do.
fn run(world: &mut World, node: &mut FakeNode) {
    for _ in 0..60 {
        let busy = node.turn(world);
        let commands = plan(&world.state, &world.live, world.now).commands;
        if commands.is_empty() && !busy {
            return;
        }
        for command in commands {
            world.must(command);
        }
    }
    panic!("it does not come to rest: {:?}", world.state.workspaces);
}

/// Waits for what the planner says will be due next.
fn wake(world: &mut World, node: &mut FakeNode) {
    let at = plan(&world.state, &world.live, world.now).wake_at.expect("something is due");
    let wait = at.since(world.now).as_millis();
    world.wait(u64::try_from(wait).expect("soon"));
    run(world, node);
}

fn phase(world: &World) -> PhaseKind {
    world.workspace(1).phase.kind.clone()
}

fn started() -> (World, FakeNode) {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let mut node = FakeNode::new();
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    run(&mut world, &mut node);
    assert_eq!((phase(&world), world.workspace(1).run_serial), (PhaseKind::Active, 1));
    (world, node)
}

#[test]
fn create_crash_restart_stop_start_delete() {
    let (mut world, mut node) = started();
    node.exit(1, true);
    run(&mut world, &mut node);
    assert_eq!(phase(&world), PhaseKind::Preparing, "it waits for its back-off");
    let reason = world.workspace(1).phase.reason.as_ref();
    assert_eq!(reason, "it was killed for memory; it starts again after 1 s");
    wake(&mut world, &mut node);
    assert_eq!((phase(&world), world.workspace(1).run_serial), (PhaseKind::Active, 2));

    world.must(set_run(1, RunRequest::Restart));
    run(&mut world, &mut node);
    assert_eq!((phase(&world), world.workspace(1).run_serial), (PhaseKind::Active, 3));

    world.must(set_run(1, RunRequest::Stop));
    assert_eq!(phase(&world), PhaseKind::Stopping);
    run(&mut world, &mut node);
    assert_eq!(phase(&world), PhaseKind::Stopped);
    assert!(node.held.volume, "the home is kept");

    world.must(set_run(1, RunRequest::Start));
    run(&mut world, &mut node);
    assert_eq!((phase(&world), world.workspace(1).run_serial), (PhaseKind::Active, 4));

    world.must(set_run(1, RunRequest::Delete));
    assert!(world.state.workspaces.contains_key(&workspace(1)), "until the node says it is gone");
    run(&mut world, &mut node);
    assert!(world.state.workspaces.is_empty() && world.state.placed.is_empty());
    assert!(!node.held.volume && !node.held.network && node.held.container.is_none());
    assert_eq!(node.starts.len(), 4);
}

#[test]
fn a_reboot_needs_a_new_permit_and_starts_a_new_run() {
    let (mut world, mut node) = started();
    world.wait(1_000);
    node.reboot(&mut world);
    run(&mut world, &mut node);
    wake(&mut world, &mut node);
    assert_eq!((phase(&world), world.workspace(1).run_serial), (PhaseKind::Active, 2));
    let assignment = world.workspace(1).assignment.as_ref().expect("placed");
    assert_eq!(assignment.permit.map(|permit| permit.boot), Some(boot(2)));
}

#[test]
fn a_reboot_between_permit_and_start_gets_another_permit_for_the_same_run() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let mut node = FakeNode::new();
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    for _ in 0..60 {
        if phase(&world) == PhaseKind::StartPermitted {
            break;
        }
        node.turn(&mut world);
        world.settle();
    }
    assert_eq!(phase(&world), PhaseKind::StartPermitted);
    node.reboot(&mut world);
    run(&mut world, &mut node);
    assert_eq!((phase(&world), node.starts.len()), (PhaseKind::Active, 1));
    assert_eq!(world.workspace(1).run_serial, 1);
}

#[test]
fn crashes_double_the_back_off_and_a_good_run_resets_it() {
    let (mut world, mut node) = started();
    let mut waits = Vec::new();
    for _ in 0..11 {
        node.exit(1, false);
        run(&mut world, &mut node);
        let end = world.workspace(1).not_before.expect("a back-off");
        waits.push(end.since(world.now).as_secs());
        // an agent reports while nothing changes, and the planner's other wake-ups come and go
        for _ in 0..100 {
            if phase(&world) == PhaseKind::Active {
                break;
            }
            wake(&mut world, &mut node);
        }
        assert_eq!(phase(&world), PhaseKind::Active);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    world.wait(u64::try_from(RUN_WELL.as_millis()).expect("minutes"));
    node.exit(0, false);
    run(&mut world, &mut node);
    let end = world.workspace(1).not_before.expect("a back-off");
    assert_eq!(end.since(world.now).as_secs(), 1);
}

#[test]
fn what_cannot_run_fails_until_somebody_asks_again() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let mut node = FakeNode::new();
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    world.settle();
    let (code, retry) = ("IMAGE_MISSING".to_owned(), false);
    let mut said = observed(1, 1, RunState::Failed { code: code.clone(), retry });
    said.reason = "image warren-workspace:latest is not on this node".to_owned();
    world.report(1, true, vec![said]);
    world.settle();
    assert_eq!(phase(&world), PhaseKind::Failed { code: code.into() });
    assert_eq!(
        world.workspace(1).phase.reason.as_ref(),
        "image warren-workspace:latest is not on this node"
    );
    let order = node_spec(&world.state, crate::make::node(1), 1).workspaces.remove(0);
    assert_eq!(order.run, warren_common::spec::Run::Stopped);
    world.must(set_run(1, RunRequest::Start));
    run(&mut world, &mut node);
    assert_eq!((phase(&world), world.workspace(1).run_serial), (PhaseKind::Active, 2));
}

#[test]
fn a_silent_nodes_workspace_moves_nowhere_and_says_what_it_waits_for() {
    let (mut world, mut node) = started();
    node.silent = true;
    world.wait(60_000);
    assert!(plan(&world.state, &world.live, world.now).commands.is_empty());
    assert_eq!(phase(&world), PhaseKind::Active, "that it ran last is all anybody knows");
    world.must(set_run(1, RunRequest::Delete));
    world.wait(200_000);
    let report = world.settle();
    let [(_, reason)] = &report.overdue[..] else { panic!("{report:?}") };
    assert_eq!(reason, "stopping for 3 min; waiting for node n1: not heard from for 4 min");
    node.silent = false;
    run(&mut world, &mut node);
    assert!(world.state.workspaces.is_empty(), "it goes when the node is back");
}

#[test]
fn a_permit_waits_for_a_node_that_is_heard_from() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    world.settle();
    world.report(1, true, vec![observed(1, 1, RunState::Prepared)]);
    world.wait(12_000);
    world.settle();
    assert_eq!(phase(&world), PhaseKind::Preparing);
    world.report(1, true, vec![observed(1, 1, RunState::Prepared)]);
    world.settle();
    assert_eq!(phase(&world), PhaseKind::StartPermitted);
}

#[test]
fn a_late_report_restarts_nothing_and_a_lost_ledger_does() {
    let (mut world, _) = started();
    let prepared = || vec![observed(1, 1, RunState::Prepared)];
    world.report(1, true, prepared());
    world.settle();
    assert_eq!(phase(&world), PhaseKind::Active, "it was on its way before");
    world.wait(30_000);
    assert!(plan(&world.state, &world.live, world.now).commands.is_empty(), "nothing new came");
    world.report(1, true, prepared());
    world.settle();
    assert_eq!((phase(&world), world.workspace(1).run_serial), (PhaseKind::Preparing, 2));
}

#[test]
fn facts_follow_what_matters_and_not_every_byte_of_disk() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let epoch = world.state.nodes[&node(1)].epoch;
    let mut said = facts(Bytes::gib(8), 1);
    said.disk = Bytes(said.disk.0 - Bytes::gib(10).0);
    world.live.facts(node(1), epoch, (said.clone(), world.now));
    assert!(plan(&world.state, &world.live, world.now).commands.is_empty());
    said.disk = Bytes::gib(500);
    world.live.facts(node(1), epoch, (said, world.now));
    world.settle();
    assert_eq!(world.state.nodes[&node(1)].facts.disk, Bytes::gib(500));
}

#[test]
fn a_round_is_bounded_and_goes_on_at_once() {
    let mut world = World::with_nodes(&[Bytes::gib(4000); 3]);
    for n in 0..=255_u8 {
        let mut small = spec(Bytes::mib(64));
        small.resources.disk = Limits::DISK_MIN;
        world.must(create_workspace(n, &format!("w{n}"), small));
    }
    let first = plan(&world.state, &world.live, world.now);
    assert_eq!(first.commands.len(), Limits::PLAN_COMMANDS);
    let id = |n: u128| WorkspaceId::new(uuid::Uuid::from_u128(n));
    for (n, name) in [(77, "late"), (78, "last")] {
        let Command::CreateWorkspace(mut one) = create_workspace(0, name, spec(Bytes::mib(64)))
        else {
            panic!("it is one")
        };
        one.workspace = id(n);
        world.must(Command::CreateWorkspace(one));
    }
    let second = plan(&world.state, &world.live, world.now);
    assert_eq!((second.commands.len(), second.wake_at), (Limits::PLAN_COMMANDS, Some(world.now)));
    assert_eq!(second.report.unread, 2, "they were not looked at");
    assert_eq!(second.report.placed.len(), Limits::PLAN_COMMANDS, "no more than is proposed");
    assert!(world.settle().queued.is_empty());
}
