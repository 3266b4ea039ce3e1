//! The agent's configuration: one TOML file, every option with a default.
//!
//! `deploy/config/node-agent.toml` is the commented example; a test parses it. What the node was
//! given when it joined (its id, certificate, coordinators) is not configuration: it lies in the
//! state folder.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use warren_common::{
    Bytes, Limits, NodeName,
    name::InvalidName,
    spec::{self, Labels},
    units::InvalidAmount,
};

/// Where the configuration lies unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/warren/node-agent.toml";

/// Why a configuration cannot be used. Each names the option.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML, or names an option that does not exist.
    #[error("the configuration {} is malformed", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// `name` breaks the rule for names.
    #[error("name: {0}")]
    Name(#[source] InvalidName),
    /// An entry of `coordinators` is not host:port.
    #[error("coordinators: {0:?} is not of the form host:port")]
    Coordinator(String),
    /// Not an IPv4 range, or too small for one workspace.
    #[error("engine.network_range: {0:?} is not an IPv4 range of /8 to /28, such as 10.213.0.0/16")]
    NetworkRange(String),
    /// Not an amount.
    #[error("host.memory_reserve: {0}")]
    MemoryReserve(#[source] InvalidAmount),
    /// A folder or file that is not absolute.
    #[error("{option}: {} is not an absolute path", path.display())]
    Relative {
        /// The option.
        option: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// The runtime folder's sockets would not fit into a socket address.
    #[error(
        "runtime_dir: {} is too long: a socket's path below it has at most 107 bytes",
        path.display()
    )]
    RuntimeTooLong {
        /// Its value.
        path: PathBuf,
    },
    /// Labels beyond their bounds.
    #[error("labels: {0}")]
    Labels(#[source] spec::InvalidSpec),
}

/// Which engine runs the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Docker, over its unix socket.
    Docker,
    /// Nothing runs; for tests of everything else.
    Fake,
}

/// The validated configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name the node asks for when it joins; the host's without it.
    pub name: Option<NodeName>,
    /// Coordinators to try besides those remembered from joining, host:port.
    pub coordinators: Vec<String>,
    /// What must survive a reboot.
    pub state_dir: PathBuf,
    /// What need not; the agent's own folder, named after the node, is made below it.
    pub runtime_dir: PathBuf,
    /// The static binary that becomes PID 1 of each workspace.
    pub inside_binary: PathBuf,
    /// Where metrics are served; port 0 takes a free one.
    pub metrics: SocketAddr,
    /// Labels that placement can ask for.
    pub labels: Labels,
    /// The container engine.
    pub engine: EngineConfig,
    /// Memory the host keeps for itself.
    pub memory_reserve: Bytes,
}

/// The container engine's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Which one.
    pub kind: EngineKind,
    /// Its socket.
    pub socket: PathBuf,
    /// Where workspaces' networks are taken from, such as `10.213.0.0/16`.
    pub network_range: String,
    /// Parent of every container's cgroup, as the engine wants it; made from the node's name
    /// without it.
    pub cgroup_parent: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    name: Option<String>,
    coordinators: Vec<String>,
    state_dir: PathBuf,
    runtime_dir: PathBuf,
    inside_binary: PathBuf,
    metrics: SocketAddr,
    labels: BTreeMap<String, String>,
    engine: RawEngine,
    host: RawHost,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawEngine {
    kind: EngineKind,
    socket: PathBuf,
    network_range: String,
    cgroup_parent: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHost {
    memory_reserve: String,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            name: None,
            coordinators: Vec::new(),
            state_dir: "/var/lib/warren/node".into(),
            runtime_dir: "/run/warren".into(),
            inside_binary: "/usr/lib/warren/warren-inside".into(),
            metrics: SocketAddr::from(([127, 0, 0, 1], 7403)),
            labels: BTreeMap::new(),
            engine: RawEngine::default(),
            host: RawHost::default(),
        }
    }
}

impl Default for RawEngine {
    fn default() -> Self {
        Self {
            kind: EngineKind::Docker,
            socket: "/var/run/docker.sock".into(),
            network_range: "10.213.0.0/16".to_owned(),
            cgroup_parent: None,
        }
    }
}

impl Default for RawHost {
    fn default() -> Self {
        Self { memory_reserve: "512M".to_owned() }
    }
}

impl Config {
    /// Reads a file; without a path the default one, and the defaults where that does not exist.
    ///
    /// # Errors
    /// The first option that cannot be used.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, file),
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                RawConfig::default().validate()
            }
            Err(source) => Err(ConfigError::Read { path: file.to_owned(), source }),
        }
    }

    /// Reads a configuration's text; `path` is for the error alone.
    ///
    /// # Errors
    /// The first option that cannot be used.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        raw.validate()
    }

    /// Returns the agent's own runtime folder, `<runtime_dir>/<node>`.
    pub fn runtime_of(&self, node: &NodeName) -> PathBuf {
        self.runtime_dir.join(node.as_str())
    }
}

impl RawConfig {
    fn validate(self) -> Result<Config, ConfigError> {
        for (option, path) in [
            ("state_dir", &self.state_dir),
            ("runtime_dir", &self.runtime_dir),
            ("inside_binary", &self.inside_binary),
            ("engine.socket", &self.engine.socket),
        ] {
            if !path.is_absolute() {
                return Err(ConfigError::Relative { option, path: path.clone() });
            }
        }
        // <runtime_dir>/<node>/<workspace id>/agent.sock in sun_path
        let below = 1 + Limits::NAME_BYTES + 1 + 36 + "/agent.sock".len();
        let shortest = 1 + 1 + 1 + 36 + "/agent.sock".len();
        let name = self.name.as_ref().map_or(below, |name| shortest + name.len() - 1);
        if self.runtime_dir.as_os_str().len() + name > 107 {
            return Err(ConfigError::RuntimeTooLong { path: self.runtime_dir });
        }
        let name = self.name.map(|name| name.parse()).transpose().map_err(ConfigError::Name)?;
        for address in &self.coordinators {
            check_address(address)?;
        }
        spec::validate_labels("labels", &self.labels).map_err(ConfigError::Labels)?;
        Ok(Config {
            name,
            coordinators: self.coordinators,
            state_dir: self.state_dir,
            runtime_dir: self.runtime_dir,
            inside_binary: self.inside_binary,
            metrics: self.metrics,
            labels: self.labels,
            engine: EngineConfig {
                kind: self.engine.kind,
                socket: self.engine.socket,
                network_range: check_range(self.engine.network_range)?,
                cgroup_parent: self.engine.cgroup_parent,
            },
            memory_reserve: self.host.memory_reserve.parse().map_err(ConfigError::MemoryReserve)?,
        })
    }
}

fn check_address(address: &str) -> Result<(), ConfigError> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(port) if port > 0 => Ok(()),
        Some(_) | None => Err(ConfigError::Coordinator(address.to_owned())),
    }
}

fn check_range(text: String) -> Result<String, ConfigError> {
    let range = text.split_once('/').and_then(|(address, prefix)| {
        Some((address.parse::<Ipv4Addr>().ok()?, prefix.parse::<u32>().ok()?))
    });
    match range {
        Some((address, prefix @ 8..=28)) if u32::from(address) << prefix == 0 => Ok(text),
        Some(_) | None => Err(ConfigError::NetworkRange(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("test.toml"))
    }

    #[test]
    fn the_shipped_example_says_the_defaults() {
        let example = include_str!("../../deploy/config/node-agent.toml");
        assert_eq!(parse(example).expect("the example"), parse("").expect("the defaults"));
    }

    #[test]
    fn every_option_of_the_example_can_be_set() {
        // the optional ones stand there as comments: `# key = value`
        let example = include_str!("../../deploy/config/node-agent.toml");
        let set: String = example
            .lines()
            .map(|line| line.strip_prefix("#= ").unwrap_or(line).to_owned() + "\n")
            .collect();
        let config = parse(&set).expect("the example with its optional lines");
        assert!(config.name.is_some() && !config.coordinators.is_empty());
        assert!(config.engine.cgroup_parent.is_some() && !config.labels.is_empty());
    }

    #[test]
    fn odd_options_are_named() {
        for (text, word) in [
            ("nmae = 'x'", "malformed"),
            ("name = 'A b'", "name"),
            ("coordinators = ['nowhere']", "coordinators"),
            ("coordinators = ['h:0']", "coordinators"),
            ("state_dir = 'relative'", "state_dir"),
            ("engine.network_range = '10.213.0.1/16'", "network_range"),
            ("engine.network_range = '10.213.0.0/30'", "network_range"),
            ("engine.kind = 'podman'", "malformed"),
            ("host.memory_reserve = 'some'", "memory_reserve"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let deep = format!("runtime_dir = '/{}'", "x".repeat(80));
        assert!(matches!(parse(&deep), Err(ConfigError::RuntimeTooLong { .. })));
    }
}
