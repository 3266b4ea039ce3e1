//! Logging tools in with the workspace's secrets: what the template names, and what is installed and has
//! the secret that is usual for it.
//!
//! A secret goes to its tool through standard input, or each time the tool runs ([`crate::login`]), or
//! through a command that the tool calls when it needs it: never as an argument, nor in an environment
//! that others have. What a tool keeps of it stays in memory (`GH_CONFIG_DIR`, `/run/tools`), so that no
//! home and no backup holds it.

use std::{fs, io, path::Path, process::Command, time::Duration};

use serde_json::{Map, Value, json};
use warren_common::{
    SecretName,
    spec::{Extras, Login, Tool},
};
use warren_proto::pb::inside::v1::Setup;

use super::Startup;
use crate::{board::Outcome, credential, files, journal::event, login, program};

pub(super) const STEP: &str = "tools";
const LIMIT: Duration = Duration::from_secs(30);
/// More than any settings of Claude Code have.
const SETTINGS_BYTES: usize = 256 * 1024;
/// The secret that Claude Code asks a command for.
const CLAUDE: &str = "anthropic-api-key";

/// What is logged in.
pub(super) struct Wanted {
    /// As the template says, then as is usual.
    logins: Vec<Login>,
    /// Claude Code has a key.
    claude: bool,
}

/// Returns what is to be logged in; none where that is nothing.
pub(super) fn wanted(setup: &Setup) -> Option<Wanted> {
    let mut logins = Extras::split(&setup.setup_script).0.logins;
    for tool in Tool::ALL {
        let secret = tool.usual_secret().parse::<SecretName>().ok();
        let usual = secret.filter(login::is_there);
        let named = logins.iter().any(|login| login.tool == tool);
        if let Some(secret) = usual.filter(|_| !named) {
            logins.push(Login { tool, secret, host: None });
        }
    }
    let claude = credential::secrets().join(CLAUDE).exists();
    (claude || !logins.is_empty()).then_some(Wanted { logins, claude })
}

/// Makes links of tools that came since, as with the setup script.
pub(super) fn link_again(wanted: &Wanted) {
    for one in &wanted.logins {
        if let Err(error) = login::link(one.tool) {
            event!("{} is not logged in: its link cannot be made: {error}", one.tool);
        }
    }
}

/// Logs in what can be; the step's title says what was not and why.
pub(super) async fn run(startup: &Startup, wanted: &Wanted) -> Outcome {
    let folder = credential::secrets();
    let (mut done, mut left, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    if let Err(error) = login::note(&wanted.logins) {
        failed.push(format!("{} cannot be written: {error}", login::folder().display()));
    }
    for one in &wanted.logins {
        let tool = one.tool;
        let logged_in = match tool {
            Tool::Gh if login::find("gh").is_none() => Ok(false),
            Tool::Gh if !login::is_there(&one.secret) => Ok(true),
            Tool::Gh => log_in_gh(startup, one, &folder).await.map(|()| true),
            // each time it runs
            Tool::Az | Tool::Vercel | Tool::Netlify | Tool::Supabase | Tool::Neon | Tool::Npm => {
                login::link(tool).map(|made| !made.is_empty()).map_err(|error| error.to_string())
            }
        };
        match logged_in {
            // it is logged in once the secret comes
            Ok(_) if !login::is_there(&one.secret) => {
                failed.push(format!("{tool}: {}", credential::missing(one.secret.as_str())));
            }
            Ok(true) => done.push(tool.as_str()),
            Ok(false) => left.push(format!("{tool} is not in the image")),
            Err(why) => failed.push(format!("{tool}: {why}")),
        }
    }
    if wanted.claude {
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

async fn log_in_gh(startup: &Startup, login: &Login, folder: &Path) -> Result<(), String> {
    let secret = credential::line(folder, login.secret.as_str())?;
    let mut command = Command::new("gh");
    let host = login.host.as_deref().unwrap_or("github.com");
    command.args(["auth", "login", "--hostname", host, "--with-token"]);
    command.current_dir(&startup.config.home);
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
