//! Developer commands of Warren.

mod image;

use clap::{Parser, Subcommand};

/// Developer commands: run as `cargo xtask <command>`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds the image of workspaces where its inputs have changed.
    Image(image::ImageArgs),
    /// Builds the static binary that is PID 1 of a workspace; prints its path.
    Inside(image::InsideArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Image(args) => image::run(&args),
        Command::Inside(args) => image::inside(&args).map(drop),
    }
}
