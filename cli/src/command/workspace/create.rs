//! `warren workspace create`.
//!
//! The command line is checked completely before any call; what the request says is then committed
//! once, whatever happens to the connection, because its request id stays the same.

mod ask;
mod request;

use clap::{Args, ValueEnum};
use tokio::time::Instant;
use warren_common::{
    Bytes, MilliCpus, NodeName, WorkspaceAddress,
    spec::{RepoUrl, SessionSpec},
};
use warren_proto::error::reason;

use crate::{
    api,
    app::App,
    command::Change,
    error::{Error, Kind, Outcome},
    progress::{self, Goal, Waiter},
    value,
    view::{explanation::Explanation, workspace::Workspace},
};

/// Arguments of `workspace create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// client/name of the new workspace; the client exists already.
    #[arg(value_name = "CLIENT/NAME")]
    address: WorkspaceAddress,
    /// Repository cloned into the home, inside the workspace.
    #[arg(long, value_name = "URL", value_parser = repo)]
    repo: Option<RepoUrl>,
    /// Branch to check out; the repository's default without it.
    #[arg(long, value_name = "BRANCH", requires = "repo")]
    branch: Option<String>,
    /// Shell script run in the checkout after the clone: @file, or @- for stdin.
    #[arg(long, value_name = "@FILE")]
    setup: Option<String>,
    /// A session to start, with its command or a shell; may be repeated [default: main].
    #[arg(long = "session", value_name = "NAME[=COMMAND]", value_parser = value::session)]
    sessions: Vec<SessionSpec>,
    /// Name that commits are by; needs --git-email.
    #[arg(long, value_name = "NAME", requires = "git_email")]
    git_name: Option<String>,
    /// Address that commits are by; needs --git-name.
    #[arg(long, value_name = "EMAIL", requires = "git_name")]
    git_email: Option<String>,
    /// Template to make it from, at its active version or a named one: agent@3 [default: base].
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// A parameter of the template; may be repeated. One of type secret takes the name of a secret, or
    /// @FILE, @- or env:VARIABLE: the value is set as the secret WORKSPACE-PARAMETER first.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = value::pair)]
    params: Vec<(String, String)>,
    /// A TOML file with parameters of the template; --param goes before it.
    #[arg(long, value_name = "FILE")]
    param_file: Option<std::path::PathBuf>,
    /// Container image instead of the template's.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Let browsers keep their pages in by their own sandbox, for which the workspace may make
    /// namespaces [default: the template's, or false].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    browser_sandbox: Option<bool>,
    /// A label of your own; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    labels: Vec<(String, String)>,
    /// What to wait for, at most --timeout (10m).
    #[arg(long, value_enum, default_value = "running", value_name = "STATE")]
    wait: Wait,
    #[command(flatten)]
    change: Change,
    #[command(flatten, next_help_heading = "Resources")]
    resources: ResourceArgs,
    #[command(flatten, next_help_heading = "Placement")]
    placement: PlacementArgs,
}

/// Caps and weights; what is left out is the template's.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ResourceArgs {
    /// Hard memory cap, such as 4G.
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// Swap beyond the cap; none without it.
    #[arg(long, value_name = "SIZE")]
    swap: Option<Bytes>,
    /// Memory that placement sets aside [default: half of the cap].
    #[arg(long, value_name = "SIZE")]
    reserve: Option<Bytes>,
    /// Hard cap in cores, such as 1.5; none without it.
    #[arg(long, value_name = "CORES")]
    cpus: Option<MilliCpus>,
    /// Share of the processor under contention, 2 to 262144.
    #[arg(long, value_name = "WEIGHT")]
    cpu_weight: Option<u32>,
    /// Size of the home.
    #[arg(long, value_name = "SIZE")]
    disk: Option<Bytes>,
    /// Processes and threads, at most.
    #[arg(long, value_name = "COUNT")]
    pids: Option<u32>,
}

/// Where it may run.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlacementArgs {
    /// This node and no other.
    #[arg(long, value_name = "NODE")]
    pin: Option<NodeName>,
    /// A label the node must carry; may be repeated.
    #[arg(long = "require-label", value_name = "KEY=VALUE", value_parser = value::pair)]
    require_labels: Vec<(String, String)>,
    /// How strong its walls must be, never weaker than the template's; node show says what a node
    /// offers [default: the template's, or container].
    #[arg(long, value_enum, value_name = "TIER")]
    isolation: Option<Isolation>,
    /// What happens when its node dies [default: the template's, or auto].
    #[arg(long, value_enum, value_name = "POLICY")]
    failover: Option<Failover>,
    /// Refuse instead of queueing where no node can hold it now.
    #[arg(long)]
    no_queue: bool,
}

/// How strong the walls around a workspace are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Isolation {
    /// A hardened container.
    Container,
    /// The same, with users of its own on the host.
    Userns,
    /// In gVisor.
    Gvisor,
    /// On a node that is the client's own.
    Dedicated,
}

/// What happens when the node dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Failover {
    /// It comes back elsewhere by itself.
    Auto,
    /// It moves only when a person confirms the node dead.
    Manual,
}

/// What `--wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// Every startup step has ended.
    Running,
    /// A node was chosen.
    Placed,
    /// The request is committed.
    None,
}

fn repo(text: &str) -> Result<RepoUrl, String> {
    text.parse::<RepoUrl>().map_err(|error| error.to_string())
}

pub(crate) async fn run(app: &App, create: &Create) -> Outcome {
    let request_id = create.change.id(app);
    let mut request = request::build(create, &request_id)?;
    let mut api = app.api()?;
    ask::complete(app, &mut api, &mut request).await?;
    let begun = Instant::now();
    let answer = api
        .write(async |channel| api::workspaces(channel).create_workspace(request.clone()).await)
        .await;
    let answer = answer.map_err(|error| retry_advice(error, create, &request_id))?;
    let Some(workspace) = answer.workspace.map(Workspace::from) else {
        let address = &create.address;
        app.output.talk(&format!("workspace {address} was created, and has been deleted since"));
        return Ok(0);
    };
    let explanation = answer.explanation.map(Explanation::from);
    let goal = match create.wait {
        Wait::Running => Goal::Running { run_serial: workspace.run_serial },
        Wait::Placed => Goal::Placed,
        Wait::None => {
            return accepted(app, &workspace);
        }
    };
    let mut waiter = Waiter::new(app, goal, begun);
    if let Some(explanation) = explanation.filter(|explanation| explanation.node.is_some()) {
        waiter.placed(&explanation.summary, Instant::now() - begun);
    }
    let done = waiter.wait(&mut api, workspace).await?;
    progress::finish(app, done)
}

fn accepted(app: &App, workspace: &Workspace) -> Outcome {
    app.output.object(workspace, &workspace.address, || {
        format!("{}: {} ({})\n", workspace.address, workspace.phase, workspace.reason)
    })?;
    Ok(0)
}

/// A request that may have arrived can be asked again safely with its id.
fn retry_advice(error: Error, create: &Create, request_id: &str) -> Error {
    match error.kind {
        Kind::Unreachable => {
            let why = error.why.clone();
            let error = error
                .next(format!("the same command with --request-id {request_id} takes effect once"));
            match why {
                Some(_) => error,
                None => error.why("whether it took effect is not known"),
            }
        }
        Kind::NotFound => error.or_next(format!("warren client create {}", create.address.client)),
        Kind::Conflict if error.reason == reason::NAME_TAKEN => {
            error.or_next(format!("warren workspace show {}", create.address))
        }
        Kind::Failed
        | Kind::Usage
        | Kind::Conflict
        | Kind::Timeout
        | Kind::NotPermitted
        | Kind::BrokenPipe => error,
    }
}
