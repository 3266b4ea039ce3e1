//! What the events of each agent mean: the vendors' names end here.

use super::{
    failure::{Failure, FailureKind},
    observation::Hook,
    state::{AgentKind, StateName},
};

/// What a hook's event means, whoever's it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A session began, again or anew.
    SessionStarted,
    /// The session is over and its process ends.
    SessionEnded,
    /// A turn begins, or a prompt joins the one that runs.
    PromptSubmitted,
    ToolStarted,
    ToolEnded,
    PermissionAsked,
    /// A prompt stands there for seconds already.
    PermissionReminder,
    /// What a tool's server asks stands there for seconds already.
    ElicitationReminder,
    /// At the prompt for a minute.
    IdleReminder,
    TurnEnded,
    TurnFailed,
    /// A person stopped the turn.
    Interrupted,
    CompactionStarted,
    CompactionEnded,
    SubagentStarted,
    SubagentStopped,
    /// A person's own agent says so.
    Told(StateName),
    /// Known, and says nothing of the state.
    Aside,
}

/// Returns what an event means; none where its name is not known.
pub(super) fn meaning(kind: &AgentKind, hook: &Hook) -> Option<Meaning> {
    match kind {
        AgentKind::Claude => claude(&hook.event, &hook.about),
        AgentKind::Codex => codex(&hook.event, &hook.about),
        AgentKind::Gemini => gemini(&hook.event, &hook.about),
        AgentKind::OpenCode | AgentKind::Shell | AgentKind::Other(_) => own(&hook.event),
    }
}

fn claude(event: &str, about: &str) -> Option<Meaning> {
    Some(match (event, about) {
        // part of a compaction, of /clear and of /resume, which begin and end nothing
        ("SessionStart", "compact") | ("SessionEnd", "clear" | "resume") => Meaning::Aside,
        ("SessionStart", _) => Meaning::SessionStarted,
        ("SessionEnd", _) => Meaning::SessionEnded,
        ("Notification", "elicitation_dialog") => Meaning::ElicitationReminder,
        ("Notification", "permission_prompt") => Meaning::PermissionReminder,
        ("Notification", "idle_prompt") => Meaning::IdleReminder,
        ("Notification", _) => Meaning::Aside,
        ("PostToolUseFailure", _) => Meaning::ToolEnded,
        ("StopFailure", _) => Meaning::TurnFailed,
        _ => return shared(event),
    })
}

fn codex(event: &str, about: &str) -> Option<Meaning> {
    Some(match (event, about) {
        ("SessionStart", "compact") => Meaning::Aside,
        ("SessionStart", _) => Meaning::SessionStarted,
        // a thread's end, in a daemon that goes on; the pane tells of the program's end
        ("Interrupt" | "SessionEnd", _) => Meaning::Interrupted,
        _ => return shared(event),
    })
}

/// The names that Claude Code and Codex have in common.
fn shared(event: &str) -> Option<Meaning> {
    Some(match event {
        "UserPromptSubmit" => Meaning::PromptSubmitted,
        "PreToolUse" => Meaning::ToolStarted,
        "PostToolUse" => Meaning::ToolEnded,
        "PermissionRequest" => Meaning::PermissionAsked,
        "Stop" => Meaning::TurnEnded,
        "PreCompact" => Meaning::CompactionStarted,
        "PostCompact" => Meaning::CompactionEnded,
        "SubagentStart" => Meaning::SubagentStarted,
        "SubagentStop" => Meaning::SubagentStopped,
        _ => return None,
    })
}

fn gemini(event: &str, about: &str) -> Option<Meaning> {
    Some(match (event, about) {
        // part of /clear, which ends no process
        ("SessionEnd", "clear") => Meaning::Aside,
        ("SessionStart", _) => Meaning::SessionStarted,
        ("SessionEnd", _) => Meaning::SessionEnded,
        ("BeforeAgent", _) => Meaning::PromptSubmitted,
        ("BeforeTool", _) => Meaning::ToolStarted,
        ("AfterTool", _) => Meaning::ToolEnded,
        ("AfterAgent", _) => Meaning::TurnEnded,
        ("Notification", "ToolPermission") => Meaning::PermissionAsked,
        // `PreCompress` fires before every call of the model
        ("Notification" | "PreCompress", _) => Meaning::Aside,
        _ => return None,
    })
}

fn own(event: &str) -> Option<Meaning> {
    let name = match event {
        "working" => StateName::Working,
        "waiting" => StateName::Waiting,
        "idle" => StateName::Idle,
        "error" => StateName::Error,
        _ => return None,
    };
    Some(Meaning::Told(name))
}

/// Returns the state that a window's title shows; none where it shows none. Claude Code's shows
/// the same through a whole turn, so it is not read.
pub fn title(kind: &AgentKind, title: &str) -> Option<StateName> {
    let title = title.trim_start();
    match kind {
        AgentKind::Gemini if title.starts_with('◇') => Some(StateName::Idle),
        AgentKind::Gemini if title.starts_with('✦') => Some(StateName::Working),
        AgentKind::Gemini if title.starts_with('✋') => Some(StateName::Waiting),
        // it blinks: every second look shows the other
        AgentKind::Codex if title.starts_with("[ ! ]") || title.starts_with("[ . ]") => {
            Some(StateName::Waiting)
        }
        // the spinner: a dot pattern before the folder's name
        AgentKind::Codex if title.starts_with(|c| ('\u{2801}'..='\u{28ff}').contains(&c)) => {
            Some(StateName::Working)
        }
        AgentKind::Codex if !title.is_empty() => Some(StateName::Idle),
        _ => None,
    }
}

/// Returns the failure that a thread of Codex tells, by its word for it or the API's status.
pub(super) fn thread_failure(about: &str, text: &str) -> Failure {
    let kind = match about {
        "usageLimitExceeded" | "rateLimitExceeded" | "sessionBudgetExceeded" => {
            FailureKind::RateLimit
        }
        "unauthorized" => FailureKind::Auth,
        "serverOverloaded" | "internalServerError" => FailureKind::Overloaded,
        "badRequest" | "modelNotFound" | "contextWindowExceeded" => FailureKind::InvalidRequest,
        // what the API says stands in the text too
        _ => match failure(about).kind {
            FailureKind::Other => failure(text).kind,
            kind => kind,
        },
    };
    Failure { kind, text: text.to_owned(), retry_at: None }
}

/// Returns the failure that a line on a screen tells, of the kind that its words or the API's status
/// name.
pub(super) fn failure(line: &str) -> Failure {
    let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let kind = words.find_map(|word| {
        Some(match word {
            "401" | "403" | "authentication_error" | "UNAUTHENTICATED" | "PERMISSION_DENIED" => {
                FailureKind::Auth
            }
            "402" | "insufficient_quota" => FailureKind::Billing,
            "429" | "rate_limit_exceeded" | "RESOURCE_EXHAUSTED" | "quota" => {
                FailureKind::RateLimit
            }
            "400" | "404" | "422" | "invalid_request_error" | "INVALID_ARGUMENT" => {
                FailureKind::InvalidRequest
            }
            "500" | "502" | "503" | "504" | "529" | "server_error" | "UNAVAILABLE" => {
                FailureKind::Overloaded
            }
            _ => return None,
        })
    });
    let kind = kind.unwrap_or(FailureKind::Other);
    Failure { kind, text: line.to_owned(), retry_at: None }
}
