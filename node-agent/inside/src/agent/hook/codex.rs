//! The hooks of Codex CLI.

use warren_common::agent::{Ask, Hook};

use super::payload::Payload;

pub(super) fn hook(payload: &Payload) -> Hook {
    let event = payload.text("hook_event_name");
    let about = match event {
        "SessionStart" => payload.text("source"),
        "SessionEnd" => payload.text("reason"),
        _ => "",
    };
    Hook {
        event: event.to_owned(),
        about: about.to_owned(),
        tool: payload.text("tool_name").to_owned(),
        text: payload.input(),
        ask: ask(event, payload),
        subagent: payload.text("agent_id").to_owned(),
        // a thread that makes a title or the like, which no person sees
        helper: payload.get("transcript_path").is_some_and(serde_json::Value::is_null),
        ..Hook::default()
    }
}

fn ask(event: &str, payload: &Payload) -> Option<Ask> {
    let asks = event == "PreToolUse" && payload.text("tool_name") == "request_user_input";
    asks.then(|| payload.question()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &str) -> Hook {
        hook(&Payload::read(format!(r#"{{"session_id":"t","cwd":"/w",{fields}}}"#).as_bytes()))
    }

    #[test]
    fn a_helper_is_told_from_a_thread_that_people_see() {
        let seen = r#""transcript_path":"/h/.codex/sessions/r.jsonl","hook_event_name":"Stop""#;
        assert!(!read(seen).helper);
        assert!(read(r#""transcript_path":null,"hook_event_name":"Stop""#).helper);
        assert!(!read(r#""hook_event_name":"Stop""#).helper);
    }

    #[test]
    fn a_tool_is_told_with_what_it_does() {
        let asked = read(
            r#""transcript_path":"/r","hook_event_name":"PermissionRequest","tool_name":"Bash",
            "tool_input":{"command":"npm publish","description":"publish"}"#,
        );
        assert_eq!((asked.tool.as_str(), asked.text.as_str()), ("Bash", "npm publish"));
        let began = read(r#""hook_event_name":"SessionStart","source":"startup""#);
        assert_eq!((began.event.as_str(), began.about.as_str()), ("SessionStart", "startup"));
    }
}
