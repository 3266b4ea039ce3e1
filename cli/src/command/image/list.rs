//! `warren image list`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;
use warren_common::{Timestamp, image::shown, status::reason};
use warren_proto::pb::{admin::v1 as pb, node::v1 as node_pb};

use crate::{
    app::App,
    command::{Fresh, node, workspace},
    error::{Kind, Outcome},
    render::Tabular,
};

/// Arguments of `image list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Also those that nodes hold and no workspace is made of: up to 64 of each node.
    #[arg(long)]
    all: bool,
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
    /// Where these are placed.
    nodes: BTreeSet<String>,
    /// Workspaces that would come back to it by a rollback.
    before_of: Vec<String>,
    /// Whether nodes hold it; none for who may not list nodes.
    held: Option<Held>,
}

/// Nodes by whether they hold an image, in the order of their names.
#[derive(Debug, Default, Serialize)]
struct Held {
    on: Vec<On>,
    not_on: Vec<String>,
    /// They do not tell, or not of all of theirs.
    unknown_on: Vec<String>,
}

/// A node that holds an image.
#[derive(Debug, Serialize)]
struct On {
    node: String,
    /// Its engine's: by one name two nodes may hold two images.
    id: String,
}

pub(super) async fn run(app: &App, list: &List) -> Outcome {
    let mut api = app.api()?;
    let listed = workspace::all(&mut api, "", list.fresh.read()).await?;
    let nodes = match node::all(&mut api, list.fresh.read(), false).await {
        Ok(nodes) => Some(nodes.items),
        Err(error) if error.kind == Kind::NotPermitted => None,
        Err(error) => return Err(error),
    };
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
    if list.all {
        let known: BTreeSet<String> = images.keys().map(|name| shown(name)).collect();
        let held = nodes.iter().flatten().filter_map(told).flat_map(|told| &told.images);
        let held = held.map(|one| reason(&one.name)).filter(|name| !known.contains(name));
        for name in held.collect::<BTreeSet<_>>() {
            images.entry(name).or_default();
        }
    }
    let named = |(name, image): (String, Image)| {
        let held = nodes.as_deref().map(|nodes| held(&name, nodes));
        Image { image: name, held, ..image }
    };
    let rows: Vec<Image> = images.into_iter().map(named).collect();
    let empty = "no workspaces yet; warren workspace create CLIENT/NAME makes one";
    app.output.of(Some(&listed.at)).list(&rows, listed.now, empty)?;
    Ok(0)
}

fn told(node: &pb::Node) -> Option<&node_pb::NodeImages> {
    node.usage.as_ref()?.images.as_ref()
}

/// Returns which of the nodes hold the image, as they last told.
fn held(image: &str, nodes: &[pb::Node]) -> Held {
    let wanted = shown(image);
    let mut held = Held::default();
    for node in nodes {
        let name = node.name.clone();
        let Some(told) = told(node) else {
            held.unknown_on.push(name);
            continue;
        };
        match told.images.iter().find(|one| one.name == wanted || one.id == wanted) {
            Some(one) => held.on.push(On { node: name, id: reason(&one.id) }),
            None if told.more > 0 => held.unknown_on.push(name),
            None => held.not_on.push(name),
        }
    }
    held
}

impl Held {
    /// Says on how many nodes it is.
    fn cell(&self) -> String {
        let (on, unknown) = (self.on.len(), self.unknown_on.len());
        let mut cell = format!("{on} of {}", on + self.not_on.len() + unknown);
        if unknown > 0 {
            cell.push_str(&format!(", {unknown} unknown"));
        }
        let ids: BTreeSet<&str> = self.on.iter().map(|one| one.id.as_str()).collect();
        if ids.len() > 1 {
            cell.push_str(&format!(", {} differ", ids.len()));
        }
        cell
    }
}

impl Tabular for Image {
    const HEADER: &'static [&'static str] =
        &["IMAGE", "WORKSPACES", "RUNNING", "NODES", "BEFORE", "HELD"];
    const FLEXIBLE: usize = 3;

    fn row(&self, _: Timestamp) -> Vec<String> {
        let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
        vec![
            self.image.clone(),
            self.workspaces.len().to_string(),
            self.running.to_string(),
            if nodes.is_empty() { "-".to_owned() } else { nodes.join(", ") },
            self.before_of.len().to_string(),
            self.held.as_ref().map_or_else(|| "-".to_owned(), Held::cell),
        ]
    }

    fn address(&self) -> String {
        self.image.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, images: Option<(&[(&str, &str)], u32)>) -> pb::Node {
        let one = |(name, id): &(&str, &str)| node_pb::NodeImage {
            name: (*name).to_owned(),
            id: (*id).to_owned(),
        };
        let images = images.map(|(images, more)| node_pb::NodeImages {
            images: images.iter().map(one).collect(),
            more,
        });
        let usage = node_pb::NodeUsage { images, ..Default::default() };
        pb::Node { name: name.to_owned(), usage: Some(usage), ..Default::default() }
    }

    #[test]
    fn an_image_is_held_by_whichever_name_engines_show_it_and_nothing_is_guessed() {
        let nodes = [
            node("n1", Some((&[("agents:latest", "sha256:1")], 0))),
            node("n2", Some((&[("agents:latest", "sha256:2"), ("other:1", "sha256:3")], 4))),
            node("n3", Some((&[("agents:2", "sha256:1")], 0))),
            node("n4", Some((&[], 1))),
            node("n5", None),
        ];
        let held = held("docker.io/library/agents", &nodes);
        let on: Vec<(&str, &str)> =
            held.on.iter().map(|one| (one.node.as_str(), one.id.as_str())).collect();
        assert_eq!(on, [("n1", "sha256:1"), ("n2", "sha256:2")]);
        assert_eq!(held.not_on, ["n3"]);
        assert_eq!(held.unknown_on, ["n4", "n5"]);
        assert_eq!(held.cell(), "2 of 5, 2 unknown, 2 differ");
        assert_eq!(super::held("other:1", &nodes[..2]).cell(), "1 of 2");
        let by_id = super::held("sha256:1", &nodes[..1]);
        assert_eq!(by_id.cell(), "1 of 1");
    }
}
