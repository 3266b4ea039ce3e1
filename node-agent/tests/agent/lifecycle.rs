//! From create to delete, as the planner drives it.

use warren_common::{
    agent::StateName,
    spec::Run,
    status::{RunState, StepState, WorkspaceObserved},
};
use warren_proto::{
    convert::explanation,
    pb::inside::v1::{self as inside, frame::Kind, open::What},
};

use crate::world::{GENERATION, World, eventually, until, web};

fn attach(session: &str) -> What {
    let terminal = inside::Terminal { term: "xterm".to_owned(), columns: 80, rows: 24 };
    What::Attach(inside::Attach {
        session: session.to_owned(),
        terminal: Some(terminal),
        read_only: false,
    })
}

fn exec(argv: &[&str]) -> What {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    What::Exec(inside::Exec { argv, terminal: None })
}

/// Has the agent in the session do something.
pub(crate) async fn play(world: &World, words: &[&str]) {
    let program = exec(&[&["warren-fake-agent", "main"], words].concat());
    let mut program = world.coordinator.tunnel(web(), GENERATION.0, program).await;
    let (_, last) = program.rest().await;
    assert_eq!(last, Some(Kind::Exited(inside::Exited { code: 0, detached: false })));
}

/// Returns the state of the agent in the session.
pub(crate) fn name(seen: &WorkspaceObserved) -> Option<StateName> {
    seen.sessions.first()?.agent.as_ref().map(|agent| agent.state.name())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_does_is_reported_and_explained_and_ends_with_its_workspace() {
    let world = World::start().await;
    world.up().await;
    let coordinator = &world.coordinator;
    for (words, state) in [
        (&["working", "Bash", "cargo test"][..], StateName::Working),
        (&["waiting", "question", "which port?"], StateName::Waiting),
    ] {
        play(&world, words).await;
        coordinator.sees(web(), |seen| name(seen) == Some(state)).await;
    }
    let open = |session: &str| What::Explain(inside::Explain { session: session.to_owned() });
    let mut stream = coordinator.tunnel(web(), GENERATION.0, open("main")).await;
    assert_eq!(stream.next().await, Some(Kind::Opened(inside::Opened {})));
    let Some(Kind::Stdout(bytes)) = stream.next().await else { panic!("no explanation") };
    let why = explanation(&bytes).expect("an explanation");
    let decides: Vec<bool> = why.evidence.iter().map(|one| one.decides).collect();
    assert_eq!(decides, [false, true], "{why:?}");
    let mut stream = coordinator.tunnel(web(), GENERATION.0, open("other")).await;
    let Some(Kind::Failed(failed)) = stream.next().await else { panic!("it is explained") };
    assert_eq!(failed.reason, "SESSION_NOT_FOUND");

    world.change(|order| order.run = Run::Stopped).await;
    let stopped = |seen: &WorkspaceObserved| matches!(seen.state, RunState::Stopped { .. });
    let ended = coordinator.sees(web(), stopped).await;
    assert_eq!(name(&ended), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_lives_from_create_to_delete() {
    let world = World::start().await;
    let coordinator = &world.coordinator;

    coordinator.order(|spec| spec.workspaces = vec![crate::world::order(1)]).await;
    let prepared = coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    assert_eq!((prepared.generation, prepared.run_serial, prepared.pid), (GENERATION, 1, None));
    assert!(prepared.steps.iter().any(|step| step.name == "volume"));
    assert!(world.home().exists(), "the home was made");

    world.permit(1).await;
    let running = coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
    let done = |name: &str| {
        running.steps.iter().any(|step| step.name == name && step.state == StepState::Done)
    };
    assert!(done("volume") && done("container"), "{:#?}", running.steps);
    assert!(running.pid.is_some());
    assert_eq!(running.sessions.len(), 1);

    let mut viewer = coordinator.tunnel(web(), GENERATION.0, attach("main")).await;
    assert_eq!(viewer.next().await, Some(Kind::Opened(inside::Opened {})));
    viewer.send(Kind::Stdin("hello".into())).await;
    viewer.says("hello").await;
    coordinator.sees(web(), |seen| seen.sessions[0].viewers == 1).await;
    drop(viewer);
    coordinator.sees(web(), |seen| seen.sessions[0].viewers == 0).await;

    let mut program = coordinator.tunnel(web(), GENERATION.0, exec(&["sh", "-c", "exit 7"])).await;
    let (_, last) = program.rest().await;
    assert_eq!(last, Some(Kind::Exited(inside::Exited { code: 7, detached: false })));

    let logs = What::Logs(inside::Logs { follow: false, tail: 0 });
    let (log, last) = coordinator.tunnel(web(), GENERATION.0, logs).await.rest().await;
    assert!(log.contains("run 1"), "{log:?}");
    assert!(matches!(last, Some(Kind::Exited(_))));

    world
        .change(|order| {
            order.run_serial = 2;
            order.permit = None;
        })
        .await;
    let again = coordinator
        .sees(web(), |seen| seen.run_serial == 2 && seen.state == RunState::Prepared)
        .await;
    assert!(again.sessions.is_empty());
    world.permit(2).await;
    let second = coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
    assert_ne!(second.pid, running.pid, "another container");

    world
        .change(|order| {
            order.run = Run::Stopped;
            order.permit = None;
        })
        .await;
    let stopped = |state: &RunState| matches!(state, RunState::Stopped { .. });
    coordinator.sees(web(), |seen| stopped(&seen.state)).await;
    assert!(world.home().exists(), "a stopped workspace keeps its home");

    world.change(|order| order.run = Run::Removed).await;
    coordinator.sees(web(), |seen| seen.state == RunState::Absent).await;
    assert!(!world.home().exists(), "the home is gone");
    coordinator.order(|spec| spec.workspaces.clear()).await;
    until(&coordinator.state.seen, |seen| seen.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_agent_adopts_what_runs() {
    let mut world = World::start().await;
    world.up().await;
    let before =
        world.coordinator.sees(web(), |seen| seen.pid.is_some() && !seen.sessions.is_empty()).await;
    let epoch = *world.coordinator.state.registered.borrow();
    world.end().await;
    world.coordinator.state.seen.send_replace(Default::default());

    world.run().await;
    let first = world.coordinator.sees(web(), |_| true).await;
    let adopted =
        world.coordinator.sees(web(), |seen| seen.pid.is_some() && !seen.sessions.is_empty()).await;
    assert_eq!((adopted.pid, adopted.run_serial), (before.pid, 1), "nothing was restarted");
    assert_eq!(adopted.state, RunState::Running);
    assert_ne!(first.state, RunState::Starting, "the end of the start was remembered");
    assert!(*world.coordinator.state.registered.borrow() > epoch, "another registration");

    let mut viewer = world.coordinator.tunnel(web(), GENERATION.0, attach("main")).await;
    viewer.send(Kind::Stdin("still there".into())).await;
    viewer.says("still there").await;
}

/// Lease rule R4: a restart extends nothing, and forgets nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_counts_on_over_a_restart_and_without_a_leader() {
    let mut world = World::start().await;
    let age = |world: &World| world.agent().uplink.lease_age();
    eventually("a renewal is confirmed", || age(&world).is_some()).await;
    world.end().await;
    *world.coordinator.state.leader.lock().expect("lock") = None;
    world.run().await;
    let first = age(&world).expect("it was kept");
    eventually("it grows", || age(&world).is_some_and(|now| now > first)).await;
    assert_eq!(world.agent().uplink.epoch(), None, "nobody lets it in");
}

/// Until it is let in, an agent looks and does nothing: another one may act as the node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_not_let_in_changes_nothing() {
    let mut world = World::start().await;
    world.coordinator.order(|spec| spec.workspaces = vec![crate::world::order(1)]).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    world.end().await;
    let leader = world.coordinator.state.leader.lock().expect("lock").take();
    // what it has an order for, and would make anew at once
    std::fs::remove_dir_all(world.home()).expect("a home to lose");
    std::fs::remove_dir_all(world.fake_engine()).expect("containers to lose");
    world.run().await;
    eventually("it looks", || world.agent().board.get(web()).is_some()).await;
    let mut look = tokio::time::interval(std::time::Duration::from_millis(20));
    for _ in 0..25 {
        look.tick().await;
        assert!(!world.home().exists(), "it acted");
    }
    *world.coordinator.state.leader.lock().expect("lock") = leader;
    eventually("it acts once it is let in", || world.home().exists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_ends_by_itself_is_reported_and_never_started_twice() {
    let mut world = World::start().await;
    world.up().await;
    let exit = serde_json::json!({"exit": {"acme/web": {"run": 1, "exit_code": 137, "oom": true}}});
    world.control(&exit);
    let ended = RunState::Stopped { exit_code: Some(137), oom: true };
    world.coordinator.sees(web(), |seen| seen.state == ended).await;
    // the permit of run 1 is still in the document: neither a new revision nor a restart uses it
    world.coordinator.order(|_| ()).await;
    world.end().await;
    world.coordinator.state.seen.send_replace(Default::default());
    world.run().await;
    let after = world.coordinator.sees(web(), |_| true).await;
    assert_eq!((after.state, after.run_serial), (ended, 1));

    world
        .change(|order| {
            order.run_serial = 2;
            order.permit = None;
        })
        .await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    world.permit(2).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_orders_is_stopped_and_its_home_kept() {
    let world = World::start().await;
    world.up().await;
    world.coordinator.order(|spec| spec.workspaces.clear()).await;
    let stopped = |state: &RunState| matches!(state, RunState::Stopped { .. });
    world.coordinator.sees(web(), |seen| stopped(&seen.state)).await;
    assert!(world.home().exists());
}
