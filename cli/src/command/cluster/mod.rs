//! `warren cluster`: make it, look at it, change who coordinates it.

mod events;
mod init;
mod member;
mod token;

use clap::Subcommand;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api::{self, Api},
    app::App,
    error::{Error, Outcome},
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
    /// Print the one command that makes another machine a coordinator.
    ///
    /// Three coordinators lose nothing and keep answering when any one of them is lost. The token
    /// is good once, for 15 minutes.
    #[command(
        after_help = "Examples:\n  warren cluster token\n  warren cluster token --replaces 2"
    )]
    Token(token::Token),
    /// Print the one command that makes another machine a coordinator in place of this one.
    ///
    /// The old one is removed once the new one votes. This is the way back for a machine whose disk
    /// was lost, too: it joins again under a new number.
    #[command(after_help = "Example:\n  warren cluster replace 2")]
    Replace(token::Replace),
    /// Take a coordinator out of the cluster, for good.
    ///
    /// Refused where every coordinator left would be needed, unless forced; and always where the
    /// rest could decide nothing. Its certificate is refused from then on.
    #[command(
        after_help = "Examples:\n  warren cluster remove 2\n  warren cluster remove 2 --force"
    )]
    Remove(member::Remove),
    /// Hand leadership over, to the best voter or to one by its number.
    #[command(after_help = "Examples:\n  warren cluster transfer\n  warren cluster transfer 3")]
    Transfer(member::Transfer),
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
        Verb::Token(token) => token::run(app, &token).await,
        Verb::Replace(replace) => token::replace(app, replace).await,
        Verb::Remove(remove) => member::remove(app, &remove).await,
        Verb::Transfer(transfer) => member::transfer(app, &transfer).await,
        Verb::Status => {
            let answer = learn(app, &mut app.api()?).await?;
            let now = served(answer.freshness.as_ref());
            let cluster = Cluster::from(answer);
            app.output.object(&cluster, &cluster.name, || cluster.text(now))?;
            Ok(0)
        }
    }
}

/// Asks about the cluster, and remembers where its coordinators are.
async fn learn(app: &App, api: &mut Api) -> Result<pb::GetClusterResponse, Error> {
    let answer = api
        .read(async |channel| api::cluster(channel).get_cluster(pb::GetClusterRequest {}).await)
        .await?;
    let known = answer.replicas.iter().map(|one| one.api_address.clone()).collect();
    app.remember(known)?;
    Ok(answer)
}
