//! Whether what is said of coding agents is what they do: recorded sequences, or the agents
//! themselves in a workspace.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::command::{cargo, command, root, run as shown};

/// Which agents, or none.
#[derive(Debug, Args)]
pub struct AgentsArgs {
    /// The recorded sequences alone: how often each state was taken for another; needs no Docker
    #[arg(long)]
    corpus: bool,
    /// Only the agents with this in their name: claude, codex, gemini
    #[arg(long, conflicts_with = "corpus")]
    only: Option<String>,
    /// The core stories alone, as `./deploy/test agents` plays them
    #[arg(long, conflicts_with = "corpus")]
    core: bool,
}

/// Holds every recorded sequence to its word, or prepares a workspace with real agents and plays
/// their stories. Needs root and Docker's programs without `--corpus`.
///
/// # Errors
/// Fails where something cannot be prepared, or where something is said that is not so.
pub fn run(args: &AgentsArgs) -> Result<()> {
    if args.corpus {
        let test = ["test", "--workspace", "--locked", "--test", "agents", "--", "--nocapture"];
        return shown(&cargo(), &test);
    }
    shown("./deploy/test", &["prepare", "agents-image"])?;
    let mut stories = command("target/debug/warren-agents");
    stories
        .args(args.core.then_some("--core"))
        .args(args.only.as_deref())
        .current_dir(root()?)
        .stdin(Stdio::null());
    let status = stories.status().context("cannot start warren-agents")?;
    if !status.success() {
        bail!("the agents' stories ended with {status}");
    }
    Ok(())
}
