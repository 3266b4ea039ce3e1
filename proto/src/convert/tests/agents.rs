//! Agents as they may be.

use super::*;

fn agent_state() -> impl Strategy<Value = AgentState> {
    let since = || any::<u64>().prop_map(Timestamp);
    let tool =
        (line(), line(), since()).prop_map(|(name, summary, since)| Tool { name, summary, since });
    let phase = select(vec![Phase::Tool, Phase::Thinking, Phase::Retrying, Phase::Subagent]);
    let wait = select(vec![WaitKind::Permission, WaitKind::Question, WaitKind::Setup]);
    let failure = select(vec![FailureKind::RateLimit, FailureKind::Auth, FailureKind::Other]);
    prop_oneof![
        Just(AgentState::Starting),
        (option::of(phase), option::of(tool))
            .prop_map(|(phase, tool)| AgentState::Working { phase, tool }),
        (wait, line(), vec(line(), 0..3), since()).prop_map(|(kind, text, options, since)| {
            AgentState::Waiting(Wait { kind, text, options, since })
        }),
        vec(line(), 0..3).prop_map(|tasks| AgentState::Background { tasks }),
        Just(AgentState::Idle),
        (failure, line(), option::of(since())).prop_map(|(kind, text, retry_at)| {
            AgentState::Error(Failure { kind, text, retry_at })
        }),
        (option::of(any::<i32>()), option::of(any::<i32>()), any::<bool>())
            .prop_map(|(code, signal, oom)| AgentState::Exited(Exit { code, signal, oom })),
    ]
}

pub(super) fn agent() -> impl Strategy<Value = AgentStatus> {
    let source = prop_oneof![
        "[A-Za-z]{0,12}".prop_map(Source::Hook),
        select(vec![Source::Registry, Source::AppServer, Source::Title, Source::Process]),
    ];
    let kind = select(vec!["claude", "codex", "gemini", "opencode", "shell", "aider"]);
    let confidence = select(vec![Confidence::Exact, Confidence::Derived]);
    let words = (kind, source, confidence);
    let numbers = any::<(u64, u64, u64, u32, bool, bool, bool)>();
    let parts = (words, agent_state(), numbers, meter());
    parts.prop_map(|((kind, source, confidence), state, numbers, meter)| {
        let (since, last_activity, evidence, subagents, unseen, stalled, unknown) = numbers;
        AgentStatus {
            kind: AgentKind::named(kind),
            state: match unknown {
                true => AgentState::Unknown { last: Box::new(state) },
                false => state,
            },
            since: Timestamp(since),
            last_activity: Timestamp(last_activity),
            source,
            confidence,
            evidence: Timestamp(evidence),
            flags: Flags { unseen, stalled },
            subagents,
            meter,
        }
    })
}

fn meter() -> impl Strategy<Value = Meter> {
    let numbers = any::<(Option<u64>, Option<u64>, Option<u64>, Option<u64>, Option<u64>)>();
    ("[a-z0-9-]{0,12}", "[a-zA-Z]{0,9}", numbers).prop_map(|(model, mode, numbers)| {
        let (context_tokens, context_window, input_tokens, output_tokens, cost_micro_usd) = numbers;
        Meter {
            model,
            mode,
            context_tokens,
            context_window,
            input_tokens,
            output_tokens,
            cost_micro_usd,
        }
    })
}
