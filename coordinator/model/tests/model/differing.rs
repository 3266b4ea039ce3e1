//! The node's side: a table of decisions, and the laws over every order and everything held.

use proptest::prelude::*;
use warren_common::{
    BootId, Bytes, Generation,
    spec::{Permit, Run, WorkspaceOrder},
    status::RunState,
};
use warren_model::{Action, Held, HeldContainer, HeldState, diff};

use crate::make::{boot, client, spec, workspace};

fn order(run: Run, run_serial: u64, permit: Option<Permit>) -> WorkspaceOrder {
    WorkspaceOrder {
        workspace: workspace(1),
        client: client(1),
        address: "acme/web".parse().expect("an address"),
        generation: Generation::new(7, 2),
        run,
        run_serial,
        permit,
        spec: spec(Bytes::gib(1)),
        request: None,
        sessions: Vec::new(),
        sessions_told: true,
    }
}

fn permit(run_serial: u64, n: u8) -> Option<Permit> {
    Some(Permit { run_serial, boot: boot(n) })
}

fn container(run_serial: u64, state: HeldState) -> Option<HeldContainer> {
    let started_in_boot = match state {
        HeldState::Created => None,
        HeldState::Running { .. } | HeldState::Exited { .. } => Some(boot(1)),
    };
    Some(HeldContainer { generation: Generation::new(7, 2), run_serial, state, started_in_boot })
}

fn held(container: Option<HeldContainer>) -> Held {
    Held { volume: true, network: true, container, started: None }
}

const RUNNING: HeldState = HeldState::Running { settled: true };
const EXITED: HeldState = HeldState::Exited { code: Some(1), oom: false };

#[test]
fn one_step_follows_from_each_order_and_holding() {
    let first = || held(None);
    let ended = RunState::Stopped { exit_code: None, oom: false };
    let exited = RunState::Stopped { exit_code: Some(1), oom: false };
    let run = |permit| order(Run::Running, 3, permit);
    let made = || held(container(3, HeldState::Created));
    let starting = HeldState::Running { settled: false };
    let gone = Held { started: Some((Generation::new(7, 2), 3)), ..first() };
    let cases = [
        (run(None), Held::default(), Action::EnsureVolume, RunState::Preparing),
        (run(None), Held { network: false, ..first() }, Action::EnsureNetwork, RunState::Preparing),
        (run(None), first(), Action::CreateContainer, RunState::Preparing),
        (run(None), made(), Action::AwaitPermit, RunState::Prepared),
        (run(permit(2, 1)), made(), Action::AwaitPermit, RunState::Prepared),
        (run(permit(3, 2)), made(), Action::AwaitPermit, RunState::Prepared),
        (run(permit(3, 1)), made(), Action::Start, RunState::Prepared),
        (run(permit(3, 1)), held(container(3, starting)), Action::Nothing, RunState::Starting),
        (run(permit(3, 1)), held(container(3, RUNNING)), Action::Nothing, RunState::Running),
        (run(permit(3, 1)), held(container(3, EXITED)), Action::Nothing, exited.clone()),
        (run(permit(3, 1)), gone, Action::Nothing, ended.clone()),
        (run(None), held(container(2, RUNNING)), Action::Stop, RunState::Preparing),
        (run(None), held(container(2, EXITED)), Action::RemoveContainer, RunState::Preparing),
        (
            order(Run::Stopped, 3, None),
            held(container(3, RUNNING)),
            Action::Stop,
            RunState::Stopping,
        ),
        (order(Run::Stopped, 3, None), held(container(3, EXITED)), Action::Nothing, exited),
        (order(Run::Stopped, 3, None), Held::default(), Action::Nothing, ended),
        (
            order(Run::Removed, 3, None),
            held(container(3, RUNNING)),
            Action::Stop,
            RunState::Stopping,
        ),
        (
            order(Run::Removed, 3, None),
            held(container(1, EXITED)),
            Action::RemoveContainer,
            RunState::Stopping,
        ),
        (order(Run::Removed, 3, None), first(), Action::RemoveNetwork, RunState::Stopping),
        (
            order(Run::Removed, 3, None),
            Held { network: false, ..first() },
            Action::RemoveVolume,
            RunState::Stopping,
        ),
        (order(Run::Removed, 3, None), Held::default(), Action::Nothing, RunState::Absent),
    ];
    for (order, held, action, report) in cases {
        let next = diff(Some(&order), &held, boot(1));
        assert_eq!((next.action, &next.report), (action, &report), "{order:?} {held:?}");
    }
}

#[test]
fn what_somebody_else_started_is_stopped() {
    let mut one = held(container(3, RUNNING));
    for started in [None, Some(boot(2))] {
        one.container.as_mut().expect("there").started_in_boot = started;
        let next = diff(Some(&order(Run::Running, 3, permit(3, 1))), &one, boot(1));
        assert_eq!(next.action, Action::Stop);
    }
}

#[test]
fn an_order_older_than_what_is_held_touches_nothing() {
    let mut newer = held(container(3, RUNNING));
    newer.container.as_mut().expect("there").generation = Generation::new(8, 1);
    for run in [Run::Running, Run::Stopped, Run::Removed] {
        let next = diff(Some(&order(run, 9, permit(9, 1))), &newer, boot(1));
        assert_eq!(next.action, Action::Refuse);
        let next = diff(Some(&order(run, 2, permit(2, 1))), &held(container(3, RUNNING)), boot(1));
        assert_eq!(next.action, Action::Refuse);
    }
}

#[test]
fn without_an_order_what_runs_is_stopped_and_everything_is_kept() {
    assert_eq!(diff(None, &held(container(3, RUNNING)), boot(1)).action, Action::Stop);
    for kept in [container(3, EXITED), container(3, HeldState::Created), None] {
        assert_eq!(diff(None, &held(kept), boot(1)).action, Action::Nothing);
    }
    assert_eq!(diff(None, &Held::default(), boot(1)).report, RunState::Absent);
}

fn states() -> impl Strategy<Value = HeldState> {
    prop_oneof![
        Just(HeldState::Created),
        any::<bool>().prop_map(|settled| HeldState::Running { settled }),
        (any::<Option<i32>>(), any::<bool>())
            .prop_map(|(code, oom)| HeldState::Exited { code, oom }),
    ]
}

fn generations() -> impl Strategy<Value = Generation> {
    (1_u32..4).prop_map(|counter| Generation::new(7, counter))
}

fn boots() -> impl Strategy<Value = BootId> {
    (1_u8..3).prop_map(boot)
}

fn holdings() -> impl Strategy<Value = Held> {
    let container = (generations(), 1_u64..4, states(), prop::option::of(boots())).prop_map(
        |(generation, run_serial, state, started_in_boot)| HeldContainer {
            generation,
            run_serial,
            state,
            started_in_boot,
        },
    );
    let started = prop::option::of((generations(), 1_u64..4));
    (any::<bool>(), any::<bool>(), prop::option::of(container), started).prop_map(
        |(volume, network, container, started)| Held { volume, network, container, started },
    )
}

fn orders() -> impl Strategy<Value = Option<WorkspaceOrder>> {
    let run = prop_oneof![Just(Run::Running), Just(Run::Stopped), Just(Run::Removed)];
    let permit = prop::option::of((1_u64..4, boots()))
        .prop_map(|permit| permit.map(|(run_serial, boot)| Permit { run_serial, boot }));
    prop::option::of(
        (run, 1_u64..4, permit).prop_map(|(run, serial, permit)| order(run, serial, permit)),
    )
}

/// What an engine that never fails does; counts the starts.
fn take(held: &mut Held, order: Option<&WorkspaceOrder>, action: Action, boot: BootId) {
    match action {
        Action::Nothing | Action::AwaitPermit | Action::Refuse => {}
        Action::EnsureVolume => held.volume = true,
        Action::EnsureNetwork => held.network = true,
        Action::CreateContainer => {
            let order = order.expect("only an order makes one");
            let (generation, run_serial) = (order.generation, order.run_serial);
            let (state, started_in_boot) = (HeldState::Created, None);
            let made = HeldContainer { generation, run_serial, state, started_in_boot };
            assert!(held.container.replace(made).is_none(), "the one before is gone");
        }
        Action::Start => {
            let container = held.container.as_mut().expect("there is one to start");
            assert_eq!(container.state, HeldState::Created, "never started twice");
            container.state = HeldState::Running { settled: true };
            container.started_in_boot = Some(boot);
            held.started = Some((container.generation, container.run_serial));
        }
        Action::Stop => {
            let container = held.container.as_mut().expect("there is one to stop");
            assert!(matches!(container.state, HeldState::Running { .. }));
            container.state = HeldState::Exited { code: Some(143), oom: false };
        }
        Action::RemoveContainer => {
            let removed = held.container.take().expect("there is one to remove");
            assert!(!matches!(removed.state, HeldState::Running { .. }), "stopped first");
        }
        Action::RemoveNetwork => held.network = false,
        Action::RemoveVolume => held.volume = false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_converges_and_never_breaks_a_rule(
        order in orders(), mut held in holdings(), boot in boots()
    ) {
        let order = order.as_ref();
        let mut starts = 0;
        for step in 0.. {
            prop_assert!(step < 12, "it does not converge: {:?}", held);
            let next = diff(order, &held, boot);
            match next.action {
                Action::Start => {
                    starts += 1;
                    let order = order.expect("nothing starts unordered");
                    let permit = Permit { run_serial: order.run_serial, boot };
                    prop_assert_eq!((order.run, order.permit), (Run::Running, Some(permit)));
                }
                Action::RemoveVolume => {
                    prop_assert_eq!(order.map(|order| order.run), Some(Run::Removed));
                }
                Action::Nothing | Action::AwaitPermit | Action::Refuse => break,
                Action::EnsureVolume
                | Action::EnsureNetwork
                | Action::CreateContainer
                | Action::Stop
                | Action::RemoveContainer
                | Action::RemoveNetwork => {}
            }
            take(&mut held, order, next.action, boot);
        }
        prop_assert!(starts <= 1);
        let settled = diff(order, &held, boot);
        if settled.action != Action::Refuse {
            let running = held.container.as_ref()
                .is_some_and(|one| matches!(one.state, HeldState::Running { .. }));
            let ordered = order.is_some_and(|order| order.run == Run::Running);
            prop_assert!(ordered || !running, "what is not to run does not");
            let removed = order.is_some_and(|order| order.run == Run::Removed);
            prop_assert!(!removed || !(held.volume || held.network || held.container.is_some()));
        }
    }
}
