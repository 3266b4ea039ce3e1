//! `warren cluster restore`.
//!
//! The file is opened here first, so that a wrong passphrase or a damaged file touches nothing;
//! then it goes, still sealed, to the coordinator of this machine, which opens it again.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use tonic::transport::Channel;
use warren_common::{Limits, PersonName, Timestamp};
use warren_daemon::{
    backup::{BackupError, BackupKey},
    identity::{Key, Trouble, connect_local},
};
use warren_proto::pb::admin::v1::{self as pb, bootstrap_service_client::BootstrapServiceClient};

use super::{
    backup::{opened, trouble},
    init::{address, keep, name, nobody, user},
    passphrase::Source,
};
use crate::{
    api,
    app::App,
    context::{self, Context, Store},
    error::{Error, Outcome},
    view::{self, cluster::Recovery},
};

/// Bytes of one piece on its way to the coordinator.
const PIECE: usize = 512 * 1024;

/// Arguments of `cluster restore`.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup.
    file: PathBuf,
    #[command(flatten)]
    passphrase: Source,
    /// Refuse a backup of any other cluster than this.
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// host:port at which nodes and people reach the API [default: the coordinator's own].
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    address: Option<String>,
    /// The administrator's name [default: this user's].
    #[arg(long, value_name = "NAME")]
    admin: Option<PersonName>,
    /// The coordinator's local socket.
    #[arg(long, value_name = "PATH", default_value = "/run/warren/coordinator.sock")]
    socket: PathBuf,
}

#[derive(Debug, Serialize)]
struct View {
    cluster: String,
    cluster_id: String,
    context: String,
    person: String,
    coordinators: Vec<String>,
    incarnation: u32,
    replica: u64,
    /// `restored`, or `unchanged` where an earlier call had done it.
    result: &'static str,
    recovery: Option<Recovery>,
}

pub(crate) async fn run(app: &App, order: &Restore) -> Outcome {
    let (key, (header, content)) = opened(app, &order.file, &order.passphrase).await?;
    if let Err(error) = content.check() {
        app.output.talk(&format!("warning: {error}; set it again once the cluster is back"));
    }
    drop(content);
    let store = Store::locate()?;
    let context_name = match app.named_context() {
        Some(context) => name(context).map_err(Error::usage)?,
        None => header.name.clone(),
    };
    let person = order.admin.clone().unwrap_or_else(user);
    let folder = store.folder(&context_name)?;
    let own = folder.pending_key().map_err(|error| context::local(&error))?;
    let answer = call(app, order, (&person, &own), &key).await?;
    let context = Context {
        invitation: None,
        cluster: answer.cluster_name.clone(),
        cluster_id: answer.cluster_id.clone(),
        coordinators: answer.coordinators.clone(),
        person: person.to_string(),
        socket: Some(order.socket.clone()),
    };
    let fresh = (&own, answer.certificate_pem.as_str(), answer.trust_pem.as_str());
    keep(app, &store, (&context_name, &context), fresh).await?;
    finish(app, context_name, (person, answer))
}

async fn call(
    app: &App,
    order: &Restore,
    (person, own): (&PersonName, &Key),
    key: &BackupKey,
) -> Result<pb::RestoreResponse, Error> {
    let begin = pb::RestoreBegin {
        key: key.expose().to_vec().into(),
        cluster_name: order.name.clone().unwrap_or_default(),
        admin_name: person.to_string(),
        csr_pem: own.request().map_err(|error| context::local(&error))?,
        api_address: order.address.clone().unwrap_or_default(),
    };
    let pieces = pieces(&order.file, begin)?;
    // a large state takes its time to be written
    let limit = app.timeout().unwrap_or(Limits::CHECKPOINT_TIMEOUT);
    let calling = async {
        let channel = connect_local(&order.socket).await;
        let channel = channel.map_err(|trouble| nobody(&order.socket, &trouble))?;
        let mut bootstrap = BootstrapServiceClient::<Channel>::new(channel);
        let answer = bootstrap.restore(tokio_stream::iter(pieces)).await.map_err(|status| {
            let name = order.name.as_deref().unwrap_or_default();
            let context = Context::unanswered(name, person.as_str());
            api::from_status(&status, &context, Timestamp(u64::MAX))
        })?;
        Ok(answer.into_inner())
    };
    match tokio::time::timeout(limit, calling).await {
        Ok(answer) => answer,
        Err(_) => {
            let trouble = Trouble::Unreachable("it did not answer in time".to_owned());
            Err(nobody(&order.socket, &trouble))
        }
    }
}

fn pieces(file: &Path, begin: pb::RestoreBegin) -> Result<Vec<pb::RestoreRequest>, Error> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|error| trouble(file, &BackupError::Io(error)))?;
    let bytes = tonic::codegen::Bytes::from(bytes);
    let mut pieces = vec![pb::RestoreRequest { begin: Some(begin), ..Default::default() }];
    for at in (0..bytes.len()).step_by(PIECE) {
        let chunk = bytes.slice(at..(at + PIECE).min(bytes.len()));
        pieces.push(pb::RestoreRequest { begin: None, chunk });
    }
    Ok(pieces)
}

fn finish(
    app: &App,
    context: String,
    (person, answer): (PersonName, pb::RestoreResponse),
) -> Outcome {
    let view = View {
        cluster: answer.cluster_name,
        cluster_id: answer.cluster_id,
        context,
        person: person.to_string(),
        coordinators: answer.coordinators,
        incarnation: answer.incarnation,
        replica: answer.replica_id,
        result: if answer.restored { "restored" } else { "unchanged" },
        recovery: answer.recovery.map(Into::into),
    };
    app.output.object(&view, &view.cluster, || {
        let mut rows = vec![
            ("id", view.cluster_id.clone()),
            ("coordinator", format!("{}, incarnation {}", view.replica, view.incarnation)),
            ("address", view.coordinators.join(", ")),
            ("context", format!("{} (you are {})", view.context, view.person)),
        ];
        if let Some(recovery) = &view.recovery {
            rows.push(("recovery", recovery.text()));
        }
        let indented: String =
            view::fields(&rows).lines().map(|line| format!("  {line}\n")).collect();
        let address = view.coordinators.join(" ");
        format!(
            "cluster {}: {}\n{indented}Next:\n  on each node, where this address is another than \
             before:\n    warren-node-agent coordinators set {address}\n  warren cluster status\n  warren \
             doctor   (what was closed to clients after the backup is open again: it names them)\n",
            view.cluster, view.result
        )
    })?;
    Ok(0)
}
