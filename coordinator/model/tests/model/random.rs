//! Random lives of a cluster: the model answers as the naive one does, every invariant holds after
//! every command, and the same envelopes give the same bytes.

use proptest::prelude::*;
use warren_common::{Bytes, ClientId, ClusterId, Generation, Timestamp};
use warren_model::{
    AuditHead, ClusterState, Command, Envelope, LiveView, RefusalCode,
    command::{
        Advance, Assign, Availability, CreateWorkspace, DeleteClient, Forget, InitCluster,
        JoinNode, JoinReplica, RegisterNode, ResizeWorkspace, RunRequest, SetNodeAvailability,
        Step, Update, UpdateClient, UpdateNodeFacts, UpdateWorkspace,
    },
    invariants, plan, reads_alike,
    state::{Desired, Workspace},
    verify_chain,
};

use crate::{
    make::{
        START, boot, client, coordinator, coordinator_token, create_client, create_workspace,
        documents_follow, facts, issue, join, join_replica, node, person, remove_replica, request,
        set_replica, set_run, spec, workspace,
    },
    naive::{Naive, NaiveWorkspace},
};

/// A command whose numbers are filled in from the state when its turn comes, as a planner would.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    Init,
    Client(u8, usize),
    DropClient(u8),
    /// Labels to set, as numbers of keys and lengths of values, and to remove.
    Label(u8, Vec<(u8, usize)>, Vec<u8>),
    Token(u8),
    Join(u8, u8),
    Register(u8, u64, u8),
    Facts(u8, u64, u8),
    Availability(u8, Availability),
    Create(u8, u8, usize, u64),
    Run(u8, RunRequest),
    /// Memory in MiB.
    Resize(u8, u64),
    Update(u8, Option<bool>),
    /// Whether the number is the present one.
    Assign(u8, u8, bool),
    Advance(u8, Step, bool, bool),
    Forget(u8, bool),
    /// An envelope of before, once more.
    Again(prop::sample::Index),
    /// Coordinators' commands asked by a person.
    Meddle(u8),
    Wait(u64),
    SetReplica(u64, u8),
    CoordinatorToken(u8, Option<u64>),
    /// Token, key, host.
    JoinReplica(u8, u8, u8),
    RemoveReplica(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let text = || "it ended".to_owned();
    prop_oneof![
        2 => Just(Step::Preparing),
        6 => (1_u8..3).prop_map(|n| Step::Permit { boot: boot(n) }),
        6 => Just(Step::Active),
        2 => Just(Step::Stopped),
        2 => Just(Step::Ended { reason: text() }),
        1 => Just(Step::Fail { code: "IMAGE_MISSING".to_owned(), reason: text() }),
    ]
}

pub(crate) fn moves() -> impl Strategy<Value = Move> {
    let availability = prop_oneof![
        4 => Just(Availability::Active),
        1 => Just(Availability::Cordoned),
        1 => Just(Availability::Retired)
    ];
    let runs = prop_oneof![
        Just(RunRequest::Start),
        Just(RunRequest::Stop),
        Just(RunRequest::Restart),
        Just(RunRequest::Delete)
    ];
    let memory = prop_oneof![Just(1_u64), Just(512), Just(1024), Just(3000)];
    let sizes = prop_oneof![Just(1_u64), Just(512), Just(1024), Just(3000), Just(6000)];
    let likely = || prop::bool::weighted(0.9);
    let any_memory = || prop_oneof![Just(2048_u64), Just(4096), Just(8192)];
    prop_oneof![
        1 => Just(Move::Init),
        2 => (1_u8..4, 0_usize..3).prop_map(|(n, name)| Move::Client(n, name)),
        1 => (1_u8..4).prop_map(Move::DropClient),
        2 => (1_u8..4, labels(), prop::collection::vec(0_u8..40, 0..3))
            .prop_map(|(n, set, removed)| Move::Label(n, set, removed)),
        2 => (1_u8..4).prop_map(Move::Token),
        3 => (1_u8..4, 0_u8..3).prop_map(|(n, key)| Move::Join(n, key)),
        4 => (1_u8..4, any_memory(), 1_u8..3).prop_map(|(n, mib, b)| Move::Register(n, mib, b)),
        2 => (1_u8..4, any_memory(), 1_u8..3).prop_map(|(n, mib, b)| Move::Facts(n, mib, b)),
        2 => (1_u8..4, availability).prop_map(|(n, to)| Move::Availability(n, to)),
        5 => (1_u8..6, 1_u8..4, 0_usize..3, memory)
            .prop_map(|(n, of, name, mib)| Move::Create(n, of, name, mib)),
        6 => (1_u8..6, runs).prop_map(|(n, run)| Move::Run(n, run)),
        4 => (1_u8..6, sizes).prop_map(|(n, mib)| Move::Resize(n, mib)),
        3 => (1_u8..6, any::<Option<bool>>()).prop_map(|(n, to)| Move::Update(n, to)),
        8 => (1_u8..6, 1_u8..4, likely()).prop_map(|(n, on, now)| Move::Assign(n, on, now)),
        16 => (1_u8..6, steps(), likely(), likely())
            .prop_map(|(n, step, generation, run)| Move::Advance(n, step, generation, run)),
        2 => (1_u8..6, likely()).prop_map(|(n, now)| Move::Forget(n, now)),
        2 => any::<prop::sample::Index>().prop_map(Move::Again),
        1 => (1_u8..6).prop_map(Move::Meddle),
        3 => prop_oneof![Just(1_u64), Just(2_000), Just(400_000), Just(700_000)]
            .prop_map(Move::Wait),
        1 => (1_u64..6, 1_u8..5).prop_map(|(n, host)| Move::SetReplica(n, host)),
        2 => (1_u8..6, prop::option::weighted(0.3, 1_u64..5))
            .prop_map(|(n, old)| Move::CoordinatorToken(n, old)),
        3 => (1_u8..6, 0_u8..2, 1_u8..16)
            .prop_map(|(n, key, host)| Move::JoinReplica(n, key, host)),
        2 => (1_u64..7).prop_map(Move::RemoveReplica),
    ]
}

/// A few labels, or more than one client may carry.
fn labels() -> impl Strategy<Value = Vec<(u8, usize)>> {
    let length = || prop_oneof![8 => 0_usize..3, 1 => Just(256_usize), 1 => Just(257)];
    prop_oneof![
        6 => prop::collection::vec((0_u8..40, length()), 0..4),
        1 => prop::collection::vec((0_u8..40, 0_usize..3), 40..80),
    ]
}

const NAMES: [&str; 3] = ["acme", "beta", "web"];

/// The command, and whether a coordinator asks it.
#[expect(clippy::too_many_lines, reason = "one arm for each command")]
pub(crate) fn command(state: &ClusterState, one: &Move, at: Timestamp) -> Option<(Command, bool)> {
    let numbers = |n: u8| {
        let found = state.workspaces.get(&workspace(n));
        found.map_or((Generation::new(7, 1), 1), |one| (one.generation, one.run_serial))
    };
    let stale = |generation: Generation| Generation(generation.0 + 1);
    let asked = match one.clone() {
        Move::Init => {
            let cluster = ClusterId::MIN;
            let name = "burrow".to_owned();
            (Command::InitCluster(InitCluster { cluster, name, incarnation: 7 }), true)
        }
        Move::Client(n, name) => (create_client(n, NAMES[name]), false),
        Move::DropClient(n) => (Command::DeleteClient(DeleteClient { client: client(n) }), false),
        Move::Label(n, set, removed) => {
            let set = set.into_iter().map(|(key, length)| (format!("k{key}"), "v".repeat(length)));
            let (set_labels, removed) = (set.collect(), removed.into_iter());
            let remove_labels = removed.map(|key| format!("k{key}")).collect();
            let update = UpdateClient { client: client(n), set_labels, remove_labels };
            (Command::UpdateClient(update), false)
        }
        Move::Token(n) => (issue(n, at), false),
        Move::Join(n, key) => {
            let join = JoinNode { key_hash: [key; 32], ..join(n, facts(Bytes::gib(4), 1)) };
            (Command::JoinNode(join), true)
        }
        Move::Register(n, mib, boot) => {
            let facts = facts(Bytes::mib(mib), boot);
            (Command::RegisterNode(RegisterNode { node: node(n), facts }), true)
        }
        Move::Facts(n, mib, boot) => {
            let facts = facts(Bytes::mib(mib), boot);
            (Command::UpdateNodeFacts(UpdateNodeFacts { node: node(n), facts }), true)
        }
        Move::Availability(n, availability) => {
            let node = node(n);
            let command = SetNodeAvailability { node, availability };
            (Command::SetNodeAvailability(command), false)
        }
        Move::Create(n, of, name, mib) => {
            let made = create_workspace(n, NAMES[name], spec(Bytes::mib(mib)));
            (owned_by(made, client(of)), false)
        }
        Move::Run(n, run) => (set_run(n, run), false),
        Move::Resize(n, mib) => {
            let memory = Some(Bytes::mib(mib));
            let resize = ResizeWorkspace { memory, ..ResizeWorkspace::of(workspace(n)) };
            (Command::ResizeWorkspace(resize), false)
        }
        Move::Update(n, to) => {
            let image = |other: bool| if other { "other:1" } else { "image" };
            let update = to.map_or(Update::ImageBefore, |to| Update::Image(image(to).to_owned()));
            let update = UpdateWorkspace { workspace: workspace(n), update };
            (Command::UpdateWorkspace(update), false)
        }
        Move::Assign(n, on, now) => {
            let (generation, _) = numbers(n);
            let previous = if now { generation } else { stale(generation) };
            let (workspace, node, reason) = (workspace(n), node(on), String::new());
            (Command::Assign(Assign { workspace, node, previous, reason }), true)
        }
        Move::Advance(n, step, generation_now, run_now) => {
            let (generation, run_serial) = numbers(n);
            let generation = if generation_now { generation } else { stale(generation) };
            let run_serial = if run_now { run_serial } else { run_serial - 1 };
            let workspace = workspace(n);
            let advance = Advance { workspace, generation, run_serial, step };
            (Command::Advance(advance), true)
        }
        Move::Forget(n, now) => {
            let (generation, _) = numbers(n);
            let generation = if now { generation } else { stale(generation) };
            (Command::Forget(Forget { workspace: workspace(n), generation }), true)
        }
        Move::Meddle(n) => {
            let (generation, _) = numbers(n);
            (Command::Forget(Forget { workspace: workspace(n), generation }), false)
        }
        Move::SetReplica(n, host) => (set_replica(n, host), true),
        Move::CoordinatorToken(n, old) => (coordinator_token(n, at, old), false),
        Move::JoinReplica(n, key, host) => {
            let join = JoinReplica { key_hash: [key; 32], ..join_replica(n, host) };
            (Command::JoinReplica(join), true)
        }
        Move::RemoveReplica(n) => (remove_replica(n), false),
        Move::Again(_) | Move::Wait(_) => return None,
    };
    Some(asked)
}

fn owned_by(command: Command, client: ClientId) -> Command {
    match command {
        Command::CreateWorkspace(one) => {
            Command::CreateWorkspace(Box::new(CreateWorkspace { client, ..*one }))
        }
        other => other,
    }
}

fn same(naive: &NaiveWorkspace, one: &Workspace) -> bool {
    let wanted = match one.desired {
        Desired::Running => "running",
        Desired::Stopped => "stopped",
        Desired::Deleted => "deleted",
    };
    let assignment = one.assignment.as_ref();
    naive.wanted == wanted
        && naive.phase == one.phase.kind.as_str()
        && naive.run == one.run_serial
        && naive.generation == one.generation.counter()
        && naive.node == assignment.map(|one| one.node)
        && naive.permit == assignment.and_then(|one| one.permit).map(|permit| permit.boot)
        && naive.name == one.name.as_str()
        && naive.client == one.client
        && naive.memory == one.spec.resources.memory
}

fn compare(naive: &Naive, state: &ClusterState) -> Result<(), TestCaseError> {
    prop_assert_eq!(naive.changes, state.revision.0);
    prop_assert_eq!(naive.clients.len(), state.clients.len());
    for client in &naive.clients {
        let labels = state.clients[&client.id].labels.clone();
        prop_assert_eq!(&client.labels, &labels.into_iter().collect::<Vec<_>>());
    }
    prop_assert_eq!(naive.tokens.len(), state.tokens.len());
    let replicas: Vec<u64> = state.replicas.keys().map(|id| id.0).collect();
    prop_assert_eq!(naive.replicas.present(), replicas);
    prop_assert_eq!(naive.replicas.highest(), state.highest_replica().0);
    prop_assert_eq!(naive.replicas.tokens.len(), state.coordinator_tokens.len());
    let replacing: Vec<_> = state.replacing.iter().map(|(new, old)| (new.0, old.0)).collect();
    prop_assert_eq!(&naive.replicas.replacing, &replacing);
    prop_assert_eq!(naive.nodes.len(), state.nodes.len());
    for node in &naive.nodes {
        let real = &state.nodes[&node.id];
        prop_assert_eq!(node.availability, real.availability);
        prop_assert_eq!(node.registrations, real.epoch.0);
        prop_assert_eq!(&node.facts, &real.facts);
    }
    prop_assert_eq!(naive.workspaces.len(), state.workspaces.len());
    for one in &naive.workspaces {
        let real = &state.workspaces[&one.id];
        prop_assert!(same(one, real), "{:?} and {:?}", one, real);
    }
    Ok(())
}

pub(crate) fn apply_checked(
    state: &mut ClusterState,
    envelope: &Envelope,
) -> (Result<(), RefusalCode>, Option<warren_model::AuditRecord>) {
    let before = state.clone();
    let effect = state.apply(envelope);
    invariants::check(state).expect("every invariant holds");
    invariants::check_step(&before, state).expect("every step is allowed");
    documents_follow(&before, state, &envelope.command);
    if reads_alike(&before, state) {
        let live = LiveView::default();
        let plans = [&before, &*state].map(|state| plan(state, &live, envelope.at));
        assert_eq!(plans[0], plans[1], "planning read something else after {envelope:?}");
    }
    let changed = before.revision != state.revision;
    assert_eq!(effect.audit.is_some(), changed, "one record per mutation, none otherwise");
    if !changed {
        let requests = state.requests.clone();
        assert_eq!(
            *state,
            ClusterState { requests, ..before },
            "refused and repeated change nothing"
        );
        assert!(effect.events.is_empty());
    }
    (effect.result.map(|_| ()).map_err(|refusal| refusal.code), effect.audit)
}

fn life(moves: &[Move]) -> Result<(), TestCaseError> {
    let (mut state, mut naive, mut at) = (ClusterState::default(), Naive::default(), START);
    let mut asked: Vec<Envelope> = Vec::new();
    let mut records = Vec::new();
    for (number, one) in moves.iter().enumerate() {
        let envelope = match one {
            Move::Wait(millis) => {
                at = Timestamp(at.0 + millis);
                continue;
            }
            Move::Again(_) if asked.is_empty() => continue,
            Move::Again(index) => index.get(&asked).clone(),
            other => {
                let Some((command, own)) = command(&state, other, at) else { continue };
                let principal = if own { coordinator() } else { person() };
                let request = request(at, number as u64);
                Envelope { request, principal, at, if_revision: None, command }
            }
        };
        let (answer, record) = apply_checked(&mut state, &envelope);
        prop_assert_eq!(answer, naive.ask(&envelope), "{:?}", envelope);
        compare(&naive, &state)?;
        records.extend(record);
        asked.push(envelope);
    }
    prop_assert_eq!(verify_chain(AuditHead::default(), &records), Ok(state.audit));
    replay(&asked, &state)
}

/// The same envelopes give the same bytes, also across a checkpoint in the middle.
fn replay(asked: &[Envelope], state: &ClusterState) -> Result<(), TestCaseError> {
    let bytes = postcard::to_stdvec(state).expect("it encodes");
    let mut again = ClusterState::default();
    for (number, envelope) in asked.iter().enumerate() {
        if number == asked.len() / 2 {
            let checkpoint = postcard::to_stdvec(&again).expect("it encodes");
            again = postcard::from_bytes(&checkpoint).expect("it decodes");
        }
        let entry = postcard::to_stdvec(envelope).expect("it encodes");
        let envelope: Envelope = postcard::from_bytes(&entry).expect("it decodes");
        again.apply(&envelope);
    }
    prop_assert_eq!(&again, state);
    prop_assert_eq!(postcard::to_stdvec(&again).expect("it encodes"), bytes);
    Ok(())
}

/// A cluster with clients, nodes and workspaces to begin with, so that random moves meet something.
pub(crate) fn begun() -> Vec<Move> {
    let mut moves =
        vec![Move::Init, Move::SetReplica(1, 1), Move::Client(1, 0), Move::Client(2, 1)];
    for n in 1..3 {
        moves.extend([Move::Token(n), Move::Join(n, 0), Move::Register(n, 8192, 1)]);
    }
    for n in 1..4 {
        moves.push(Move::Create(n, 1, usize::from(n) - 1, 1024));
        moves.push(Move::Assign(n, 1, true));
    }
    moves
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_cluster_lives_as_the_naive_one_does(
        fresh in prop::bool::weighted(0.1),
        random in prop::collection::vec(moves(), 1..120)
    ) {
        let mut moves = if fresh { Vec::new() } else { begun() };
        moves.extend(random);
        life(&moves)?;
    }
}
