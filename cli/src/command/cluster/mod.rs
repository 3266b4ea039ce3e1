//! `warren cluster`: make it, look at it.

mod events;
mod init;

use clap::Subcommand;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api,
    app::App,
    error::Outcome,
    view::{cluster::Cluster, served},
};

/// Verbs on the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make the cluster on this machine's coordinator, and this person its administrator.
    ///
    /// Runs on the coordinator's machine, as a person who may open its local socket (root). The
    /// key is made here and never leaves this machine. Run again, it changes nothing while the
    /// stored context works, and else makes a fresh certificate.
    #[command(
        after_help = "Examples:\n  warren cluster init --name demo\n  warren cluster init --name demo --admin ann --address coordinator.example:7400"
    )]
    Init(init::Init),
    /// Show the cluster: coordinators, leader, counts.
    #[command(after_help = "Example:\n  warren cluster status")]
    Status,
    /// Show what happened: every change that is still kept (an hour of them, at most 65,536, and
    /// since the coordinator's last checkpoint where it was restarted).
    #[command(
        after_help = "Examples:\n  warren cluster events\n  warren cluster events --from 1200 -o json\n  warren cluster events --watch"
    )]
    Events(events::Events),
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Events(events) => events::run(app, &events).await,
        Verb::Init(init) => init::run(app, &init).await,
        Verb::Status => {
            let mut api = app.api()?;
            let answer = api
                .read(async |channel| {
                    api::cluster(channel).get_cluster(pb::GetClusterRequest {}).await
                })
                .await?;
            let now = served(answer.freshness.as_ref());
            let cluster = Cluster::from(answer);
            app.output.object(&cluster, &cluster.name, || cluster.text(now))?;
            Ok(0)
        }
    }
}
