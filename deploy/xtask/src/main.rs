//! Developer commands of Warren:
//! `cargo xtask ci|tidy|deny|image|inside|agents|browsers|bench|mutants|torture|views`.
//!
//! `ci` is what the build server runs; everything it does can be run alone. Progress goes to
//! stderr, results to stdout.

mod agents;
mod bench;
mod browsers;
mod ci;
mod command;
mod deny;
mod image;
mod mutants;
mod packages;
mod purity;
mod tidy;
mod torture;
mod views;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of Warren")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Formatting, lints, tests, documentation, dependencies, purity and tidiness
    Ci {
        /// What must hold for each commit: no documentation build, no dependency policy
        #[arg(long)]
        quick: bool,
        /// Only this half of it
        #[arg(long)]
        part: Option<ci::Part>,
    },
    /// Sizes, headers, words and leftovers in the sources
    Tidy,
    /// Licences, sources and bans of the dependencies, and unused ones
    Deny,
    /// Which crate may know which
    Purity,
    /// An image workspaces start from; says when it is unchanged
    Image(image::ImageArgs),
    /// The static PID 1 of workspaces; prints its path and size
    Inside(image::InsideArgs),
    /// Coding agents: is what is said of them what they do?
    Agents(agents::AgentsArgs),
    /// Real browsers: is what is shown of them what they show?
    Browsers,
    /// A figure beside a peer's in the same run; ends with one JSON line
    Bench {
        /// Which one
        #[arg(value_parser = bench::NAMES)]
        name: String,
        #[command(flatten)]
        options: bench::Options,
    },
    /// One wall taken away at a time: does a test notice?
    Mutants(mutants::MutantsArgs),
    /// A coordinator broken again and again: is everything acknowledged there, once?
    Torture(torture::TortureArgs),
    /// The display and a terminal of a workspace in a real Chromium; pictures in target/views
    Views,
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Ci { quick, part } => ci::run_command(quick, part),
        Command::Tidy => tidy::run(),
        Command::Deny => deny::run(),
        Command::Purity => purity::run(),
        Command::Image(args) => image::run(&args),
        Command::Inside(args) => image::inside(&args).map(drop),
        Command::Agents(args) => agents::run(&args),
        Command::Browsers => browsers::run(),
        Command::Bench { name, options } => bench::run(&name, &options),
        Command::Mutants(args) => mutants::run(&args),
        Command::Torture(args) => torture::run(&args),
        Command::Views => views::command(),
    }
}
