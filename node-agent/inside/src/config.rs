//! What the environment of PID 1 says.

use std::{env, ffi::OsString, path::PathBuf};

use warren_common::WorkspaceAddress;

/// Where tmux's socket and our own files go where nothing else is said.
pub(crate) const RUNTIME: &str = "/run/warren";

/// Everything PID 1 knows before the node agent speaks to it.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The node agent's socket (`WARREN_SOCKET`).
    pub(crate) socket: PathBuf,
    /// The run this process was started for (`WARREN_RUN_SERIAL`), 0 where it is not given.
    pub(crate) run_serial: u64,
    /// The workspace's address (`WARREN_WORKSPACE`); none where it is absent or odd.
    pub(crate) workspace: Option<WorkspaceAddress>,
    /// The home volume (`HOME`).
    pub(crate) home: PathBuf,
    /// Where tmux's socket and our own files go (`WARREN_RUNTIME_DIR`, default [`RUNTIME`]).
    pub(crate) runtime: PathBuf,
}

/// Why PID 1 cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidConfig {
    /// A variable that is needed.
    #[error("the environment variable {0} is not set")]
    Missing(&'static str),
    /// A path that is not absolute.
    #[error("{0} is not an absolute path: {1}")]
    Relative(&'static str, PathBuf),
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// Names the variable that is missing or not an absolute path.
    pub(crate) fn from_environment() -> Result<Self, InvalidConfig> {
        Self::read(|name| env::var_os(name))
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, InvalidConfig> {
        let path = |name: &'static str, default: Option<&str>| {
            let value = variable(name).filter(|value| !value.is_empty());
            let path = match (value, default) {
                (Some(value), _) => PathBuf::from(value),
                (None, Some(default)) => PathBuf::from(default),
                (None, None) => return Err(InvalidConfig::Missing(name)),
            };
            if path.is_absolute() { Ok(path) } else { Err(InvalidConfig::Relative(name, path)) }
        };
        let text = |name| variable(name).and_then(|value| value.into_string().ok());
        Ok(Self {
            socket: path("WARREN_SOCKET", None)?,
            run_serial: text("WARREN_RUN_SERIAL").and_then(|n| n.parse().ok()).unwrap_or_default(),
            workspace: text("WARREN_WORKSPACE").and_then(|name| name.parse().ok()),
            home: path("HOME", None)?,
            runtime: path("WARREN_RUNTIME_DIR", Some(RUNTIME))?,
        })
    }

    /// Folder for what must outlive a run, such as "the setup script has run".
    pub(crate) fn state(&self) -> PathBuf {
        self.home.join(".local/state/warren")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, InvalidConfig> {
        Config::read(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_socket_and_the_home_are_needed() {
        let config = read(&[
            ("WARREN_SOCKET", "/warren/run/agent.sock"),
            ("WARREN_RUN_SERIAL", "7"),
            ("WARREN_WORKSPACE", "acme/web"),
            ("HOME", "/home/agent"),
        ])
        .expect("complete");
        assert_eq!(config.run_serial, 7);
        assert_eq!(config.workspace.map(|name| name.to_string()).as_deref(), Some("acme/web"));
        assert_eq!(config.runtime, PathBuf::from("/run/warren"));
        assert!(matches!(read(&[("HOME", "/")]), Err(InvalidConfig::Missing("WARREN_SOCKET"))));
        let relative = read(&[("WARREN_SOCKET", "a.sock"), ("HOME", "/")]);
        assert!(matches!(relative, Err(InvalidConfig::Relative("WARREN_SOCKET", _))));
    }
}
