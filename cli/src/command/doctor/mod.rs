//! `warren doctor`: looks at everything, says what is wrong, what it means and what to type.
//!
//! Facts are gathered first ([`gather`]); the checks are pure functions over them, so each fault is
//! tested with a fabricated answer. What could not be looked at is never ok. Nothing is mended here.

mod checks;
mod facts;
mod finding;
mod gather;
mod local;

use std::path::PathBuf;

use clap::Args;
use warren_daemon::clock;

use crate::{app::App, error::Outcome, render::Format, view::Moment};
use finding::{Finding, Report};

/// Look at the cluster, or at this machine, and say what is wrong and how to mend it.
///
/// Each check has a code that stays the same, a level (ok, warning, error, or not looked at and
/// why), and what to do. Exit code 1 where one of them is an error. Nothing of the cluster is changed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  warren doctor\n  warren doctor -o json\n  warren doctor --local      (on the machine of a coordinator or a node, as root)"
)]
pub(crate) struct Doctor {
    /// Look at this machine's coordinator and node agent instead of the cluster; needs no context.
    #[arg(long)]
    local: bool,
    /// The coordinator's configuration.
    #[arg(
        long,
        value_name = "FILE",
        requires = "local",
        default_value = "/etc/warren/coordinator.toml"
    )]
    coordinator_config: PathBuf,
    /// The node agent's configuration.
    #[arg(
        long,
        value_name = "FILE",
        requires = "local",
        default_value = "/etc/warren/node-agent.toml"
    )]
    node_config: PathBuf,
}

pub(crate) async fn run(app: &App, doctor: &Doctor) -> Outcome {
    let (cluster, findings) = match doctor.local {
        true => {
            let (coordinator, node) = (&doctor.coordinator_config, &doctor.node_config);
            (None, local::findings(coordinator, node).await)
        }
        false => of_the_cluster(app).await,
    };
    let report = Report::new(cluster, Moment(clock::now()), findings);
    match app.output.format {
        Format::Name => {
            let bad = report.findings.iter().filter(|one| one.is_bad());
            let names: Vec<String> = bad.map(Finding::name).collect();
            app.output.data(&names.concat())?;
        }
        _ => {
            let colour = app.output.colour && crate::render::stdout_width().is_some();
            app.output.object(&report, "", || report.text(colour))?;
        }
    }
    Ok(u8::from(report.errors > 0))
}

async fn of_the_cluster(app: &App) -> (Option<String>, Vec<Finding>) {
    let facts = gather::gather(app).await;
    let name = facts.cluster.as_ref().ok().map(|cluster| cluster.name.clone());
    (name, checks::all(&facts))
}
