//! Why a status is what it is, in words.

use warren_common::{
    Limits,
    agent::{
        AgentStatus, AppServer, Arbiter, Evidence, Hook, Process, RegistryStatus, Report, Screen,
        Tmux, Verdict,
    },
    status::clean,
};
use warren_proto::pb::inside::v1::{AgentEvidence, AgentExplanation, AgentSource};

/// Returns the status and all that it may stand on, the oldest first.
pub(super) fn of(arbiter: &Arbiter) -> AgentExplanation {
    let (status, all) = (arbiter.status(), arbiter.explain());
    let decides = deciding(&status, &all);
    let evidence = all.iter().enumerate().map(|(at, evidence)| AgentEvidence {
        at_unix_ms: evidence.observation.at.0,
        source: AgentSource::from(&evidence.observation.source()).into(),
        said: said(&evidence.observation.report),
        verdict: verdict(evidence.verdict),
        decides: Some(at) == decides,
    });
    AgentExplanation { evidence: evidence.collect(), status: Some(status.into()) }
}

/// The last one that set the state; where silence or a program's behaviour did, the one it is
/// counted from.
fn deciding(status: &AgentStatus, all: &[Evidence]) -> Option<usize> {
    let source = |evidence: &Evidence| evidence.observation.source() == status.source;
    let set = |evidence: &Evidence| matches!(evidence.verdict, Verdict::Set(_));
    all.iter().rposition(|evidence| source(evidence) && set(evidence)).or_else(|| {
        all.iter().rposition(|one| source(one) && one.observation.at == status.evidence)
    })
}

fn said(report: &Report) -> String {
    let text = match report {
        Report::Hook(hook) => said_by_hook(hook),
        Report::Registry(registry) => {
            let status = match registry.status {
                RegistryStatus::Busy => "busy",
                RegistryStatus::Idle => "idle",
                RegistryStatus::Waiting => "waiting",
                RegistryStatus::Shell => "something runs in the background",
            };
            match registry.waiting_for.as_str() {
                "" => status.to_owned(),
                waiting => format!("{status}: {waiting}"),
            }
        }
        Report::AppServer(status) => said_by_server(status),
        Report::Title(title) => format!("the title is {title:?}"),
        Report::Screen(Screen::Asks(ask)) => format!("the screen asks: {}", ask.text),
        Report::Screen(Screen::Retrying(line)) => line.clone(),
        Report::Screen(Screen::Prompt) => "the screen shows its prompt".to_owned(),
        Report::Screen(Screen::Failed(line)) => format!("the screen shows: {line}"),
        Report::Screen(Screen::Lines(lines)) => format!("the screen ends in: {lines}"),
        Report::Process(process) => said_by_process(*process),
        Report::Tmux(tmux) => said_by_tmux(*tmux),
    };
    clean(&text, Limits::AGENT_SAID_BYTES).replace(['\n', '\t'], " ")
}

fn said_by_hook(hook: &Hook) -> String {
    let mut text = hook.event.clone();
    for word in [&hook.about, &hook.tool] {
        if !word.is_empty() {
            text = format!("{text} {word}");
        }
    }
    let told = match &hook.ask {
        Some(ask) if !ask.text.is_empty() => &ask.text,
        _ => &hook.text,
    };
    if !told.is_empty() {
        text = format!("{text}: {told}");
    }
    let goes_on: Vec<&str> = hook.tasks.iter().chain(&hook.wakeups).map(String::as_str).collect();
    if !goes_on.is_empty() {
        text = format!("{text}; goes on with: {}", goes_on.join(", "));
    }
    text
}

fn said_by_server(status: &AppServer) -> String {
    let said = match status {
        AppServer::Idle => "idle",
        AppServer::Active => "active",
        AppServer::WaitingOnApproval => "waiting on approval",
        AppServer::WaitingOnUserInput => "waiting on an answer",
        AppServer::SystemError { about, text } => {
            return format!("system error {about}: {text}").replace(" :", ":");
        }
        AppServer::NotLoaded => "not loaded",
        AppServer::Ephemeral => "a helper's thread",
    };
    said.to_owned()
}

fn said_by_process(process: Process) -> String {
    match process {
        Process::Up { pid, .. } => format!("process {pid} began"),
        Process::Cpu { per_mille } => {
            format!("it used {}.{} % of a processor", per_mille / 10, per_mille % 10)
        }
        Process::ReadsInput { reads: true } => "it reads what a person types".to_owned(),
        Process::ReadsInput { reads: false } => "it reads no more what a person types".to_owned(),
        Process::OutOfMemory => "the kernel killed it for memory".to_owned(),
    }
}

fn said_by_tmux(tmux: Tmux) -> String {
    match tmux {
        Tmux::Output => "the terminal wrote something".to_owned(),
        Tmux::Dead { signal: Some(signal), .. } => format!("signal {signal} ended it"),
        Tmux::Dead { code: Some(code), .. } => format!("it ended with exit code {code}"),
        Tmux::Dead { .. } => "it ended".to_owned(),
        Tmux::Gone => "its process is gone".to_owned(),
    }
}

fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Set(state) => format!("set {}", state.as_str()),
        Verdict::Confirmed => "agrees".to_owned(),
        Verdict::Noted => "noted".to_owned(),
        Verdict::Ignored(why) => format!("ignored: {}", why.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use warren_common::{
        Timestamp,
        agent::{AgentKind, Observation, Registry},
    };

    fn observe(arbiter: &mut Arbiter, at: u64, report: Report) {
        arbiter.observe(Observation { at: Timestamp(at), report });
    }

    fn hook(event: &str, tool: &str, text: &str) -> Report {
        Report::Hook(Box::new(Hook {
            event: event.to_owned(),
            tool: tool.to_owned(),
            text: text.to_owned(),
            ..Hook::default()
        }))
    }

    fn lines(explanation: &AgentExplanation) -> Vec<(&str, &str, bool)> {
        let evidence = explanation.evidence.iter();
        evidence.map(|one| (one.said.as_str(), one.verdict.as_str(), one.decides)).collect()
    }

    #[test]
    fn the_last_one_that_set_the_state_decides() {
        let mut arbiter = Arbiter::new(AgentKind::Claude, Timestamp(1000));
        observe(&mut arbiter, 1000, Report::Process(Process::Up { pid: 7, start: 1 }));
        observe(&mut arbiter, 2000, hook("UserPromptSubmit", "", ""));
        observe(&mut arbiter, 3000, hook("PreToolUse", "Bash", "cargo\ntest"));
        observe(&mut arbiter, 3001, hook("Dreaming", "", ""));
        let explanation = of(&arbiter);
        assert_eq!(
            lines(&explanation),
            [
                ("process 7 began", "set starting", false),
                ("UserPromptSubmit", "set working", false),
                ("PreToolUse Bash: cargo test", "set working", true),
                ("Dreaming", "ignored: means nothing for this agent", false),
            ]
        );
        assert!(explanation.status.is_some());
    }

    #[test]
    fn what_silence_means_is_counted_from_the_beginning() {
        let mut arbiter = Arbiter::new(AgentKind::Claude, Timestamp(1000));
        observe(&mut arbiter, 1000, Report::Process(Process::Up { pid: 7, start: 1 }));
        observe(&mut arbiter, 9000, Report::Screen(Screen::Lines("Trust?\n1. No".to_owned())));
        arbiter.tick(Timestamp(12_000));
        let explanation = of(&arbiter);
        assert_eq!(lines(&explanation)[0], ("process 7 began", "set starting", true));
        assert_eq!(lines(&explanation)[1].0, "the screen ends in: Trust? 1. No");
    }

    #[test]
    fn the_newest_fifty_of_each_source_fit_into_one_message_however_long_they_are() {
        let mut arbiter = Arbiter::new(AgentKind::Claude, Timestamp(1000));
        let long = "x".repeat(4000);
        for at in 1000..1500_u32 {
            let (text, tasks) = (format!("{at} {long}"), vec![long.clone(); Limits::AGENT_TASKS]);
            let hook = Hook {
                event: long.clone(),
                about: long.clone(),
                tool: text.clone(),
                text: text.clone(),
                wakeups: tasks.clone(),
                tasks,
                ..Hook::default()
            };
            let registry =
                Registry { status: RegistryStatus::Idle, waiting_for: text.clone(), live: true };
            for report in [
                Report::Process(Process::Cpu { per_mille: at }),
                Report::Screen(Screen::Lines(text.clone())),
                Report::Title(text),
                Report::Registry(registry),
                Report::Hook(Box::new(hook)),
            ] {
                observe(&mut arbiter, at.into(), report);
            }
        }
        let explanation = of(&arbiter);
        for source in [AgentSource::Hook, AgentSource::Title, AgentSource::Process] {
            let of_it = explanation.evidence.iter().filter(|one| one.source() == source);
            assert_eq!(of_it.count(), 50, "{source:?}");
        }
        let bytes = explanation.encoded_len();
        assert!(bytes <= Limits::INSIDE_MESSAGE_BYTES / 2, "{bytes} bytes");
    }
}
