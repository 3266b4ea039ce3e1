//! The hook files of coding agents, bound read-only into every workspace, whatever image it has.
//!
//! Each stands where its agent looks for what an administrator has set: it needs no review there,
//! and nobody in the workspace can take it away. The hooks call PID 1's own binary, which tells
//! PID 1 what happened. What is only a default (no dialog at a first start) is no business of
//! these: PID 1 lays that into the home once, and a person may change it.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use warren_daemon::files::{self, FileError};

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookFile {
    /// Its name in the folder on the host.
    pub name: &'static str,
    /// Where its agent looks for it.
    pub target: &'static str,
    /// What it holds.
    pub text: &'static str,
}

/// The files, in the order of mounting.
pub const FILES: [HookFile; 3] = [
    HookFile {
        name: "claude.json",
        target: "/etc/claude-code/managed-settings.json",
        text: include_str!("hooks/claude.json"),
    },
    HookFile {
        name: "codex.toml",
        target: "/etc/codex/requirements.toml",
        text: include_str!("hooks/codex.toml"),
    },
    HookFile {
        name: "gemini.json",
        target: "/etc/gemini-cli/settings.json",
        text: include_str!("hooks/gemini.json"),
    },
];

/// What every git in a workspace reads besides the image's own configuration: who knows the
/// password of the workspace's repository. It stands elsewhere so that the image's is not hidden.
pub const GIT: HookFile = HookFile {
    name: "gitconfig",
    target: "/warren/gitconfig",
    text: include_str!("hooks/gitconfig"),
};

const MODE: u32 = 0o444;

/// Returns the folder of the files, below the agent's state folder.
pub fn folder(state: &Path) -> PathBuf {
    state.join("hooks")
}

/// Writes every file that is not there as it should be. Another one is put in its place: a
/// workspace that runs keeps the one that fits the PID 1 it has.
///
/// # Errors
/// The folder or a file cannot be written.
pub fn install(folder: &Path) -> Result<(), FileError> {
    files::private_folder(folder)?;
    for file in FILES.into_iter().chain([GIT]) {
        let path = folder.join(file.name);
        if !is_as_it_should(&path, file.text).unwrap_or(false) {
            files::write_atomic(&path, file.text.as_bytes(), MODE)?;
            // whatever the process's mask
            fs::set_permissions(&path, fs::Permissions::from_mode(MODE))
                .map_err(|source| FileError::Io { action: "open", path, source })?;
        }
    }
    Ok(())
}

fn is_as_it_should(path: &Path, text: &str) -> io::Result<bool> {
    let facts = fs::symlink_metadata(path)?;
    let plain = facts.is_file() && facts.permissions().mode() & 0o7777 == MODE;
    Ok(plain && fs::read_to_string(path)? == text)
}

#[cfg(test)]
mod tests {
    use warren_common::{
        Timestamp,
        agent::{AgentKind, Arbiter, Hook, Observation, Report, Verdict, Why},
    };

    use super::*;
    use crate::container::plan::INSIDE;

    /// Returns every hook of a file as (event, command).
    fn hooks(file: &HookFile) -> Vec<(String, String)> {
        let document: serde_json::Value = if file.name.ends_with(".json") {
            serde_json::from_str(file.text).expect("JSON")
        } else {
            let table: toml::Table = file.text.parse().expect("TOML");
            serde_json::to_value(table).expect("a table")
        };
        let events = document["hooks"].as_object().expect("hooks").iter();
        let lists = events.filter_map(|(event, list)| Some((event, list.as_array()?)));
        lists
            .flat_map(|(event, groups)| {
                let hooks =
                    groups.iter().flat_map(|group| group["hooks"].as_array().expect("hooks"));
                hooks.map(move |hook| {
                    assert_eq!(hook["type"], "command", "{event}");
                    (event.clone(), hook["command"].as_str().expect("a command").to_owned())
                })
            })
            .collect()
    }

    /// Returns what the model of agents makes of an event.
    fn verdict(kind: &str, event: &str) -> Verdict {
        let mut arbiter = Arbiter::new(AgentKind::named(kind), Timestamp(0));
        let hook = Hook { event: event.to_owned(), ..Hook::default() };
        let report = Report::Hook(Box::new(hook));
        arbiter.observe(Observation::new(Timestamp(1), Timestamp(1), report));
        arbiter.explain().last().expect("evidence").verdict
    }

    #[test]
    fn every_hook_calls_pid_1s_binary_and_means_something() {
        let meaningless = Verdict::Ignored(Why::Meaningless);
        for file in FILES {
            let kind = file.name.split('.').next().unwrap_or_default();
            assert_eq!(verdict(kind, "Nonsense"), meaningless);
            let hooks = hooks(&file);
            assert!(hooks.len() >= 7, "{}: {hooks:?}", file.name);
            for (event, command) in hooks {
                assert_eq!(command, format!("{INSIDE} hook {kind}"), "{event}");
                assert_ne!(verdict(kind, &event), meaningless, "{kind} {event}");
            }
        }
    }

    #[test]
    fn what_stands_there_is_made_right_and_left_alone_where_it_is() {
        let state = tempfile::tempdir().expect("a folder");
        let folder = folder(state.path());
        install(&folder).expect("written");
        let path = folder.join("claude.json");
        let of = |path: &Path| fs::metadata(path).expect("a file");
        assert_eq!(of(&path).permissions().mode() & 0o7777, 0o444);
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&of(path));
        let first = inode(&path);
        install(&folder).expect("nothing to do");
        assert_eq!(inode(&path), first, "what is right is not written again");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "{}").expect("written");
        install(&folder).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("a file"), FILES[0].text);
        assert_eq!(of(&path).permissions().mode() & 0o7777, 0o444);
    }
}
