//! What can go wrong between the agent and its container engine, in words for people.
//!
//! Each error has a stable code for reports, says whether trying again without a change can help,
//! and where a person must act, what to do. The agent copies these into `RunState::Failed`.

use std::time::Duration;

use warren_common::image::Flavour;

use crate::container::Drift;

/// An engine call that did not do what was asked. `Display` is one sentence; the cause, where
/// there is one, is the source.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing answers on the engine's socket.
    #[error("the container engine does not answer on {address}")]
    Unreachable {
        /// The address that was tried.
        address: String,
        /// What the connection said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine is older than Warren can use.
    #[error("Docker {version} is too old: 20.10 is the least")]
    TooOld {
        /// The version it gave.
        version: String,
    },
    /// A call took longer than its deadline; whether it took effect is unknown.
    #[error("{operation} did not end within {} s", after.as_secs())]
    Timeout {
        /// What was being done.
        operation: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The image is neither here nor to be had.
    #[error("image {image} is not on this node and could not be pulled: {detail}")]
    ImageMissing {
        /// The image as asked for.
        image: String,
        /// What the registry or the engine said.
        detail: String,
    },
    /// The container, image or network named does not exist.
    #[error("{operation}: {detail}")]
    NotFound {
        /// What was being done.
        operation: &'static str,
        /// What the engine said.
        detail: String,
    },
    /// Something else holds the name, the address range or the object.
    #[error("{operation}: {detail}")]
    Conflict {
        /// What was being done.
        operation: &'static str,
        /// What the engine said.
        detail: String,
    },
    /// The engine made something else than the plan; the container was removed again.
    #[error(
        "container {container} drifted from its specification and was removed: {}",
        Drift::list(drifts)
    )]
    Drifted {
        /// The container's name.
        container: String,
        /// The fields that differ.
        drifts: Vec<Drift>,
    },
    /// No /28 is left in the node's range.
    #[error("no address range is left in {range} for another workspace network")]
    NoSubnet {
        /// The node's range.
        range: String,
    },
    /// The engine's disk is full.
    #[error("{operation}: no space is left on the engine's disk")]
    DiskFull {
        /// What was being done.
        operation: &'static str,
    },
    /// The engine understood and refused: the same again would be refused again.
    #[error("{operation}: the engine refused: {detail}")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// What the engine said.
        detail: String,
    },
    /// The engine tried and failed.
    #[error("{operation}: {detail}")]
    Failed {
        /// What was being done.
        operation: &'static str,
        /// What the engine said.
        detail: String,
    },
}

impl EngineError {
    /// Returns the stable code for `RunState::Failed`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "ENGINE_UNREACHABLE",
            Self::TooOld { .. } => "ENGINE_TOO_OLD",
            Self::Timeout { .. } => "ENGINE_TIMEOUT",
            Self::ImageMissing { .. } => "IMAGE_MISSING",
            Self::NotFound { .. } => "ENGINE_NOT_FOUND",
            Self::Conflict { .. } => "ENGINE_CONFLICT",
            Self::Drifted { .. } => "CONTAINER_DRIFTED",
            Self::NoSubnet { .. } => "NO_SUBNET",
            Self::DiskFull { .. } => "DISK_FULL",
            Self::Refused { .. } => "ENGINE_REFUSED",
            Self::Failed { .. } => "ENGINE_FAILED",
        }
    }

    /// Returns whether the same call can succeed later without anybody changing the order.
    pub const fn retry(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TooOld { .. }
            | Self::Timeout { .. }
            | Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::NoSubnet { .. }
            | Self::DiskFull { .. }
            | Self::Failed { .. } => true,
            Self::ImageMissing { .. } | Self::Drifted { .. } | Self::Refused { .. } => false,
        }
    }

    /// Returns what a person can do about it, where a person must.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => {
                Some("start Docker (systemctl start docker), or set the engine's socket".to_owned())
            }
            Self::TooOld { .. } => Some("upgrade Docker to 20.10 or newer".to_owned()),
            Self::ImageMissing { image, .. } => Some(image_missing(image)),
            Self::NoSubnet { .. } => {
                Some("give the node a larger range, or remove workspaces from it".to_owned())
            }
            Self::DiskFull { .. } => {
                Some("free space on the engine's disk (docker system df)".to_owned())
            }
            Self::Drifted { .. } => {
                Some("see the engine's version and settings: it changed what was asked".to_owned())
            }
            Self::Timeout { .. }
            | Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::Refused { .. }
            | Self::Failed { .. } => None,
        }
    }
}

/// Says how an image comes to be on the node: Warren's own are built there.
fn image_missing(image: &str) -> String {
    let build = match Flavour::ALL.into_iter().find(|flavour| flavour.tag() == image) {
        Some(flavour) => format!("run warren image build --flavour {flavour} on the node"),
        None => format!("build {image} on the node"),
    };
    format!("{build}, or load it there (docker load, docker pull), then restart the workspace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_builds_a_missing_image_is_said_where_it_is_one_of_warrens_own() {
        let next = |image: &str| {
            let image = image.to_owned();
            EngineError::ImageMissing { image, detail: String::new() }.next().expect("advice")
        };
        for flavour in Flavour::ALL {
            let command = format!("warren image build --flavour {flavour} on the node");
            assert!(next(flavour.tag()).contains(&command), "{}", next(flavour.tag()));
        }
        assert!(next("agents:2").starts_with("build agents:2 on the node, or load it there"));
    }
}
