//! `warren cluster remove` and `warren cluster transfer`.

use clap::Args;
use serde::Serialize;
use warren_proto::pb::admin::v1 as pb;

use super::learn;
use crate::{api, app::App, command::Change, error::Outcome};

/// Arguments of `cluster remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The coordinator's number.
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    coordinator: u64,
    /// Go on where every coordinator left is needed.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: Change,
}

/// Arguments of `cluster transfer`.
#[derive(Debug, Args)]
pub(crate) struct Transfer {
    /// The number of the coordinator that shall lead [default: the one with most of the log].
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    coordinator: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Removed {
    removed: u64,
    /// Of a state without it; 0 where the coordinator did not say.
    revision: u64,
}

#[derive(Debug, Serialize)]
struct Transferred {
    leader: u64,
}

pub(crate) async fn remove(app: &App, remove: &Remove) -> Outcome {
    let request = pb::RemoveCoordinatorRequest {
        mutation: Some(api::mutation(&remove.change.id(app))),
        replica_id: remove.coordinator,
        force: remove.force,
    };
    let mut api = app.api()?;
    let answer = api
        .write(async |channel| api::cluster(channel).remove_coordinator(request.clone()).await)
        .await?;
    learn(app, &mut api, None).await?;
    let view = Removed { removed: remove.coordinator, revision: answer.revision };
    let id = remove.coordinator.to_string();
    app.output.object(&view, &id, || format!("coordinator {id} is removed\n"))?;
    Ok(0)
}

pub(crate) async fn transfer(app: &App, transfer: &Transfer) -> Outcome {
    let request =
        pb::TransferLeadershipRequest { replica_id: transfer.coordinator.unwrap_or_default() };
    let mut api = app.api()?;
    let answer =
        api.write(async |channel| api::cluster(channel).transfer_leadership(request).await).await?;
    let view = Transferred { leader: answer.leader_replica_id };
    let id = view.leader.to_string();
    app.output.object(&view, &id, || format!("coordinator {id} leads\n"))?;
    Ok(0)
}
