//! `warren client label`: sets and takes away labels.

use clap::Args;
use warren_common::spec::validate_labels;
use warren_proto::pb::admin::v1 as pb;

use super::{Change, refused};
use crate::{
    api,
    app::App,
    error::{Error, Outcome},
    value::{self, LabelChange},
    view::client::Client,
};

/// Arguments of `client label`.
#[derive(Debug, Args)]
pub(crate) struct Label {
    /// Name or id.
    client: String,
    /// What to change: KEY=VALUE sets a label, KEY- takes it away; may be repeated.
    #[arg(required = true, value_name = "KEY=VALUE|KEY-", value_parser = value::label_change)]
    labels: Vec<LabelChange>,
    /// Only where the client has not changed since this revision, as `client show -o json` gives.
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    #[command(flatten)]
    change: Change,
}

impl Label {
    /// Returns the call, with what can be refused here refused.
    fn request(&self, app: &App) -> Result<pb::UpdateClientRequest, Error> {
        let (mut set, mut remove_labels) = (Vec::new(), Vec::new());
        for change in &self.labels {
            match change {
                LabelChange::Set(key, value) => set.push((key.clone(), value.clone())),
                LabelChange::Remove(key) => remove_labels.push(key.clone()),
            }
        }
        let set = value::labels("the label", &set).map_err(Error::usage)?;
        validate_labels("labels", &set).map_err(refused)?;
        if let Some(key) = remove_labels.iter().find(|key| set.contains_key(*key)) {
            let message = format!("the label {key:?} cannot be both set and taken away");
            return Err(Error::usage(message));
        }
        let mutation = api::mutation(&self.change.id(app));
        Ok(pb::UpdateClientRequest {
            mutation: Some(pb::Mutation { if_revision: self.if_revision, ..mutation }),
            client: self.client.clone(),
            set_labels: set.into_iter().collect(),
            remove_labels,
        })
    }
}

pub(super) async fn run(app: &App, label: &Label) -> Outcome {
    let request = label.request(app)?;
    let mut api = app.api()?;
    let answer = api
        .write(async |channel| api::clients(channel).update_client(request.clone()).await)
        .await?;
    match answer.client.map(Client::from) {
        Some(client) => app.output.object(&client, &client.name, || client.labelled())?,
        None => {
            let name = &label.client;
            app.output.talk(&format!("client {name} was labelled, and has been deleted since"));
        }
    }
    Ok(0)
}
