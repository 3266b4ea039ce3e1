//! Rules of time, rank, attention and evidence.

use super::*;
use crate::Limits;

#[test]
fn of_one_moment_the_higher_rank_is_believed() {
    let all = [
        (AgentKind::Claude, tool("PermissionRequest", "Bash"), registry(RegistryStatus::Busy)),
        (AgentKind::Codex, hook("Stop", ""), Report::AppServer(AppServer::Active)),
        (AgentKind::Codex, Report::AppServer(AppServer::Idle), Report::Title("⠹ web".to_owned())),
    ];
    for (kind, higher, lower) in all {
        let mut alone = arbiter(kind.clone());
        observe(&mut alone, 10, hook("UserPromptSubmit", ""));
        observe(&mut alone, 2_000, higher.clone());
        for pair in [[&higher, &lower], [&lower, &higher]] {
            let mut both = arbiter(kind.clone());
            observe(&mut both, 10, hook("UserPromptSubmit", ""));
            for report in pair {
                observe(&mut both, 2_000, report.clone());
            }
            assert_eq!(state(&both), state(&alone), "{pair:?}");
        }
    }
}

#[test]
fn ranks_are_ordered() {
    let order = [Source::Process, Source::Screen, Source::Title, Source::Registry];
    assert!(order.windows(2).all(|pair| pair[0].rank() < pair[1].rank()));
    assert!(Source::Hook(String::new()).rank() > Source::Registry.rank());
    assert_eq!(Source::AppServer.rank(), Source::Registry.rank());
}

#[test]
fn a_stamp_of_the_future_is_cut_to_now() {
    let report = registry(RegistryStatus::Busy);
    let observation = Observation::new(Timestamp(u64::MAX), at(10), report);
    let mut arbiter = arbiter(AgentKind::Claude);
    arbiter.observe(observation);
    observe(&mut arbiter, 20, hook("Stop", ""));
    assert_eq!(state(&arbiter), StateName::Idle);
}

#[test]
fn a_look_is_good_until_the_next_end() {
    let mut arbiter = arbiter(AgentKind::Claude);
    let unseen = |arbiter: &Arbiter| arbiter.status().flags.unseen;
    observe(&mut arbiter, 10, hook("SessionStart", "startup"));
    assert!(!unseen(&arbiter), "nothing is finished yet");
    observe(&mut arbiter, 20, hook("UserPromptSubmit", ""));
    observe(&mut arbiter, 30, tool("PermissionRequest", "Bash"));
    assert!(unseen(&arbiter));
    arbiter.seen_by_person(at(40));
    assert!(!unseen(&arbiter));
    observe(&mut arbiter, 50, tool("PermissionRequest", "Edit"));
    assert!(unseen(&arbiter), "another question");
    arbiter.seen_by_person(at(60));
    observe(&mut arbiter, 70, hook("UserPromptSubmit", ""));
    assert!(!unseen(&arbiter), "it works");
    observe(&mut arbiter, 80, hook("StopFailure", "rate_limit"));
    assert!(unseen(&arbiter));
    arbiter.seen_by_person(at(70));
    assert!(unseen(&arbiter), "an older look");
}

#[test]
fn unknown_keeps_what_was_and_ends_with_a_word() {
    let mut arbiter = arbiter(AgentKind::Claude);
    observe(&mut arbiter, 0, hook("SessionStart", "startup"));
    arbiter.tick(at(14_999));
    assert_eq!(state(&arbiter), StateName::Idle);
    arbiter.tick(at(15_000));
    let status = arbiter.status();
    assert_eq!(status.state, AgentState::Unknown { last: Box::new(AgentState::Idle) });
    assert_eq!(status.age(at(15_000)), Limits::AGENT_UNHEARD);
    arbiter.heartbeat(at(15_001));
    assert_eq!(state(&arbiter), StateName::Idle);
}

#[test]
fn evidence_tells_what_each_observation_did() {
    let mut arbiter = arbiter(AgentKind::Claude);
    observe(&mut arbiter, 10, hook("UserPromptSubmit", ""));
    observe(&mut arbiter, 60, registry(RegistryStatus::Busy));
    observe(&mut arbiter, 70, hook("Unheard", ""));
    observe(&mut arbiter, 30, tool("PreToolUse", "Bash"));
    let explained = arbiter.explain();
    let told: Vec<(u64, Verdict)> =
        explained.iter().map(|one| (one.observation.at.0 - BEGIN, one.verdict)).collect();
    let wanted = [
        (10, Verdict::Set(StateName::Working)),
        (30, Verdict::Set(StateName::Working)),
        (60, Verdict::Confirmed),
        (70, Verdict::Ignored(Why::Meaningless)),
    ];
    assert_eq!(told, wanted);
}

#[test]
fn a_quiet_source_keeps_its_evidence_beside_a_loud_one() {
    let mut arbiter = arbiter(AgentKind::Claude);
    observe(&mut arbiter, 10, hook("UserPromptSubmit", ""));
    for ms in 1..1_000_u32 {
        let at = 10 + u64::from(ms);
        observe(&mut arbiter, at, Report::Process(Process::Cpu { per_mille: ms }));
        observe(&mut arbiter, at, Report::Tmux(Tmux::Output));
    }
    let explained = arbiter.explain();
    // of the output, which says the same each time, one
    assert_eq!(explained.len(), 1 + Limits::AGENT_EVIDENCE + 1);
    assert_eq!(explained[0].observation.report, hook("UserPromptSubmit", ""));
    assert_eq!(state(&arbiter), StateName::Working);
}

#[test]
fn what_speaks_of_a_forgotten_moment_is_not_believed() {
    let mut arbiter = arbiter(AgentKind::Claude);
    for ms in 0..=(Limits::AGENT_OBSERVATIONS as u64) {
        observe(&mut arbiter, 100 + ms, tool("PreToolUse", "Bash"));
    }
    observe(&mut arbiter, 50, registry(RegistryStatus::Idle));
    assert_eq!(state(&arbiter), StateName::Working);
    let late = |one: &Evidence| one.verdict == Verdict::Ignored(Why::Late);
    assert_eq!(arbiter.explain().iter().filter(|one| late(one)).count(), 1);
}

#[test]
fn texts_are_cleaned_and_cut() {
    let mut arbiter = arbiter(AgentKind::Claude);
    let ask = Ask {
        kind: WaitKind::Question,
        text: "\x1b]0;x\x07".repeat(500),
        options: vec!["o\n".repeat(500); 50],
    };
    let hook = Hook {
        event: "PreToolUse".to_owned(),
        tool: "T\n".repeat(500),
        text: "t".repeat(5_000),
        ask: Some(ask),
        ..Hook::default()
    };
    observe(&mut arbiter, 10, Report::Hook(Box::new(hook)));
    let AgentState::Waiting(wait) = arbiter.status().state else { panic!("it asks") };
    assert_eq!(wait.text.len(), Limits::AGENT_TEXT_BYTES);
    assert!(!wait.text.contains(char::is_control));
    assert_eq!(wait.options.len(), Limits::AGENT_OPTIONS);
    assert_eq!(wait.options[0].len(), Limits::AGENT_SUMMARY_BYTES);
    assert!(!wait.options[0].contains('\n'));
    let program = Arbiter::new(AgentKind::Other("p\n".repeat(500)), at(0)).status().kind;
    assert_eq!(program, AgentKind::Other("p ".repeat(Limits::AGENT_NAME_BYTES / 2)));
}

#[test]
fn errors_have_the_kind_that_the_agent_names() {
    let all = [
        ("authentication_failed", FailureKind::Auth),
        ("server_error", FailureKind::Overloaded),
        ("rate_limit", FailureKind::RateLimit),
        ("billing_error", FailureKind::Billing),
        ("invalid_request", FailureKind::InvalidRequest),
        ("unknown", FailureKind::Other),
    ];
    for (word, kind) in all {
        assert_eq!(FailureKind::parse(word), kind, "{word}");
    }
}

#[test]
fn an_end_is_bad_by_code_signal_or_memory() {
    let exit = |code, signal, oom| Exit { code, signal, oom };
    assert!(!exit(None, None, false).is_bad() && !exit(Some(0), None, false).is_bad());
    assert!(exit(Some(1), None, false).is_bad() && exit(None, Some(9), false).is_bad());
    assert!(exit(Some(0), None, true).is_bad());
}

fn status(state: AgentState, unseen: bool, stalled: bool, since: u64) -> AgentStatus {
    let mut status = arbiter(AgentKind::Claude).status();
    status.state = state;
    status.since = at(since);
    status.flags = Flags { unseen, stalled };
    status
}

#[test]
fn who_needs_a_person_first() {
    let wait =
        Wait { kind: WaitKind::Plan, text: String::new(), options: Vec::new(), since: at(0) };
    let failure = Failure { kind: FailureKind::Auth, text: String::new(), retry_at: None };
    let working = AgentState::Working { phase: None, tool: None };
    let exited = |code| AgentState::Exited(Exit { code: Some(code), ..Exit::default() });
    let unknown = AgentState::Unknown { last: Box::new(AgentState::Idle) };
    // the order of the list is the rule
    let order = [
        status(AgentState::Waiting(wait), false, false, 0),
        status(AgentState::Error(failure), false, false, 0),
        status(exited(1), false, false, 0),
        status(AgentState::Idle, true, false, 0),
        status(working.clone(), false, true, 0),
        status(unknown, true, false, 0),
        status(working, false, false, 0),
        status(AgentState::Background { tasks: Vec::new() }, false, false, 0),
        status(AgentState::Starting, false, false, 0),
        status(AgentState::Idle, false, false, 0),
        status(exited(0), true, false, 0),
    ];
    let keys: Vec<AttentionKey> = order.iter().map(AttentionKey::of).collect();
    assert!(keys.windows(2).all(|pair| pair[0] > pair[1]), "{keys:?}");
    assert_eq!(AttentionKey::roll_up(keys.iter().rev().copied()), Some(keys[0]));
    assert_eq!(AttentionKey::roll_up([]), None);
    // a roll-up of roll-ups is that of all
    let halves = keys.chunks(4).filter_map(|half| AttentionKey::roll_up(half.iter().copied()));
    assert_eq!(AttentionKey::roll_up(halves), Some(keys[0]));
    // of equals, who has needed one for longest
    let idle = |since| AttentionKey::of(&status(AgentState::Idle, true, false, since));
    assert!(idle(5) > idle(9));
}
