//! `warren audit`: who did what, and whether the records of it are as they were written.

mod list;
mod verify;

use clap::Subcommand;

use crate::{app::App, error::Outcome};

/// Verbs on the audit records.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List records, newest last. For the roles admin and auditor.
    ///
    /// Every change has one: who asked (by certificate), when, as which request, and what it came
    /// to. A request id that this command line printed, or that stands in a log, finds its record.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  warren audit list --since 24h --actor ann\n  warren audit list --target acme --action workspace.delete\n  warren audit list --request-id 0199a0b2-7f00-7000-8000-000000000001\n  warren audit list -w -o json"
    )]
    List(list::List),
    /// Compute the chain of hashes over every record again. For the roles admin and auditor.
    ///
    /// Every coordinator that answers checks its own records against the newest one that the
    /// cluster knows. Exit code 1 where one is broken or was not checked. With --local: the records
    /// of this machine's coordinator, which may be stopped.
    #[command(
        after_help = "Examples:\n  warren audit verify\n  warren audit verify --local\n  warren audit verify --local --state /mnt/old/coordinator"
    )]
    Verify(verify::Verify),
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::List(list) => list::run(app, &list).await,
        Verb::Verify(verify) => verify::run(app, &verify).await,
    }
}
