//! Workspaces whose agents and browsers do what a test tells them to.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use serde_json::Value;
use warren_tests::{Cluster, Stage, wait_until};

use crate::watching::Watching;

const SOON: Duration = Duration::from_secs(60);

/// Two workspaces on a node, with a session each.
pub(crate) fn cluster(stage: &Arc<Stage>) -> Result<Cluster> {
    let mut cluster = Cluster::start(stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    for name in ["acme/web", "acme/api"] {
        let create = ["workspace", "create", name, "--memory", "64M", "--disk", "64M"];
        cluster.warren(&[&create[..], &["--session", "main=claude"]].concat())?;
    }
    Ok(cluster)
}

/// Has something in a workspace do what the words say.
pub(crate) fn play(
    cluster: &Cluster,
    workspace: &str,
    what: &[&str],
    words: &[&str],
) -> Result<()> {
    let exec = ["workspace", "exec", workspace, "--"];
    cluster.warren(&[&exec[..], what, words].concat())?;
    Ok(())
}

/// Waits until a watch told that what a pointer leads to is so, and returns the object.
pub(crate) fn until(
    watching: &Watching,
    (address, pointer): (&str, &str),
    status: &str,
) -> Result<Value> {
    wait_until(&format!("{address} is {status}"), SOON, || {
        let (_, object) = watching.newest(address);
        let is = object.pointer(pointer).unwrap_or(&Value::Null);
        ensure!(is == status, "it is {is}");
        Ok(object)
    })
}
