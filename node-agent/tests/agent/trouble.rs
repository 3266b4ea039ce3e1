//! Old documents, lost leaders, broken engines, streams that cannot be.

use warren_common::{
    Generation,
    agent::StateName,
    spec::{Run, WorkspaceOrder},
    status::{RunState, StepState, WorkspaceObserved},
};
use warren_proto::pb::inside::v1::{self as inside, frame::Kind, open::What};

use crate::{
    coordinator::Coordinator,
    lifecycle::{name, play},
    world::{GENERATION, World, order, until, web},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_documents_and_incarnations_are_refused() {
    let world = World::start().await;
    world.up().await;
    let state = &world.coordinator.state;
    let newest = state.spec.borrow().clone();
    until(&state.applied, |revision| *revision == newest.revision.0).await;
    for older in [
        {
            let mut spec = newest.clone();
            spec.revision.0 -= 1;
            spec
        },
        {
            let mut spec = newest.clone();
            spec.incarnation = 0;
            spec.revision.0 += 100;
            spec
        },
    ] {
        let epoch = *state.registered.borrow();
        let mut emptied = older;
        emptied.workspaces.clear();
        world.coordinator.send(emptied).await;
        // the node leaves whoever sent it, and comes back for the present document
        until(&state.registered, |registered| *registered > epoch).await;
    }
    let seen = world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
    assert_eq!(seen.run_serial, 1, "nothing was stopped");
    assert_eq!(*state.applied.borrow(), newest.revision.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_of_a_lower_generation_changes_nothing() {
    let world = World::start().await;
    world
        .coordinator
        .order(|spec| {
            spec.workspaces = vec![order(1)];
            spec.workspaces[0].generation = Generation::new(1, 5);
        })
        .await;
    let newer = world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    assert_eq!(newer.generation, Generation::new(1, 5));
    let state = &world.coordinator.state;
    world
        .change(|order| {
            order.generation = Generation::new(1, 4);
            order.run_serial = 9;
        })
        .await;
    let revision = state.spec.borrow().revision.0;
    until(&state.applied, |applied| *applied == revision).await;
    let reports = *state.reports.borrow();
    until(&state.reports, |now| *now > reports).await;
    let still = world.coordinator.sees(web(), |_| true).await;
    assert_eq!((still.generation, still.run_serial), (Generation::new(1, 5), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_found_and_every_coordinator_hears() {
    let mut world = World::bare().await;
    let other = Coordinator::start(&world.cluster, 2).await;
    let both = vec![world.coordinator.address.to_string(), other.address.to_string()];
    for one in [&world.coordinator, &other] {
        *one.state.addresses.lock().expect("lock") = both.clone();
        *one.state.leader.lock().expect("lock") = Some(other.address.to_string());
    }
    other.state.spec.send_replace(world.coordinator.state.spec.borrow().clone());
    world.join().await.expect("a follower lets nodes in too");
    world.run().await;
    until(&other.state.registered, |epoch| *epoch == 1).await;
    other.order(|spec| spec.workspaces = vec![order(1)]).await;
    other.sees(web(), |seen| seen.state == RunState::Prepared).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    until(&other.state.renewals, |renewals| *renewals > 0).await;
    assert!(world.agent().uplink.epoch().is_some());
    assert_eq!(*world.coordinator.state.registered.borrow(), 0, "a follower gets no control");

    // the leader goes; the follower takes over
    for one in [&world.coordinator, &other] {
        *one.state.leader.lock().expect("lock") = Some(world.coordinator.address.to_string());
    }
    let spec = other.state.spec.borrow().clone();
    world.coordinator.state.spec.send_replace(spec);
    drop(other);
    until(&world.coordinator.state.registered, |epoch| *epoch > 0).await;
    world.permit(1).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_image_fails_without_retry_until_the_order_changes() {
    let world = World::start().await;
    world.control(&serde_json::json!({"missing_images": ["warren-workspace:latest"]}));
    world.coordinator.order(|spec| spec.workspaces = vec![order(1)]).await;
    let missing = RunState::Failed { code: "IMAGE_MISSING".to_owned(), retry: false };
    let failed = world.coordinator.sees(web(), |seen| seen.state == missing).await;
    assert!(failed.reason.contains("warren-workspace:latest"), "{}", failed.reason);
    let step = failed.steps.iter().find(|step| step.name == "image").expect("a step");
    assert!(matches!(step.state, StepState::Failed { .. }));
    world.control(&serde_json::json!({}));
    world.change(|order| order.run_serial = 2).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_fails_for_a_while_is_tried_again() {
    let world = World::start().await;
    let fail = serde_json::json!({"fail": {"create": {"code": "ENGINE_FAILED", "times": 2}}});
    world.control(&fail);
    world.coordinator.order(|spec| spec.workspaces = vec![order(1)]).await;
    let failed = RunState::Failed { code: "ENGINE_FAILED".to_owned(), retry: true };
    world.coordinator.sees(web(), |seen| seen.state == failed).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_of_another_boot_starts_nothing() {
    let world = World::start().await;
    world.coordinator.order(|spec| spec.workspaces = vec![order(1)]).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    let boot = "0199a0b2-7f00-4000-8000-000000000001".parse().expect("an id");
    let permit = warren_common::spec::Permit { run_serial: 1, boot };
    world.change(|order| order.permit = Some(permit)).await;
    world.coordinator.sees(web(), |seen| seen.reason.contains("another run or boot")).await;
    world.permit(1).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_cannot_be_say_why() {
    let world = World::start().await;
    world.coordinator.order(|spec| spec.workspaces = vec![order(1)]).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    let attach = |session: &str| {
        What::Attach(inside::Attach { session: session.to_owned(), ..Default::default() })
    };
    let why = async |generation: u64, what: What| {
        let mut tunnel = world.coordinator.tunnel(web(), generation, what).await;
        match tunnel.rest().await.1 {
            Some(Kind::Failed(failed)) => failed.reason,
            other => panic!("{other:?} is no failure"),
        }
    };
    assert_eq!(why(GENERATION.0, attach("main")).await, "NOT_RUNNING");
    assert_eq!(why(GENERATION.0 + 1, attach("main")).await, "NOT_RUNNING");
    world.permit(1).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
    assert_eq!(why(GENERATION.0, attach("nobody")).await, "SESSION_NOT_FOUND");
    assert_eq!(why(GENERATION.0 + 1, attach("main")).await, "NOT_RUNNING");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_coordinator_did_not_take_is_told_again() {
    let mut world = World::start().await;
    world.up().await;
    world.end().await;
    world.coordinator.state.seen.send_replace(Default::default());
    // the inventory is lost; what comes after it is not enough
    *world.coordinator.state.deaf.lock().expect("lock") = 1;
    world.run().await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reboot_ends_the_run_and_needs_a_permit_of_its_own() {
    let mut world = World::start().await;
    world.up().await;
    world.end().await;
    let boot: warren_common::BootId =
        "0199a0b2-7f00-4000-8000-000000000002".parse().expect("an id");
    std::fs::write(world.fake_engine().join("boot"), format!("{boot}")).expect("written");
    world.coordinator.state.seen.send_replace(Default::default());
    world.run().await;
    let stopped = |state: &RunState| matches!(state, RunState::Stopped { .. });
    world.coordinator.sees(web(), |seen| stopped(&seen.state) && seen.run_serial == 1).await;
    world
        .change(|order| {
            order.run_serial = 2;
            order.permit = None;
        })
        .await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    let permit = warren_common::spec::Permit { run_serial: 2, boot };
    world.change(|order| order.permit = Some(permit)).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_away_leaves_what_runs_as_running() {
    let world = World::start().await;
    world.up().await;
    world.control(&serde_json::json!({"fail": {"list_of": {"code": "ENGINE_UNREACHABLE"}}}));
    world.coordinator.order(|spec| spec.workspaces[0].spec.labels = labels()).await;
    let away = world.coordinator.sees(web(), |seen| seen.reason.contains("does not answer")).await;
    assert_eq!(away.state, RunState::Running, "it runs on as far as anybody knows");
    play(&world, &["waiting"]).await;
    let waits = |seen: &WorkspaceObserved| name(seen) == Some(StateName::Waiting);
    world.coordinator.sees(web(), waits).await;
    let exit = serde_json::json!({"exit": {"acme/web": {"run": 1, "exit_code": 3}}});
    world.control(&exit);
    let ended = RunState::Stopped { exit_code: Some(3), oom: false };
    world.coordinator.sees(web(), |seen| seen.state == ended).await;
}

fn labels() -> warren_common::spec::Labels {
    [("changed".to_owned(), "so that the node looks".to_owned())].into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_drifts_is_stopped_for_good_and_a_restarted_agent_says_the_same() {
    let mut world = World::start().await;
    world.control(&serde_json::json!({ "drift": { "acme/web": 1 } }));
    world.coordinator.order(|spec| spec.workspaces = vec![order(1)]).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    world.permit(1).await;
    let drifted = |state: &RunState| matches!(state, RunState::Failed { code, retry: false } if code == "CONTAINER_DRIFTED");
    let stopped = |pid: Option<u32>| pid.is_none();
    let seen =
        world.coordinator.sees(web(), |seen| drifted(&seen.state) && stopped(seen.pid)).await;
    assert!(seen.reason.contains("HostConfig.Memory is \"268435456\""), "{}", seen.reason);
    world.end().await;
    world.run().await;
    let again = world.coordinator.sees(web(), |seen| drifted(&seen.state)).await;
    assert_eq!((again.run_serial, again.pid), (1, None), "it was not started again");
    // a person asks for another run
    world.change(|order| (order.run_serial, order.permit) = (2, None)).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    world.permit(2).await;
    world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_made_while_processes_of_an_engine_that_lists_nothing_run() {
    let mut world = World::bare().await;
    world.join().await.expect("joined");
    // as after another userns-remap: the engine is empty, its containers live on
    let level = world.fake_engine().join("cgroups/warren-n1").join(web().to_string());
    std::fs::create_dir_all(level.join("4f1c")).expect("folder");
    std::fs::write(level.join("cgroup.events"), "populated 1\nfrozen 0\n").expect("written");
    std::fs::write(level.join("4f1c/cgroup.procs"), "4711\n4712\n").expect("written");
    world.run().await;
    world.coordinator.order(|spec| spec.workspaces = vec![order(1)]).await;
    let refused = RunState::Failed { code: "STILL_RUNS".to_owned(), retry: true };
    let seen = world.coordinator.sees(web(), |seen| seen.state == refused).await;
    let told = seen.reason;
    assert!(told.contains("2 processes run in") && told.contains("warren-n1/"), "{told}");
    let record = std::fs::read_to_string(world.fake_engine().join("engine.json"));
    assert!(!record.expect("its record").contains("warren-acme-web"), "no container was made");
    std::fs::write(level.join("cgroup.events"), "populated 0\nfrozen 0\n").expect("written");
    world.coordinator.sees(web(), |seen| seen.state == RunState::Prepared).await;
    // and between making and starting
    std::fs::write(level.join("cgroup.events"), "populated 1\nfrozen 0\n").expect("written");
    world.permit(1).await;
    world.coordinator.sees(web(), |seen| seen.state == refused).await;
    std::fs::write(level.join("cgroup.events"), "populated 0\nfrozen 0\n").expect("written");
    world.coordinator.sees(web(), |seen| seen.state == RunState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_a_workspace_ends_what_the_engine_does_not_list() {
    let mut world = World::bare().await;
    world.join().await.expect("joined");
    let level = world.fake_engine().join("cgroups/warren-n1").join(web().to_string());
    std::fs::create_dir_all(&level).expect("folder");
    std::fs::write(level.join("cgroup.events"), "populated 1\nfrozen 0\n").expect("written");
    std::fs::write(level.join("cgroup.kill"), "").expect("written");
    world.run().await;
    let stopped = WorkspaceOrder { run: Run::Stopped, ..order(1) };
    world.coordinator.order(|spec| spec.workspaces = vec![stopped]).await;
    // it is not told as stopped while anything of it runs
    let refused = RunState::Failed { code: "STILL_RUNS".to_owned(), retry: true };
    world.coordinator.sees(web(), |seen| seen.state == refused).await;
    let asked = std::fs::read_to_string(level.join("cgroup.kill")).expect("there");
    assert_eq!(asked, "1", "the kernel was not asked to end it");
    std::fs::write(level.join("cgroup.events"), "populated 0\nfrozen 0\n").expect("written");
    let ended = |seen: &WorkspaceObserved| matches!(seen.state, RunState::Stopped { .. });
    world.coordinator.sees(web(), ended).await;
}
