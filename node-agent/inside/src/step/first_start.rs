//! What coding agents would ask at their first start, answered before: such a dialog waits for a
//! person before the agent says anything of itself. Each file is laid once, where there is none:
//! from then on it is the agent's and the person's. To the folders that Gemini CLI trusts the workspace's
//! own are added, where nobody said anything of them.

use std::{fs, io, path::Path};

use serde_json::{Map, Value};
use warren_proto::pb::inside::v1::Setup;

use super::{Startup, mcp};
use crate::{files, journal::event, session::worktrees};

/// The folders that Gemini CLI was told to trust.
const TRUSTED: &str = ".gemini/trustedFolders.json";

/// Lays the files that are missing. One that cannot be laid costs a person a keystroke, and is
/// logged.
pub(super) fn run(startup: &Startup, setup: &Setup) {
    let folder = startup.work_folder(setup);
    if !setup.repo.is_empty() && folder == startup.config.home {
        // not cloned yet: the answers name the checkout
        return;
    }
    let home = &startup.config.home;
    for (name, text) in answers(&folder) {
        let path = home.join(name);
        if let Err(error) = lay(&path, &text) {
            event!("{} cannot be laid: {error}", path.display());
        }
    }
    let path = home.join(TRUSTED);
    if let Err(error) = trust(&path, &folder) {
        event!("{} is left as it is: {error}", path.display());
    }
}

/// Returns the files by their place in the home, for work in `folder`.
fn answers(folder: &Path) -> [(&'static str, String); 3] {
    let folder = quoted(&folder.to_string_lossy());
    let claude = format!(
        "{{\n  \"hasCompletedOnboarding\": true,\n  \"projects\": {{\n    {folder}: \
         {{\"hasTrustDialogAccepted\": true}}\n  }}\n}}\n"
    );
    let codex = format!(
        "check_for_update_on_startup = false\n\n[projects.{folder}]\ntrust_level = \"trusted\"\n"
    );
    // by key alone: nobody signs in with a browser of their own in here
    let gemini = "{\n  \"general\": {\"enableAutoUpdate\": false},\n  \
                  \"security\": {\"auth\": {\"selectedType\": \"gemini-api-key\"}}\n}\n"
        .to_owned();
    [(".claude.json", claude), (".codex/config.toml", codex), (".gemini/settings.json", gemini)]
}

/// Adds the folder, and that of its worktrees, to those that Gemini CLI trusts: Claude Code and Codex take
/// the checkout's word for them. What was said of one of them stands.
fn trust(path: &Path, folder: &Path) -> io::Result<()> {
    let text = mcp::text_of(path)?;
    let mut all: Map<String, Value> = match text.trim().is_empty() {
        true => Map::new(),
        false => serde_json::from_str(&text).map_err(|_| io::Error::other("it is not JSON"))?,
    };
    let before = all.len();
    for folder in [folder, &worktrees(folder)] {
        all.entry(folder.to_string_lossy()).or_insert_with(|| "TRUST_FOLDER".into());
    }
    if all.len() == before {
        return Ok(());
    }
    let text = serde_json::to_string_pretty(&all).map_err(io::Error::other)?;
    mcp::replace(path, &format!("{text}\n"))
}

/// Returns a text as JSON and TOML both write it.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

/// Writes a file whole, or not at all where one is there.
fn lay(path: &Path, text: &str) -> io::Result<()> {
    // a link that leads nowhere is somebody's too
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension("warren-new");
    files::write_anew(&fresh, text, 0o644)?;
    let laid = fs::hard_link(&fresh, path);
    fs::remove_file(&fresh)?;
    match laid {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_name_the_folder_whatever_it_is_called() {
        let answers = answers(Path::new("/home/agent/a \"b\"\\c\n"));
        let folder = r#""/home/agent/a \"b\"\\c\u000a""#;
        assert!(answers[0].1.contains(&format!("{folder}: {{\"hasTrust")), "{answers:?}");
        assert!(answers[1].1.contains(&format!("[projects.{folder}]\n")), "{answers:?}");
    }

    #[test]
    fn what_gemini_trusts_already_is_kept_with_ours_beside_it() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join(TRUSTED);
        let folder = Path::new("/home/agent/a \"b\"\\c\n");
        let read = || -> Map<String, Value> {
            let text = fs::read_to_string(&path).expect("a file");
            serde_json::from_str(&text).expect("JSON")
        };
        trust(&path, folder).expect("laid");
        let beside = format!("{}.worktrees", folder.display());
        let own = [folder.to_str().expect("a text"), beside.as_str()];
        assert_eq!(read().len(), 2);
        assert!(own.iter().all(|own| read()[*own] == "TRUST_FOLDER"), "{:?}", read());

        // of an earlier version, or a person's
        let said = serde_json::json!({"/home/agent": "TRUST_PARENT", own[0]: "DO_NOT_TRUST"});
        fs::write(&path, said.to_string()).expect("written");
        trust(&path, folder).expect("added");
        let all = read();
        assert_eq!((&all["/home/agent"], &all[own[0]]), (&said["/home/agent"], &said[own[0]]));
        assert_eq!((all.len(), &all[own[1]]), (3, &Value::from("TRUST_FOLDER")));
        let text = fs::read_to_string(&path).expect("a file");
        trust(&path, folder).expect("nothing to add");
        assert_eq!(fs::read_to_string(&path).expect("a file"), text);
        for odd in ["// mine\n{}", "[]"] {
            fs::write(&path, odd).expect("written");
            trust(&path, folder).expect_err("it is not ours to mend");
            assert_eq!(fs::read_to_string(&path).expect("a file"), odd);
        }
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join(".codex/config.toml");
        lay(&path, "first").expect("laid");
        lay(&path, "second").expect("left alone");
        assert_eq!(fs::read_to_string(&path).expect("a file"), "first");
        // a pipe where the file is made would wait for a reader
        let half = home.path().join(".gemini.warren-new");
        rustix::fs::mkfifoat(rustix::fs::CWD, &half, rustix::fs::Mode::RWXU).expect("a pipe");
        lay(&half.with_extension("json"), "third").expect("laid");
        assert!(files::holds(&half.with_extension("json"), "third") && !half.exists());
        let link = home.path().join(".claude.json");
        std::os::unix::fs::symlink("nowhere", &link).expect("a link");
        lay(&link, "x").expect("left alone");
        assert!(!home.path().join("nowhere").exists());
        let names: Vec<_> = fs::read_dir(home.path().join(".codex"))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names, ["config.toml"], "nothing is left beside it");
    }
}
