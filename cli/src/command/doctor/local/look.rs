//! Looking at this machine. A configuration is read here only for where things are: whether it is
//! good is its own daemon's to say.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Daemon, Docker, Looked, Machine, Port, probe};
use crate::command::beside;

/// Which daemon, and what it is called where.
struct Kind {
    program: &'static str,
    /// The option that names the state folder, and the folder without it.
    state: (&'static [&'static str], &'static str),
    /// Files in the state folder that nobody else may read, or folders of them.
    keys: &'static [&'static str],
}

const COORDINATOR: Kind = Kind {
    program: "warren-coordinator",
    state: (&["paths", "state"], "/var/lib/warren/coordinator"),
    keys: &["keys", "identity"],
};

const NODE: Kind = Kind {
    program: "warren-node-agent",
    state: (&["state_dir"], "/var/lib/warren/node"),
    keys: &["identity"],
};

pub(super) async fn machine(coordinator: &Path, node: &Path) -> Machine {
    let socket = match option(node, &["engine", "kind"]).as_deref() {
        None | Some("docker") => Ok(option(node, &["engine", "socket"])),
        Some(other) => Err(format!("the node's engine is {other}")),
    };
    let node = daemon(&NODE, node).await;
    let docker = match (&node, socket) {
        (None, _) => Err("this machine is no node".to_owned()),
        (Some(_), Err(why)) => Err(why),
        (Some(_), Ok(socket)) => {
            docker(Path::new(socket.as_deref().unwrap_or("/var/run/docker.sock"))).await
        }
    };
    let coordinator = daemon(&COORDINATOR, coordinator).await;
    Machine { coordinator, node, docker, cgroup: cgroup(), synchronised: synchronised().await }
}

/// Returns a text of a TOML file; none where file or option is not there.
fn option(config: &Path, path: &[&str]) -> Option<String> {
    let text = fs::read_to_string(config).ok()?;
    let mut value = &toml::from_str::<toml::Value>(&text).ok()?;
    for name in path {
        value = value.get(name)?;
    }
    value.as_str().map(str::to_owned)
}

async fn daemon(kind: &Kind, config: &Path) -> Option<Daemon> {
    let (path, default) = kind.state;
    let state = option(config, path).map_or_else(|| PathBuf::from(default), PathBuf::from);
    if !config.exists() && !state.exists() {
        return None;
    }
    let taken = fs::read_to_string(state.join("addresses.json"));
    let taken: Result<Value, String> = match taken {
        Ok(text) => serde_json::from_str(&text).map_err(|why| why.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err("it has not said where it listens: it was never started".to_owned())
        }
        Err(error) => Err(error.to_string()),
    };
    Some(Daemon {
        configured: configured(kind, config).await,
        config: config.to_owned(),
        state_mode: mode(&state),
        open_to_others: open_to_others(&state, kind.keys),
        free_bytes: free(&state),
        ports: match &taken {
            Ok(taken) => ports(taken).await,
            Err(why) => Err(why.clone()),
        },
        ready: ready(taken).await,
        unit: unit(kind.program).await,
        state,
    })
}

async fn configured(kind: &Kind, config: &Path) -> Looked<Result<(), String>> {
    let mut arguments = vec!["check-config".into()];
    if config.exists() {
        arguments.extend(["--config".into(), config.as_os_str().to_owned()]);
    }
    match probe::program(beside(kind.program), &arguments).await {
        Ok((true, _)) => Ok(Ok(())),
        Ok((false, said)) => Ok(Err(said.trim_start_matches("error: ").to_owned())),
        Err(why) => Err(format!("{} does not start: {why}", kind.program)),
    }
}

fn mode(path: &Path) -> Looked<Option<u32>> {
    match fs::metadata(path) {
        Ok(about) => Ok(Some(about.permissions().mode() & 0o777)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns those of the files that others may use, one folder deep. What is not there is passed
/// over; what cannot be looked at is not.
fn open_to_others(state: &Path, keys: &[&str]) -> Looked<Vec<(String, u32)>> {
    let mut all: Vec<PathBuf> = keys.iter().map(|name| state.join(name)).collect();
    let blind = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    for folder in all.clone() {
        match fs::read_dir(&folder) {
            Ok(inside) => {
                for entry in inside {
                    all.push(entry.map_err(|error| blind(&folder, &error))?.path());
                }
            }
            // it is a file, or is not there
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(blind(&folder, &error)),
        }
    }
    all.sort();
    let mut open = Vec::new();
    for path in all {
        let mode = mode(&path).map_err(|error| blind(&path, &error))?;
        if let Some(mode) = mode.filter(|mode| mode & 0o077 != 0) {
            open.push((path.display().to_string(), mode));
        }
    }
    Ok(open)
}

fn free(path: &Path) -> Looked<u64> {
    let volume = rustix::fs::statvfs(path).map_err(|error| error.to_string())?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

/// Connects to every address the daemon said, but for its metrics, which are read.
async fn ports(taken: &Value) -> Looked<Vec<Port>> {
    let unknown = || format!("what it said of its addresses is not understood: {taken}");
    let mut ports = Vec::new();
    for (name, address) in taken.as_object().ok_or_else(unknown)? {
        match address {
            _ if name == "metrics" => {}
            Value::Null => {}
            Value::String(address) => {
                let open = probe::port(address).await.map(drop);
                ports.push(Port { name: name.clone(), address: address.clone(), open });
            }
            _ => return Err(unknown()),
        }
    }
    Ok(ports)
}

async fn ready(taken: Result<Value, String>) -> Looked<Result<(), String>> {
    let taken = taken?;
    let Some(address) = taken["metrics"].as_str() else {
        return Err("it is configured to serve no metrics".to_owned());
    };
    let page = probe::page(address, "/metrics").await.map(|(status, _)| status);
    Ok(match (page, probe::page(address, "/readyz").await) {
        (Err(why), _) | (_, Err(why)) => Err(format!("{address} does not answer: {why}")),
        (Ok(200), Ok((200, _))) => Ok(()),
        (Ok(200), Ok((_, why))) => Err(format!("it is not ready: {}", why.trim())),
        (Ok(status), _) => Err(format!("{address} answers {status} for its metrics")),
    })
}

fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

async fn unit(name: &str) -> Looked<String> {
    if !has_systemd() {
        return Err("this machine has no systemd".to_owned());
    }
    let (_, said) = probe::program("systemctl", &["is-active", name]).await?;
    Ok(said)
}

async fn docker(socket: &Path) -> Looked<Docker> {
    let unreachable = |why: String| Docker::Unreachable(format!("{}: {why}", socket.display()));
    let (status, text) = match probe::page_of_socket(socket, "/info").await {
        Ok(answer) => answer,
        Err(why) => return Ok(unreachable(why)),
    };
    if status != 200 {
        return Ok(unreachable(format!("it answers {status}")));
    }
    let info: Value = serde_json::from_str(&text).map_err(|why| why.to_string())?;
    let version = info["ServerVersion"].as_str().unwrap_or("unknown").to_owned();
    let live_restore = info["LiveRestoreEnabled"].as_bool().unwrap_or(false);
    Ok(Docker::Reachable { version, live_restore })
}

fn cgroup() -> Looked<u8> {
    let root = Path::new("/sys/fs/cgroup");
    match (root.join("cgroup.controllers").exists(), root.is_dir()) {
        (true, _) => Ok(2),
        (false, true) => Ok(1),
        (false, false) => Err("/sys/fs/cgroup is not mounted".to_owned()),
    }
}

async fn synchronised() -> Looked<bool> {
    if !has_systemd() {
        return Err("this machine has no systemd to ask for it".to_owned());
    }
    let asked = ["show", "--property=NTPSynchronized", "--value"];
    match probe::program("timedatectl", &asked).await? {
        (true, said) if said == "yes" => Ok(true),
        (true, said) if said == "no" => Ok(false),
        (_, said) => Err(format!("timedatectl says {said:?}")),
    }
}
