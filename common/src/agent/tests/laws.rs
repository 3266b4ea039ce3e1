//! What holds for whatever is observed.

use proptest::prelude::*;

use super::*;
use crate::{Limits, status::hides};

const EVENTS: [&str; 24] = [
    "SessionStart",
    "SessionEnd",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PermissionRequest",
    "Notification",
    "Stop",
    "StopFailure",
    "Interrupt",
    "PreCompact",
    "PostCompact",
    "SubagentStart",
    "SubagentStop",
    "BeforeAgent",
    "BeforeTool",
    "AfterTool",
    "AfterAgent",
    "working",
    "waiting",
    "idle",
    "error",
    "odd",
];
const ABOUT: [&str; 6] =
    ["", "clear", "compact", "permission_prompt", "idle_prompt", "ToolPermission"];
const TITLES: [&str; 6] = ["◇  Ready", "✦  Working…", "✋  Action", "⠹ web", "[ ! ] web", "web"];

fn kinds() -> impl Strategy<Value = AgentKind> {
    prop_oneof![
        Just(AgentKind::Claude),
        Just(AgentKind::Codex),
        Just(AgentKind::Gemini),
        Just(AgentKind::Other("make".to_owned())),
    ]
}

fn asks() -> impl Strategy<Value = Ask> {
    let kind = prop::sample::select(vec![WaitKind::Permission, WaitKind::Question, WaitKind::Plan]);
    (kind, ".{0,600}", prop::collection::vec(".{0,200}", 0..12))
        .prop_map(|(kind, text, options)| Ask { kind, text, options })
}

fn hooks() -> impl Strategy<Value = Report> {
    let names = (prop::sample::select(&EVENTS[..]), prop::sample::select(&ABOUT[..]));
    let tool = prop::sample::select(vec!["", "Bash", "Read"]);
    let subagent = prop::sample::select(vec!["", "", "a1", "a2"]);
    let tasks = prop::collection::vec(".{0,200}", 0..3);
    let rest = (".{0,500}", prop::option::weighted(0.2, asks()), any::<bool>(), 0..9_u8);
    (names, tool, subagent, tasks, rest).prop_map(|(names, tool, subagent, tasks, rest)| {
        let (text, ask, wakes, helper) = rest;
        let wakeups = if wakes { tasks.clone() } else { Vec::new() };
        Report::Hook(Box::new(Hook {
            event: names.0.to_owned(),
            about: names.1.to_owned(),
            tool: tool.to_owned(),
            text,
            ask,
            tasks: if wakes { Vec::new() } else { tasks },
            wakeups,
            subagent: subagent.to_owned(),
            retry_at: None,
            helper: helper == 0,
        }))
    })
}

fn others() -> impl Strategy<Value = Report> {
    let statuses = vec![
        RegistryStatus::Busy,
        RegistryStatus::Idle,
        RegistryStatus::Waiting,
        RegistryStatus::Shell,
    ];
    let threads = vec![
        AppServer::Idle,
        AppServer::Active,
        AppServer::WaitingOnApproval,
        AppServer::WaitingOnUserInput,
        AppServer::SystemError { about: "badRequest".to_owned(), text: "x".repeat(900) },
        AppServer::NotLoaded,
        AppServer::Ephemeral,
    ];
    prop_oneof![
        (prop::sample::select(statuses), ".{0,200}", prop::bool::weighted(0.9)).prop_map(
            |(status, waiting_for, live)| Report::Registry(Registry { status, waiting_for, live })
        ),
        prop::sample::select(threads).prop_map(Report::AppServer),
        prop::sample::select(&TITLES[..]).prop_map(|title| Report::Title(title.to_owned())),
        ".{0,300}".prop_map(Report::Title),
        asks().prop_map(|ask| Report::Screen(Screen::Asks(ask))),
        ".{0,300}".prop_map(|line| Report::Screen(Screen::Retrying(line))),
        ".{0,900}".prop_map(|lines| Report::Screen(Screen::Lines(lines))),
        Just(Report::Screen(Screen::Prompt)),
        ".{0,500}".prop_map(|line| Report::Screen(Screen::Failed(line))),
        (0..3_u32).prop_map(|pid| Report::Process(Process::Up { pid, start: 1 })),
        (0..200_u32).prop_map(|per_mille| Report::Process(Process::Cpu { per_mille })),
        any::<bool>().prop_map(|reads| Report::Process(Process::ReadsInput { reads })),
        Just(Report::Process(Process::OutOfMemory)),
        Just(Report::Tmux(Tmux::Output)),
        (0..2_i32).prop_map(|code| Report::Tmux(Tmux::Dead { code: Some(code), signal: None })),
        Just(Report::Tmux(Tmux::Gone)),
    ]
}

fn reports() -> impl Strategy<Value = Report> {
    prop_oneof![3 => hooks(), 2 => others()]
}

/// Observations with stamps of their own, in the order of these.
fn ordered(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Observation>> {
    prop::collection::vec((reports(), 1..2_000_u64), length).prop_map(|reports| {
        let mut ms = 0;
        let stamped = reports.into_iter().map(|(report, gap)| {
            ms += gap;
            Observation { at: at(ms), report }
        });
        stamped.collect()
    })
}

/// The same in another order as well.
fn two_orders() -> impl Strategy<Value = (Vec<Observation>, Vec<Observation>)> {
    ordered(1..60).prop_flat_map(|ordered| (Just(ordered.clone()), Just(ordered).prop_shuffle()))
}

fn fold(kind: AgentKind, observations: Vec<Observation>) -> Arbiter {
    let mut arbiter = arbiter(kind);
    observations.into_iter().for_each(|observation| arbiter.observe(observation));
    arbiter
}

/// Every text that a state carries, with its bound.
fn texts(state: &AgentState) -> Vec<(&str, usize)> {
    match state {
        AgentState::Starting | AgentState::Idle | AgentState::Exited(_) => Vec::new(),
        AgentState::Working { tool, .. } => tool.iter().fold(Vec::new(), |mut all, tool| {
            all.push((tool.name.as_str(), Limits::AGENT_NAME_BYTES));
            all.push((tool.summary.as_str(), Limits::AGENT_SUMMARY_BYTES));
            all
        }),
        AgentState::Waiting(wait) => {
            assert!(wait.options.len() <= Limits::AGENT_OPTIONS);
            let options = wait.options.iter().map(|option| (option.as_str(), 160));
            options.chain([(wait.text.as_str(), Limits::AGENT_TEXT_BYTES)]).collect()
        }
        AgentState::Background { tasks } => {
            assert!(tasks.len() <= Limits::AGENT_TASKS);
            tasks.iter().map(|task| (task.as_str(), Limits::AGENT_SUMMARY_BYTES)).collect()
        }
        AgentState::Error(failure) => vec![(failure.text.as_str(), Limits::AGENT_TEXT_BYTES)],
        AgentState::Unknown { last } => {
            assert_ne!(last.name(), StateName::Unknown);
            texts(last)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_order_of_arrival_does_not_matter(
        kind in kinds(),
        (ordered, shuffled) in two_orders(),
        later in 0..700_000_u64,
    ) {
        let end = ordered[ordered.len() - 1].at.0 - BEGIN;
        let (mut one, mut other) = (fold(kind.clone(), ordered), fold(kind, shuffled));
        prop_assert_eq!(one.status(), other.status());
        prop_assert_eq!(one.explain(), other.explain());
        for arbiter in [&mut one, &mut other] {
            arbiter.heartbeat(at(end + later));
        }
        prop_assert_eq!(one.status(), other.status());
    }

    /// What was forgotten had its say, as long as nothing comes later than the log is long.
    #[test]
    fn the_order_of_arrival_does_not_matter_when_the_log_is_full(
        kind in kinds(),
        ordered in ordered(130..220),
        late_by in 2..Limits::AGENT_OBSERVATIONS,
    ) {
        let chunks = ordered.chunks(late_by).flat_map(|chunk| chunk.iter().rev().cloned());
        let (one, other) = (fold(kind.clone(), ordered.clone()), fold(kind, chunks.collect()));
        prop_assert_eq!(one.status(), other.status());
        prop_assert_eq!(one.explain(), other.explain());
    }

    #[test]
    fn folding_is_deterministic(kind in kinds(), (ordered, _) in two_orders()) {
        let (one, other) = (fold(kind.clone(), ordered.clone()), fold(kind, ordered));
        prop_assert_eq!(one.status(), other.status());
        prop_assert_eq!(one.explain(), other.explain());
    }

    #[test]
    fn bounds_hold_whatever_comes(
        kind in kinds(),
        all in prop::collection::vec((reports(), any::<u64>(), 0..5_u8), 0..200),
    ) {
        let mut arbiter = arbiter(kind);
        for (report, stamp, other) in all {
            match other {
                0 => arbiter.tick(Timestamp(stamp)),
                1 => arbiter.seen_by_person(Timestamp(stamp)),
                _ => arbiter.observe(Observation { at: Timestamp(stamp % 3_000_000), report }),
            }
            let status = arbiter.status();
            for (text, bound) in texts(&status.state) {
                prop_assert!(text.len() <= bound, "{} bytes of {bound}", text.len());
                prop_assert!(!text.contains(hides));
            }
            prop_assert!(status.subagents as usize <= Limits::AGENT_SUBAGENTS);
        }
        prop_assert!(arbiter.explain().len() <= 7 * Limits::AGENT_EVIDENCE);
    }

    /// A look at the clock changes what silence means and nothing of what was told.
    #[test]
    fn time_alone_starts_no_turn(kind in kinds(), (ordered, _) in two_orders(), later in 0..90_000_u64) {
        let end = ordered[ordered.len() - 1].at.0 - BEGIN;
        let mut arbiter = fold(kind, ordered);
        let before = arbiter.status();
        arbiter.heartbeat(at(end + later));
        let after = arbiter.status();
        if before.state.name() != StateName::Working {
            prop_assert_ne!(after.state.name(), StateName::Working);
        }
        prop_assert_eq!(before.last_activity, after.last_activity);
    }
}
