//! `warren cluster`: make it, look at it, change who coordinates it, back it up, bring it back.

mod backup;
pub(crate) mod confirm;
mod events;
mod init;
mod member;
mod passphrase;
mod recover;
mod restore;
mod token;

use clap::Subcommand;
use warren_proto::pb::admin::v1 as pb;

use super::Fresh;
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
    #[command(
        after_help = "Examples:\n  warren cluster status\n  warren cluster status --stale    (also without a quorum)"
    )]
    Status(Fresh),
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
    /// Write a sealed copy of the cluster's state and keys into a file.
    ///
    /// What leaves the coordinator is sealed with a key made from the passphrase; the passphrase
    /// itself stays here. Homes of workspaces are not in it: they lie on the nodes.
    #[command(
        after_help = "Example:\n  warren cluster backup demo-2026-11-24.warren --passphrase-file /root/backup-passphrase"
    )]
    Backup(backup::Backup),
    /// Check a backup and show what is in it; needs no cluster.
    #[command(
        after_help = "Example:\n  warren cluster verify-backup demo-2026-11-24.warren --passphrase-file /root/backup-passphrase"
    )]
    VerifyBackup(backup::Verify),
    /// Make the cluster again from a backup, on this machine's fresh coordinator.
    ///
    /// Runs as root beside a coordinator whose state folder is empty. What runs on the nodes runs
    /// on: the cluster recovers until every node has told what it holds. Killed in between, the
    /// same command finishes it.
    #[command(
        after_help = "Example:\n  warren cluster restore demo-2026-11-24.warren --passphrase-file /root/backup-passphrase --address coordinator2.example:7400"
    )]
    Restore(restore::Restore),
    /// Go on with this machine's coordinator alone, after the majority was lost for good.
    ///
    /// The lost ones must never come back: wipe them, and add them again.
    #[command(after_help = "Example:\n  warren cluster recover --yes-i-know demo")]
    Recover(recover::Recover),
    /// The recovery that a restore begins: end it, or stop waiting for a node.
    Recovery {
        #[command(subcommand)]
        verb: recover::Recovery,
    },
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Events(events) => events::run(app, &events).await,
        Verb::Init(init) => init::run(app, &init).await,
        Verb::Backup(one) => backup::run(app, &one).await,
        Verb::VerifyBackup(one) => backup::verify(app, &one).await,
        Verb::Restore(one) => restore::run(app, &one).await,
        Verb::Recover(one) => recover::run(app, &one).await,
        Verb::Recovery { verb } => recover::end(app, &verb).await,
        Verb::Token(token) => token::run(app, &token).await,
        Verb::Replace(replace) => token::replace(app, replace).await,
        Verb::Remove(remove) => member::remove(app, &remove).await,
        Verb::Transfer(transfer) => member::transfer(app, &transfer).await,
        Verb::Status(fresh) => {
            let mut answer = learn(app, &mut app.api()?, fresh.read()).await?;
            let at = answer.freshness.take();
            let now = served(at.as_ref());
            let cluster = Cluster::from(answer);
            app.output.of(at.as_ref()).object(&cluster, &cluster.name, || cluster.text(now))?;
            Ok(0)
        }
    }
}

/// Asks about the cluster, and remembers where its coordinators are.
async fn learn(
    app: &App,
    api: &mut Api,
    read: Option<pb::Read>,
) -> Result<pb::GetClusterResponse, Error> {
    let request = pb::GetClusterRequest { read };
    let answer = api.read(async |channel| api::cluster(channel).get_cluster(request).await).await?;
    let known = answer.replicas.iter().map(|one| one.api_address.clone()).collect();
    app.remember(known)?;
    Ok(answer)
}
