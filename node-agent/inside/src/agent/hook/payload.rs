//! A hook's JSON, as far as it is understood.
//!
//! Only the fields named here are kept; a tool's answer, a prompt and the like may be megabytes and
//! are skipped. Where the text is cut or broken, what came before counts.

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use warren_common::{
    Limits, Timestamp,
    agent::{Ask, WaitKind},
};

const KEPT: [&str; 25] = [
    "agent_id",
    "background_tasks",
    "context_window",
    "cost",
    "cwd",
    "details",
    "error",
    "error_details",
    "hook_event_name",
    "last_assistant_message",
    "message",
    "model",
    "notification_type",
    "permission_mode",
    "reason",
    "resets_at",
    "retry_at",
    "session_crons",
    "session_id",
    "source",
    "state",
    "text",
    "tool_input",
    "tool_name",
    "transcript_path",
];

/// What says most of a tool's input, the best first.
const TELLING: [&str; 13] = [
    "command",
    "file_path",
    "absolute_path",
    "notebook_path",
    "url",
    "pattern",
    "query",
    "path",
    "description",
    "skill",
    "cmd",
    "input",
    "name",
];

/// What a person or the model wrote at length, which is nobody else's.
const UNTOLD: [&str; 5] = ["prompt", "content", "old_string", "new_string", "answers"];

/// The fields of one payload.
#[derive(Debug, Default)]
pub(super) struct Payload(Map<String, Value>);

impl Payload {
    /// Reads what can be read.
    pub(super) fn read(input: &[u8]) -> Self {
        let mut fields = Map::new();
        let mut json = serde_json::Deserializer::from_slice(input);
        // what comes after an error is lost, what came before is not
        let _ = Fields(&mut fields).deserialize(&mut json);
        Self(fields)
    }

    /// Returns a field; none where it is absent.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Returns a field's text; empty where it is absent or none.
    pub(super) fn text(&self, key: &str) -> &str {
        self.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the first of these fields that has a text.
    pub(super) fn first(&self, keys: &[&str]) -> String {
        keys.iter()
            .map(|key| self.text(key))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .into()
    }

    /// Returns what a person reads of the tool's input, in one line.
    pub(super) fn input(&self) -> String {
        let Some(input) = self.get("tool_input") else { return String::new() };
        let told = TELLING.iter().find_map(|key| input.get(key).and_then(line));
        told.unwrap_or_else(|| match input {
            Value::Object(fields) => {
                let mut told = fields.iter().filter(|(key, _)| !UNTOLD.contains(&key.as_str()));
                told.find_map(|(_, value)| line(value)).unwrap_or_default()
            }
            other => line(other).unwrap_or_default(),
        })
    }

    /// Returns the question that the tool asks; of several the first, with their number.
    pub(super) fn question(&self) -> Option<Ask> {
        let questions = self.get("tool_input")?.get("questions")?.as_array()?;
        let first = questions.first()?;
        let text = first.get("question").and_then(Value::as_str).unwrap_or_default();
        let text = match questions.len() {
            1 => text.to_owned(),
            several => format!("{text} (1 of {several} questions)"),
        };
        let options = first.get("options").and_then(Value::as_array);
        let label =
            |option: &Value| option.get("label").unwrap_or(option).as_str().map(str::to_owned);
        let options = options.into_iter().flatten().filter_map(label);
        let options = options.take(Limits::AGENT_OPTIONS).collect();
        Some(Ask { kind: WaitKind::Question, text, options })
    }

    /// Returns what each part of a list is called, of those that have not ended.
    pub(super) fn parts(&self, key: &str, names: &[&str]) -> Vec<String> {
        let list = self.get(key).and_then(Value::as_array);
        let name = |part: &Value| {
            let status = part.get("status").and_then(Value::as_str).unwrap_or("running");
            if !matches!(status, "running" | "pending" | "scheduled" | "active") {
                return None;
            }
            let named = names.iter().find_map(|name| part.get(name).and_then(line));
            Some(named.or_else(|| line(part)).unwrap_or_else(|| "a task".to_owned()))
        };
        list.into_iter().flatten().filter_map(name).take(Limits::AGENT_TASKS).collect()
    }

    /// Returns when trying again can help; seconds or milliseconds of the epoch.
    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        let told = ["retry_at", "resets_at"].iter().find_map(|key| self.get(key)?.as_u64())?;
        // no moment in milliseconds since 1973 is that small a number
        let ms = if told < 100_000_000_000 { told.saturating_mul(1000) } else { told };
        Some(Timestamp(ms))
    }
}

/// Returns a value's text where it has one.
fn line(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Array(words) if words.iter().all(Value::is_string) && !words.is_empty() => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            Some(words.join(" "))
        }
        _ => None,
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if KEPT.contains(&key.as_str()) {
                let value = map.next_value()?;
                self.0.insert(key, value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_a_cut_counts() {
        let whole = r#"{"cwd":"/w","hook_event_name":"PostToolUse","tool_response":{"a":[1,"xxxx"]},"tool_name":"Bash"}"#;
        for cut in 0..=whole.len() {
            let payload = Payload::read(&whole.as_bytes()[..cut]);
            let told = cut >= whole.find(",\"tool_response").expect("there");
            assert_eq!(payload.text("hook_event_name") == "PostToolUse", told, "{cut}");
        }
        assert_eq!(Payload::read(whole.as_bytes()).text("tool_name"), "Bash");
        for odd in ["", "[]", "7", "{\"cwd\":7}", "\u{0}", "{\"a\":{\"a\":{", "nonsense"] {
            assert_eq!(Payload::read(odd.as_bytes()).text("cwd"), "", "{odd}");
        }
        let deep = "{\"tool_input\":".repeat(5000);
        assert_eq!(Payload::read(deep.as_bytes()).input(), "");
    }

    #[test]
    fn a_tools_input_becomes_one_line() {
        let input =
            |json: &str| Payload::read(format!("{{\"tool_input\":{json}}}").as_bytes()).input();
        assert_eq!(input(r#"{"description":"d","command":"cargo test"}"#), "cargo test");
        assert_eq!(input(r#"{"command":["bash","-lc","ls"]}"#), "bash -lc ls");
        assert_eq!(input(r#"{"content":"c","file_path":"/a.rs"}"#), "/a.rs");
        assert_eq!(input(r#"{"n":7,"other":"text"}"#), "text");
        assert_eq!(input(r#""apply""#), "apply");
        assert_eq!(input(r#"{"prompt":"my key is 42","description":"d"}"#), "d");
        assert_eq!(input(r#"{"content":"c","prompt":"my key is 42"}"#), "");
        assert_eq!(input("{}"), "");
    }
}
