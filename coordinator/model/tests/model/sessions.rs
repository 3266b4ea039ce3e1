//! Sessions that are made, stopped, restarted and deleted after their workspace was made.

use warren_common::{
    Bytes, Limits, NodeId, SessionName,
    spec::{AgentProgram, SessionOrder, SessionProgram, SessionSpec, SessionWish},
};
use warren_model::{
    Command, Outcome, RefusalCode,
    command::{
        Forget, RunRequest, SessionCommand,
        session::{CreateSession, NamedSession, RestartSession},
    },
    node_spec,
};

use crate::make::{World, create_workspace, set_run, spec, workspace};

pub(crate) fn name(text: &str) -> SessionName {
    text.parse().expect("a name")
}

pub(crate) fn command(command: SessionCommand) -> Command {
    Command::Session(Box::new(command))
}

pub(crate) fn claude() -> SessionProgram {
    SessionProgram { agent: Some(AgentProgram::Claude), ..SessionProgram::default() }
}

pub(crate) fn create(session: Option<&str>, program: SessionProgram) -> Command {
    let (workspace, name) = (workspace(1), session.map(name));
    command(SessionCommand::Create(CreateSession { workspace, name, program }))
}

fn named(session: &str) -> NamedSession {
    NamedSession { workspace: workspace(1), name: name(session) }
}

pub(crate) fn stop(session: &str) -> Command {
    command(SessionCommand::Stop(named(session)))
}

pub(crate) fn delete(session: &str) -> Command {
    command(SessionCommand::Delete(named(session)))
}

pub(crate) fn restart(session: &str, fresh: bool) -> Command {
    let NamedSession { workspace, name } = named(session);
    command(SessionCommand::Restart(RestartSession { workspace, name, fresh }))
}

pub(crate) fn main() -> SessionSpec {
    SessionSpec { name: name("main"), command: Some("claude".to_owned()) }
}

/// A placed workspace with a repository and the session `main` in its spec.
pub(crate) fn world() -> World {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let mut spec = spec(Bytes::gib(1));
    spec.repo = Some("https://git.example/acme/web.git".parse().expect("a URL"));
    spec.sessions = vec![main()];
    world.must(create_workspace(1, "web", spec));
    world.settle();
    world
}

/// Where the first workspace is.
pub(crate) fn on(world: &World) -> NodeId {
    world.workspace(1).assignment.as_ref().expect("placed").node
}

/// What the node is told of the workspace's sessions.
pub(crate) fn told(world: &World) -> Vec<SessionOrder> {
    let orders = node_spec(&world.state, on(world), 1).workspaces;
    let order = orders.into_iter().find(|order| order.workspace == workspace(1));
    order.expect("it is told").sessions
}

pub(crate) fn told_of(world: &World, session: &str) -> SessionOrder {
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
