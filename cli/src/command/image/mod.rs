//! `warren image`: what workspaces are made of, building it, and moving many of them to another.

mod build;
mod list;
mod rollout;

use clap::Subcommand;

use crate::{app::App, error::Outcome};

/// Verbs on images. An image is named as in a template: by tag or digest.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Build an image for workspaces with this machine's Docker.
    ///
    /// One of Warren's own (--flavour), or one from a folder with a Dockerfile. It is on this machine
    /// then: with --push it goes to a registry that nodes pull from, else each node loads it.
    #[command(after_help = "Examples:
  warren image build --flavour agents
  warren image build ./image --tag registry.example/agents:2026-11 --push
  docker save warren-workspace:agents | ssh n1 docker load")]
    Build(build::Build),
    /// List the images that workspaces are made of, and on how many nodes each is.
    ///
    /// HELD counts the nodes whose engines have it, as they told within the last minute; -o json
    /// names them. Nodes of older versions are unknown, and images of one name may differ.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  warren image list\n  warren image list --all -o json"
    )]
    List(list::List),
    /// Move workspaces to another image, one after the other and node by node, each when its agents
    /// are idle.
    ///
    /// One that runs starts again with its home. With --canary one goes first, and the others only
    /// where it runs well; else it goes back. The first that does not come up ends it. What was
    /// moved stays moved: the same command goes on where it ended, and `image rollback` goes back.
    /// Exit code 6 where agents are still busy when --timeout (1h) ends.
    #[command(after_help = "Examples:
  warren image rollout agents:2026-11 --from agents:2026-10 --canary
  warren image rollout agents:2026-11 --from agents:2026-10 --client acme --canary acme/web
  warren image rollout agents:2026-11 --from agents:2026-10 --dry-run")]
    Rollout(rollout::Rollout),
    /// Move the workspaces of an image back to the one that each had before.
    #[command(after_help = "Examples:
  warren image rollback agents:2026-11
  warren image rollback agents:2026-11 --now --yes      (also those whose agents are busy)")]
    Rollback(rollout::Rollback),
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Build(build) => build::run(app, &build),
        Verb::List(list) => list::run(app, &list).await,
        Verb::Rollout(rollout) => rollout::out(app, &rollout).await,
        Verb::Rollback(rollback) => rollout::back(app, &rollback).await,
    }
}
