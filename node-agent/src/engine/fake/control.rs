//! How a test tells the fake engine what to do: one JSON file, read anew at each use.
//!
//! ```json
//! {
//!   "fail":  { "create": { "code": "ENGINE_FAILED", "message": "told to", "times": 2 } },
//!   "slow_ms": { "start": 500 },
//!   "missing_images": ["nowhere:latest"],
//!   "images": { "agents:1": "sha256:00" },
//!   "drift": { "acme/web": 1 },
//!   "exit": { "acme/web": { "run": 1, "exit_code": 137, "oom": true } },
//!   "elsewhere": ["acme/web"]
//! }
//! ```
//! Operations are named as the trait's methods. A failure without `times` lasts until the file
//! changes. Two are no methods: where `keep_networks` fails, a start finds the networks gone, and
//! `answer_update` is what an update does after it took effect. An
//! exit or a drift (of its memory cap) names the run it is of, so that the next run lives. The PID 1
//! of a workspace that is `elsewhere` is the test's own: none is played here.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde::Deserialize;

use crate::{
    container::{ContainerPlan, Drift},
    engine::{ContainerSeen, EngineError, ImageSeen},
};

/// Name of the file in the engine's folder.
pub const FILE: &str = "control.json";

/// What the file says; nothing where there is none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    fail: BTreeMap<String, Failure>,
    slow_ms: BTreeMap<String, u64>,
    missing_images: Vec<String>,
    images: BTreeMap<String, String>,
    exit: BTreeMap<String, Exit>,
    drift: BTreeMap<String, u64>,
    elsewhere: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    /// One of the engine's codes; `ENGINE_FAILED` for any other.
    code: String,
    #[serde(default)]
    message: String,
    /// How many calls fail; all of them without it.
    times: Option<u32>,
}

/// How one run is to end.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// The run that ends.
    pub run: u64,
    /// Its exit code.
    pub exit_code: i32,
    /// Whether it ends for want of memory.
    #[serde(default)]
    pub oom: bool,
}

impl Control {
    /// Reads the file in `folder`. One that is half written counts as none: it is read again.
    pub(super) fn read(folder: &Path) -> Self {
        let text = fs::read(folder.join(FILE)).unwrap_or_default();
        if text.is_empty() {
            return Self::default();
        }
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, "the fake engine's control file is not readable");
            Self::default()
        })
    }

    pub(super) fn delay(&self, operation: &str) -> Option<Duration> {
        self.slow_ms.get(operation).copied().map(Duration::from_millis)
    }

    /// Fails where told; `given` counts the failures of this operation so far.
    pub(super) fn failure(
        &self,
        operation: &'static str,
        given: &mut u32,
    ) -> Result<(), EngineError> {
        let Some(failure) = self.fail.get(operation) else {
            *given = 0;
            return Ok(());
        };
        if failure.times.is_some_and(|times| *given >= times) {
            return Ok(());
        }
        *given += 1;
        let detail = failure.message.clone();
        Err(match failure.code.as_str() {
            "ENGINE_UNREACHABLE" => EngineError::Unreachable {
                address: "the fake engine".to_owned(),
                source: detail.into(),
            },
            "ENGINE_TOO_OLD" => EngineError::TooOld { version: detail },
            "ENGINE_TIMEOUT" => EngineError::Timeout { operation, after: Duration::ZERO },
            "ENGINE_REFUSED" => EngineError::Refused { operation, detail },
            "ENGINE_CONFLICT" => EngineError::Conflict { operation, detail },
            "DISK_FULL" => EngineError::DiskFull { operation },
            "NO_SUBNET" => EngineError::NoSubnet { range: detail },
            _ => EngineError::Failed { operation, detail },
        })
    }

    pub(super) fn image(&self, image: &str) -> Result<(), EngineError> {
        if self.missing_images.iter().any(|missing| missing == image) {
            let detail = "pull access denied".to_owned();
            return Err(EngineError::ImageMissing { image: image.to_owned(), detail });
        }
        Ok(())
    }

    /// Returns the images that are here, by name.
    pub(super) fn images(self) -> Vec<ImageSeen> {
        self.images.into_iter().map(|(name, id)| ImageSeen { name, id }).collect()
    }

    /// Returns how a container differs from its plan.
    pub(super) fn drifts(&self, plan: &ContainerPlan) -> Vec<Drift> {
        let run = plan.env.get("WARREN_RUN_SERIAL").and_then(|run| run.parse::<u64>().ok());
        let address = plan.env.get("WARREN_WORKSPACE");
        let drifts = address.and_then(|address| self.drift.get(address)).copied();
        let field = "HostConfig.Memory".to_owned();
        let planned = plan.memory.0.to_string();
        let one = Drift { field, planned, actual: (plan.memory.0 * 2).to_string() };
        if drifts.is_some() && drifts == run { vec![one] } else { Vec::new() }
    }

    /// Returns how a running container is to end now, by `client/workspace`.
    pub(super) fn exit(&self, seen: &ContainerSeen, plan: &ContainerPlan) -> Option<Exit> {
        let exit = self.exit.get(plan.env.get("WARREN_WORKSPACE")?)?;
        (exit.run == seen.run_serial).then_some(*exit)
    }

    /// Returns whether somebody else is the container's PID 1.
    pub(super) fn is_elsewhere(&self, plan: &ContainerPlan) -> bool {
        let address = plan.env.get("WARREN_WORKSPACE");
        address.is_some_and(|address| self.elsewhere.contains(address))
    }
}
