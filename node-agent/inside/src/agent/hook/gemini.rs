//! The hooks of Gemini CLI.

use warren_common::agent::{Ask, Hook, WaitKind};

use super::payload::Payload;

/// The tool that asks a person, and the type of its notification.
const QUESTION: &str = "ask_user";

pub(super) fn hook(payload: &Payload) -> Hook {
    let event = payload.text("hook_event_name");
    let about = match event {
        "SessionStart" => payload.text("source"),
        "SessionEnd" => payload.text("reason"),
        "Notification" => payload.text("notification_type"),
        _ => "",
    };
    let text = match event {
        "Notification" => asked(payload),
        _ => payload.input(),
    };
    Hook {
        event: event.to_owned(),
        about: about.to_owned(),
        tool: payload.text("tool_name").to_owned(),
        ask: ask(event, payload),
        text,
        ..Hook::default()
    }
}

/// Returns what it asks a person: its tool tells the question, and a notification, which comes with
/// the dialog, only that there is one.
fn ask(event: &str, payload: &Payload) -> Option<Ask> {
    match event {
        "BeforeTool" if payload.text("tool_name") == QUESTION => payload.question(),
        "Notification" if detail(payload, "type") == Some(QUESTION) => {
            let text = payload.text("message").to_owned();
            Some(Ask { kind: WaitKind::Question, text, options: Vec::new() })
        }
        _ => None,
    }
}

fn detail<'a>(payload: &'a Payload, key: &str) -> Option<&'a str> {
    payload.get("details")?.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// Returns what it asks leave for.
fn asked(payload: &Payload) -> String {
    match (detail(payload, "title"), detail(payload, "command")) {
        (Some(title), Some(command)) => format!("{title}: {command}"),
        (Some(title), None) => title.to_owned(),
        _ => payload.text("message").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &str) -> Hook {
        let head = r#"{"session_id":"g","transcript_path":"/t","cwd":"/w","#;
        hook(&Payload::read(format!("{head}{fields}}}").as_bytes()))
    }

    #[test]
    fn a_turn_with_a_tool_that_needs_leave() {
        assert_eq!(read(r#""hook_event_name":"BeforeAgent","prompt":"p""#).text, "");
        let tool = read(
            r#""hook_event_name":"BeforeTool","tool_name":"run_shell_command","tool_input":{"command":"rm x"}"#,
        );
        assert_eq!((tool.tool.as_str(), tool.text.as_str()), ("run_shell_command", "rm x"));
        let asked = read(
            r#""hook_event_name":"Notification","notification_type":"ToolPermission","message":"m",
            "details":{"type":"exec","title":"Confirm Shell Command","command":"rm x"}"#,
        );
        assert_eq!(asked.about, "ToolPermission");
        assert_eq!(asked.text, "Confirm Shell Command: rm x");
        assert_eq!(read(r#""hook_event_name":"Notification","message":"m""#).text, "m");
    }

    #[test]
    fn a_question_is_no_permission() {
        let asks = read(
            r#""hook_event_name":"BeforeTool","tool_name":"ask_user","tool_input":{"questions":
            [{"question":"Which one?","type":"choice","options":[{"label":"Red"},{"label":"Blue"}]}]}"#,
        );
        let ask = asks.ask.expect("a question");
        assert_eq!((ask.kind, ask.text.as_str()), (WaitKind::Question, "Which one?"));
        assert_eq!(ask.options, ["Red", "Blue"]);
        let told = read(
            r#""hook_event_name":"Notification","notification_type":"ToolPermission",
            "message":"Tool requires confirmation","details":{"type":"ask_user","title":"Ask User"}"#,
        );
        assert_eq!(told.ask.map(|ask| ask.kind), Some(WaitKind::Question));
        let over = read(r#""hook_event_name":"AfterTool","tool_name":"ask_user""#);
        assert_eq!(over.ask, None, "that is the answer");
    }
}
