//! Giving a machine back: what the agent leaves in the kernel so that workspaces can do without it.
//!
//! The table, the routing rules, the swap file, the cgroups, the memory for secrets and the mount of
//! the pool outlive the agent on purpose. Here they go, once no container is left. Homes stay, and it is told where.

use std::{fmt, io, path::PathBuf};

use crate::{
    agent::{self, AgentError},
    config::{Config, EngineKind},
    host::{
        self,
        levels::NotEmpty,
        swapfile::{self, SwapConfig, SwapError},
    },
    join,
    network::{self, NetworkError},
    volume::{VolumeError, btrfs::BtrfsStore, choose::HOMES},
};

/// Why a machine could not be given back. The same call goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// An agent runs, on this state or in these cgroups, or its state cannot be used.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Table or rules.
    #[error("the firewall's table and rules could not be removed")]
    Network(#[from] NetworkError),
    /// The swap file.
    #[error("the swap file could not be taken away")]
    Swap(#[from] SwapError),
    /// The pool.
    #[error("the pool could not be unmounted: leave its folders, and run this again")]
    Pool(#[source] VolumeError),
    /// The memory that holds secrets.
    #[error("the memory for secrets could not be unmounted: leave its folder, and run this again")]
    Secrets(#[source] io::Error),
    /// Something of a workspace's runs.
    #[error("{count} processes of workspaces run in {}: remove their containers, or let them be killed: leave --kill", cgroup.display())]
    Inhabited {
        /// Where.
        cgroup: PathBuf,
        /// How many.
        count: usize,
    },
    /// The cgroups.
    #[error("the cgroups cannot be looked at")]
    Cgroups(#[source] io::Error),
}

impl From<NotEmpty> for LeaveError {
    fn from(not: NotEmpty) -> Self {
        match not {
            NotEmpty::Inhabited(found) => {
                Self::Inhabited { cgroup: found.folder, count: found.pids.len() }
            }
            NotEmpty::Unknown(error) => Self::Cgroups(error),
        }
    }
}

/// Where homes are after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Homes {
    /// In folders: `<folder>/<workspace>/home`.
    Folder(PathBuf),
    /// In a filesystem in this file, as `homes/<workspace>/home`; it is not mounted any more.
    Pool(PathBuf),
}

impl fmt::Display for Homes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}/WORKSPACE/home", folder.display()),
            Self::Pool(file) => {
                let file = file.display();
                write!(f, "homes/WORKSPACE/home of {file}; to see them: mount -o loop {file} /mnt")
            }
        }
    }
}

/// Removes what is the agent's in this machine's kernel and says where the homes are; what is gone
/// already is fine. The walls go last. No agent may run, and nothing of a workspace, unless what runs is
/// killed.
///
/// # Errors
/// The first thing that could not be removed.
pub async fn leave(config: &Config, kills: bool) -> Result<Homes, LeaveError> {
    let state = &config.state_dir;
    let _lock = agent::lock(state)?;
    let (pool, parents) = (agent::pool(config)?.filter(BtrfsStore::is_made), parents(config)?);
    let _owner = agent::own(config, &parents).await?;
    let hands = agent::levels(config).map_err(LeaveError::Cgroups)?;
    let levels = hands.below(&parents)?;
    // the walls stand for as long as anything is behind them
    if kills {
        hands.end(&levels).await?
    } else {
        hands.empty(&levels).await?
    }
    let homes = match pool {
        Some(pool) => tokio::task::spawn_blocking(move || pool.close())
            .await
            .map_err(|error| LeaveError::Cgroups(io::Error::other(error)))?
            .map_err(LeaveError::Pool)?,
        None => Homes::Folder(state.join(HOMES)),
    };
    if let Some((membership, _)) = join::membership(state).map_err(AgentError::Join)? {
        agent::vaults(config, &membership).close().map_err(LeaveError::Secrets)?;
    }
    swapfile::settle(&SwapConfig { size: None, ..config.swap.clone() }, state).await?;
    for parent in &parents {
        hands.sweep(parent, |_| false);
        hands.remove(parent).await;
    }
    if config.engine.kind == EngineKind::Docker {
        network::remove().await?;
    }
    Ok(homes)
}

/// Where the engine may have put this node's cgroups: without an engine to ask, either driver's place.
fn parents(config: &Config) -> Result<Vec<String>, AgentError> {
    if let Some(parent) = &config.engine.cgroup_parent {
        return Ok(vec![parent.clone()]);
    }
    let membership = join::membership(&config.state_dir).map_err(AgentError::Join)?;
    let both =
        membership.map(|(membership, _)| host::cgroup_parents(None, membership.name.as_str()));
    Ok(both.unwrap_or_default())
}
