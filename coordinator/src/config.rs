//! The coordinator's configuration: one TOML file, validated once, never read again.
//!
//! [`RawConfig`] is the file as written, with every default; [`Config`] is what the rest of the
//! coordinator may rely on. `deploy/config/coordinator.toml` shows every option with its unit.

use std::{
    fmt::Display,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use warren_common::{Bytes, Limits, MilliCpus, spec::Resources};
use warren_daemon::{
    config::{self, ConfigError, InvalidField},
    telemetry::LogFormat,
};

use crate::{install::InstallPaths, store::Engine};

/// Where the configuration is looked for unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/warren/coordinator.toml";

/// The file as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    listen: RawListen,
    advertise: RawAdvertise,
    paths: RawPaths,
    raft: RawRaft,
    storage: RawStorage,
    template: RawTemplate,
    install: RawInstall,
    log: RawLog,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawListen {
    api: String,
    raft: String,
    metrics: String,
}

impl Default for RawListen {
    fn default() -> Self {
        Self {
            api: "0.0.0.0:7400".to_owned(),
            raft: "0.0.0.0:7401".to_owned(),
            metrics: "127.0.0.1:7402".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAdvertise {
    api: String,
    raft: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPaths {
    state: PathBuf,
    socket: PathBuf,
}

impl Default for RawPaths {
    fn default() -> Self {
        Self {
            state: "/var/lib/warren/coordinator".into(),
            socket: "/run/warren/coordinator.sock".into(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRaft {
    heartbeat_ms: u64,
    election_min_ms: u64,
    election_max_ms: u64,
    rpc_ms: u64,
    checkpoint_entries: u64,
}

impl Default for RawRaft {
    fn default() -> Self {
        Self {
            heartbeat_ms: 150,
            election_min_ms: 500,
            election_max_ms: 1000,
            rpc_ms: 400,
            checkpoint_entries: 5000,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStorage {
    engine: String,
}

impl Default for RawStorage {
    fn default() -> Self {
        Self { engine: Engine::default().to_string() }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTemplate {
    image: String,
    memory: String,
    reserve: String,
    swap: String,
    disk: String,
    cpu_weight: u32,
    cpus: String,
    pids: u32,
    command: String,
}

impl Default for RawTemplate {
    fn default() -> Self {
        Self {
            image: "warren-workspace:latest".to_owned(),
            memory: "2G".to_owned(),
            reserve: String::new(),
            swap: "0".to_owned(),
            disk: "20G".to_owned(),
            cpu_weight: 1024,
            cpus: String::new(),
            pids: 1024,
            command: String::new(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawInstall {
    agent: String,
    inside: String,
    image: PathBuf,
}

impl Default for RawInstall {
    fn default() -> Self {
        let image = "/var/lib/warren/install/workspace-image.tar".into();
        Self { agent: String::new(), inside: String::new(), image }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLog {
    filter: String,
    format: String,
}

impl Default for RawLog {
    fn default() -> Self {
        Self { filter: "info,openraft=warn,sled=warn".to_owned(), format: "text".to_owned() }
    }
}

/// A validated configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Where others are told to come.
    pub advertise: Advertise,
    /// Everything that must survive.
    pub state_dir: PathBuf,
    /// The local socket.
    pub socket: PathBuf,
    /// Raft's timings.
    pub raft: RaftTimings,
    /// Which database keeps the log.
    pub engine: Engine,
    /// What a workspace gets by default.
    pub template: TemplateDefaults,
    /// What new servers are given to become nodes.
    pub install: InstallPaths,
    /// What is logged.
    pub log: LogConfig,
}

/// Where to listen; port 0 takes a free one.
#[derive(Debug, Clone)]
pub struct Listen {
    /// People's tools and node agents.
    pub api: SocketAddr,
    /// The other coordinators.
    pub raft: SocketAddr,
    /// Prometheus; none without it.
    pub metrics: Option<SocketAddr>,
}

/// host:port as others reach this coordinator; none: derived from where it listens.
#[derive(Debug, Clone, Default)]
pub struct Advertise {
    /// For people's tools and node agents.
    pub api: Option<String>,
    /// For the other coordinators.
    pub raft: Option<String>,
}

/// Raft's timings.
#[derive(Debug, Clone, Copy)]
pub struct RaftTimings {
    /// Between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// Least silence before an election.
    pub election_min: Duration,
    /// Most silence before an election.
    pub election_max: Duration,
    /// Connecting and one call together.
    pub rpc: Duration,
    /// Log entries between two checkpoints.
    pub checkpoint_entries: u64,
}

/// What a workspace gets where its request says nothing.
#[derive(Debug, Clone)]
pub struct TemplateDefaults {
    /// The container image.
    pub image: String,
    /// Caps and weights.
    pub resources: Resources,
    /// Whether the file names a reserve; otherwise it follows the cap.
    pub reserve_is_set: bool,
    /// Command line of the session `main`; a login shell without it.
    pub command: Option<String>,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// A level or directives.
    pub filter: String,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
}

impl Config {
    /// Reads and validates `path`; without one, [`DEFAULT_PATH`], where a missing file means the
    /// defaults.
    ///
    /// # Errors
    /// Returns the first thing that is wrong, naming file, table and option.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        match path {
            Some(path) => config::load::<RawConfig, Self>(path),
            None => config::load_or_default::<RawConfig, Self>(Path::new(DEFAULT_PATH)),
        }
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = InvalidField;

    fn try_from(raw: RawConfig) -> Result<Self, InvalidField> {
        let metrics = match raw.listen.metrics.as_str() {
            "" => None,
            text => Some(listen("metrics", text)?),
        };
        Ok(Self {
            listen: Listen {
                api: listen("api", &raw.listen.api)?,
                raft: listen("raft", &raw.listen.raft)?,
                metrics,
            },
            advertise: Advertise {
                api: advertise("api", raw.advertise.api)?,
                raft: advertise("raft", raw.advertise.raft)?,
            },
            state_dir: absolute("state", raw.paths.state)?,
            socket: absolute("socket", raw.paths.socket)?,
            raft: timings(&raw.raft)?,
            engine: engine(&raw.storage.engine)?,
            template: template(raw.template)?,
            install: install(raw.install)?,
            log: LogConfig { filter: raw.log.filter, format: format(&raw.log.format)? },
        })
    }
}

fn listen(option: &'static str, text: &str) -> Result<SocketAddr, InvalidField> {
    text.parse().map_err(|_| {
        let why = format!("is {text:?}, not of the form ip:port, such as 0.0.0.0:7400");
        InvalidField::new(format!("listen.{option}"), why)
    })
}

fn advertise(option: &'static str, text: String) -> Result<Option<String>, InvalidField> {
    if text.is_empty() {
        return Ok(None);
    }
    if is_host_port(&text) {
        return Ok(Some(text));
    }
    let why = format!("is {text:?}, not of the form host:port, such as vps1.example:7400");
    Err(InvalidField::new(format!("advertise.{option}"), why))
}

/// Returns whether `text` is `host:port` with a port that can be dialled.
pub fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.chars().all(plain),
    };
    host_fits && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn absolute(option: &'static str, path: PathBuf) -> Result<PathBuf, InvalidField> {
    if path.is_absolute() {
        return Ok(path);
    }
    let why = format!("is {}, not an absolute path", path.display());
    Err(InvalidField::new(format!("paths.{option}"), why))
}

fn timings(raw: &RawRaft) -> Result<RaftTimings, InvalidField> {
    let refused = |option: &str, why: &str| InvalidField::new(format!("raft.{option}"), why);
    if raw.heartbeat_ms == 0 || raw.heartbeat_ms.saturating_mul(2) > raw.election_min_ms {
        return Err(refused("heartbeat_ms", "must be at least 1 and at most half election_min_ms"));
    }
    if raw.election_min_ms >= raw.election_max_ms || raw.election_max_ms > 60_000 {
        return Err(refused("election_max_ms", "must be above election_min_ms, at most 60000"));
    }
    if raw.rpc_ms == 0 || raw.rpc_ms >= raw.election_min_ms {
        return Err(refused("rpc_ms", "must be at least 1 and below election_min_ms"));
    }
    if !(100..=1_000_000).contains(&raw.checkpoint_entries) {
        return Err(refused("checkpoint_entries", "must be between 100 and 1000000"));
    }
    Ok(RaftTimings {
        heartbeat: Duration::from_millis(raw.heartbeat_ms),
        election_min: Duration::from_millis(raw.election_min_ms),
        election_max: Duration::from_millis(raw.election_max_ms),
        rpc: Duration::from_millis(raw.rpc_ms),
        checkpoint_entries: raw.checkpoint_entries,
    })
}

fn install(raw: RawInstall) -> Result<InstallPaths, InvalidField> {
    let path = |option: &str, text: String| match text.as_str() {
        "" => Ok(None),
        path if Path::new(path).is_absolute() => Ok(Some(PathBuf::from(path))),
        other => {
            let why = format!("is {other}, not an absolute path");
            Err(InvalidField::new(format!("install.{option}"), why))
        }
    };
    let image = path("image", raw.image.display().to_string())?.unwrap_or_default();
    Ok(InstallPaths {
        agent: path("agent", raw.agent)?,
        inside: path("inside", raw.inside)?,
        image,
    })
}

fn engine(text: &str) -> Result<Engine, InvalidField> {
    text.parse()
        .map_err(|error| InvalidField::new("storage.engine", format!("is refused: {error}")))
}

fn template(raw: RawTemplate) -> Result<TemplateDefaults, InvalidField> {
    let refused = |option: &str, why: &dyn Display| {
        InvalidField::new(format!("template.{option}"), format!("is refused: {why}"))
    };
    let bytes = |option, text: &str| text.parse::<Bytes>().map_err(|error| refused(option, &error));
    let mut resources = Resources::with_memory(bytes("memory", &raw.memory)?);
    let reserve_is_set = !raw.reserve.is_empty();
    if reserve_is_set {
        resources.reserve = bytes("reserve", &raw.reserve)?;
    }
    resources.swap = bytes("swap", &raw.swap)?;
    resources.disk = bytes("disk", &raw.disk)?;
    resources.cpu_weight = raw.cpu_weight;
    resources.pids = raw.pids;
    if !raw.cpus.is_empty() {
        let cpus = raw.cpus.parse::<MilliCpus>();
        resources.cpus = Some(cpus.map_err(|error| refused("cpus", &error))?);
    }
    resources.validate().map_err(|error| refused("*", &error))?;
    if raw.image.trim().is_empty() || raw.image.len() > Limits::LABEL_BYTES {
        return Err(refused("image", &"it is empty or too long"));
    }
    let command = (!raw.command.is_empty()).then_some(raw.command);
    Ok(TemplateDefaults { image: raw.image, resources, reserve_is_set, command })
}

fn format(text: &str) -> Result<LogFormat, InvalidField> {
    text.parse().map_err(|error| InvalidField::new("log.format", format!("is refused: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../deploy/config/coordinator.toml");

    fn parse(text: &str) -> Result<Config, String> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        Config::try_from(raw).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn the_shipped_example_is_the_defaults() {
        let shipped = parse(SHIPPED).expect("the shipped example");
        let default = parse("").expect("the defaults");
        assert_eq!(format!("{shipped:?}"), format!("{default:?}"));
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let error = parse("[listen]\nadi = \"x\"").expect_err("unknown");
        assert!(error.contains("adi"), "{error}");
    }

    #[test]
    fn wrong_values_name_their_option() {
        for (text, part) in [
            ("[listen]\napi = \"localhost\"", "listen.api"),
            ("[advertise]\napi = \"host\"", "advertise.api"),
            ("[advertise]\napi = \"host:0\"", "host:port"),
            ("[paths]\nstate = \"here\"", "paths.state"),
            ("[raft]\nheartbeat_ms = 400", "raft.heartbeat_ms"),
            ("[raft]\nrpc_ms = 500", "raft.rpc_ms"),
            ("[raft]\ncheckpoint_entries = 1", "raft.checkpoint_entries"),
            ("[storage]\nengine = \"rocksdb\"", "storage.engine"),
            ("[storage]\nengine = \"Sled\"", "no storage engine"),
            ("[template]\nmemory = \"much\"", "template.memory"),
            ("[template]\nmemory = \"1M\"", "--memory"),
            ("[template]\nimage = \"\"", "template.image"),
            ("[log]\nformat = \"xml\"", "log.format"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn hosts_and_ports_are_told_from_other_texts() {
        for good in ["127.0.0.1:7400", "vps1.example:1", "[::1]:7400"] {
            assert!(is_host_port(good), "{good}");
        }
        for odd in ["", ":1", "a", "a:", "a:0", "a:99999", "a b:1", "http://a:1", "::1:7400"] {
            assert!(!is_host_port(odd), "{odd}");
        }
    }
}
