//! Claude Code's status line, `warren-inside status-line`: it is told what the conversation has used, which
//! is passed on, and shows what the person's own status line shows, or model, context and cost.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use serde_json::Value;
use warren_common::{
    Timestamp,
    agent::{Hook, Meter},
    status::clean,
};

use super::{input, meter, payload::Payload, runtime, send, told};
use crate::{agent::message::Teller, clock, files};

/// A person's settings, at most.
const SETTINGS_BYTES: usize = 1024 * 1024;
/// What is shown of a name.
const NAME_BYTES: usize = 40;

/// Passes on what standard input says and shows the line.
pub(crate) fn show() -> ExitCode {
    let at = Timestamp(clock::now_ms());
    let input = input();
    let payload = Payload::read(&input);
    let meter = meter::of_status_line(&payload);
    let message = told((Teller::Claude, Hook::default(), meter.clone()), at, &payload);
    if let Some(bytes) = message.and_then(|message| serde_json::to_vec(&message).ok()) {
        send::tell(&runtime(), &bytes);
    }
    let own = settings().and_then(|path| own(&files::read(&path, SETTINGS_BYTES)?));
    match own {
        Some(command) => run(&command, &input),
        None => {
            // nobody reads it where that fails
            let _ = writeln!(std::io::stdout(), "{}", line(&payload, &meter));
            ExitCode::SUCCESS
        }
    }
}

/// Returns where a person's settings are.
fn settings() -> Option<PathBuf> {
    let folder = env::var_os("CLAUDE_CONFIG_DIR").filter(|folder| !folder.is_empty());
    let home = || Some(Path::new(&env::var_os("HOME")?).join(".claude"));
    Some(folder.map(PathBuf::from).or_else(home)?.join("settings.json"))
}

/// Returns the command of a person's own status line; managed settings outdo it.
fn own(settings: &[u8]) -> Option<String> {
    let settings: Value = serde_json::from_slice(settings).ok()?;
    let command = settings.get("statusLine")?.get("command")?.as_str()?;
    (!command.trim().is_empty()).then(|| command.to_owned())
}

/// Runs a command as Claude Code would, which ends it where it is too slow.
fn run(command: &str, input: &[u8]) -> ExitCode {
    let mut shell = Command::new("/bin/sh");
    let Ok(mut child) = shell.args(["-c", command]).stdin(Stdio::piped()).spawn() else {
        return ExitCode::FAILURE;
    };
    if let Some(mut stdin) = child.stdin.take() {
        // it may not care
        let _ = stdin.write_all(input);
    }
    match child.wait() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

fn line(payload: &Payload, meter: &Meter) -> String {
    let shown = payload.get("model").and_then(|model| model.get("display_name")?.as_str());
    let mut parts = vec![clean(shown.unwrap_or(&meter.model), NAME_BYTES)];
    parts.extend(meter.context_percent().map(|percent| format!("context {percent} %")));
    let cost = meter.cost_micro_usd.filter(|cost| *cost > 0);
    parts
        .extend(cost.map(|cost| format!("${}.{:02}", cost / 1_000_000, cost % 1_000_000 / 10_000)));
    parts.retain(|part| !part.is_empty());
    parts.join(" \u{b7} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_what_is_known() {
        let shown = |text: &str| {
            let payload = Payload::read(text.as_bytes());
            line(&payload, &meter::of_status_line(&payload))
        };
        let all = r#"{"model":{"id":"m","display_name":"Opus\u001b 5"},"cost":{"total_cost_usd":1.239},
            "context_window":{"context_window_size":200,"current_usage":{"input_tokens":54}}}"#;
        assert_eq!(shown(all), "Opus 5 \u{b7} context 27 % \u{b7} $1.23");
        assert_eq!(shown(r#"{"model":{"id":"m"},"cost":{"total_cost_usd":0}}"#), "m");
        assert_eq!(shown("no json"), "");
    }

    #[test]
    fn a_persons_own_line_is_found() {
        let own = |text: &str| own(text.as_bytes());
        let settings = r#"{"statusLine":{"type":"command","command":"date"}}"#;
        assert_eq!(own(settings).as_deref(), Some("date"));
        for none in ["", "{}", r#"{"statusLine":{}}"#, r#"{"statusLine":{"command":" "}}"#] {
            assert_eq!(own(none), None, "{none}");
        }
    }
}
