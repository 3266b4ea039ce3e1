//! The servers that coding agents may call (MCP), in each agent's own settings: those of the template,
//! and Playwright's where there is a display and the image has it.
//!
//! Claude Code reads `mcpServers` of `~/.claude.json`, Gemini that of `~/.gemini/settings.json`, Codex
//! the tables `mcp_servers` of `~/.codex/config.toml`. What a person has there under the same name goes
//! before ours, and what was ours and was changed is theirs from then on. What was written is noted, so
//! that it goes again with the template that named it. A secret stands in none of them: a server that
//! is given one is started through this program.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use warren_common::spec::{Extras, McpServer};
use warren_proto::pb::inside::v1::Setup;

use super::{Startup, first_start::quoted, write_marker};
use crate::{board::Outcome, files, login};

const STEP: &str = "mcp";
/// Where it is noted what was written.
const NOTED: &str = "mcp.json";
/// More than the settings of an agent have: Claude Code keeps what was typed in its own.
const SETTINGS_BYTES: usize = 16 * 1024 * 1024;
/// What drives a browser for an agent, where the image has it.
const PLAYWRIGHT: (&str, &str) = ("playwright", "playwright-mcp");
/// The key of servers in JSON.
const KEY: &str = "mcpServers";

/// How a server is started.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Start {
    command: String,
    args: Vec<String>,
}

type Servers = BTreeMap<String, Start>;

/// What was written, by file, then by server: to be taken away only where it still stands there.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Noted {
    claude: Map<String, Value>,
    gemini: Map<String, Value>,
    codex: BTreeMap<String, String>,
}

/// Writes them; a file that cannot be used is told and left as it is.
pub(super) fn run(startup: &Startup, setup: &Setup) {
    let config = &startup.config;
    let servers = servers(setup, config.display.is_some());
    let note = config.state().join(NOTED);
    let before = files::read(&note, SETTINGS_BYTES);
    if servers.is_empty() && before.is_none() {
        return;
    }
    startup.board.begin(STEP, "MCP servers");
    let mut noted = before.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let (kept, failed) = write_all(&config.home, &servers, &mut noted);
    let text = serde_json::to_string(&noted).unwrap_or_default();
    let failed = match write_marker(&note, &text) {
        Ok(()) => failed,
        Err(error) => [failed, vec![format!("{}: {error}", note.display())]].concat(),
    };
    let names: Vec<&str> = servers.keys().map(String::as_str).collect();
    let own = if kept.is_empty() {
        String::new()
    } else {
        format!(" (left as they were: {})", kept.join(", "))
    };
    startup.board.title(STEP, &format!("MCP servers {}{own}", names.join(", ")));
    let outcome = match failed.is_empty() {
        true => Outcome::Done,
        false => Outcome::Failed(failed.join("; ")),
    };
    startup.board.end(STEP, &outcome);
}

/// Returns what agents may call, by name.
fn servers(setup: &Setup, display: bool) -> Servers {
    let named = Extras::split(&setup.setup_script).0.servers;
    let mut servers: Servers =
        named.iter().map(|server| (server.name.clone(), start(server))).collect();
    let (name, program) = PLAYWRIGHT;
    if display && login::find(program).is_some() {
        let usual = Start { command: program.to_owned(), args: Vec::new() };
        servers.entry(name.to_owned()).or_insert(usual);
    }
    servers
}

/// A server with secrets is started through this program, which reads them then.
fn start(server: &McpServer) -> Start {
    if server.env.is_empty() {
        return Start { command: server.command.clone(), args: server.args.clone() };
    }
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/warren/inside"));
    let mut args = vec!["with-secrets".to_owned()];
    args.extend(server.env.iter().map(|(key, secret)| format!("{key}={secret}")));
    args.extend(["--".to_owned(), server.command.clone()]);
    args.extend(server.args.iter().cloned());
    Start { command: own.to_string_lossy().into_owned(), args }
}

/// Returns what was left as a person has it, and what could not be written.
fn write_all(home: &Path, servers: &Servers, noted: &mut Noted) -> (Vec<String>, Vec<String>) {
    let claude = |start: &Start| json!({"type": "stdio", "command": start.command, "args": start.args, "env": {}});
    let gemini = |start: &Start| json!({"command": start.command, "args": start.args});
    let files = [
        (
            ".claude.json",
            in_json(&home.join(".claude.json"), (servers, &claude), &mut noted.claude),
        ),
        (
            ".gemini/settings.json",
            in_json(&home.join(".gemini/settings.json"), (servers, &gemini), &mut noted.gemini),
        ),
        (
            ".codex/config.toml",
            in_toml(&home.join(".codex/config.toml"), servers, &mut noted.codex),
        ),
    ];
    let (mut kept, mut failed) = (Vec::new(), Vec::new());
    for (file, written) in files {
        match written {
            Ok(left) => kept.extend(left.iter().map(|name| format!("{name} in ~/{file}"))),
            Err(error) => failed.push(format!("~/{file}: {error}")),
        }
    }
    (kept, failed)
}

/// Returns the text of a file, empty where there is none.
pub(super) fn text_of(path: &Path) -> io::Result<String> {
    match files::read(path, SETTINGS_BYTES) {
        Some(bytes) => String::from_utf8(bytes).map_err(|_| io::Error::other("it is no text")),
        None if fs::symlink_metadata(path).is_ok() => {
            Err(io::Error::other("something else stands there"))
        }
        None => Ok(String::new()),
    }
}

fn in_json(
    path: &Path,
    (servers, shown): (&Servers, &dyn Fn(&Start) -> Value),
    noted: &mut Map<String, Value>,
) -> io::Result<Vec<String>> {
    let text = text_of(path)?;
    let mut settings = match text.trim().is_empty() {
        true => Map::new(),
        false => serde_json::from_str::<Map<String, Value>>(&text)
            .map_err(|_| io::Error::other("it is not JSON"))?,
    };
    let before = settings.clone();
    let mut all = match settings.remove(KEY) {
        None => Map::new(),
        Some(Value::Object(all)) => all,
        Some(_) => return Err(io::Error::other(format!("{KEY} is no object"))),
    };
    all.retain(|name, value| noted.get(name) != Some(value));
    let (mut left, mut ours) = (Vec::new(), Map::new());
    for (name, start) in servers {
        if all.contains_key(name) {
            left.push(name.clone());
            continue;
        }
        all.insert(name.clone(), shown(start));
        ours.insert(name.clone(), shown(start));
    }
    if !all.is_empty() || before.contains_key(KEY) {
        settings.insert(KEY.to_owned(), Value::Object(all));
    }
    if settings != before {
        let text = serde_json::to_string_pretty(&settings).map_err(io::Error::other)?;
        replace(path, &format!("{text}\n"))?;
    }
    *noted = ours;
    Ok(left)
}

fn in_toml(
    path: &Path,
    servers: &Servers,
    noted: &mut BTreeMap<String, String>,
) -> io::Result<Vec<String>> {
    let before = text_of(path)?;
    let mut text = before.clone();
    for (name, was) in &*noted {
        // whatever was changed of it, or added to it, is a person's now
        if let Some(at) = text.find(was.as_str())
            && ends_here(&text[at + was.len()..], name)
        {
            text.replace_range(at..at + was.len(), "");
        }
    }
    let (mut left, mut ours) = (Vec::new(), BTreeMap::new());
    for (name, start) in servers {
        if has_table(&text, name) {
            left.push(name.clone());
            continue;
        }
        let args: Vec<String> = start.args.iter().map(|arg| quoted(arg)).collect();
        let table = format!(
            "\n[mcp_servers.{name}]\ncommand = {}\nargs = [{}]\n",
            quoted(&start.command),
            args.join(", ")
        );
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&table);
        ours.insert(name.clone(), table);
    }
    if text != before {
        replace(path, &text)?;
    }
    *noted = ours;
    Ok(left)
}

/// Whether a server's table ends before this text: what follows is nothing, or another table.
fn ends_here(rest: &str, name: &str) -> bool {
    let rest = rest.trim_start();
    rest.is_empty() || rest.starts_with('[') && !rest.starts_with(&format!("[mcp_servers.{name}."))
}

/// Whether a TOML text has a table of this server, in any of the ways that one can be written.
fn has_table(text: &str, name: &str) -> bool {
    let mut among_servers = false;
    text.lines().any(|line| {
        let plain: String =
            line.chars().filter(|c| !c.is_whitespace() && !"\"'".contains(*c)).collect();
        let is_named = |rest: &str| {
            rest.strip_prefix(name).is_some_and(|rest| rest.starts_with([']', '.', '=']))
        };
        if plain.starts_with('[') {
            among_servers = plain.starts_with("[mcp_servers]");
        } else if among_servers && is_named(&plain) {
            return true;
        }
        let line = plain.trim_start_matches('[');
        let Some(rest) = line.strip_prefix("mcp_servers") else { return false };
        rest.starts_with('=') || rest.strip_prefix('.').is_some_and(is_named)
    })
}

/// Writes a file in the place of another, which others may not read where they could not read that.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mode = fs::metadata(path).map_or(0o600, |facts| facts.permissions().mode() & 0o777);
    let fresh = path.with_extension("warren-new");
    files::write_anew(&fresh, text, mode)?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(command: &str, args: &[&str]) -> Start {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Start { command: command.to_owned(), args }
    }

    fn servers(pairs: &[(&str, Start)]) -> Servers {
        pairs.iter().map(|(name, start)| ((*name).to_owned(), start.clone())).collect()
    }

    fn read(home: &Path, file: &str) -> String {
        fs::read_to_string(home.join(file)).expect("there")
    }

    #[test]
    fn servers_come_and_go_and_what_a_person_has_stays() {
        let home = tempfile::tempdir().expect("a folder");
        let home = home.path();
        fs::create_dir(home.join(".codex")).expect("made");
        let codex = "model = \"x\" # mine\n[mcp_servers.\"mine\"]\ncommand = \"own\"";
        fs::write(home.join(".codex/config.toml"), codex).expect("written");
        let claude = r#"{"numStartups": 3, "mcpServers": {"mine": {"command": "own"}}}"#;
        fs::write(home.join(".claude.json"), claude).expect("written");
        let mut noted = Noted::default();
        let two =
            servers(&[("docs", start("npx", &["-y", "a \"b\""])), ("mine", start("other", &[]))]);
        let (kept, failed) = write_all(home, &two, &mut noted);
        assert_eq!(failed, Vec::<String>::new());
        assert_eq!(kept, ["mine in ~/.claude.json", "mine in ~/.codex/config.toml"]);
        let json = |file: &str| serde_json::from_str::<Value>(&read(home, file)).expect("JSON");
        let found = json(".claude.json");
        assert_eq!(found["numStartups"], 3);
        assert_eq!(found[KEY]["mine"]["command"], "own");
        assert_eq!(found[KEY]["docs"]["args"], json!(["-y", "a \"b\""]));
        assert_eq!(json(".gemini/settings.json")[KEY]["mine"]["command"], "other");
        let toml = read(home, ".codex/config.toml");
        assert!(toml.starts_with(codex), "{toml}");
        assert!(
            toml.ends_with(
                "[mcp_servers.docs]\ncommand = \"npx\"\nargs = [\"-y\", \"a \\\"b\\\"\"]\n"
            ),
            "{toml}"
        );
        // again: nothing changes
        assert_eq!(write_all(home, &two, &mut noted).0.len(), 2);
        assert_eq!(read(home, ".codex/config.toml"), toml);
        // a person changes one of ours, and the template drops it: it is theirs
        let mut changed = found;
        changed[KEY]["docs"]["args"] = json!(["mine too"]);
        fs::write(home.join(".claude.json"), changed.to_string()).expect("written");
        let (_, failed) = write_all(home, &servers(&[]), &mut noted);
        assert_eq!(failed, Vec::<String>::new());
        assert_eq!(json(".claude.json")[KEY]["docs"]["args"], json!(["mine too"]));
        assert_eq!(json(".gemini/settings.json")[KEY], json!({}));
        let toml = read(home, ".codex/config.toml");
        assert_eq!(toml.trim_end(), codex, "ours is gone");
    }

    #[test]
    fn what_is_no_settings_file_is_told_and_left() {
        let home = tempfile::tempdir().expect("a folder");
        let home = home.path();
        fs::write(home.join(".claude.json"), "no JSON").expect("written");
        std::os::unix::fs::symlink("nowhere", home.join(".codex")).expect("a link");
        let mut noted = Noted::default();
        let (_, failed) = write_all(home, &servers(&[("docs", start("x", &[]))]), &mut noted);
        assert_eq!(failed.len(), 2, "{failed:?}");
        assert_eq!(read(home, ".claude.json"), "no JSON");
        assert!(noted.claude.is_empty() && noted.gemini.contains_key("docs"));
        assert!(!home.join("nowhere").exists());
    }

    #[test]
    fn tables_are_found_however_they_are_written() {
        for text in [
            "[mcp_servers.docs]",
            " [ mcp_servers . \"docs\" ] # x",
            "[mcp_servers.docs.env]",
            "mcp_servers.docs = {command = \"x\"}",
            "mcp_servers = {docs = {}}",
            "[mcp_servers]\nother = {}\ndocs = {command = \"x\"}",
            "[mcp_servers] # all\n\"docs\".command = \"x\"",
        ] {
            assert!(has_table(text, "docs"), "{text}");
        }
        for text in [
            "",
            "[mcp_servers.docs2]",
            "# [mcp_servers.docs]",
            "[mcp_servers.other]",
            "[mcp_servers]\nother = {}\n[more]\ndocs = 1",
        ] {
            assert!(!has_table(text, "docs"), "{text}");
        }
    }

    #[test]
    fn what_a_person_added_below_ours_keeps_it() {
        for (added, stays) in [
            ("startup_timeout_sec = 60\n", true),
            ("\n[mcp_servers.docs.env]\nA = \"b\"\n", true),
            ("\n[mcp_servers.docs2]\ncommand = \"y\"\n", false),
            ("\n", false),
        ] {
            let home = tempfile::tempdir().expect("a folder");
            let home = home.path();
            let mut noted = Noted::default();
            write_all(home, &servers(&[("docs", start("x", &[]))]), &mut noted);
            let path = home.join(".codex/config.toml");
            fs::write(&path, read(home, ".codex/config.toml") + added).expect("written");
            write_all(home, &servers(&[]), &mut noted);
            let left = read(home, ".codex/config.toml");
            assert_eq!(left.contains("[mcp_servers.docs]\ncommand"), stays, "{left}");
            assert!(left.ends_with(added), "{left}");
        }
    }

    #[test]
    fn a_server_with_secrets_is_started_through_us_and_names_them_alone() {
        let server = McpServer {
            name: "docs".to_owned(),
            command: "npx".to_owned(),
            args: vec!["-y".to_owned()],
            env: [("TOKEN".to_owned(), "docs-token".parse().expect("a name"))].into(),
        };
        let started = super::start(&server);
        assert_eq!(started.args, ["with-secrets", "TOKEN=docs-token", "--", "npx", "-y"]);
        assert_ne!(started.command, "npx");
        let plain = McpServer { env: BTreeMap::new(), ..server };
        assert_eq!(super::start(&plain), start("npx", &["-y"]));
    }
}
