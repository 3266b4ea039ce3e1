//! `warren-node-agent pool`: looks at the pool of homes, grows it, checks it.

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use warren_common::Bytes;
use warren_node_agent::{
    agent,
    config::Config,
    volume::btrfs::{
        BtrfsStore,
        pool::{Check, Grown, Growth, Report},
    },
};

/// Verbs on the pool.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Show the pool and what each home takes of it.
    Show(Output),
    /// Grow the pool, while it is in use; the cluster knows within a minute.
    Grow(Grow),
    /// Check the pool; ends with 1 where something is wrong.
    Check(CheckArgs),
}

/// How it is printed.
#[derive(Args)]
pub(crate) struct Output {
    /// text, or json.
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Args)]
pub(crate) struct Grow {
    /// How much larger, such as 20G.
    #[arg(long, value_name = "SIZE", required_unless_present = "to", conflicts_with = "to")]
    by: Option<Bytes>,
    /// How large in all: the same call twice grows once.
    #[arg(long, value_name = "SIZE")]
    to: Option<Bytes>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Also read every block and hold it against its checksum: as long as reading it all takes.
    #[arg(long)]
    scrub: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(config: &Config, verb: Verb) -> anyhow::Result<()> {
    let pool = agent::pool(config)?.context(
        "homes of this node are plain folders: there is no pool; see [volumes] in the agent's \
         configuration",
    )?;
    anyhow::ensure!(pool.is_made(), "there is no pool yet: the agent makes it when it starts");
    match verb {
        Verb::Show(output) => print(&output, &pool.report()?, show),
        Verb::Grow(grow) => {
            let growth = match (grow.by, grow.to) {
                (Some(more), _) => Growth::By(more),
                (None, Some(size)) => Growth::To(size),
                (None, None) => anyhow::bail!("give --by or --to"),
            };
            print(&grow.output, &pool.grow(growth)?, grown)
        }
        Verb::Check(check) => checked(&pool, &check),
    }
}

fn print<T: serde::Serialize>(
    output: &Output,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    match output.output {
        Format::Text => super::say(text(value).trim_end()),
        Format::Json => super::say(&serde_json::to_string_pretty(value)?),
    }
}

fn checked(pool: &BtrfsStore, check: &CheckArgs) -> anyhow::Result<()> {
    let checks = pool.check(check.scrub)?;
    print(&check.output, &checks, |checks| {
        let lines: Vec<String> = checks.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let bad: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    anyhow::ensure!(bad.is_empty(), "{} of {} checks failed", bad.len(), checks.len());
    Ok(())
}

fn show(report: &Report) -> String {
    let mut text = format!(
        "{}: {}\nmounted at {}, filesystem {}\n{} of {} free; homes can be given {}\n",
        report.kind,
        report.path.display(),
        report.mount.display(),
        report.uuid,
        Bytes(report.available_bytes),
        Bytes(report.used_bytes).plus(Bytes(report.available_bytes)),
        Bytes(report.size_bytes),
    );
    for home in &report.homes {
        let limit = match home.limit_bytes {
            Some(limit) => format!("of {}", Bytes(limit)),
            None => "without a quota".to_owned(),
        };
        text.push_str(&format!("  {}  {} {limit}\n", home.workspace, Bytes(home.used_bytes)));
    }
    for finding in &report.findings {
        text.push_str(&format!("{}: {}\n  next: {}\n", finding.code, finding.message, finding.fix));
    }
    text
}

fn grown(grown: &Grown) -> String {
    let (from, to) = (Bytes(grown.from_bytes), Bytes(grown.to_bytes));
    match from == to {
        true => format!("the pool has {to} already"),
        false => format!("the pool grew from {from} to {to}; the cluster knows within a minute"),
    }
}
