//! What each event does in each state, agent by agent.

use super::*;
use StateName::{Background, Error, Exited, Idle, Starting, Waiting, Working};

/// The states in the order of the tables' columns.
const FROM: [StateName; 7] = [Starting, Working, Waiting, Background, Idle, Error, Exited];

fn failed() -> AppServer {
    AppServer::SystemError { about: String::new(), text: String::new() }
}

/// Brings an agent into a state, with the dialect of its kind.
fn into(kind: &AgentKind, from: StateName) -> Arbiter {
    let gemini = *kind == AgentKind::Gemini;
    let mut arbiter = arbiter(kind.clone());
    let name = |claude: &'static str, other: &'static str| if gemini { other } else { claude };
    if from != Starting {
        observe(&mut arbiter, 10, hook("SessionStart", ""));
        observe(&mut arbiter, 20, hook(name("UserPromptSubmit", "BeforeAgent"), ""));
    }
    let last = match from {
        Waiting if gemini => Some(hook("Notification", "ToolPermission")),
        Waiting => Some(tool("PermissionRequest", "Bash")),
        Background => {
            let (event, tasks) = (name("Stop", "AfterAgent").to_owned(), vec!["serve".to_owned()]);
            Some(Report::Hook(Box::new(Hook { event, tasks, ..Hook::default() })))
        }
        Idle => Some(hook(name("Stop", "AfterAgent"), "")),
        Error => Some(match kind {
            AgentKind::Claude => hook("StopFailure", "rate_limit"),
            // no hook of the others tells of it
            _ => Report::AppServer(failed()),
        }),
        Exited => Some(Report::Tmux(Tmux::Dead { code: Some(0), signal: None })),
        _ => None,
    };
    if let Some(last) = last {
        observe(&mut arbiter, 30, last);
    }
    assert_eq!(state(&arbiter), from, "{kind:?}");
    arbiter
}

fn check(kind: AgentKind, rows: &[(Report, [StateName; 7])]) {
    for (report, row) in rows {
        for (from, to) in FROM.into_iter().zip(row) {
            let mut arbiter = into(&kind, from);
            observe(&mut arbiter, 5_000, report.clone());
            assert_eq!(state(&arbiter), *to, "{kind:?}: {from:?}, then {report:?}");
        }
    }
}

#[test]
fn claude_by_its_hooks() {
    let (s, w, q, b, i, e, x) = (Starting, Working, Waiting, Background, Idle, Error, Exited);
    let same = [s, w, q, b, i, e, x];
    check(
        AgentKind::Claude,
        &[
            (hook("SessionStart", "startup"), [i; 7]),
            (hook("SessionStart", "resume"), [i; 7]),
            (hook("SessionStart", "clear"), [i; 7]),
            (hook("SessionStart", "compact"), same),
            (hook("SessionEnd", "clear"), same),
            (hook("SessionEnd", "prompt_input_exit"), [x; 7]),
            (hook("SessionEnd", "other"), [x; 7]),
            (hook("UserPromptSubmit", ""), [w, w, w, w, w, w, x]),
            (tool("PreToolUse", "Bash"), [w, w, w, w, w, w, x]),
            (tool("PostToolUse", "Bash"), [w, w, w, b, i, e, x]),
            (tool("PostToolUseFailure", "Bash"), [w, w, w, b, i, e, x]),
            (tool("PermissionRequest", "Bash"), [q, q, q, q, q, q, x]),
            (hook("Notification", "permission_prompt"), same),
            (hook("Notification", "idle_prompt"), [s, i, q, b, i, e, x]),
            (hook("Notification", "auth_success"), same),
            (hook("Stop", ""), [i, i, i, i, i, i, x]),
            (hook("StopFailure", "unknown"), [e, e, e, e, e, e, x]),
            (hook("PreCompact", "manual"), [w, w, w, w, w, w, x]),
            (hook("PostCompact", ""), [s, i, q, b, i, e, x]),
            (hook("SubagentStop", ""), same),
            (hook("Interrupt", ""), same),
        ],
    );
}

#[test]
fn claude_by_its_registry() {
    let (s, w, q, b, i, e, x) = (Starting, Working, Waiting, Background, Idle, Error, Exited);
    let dead =
        |status| Report::Registry(Registry { status, waiting_for: String::new(), live: false });
    check(
        AgentKind::Claude,
        &[
            (registry(RegistryStatus::Busy), [w, w, w, w, w, w, x]),
            (registry(RegistryStatus::Idle), [i, i, i, i, i, e, x]),
            (registry(RegistryStatus::Waiting), [q, q, q, q, q, q, x]),
            (registry(RegistryStatus::Shell), [b, b, b, b, b, e, x]),
            (dead(RegistryStatus::Busy), [s, w, q, b, i, e, x]),
            (dead(RegistryStatus::Idle), [s, w, q, b, i, e, x]),
        ],
    );
}

#[test]
fn codex_by_its_hooks_and_its_socket() {
    let (s, w, q, b, i, e, x) = (Starting, Working, Waiting, Background, Idle, Error, Exited);
    let same = [s, w, q, b, i, e, x];
    check(
        AgentKind::Codex,
        &[
            (hook("SessionStart", "startup"), [i, w, q, b, i, e, x]),
            (hook("UserPromptSubmit", ""), [w; 7]),
            (tool("PreToolUse", "shell"), [w; 7]),
            (tool("PermissionRequest", "shell"), [q; 7]),
            (hook("Stop", ""), [i, i, i, i, i, i, x]),
            (hook("Interrupt", ""), [s, i, i, i, i, e, x]),
            (hook("SessionEnd", ""), [s, i, i, i, i, e, x]),
            (hook("StopFailure", "rate_limit"), same),
            (Report::AppServer(AppServer::Active), [w; 7]),
            (Report::AppServer(AppServer::Idle), [i, i, i, i, i, e, x]),
            (Report::AppServer(AppServer::WaitingOnApproval), [q; 7]),
            (Report::AppServer(AppServer::WaitingOnUserInput), [q; 7]),
            (Report::AppServer(failed()), [e, e, e, e, e, e, x]),
            (Report::AppServer(AppServer::NotLoaded), same),
            (Report::AppServer(AppServer::Ephemeral), same),
        ],
    );
}

#[test]
fn gemini_by_its_hooks_and_its_title() {
    let (s, w, q, b, i, e, x) = (Starting, Working, Waiting, Background, Idle, Error, Exited);
    let title = |text: &str| Report::Title(text.to_owned());
    check(
        AgentKind::Gemini,
        &[
            (hook("SessionStart", "startup"), [i; 7]),
            (hook("BeforeAgent", ""), [w, w, w, w, w, w, x]),
            (tool("BeforeTool", "shell"), [w, w, w, w, w, w, x]),
            (hook("Notification", "ToolPermission"), [q, q, q, q, q, q, x]),
            (hook("Notification", "Other"), [s, w, q, b, i, e, x]),
            (hook("AfterAgent", ""), [i, i, i, i, i, i, x]),
            (hook("PreCompress", ""), [s, w, q, b, i, e, x]),
            (hook("SessionEnd", "exit"), [x; 7]),
            (title("◇  Ready (web)   "), [i, i, i, i, i, e, x]),
            (title("✦  Working… (web)"), [w, w, w, w, w, w, x]),
            (title("✋  Action Required (web)"), [q, q, q, q, q, q, x]),
            (title("bash"), [s, w, q, b, i, e, x]),
        ],
    );
}

#[test]
fn screen_process_and_tmux_of_any_agent() {
    let (s, w, q, b, i, e, x) = (Starting, Working, Waiting, Background, Idle, Error, Exited);
    let same = [s, w, q, b, i, e, x];
    let ask = Ask { kind: WaitKind::Permission, text: "go?".to_owned(), options: Vec::new() };
    let dead = |code, signal| Report::Tmux(Tmux::Dead { code, signal });
    let failed = || Report::Screen(Screen::Failed("status 429".to_owned()));
    for kind in [AgentKind::Claude, AgentKind::Codex, AgentKind::Gemini] {
        let unsaid = match kind {
            AgentKind::Codex => [e, w, q, b, i, e, x],
            AgentKind::Gemini => [s, w, q, b, e, e, x],
            _ => same,
        };
        check(
            kind,
            &[
                (failed(), unsaid),
                (Report::Screen(Screen::Asks(ask.clone())), [q, q, q, b, i, e, x]),
                (Report::Screen(Screen::Retrying("in 9s".to_owned())), same),
                (Report::Screen(Screen::Lines("text".to_owned())), same),
                (Report::Screen(Screen::Prompt), [i, w, q, b, i, e, x]),
                (Report::Process(Process::Up { pid: 7, start: 1 }), [s, w, q, b, i, e, s]),
                (Report::Process(Process::Cpu { per_mille: 900 }), same),
                (Report::Process(Process::ReadsInput { reads: true }), same),
                (Report::Process(Process::OutOfMemory), same),
                (Report::Tmux(Tmux::Output), same),
                (dead(None, Some(9)), [x; 7]),
                (dead(Some(0), None), [x; 7]),
                (Report::Tmux(Tmux::Gone), [x; 7]),
            ],
        );
    }
}
