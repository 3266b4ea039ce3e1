//! A cluster that comes back from a backup: it takes over what nodes know more, and nothing that
//! runs is touched.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use warren_common::{
    Bytes, Generation, NodeId, ReplicaId, Revision,
    spec::{HeldOrder, NodeSpec, Run, WorkspaceOrder},
    status::RunState,
};
use warren_model::{
    Action, ClusterState, Command, Envelope, Held, HeldContainer, HeldState, RefusalCode,
    command::{
        AccountNode, AdoptNode, AdoptWorkspace, Assign, Availability, BeginIncarnation,
        ChangeAllowed, EndRecovery, Forget, NoteBackup, RegisterNode, ResizeWorkspace, RunRequest,
        SetNodeAvailability, SetReplica, Update, UpdateWorkspace,
    },
    diff_recovering, node_spec, plan,
    state::{Desired, PhaseKind, recovery::RECOVERY_LEAST},
};

use crate::{
    make::{
        START, World, boot, client, coordinator, create_client, create_workspace, facts, node,
        observed, person, request, set_run, spec, workspace,
    },
    random::{Move, apply_checked, begun, command, moves},
    templated,
};

const NEW: u32 = 100;

fn begin(incarnation: u32, replica: u64) -> Command {
    let replica = SetReplica {
        replica: ReplicaId(replica),
        api_address: "h:1".to_owned(),
        raft_address: "h:2".to_owned(),
    };
    let reason = "restored from a backup".to_owned();
    Command::BeginIncarnation(BeginIncarnation { incarnation, replica, reason })
}

/// What the node's ledger says after it took everything it was told.
fn ledger(spec: &NodeSpec) -> Vec<HeldOrder> {
    let started = |order: &WorkspaceOrder| order.permit.map_or(0, |permit| permit.run_serial);
    let held =
        |order: &WorkspaceOrder| HeldOrder { order: order.clone(), started_run: started(order) };
    spec.workspaces.iter().map(held).collect()
}

/// The commands that one returning node leads to.
fn returning(restored: &ClusterState, was: &ClusterState, id: NodeId) -> Vec<Command> {
    let old = &was.nodes[&id];
    let spec = node_spec(was, id, 1);
    let (node, revision) = (id, spec.revision);
    let mut commands = Vec::new();
    if !restored.nodes.contains_key(&id) {
        let (name, facts) = (old.name.clone(), old.facts.clone());
        commands.push(Command::AdoptNode(AdoptNode { node, name, facts }));
    }
    commands.push(Command::RegisterNode(RegisterNode { node, facts: old.facts.clone() }));
    let adopt = |held| Command::AdoptWorkspace(Box::new(AdoptWorkspace { node, revision, held }));
    commands.extend(ledger(&spec).into_iter().map(adopt));
    let holds = spec.workspaces.iter().map(|order| order.workspace).collect();
    commands.push(Command::AccountNode(AccountNode { node, revision, holds }));
    commands
}

/// Backed up after some moves, lost after more, restored: the nodes come back in any order.
fn restore(before: &[Move], after: &[Move], turn: usize) -> Result<(), TestCaseError> {
    let (mut was, mut at, mut backup) = (ClusterState::default(), START, None);
    let all: Vec<&Move> = before.iter().chain(after).collect();
    let mut made = BTreeSet::new();
    for (number, one) in all.iter().enumerate() {
        if number == before.len() {
            backup = Some(was.clone());
        }
        if let Move::Wait(millis) = one {
            at.0 += millis;
        }
        let Some((command, own)) = command(&was, one, at) else { continue };
        // ids are minted once: nothing comes back under the id of something that is gone
        if let Command::CreateWorkspace(create) = &command
            && !made.insert(create.workspace)
        {
            continue;
        }
        let principal = if own { coordinator() } else { person() };
        let request = request(at, number as u64);
        was.apply(&Envelope { request, principal, at, if_revision: None, command });
    }
    let mut state = backup.unwrap_or_else(|| was.clone());
    prop_assume!(state.cluster.is_some());
    let mut number = 10_000;
    let mut ask = |state: &mut ClusterState, command: Command| {
        number += 1;
        let (request, principal) = (request(at, number), coordinator());
        let envelope = Envelope { request, principal, at, if_revision: None, command };
        let (answer, _) = apply_checked(state, &envelope);
        // again, as after a crash in between: nothing changes
        let (revision, register) = (state.revision, &envelope.command);
        if !matches!(register, Command::RegisterNode(_)) {
            let (again, _) = apply_checked(state, &envelope);
            assert_eq!(again.is_ok(), answer.is_ok());
            assert_eq!(state.revision, revision, "{:?} has no effect twice", envelope.command);
        }
        answer
    };
    let fresh = state.highest_replica().0 + 1;
    prop_assert_eq!(ask(&mut state, begin(NEW, fresh)), Ok(()));
    let alive = |node: &NodeId| was.nodes[node].availability != Availability::Retired;
    // what was never registered has nothing to tell
    let known = |node: &NodeId| was.nodes[node].registered.is_some();
    let mut nodes: Vec<NodeId> =
        was.nodes.keys().copied().filter(|id| alive(id) && known(id)).collect();
    let by = turn % nodes.len().max(1);
    nodes.rotate_left(by);
    for id in &nodes {
        for command in returning(&state, &was, *id) {
            prop_assert_eq!(ask(&mut state, command.clone()), Ok(()), "{:?}", command);
        }
    }
    for id in &nodes {
        let (told, now) = (node_spec(&was, *id, 1), node_spec(&state, *id, 1));
        prop_assert!(now.recovering && now.incarnation == NEW);
        let now: BTreeMap<_, _> = now.workspaces.iter().map(|one| (one.workspace, one)).collect();
        for old in &told.workspaces {
            let new = now.get(&old.workspace);
            let new = new.ok_or_else(|| TestCaseError::fail(format!("{old:?} is lost")))?;
            prop_assert_eq!(
                (new.generation, new.run, new.run_serial, new.permit, &new.spec),
                (old.generation, old.run, old.run_serial, old.permit, &old.spec)
            );
        }
        let only = now
            .values()
            .filter(|new| !told.workspaces.iter().any(|old| old.workspace == new.workspace));
        for new in only {
            // it was deleted after the backup: it must not run again unasked
            prop_assert!(new.run != Run::Running, "{:?} comes back from the dead", new);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn after_a_restore_every_node_is_told_what_it_was_told_before(
        before in prop::collection::vec(moves(), 0..60),
        after in prop::collection::vec(moves(), 0..60),
        turn in 0_usize..3,
    ) {
        let mut moves = begun();
        moves.extend(before);
        restore(&moves, &after, turn)?;
    }
}

/// A running workspace on n1, and what n1's ledger says of it.
fn running() -> World {
    let mut world = World::with_nodes(&[Bytes::gib(8), Bytes::gib(8)]);
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    world.settle();
    world.report(1, false, vec![observed(1, 1, RunState::Prepared)]);
    world.settle();
    world.report(1, false, vec![observed(1, 1, RunState::Running)]);
    world.settle();
    assert_eq!(world.workspace(1).phase.kind, PhaseKind::Active);
    world
}

fn come_back(world: &mut World, was: &ClusterState, n: u8) {
    for command in returning(&world.state, was, node(n)) {
        world.must(command);
    }
    world.report(n, true, Vec::new());
}

#[test]
fn while_a_cluster_recovers_nothing_is_placed_removed_or_planned_on_unheard_nodes() {
    let mut world = running();
    world.must(set_run(1, RunRequest::Delete));
    world.must(create_workspace(2, "later", spec(Bytes::gib(1))));
    let was = world.state.clone();
    world.must(begin(NEW, 2));
    let generation = world.workspace(1).generation;
    let refused = world.refused(Command::Forget(Forget { workspace: workspace(1), generation }));
    assert_eq!(refused.code, RefusalCode::WrongState);
    assert!(refused.message.contains("waiting for node n1, n2"), "{refused}");
    let (workspace, node) = (workspace(2), node(2));
    let previous = Generation::default();
    let assign = Assign { workspace, node, previous, reason: String::new() };
    assert_eq!(world.refused(Command::Assign(assign)).code, RefusalCode::WrongState);
    world.wait(120_000);
    let planned = plan(&world.state, &world.live, world.now);
    assert_eq!(planned.commands, []);
    let (_, why) = &planned.report.queued[0];
    assert!(why.summary.contains("waiting for node n1, n2"), "{}", why.summary);
    come_back(&mut world, &was, 1);
    // its node says that it is gone, and still the record stays until the end
    world.report(1, true, vec![observed(1, 1, RunState::Absent)]);
    assert_eq!(plan(&world.state, &world.live, world.now).commands, []);
    come_back(&mut world, &was, 2);
    world.settle();
    assert!(world.state.recovery.is_none(), "every node was heard");
    assert_eq!(world.state.workspaces.get(&crate::make::workspace(1)), None, "now it is removed");
    assert_eq!(world.workspace(2).phase.kind, PhaseKind::Assigned);
    assert_eq!(world.workspace(2).generation, Generation::new(NEW, 1));
}

#[test]
fn a_recovery_lasts_a_moment_ends_by_itself_and_can_be_ended() {
    let mut world = running();
    let was = world.state.clone();
    world.must(begin(NEW, 2));
    let early = EndRecovery { node: None, early: false };
    assert_eq!(world.refused(Command::EndRecovery(early)).code, RefusalCode::WrongState);
    for n in [1, 2] {
        come_back(&mut world, &was, n);
    }
    let planned = plan(&world.state, &world.live, world.now);
    assert_eq!(planned.commands, [], "who joined after the backup needs a moment");
    let over = planned.wake_at.expect("the planner looks again");
    assert!(over <= world.state.recovery.as_ref().expect("it goes on").earliest_end());
    world.wait(u64::try_from(RECOVERY_LEAST.as_millis()).expect("short"));
    world.settle();
    assert!(world.state.recovery.is_none());

    let mut world = running();
    world.must(begin(NEW, 2));
    world.must(Command::EndRecovery(EndRecovery { node: Some(node(2)), early: true }));
    let awaited = &world.state.recovery.as_ref().expect("it goes on").awaited;
    assert!(awaited.contains(&node(1)) && !awaited.contains(&node(2)));
    let retire = SetNodeAvailability { node: node(2), availability: Availability::Retired };
    world.must(Command::SetNodeAvailability(retire));
    world.must(Command::EndRecovery(EndRecovery { node: None, early: true }));
    assert!(world.state.recovery.is_none());
    world.must(Command::EndRecovery(EndRecovery { node: None, early: true }));
}

#[test]
fn who_takes_a_backup_is_on_record_and_nothing_else_changes() {
    let mut world = World::new();
    let note = Command::NoteBackup(NoteBackup { revision: world.state.revision });
    let before = world.state.clone();
    let asked = world.envelope(person(), note.clone());
    let record = world.apply(&asked).audit.expect("it is on record");
    assert_eq!(record.action, "cluster.backup");
    assert_eq!(record.principal, person());
    assert_eq!(record.detail, format!("of revision {} or later", before.revision.0));
    let same = ClusterState {
        revision: before.revision,
        audit: before.audit,
        requests: before.requests.clone(),
        ..world.state.clone()
    };
    assert_eq!(same, before);
    let by_node = world.envelope(warren_model::Principal::Node(node(1)), note);
    let refusal = world.apply(&by_node).result.expect_err("no node takes one");
    assert_eq!(refusal.code, RefusalCode::NotAllowed);
}

#[test]
fn an_incarnation_only_rises_under_an_id_that_never_was() {
    let mut world = running();
    let replica = |replica: u64| {
        let address = format!("h:{replica}");
        Command::SetReplica(SetReplica {
            replica: ReplicaId(replica),
            api_address: address.clone(),
            raft_address: address,
        })
    };
    for n in 1..=3 {
        world.must(replica(n));
    }
    let code = |world: &mut World, command| world.refused(command).code;
    assert_eq!(code(&mut world, begin(7, 4)), RefusalCode::WrongState);
    assert_eq!(code(&mut world, begin(NEW, 3)), RefusalCode::WrongState);
    let revision = world.state.revision;
    world.must(begin(NEW, 4));
    world.must(begin(NEW, 4));
    assert_eq!(world.state.revision, revision.next(), "twice is once");
    assert_eq!(world.state.replicas.len(), 1, "the old ones are no part of it any more");
    assert!(world.state.tokens.is_empty());
    let envelope = world.envelope(person(), begin(NEW + 1, 5));
    let by_person = world.apply(&envelope).result.expect_err("a coordinator's alone");
    assert_eq!(by_person.code, RefusalCode::NotAllowed);
}

#[test]
fn a_higher_run_on_the_node_is_taken_and_never_granted_again() {
    let mut world = running();
    let backup = world.state.clone();
    for serial in 2..4 {
        world.must(set_run(1, RunRequest::Restart));
        world.report(1, false, vec![observed(1, serial, RunState::Prepared)]);
        world.settle();
    }
    let was = std::mem::replace(&mut world.state, backup);
    world.must(begin(NEW, 2));
    // a person who asks for a new run before the node is heard gets one that never was
    let mut impatient = world.clone();
    impatient.must(set_run(1, RunRequest::Restart));
    come_back(&mut impatient, &was, 1);
    assert_eq!(impatient.workspace(1).run_serial, 4);
    assert_eq!(impatient.workspace(1).phase.kind, PhaseKind::Preparing);
    // one who asks for a stop keeps it
    let mut stopping = world.clone();
    stopping.must(set_run(1, RunRequest::Stop));
    come_back(&mut stopping, &was, 1);
    assert_eq!(stopping.workspace(1).desired, Desired::Stopped);
    assert_eq!(stopping.workspace(1).run_serial, 3, "no STALE_ORDER on the node");
    come_back(&mut world, &was, 1);
    assert_eq!(world.workspace(1).run_serial, 3);
    assert_eq!(world.workspace(1).phase.kind, PhaseKind::StartPermitted);
}

#[test]
fn what_was_resized_after_the_backup_stays_so_whatever_was_asked_of_the_run() {
    let mut world = running();
    let backup = world.state.clone();
    let resize = |memory| {
        let memory = Some(Bytes::gib(memory));
        Command::ResizeWorkspace(ResizeWorkspace { memory, ..ResizeWorkspace::of(workspace(1)) })
    };
    world.must(resize(2));
    let was = std::mem::replace(&mut world.state, backup);
    world.must(begin(NEW, 2));
    let memory = |world: &World| world.workspace(1).spec.resources.memory;
    for asked in [RunRequest::Stop, RunRequest::Restart] {
        let mut impatient = world.clone();
        impatient.must(set_run(1, asked));
        assert_eq!(memory(&impatient), Bytes::gib(1), "as the backup knows it");
        come_back(&mut impatient, &was, 1);
        assert_eq!(memory(&impatient), Bytes::gib(2), "{asked:?}");
    }
    // who ends the recovery early and resizes it is not overruled by what its node was told before
    let mut resized = world.clone();
    resized.must(Command::EndRecovery(EndRecovery { node: None, early: true }));
    resized.must(resize(3));
    come_back(&mut resized, &was, 1);
    assert_eq!(memory(&resized), Bytes::gib(3));
    // nor is what the backup knows by a node that was away before
    let mut world = running();
    let was = world.state.clone();
    world.must(resize(2));
    world.must(begin(NEW, 2));
    world.must(set_run(1, RunRequest::Stop));
    come_back(&mut world, &was, 1);
    assert_eq!(memory(&world), Bytes::gib(2));
}

#[test]
fn what_was_updated_after_the_backup_stays_so_unless_it_was_updated_again() {
    let mut world = running();
    let first = world.workspace(1).spec.whole().image;
    let backup = world.state.clone();
    let update = |image: &str| {
        let update = Update::Image(image.to_owned());
        Command::UpdateWorkspace(UpdateWorkspace { workspace: workspace(1), update })
    };
    world.must(update("agents:2"));
    let was = std::mem::replace(&mut world.state, backup);
    world.must(begin(NEW, 2));
    assert_eq!(world.refused(update("agents:3")).code, RefusalCode::WrongState);
    let image = |world: &World| world.workspace(1).spec.whole().image;
    for asked in [RunRequest::Stop, RunRequest::Restart] {
        let mut impatient = world.clone();
        impatient.must(set_run(1, asked));
        assert_eq!(image(&impatient), first, "as the backup knows it");
        come_back(&mut impatient, &was, 1);
        assert_eq!(image(&impatient), "agents:2", "{asked:?}");
    }
    world.must(Command::EndRecovery(EndRecovery { node: None, early: true }));
    world.must(update("agents:3"));
    come_back(&mut world, &was, 1);
    assert_eq!(image(&world), "agents:3");
}

#[test]
fn what_a_workspace_was_made_from_follows_what_its_node_was_told() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    world.must(templated::make(1));
    world.settle();
    let backup = world.state.clone();
    world.must(templated::update(1, 2, |spec| "agents:2".clone_into(&mut spec.image)));
    let was = std::mem::replace(&mut world.state, backup);
    world.must(begin(NEW, 2));
    let made_of = |world: &World| world.state.recipes[&workspace(1)].as_ref().clone();
    assert_eq!(made_of(&world), templated::recipe(1));
    come_back(&mut world, &was, 1);
    assert_eq!(made_of(&world), templated::recipe(2), "the same parameters");
    assert_eq!(world.workspace(1).spec.whole().image, "agents:2");
    world.must(Command::EndRecovery(EndRecovery { node: None, early: true }));
    world.must(templated::update(2, 3, |spec| "agents:3".clone_into(&mut spec.image)));
    come_back(&mut world, &was, 1);
    assert_eq!(world.workspace(1).spec.whole().image, "agents:3", "updated since the restore");
    assert_eq!(made_of(&world), templated::recipe(3));
}

#[test]
fn what_clients_were_allowed_before_a_restore_is_to_be_looked_at() {
    let mut world = World::new();
    world.must(create_client(2, "beta"));
    let one = |text: &str| [text.parse().expect("a destination")].into();
    let change = |n, allow, disallow| {
        Command::ChangeAllowed(ChangeAllowed { client: client(n), allow, disallow })
    };
    let open = "10.1.2.0/24:5432";
    for n in [1, 2] {
        world.must(change(n, one(open), BTreeSet::new()));
    }
    let looked = change(1, BTreeSet::new(), BTreeSet::new());
    let envelope = world.envelope(person(), looked.clone());
    assert_eq!(world.apply(&envelope).audit, None, "there is nothing to be looked at");
    world.must(begin(NEW, 2));
    assert_eq!(world.state.unreviewed.len(), 2);
    // opening more says nothing about the rest
    world.must(change(1, one("10.9.0.0/16:22"), BTreeSet::new()));
    assert!(world.state.unreviewed.contains(&client(1)));
    let envelope = world.envelope(person(), looked);
    let record = world.apply(&envelope).audit.expect("it is on record");
    let stays = "10.1.2.0/24:5432/tcp, 10.9.0.0/16:22/tcp";
    assert_eq!((record.action.as_str(), record.detail.as_str()), ("client.review", stays));
    assert_eq!(world.state.allowed[&client(1)].len(), 2, "nothing is closed by it");
    world.must(change(2, BTreeSet::new(), one(open)));
    assert!(world.state.unreviewed.is_empty(), "nothing is left to look at");
}

#[test]
fn clients_and_names_made_after_the_backup_come_back_beside_those_that_took_them() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let backup = world.state.clone();
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    world.settle();
    let was = std::mem::replace(&mut world.state, backup);
    world.must(begin(NEW, 2));
    // somebody makes the same names again before the node is heard
    let mut taken = world.clone();
    taken.must(create_workspace(7, "web", spec(Bytes::gib(1))));
    come_back(&mut taken, &was, 1);
    assert_eq!(taken.state.workspace_label(workspace(1)), "acme/web-2");
    assert_eq!(taken.state.workspace_label(workspace(7)), "acme/web");
    come_back(&mut world, &was, 1);
    assert_eq!(world.state.workspace_label(workspace(1)), "acme/web");
    assert_eq!(world.workspace(1).generation, Generation::new(7, 1), "what runs keeps its number");
    // a made-up generation is refused
    let mut held = ledger(&node_spec(&was, node(1), 1)).remove(0);
    held.order.generation = Generation::new(NEW + 1, 1);
    let adopt = AdoptWorkspace { node: node(1), revision: Revision(1), held };
    let refused = world.refused(Command::AdoptWorkspace(Box::new(adopt)));
    assert_eq!(refused.code, RefusalCode::InvalidSpec);
}

#[test]
fn a_recovering_node_leaves_alone_what_it_was_not_told_about() {
    let state = world_order();
    let order = &state.workspaces[0];
    let held = |held_state| Held {
        volume: true,
        network: true,
        container: Some(HeldContainer {
            generation: order.generation,
            run_serial: order.run_serial,
            state: held_state,
            started_in_boot: Some(boot(1)),
        }),
        started: Some((order.generation, order.run_serial)),
    };
    let running = held(HeldState::Running { settled: true });
    let left = diff_recovering(None, &running, boot(1));
    assert_eq!((left.action, left.report), (Action::Nothing, RunState::Running));
    let removed = WorkspaceOrder { run: Run::Removed, ..order.clone() };
    for there in [running.clone(), held(HeldState::Created), held(exited())] {
        let left = diff_recovering(Some(&removed), &there, boot(1));
        assert_eq!(left.action, Action::Nothing, "nothing is removed: {there:?}");
    }
    let stopped = WorkspaceOrder { run: Run::Stopped, ..order.clone() };
    assert_eq!(diff_recovering(Some(&stopped), &running, boot(1)).action, Action::Stop);
    assert_eq!(diff_recovering(None, &Held::default(), boot(1)).report, RunState::Absent);
}

const fn exited() -> HeldState {
    HeldState::Exited { code: Some(0), oom: false }
}

fn world_order() -> NodeSpec {
    let world = running();
    assert_eq!(world.state.nodes[&node(1)].facts, facts(Bytes::gib(8), 1));
    node_spec(&world.state, node(1), 1)
}
