//! Another version of a template: what is remembered of a workspace's making, and what becomes of it.

use warren_common::{
    Bytes, Limits,
    spec::{AgentProgram, Extras, Failover, SessionProgram, SessionSpec, WorkspaceSpec},
};
use warren_model::{
    Command, RefusalCode,
    command::{
        MakeWorkspace, ResizeWorkspace, RunRequest, SessionCommand, TemplateUpdate, Update,
        UpdateWorkspace,
        session::{CreateSession, NamedSession, RestartSession},
    },
    event::EventKind,
    node_spec,
    state::{
        Desired, Recipe,
        update::{may_become, may_update},
    },
};

use crate::make::{World, create_workspace, node, person, set_run, spec, workspace};

pub(crate) fn recipe(version: u32) -> Recipe {
    let parameters = [("repo".to_owned(), "https://h/x".to_owned())].into();
    Recipe { template: "agent".parse().expect("a name"), version, parameters }
}

pub(crate) fn filled(version: u32) -> WorkspaceSpec {
    WorkspaceSpec { template: format!("agent@{version}"), ..spec(Bytes::gib(1)) }
}

pub(crate) fn make(version: u32) -> Command {
    let Command::CreateWorkspace(create) = create_workspace(1, "web", filled(version)) else {
        unreachable!("it makes one")
    };
    let recipe = recipe(version);
    Command::MakeWorkspace(Box::new(MakeWorkspace { create: *create, recipe }))
}

pub(crate) fn update(from: u32, to: u32, how: impl FnOnce(&mut WorkspaceSpec)) -> Command {
    let mut new = filled(to);
    how(&mut new);
    let (base, from, to) = (Some(filled(from)), Some(recipe(from)), recipe(to));
    let update = Update::Template(Box::new(TemplateUpdate { from, base, to, new }));
    Command::UpdateWorkspace(UpdateWorkspace { workspace: workspace(1), update })
}

fn one() -> World {
    let mut world = World::with_nodes(&[Bytes::gib(4)]);
    world.must(make(1));
    world.settle();
    world
}

fn remembered(world: &World) -> Option<Recipe> {
    world.state.recipes.get(&workspace(1)).map(|one| one.as_ref().clone())
}

#[test]
fn what_a_workspace_was_made_from_is_remembered_until_it_is_gone() {
    let mut world = World::with_nodes(&[]);
    let envelope = world.envelope(person(), make(1));
    world.apply(&envelope).result.expect("made");
    assert!(world.apply(&envelope).result.expect("answered again").repeated);
    assert_eq!(remembered(&world), Some(recipe(1)));
    assert_eq!(world.state.origins.get(&workspace(1)), Some(&envelope.request));
    // it has no node yet, so it is gone at once
    world.must(set_run(1, RunRequest::Delete));
    assert_eq!(remembered(&world), None);
    let Command::MakeWorkspace(mut big) = make(1) else { unreachable!("it makes one") };
    let value = "x".repeat(Limits::PARAMETERS_BYTES);
    big.recipe.parameters.insert("packages".to_owned(), value);
    let refused = world.refused(Command::MakeWorkspace(big));
    assert_eq!(refused.code, RefusalCode::InvalidSpec);
    assert!(world.state.workspaces.is_empty());
}

#[test]
fn another_version_is_one_record_and_a_new_run_where_it_has_to_be() {
    let mut world = one();
    let run = world.workspace(1).run_serial;
    let image = |spec: &mut WorkspaceSpec| "agents:2".clone_into(&mut spec.image);
    let envelope = world.envelope(person(), update(1, 2, image));
    let before = world.state.revision;
    let audit = world.apply(&envelope).audit.expect("a record");
    assert_eq!(world.state.revision, before.next());
    let detail = "template agent@1 to agent@2: image warren-workspace:latest to agents:2";
    assert_eq!((audit.action.as_str(), audit.detail.as_str()), ("workspace.update", detail));
    let order = node_spec(&world.state, node(1), 1).workspaces.remove(0);
    assert_eq!((order.spec.image.as_str(), order.run_serial), ("agents:2", run + 1));
    assert_eq!(remembered(&world), Some(recipe(2)));
    // a retry is the same request although the version comes to another thing by now
    let mut again = envelope.clone();
    again.command = update(1, 2, |spec| "agents:9".clone_into(&mut spec.image));
    assert!(world.apply(&again).result.expect("answered again").repeated);
    assert_eq!(world.state.images_before[&workspace(1)].as_ref(), "warren-workspace:latest");

    world.must(update(2, 3, |spec| {
        image(spec);
        spec.labels.insert("team".to_owned(), "web".to_owned());
        spec.resources.memory = Bytes::gib(2);
    }));
    let after = world.workspace(1);
    assert_eq!((after.run_serial, after.desired), (run + 1, Desired::Running));
    assert_eq!(after.spec.resources.memory, Bytes::gib(2));
    assert_eq!(remembered(&world), Some(recipe(3)));

    // records are chained: every version of the coordinator writes the same of one entry, so what people
    // are not shown otherwise stays in them
    let command = update(3, 4, |spec| {
        image(spec);
        spec.resources.memory = Bytes::gib(2);
        spec.labels.insert("team".to_owned(), "we\u{200f}b".to_owned());
    });
    let envelope = world.envelope(person(), command);
    let audit = world.apply(&envelope).audit.expect("a record");
    assert!(audit.detail.contains("we\u{200f}b"), "{}", audit.detail);
}

#[test]
fn what_does_not_fit_or_was_decided_of_another_version_is_refused_and_changes_nothing() {
    let mut world = one();
    let state = world.state.clone();
    let odd = update(1, 2, |spec| " ".clone_into(&mut spec.image));
    assert_eq!(world.refused(odd).code, RefusalCode::InvalidSpec);
    let grown = update(1, 2, |spec| {
        spec.resources.memory = Bytes::gib(64);
        spec.resources.reserve = Bytes::gib(64);
    });
    assert_eq!(world.refused(grown).code, RefusalCode::NoNodeFits);
    assert_eq!(world.refused(update(2, 3, |_| ())).code, RefusalCode::WrongState);
    assert_eq!(world.state.workspaces, state.workspaces);
    assert_eq!(world.state.recipes, state.recipes);
    let envelope = world.envelope(person(), update(1, 1, |_| ()));
    assert!(world.apply(&envelope).audit.is_none(), "everything is as asked");
    let more = ResizeWorkspace { memory: Some(Bytes::gib(2)), ..ResizeWorkspace::of(workspace(1)) };
    world.must(Command::ResizeWorkspace(more));
    world.must(update(1, 2, |_| ()));
    assert_eq!(world.workspace(1).spec.resources.memory, Bytes::gib(2), "as somebody chose it");
}

/// The same update, with what a version says of rules.
fn ruled(to: u32, how: impl FnOnce(&mut WorkspaceSpec)) -> Command {
    let Command::UpdateWorkspace(plain) = update(to - 1, to, how) else {
        unreachable!("it updates one")
    };
    let Update::Template(update) = plain.update else { unreachable!("as it was asked") };
    let update = Update::template(*update);
    Command::UpdateWorkspace(UpdateWorkspace { workspace: workspace(1), update })
}

#[test]
fn rules_of_a_version_are_taken_where_the_node_is_one_that_they_allow() {
    let mut world = one();
    let run = world.workspace(1).run_serial;
    let eu = |spec: &mut WorkspaceSpec| {
        spec.placement.required_labels.insert("region".to_owned(), "eu".to_owned());
    };
    let refused = world.refused(ruled(2, eu));
    assert_eq!(refused.code, RefusalCode::WrongState);
    assert!(refused.message.ends_with("no label region=eu"), "{}", refused.message);
    let missing = world.refused(ruled(2, |spec| spec.placement.pin = Some(node(9))));
    assert_eq!(missing.code, RefusalCode::NotFound);
    world.must(ruled(2, |spec| {
        spec.placement.pin = Some(node(1));
        spec.failover = Failover::Manual;
    }));
    let now = world.workspace(1);
    assert_eq!((now.spec.placement().pin, now.run_serial), (Some(node(1)), run));
    assert_eq!(now.spec.failover(), Failover::Manual);
    // a log of before rules had a say comes to what it came to then
    world.must(update(2, 3, |spec| spec.failover = Failover::Manual));
    assert_eq!(world.workspace(1).spec.placement().pin, Some(node(1)));
}

#[test]
fn what_stands_beside_a_command_line_is_ordered_and_counts_for_nothing_where_it_is_applied() {
    let mut world = World::with_nodes(&[Bytes::gib(4)]);
    let Command::MakeWorkspace(mut make) = make(1) else { unreachable!("it makes one") };
    let program = SessionProgram {
        agent: Some(AgentProgram::Claude),
        prompt: "x".repeat(Limits::PROMPT_BYTES),
        branch: Some("fix".to_owned()),
        ..SessionProgram::default()
    };
    let spec = &mut make.create.spec;
    spec.sessions = vec![session("main", &program.line())];
    let sessions = vec![(spec.sessions[0].name.clone(), program.clone())];
    spec.setup = Extras { sessions, ..Extras::default() }.before(None);
    world.must(Command::MakeWorkspace(make));
    world.settle();
    assert_eq!(world.state.session_orders(world.workspace(1))[0].program, program);
    let restart = |world: &World| {
        let name = world.workspace(1).spec.whole().sessions[0].name.clone();
        RestartSession { workspace: workspace(1), name, fresh: false }
    };
    let restart = restart(&world);
    world.must(Command::Session(Box::new(SessionCommand::Restart(restart))));
    let order = world.state.session_orders(world.workspace(1)).remove(0);
    assert!(order.program == program && order.run > 0, "{order:?}");
    // an older replica knows of no branch and of no prompt
    let each = SessionProgram::of_spec(&session("a", &"x".repeat(4000))).bytes();
    for number in 0..Limits::SESSIONS_BYTES / each {
        world.must(by_person(&format!("s{number}"), "x".repeat(4000)));
    }
}

#[test]
fn a_session_that_a_version_names_no_more_leaves_no_record() {
    let mut world = World::with_nodes(&[Bytes::gib(4)]);
    let tests = SessionSpec { name: "tests".parse().expect("a name"), command: None };
    let Command::MakeWorkspace(mut make) = make(1) else { unreachable!("it makes one") };
    make.create.spec.sessions.push(tests.clone());
    world.must(Command::MakeWorkspace(make));
    world.settle();
    let restart =
        RestartSession { workspace: workspace(1), name: tests.name.clone(), fresh: false };
    world.must(Command::Session(Box::new(SessionCommand::Restart(restart))));
    assert!(world.state.session(workspace(1), &tests.name).is_some());
    let Command::UpdateWorkspace(mut gone) = update(1, 2, |_| ()) else {
        unreachable!("it updates one")
    };
    if let Update::Template(update) = &mut gone.update
        && let Some(base) = &mut update.base
    {
        base.sessions.push(tests.clone());
    }
    world.must(Command::UpdateWorkspace(gone));
    assert!(world.state.session(workspace(1), &tests.name).is_none());
    let orders = world.state.session_orders(world.workspace(1));
    assert!(orders.iter().all(|order| order.name != tests.name), "{orders:?}");
}

#[test]
fn more_parameters_than_are_kept_are_refused_and_so_is_their_plan() {
    let mut world = one();
    let mut to = recipe(2);
    to.parameters.insert("packages".to_owned(), "x".repeat(Limits::PARAMETERS_BYTES));
    let planned = may_update(&world.state, world.workspace(1), (&to, &filled(2)), may_become);
    let (from, base, new) = (Some(recipe(1)), Some(filled(1)), filled(2));
    let update = Update::Template(Box::new(TemplateUpdate { from, base, to, new }));
    let update = UpdateWorkspace { workspace: workspace(1), update };
    let refused = world.refused(Command::UpdateWorkspace(update));
    assert_eq!(refused.code, RefusalCode::InvalidSpec);
    assert_eq!(planned.expect_err("it would be refused"), refused);
}

fn session(name: &str, command: &str) -> SessionSpec {
    SessionSpec { name: name.parse().expect("a name"), command: Some(command.to_owned()) }
}

fn by_person(name: &str, command: String) -> Command {
    let program = SessionProgram { command, ..SessionProgram::default() };
    let (workspace, name) = (workspace(1), Some(name.parse().expect("a name")));
    let create = CreateSession { workspace, name, program };
    Command::Session(Box::new(SessionCommand::Create(create)))
}

#[test]
fn a_version_whose_sessions_are_too_many_with_those_of_people_is_refused_and_so_is_its_plan() {
    let mut world = one();
    let own = world.state.session_orders(world.workspace(1)).len();
    for number in own..Limits::SESSIONS - 1 {
        world.must(by_person(&format!("s{number}"), "top".to_owned()));
    }
    let two = |spec: &mut WorkspaceSpec| {
        spec.sessions.extend([session("a", "make"), session("b", "make")]);
    };
    let refused = world.refused(update(1, 2, two));
    assert_eq!(refused.code, RefusalCode::LimitReached);
    for words in ["33 sessions", "32 is the limit", "warren session delete acme/web/SESSION"] {
        assert!(refused.message.contains(words), "{}", refused.message);
    }
    let mut after = filled(2);
    two(&mut after);
    let planned = may_update(&world.state, world.workspace(1), (&recipe(2), &after), may_become);
    assert_eq!(planned.expect_err("it would be refused"), refused);
    // one of its names may be a person's: those are one session
    world.must(update(1, 2, |spec| {
        spec.sessions.extend([session("a", "make"), session("s9", "make")]);
    }));
    assert_eq!(world.state.session_orders(world.workspace(1)).len(), Limits::SESSIONS);
}

#[test]
fn a_version_whose_sessions_take_too_many_bytes_with_those_of_people_is_refused() {
    let mut world = one();
    let long = "x".repeat(Limits::SESSION_COMMAND_BYTES);
    let each = SessionProgram::of_spec(&session("a", &long)).bytes();
    for number in 0..Limits::SESSIONS_BYTES / each - 2 {
        world.must(by_person(&format!("s{number}"), long.clone()));
    }
    let three = |spec: &mut WorkspaceSpec| {
        spec.sessions.extend(["a", "b", "c"].map(|name| session(name, &long)));
    };
    let refused = world.refused(update(1, 2, three));
    assert_eq!(refused.code, RefusalCode::LimitReached);
    assert!(refused.message.contains("makes room"), "{}", refused.message);
    let delete = NamedSession { workspace: workspace(1), name: "s0".parse().expect("a name") };
    world.must(Command::Session(Box::new(SessionCommand::Delete(delete))));
    world.must(update(1, 2, three));
}

#[test]
fn other_caps_by_a_version_are_told_as_a_resize_is() {
    let mut world = one();
    let resized = EventKind::WorkspaceResized(workspace(1));
    let told = |world: &mut World, command| {
        let envelope = world.envelope(person(), command);
        let effect = world.apply(&envelope);
        effect.result.expect("updated");
        effect.events.iter().any(|event| event.kind == resized)
    };
    let label = |spec: &mut WorkspaceSpec| drop(spec.labels.insert("a".into(), "b".into()));
    assert!(!told(&mut world, update(1, 2, label)), "no cap changed");
    let caps = |spec: &mut WorkspaceSpec| spec.resources.memory = Bytes::gib(2);
    assert!(told(&mut world, update(2, 3, caps)));
}
