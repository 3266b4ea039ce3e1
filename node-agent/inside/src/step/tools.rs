//! Logging tools in with the workspace's secrets: what is installed and has its secret.
//!
//! A secret goes to its tool through standard input or through a command that the tool calls when it
//! needs it: never as an argument or in the environment. What a tool keeps of it stays in memory
//! (`GH_CONFIG_DIR`), so that no home and no backup holds it.

use std::{fs, io, path::Path, process::Command, time::Duration};

use serde_json::{Map, Value, json};

use super::Startup;
use crate::{board::Outcome, credential, files, program};

pub(super) const STEP: &str = "tools";
const LIMIT: Duration = Duration::from_secs(30);
/// More than any settings of Claude Code have.
const SETTINGS_BYTES: usize = 256 * 1024;

/// A tool that reads its secret from standard input.
struct Tool {
    secret: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

const TOOLS: [Tool; 1] = [Tool {
    secret: "github-token",
    program: "gh",
    arguments: &["auth", "login", "--hostname", "github.com", "--with-token"],
}];
/// The secret that Claude Code asks a command for.
const CLAUDE: &str = "anthropic-api-key";

/// Returns the secrets that are there for some tool.
pub(super) fn wanted() -> Vec<&'static str> {
    let folder = credential::secrets();
    let all = TOOLS.iter().map(|tool| tool.secret).chain([CLAUDE]);
    all.filter(|name| folder.join(name).exists()).collect()
}

/// Logs in what can be; the step's title says what was not and why.
pub(super) async fn run(startup: &Startup, wanted: &[&str]) -> Outcome {
    let folder = credential::secrets();
    let (mut done, mut left, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for tool in TOOLS.iter().filter(|tool| wanted.contains(&tool.secret)) {
        if !is_installed(tool.program) {
            left.push(format!("{} is not in the image", tool.program));
            continue;
        }
        match log_in(startup, tool, &folder).await {
            Ok(()) => done.push(tool.program),
            Err(why) => failed.push(format!("{}: {why}", tool.program)),
        }
    }
    if wanted.contains(&CLAUDE) {
        match name_helper(&startup.config.home, &folder) {
            Ok(()) => done.push("claude"),
            Err(error) => failed.push(format!("claude: its settings cannot be written: {error}")),
        }
    }
    let not = if left.is_empty() { String::new() } else { format!(" ({})", left.join(", ")) };
    startup.board.title(STEP, &format!("log in {}{not}", done.join(", ")));
    match (failed.is_empty(), done.is_empty()) {
        (false, _) => Outcome::Failed(failed.join("; ")),
        (true, true) => Outcome::Skipped,
        (true, false) => Outcome::Done,
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

async fn log_in(startup: &Startup, tool: &Tool, folder: &Path) -> Result<(), String> {
    let secret = credential::line(folder, tool.secret)?;
    let mut command = Command::new(tool.program);
    command.args(tool.arguments).current_dir(&startup.config.home);
    let input = format!("{secret}\n");
    match program::fed(&startup.reaper, (command, input.as_bytes()), LIMIT).await {
        Ok(output) if output.code == 0 => Ok(()),
        Ok(output) => {
            // whatever it says, it does not say the secret on
            let said = output.text.replace(&secret, "…");
            Err(format!("it ended with code {}: {}", output.code, said.trim()))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Has Claude Code read its key from the secret's file each time it needs it, unless a person chose
/// another way: rotation reaches it by itself.
fn name_helper(home: &Path, folder: &Path) -> io::Result<()> {
    let path = home.join(".claude/settings.json");
    let mut settings = match files::read(&path, SETTINGS_BYTES) {
        Some(bytes) => match serde_json::from_slice(&bytes) {
            Ok(Value::Object(settings)) => settings,
            Ok(_) | Err(_) => return Err(io::Error::other("they are not JSON")),
        },
        None if fs::symlink_metadata(&path).is_ok() => {
            return Err(io::Error::other("something else stands there"));
        }
        None => Map::new(),
    };
    if settings.contains_key("apiKeyHelper") {
        return Ok(());
    }
    let helper = format!("cat {}", folder.join(CLAUDE).display());
    settings.insert("apiKeyHelper".to_owned(), json!(helper));
    let text = serde_json::to_string_pretty(&settings).map_err(io::Error::other)?;
    super::setup::write_marker(&path, &format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claude_is_told_where_its_key_is_and_nothing_else_is_changed() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = Path::new("/run/secrets");
        let path = home.path().join(".claude/settings.json");
        let read = || -> Value {
            serde_json::from_str(&fs::read_to_string(&path).expect("there")).expect("JSON")
        };
        name_helper(home.path(), folder).expect("written");
        assert_eq!(read(), json!({"apiKeyHelper": "cat /run/secrets/anthropic-api-key"}));
        fs::write(&path, r#"{"model": "x", "apiKeyHelper": "mine"}"#).expect("written");
        name_helper(home.path(), folder).expect("left alone");
        assert_eq!(read(), json!({"model": "x", "apiKeyHelper": "mine"}));
        fs::write(&path, r#"{"model": "x"}"#).expect("written");
        name_helper(home.path(), folder).expect("written");
        assert_eq!(read()["model"], "x");
        fs::write(&path, "no JSON").expect("written");
        assert!(name_helper(home.path(), folder).is_err());
        assert_eq!(fs::read_to_string(&path).expect("there"), "no JSON");
    }
}
