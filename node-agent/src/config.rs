//! The agent's configuration: one TOML file, every option with a default.
//!
//! `deploy/config/node-agent.toml` is the commented example; a test parses it. What the node was
//! given when it joined (its id, certificate, coordinators) is not configuration: it lies in the
//! state folder.

mod network;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use warren_common::{
    Bytes, Limits, NodeName,
    spec::{self, Labels},
};
use warren_daemon::config::{self, ConfigError, InvalidField};
use warren_model::plan::fit::TIER_LABELS;

use crate::volume::choose::{Kind, Size, Wish};

use crate::host::swapfile::SwapConfig;

pub use network::NetworkConfig;
use network::RawNetwork;

/// Where the configuration lies unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/warren/node-agent.toml";
/// Bytes of a socket's path, its end included (`sun_path`, unix(7)).
const SOCKET_PATH_BYTES: usize = 108;

/// Labels that the agent adds: the isolation tiers that an engine may offer.
const TIERS: usize = 2;
/// The least swap file: the kernel takes nothing much below.
const SWAP_MIN: Bytes = Bytes::mib(16);
/// `swapon(2)`.
const SWAP_PRIORITY_MAX: u16 = 32_767;

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
    /// Memory the host keeps for itself; a share of what it has without it.
    pub memory_reserve: Option<Bytes>,
    /// Where homes are kept.
    pub volumes: Wish,
    /// The node's own swap file.
    pub swap: SwapConfig,
    /// The network of workspaces.
    pub network: NetworkConfig,
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
    volumes: RawVolumes,
    swap: RawSwap,
    network: RawNetwork,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawEngine {
    kind: EngineKind,
    socket: PathBuf,
    network_range: String,
    cgroup_parent: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHost {
    memory_reserve: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawVolumes {
    kind: Kind,
    path: Option<PathBuf>,
    size: String,
}

impl Default for RawVolumes {
    fn default() -> Self {
        Self { kind: Kind::Auto, path: None, size: "75%".to_owned() }
    }
}

impl TryFrom<RawVolumes> for Wish {
    type Error = InvalidField;
    fn try_from(raw: RawVolumes) -> Result<Self, InvalidField> {
        let RawVolumes { kind, path, size } = raw;
        if let Some(path) = &path {
            check_path("volumes.path", path)?;
        }
        let size: Size = size
            .parse()
            .map_err(|why| InvalidField::new("volumes.size", format!("is refused: {why}")))?;
        Ok(Self { kind, path: path.map(|path| path.components().collect()), size })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSwap {
    size: Option<String>,
    file: Option<PathBuf>,
    priority: Option<u16>,
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
            volumes: RawVolumes::default(),
            swap: RawSwap::default(),
            network: RawNetwork::default(),
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

impl Config {
    /// Reads a file; without a path the default one, and the defaults where that does not exist.
    ///
    /// # Errors
    /// The file cannot be read, or the first option that cannot be used.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        match path {
            Some(path) => config::load::<RawConfig, Self>(path),
            None => config::load_or_default::<RawConfig, Self>(Path::new(DEFAULT_PATH)),
        }
    }

    /// Returns the agent's own runtime folder, `<runtime_dir>/<node>`.
    pub fn runtime_of(&self, node: &NodeName) -> PathBuf {
        self.runtime_dir.join(node.as_str())
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = InvalidField;
    fn try_from(raw: RawConfig) -> Result<Self, InvalidField> {
        for (field, path) in [
            ("state_dir", &raw.state_dir),
            ("runtime_dir", &raw.runtime_dir),
            ("inside_binary", &raw.inside_binary),
            ("engine.socket", &raw.engine.socket),
        ] {
            check_path(field, path)?;
        }
        let named = raw.name.as_ref().map_or(Limits::NAME_BYTES, String::len);
        check_runtime(&raw.runtime_dir, named)?;
        for address in &raw.coordinators {
            check_address(address)?;
        }
        spec::validate_labels("labels", &raw.labels)
            .map_err(|why| InvalidField::new("labels", format!("is refused: {why}")))?;
        check_labels(&raw.labels)?;
        check_range(&raw.engine.network_range)?;
        raw.engine.cgroup_parent.as_deref().map_or(Ok(()), check_parent)?;
        Ok(Self {
            name: parsed("name", raw.name)?,
            coordinators: raw.coordinators,
            state_dir: raw.state_dir.components().collect(),
            runtime_dir: raw.runtime_dir.components().collect(),
            inside_binary: raw.inside_binary.components().collect(),
            metrics: raw.metrics,
            labels: raw.labels,
            engine: EngineConfig {
                kind: raw.engine.kind,
                socket: raw.engine.socket,
                network_range: raw.engine.network_range,
                cgroup_parent: raw.engine.cgroup_parent,
            },
            memory_reserve: parsed("host.memory_reserve", raw.host.memory_reserve)?,
            volumes: raw.volumes.try_into()?,
            swap: swap(raw.swap, &raw.state_dir)?,
            network: raw.network.try_into()?,
        })
    }
}

/// Tiers are read from the engine; there must be room for them.
fn check_labels(labels: &Labels) -> Result<(), InvalidField> {
    if let Some(key) = labels.keys().find(|key| key.starts_with(TIER_LABELS)) {
        let why = format!("must not hold {key}: isolation tiers are read from the engine");
        return Err(InvalidField::new("labels", why));
    }
    if labels.len() > Limits::LABELS - TIERS {
        let most = Limits::LABELS - TIERS;
        return Err(InvalidField::new("labels", format!("holds more than {most} labels")));
    }
    Ok(())
}

fn parsed<T>(field: &str, text: Option<String>) -> Result<Option<T>, InvalidField>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let refused = |why: T::Err| InvalidField::new(field, format!("is refused: {why}"));
    text.map(|text| text.parse().map_err(refused)).transpose()
}

fn check_path(field: &str, path: &Path) -> Result<(), InvalidField> {
    if !path.is_absolute() {
        return Err(InvalidField::new(field, "must be an absolute path"));
    }
    // the engine cleans paths before it mounts them, and would then seem to have changed ours
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(InvalidField::new(field, "must not hold '..'"));
    }
    Ok(())
}

/// One cgroup has one name by which other agents are kept out, and is never the whole tree.
fn check_parent(parent: &str) -> Result<(), InvalidField> {
    let refused = |why: &str| Err(InvalidField::new("engine.cgroup_parent", why));
    match parent.split('/').find(|part| matches!(*part, "." | "..")) {
        Some(part) => refused(&format!("must not hold '{part}'")),
        None if parent.trim_matches('/').is_empty() => refused("must name a cgroup"),
        None => Ok(()),
    }
}

fn swap(raw: RawSwap, state_dir: &Path) -> Result<SwapConfig, InvalidField> {
    let size: Option<Bytes> = parsed("swap.size", raw.size)?;
    let size = size.filter(|size| *size > Bytes(0));
    if size.is_some_and(|size| size < SWAP_MIN) {
        return Err(InvalidField::new("swap.size", format!("must be 0 or at least {SWAP_MIN}")));
    }
    let file = raw.file.unwrap_or_else(|| state_dir.join("swapfile"));
    if !file.is_absolute() {
        return Err(InvalidField::new("swap.file", "must be an absolute path"));
    }
    if raw.priority.is_some_and(|priority| priority > SWAP_PRIORITY_MAX) {
        let why = format!("must be at most {SWAP_PRIORITY_MAX}");
        return Err(InvalidField::new("swap.priority", why));
    }
    Ok(SwapConfig { size, file, priority: raw.priority })
}

/// Sockets lie at `<runtime_dir>/<node>/<workspace id>/agent.sock`.
fn check_runtime(dir: &Path, node: usize) -> Result<(), InvalidField> {
    let below = 1 + node + 1 + 36 + "/agent.sock".len() + 1;
    let most = SOCKET_PATH_BYTES.saturating_sub(below);
    match dir.as_os_str().len() <= most {
        true => Ok(()),
        false => Err(InvalidField::new(
            "runtime_dir",
            format!("must have at most {most} characters, or sockets below it cannot be dialled"),
        )),
    }
}

fn check_address(address: &str) -> Result<(), InvalidField> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(port) if port > 0 => Ok(()),
        Some(_) | None => Err(InvalidField::new(
            "coordinators",
            format!("holds {address:?}, which is not of the form host:port"),
        )),
    }
}

fn check_range(text: &str) -> Result<(), InvalidField> {
    let range = text.split_once('/').and_then(|(address, prefix)| {
        Some((address.parse::<Ipv4Addr>().ok()?, prefix.parse::<u32>().ok()?))
    });
    match range {
        Some((address, prefix @ 8..=28)) if u32::from(address) << prefix == 0 => Ok(()),
        Some(_) | None => Err(InvalidField::new(
            "engine.network_range",
            "must be an IPv4 range of /8 to /28, such as 10.213.0.0/16",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("node-agent.toml");
        std::fs::write(&path, text).expect("written");
        Config::load(Some(&path))
    }

    const EXAMPLE: &str = include_str!("../../deploy/config/node-agent.toml");

    #[test]
    fn the_shipped_example_says_the_defaults() {
        assert_eq!(parse(EXAMPLE).expect("the example"), parse("").expect("the defaults"));
    }

    #[test]
    fn every_option_of_the_example_can_be_set() {
        // the optional ones stand there as comments: `#= key = value`
        let set = EXAMPLE.replace("#= ", "");
        let config = parse(&set).expect("the example with its optional lines");
        assert!(config.name.is_some() && !config.coordinators.is_empty());
        assert!(config.engine.cgroup_parent.is_some() && !config.labels.is_empty());
        assert!(config.memory_reserve.is_some() && config.volumes.path.is_some());
        assert!(config.swap.size.is_some() && config.swap.priority.is_some());
        assert_ne!(config.swap.file, config.state_dir.join("swapfile"));
        assert!(!config.network.resolvers.is_empty());
    }

    #[test]
    fn odd_options_are_named() {
        for (text, word) in [
            ("nmae = 'x'", "nmae"),
            ("name = 'A b'", "name is refused"),
            ("coordinators = ['nowhere']", "coordinators holds"),
            ("coordinators = ['h:0']", "coordinators holds"),
            ("state_dir = 'relative'", "state_dir must"),
            ("inside_binary = '/a/../b'", "inside_binary must not hold"),
            ("engine.network_range = '10.213.0.1/16'", "network_range must"),
            ("engine.network_range = '10.213.0.0/30'", "network_range must"),
            ("engine.kind = 'podman'", "podman"),
            ("engine.cgroup_parent = './warren'", "cgroup_parent must not hold '.'"),
            ("engine.cgroup_parent = '/a/../warren'", "cgroup_parent must not hold '..'"),
            ("engine.cgroup_parent = '/'", "cgroup_parent must name"),
            ("labels = {'warren.tier.gvisor' = 'yes'}", "read from the engine"),
            ("host.memory_reserve = 'some'", "memory_reserve is refused"),
            ("volumes.kind = 'zfs'", "zfs"),
            ("volumes.path = 'pool'", "volumes.path must be"),
            ("volumes.size = '120%'", "volumes.size is refused"),
            ("swap.size = '1M'", "swap.size must"),
            ("swap.file = 'here'", "swap.file must"),
            ("swap.priority = 40000", "swap.priority must"),
            ("network.connections = 0", "network.connections must"),
            ("network.dns_port = 0", "network.dns_port must"),
            ("network.resolvers = ['x']", "resolvers"),
            ("network.resolvers = ['1.1.1.1', '1.1.1.2', '1.1.1.3', '1.1.1.4']", "at most"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_runtime_folder_at_the_limit_and_one_past_it() {
        let text = |length: usize| format!("name = 'n1'\nruntime_dir = '/{}'", "x".repeat(length));
        let most = SOCKET_PATH_BYTES - 1 - "/n1/".len() - 36 - "/agent.sock".len();
        assert!(parse(&text(most - 1)).is_ok());
        assert!(parse(&text(most)).is_err());
    }
}
