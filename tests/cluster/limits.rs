//! What no command line can carry is refused at the API itself.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result};
use tonic::Code;
use warren_daemon::identity::{ClientTls, Folder, connect};
use warren_proto::pb::admin::v1::{
    self as pb, Mutation, client_service_client::ClientServiceClient,
};
use warren_tests::{Cluster, Stage};

#[test]
fn a_label_of_ten_megabytes_is_refused_and_the_coordinator_goes_on() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = Cluster::start(&stage, None)?;
    let me = Folder::open(cluster.folder().join("config/contexts/test"))?.load()?;
    let me = me.context("an identity")?;
    let tls = Arc::new(ClientTls::new(&me.credentials, &me.trust_pem)?);
    let addresses = [cluster.api_address()?];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // within a message, and past every message
    for (megabytes, codes) in [
        (1, &[Code::InvalidArgument][..]),
        (10, &[Code::OutOfRange, Code::ResourceExhausted, Code::InvalidArgument]),
    ] {
        let status = runtime.block_on(async {
            let channel = connect(&tls, &addresses).await?;
            let mutation = Mutation {
                request_id: uuid::Uuid::now_v7().hyphenated().to_string(),
                if_revision: None,
            };
            let label = ("k".to_owned(), "x".repeat(megabytes << 20));
            let request = pb::CreateClientRequest {
                mutation: Some(mutation),
                name: "acme".to_owned(),
                labels: HashMap::from([label]).into_iter().collect(),
            };
            let answer = ClientServiceClient::new(channel).create_client(request).await;
            anyhow::Ok(answer.err().context("it was taken"))
        })??;
        anyhow::ensure!(codes.contains(&status.code()), "{megabytes} MB: {status:?}");
        anyhow::ensure!(status.message().len() < 1_000, "it is repeated: {status:?}");
    }
    anyhow::ensure!(cluster.json(&["client", "list"])? == serde_json::json!([]), "it was made");
    Ok(())
}
