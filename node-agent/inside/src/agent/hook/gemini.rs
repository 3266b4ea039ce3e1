//! The hooks of Gemini CLI.

use warren_common::agent::Hook;

use super::payload::Payload;

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
        text,
        ..Hook::default()
    }
}

/// Returns what it asks leave for.
fn asked(payload: &Payload) -> String {
    let detail = |key| payload.get("details")?.get(key)?.as_str().filter(|text| !text.is_empty());
    match (detail("title"), detail("command")) {
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
}
