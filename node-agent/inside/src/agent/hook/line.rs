//! Claude Code's status line, `warren-inside status-line`: it is told what the conversation has used, which
//! is passed on, and shows what the person's own status line shows, or model, context and cost.

use std::{
    env,
    fs::{self, File},
    io::{self, Seek as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;
use warren_common::{
    Timestamp,
    agent::{Hook, Meter},
    status::clean,
};

use super::{input, meter, payload::Payload, runtime, send, told};
use crate::{agent::message::Teller, clock};

/// A person's settings, at most.
const SETTINGS_BYTES: usize = 1024 * 1024;
/// Set for what a person's own line runs.
const NESTED: &str = "WARREN_STATUS_LINE";
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
    // one that names this program would go on for ever
    let nested = env::var_os(NESTED).is_some();
    let own = settings().filter(|_| !nested).and_then(|path| own(&read(&path)?));
    match own {
        Some(command) => run(&command, &input),
        None => {
            // nobody reads it where that fails
            let _ = writeln!(io::stdout(), "{}", line(&payload, &meter));
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

/// Reads a person's file, where a link may lead to.
fn read(path: &Path) -> Option<Vec<u8>> {
    let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let fits = usize::try_from(found.len()).is_ok_and(|length| length <= SETTINGS_BYTES);
    fits.then(|| fs::read(path).ok()).flatten()
}

/// Becomes a command, which Claude Code ends where it is too slow; returns where it cannot.
fn run(command: &str, input: &[u8]) -> ExitCode {
    let Ok(input) = held(input) else { return ExitCode::FAILURE };
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env(NESTED, "1").stdin(input);
    let _ = shell.exec();
    ExitCode::FAILURE
}

/// Returns a file in memory that holds this.
fn held(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("status-line", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
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
