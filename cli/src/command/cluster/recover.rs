//! `warren cluster recover` and `warren cluster recovery`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use tonic::transport::Channel;
use warren_common::{Limits, Timestamp};
use warren_daemon::identity::{Trouble, connect_local};
use warren_proto::pb::admin::v1::{self as pb, bootstrap_service_client::BootstrapServiceClient};

use super::{confirm, init::nobody};
use crate::{
    api,
    app::App,
    context::Context,
    error::{Error, Outcome},
    view::{self, cluster},
};

/// Arguments of `cluster recover`.
#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// The cluster's name, instead of typing it when asked.
    #[arg(long, value_name = "NAME")]
    yes_i_know: Option<String>,
    /// The coordinator's local socket.
    #[arg(long, value_name = "PATH", default_value = "/run/warren/coordinator.sock")]
    socket: PathBuf,
}

/// Verbs on the recovery.
#[derive(Debug, Subcommand)]
pub(crate) enum Recovery {
    /// End it although nodes have not told yet what they hold.
    ///
    /// What such a node runs and the cluster does not know is stopped when it comes back, unless
    /// it was told something before the restore: then it is still taken over.
    #[command(after_help = "Example:\n  warren cluster recovery end")]
    End {
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Do not wait for a node that is gone for good.
    #[command(after_help = "Example:\n  warren cluster recovery skip n3")]
    Skip {
        /// The node's name or id.
        node: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Serialize)]
struct View {
    incarnation: u32,
    replica: u64,
    set_aside: String,
    dropped_replicas: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Left {
    recovery: Option<cluster::Recovery>,
}

pub(crate) async fn run(app: &App, order: &Recover) -> Outcome {
    let cluster = match &order.yes_i_know {
        Some(name) => name.clone(),
        None => confirm::typed(
            "The other coordinators are lost for good, and this one goes on alone: what only they \
             knew is lost, and they must never be started again.\nType the cluster's name: ",
            "warren cluster recover --yes-i-know NAME",
        )?,
    };
    let answer = call(app, order, cluster).await?;
    let view = View {
        incarnation: answer.incarnation,
        replica: answer.replica_id,
        set_aside: answer.set_aside,
        dropped_replicas: answer.dropped_replica_ids,
    };
    app.output.object(&view, &view.replica.to_string(), || {
        let dropped: Vec<String> = view.dropped_replicas.iter().map(u64::to_string).collect();
        let dropped = if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") };
        let fields = view::fields(&[
            ("coordinator", format!("{}, incarnation {}", view.replica, view.incarnation)),
            ("kept aside", view.set_aside.clone()),
            ("dropped", dropped),
        ]);
        format!(
            "the coordinator starts anew and goes on alone\n{fields}Next:\n  warren cluster \
             status\n  wipe the state folders of the dropped ones before they are started again, \
             then add them anew\n"
        )
    })?;
    Ok(0)
}

async fn call(app: &App, order: &Recover, name: String) -> Result<pb::RecoverResponse, Error> {
    let calling = async {
        let channel = connect_local(&order.socket).await;
        let channel = channel.map_err(|trouble| nobody(&order.socket, &trouble))?;
        let mut bootstrap = BootstrapServiceClient::<Channel>::new(channel);
        let context = Context::unanswered(&name, "");
        let answer = bootstrap.recover(pb::RecoverRequest { cluster_name: name }).await;
        let answer =
            answer.map_err(|status| api::from_status(&status, &context, Timestamp(u64::MAX)))?;
        Ok(answer.into_inner())
    };
    // others are looked for first
    let limit = app.timeout().unwrap_or(Limits::CALL_TIMEOUT * 2);
    match tokio::time::timeout(limit, calling).await {
        Ok(answer) => answer,
        Err(_) => {
            let trouble = Trouble::Unreachable("it did not answer in time".to_owned());
            Err(nobody(&order.socket, &trouble))
        }
    }
}

pub(crate) async fn end(app: &App, verb: &Recovery) -> Outcome {
    let (node, yes, what, instead) = match verb {
        Recovery::End { yes } => (
            "",
            *yes,
            "Nodes that have not told yet what they hold are not waited for. End the recovery? [y/N] "
                .to_owned(),
            "warren cluster recovery end --yes".to_owned(),
        ),
        Recovery::Skip { node, yes } => (
            node.as_str(),
            *yes,
            format!("Node {node} is not waited for. Go on without it? [y/N] "),
            format!("warren cluster recovery skip {node} --yes"),
        ),
    };
    if !yes {
        confirm::yes(&what, &instead)?;
    }
    let request = pb::EndRecoveryRequest { request_id: api::request_id(), node: node.to_owned() };
    let mut api = app.api()?;
    let answer = api
        .write(async |channel| api::cluster(channel).end_recovery(request.clone()).await)
        .await?;
    let left = Left { recovery: answer.recovery.map(Into::into) };
    app.output.object(&left, "recovery", || match &left.recovery {
        Some(recovery) => format!("the cluster recovers: {}\n", recovery.text()),
        None => "the recovery is over\n".to_owned(),
    })?;
    Ok(0)
}
