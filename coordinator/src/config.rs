//! The coordinator's configuration: one TOML file, validated once, never read again.
//!
//! [`RawConfig`] is the file as written, with every default; [`Config`] is what the rest of the
//! coordinator may rely on. `deploy/config/coordinator.toml` shows every option with its unit.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use warren_common::{
    Bytes, Limits, MilliCpus,
    spec::{InvalidResources, Resources},
    units::InvalidAmount,
};

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
    template: RawTemplate,
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
struct RawLog {
    filter: String,
    format: String,
}

impl Default for RawLog {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: "text".to_owned() }
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
    /// What a workspace gets by default.
    pub template: TemplateDefaults,
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
    /// Lines of JSON instead of text.
    pub json: bool,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or names an option that does not exist.
    #[error("configuration is malformed: {0}")]
    Parse(String),
    /// An address is not `ip:port`.
    #[error("[{section}] {option} = {text:?} is not of the form {form}")]
    Address {
        /// The table.
        section: &'static str,
        /// The option.
        option: &'static str,
        /// What was written.
        text: String,
        /// What was expected.
        form: &'static str,
    },
    /// A folder or socket that is not absolute.
    #[error("[paths] {option} = {} is not an absolute path", path.display())]
    Path {
        /// The option.
        option: &'static str,
        /// What was written.
        path: PathBuf,
    },
    /// Timings that would not elect a stable leader.
    #[error(
        "[raft] needs heartbeat_ms x 2 <= election_min_ms < election_max_ms <= 60000 and \
         rpc_ms < election_min_ms, all above 0"
    )]
    Timings,
    /// Zero entries between checkpoints.
    #[error("[raft] checkpoint_entries = {0} is not between 100 and 1000000")]
    Checkpoint(u64),
    /// An amount that is none.
    #[error("[template] {option}: {source}")]
    Amount {
        /// The option.
        option: &'static str,
        /// Why.
        #[source]
        source: InvalidAmount,
    },
    /// Default caps that no workspace could have.
    #[error("[template] makes impossible workspaces: {0}")]
    Resources(#[from] InvalidResources),
    /// An image that is empty or longer than the bound.
    #[error("[template] image is empty or longer than {limit} bytes", limit = Limits::LABEL_BYTES)]
    Image,
    /// Neither text nor JSON.
    #[error("[log] format = {0:?} is neither \"text\" nor \"json\"")]
    LogFormat(String),
}

impl Config {
    /// Reads and validates `path`; a missing file at [`DEFAULT_PATH`] means the defaults.
    ///
    /// # Errors
    /// Returns the first thing that is wrong, naming table and option.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&text),
            Err(source) if path.is_none() && source.kind() == std::io::ErrorKind::NotFound => {
                Self::try_from(RawConfig::default())
            }
            Err(source) => Err(ConfigError::Read { path: file.to_owned(), source }),
        }
    }

    /// Validates the text of a configuration.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let raw: RawConfig =
            toml::from_str(text).map_err(|error| ConfigError::Parse(error.to_string()))?;
        Self::try_from(raw)
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
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
            template: template(raw.template)?,
            log: LogConfig { filter: raw.log.filter, json: json(&raw.log.format)? },
        })
    }
}

fn listen(option: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::Address {
        section: "listen",
        option,
        text: text.to_owned(),
        form: "ip:port, such as 0.0.0.0:7400",
    })
}

fn advertise(option: &'static str, text: String) -> Result<Option<String>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    if is_host_port(&text) {
        return Ok(Some(text));
    }
    let form = "host:port, such as vps1.example:7400";
    Err(ConfigError::Address { section: "advertise", option, text, form })
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

fn absolute(option: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    if path.is_absolute() { Ok(path) } else { Err(ConfigError::Path { option, path }) }
}

fn timings(raw: &RawRaft) -> Result<RaftTimings, ConfigError> {
    let ordered = raw.heartbeat_ms > 0
        && raw.rpc_ms > 0
        && raw.rpc_ms < raw.election_min_ms
        && raw.heartbeat_ms.saturating_mul(2) <= raw.election_min_ms
        && raw.election_min_ms < raw.election_max_ms
        && raw.election_max_ms <= 60_000;
    if !ordered {
        return Err(ConfigError::Timings);
    }
    if !(100..=1_000_000).contains(&raw.checkpoint_entries) {
        return Err(ConfigError::Checkpoint(raw.checkpoint_entries));
    }
    Ok(RaftTimings {
        heartbeat: Duration::from_millis(raw.heartbeat_ms),
        election_min: Duration::from_millis(raw.election_min_ms),
        election_max: Duration::from_millis(raw.election_max_ms),
        rpc: Duration::from_millis(raw.rpc_ms),
        checkpoint_entries: raw.checkpoint_entries,
    })
}

fn template(raw: RawTemplate) -> Result<TemplateDefaults, ConfigError> {
    let bytes = |option, text: &str| {
        text.parse::<Bytes>().map_err(|source| ConfigError::Amount { option, source })
    };
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
        let cpus = cpus.map_err(|source| ConfigError::Amount { option: "cpus", source })?;
        resources.cpus = Some(cpus);
    }
    resources.validate()?;
    if raw.image.trim().is_empty() || raw.image.len() > Limits::LABEL_BYTES {
        return Err(ConfigError::Image);
    }
    let command = (!raw.command.is_empty()).then_some(raw.command);
    Ok(TemplateDefaults { image: raw.image, resources, reserve_is_set, command })
}

fn json(format: &str) -> Result<bool, ConfigError> {
    match format {
        "text" => Ok(false),
        "json" => Ok(true),
        other => Err(ConfigError::LogFormat(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../deploy/config/coordinator.toml");

    #[test]
    fn the_shipped_example_is_the_defaults() {
        let shipped = Config::parse(SHIPPED).expect("the shipped example");
        let default = Config::try_from(RawConfig::default()).expect("the defaults");
        assert_eq!(format!("{shipped:?}"), format!("{default:?}"));
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let error = Config::parse("[listen]\nadi = \"x\"").expect_err("unknown");
        assert!(error.to_string().contains("adi"), "{error}");
    }

    #[test]
    fn wrong_values_name_their_option() {
        for (text, part) in [
            ("[listen]\napi = \"localhost\"", "api"),
            ("[advertise]\napi = \"host\"", "host:port"),
            ("[advertise]\napi = \"host:0\"", "host:port"),
            ("[paths]\nstate = \"here\"", "absolute"),
            ("[raft]\nheartbeat_ms = 400", "heartbeat_ms"),
            ("[raft]\nrpc_ms = 500", "rpc_ms"),
            ("[raft]\ncheckpoint_entries = 1", "checkpoint_entries"),
            ("[template]\nmemory = \"much\"", "memory"),
            ("[template]\nmemory = \"1M\"", "--memory"),
            ("[template]\nimage = \"\"", "image"),
            ("[log]\nformat = \"xml\"", "xml"),
        ] {
            let error = Config::parse(text).expect_err(text);
            assert!(error.to_string().contains(part), "{text}: {error}");
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
