//! `warren version`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api,
    app::App,
    error::{Error, Outcome},
    view,
};

/// Print the version of this command and of the coordinator.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  warren version -o json")]
pub(crate) struct Version {
    /// Do not ask the coordinator.
    #[arg(long)]
    client: bool,
}

#[derive(Debug, Serialize)]
struct Versions {
    client: &'static str,
    coordinator: Option<String>,
    cluster: Option<String>,
}

/// The coordinator's version is worth two seconds, not an error.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) async fn run(app: &App, version: &Version) -> Outcome {
    let mut versions =
        Versions { client: env!("CARGO_PKG_VERSION"), coordinator: None, cluster: None };
    if !version.client
        && let Ok(Ok(cluster)) = tokio::time::timeout(PATIENCE, coordinator(app)).await
    {
        versions.coordinator = Some(cluster.version);
        versions.cluster = Some(cluster.name);
    }
    app.output.object(&versions, versions.client, || {
        let mut rows = vec![("client", versions.client.to_owned())];
        if let (Some(version), Some(cluster)) = (&versions.coordinator, &versions.cluster) {
            rows.push(("coordinator", format!("{version} (cluster {cluster})")));
        }
        view::fields(&rows)
    })?;
    Ok(0)
}

async fn coordinator(app: &App) -> Result<pb::GetClusterResponse, Error> {
    let mut api = app.api()?;
    // its version does not depend on the others
    let read = Some(pb::Read { consistency: pb::Consistency::Stale.into(), min_revision: 0 });
    let request = pb::GetClusterRequest { read };
    api.read(async |channel| api::cluster(channel).get_cluster(request).await).await
}
