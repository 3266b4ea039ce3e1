//! `warren workspace`: homes of coding agents.

mod change;
mod create;
mod delete;
mod exec;
mod logs;
mod look;
mod open;
mod resize;
mod update;

pub(crate) use change::Waiting;

use clap::Subcommand;

use super::top;
use crate::{app::App, error::Outcome};

pub(crate) use look::{all, get};

/// Verbs on workspaces. Each takes `client/workspace`, a bare name that fits one, or an id.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a workspace and wait until it runs.
    ///
    /// The repository is cloned inside the workspace, over http(s) or git, without credentials.
    /// Exit code 1 where a startup step fails (the workspace runs on, so that one can look), 4
    /// where no node may hold it and --no-queue was given, 6 where --timeout ends first.
    #[command(after_help = "Examples:
  warren workspace create acme/web --repo https://git.example/acme/web.git --memory 4G
  warren workspace create acme/web --session main=claude --session tests='npm run watch'
  warren workspace create acme/api --setup @setup.sh --pin n2 --wait=none -o json")]
    Create(Box<create::Create>),
    /// List workspaces.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  warren workspace list\n  warren workspace list --client acme -o name\n  warren workspace list --watch"
    )]
    List(look::List),
    /// Show one workspace: spec, phase, startup steps, sessions, usage.
    #[command(after_help = "Example:\n  warren workspace show acme/web -o yaml")]
    Show(look::One),
    /// Show what workspaces use, the busiest first, until Ctrl-C.
    #[command(
        after_help = "Examples:\n  warren workspace top\n  warren workspace top acme/web --once -o json\n  warren workspace top --client acme --sort memory"
    )]
    Top(top::Workspaces),
    /// Explain why a workspace is where it is, or why it is nowhere.
    #[command(after_help = "Example:\n  warren workspace explain acme/web")]
    Explain(look::One),
    /// Start a stopped workspace and wait until it runs.
    #[command(after_help = "Example:\n  warren workspace start acme/web")]
    Start(change::Target),
    /// Stop a workspace and wait until it has stopped; its home is kept.
    #[command(after_help = "Example:\n  warren workspace stop acme/web --timeout 1m")]
    Stop(change::Target),
    /// Stop and start a workspace with a fresh container; its home is kept.
    #[command(after_help = "Example:\n  warren workspace restart acme/web")]
    Restart(change::Target),
    /// Give a workspace other caps, while it runs: nothing is restarted.
    ///
    /// What is not named stays. Exit code 4 where its node has no room, or where it uses more memory
    /// than it would get. A home may get less than it holds: nothing is lost, and nothing can be
    /// written until enough is deleted.
    #[command(after_help = "Examples:
  warren workspace resize acme/web --memory 8G
  warren workspace resize acme/web --disk 60G --cpus 4 --no-wait
  warren workspace resize acme/web --cpus 0        (no processor cap any more)")]
    Resize(resize::Resize),
    /// Make a workspace of another image or another version of its template: what changes is shown
    /// first.
    ///
    /// One that runs starts again, with its home, unless only caps and labels change. Exit code 4 where an agent in it is busy and
    /// --when-idle was given. For many: `warren image rollout`.
    #[command(after_help = "Examples:
  warren workspace update acme/web --image agents:2026-11 --dry-run
  warren workspace update acme/web --image agents:2026-11 --when-idle --yes
  warren workspace update acme/web --rollback
  warren workspace update acme/web --template latest --plan
  warren workspace update acme/web --template agent@4 --param branch=next --yes")]
    Update(update::Update),
    /// Delete a workspace with its home, for good.
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  warren workspace delete acme/web\n  warren workspace delete acme/web --yes --no-wait"
    )]
    Delete(delete::Delete),
    /// Run a program in a workspace, beside its sessions; its exit code is ours.
    ///
    /// The program runs as the workspace's user, in the checkout, and is killed when this command
    /// ends. Signals are passed on. Exit code 126 and 127: it cannot be run, or is not there.
    #[command(after_help = "Examples:
  warren workspace exec acme/web -- git status
  warren workspace exec -it acme/web -- bash
  tar c . | warren workspace exec -i acme/web -- tar x -C /home/agent/in")]
    Exec(exec::Exec),
    /// Show the terminal, editor, browser's display or a port of a workspace here, until Ctrl-C.
    ///
    /// Listens on 127.0.0.1 alone and prints the address. A display is only looked at until control
    /// is taken, by one person at a time and for a while. Who opened what is on the audit record.
    #[command(after_help = "Examples:
  warren workspace open acme/web playwright
  warren workspace open acme/web playwright --control 30
  warren workspace open acme/web 3000 --local 3000
  warren workspace open acme/web terminal --session main -o json")]
    Open(open::Open),
    /// Print the start-up and service log of a workspace.
    #[command(
        after_help = "Examples:\n  warren workspace logs acme/web --tail 50\n  warren workspace logs -f acme/web"
    )]
    Logs(logs::Logs),
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Create(create) => create::run(app, &create).await,
        Verb::List(list) => look::list(app, &list).await,
        Verb::Show(one) => look::show(app, &one).await,
        Verb::Top(some) => top::workspaces(app, &some).await,
        Verb::Explain(one) => look::explain(app, &one).await,
        Verb::Start(target) => change::start(app, &target).await,
        Verb::Stop(target) => change::stop(app, &target).await,
        Verb::Restart(target) => change::restart(app, &target).await,
        Verb::Resize(resize) => resize::run(app, &resize).await,
        Verb::Update(update) => update::run(app, &update).await,
        Verb::Delete(delete) => delete::run(app, &delete).await,
        Verb::Exec(exec) => exec::run(app, &exec).await,
        Verb::Open(open) => open::run(app, &open).await,
        Verb::Logs(logs) => logs::run(app, &logs).await,
    }
}
