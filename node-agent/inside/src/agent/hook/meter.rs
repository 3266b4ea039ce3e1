//! What an agent runs with and has used, as its hooks, its status line and the file of its
//! conversation say.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use serde_json::Value;
use warren_common::agent::Meter;

use super::payload::Payload;
use crate::{agent::message::Teller, files};

/// Of the end of a conversation's file.
const TAIL_BYTES: u64 = 256 * 1024;
/// The longest file that is opened.
const FILE_BYTES: usize = 4 * 1024 * 1024 * 1024;

/// Returns what a hook says; at the end of a turn also what the conversation's file does.
pub(super) fn of_hook(teller: Teller, payload: &Payload) -> Meter {
    if !payload.text("agent_id").is_empty() {
        // a subagent has its own
        return Meter::default();
    }
    let mut meter = Meter {
        model: model(payload.get("model")),
        mode: payload.text("permission_mode").to_owned(),
        ..Meter::default()
    };
    let read = match (teller, payload.text("hook_event_name")) {
        (Teller::Codex, "Stop" | "Interrupt") => codex,
        (Teller::Gemini, "AfterAgent") => gemini,
        _ => return meter,
    };
    let path = payload.text("transcript_path");
    let tail = path.starts_with('/').then(|| tail(Path::new(path))).flatten();
    meter.take(tail.map(|tail| read(&tail)).unwrap_or_default());
    meter
}

/// Returns what Claude Code hands to its status line.
pub(super) fn of_status_line(payload: &Payload) -> Meter {
    let window = payload.get("context_window");
    let number = |key| window?.get(key)?.as_u64();
    // none before the first answer
    let now = window.and_then(|window| window.get("current_usage"));
    let given = |now: &Value| {
        let parts = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
        parts.iter().filter_map(|part| now.get(part)?.as_u64()).fold(0, u64::saturating_add)
    };
    let usd = payload.get("cost").and_then(|cost| cost.get("total_cost_usd")?.as_f64());
    Meter {
        model: model(payload.get("model")),
        context_tokens: now.map(given),
        context_window: number("context_window_size"),
        input_tokens: number("total_input_tokens"),
        output_tokens: number("total_output_tokens"),
        cost_micro_usd: usd.map(micro),
        ..Meter::default()
    }
}

fn model(value: Option<&Value>) -> String {
    let id = value.and_then(|value| value.as_str().or_else(|| value.get("id")?.as_str()));
    id.unwrap_or_default().to_owned()
}

/// What is no amount counts as none.
fn micro(usd: f64) -> u64 {
    (usd.max(0.0) * 1e6).round() as u64
}

/// Reads the newest count of tokens of Codex's record of a thread.
fn codex(tail: &str) -> Meter {
    let newest = lines(tail).find_map(|line| {
        let payload = line.get("payload")?;
        (payload.get("type")? == "token_count").then(|| payload.get("info").cloned())?
    });
    let Some(info) = newest else { return Meter::default() };
    let number = |part: &str, key: &str| info.get(part)?.get(key)?.as_u64();
    Meter {
        context_tokens: number("last_token_usage", "total_tokens"),
        context_window: info.get("model_context_window").and_then(Value::as_u64),
        input_tokens: number("total_token_usage", "input_tokens"),
        output_tokens: number("total_token_usage", "output_tokens"),
        ..Meter::default()
    }
}

/// Reads what the last answer of Gemini CLI took.
fn gemini(tail: &str) -> Meter {
    let newest = lines(tail).find(|line| line.get("tokens").is_some_and(Value::is_object));
    let Some(line) = newest else { return Meter::default() };
    let number = |key| line.get("tokens")?.get(key)?.as_u64();
    Meter { model: model(line.get("model")), context_tokens: number("total"), ..Meter::default() }
}

/// Returns the lines that are JSON, the newest first; the first may be cut and is none then.
fn lines(tail: &str) -> impl Iterator<Item = Value> {
    tail.lines().rev().filter_map(|line| serde_json::from_str(line).ok())
}

fn tail(path: &Path) -> Option<String> {
    let (mut file, length): (File, usize) = files::open_plain(path, FILE_BYTES)?;
    let from = u64::try_from(length).ok()?.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn payload(text: &str) -> Payload {
        Payload::read(text.as_bytes())
    }

    #[test]
    fn hooks_name_model_and_mode() {
        let told = payload(
            r#"{"hook_event_name":"PreToolUse","model":"gpt-5.5","permission_mode":"default"}"#,
        );
        let meter = of_hook(Teller::Codex, &told);
        assert_eq!((meter.model.as_str(), meter.mode.as_str()), ("gpt-5.5", "default"));
        assert_eq!(of_hook(Teller::Claude, &payload("{}")), Meter::default());
        let subagent =
            payload(r#"{"hook_event_name":"Stop","permission_mode":"x","agent_id":"a"}"#);
        assert_eq!(of_hook(Teller::Claude, &subagent), Meter::default());
    }

    #[test]
    fn the_status_line_is_told_all_of_it() {
        let told = payload(
            r#"{"model":{"id":"claude-opus-5-5","display_name":"Opus"},"cost":{"total_cost_usd":1.23},
            "context_window":{"total_input_tokens":900,"total_output_tokens":40,
            "context_window_size":200000,"current_usage":{"input_tokens":5,"output_tokens":9,
            "cache_creation_input_tokens":10,"cache_read_input_tokens":30}}}"#,
        );
        let meter = of_status_line(&told);
        assert_eq!(
            (meter.model.as_str(), meter.cost_micro_usd),
            ("claude-opus-5-5", Some(1_230_000))
        );
        assert_eq!((meter.context_tokens, meter.context_window), (Some(45), Some(200_000)));
        assert_eq!((meter.input_tokens, meter.output_tokens), (Some(900), Some(40)));
        let early =
            payload(r#"{"context_window":{"current_usage":null},"cost":{"total_cost_usd":-1}}"#);
        let early = of_status_line(&early);
        assert_eq!((early.context_tokens, early.cost_micro_usd), (Some(0), Some(0)));
        assert_eq!(of_status_line(&payload("")), Meter::default());
    }

    #[test]
    fn records_are_read_from_their_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rollout.jsonl");
        let count = |tokens: u64| {
            format!(
                r#"{{"type":"event_msg","payload":{{"type":"token_count","info":{{"total_token_usage":{{"input_tokens":{tokens},"output_tokens":3}},"last_token_usage":{{"total_tokens":7}},"model_context_window":272000}}}}}}"#
            )
        };
        let noise = format!("{{\"payload\":{{\"type\":\"{}\"}}}}\n", "x".repeat(300_000));
        fs::write(&path, format!("{}\n{noise}{}\n{{\"cut", count(1), count(9))).expect("a file");
        let stop = |event: &str, path: &str| {
            let text = format!(r#"{{"hook_event_name":"{event}","transcript_path":"{path}"}}"#);
            of_hook(Teller::Codex, &payload(&text))
        };
        let path = path.to_string_lossy();
        let meter = stop("Stop", &path);
        assert_eq!((meter.input_tokens, meter.context_tokens), (Some(9), Some(7)));
        assert_eq!(meter.context_window, Some(272_000));
        for (event, path) in
            [("PreToolUse", &*path), ("Stop", "/nowhere"), ("Stop", "rollout.jsonl")]
        {
            assert_eq!(stop(event, path), Meter::default(), "{event} {path}");
        }
        let answer = r#"{"type":"gemini","model":"g-3","tokens":{"input":5,"total":8}}"#;
        let meter = gemini(&format!("{answer}\n{{}}\n[1]\n"));
        assert_eq!((meter.model.as_str(), meter.context_tokens), ("g-3", Some(8)));
        assert_eq!(gemini("no json"), Meter::default());
    }
}
