//! The hooks of Claude Code.

use warren_common::{
    Limits, Timestamp,
    agent::{Ask, Hook, WaitKind},
};

use super::payload::Payload;

/// Tools whose use is a question to a person.
const QUESTION: &str = "AskUserQuestion";
const PLAN: &str = "ExitPlanMode";

/// Words of which one is in what Claude Code says where a turn failed.
const FAILURES: [&str; 6] =
    ["API", "limit", "Credit balance", "/login", "Prompt is too long", "timed out"];

pub(super) fn hook(payload: &Payload) -> Hook {
    let event = payload.text("hook_event_name");
    let text = match event {
        "Notification" => payload.first(&["message"]),
        "PostToolUseFailure" => payload.first(&["error"]),
        "StopFailure" => failure(payload),
        _ => payload.input(),
    };
    let about = match event {
        "SessionStart" => payload.text("source"),
        "SessionEnd" => payload.text("reason"),
        "Notification" => payload.text("notification_type"),
        "StopFailure" => payload.text("error"),
        _ => "",
    };
    let stops = event == "Stop";
    let list = |key, names: &[&str]| if stops { payload.parts(key, names) } else { Vec::new() };
    let retry_at = (event == "StopFailure").then(|| payload.retry_at().or_else(|| told(&text)));
    Hook {
        about: about.to_owned(),
        tool: payload.text("tool_name").to_owned(),
        ask: ask(event, payload),
        tasks: list("background_tasks", &["description", "command", "id"]),
        wakeups: list("session_crons", &["description", "cron", "schedule", "id"]),
        subagent: payload.text("agent_id").to_owned(),
        retry_at: retry_at.flatten(),
        helper: false,
        event: event.to_owned(),
        text,
    }
}

fn ask(event: &str, payload: &Payload) -> Option<Ask> {
    if !matches!(event, "PreToolUse" | "PermissionRequest") {
        return None;
    }
    match payload.text("tool_name") {
        QUESTION => payload.question(),
        PLAN => {
            let plan = payload.get("tool_input").and_then(|input| input.get("plan"));
            let text = plan.and_then(|plan| plan.as_str()).unwrap_or_default().to_owned();
            Some(Ask { kind: WaitKind::Plan, text, options: Vec::new() })
        }
        _ => None,
    }
}

/// Returns why a turn failed: Claude Code says so in the place of an answer, which is not passed on.
fn failure(payload: &Payload) -> String {
    let said = payload.text("last_assistant_message");
    let is_failure = said.len() <= Limits::AGENT_TEXT_BYTES
        && !said.contains('\n')
        && FAILURES.iter().any(|word| said.contains(word));
    if is_failure { said.to_owned() } else { payload.text("error_details").to_owned() }
}

/// Some limits are told as `reached|1760000000`.
fn told(text: &str) -> Option<Timestamp> {
    let (_, seconds) = text.rsplit_once('|')?;
    let seconds: u64 = seconds.trim().parse().ok()?;
    (1_000_000_000..10_000_000_000).contains(&seconds).then(|| Timestamp(seconds * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &str) -> Hook {
        let head = r#"{"session_id":"s1","transcript_path":"/h/.claude/s1.jsonl","cwd":"/w","#;
        hook(&Payload::read(format!("{head}{fields}}}").as_bytes()))
    }

    #[test]
    fn sessions_begin_and_end_with_a_word() {
        let began = read(r#""hook_event_name":"SessionStart","source":"resume","model":"m""#);
        assert_eq!((began.event.as_str(), began.about.as_str()), ("SessionStart", "resume"));
        let ended = read(r#""hook_event_name":"SessionEnd","reason":"clear""#);
        assert_eq!(ended.about, "clear");
        let prompt = read(r#""hook_event_name":"UserPromptSubmit","prompt":"my key is 42""#);
        assert_eq!(prompt, Hook { event: "UserPromptSubmit".to_owned(), ..Hook::default() });
    }

    #[test]
    fn a_tool_is_told_with_what_it_does() {
        let tool = r#""tool_name":"Bash","tool_input":{"command":"make","description":"d"}"#;
        let began = read(&format!(r#""hook_event_name":"PreToolUse",{tool},"agent_id":"a7""#));
        assert_eq!((began.tool.as_str(), began.text.as_str()), ("Bash", "make"));
        assert_eq!((began.subagent.as_str(), began.ask), ("a7", None));
        let failed =
            format!(r#""hook_event_name":"PostToolUseFailure",{tool},"error":"Exit code 2""#);
        assert_eq!(read(&failed).text, "Exit code 2");
    }

    #[test]
    fn questions_and_plans_are_asked() {
        let questions = r#"[{"question":"Which port?","header":"P","multiSelect":false,
            "options":[{"label":"80","description":"x"},{"label":"443"}]}]"#;
        let asks = |event: &str| {
            read(&format!(
                r#""hook_event_name":"{event}","tool_name":"AskUserQuestion","tool_input":{{"questions":{questions}}}"#
            ))
            .ask
        };
        let ask = asks("PermissionRequest").expect("a question");
        assert_eq!((ask.kind, ask.text.as_str()), (WaitKind::Question, "Which port?"));
        assert_eq!(ask.options, ["80", "443"]);
        assert_eq!(asks("PreToolUse"), Some(ask));
        assert_eq!(asks("PostToolUse"), None, "that is the answer");
        let plan = read(
            r#""hook_event_name":"PreToolUse","tool_name":"ExitPlanMode","tool_input":{"plan":"1. go"}"#,
        );
        assert_eq!(
            plan.ask.map(|ask| (ask.kind, ask.text)),
            Some((WaitKind::Plan, "1. go".into()))
        );
    }

    #[test]
    fn a_turns_end_names_what_goes_on() {
        let stop = read(
            r#""hook_event_name":"Stop","last_assistant_message":"secret",
            "background_tasks":[{"id":"b1","type":"shell","status":"running","command":"npm run dev"},
            {"id":"b2","type":"subagent","status":"running","description":"inspect"},
            {"id":"b3","status":"completed","description":"over"}],
            "session_crons":[{"id":"c1","cron":"0 9 * * *","prompt":"check the build"}]"#,
        );
        assert_eq!(stop.tasks, ["npm run dev", "inspect"]);
        assert_eq!(stop.wakeups, ["0 9 * * *"], "a prompt is not passed on");
        assert_eq!(stop.text, "");
        let subagent = read(
            r#""hook_event_name":"SubagentStop","agent_id":"a7","background_tasks":[{"id":"a7"}]"#,
        );
        assert_eq!((subagent.subagent.as_str(), subagent.tasks.len()), ("a7", 0));
    }

    #[test]
    fn a_failed_turn_says_why_and_until_when() {
        let failed = read(
            r#""hook_event_name":"StopFailure","error":"rate_limit","last_assistant_message":"limit reached|1795500000""#,
        );
        assert_eq!(
            (failed.about.as_str(), failed.retry_at),
            ("rate_limit", Some(Timestamp(1_795_500_000_000)))
        );
        let failed = read(
            r#""hook_event_name":"StopFailure","error":"server_error","last_assistant_message":"API Error: 529""#,
        );
        assert_eq!((failed.text.as_str(), failed.retry_at), ("API Error: 529", None));
        let answer = read(
            r#""hook_event_name":"StopFailure","error":"unknown","error_details":"d","last_assistant_message":"I was about to""#,
        );
        assert_eq!(answer.text, "d", "an answer is not passed on");
        let reminder = read(
            r#""hook_event_name":"Notification","message":"needs you","notification_type":"permission_prompt""#,
        );
        assert_eq!(
            (reminder.about.as_str(), reminder.text.as_str()),
            ("permission_prompt", "needs you")
        );
    }
}
