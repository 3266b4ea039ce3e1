//! What the environment of PID 1 says.

use std::{env, ffi::OsString, path::PathBuf};

use warren_common::WorkspaceAddress;

/// Where tmux's socket and our own files go where nothing else is said.
pub(crate) const RUNTIME: &str = "/run/warren";

/// The display where nothing else is said.
const DISPLAY: u16 = 99;
/// Width, height and depth of the display where nothing else, or nothing that makes sense, is said.
const DISPLAY_SIZE: &str = "1440x900x24";
/// Where npm puts what is installed for everybody.
const MODULES: &str = "/usr/local/lib/node_modules";

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
    /// Number of the display (`WARREN_DISPLAY`, default [`DISPLAY`]); none where that is `none`.
    pub(crate) display: Option<u16>,
    /// Its width, height and depth (`WARREN_DISPLAY_SIZE`, default [`DISPLAY_SIZE`]).
    pub(crate) display_size: String,
    /// Where the image keeps what pages are made of (`WARREN_MODULES`, default [`MODULES`]).
    pub(crate) modules: PathBuf,
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

    /// Returns that of a test: everything in one folder, and no display.
    #[cfg(test)]
    pub(crate) fn in_folder(folder: &std::path::Path) -> Self {
        Self {
            socket: folder.join("agent.sock"),
            run_serial: 1,
            workspace: None,
            home: folder.to_owned(),
            runtime: folder.to_owned(),
            display: None,
            display_size: String::new(),
            modules: folder.to_owned(),
        }
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
            display: match text("WARREN_DISPLAY").as_deref() {
                Some("none") => None,
                number => Some(number.and_then(|n| n.parse().ok()).unwrap_or(DISPLAY)),
            },
            display_size: text("WARREN_DISPLAY_SIZE")
                .filter(|size| is_size(size))
                .unwrap_or_else(|| DISPLAY_SIZE.to_owned()),
            modules: path("WARREN_MODULES", Some(MODULES))?,
        })
    }

    /// Folder for what must outlive a run, such as "the setup script has run".
    pub(crate) fn state(&self) -> PathBuf {
        self.home.join(".local/state/warren")
    }
}

/// Whether a text is a size that a display can have: `1440x900x24`.
fn is_size(text: &str) -> bool {
    let parts: Vec<Option<u16>> = text.split('x').map(|part| part.parse().ok()).collect();
    let side = |side: Option<u16>| side.is_some_and(|side| (64..=8192).contains(&side));
    matches!(parts[..], [width, height, Some(16 | 24)] if side(width) && side(height))
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

    #[test]
    fn a_display_has_a_size_that_makes_sense() {
        let size = |text: &str| {
            let config =
                read(&[("WARREN_SOCKET", "/s"), ("HOME", "/"), ("WARREN_DISPLAY_SIZE", text)]);
            config.expect("complete").display_size
        };
        let number = |text: &str| {
            let config = read(&[("WARREN_SOCKET", "/s"), ("HOME", "/"), ("WARREN_DISPLAY", text)]);
            config.expect("complete").display
        };
        assert_eq!((number("7"), number("x"), number("none")), (Some(7), Some(DISPLAY), None));
        assert_eq!(size("1920x1080x24"), "1920x1080x24");
        for odd in ["", "1920x1080", "0x0x24", "9x9x24", "99999x900x24", "1440x900x24 -ac"] {
            assert_eq!(size(odd), DISPLAY_SIZE, "{odd:?}");
        }
    }
}
