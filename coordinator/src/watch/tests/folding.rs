//! A list, and the events after it, give the later list.

use std::collections::BTreeMap;

use proptest::prelude::*;
use warren_common::Revision;
use warren_model::{
    ClusterState, Command, LiveView,
    command::{
        Advance, Assign, Availability, Forget, RegisterNode, RunRequest, SetNodeAvailability,
        SetRun, Step,
    },
};
use warren_proto::pb::admin::v1::{self as pb, event::What};

use super::{
    START, World, boot, create_client, create_workspace, delete_client, facts, issue, join,
    label_client, node, workspace,
};
use crate::{
    api::view::{Said, View},
    watch::{ring::Bounds, show},
};

/// The three lists, by id, less what nodes report.
#[derive(Debug, Clone, Default, PartialEq)]
struct Lists {
    clients: BTreeMap<String, pb::Client>,
    nodes: BTreeMap<String, pb::Node>,
    workspaces: BTreeMap<String, pb::Workspace>,
}

impl Lists {
    fn of(state: &ClusterState) -> Self {
        let live = LiveView::new(START);
        let view = View { state, live: &live, now: START };
        let clients = state.clients.values().map(|one| (one.id.to_string(), view.client(one)));
        let workspaces = state.workspaces.values();
        let workspaces = workspaces.map(|one| (one.id.to_string(), view.workspace(one)));
        let nodes = state.nodes.values().map(|one| {
            let shown = view.node(one, Said::default());
            let (liveness, reason, last_seen_unix_ms) = Default::default();
            (one.id.to_string(), pb::Node { liveness, reason, last_seen_unix_ms, ..shown })
        });
        Self {
            clients: clients.collect(),
            nodes: nodes.collect(),
            workspaces: workspaces.collect(),
        }
    }

    fn take(&mut self, event: pb::Event) {
        match event.what.expect("every event says what") {
            What::ClientCreated(pb::ClientCreated { client })
            | What::ClientUpdated(pb::ClientUpdated { client }) => {
                let client = client.expect("the client");
                self.clients.insert(client.id.clone(), client);
            }
            What::ClientDeleted(gone) => drop(self.clients.remove(&gone.id)),
            What::NodeJoined(pb::NodeJoined { node })
            | What::NodeRegistered(pb::NodeRegistered { node })
            | What::NodeFactsChanged(pb::NodeFactsChanged { node })
            | What::NodeAccounted(pb::NodeAccounted { node })
            | What::NodeAvailabilityChanged(pb::NodeAvailabilityChanged { node }) => {
                let node = node.expect("the node");
                self.nodes.insert(node.id.clone(), node);
            }
            What::WorkspaceCreated(pb::WorkspaceCreated { workspace })
            | What::WorkspaceResized(pb::WorkspaceResized { workspace })
            | What::WorkspacePhaseChanged(pb::WorkspacePhaseChanged { workspace, .. }) => {
                let workspace = workspace.expect("the workspace");
                self.workspaces.insert(workspace.id.clone(), workspace);
            }
            What::WorkspaceRemoved(gone) => drop(self.workspaces.remove(&gone.id)),
            What::ClusterInitialised(_)
            | What::ReplicaSet(_)
            | What::TokenIssued(_)
            | What::CertificateRevoked(_)
            | What::CertificateIssued(_)
            | What::PersonInvited(_)
            | What::PersonEnrolled(_)
            | What::PersonRevoked(_)
            | What::ReplicaJoined(_)
            | What::ReplicaRemoved(_)
            | What::IncarnationBegun(_)
            | What::RecoveryEnded(_) => {}
        }
    }

    /// Counts anew what a list counts over other objects.
    fn count(&mut self) {
        for client in self.clients.values_mut() {
            let count = self.workspaces.values().filter(|one| one.client == client.name).count();
            client.workspaces = u32::try_from(count).expect("few");
        }
        for node in self.nodes.values_mut() {
            let on = || self.workspaces.values().filter(|one| one.node_id == node.id);
            let resources = || on().filter_map(|one| one.spec.as_ref()?.resources);
            let reserved = resources().map(|one| one.reserve_bytes).sum();
            let capped = resources().map(|one| one.memory_bytes).sum();
            let count = u32::try_from(on().count()).expect("few");
            node.reserved_memory_bytes = reserved;
            node.capped_memory_bytes = capped;
            node.workspaces = count;
            // memory is what these nodes run out of first
            let room = node.facts.as_ref().map_or(0, |facts| facts.allocatable_memory_bytes);
            node.overcommitted = reserved > room || capped > room;
        }
    }
}

/// One random move: what, and on which objects.
type Move = (u8, u8, u8);

/// Turns a move into a command that has a chance of being allowed.
fn command(world: &World, (what, one, other): Move) -> Command {
    let id = workspace(one);
    let known = world.state.workspaces.get(&id);
    let generation = known.map(|known| known.generation).unwrap_or_default();
    let run_serial = known.map_or(0, |known| known.run_serial);
    let advance = |step| Command::Advance(Advance { workspace: id, generation, run_serial, step });
    let set_run = |run| Command::SetRun(SetRun { workspace: id, run });
    match what {
        0 => create_client(other),
        1 => delete_client(other),
        2 | 3 => create_workspace(other, one, None),
        4 => {
            set_run([RunRequest::Start, RunRequest::Stop, RunRequest::Restart][usize::from(other)])
        }
        5 => set_run(RunRequest::Delete),
        6 | 7 => Command::Assign(Assign {
            workspace: id,
            node: node(other),
            previous: generation,
            reason: String::new(),
        }),
        8 => advance(Step::Preparing),
        9 => advance(Step::Permit { boot: boot(1) }),
        10 => advance(Step::Active),
        11 => advance(Step::Stopped),
        12 => advance(Step::Ended { reason: "it ended".to_owned() }),
        13 => advance(Step::Fail { code: "IMAGE_MISSING".to_owned(), reason: String::new() }),
        14 => Command::Forget(Forget { workspace: id, generation }),
        15 => issue(other, world.now),
        16 => join(other),
        17 => {
            let facts = facts(u64::from(one) + 1);
            Command::RegisterNode(RegisterNode { node: node(other), facts })
        }
        18 => label_client(other, one),
        _ => {
            let availability =
                [Availability::Active, Availability::Cordoned, Availability::Draining];
            let availability = availability[usize::from(one) % 3];
            Command::SetNodeAvailability(SetNodeAvailability { node: node(other), availability })
        }
    }
}

fn begun() -> Vec<Move> {
    vec![
        (0, 0, 0),
        (0, 0, 1),
        (15, 0, 0),
        (16, 0, 0),
        (17, 3, 0),
        (15, 0, 1),
        (16, 0, 1),
        (17, 3, 1),
    ]
}

/// A node that shrank, and fits again once a workspace has gone: no event is the node's own.
#[test]
fn what_is_overcommitted_is_counted_anew() {
    let mut moves: Vec<Move> = begun();
    moves.extend([(2, 0, 0), (2, 1, 0), (2, 2, 0), (6, 0, 0), (6, 1, 0), (6, 2, 0)]);
    moves.extend([(5, 1, 0), (17, 1, 0), (14, 1, 0)]);
    let (lists, later) = folded(&moves, 0, 1);
    assert!(lists.workspaces.len() == 2 && !later.nodes.values().any(|node| node.overcommitted));
    assert_eq!(lists, later);
}

/// Makes the moves in batches; returns a list taken at the first batch from `first` on with the
/// events after it, and the later list.
fn folded(moves: &[Move], first: usize, batch: usize) -> (Lists, Lists) {
    let mut world = World::new(Bounds::default());
    let mut listed: Option<(Revision, Lists)> = None;
    for (index, chunk) in moves.chunks(batch).enumerate() {
        if listed.is_none() && index * batch >= first {
            listed = Some((world.state.revision, Lists::of(&world.state)));
        }
        // a command depends on the state before its batch: some are refused, as in life
        let commands = chunk.iter().map(|one| command(&world, *one)).collect();
        world.apply(commands);
    }
    let (revision, mut lists) =
        listed.unwrap_or_else(|| (world.state.revision, Lists::of(&world.state)));
    let mut cursor = world.ring.seek(0, revision).expect("kept");
    loop {
        let batch = world.ring.read(&cursor).expect("kept");
        for record in &batch.records {
            lists.take(show::event(record));
        }
        cursor = batch.upto;
        if !batch.more {
            break;
        }
    }
    assert_eq!(cursor.revision, world.state.revision);
    lists.count();
    (lists, Lists::of(&world.state))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_list_and_the_events_after_it_give_the_later_list(
        moves in prop::collection::vec((0_u8..20, 0_u8..5, 0_u8..3), 1..120),
        part in 0.0_f64..1.0,
        batch in 1_usize..6,
    ) {
        let moves: Vec<Move> = begun().into_iter().chain(moves).collect();
        let first = (moves.len() as f64 * part) as usize;
        let (lists, later) = folded(&moves, first, batch);
        prop_assert_eq!(lists, later);
    }
}
