//! The fake engine's record: which containers there are, and how often one was made or started.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stand::Stand;
use crate::wait_until;

/// How long the last workspaces may take to run.
const RUN: Duration = Duration::from_secs(60);

/// The record as it was at one moment.
#[derive(Debug, Clone)]
pub struct Containers(Value);

impl Containers {
    /// Reads it.
    ///
    /// # Errors
    /// Fails where the node has none.
    pub fn read(stand: &Stand) -> Result<Self> {
        let node = stand.cluster.nodes.first().context("a node")?;
        let path = node.folder().join("state/fake-engine/engine.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self(serde_json::from_slice(&text)?))
    }

    fn all(&self) -> Result<impl Iterator<Item = (&String, &Value)>> {
        Ok(self.0["containers"].as_object().context("containers")?.iter())
    }

    /// Ensures that every workspace there is runs in the one container that was made for it and
    /// started once, and that the containers of `before` run on as they were. Returns how many
    /// containers there are.
    ///
    /// # Errors
    /// Fails with the container that was touched.
    pub fn untouched(stand: &Stand, before: &Self) -> Result<usize> {
        let workspaces = wait_until("every workspace runs", RUN, || {
            let listed = stand.cluster.json(&["workspace", "list"])?;
            let listed = listed.as_array().context("a list")?.clone();
            let idle = listed.iter().find(|one| one["phase"] != "active");
            ensure!(idle.is_none(), "{idle:?}");
            Ok(listed)
        })?;
        let now = Self::read(stand)?;
        for (id, was) in before.all()? {
            let is = &now.0["containers"][id];
            ensure!(is == was, "container {id} was {was} and is {is}");
        }
        let mut of: Vec<&Value> = now.all()?.map(|(_, one)| &one["seen"]["workspace"]).collect();
        let mut wanted: Vec<&Value> = workspaces.iter().map(|one| &one["id"]).collect();
        of.sort_unstable_by_key(ToString::to_string);
        wanted.sort_unstable_by_key(ToString::to_string);
        ensure!(of == wanted, "containers of {of:?}, workspaces {wanted:?}");
        for (id, one) in now.all()? {
            let seen = &one["seen"];
            let first = seen["run_serial"] == 1 && seen["state"]["Running"].is_object();
            ensure!(first, "container {id} does not run for the first time: {seen}");
        }
        // the engine counts what it made and what it started
        let (made, count) = (now.0["made"].as_u64().context("a count")?, of.len());
        ensure!(made == 2 * count as u64, "{count} containers took {made} makings and starts");
        Ok(count)
    }
}
