//! Every conversion there and back, and what is refused on the way.

mod agents;
mod browsers;

use proptest::{collection::vec, option, prelude::*, sample::select};
use warren_common::{
    BootId, Bytes, ClientId, Generation, Limits, MilliCpus, NodeId, Revision, Timestamp,
    WorkspaceId,
    agent::{
        AgentKind, AgentState, AgentStatus, Confidence, Exit, Failure, FailureKind, Flags, Meter,
        Phase, Source, Tool, Wait, WaitKind,
    },
    measure::{Kill, KillSource, Pressure},
    spec::*,
    status::{
        CapsHeld, Finding, FindingLevel, NodeFacts, RunState, ServiceObserved, ServiceState,
        SessionObserved, SessionState, StartupStep, StepState, Usage, VolumeUse, WorkspaceObserved,
    },
};

use self::{agents::agent, browsers::browsers};
use super::{InsideStatus, InvalidMessage};
use crate::pb::{self, inside::v1 as inside, inside::v1::agent_state::State};

/// Makes an id of any of the kinds from sixteen bytes, through its text.
fn id<T: std::str::FromStr>(bytes: u128) -> T {
    let hex = format!("{bytes:032x}");
    let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    text.parse().ok().expect("it has the form of a UUID")
}

fn name<T: std::str::FromStr + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[a-z]([a-z0-9-]{0,8}[a-z0-9])?".prop_map(|text| text.parse().ok().expect("it fits the rule"))
}

fn line() -> impl Strategy<Value = String> {
    "[ -~äß語]{0,30}"
}

fn labels() -> impl Strategy<Value = Labels> {
    proptest::collection::btree_map("[a-z]{1,8}", "[ -~]{0,8}", 0..4)
}

fn tier() -> impl Strategy<Value = IsolationTier> {
    use IsolationTier::*;
    prop_oneof![Just(Container), Just(UserNamespace), Just(Gvisor), Just(Dedicated)]
}

prop_compose! {
    fn resources()(
        (memory, swap, reserve, disk) in any::<(u64, u64, u64, u64)>(),
        cpu_weight in any::<u32>(), cpus in option::of(any::<u32>()), pids in any::<u32>(),
    ) -> Resources {
        Resources {
            memory: Bytes(memory), swap: Bytes(swap), reserve: Bytes(reserve), disk: Bytes(disk),
            cpu_weight, cpus: cpus.map(MilliCpus), pids,
        }
    }
}

prop_compose! {
    fn workspace_spec()(
        (template, image, branch, setup) in (line(), line(), option::of(line()), option::of(line())),
        repo in option::of("https://h/[a-z]{1,9}(\\.git)?"),
        identity in option::of((line(), line())),
        sessions in vec((name(), option::of(line())), 0..4),
        (pin, required_labels, tier) in (option::of(any::<u128>()), labels(), tier()),
        (auto, labels, resources) in (any::<bool>(), labels(), resources()),
    ) -> WorkspaceSpec {
        WorkspaceSpec {
            template, image, branch, setup, labels, resources,
            repo: repo.map(|repo| repo.parse().expect("a URL")),
            git_identity: identity.map(|(name, email)| GitIdentity { name, email }),
            sessions: sessions.into_iter().map(|(name, command)| SessionSpec { name, command })
                .collect(),
            placement: PlacementRules { pin: pin.map(id::<NodeId>), required_labels, tier },
            failover: if auto { Failover::Auto } else { Failover::Manual },
        }
    }
}

prop_compose! {
    fn session_order()(
        (name, life, run, conversation) in (name(), any::<u64>(), any::<u64>(), any::<u64>()),
        wish in prop_oneof![
            Just(SessionWish::Run), Just(SessionWish::Stop), Just(SessionWish::Delete),
        ],
        agent in option::of(select(AgentProgram::ALL.to_vec())),
        asks in any::<bool>(),
        (command, branch, prompt) in (line(), option::of("[a-z]{1,9}"), line()),
    ) -> SessionOrder {
        let permissions = if asks { Permissions::Ask } else { Permissions::Bypass };
        let program = SessionProgram { agent, permissions, command, branch, prompt };
        SessionOrder { name, life, run, conversation, wish, program }
    }
}

prop_compose! {
    fn order()(
        (workspace, client, boot) in any::<(u128, u128, u128)>(),
        address in (name(), name()),
        (generation, run_serial, permitted) in any::<(u64, u64, bool)>(),
        run in prop_oneof![Just(Run::Running), Just(Run::Stopped), Just(Run::Removed)],
        spec in workspace_spec(),
        request in any::<Option<u128>>(),
        (sessions, sessions_told) in (vec(session_order(), 0..3), any::<bool>()),
    ) -> WorkspaceOrder {
        WorkspaceOrder {
            workspace: id::<WorkspaceId>(workspace),
            client: id::<ClientId>(client),
            address: warren_common::WorkspaceAddress { client: address.0, workspace: address.1 },
            generation: Generation(generation),
            run, run_serial, spec,
            permit: permitted.then(|| Permit { run_serial, boot: id::<BootId>(boot) }),
            request: request.map(id::<warren_common::RequestId>),
            sessions, sessions_told,
        }
    }
}

fn step() -> impl Strategy<Value = StartupStep> {
    let state = prop_oneof![
        Just(StepState::Pending),
        Just(StepState::Running),
        Just(StepState::Done),
        Just(StepState::Skipped),
        line().prop_map(|message| StepState::Failed { message }),
    ];
    ("[a-z:]{1,12}", line(), state, any::<(u64, u64)>(), line()).prop_map(
        |(name, title, state, (started, elapsed_ms), output)| StartupStep {
            name,
            title,
            state,
            started: Timestamp(started),
            elapsed_ms,
            output,
        },
    )
}

fn session() -> impl Strategy<Value = SessionObserved> {
    let state = prop_oneof![
        Just(SessionState::Running),
        any::<i32>().prop_map(|code| SessionState::Exited { code })
    ];
    (name(), line(), state, any::<(u64, u64, u32)>(), option::of(agent())).prop_map(
        |(name, command, state, (started, active, viewers), agent)| SessionObserved {
            name,
            command,
            state,
            started: Timestamp(started),
            active: Timestamp(active),
            viewers,
            panes: Vec::new(),
            killed: None,
            agent: agent.map(Box::new),
            run: None,
        },
    )
}

fn run_state() -> impl Strategy<Value = RunState> {
    prop_oneof![
        Just(RunState::Absent),
        Just(RunState::Preparing),
        Just(RunState::Prepared),
        Just(RunState::Starting),
        Just(RunState::Running),
        Just(RunState::Stopping),
        (option::of(any::<i32>()), any::<bool>())
            .prop_map(|(exit_code, oom)| RunState::Stopped { exit_code, oom }),
        ("[A-Z_]{1,12}", any::<bool>()).prop_map(|(code, retry)| RunState::Failed { code, retry }),
    ]
}

prop_compose! {
    fn observed()(
        (workspace, generation, run_serial, since) in any::<(u128, u64, u64, u64)>(),
        (state, reason, pid, caps_reason) in
            (run_state(), line(), option::of(any::<u32>()), line()),
        steps in vec(step(), 0..4), sessions in vec(session(), 0..4),
        (memory, swap, pids, cpu_ms, oom_kills) in any::<(u64, u64, u32, u64, u64)>(),
        (working_set, memory_cap, received, sent, cpu) in any::<(u64, u64, u64, u64, u32)>(),
        (some_10, some_60, full_10, full_60) in any::<(u32, u32, u32, u32)>(),
        kills in vec(kill(), 0..Limits::KILLS), services in vec(service(), 0..4),
        browsers in browsers(),
    ) -> WorkspaceObserved {
        let mut sessions = sessions;
        if let (Some(session), Some(kill)) = (sessions.first_mut(), kills.first()) {
            session.killed = Some(kill.clone());
        }
        WorkspaceObserved {
            workspace: id(workspace), generation: Generation(generation), run_serial, state, reason,
            since: Timestamp(since), pid, steps, sessions, kills, services, browsers,
            usage: Usage {
                memory: Bytes(memory), swap: Bytes(swap), pids, cpu_ms, oom_kills,
                working_set: Bytes(working_set), memory_cap: Bytes(memory_cap),
                cpu: MilliCpus(cpu), received: Bytes(received), sent: Bytes(sent),
                held: Bytes(memory / 2),
                pressure: Pressure { some_10, some_60, full_10, full_60 },
            },
            volume: (pids > 3).then_some(VolumeUse { used: Bytes(swap), limit: Bytes(memory) }),
            caps: (pids > 5).then_some(CapsHeld {
                memory: Bytes(memory), swap: Bytes(swap), disk: Bytes(received),
                cpus: (cpu > 9).then_some(MilliCpus(cpu)),
            }),
            caps_reason,
        }
    }
}

prop_compose! {
    fn service()(
        name in "[a-z]{1,12}",
        state in prop_oneof![
            Just(ServiceState::Absent),
            Just(ServiceState::Idle),
            Just(ServiceState::Starting),
            Just(ServiceState::Running),
            Just(ServiceState::Failed),
        ],
        reason in line(),
        (restarts, since) in any::<(u32, u64)>(),
    ) -> ServiceObserved {
        ServiceObserved { name, state, reason, restarts, since: Timestamp(since) }
    }
}

fn kill() -> impl Strategy<Value = Kill> {
    let source = prop_oneof![Just(KillSource::KernelLog), Just(KillSource::Counter)];
    let texts = ("[a-z]{1,15}", line(), option::of(name()), line());
    (any::<(u64, Option<u32>)>(), texts, source).prop_map(
        |((at, pid), (process, command, session, cgroup), source)| Kill {
            at: Timestamp(at),
            process,
            command: Kill::command_line(&command),
            session,
            pid,
            source,
            cgroup,
        },
    )
}

prop_compose! {
    fn facts()(
        (hostname, version, engine, kernel) in (line(), line(), line(), line()),
        (boot, memory, swap, disk) in any::<(u128, u64, u64, u64)>(),
        (cpus, cgroup) in any::<(u32, u32)>(), labels in labels(),
        findings in vec(("W[0-9]{4}", any::<bool>(), line(), line()), 0..4),
    ) -> NodeFacts {
        let level = |blocking| match blocking {
            true => FindingLevel::Blocking,
            false => FindingLevel::Warning,
        };
        NodeFacts {
            hostname, version, engine, kernel, cgroup, labels, boot: id(boot),
            allocatable_memory: Bytes(memory), swap: Bytes(swap), disk: Bytes(disk),
            cpus: MilliCpus(cpus),
            findings: findings.into_iter().map(|(code, blocking, message, fix)| {
                Finding { code, level: level(blocking), message, fix }
            }).collect(),
        }
    }
}

proptest! {
    #[test]
    fn node_spec_survives_the_wire(
        orders in vec(order(), 0..3), rank in any::<(u32, u64, u64)>(),
        (client, ports) in (any::<u128>(), prop::collection::btree_set(1_u16.., 0..3)),
    ) {
        let (incarnation, term, revision) = rank;
        let one = |port| format!("10.1.0.0/16:{port}/udp").parse().expect("a destination");
        let allowed = [(id(client), ports.into_iter().map(one).collect())].into();
        let secrets = orders.iter().map(|order| (order.workspace, rank.1 | 1)).collect();
        let spec =
            NodeSpec {
                secrets,
                incarnation,
                term,
                revision: Revision(revision),
                workspaces: orders,
                recovering: term % 2 == 1,
                allowed,
            };
        prop_assert_eq!(NodeSpec::try_from(pb::node::v1::NodeSpec::from(spec.clone())), Ok(spec));
    }

    #[test]
    fn facts_survive_the_wire(facts in facts()) {
        let wire = pb::node::v1::NodeFacts::from(facts.clone());
        prop_assert_eq!(NodeFacts::try_from(wire), Ok(facts));
    }

    #[test]
    fn observation_survives_the_wire(observed in observed()) {
        let wire = pb::node::v1::WorkspaceObserved::from(observed.clone());
        prop_assert_eq!(WorkspaceObserved::try_from(wire), Ok(observed));
    }

    #[test]
    fn status_from_inside_survives_the_wire(
        steps in vec(step(), 0..5), sessions in vec(session(), 0..5), started in any::<bool>(),
        services in vec(service(), 0..5), browsers in browsers(),
    ) {
        let status = InsideStatus { steps, sessions, started, services, browsers };
        let wire = pb::inside::v1::Status::from(status.clone());
        prop_assert_eq!(InsideStatus::try_from(wire), Ok(status));
    }
}

#[test]
fn an_error_names_the_field_from_the_outside_in() {
    let session = pb::node::v1::SessionSpec { name: "not a name".to_owned(), command: None };
    let order = pb::node::v1::WorkspaceOrder {
        workspace_id: id::<WorkspaceId>(1).to_string(),
        client_id: id::<ClientId>(2).to_string(),
        client_name: "acme".to_owned(),
        workspace_name: "web".to_owned(),
        run: 1,
        spec: Some(pb::node::v1::WorkspaceSpec { sessions: vec![session], ..Default::default() }),
        ..Default::default()
    };
    let document = pb::node::v1::NodeSpec { workspaces: vec![order], ..Default::default() };
    let error = NodeSpec::try_from(document).expect_err("the name is none");
    assert_eq!(error.field(), "workspaces[0].spec.sessions[0].name");
}

#[test]
fn enums_unset_or_of_a_later_version_are_refused() {
    let refused = |run| {
        let order = pb::node::v1::WorkspaceOrder {
            workspace_id: id::<WorkspaceId>(1).to_string(),
            client_id: id::<ClientId>(2).to_string(),
            client_name: "acme".to_owned(),
            workspace_name: "web".to_owned(),
            run,
            ..Default::default()
        };
        WorkspaceOrder::try_from(order).expect_err("no such run").to_string()
    };
    assert_eq!(refused(0), "run: is not set");
    assert_eq!(refused(99), "run: has the unknown value 99");
}

#[test]
fn a_hostile_status_is_cleaned_and_bounded() {
    let step = pb::inside::v1::Step {
        name: "setup\x1b]0;x\x07".to_owned(),
        title: "two\nlines".to_owned(),
        state: pb::inside::v1::StepState::Failed.into(),
        message: "\x1b[31mred".repeat(500),
        output: "y".repeat(Limits::STEP_OUTPUT_BYTES + 1),
        ..Default::default()
    };
    let clean = StartupStep::try_from(step.clone()).expect("it is cleaned, not refused");
    assert_eq!(clean.name, "setup]0;x");
    assert_eq!(clean.title, "two lines");
    assert_eq!(clean.output.len(), Limits::STEP_OUTPUT_BYTES);
    let StepState::Failed { message } = clean.state else { panic!("it failed") };
    assert!(message.len() <= Limits::REASON_BYTES && !message.contains('\x1b'));

    let at = |count| {
        let steps = vec![step.clone(); count];
        InsideStatus::try_from(pb::inside::v1::Status { steps, ..Default::default() })
    };
    assert!(at(Limits::STEPS_INSIDE).is_ok());
    let error: InvalidMessage = at(Limits::STEPS_INSIDE + 1).expect_err("too many");
    assert_eq!(error.to_string(), "steps: has 49 items, the limit is 48");
}

/// Anything a workspace may say of an agent, also what no version of ours says.
fn hostile() -> impl Strategy<Value = inside::AgentStatus> {
    let text = || ".{0,80}|[\\x00-\\x1f]{1,4}";
    let number = || prop_oneof![0..12i32, any::<i32>()];
    let waiting = (number(), text(), vec(text(), 0..20)).prop_map(|(kind, text, options)| {
        State::Waiting(inside::AgentWaiting { kind, text, options, since_unix_ms: 1 })
    });
    let working =
        number().prop_map(|phase| State::Working(inside::AgentWorking { phase, tool: None }));
    let error = (number(), text()).prop_map(|(kind, text)| {
        State::Error(inside::AgentError { kind, text, retry_at_unix_ms: None })
    });
    let background =
        vec(text(), 0..30).prop_map(|tasks| State::Background(inside::AgentBackground { tasks }));
    let state = option::of(prop_oneof![waiting, working, error, background]);
    (text(), state, number(), text(), any::<bool>()).prop_map(
        |(kind, state, source, event, unknown)| inside::AgentStatus {
            kind,
            state: Some(inside::AgentState { state }),
            source,
            event,
            unknown,
            ..Default::default()
        },
    )
}

proptest! {
    #[test]
    fn an_agent_that_is_taken_is_taken_again_by_the_next(agent in hostile()) {
        let session = |agent| inside::SessionStatus {
            name: "main".to_owned(), running: true, agent: Some(agent), ..Default::default()
        };
        // what cannot be read costs the agent and not the session
        let taken = SessionObserved::try_from(session(agent)).expect("the session");
        let further = pb::node::v1::SessionObserved::from(taken.clone());
        prop_assert_eq!(SessionObserved::try_from(further), Ok(taken));
    }
}

#[test]
fn what_a_workspace_says_of_its_agents_is_cut() {
    let long = "x\n".repeat(9999);
    let waiting = inside::AgentWaiting {
        kind: inside::AgentWaitKind::Question.into(),
        text: long.clone(),
        options: vec![long.clone(); 99],
        since_unix_ms: 1,
    };
    let status = inside::AgentStatus {
        kind: long.clone(),
        state: Some(inside::AgentState { state: Some(State::Waiting(waiting)) }),
        source: inside::AgentSource::Hook.into(),
        event: long,
        ..Default::default()
    };
    let taken = AgentStatus::try_from(status).expect("long, but well formed");
    assert_eq!(taken.kind.as_str().len(), Limits::AGENT_NAME_BYTES);
    let AgentState::Waiting(wait) = taken.state else { panic!("{:?}", taken.state) };
    assert_eq!(wait.text.len(), Limits::AGENT_TEXT_BYTES);
    assert_eq!(wait.options.len(), Limits::AGENT_OPTIONS);
    assert!(wait.options.iter().all(|option| option.len() == Limits::AGENT_SUMMARY_BYTES));

    let controls = inside::AgentStatus { kind: "\u{1}".to_owned(), ..Default::default() };
    assert_eq!(AgentStatus::try_from(controls).expect_err("no kind").field(), "kind");
    let stateless = inside::AgentStatus { kind: "claude".to_owned(), ..Default::default() };
    let error = AgentStatus::try_from(stateless).expect_err("no state");
    assert_eq!(error.field(), "state");
}
