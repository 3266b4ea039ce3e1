//! `warren image list`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;
use warren_common::Timestamp;

use crate::{
    app::App,
    command::{Fresh, workspace},
    error::Outcome,
    render::Tabular,
};

/// Arguments of `image list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    fresh: Fresh,
}

/// One image.
#[derive(Debug, Default, Serialize)]
struct Image {
    image: String,
    workspaces: Vec<String>,
    /// How many of them run.
    running: usize,
    nodes: BTreeSet<String>,
    /// Workspaces that would come back to it by a rollback.
    before_of: Vec<String>,
}

pub(super) async fn run(app: &App, list: &List) -> Outcome {
    let mut api = app.api()?;
    let listed = workspace::all(&mut api, "", list.fresh.read()).await?;
    let mut images: BTreeMap<String, Image> = BTreeMap::new();
    for one in &listed.items {
        let image = images.entry(one.spec.image.clone()).or_default();
        image.workspaces.push(one.address.clone());
        image.running += usize::from(one.phase == "active");
        image.nodes.extend(one.node.clone());
        if let Some(before) = &one.image_before {
            let before = images.entry(before.clone()).or_default();
            before.before_of.push(one.address.clone());
        }
    }
    let named = |(name, image)| Image { image: name, ..image };
    let rows: Vec<Image> = images.into_iter().map(named).collect();
    let empty = "no workspaces yet; warren workspace create CLIENT/NAME makes one";
    app.output.of(Some(&listed.at)).list(&rows, listed.now, empty)?;
    Ok(0)
}

impl Tabular for Image {
    const HEADER: &'static [&'static str] = &["IMAGE", "WORKSPACES", "RUNNING", "NODES", "BEFORE"];
    const FLEXIBLE: usize = 3;

    fn row(&self, _: Timestamp) -> Vec<String> {
        let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
        vec![
            self.image.clone(),
            self.workspaces.len().to_string(),
            self.running.to_string(),
            if nodes.is_empty() { "-".to_owned() } else { nodes.join(", ") },
            self.before_of.len().to_string(),
        ]
    }

    fn address(&self) -> String {
        self.image.clone()
    }
}
