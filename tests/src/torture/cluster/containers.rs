//! The fake engine's record: which containers there are, and how often one was made or started.
//! Beside it the runs as the cluster knows them.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stand::Stand;
use crate::wait_until;

/// How long the last workspaces may take to run.
const RUN: Duration = Duration::from_secs(60);

/// What of a workspace changes when it is started again or moved.
const RUN_FIELDS: [&str; 4] = ["id", "generation", "run_serial", "node"];

/// Containers and runs as they were at one moment.
#[derive(Debug, Clone)]
pub struct Containers {
    engine: Value,
    workspaces: Vec<Value>,
}

impl Containers {
    /// Reads them.
    ///
    /// # Errors
    /// Fails where the node has no record, or nobody answers.
    pub fn read(stand: &Stand) -> Result<Self> {
        let node = stand.cluster.nodes.first().context("a node")?;
        let path = node.folder().join("state/fake-engine/engine.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let listed = stand.cluster.json(&["workspace", "list"])?;
        let workspaces = listed.as_array().context("a list")?.clone();
        Ok(Self { engine: serde_json::from_slice(&text)?, workspaces })
    }

    fn all(&self) -> Result<&serde_json::Map<String, Value>> {
        self.engine["containers"].as_object().context("no containers in the engine's record")
    }

    /// Ensures that every workspace there is runs in the one container that was made for it and
    /// started once, and that the containers and runs of `before` are as they were. Returns how
    /// many containers there are.
    ///
    /// # Errors
    /// Fails with the container or the run that was touched.
    pub fn untouched(stand: &Stand, before: &Self) -> Result<usize> {
        let now = wait_until("every workspace runs", RUN, || {
            let now = Self::read(stand)?;
            let idle = now.workspaces.iter().find(|one| one["phase"] != "active");
            ensure!(idle.is_none(), "{idle:?}");
            Ok(now)
        })?;
        for (id, was) in before.all()? {
            let is = &now.engine["containers"][id];
            ensure!(is == was, "container {id} was {was} and is {is}");
        }
        for was in &before.workspaces {
            let is = now.workspaces.iter().find(|one| one["id"] == was["id"]);
            let is = is.with_context(|| format!("{was} is gone"))?;
            for field in RUN_FIELDS {
                let same = was[field] == is[field] && !is[field].is_null();
                ensure!(same, "{field} of a run has changed: {was}, {is}");
            }
        }
        let mut of: Vec<String> =
            now.all()?.values().map(|one| one["seen"]["workspace"].to_string()).collect();
        let mut wanted: Vec<String> =
            now.workspaces.iter().map(|one| one["id"].to_string()).collect();
        of.sort_unstable();
        wanted.sort_unstable();
        ensure!(of == wanted, "there are containers of {of:?}, and workspaces {wanted:?}");
        for (id, one) in now.all()? {
            let seen = &one["seen"];
            let first = seen["run_serial"] == 1 && seen["state"]["Running"].is_object();
            ensure!(first, "container {id} does not run for the first time: {seen}");
        }
        // the engine counts what it made and what it started
        let made = now.engine["made"].as_u64().context("no count in the engine's record")?;
        let count = of.len();
        ensure!(made == 2 * count as u64, "{count} containers took {made} makings and starts");
        Ok(count)
    }
}
