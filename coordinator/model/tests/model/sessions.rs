//! Sessions that are made, stopped, restarted and deleted after their workspace was made.

use warren_common::{
    Bytes, Generation, Limits, NodeId, ReplicaId, Revision, SessionName,
    spec::{AgentProgram, HeldOrder, SessionOrder, SessionProgram, SessionSpec, SessionWish},
};
use warren_model::{
    Command, Outcome, RefusalCode,
    command::{
        AdoptWorkspace, BeginIncarnation, Forget, RunRequest, SessionCommand, SetReplica,
        session::{AdoptSessions, CreateSession, NamedSession, RestartSession},
    },
    node_spec,
    state::ClusterState,
};

use crate::make::{World, create_workspace, node, set_run, spec, workspace};

fn name(text: &str) -> SessionName {
    text.parse().expect("a name")
}

fn command(command: SessionCommand) -> Command {
    Command::Session(Box::new(command))
}

fn claude() -> SessionProgram {
    SessionProgram { agent: Some(AgentProgram::Claude), ..SessionProgram::default() }
}

fn create(session: Option<&str>, program: SessionProgram) -> Command {
    let (workspace, name) = (workspace(1), session.map(name));
    command(SessionCommand::Create(CreateSession { workspace, name, program }))
}

fn named(session: &str) -> NamedSession {
    NamedSession { workspace: workspace(1), name: name(session) }
}

fn stop(session: &str) -> Command {
    command(SessionCommand::Stop(named(session)))
}

fn delete(session: &str) -> Command {
    command(SessionCommand::Delete(named(session)))
}

fn restart(session: &str, fresh: bool) -> Command {
    let NamedSession { workspace, name } = named(session);
    command(SessionCommand::Restart(RestartSession { workspace, name, fresh }))
}

fn main() -> SessionSpec {
    SessionSpec { name: name("main"), command: Some("claude".to_owned()) }
}

/// A placed workspace with a repository and the session `main` in its spec.
fn world() -> World {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let mut spec = spec(Bytes::gib(1));
    spec.repo = Some("https://git.example/acme/web.git".parse().expect("a URL"));
    spec.sessions = vec![main()];
    world.must(create_workspace(1, "web", spec));
    world.settle();
    world
}

/// What the node is told of the workspace's sessions.
fn told(world: &World) -> Vec<SessionOrder> {
    let orders = node_spec(&world.state, on(world), 1).workspaces;
    let order = orders.into_iter().find(|order| order.workspace == workspace(1));
    order.expect("it is told").sessions
}

fn told_of(world: &World, session: &str) -> SessionOrder {
    told(world).into_iter().find(|order| order.name == name(session)).expect("it is told")
}

#[test]
fn a_node_is_told_every_session_once_one_is_not_as_the_spec_has_it() {
    let mut world = world();
    assert_eq!(told(&world), [], "an older node must not see anything new");
    let made = world.must(create(Some("review"), claude()));
    let life = made.revision.0;
    assert_eq!(made.outcome, Outcome::Session { workspace: workspace(1), life });
    let [main, review] = &told(&world)[..] else { panic!("{:?}", told(&world)) };
    assert_eq!((main.life, main.run, main.program.command.as_str()), (0, 0, "claude"));
    assert_eq!((review.life, review.run, review.conversation), (life, life, life));
    assert_eq!(review.program.branch.as_deref(), Some("warren/review"));
    assert_eq!(world.refused(create(Some("review"), claude())).code, RefusalCode::NameTaken);
    assert_eq!(world.refused(create(Some("main"), claude())).code, RefusalCode::NameTaken);

    world.must(delete("review"));
    assert_eq!(told(&world), [], "all is as the spec has it");
    assert!(world.state.sessions.is_empty());
}

#[test]
fn a_name_after_the_agent_is_given_where_none_is_asked_for() {
    let mut world = world();
    for _ in 0..3 {
        world.must(create(None, claude()));
    }
    world.must(create(None, SessionProgram::default()));
    let names: Vec<String> = told(&world).iter().map(|order| order.name.to_string()).collect();
    assert_eq!(names, ["main", "claude", "claude-2", "claude-3", "command"]);
}

#[test]
fn the_first_session_and_main_work_in_the_checkout() {
    let mut world = world();
    world.must(delete("main"));
    world.must(create(Some("first"), claude()));
    assert_eq!(told_of(&world, "first").program.branch, None);
    world.must(create(Some("main"), claude()));
    assert_eq!(told_of(&world, "main").program.branch, None, "it was deleted, and is another now");
    assert!(told_of(&world, "main").life > 0);
    let asked = SessionProgram { branch: Some("topic".to_owned()), ..claude() };
    world.must(create(Some("other"), asked.clone()));
    assert_eq!(told_of(&world, "other").program.branch.as_deref(), Some("topic"));
    assert_eq!(world.refused(create(Some("more"), asked)).code, RefusalCode::NameTaken);
}

#[test]
fn a_branch_needs_a_repository() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    world.settle();
    let asked = SessionProgram { branch: Some("topic".to_owned()), ..claude() };
    assert_eq!(world.refused(create(Some("a"), asked)).code, RefusalCode::InvalidSpec);
    world.must(create(Some("a"), claude()));
    world.must(create(Some("b"), claude()));
    assert_eq!(told_of(&world, "b").program.branch, None);
}

#[test]
fn stopped_is_stopped_until_a_run_is_asked_for() {
    let mut world = world();
    world.must(stop("main"));
    assert_eq!(told_of(&world, "main").wish, SessionWish::Stop);
    let revision = world.state.revision;
    world.must(stop("main"));
    assert_eq!(world.state.revision, revision, "it is as asked");
    let resumed = world.must(restart("main", false)).revision.0;
    let main = told_of(&world, "main");
    assert_eq!((main.wish, main.run, main.conversation), (SessionWish::Run, resumed, 0));
    let fresh = world.must(restart("main", true)).revision.0;
    let main = told_of(&world, "main");
    assert_eq!((main.life, main.run, main.conversation), (0, fresh, fresh));

    world.must(delete("main"));
    assert_eq!(told_of(&world, "main").wish, SessionWish::Delete);
    for gone in [stop("main"), delete("main"), restart("main", false), stop("never")] {
        assert_eq!(world.refused(gone).code, RefusalCode::NotFound);
    }
}

#[test]
fn what_there_may_be_is_bounded_with_the_spec_counted() {
    let mut world = world();
    let shell = || SessionProgram { branch: None, ..SessionProgram::default() };
    for _ in 1..Limits::SESSIONS {
        world.must(create(None, shell()));
    }
    assert_eq!(world.refused(create(None, shell())).code, RefusalCode::LimitReached);
    let mut world = self::world();
    let long = SessionProgram { prompt: "x".repeat(Limits::PROMPT_BYTES), ..claude() };
    for _ in 1..Limits::SESSIONS_BYTES / Limits::PROMPT_BYTES {
        world.must(create(None, long.clone()));
    }
    assert_eq!(world.refused(create(None, long)).code, RefusalCode::LimitReached);
    let past = SessionProgram { prompt: "x".repeat(Limits::PROMPT_BYTES + 1), ..claude() };
    assert_eq!(world.refused(create(None, past)).code, RefusalCode::InvalidSpec);
}

#[test]
fn they_go_with_their_workspace() {
    let mut world = world();
    world.must(create(None, claude()));
    world.must(set_run(1, RunRequest::Delete));
    assert_eq!(world.refused(create(None, claude())).code, RefusalCode::WrongState);
    let generation = world.workspace(1).generation;
    let forget = Command::Forget(Forget { workspace: workspace(1), generation });
    let gone = world.envelope(crate::make::coordinator(), forget);
    world.apply(&gone).result.expect("it applies");
    assert!(world.state.workspaces.is_empty() && world.state.sessions.is_empty());
}

#[test]
fn a_change_that_somebody_else_made_first_is_refused_where_that_is_asked() {
    let mut world = world();
    let made = world.must(create(Some("review"), claude())).revision;
    world.must(restart("review", false));
    let mut envelope = world.envelope(crate::make::person(), stop("review"));
    envelope.if_revision = Some(made);
    let refusal = world.apply(&envelope).result.expect_err("it has changed");
    assert_eq!(refusal.code, RefusalCode::RevisionMismatch);
}

#[test]
fn what_a_node_was_told_after_the_backup_is_taken_over_after_a_restore() {
    let mut world = world();
    world.must(create(Some("kept"), claude()));
    let backup = world.state.clone();
    world.must(create(Some("newer"), claude()));
    world.must(restart("kept", true));
    world.must(stop("main"));
    let held = told(&world);
    let (known, generation) = (world.state.revision, world.workspace(1).generation);
    world.state = backup;
    world.state.restored = Some(world.state.revision);
    let by = |n, generation, told| {
        let (node, sessions) = (crate::make::node(n), held.clone());
        let adopt = AdoptSessions { workspace: workspace(1), node, generation, told, sessions };
        command(SessionCommand::Adopt(adopt))
    };
    let adopt = || by(1, generation, known);
    // a node that does not hold it, or held it once, has no say; nor has one that knows less
    let before = world.state.sessions.clone();
    let older = Generation::default();
    for strange in [by(2, generation, known), by(1, older, known)] {
        let envelope = world.envelope(crate::make::coordinator(), strange);
        world.apply(&envelope).result.expect("it applies");
        assert_eq!(world.state.sessions, before);
    }
    let behind = world.envelope(crate::make::coordinator(), by(1, generation, Revision(1)));
    let mut late = world.clone();
    late.apply(&behind).result.expect("it applies");
    assert_eq!(told(&late), told(&world), "what it knows is older: newer is not there");
    assert!(told(&late).iter().all(|order| order.name != name("newer")));
    let by_person = world.envelope(crate::make::person(), adopt());
    let refusal = world.apply(&by_person).result.expect_err("not a person's to ask");
    assert_eq!(refusal.code, RefusalCode::NotAllowed);
    let by_coordinator = world.envelope(crate::make::coordinator(), adopt());
    world.apply(&by_coordinator).result.expect("it applies");
    let sorted = |mut orders: Vec<SessionOrder>| {
        orders.sort_by(|one, other| one.name.cmp(&other.name));
        orders
    };
    assert_eq!(sorted(told(&world)), sorted(held.clone()));
    // what was asked since the restore is kept, and its run comes after those of before
    let before = told_of(&world, "newer").run;
    world.must(restart("newer", false));
    let after = told_of(&world, "newer").run;
    assert!(after > before);
    let again = world.envelope(crate::make::coordinator(), adopt());
    world.apply(&again).result.expect("it applies");
    assert_eq!(told_of(&world, "newer").run, after);
}

fn begin(incarnation: u32, replica: u64) -> Command {
    let replica = SetReplica {
        replica: ReplicaId(replica),
        api_address: format!("10.0.0.{replica}:7400"),
        raft_address: format!("10.0.0.{replica}:7401"),
    };
    let reason = "restored".to_owned();
    Command::BeginIncarnation(BeginIncarnation { incarnation, replica, reason })
}

/// Goes back to `backup`, as a restore does, and returns what its node tells when it registers: what
/// it was told last and when.
pub(crate) fn restore(world: &mut World, backup: ClusterState) -> AdoptSessions {
    let (sessions, told) = (self::told(world), world.state.revision);
    let generation = world.workspace(1).generation;
    world.state = backup;
    let node = on(world);
    world.must(begin(8, 9));
    AdoptSessions { workspace: workspace(1), node, generation, told, sessions }
}

/// Where the first workspace is.
pub(crate) fn on(world: &World) -> NodeId {
    world.workspace(1).assignment.as_ref().expect("placed").node
}

pub(crate) fn adopt(world: &mut World, adopt: AdoptSessions) {
    let adopt = command(SessionCommand::Adopt(adopt));
    let envelope = world.envelope(crate::make::coordinator(), adopt);
    world.apply(&envelope).result.expect("it applies");
}

#[test]
fn what_was_deleted_before_the_backup_while_its_node_was_away_stays_deleted() {
    let mut world = world();
    world.must(create(Some("kept"), claude()));
    world.must(create(Some("late"), claude()));
    let (away, when) = (told(&world), world.state.revision);
    world.must(delete("late"));
    let backup = world.state.clone();
    let held = restore(&mut world, backup);
    adopt(&mut world, AdoptSessions { told: when, sessions: away, ..held });
    assert!(told(&world).iter().all(|order| order.name != name("late")), "{:?}", told(&world));
    assert_eq!(told_of(&world, "kept").wish, SessionWish::Run);
}

#[test]
fn what_is_deleted_after_the_restore_before_its_node_comes_stays_deleted() {
    let mut world = world();
    world.must(create(Some("kept"), claude()));
    world.must(create(Some("gone"), claude()));
    let backup = world.state.clone();
    // the node knows more than the backup, and of this one nothing else
    world.must(stop("kept"));
    let held = restore(&mut world, backup);
    assert!(held.sessions.iter().any(|order| order.name == name("gone")));
    world.must(delete("gone"));
    adopt(&mut world, held.clone());
    assert!(told(&world).iter().all(|order| order.name != name("gone")), "{:?}", told(&world));
    assert_eq!(told_of(&world, "kept").wish, SessionWish::Stop, "the rest is taken over");
    // one that takes its name is another one
    world.must(create(Some("gone"), claude()));
    let life = told_of(&world, "gone").life;
    adopt(&mut world, held.clone());
    assert_eq!(told_of(&world, "gone").life, life);
    world.must(delete("gone"));
    adopt(&mut world, held);
    assert!(told(&world).iter().all(|order| order.name != name("gone")), "{:?}", told(&world));
}

#[test]
fn what_was_deleted_after_the_backup_is_deleted_where_its_node_was_told_so() {
    let mut world = world();
    world.must(create(Some("kept"), claude()));
    world.must(create(Some("gone"), claude()));
    world.must(create(Some("again"), claude()));
    let backup = world.state.clone();
    world.must(delete("gone"));
    let held = restore(&mut world, backup);
    // whoever asked for it since the restore wants it
    world.must(restart("again", false));
    let mut without = held;
    without.sessions.retain(|order| order.name != name("again"));
    adopt(&mut world, without);
    let names: Vec<String> = told(&world).iter().map(|order| order.name.to_string()).collect();
    assert_eq!(names, ["main", "again", "kept"]);
}

#[test]
fn the_last_session_that_was_deleted_after_the_backup_stays_deleted() {
    let mut world = world();
    world.must(create(Some("gone"), claude()));
    let backup = world.state.clone();
    world.must(delete("gone"));
    let order = node_spec(&world.state, node(1), 1).workspaces.remove(0);
    assert!(order.sessions.is_empty() && order.sessions_told, "none, and that is said");
    let held = restore(&mut world, backup);
    assert_eq!(told_of(&world, "gone").wish, SessionWish::Run);
    adopt(&mut world, held);
    assert!(world.state.sessions.is_empty(), "{:?}", told(&world));
}

#[test]
fn a_life_after_a_restore_comes_after_every_life_before() {
    let mut world = world();
    let backup = world.state.clone();
    let mut lives = Vec::new();
    for _ in 0..20 {
        world.must(create(Some("review"), claude()));
        lives.push(told_of(&world, "review").life);
        world.must(delete("review"));
    }
    world.must(restart("main", false));
    let run = told_of(&world, "main").run;
    let held = restore(&mut world, backup);
    // its revisions are those of before
    world.must(create(Some("review"), claude()));
    let review = told_of(&world, "review");
    assert!(world.state.revision.0 < lives[19], "{lives:?}");
    assert!(lives.iter().all(|life| *life < review.life), "{} {lives:?}", review.life);
    assert_eq!((review.run, review.conversation), (review.life, review.life));
    world.must(restart("main", false));
    assert!(told_of(&world, "main").run > run);
    adopt(&mut world, held);
    assert_eq!(told_of(&world, "review").life, review.life, "somebody asked for it since");

    // and again: what the second life of the cluster gave is before the third's
    let backup = world.state.clone();
    world.must(create(Some("late"), claude()));
    let late = told_of(&world, "late");
    let held = AdoptSessions { told: world.state.revision, ..again(&mut world, backup) };
    assert!(told(&world).iter().all(|order| order.name != name("late")));
    world.must(create(Some("other"), claude()));
    assert!(told_of(&world, "other").life > late.life);
    adopt(&mut world, AdoptSessions { sessions: vec![late.clone()], ..held });
    assert_eq!(told_of(&world, "late"), late, "it was made after the backup");
}

/// Restores once more.
fn again(world: &mut World, backup: ClusterState) -> AdoptSessions {
    let generation = world.workspace(1).generation;
    let told = world.state.revision;
    world.state = backup;
    world.must(begin(9, 10));
    AdoptSessions { workspace: workspace(1), node: node(1), generation, told, sessions: Vec::new() }
}

#[test]
fn what_is_of_a_spec_that_was_replaced_since_the_restore_is_not_taken_over() {
    let mut world = world();
    let backup = world.state.clone();
    let held = restore(&mut world, backup);
    let old = SessionOrder { name: name("old"), ..SessionOrder::of_spec(&main()) };
    adopt(&mut world, AdoptSessions { sessions: vec![old], ..held });
    assert!(world.state.sessions.is_empty(), "{:?}", world.state.sessions);
}

#[test]
fn a_session_that_the_newer_spec_lacks_leaves_no_record_after_a_restore() {
    let mut world = world();
    world.must(stop("main"));
    let backup = world.state.clone();
    // the node was told of another spec after the backup
    let mut order = node_spec(&world.state, node(1), 1).workspaces.remove(0);
    order.spec.sessions.clear();
    order.sessions.clear();
    let revision = Revision(world.state.revision.0 + 5);
    restore(&mut world, backup);
    assert!(world.state.session(workspace(1), &name("main")).is_some());
    let held = HeldOrder { order, started_run: 0 };
    let adopt = AdoptWorkspace { node: node(1), revision, held };
    world.must(Command::AdoptWorkspace(Box::new(adopt)));
    assert!(world.workspace(1).spec.whole().sessions.is_empty(), "the newer one counts");
    assert!(world.state.session(workspace(1), &name("main")).is_none());
}
