//! The verbs, one folder per noun.

pub(crate) mod audit;
pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod context;
pub(crate) mod doctor;
pub(crate) mod image;
pub(crate) mod node;
pub(crate) mod secret;
pub(crate) mod session;
pub(crate) mod template;
pub(crate) mod top;
pub(crate) mod user;
pub(crate) mod version;
pub(crate) mod workspace;

use std::path::PathBuf;

use clap::Args;
use uuid::Uuid;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    app::App,
    args::Noun,
    error::{Error, Kind, Outcome},
};

/// Runs one command.
///
/// # Errors
/// What went wrong, for people and scripts.
pub(crate) async fn run(app: &App, noun: Noun) -> Outcome {
    match noun {
        Noun::Cluster { verb } => cluster::run(app, verb).await,
        Noun::Node { verb } => node::run(app, verb).await,
        Noun::Client { verb } => client::run(app, verb).await,
        Noun::Workspace { verb } => workspace::run(app, verb).await,
        Noun::Session { verb } => session::run(app, verb).await,
        Noun::Image { verb } => image::run(app, verb).await,
        Noun::Browser { verb } => browser::run(app, verb).await,
        Noun::Template { verb } => template::run(app, verb).await,
        Noun::Secret { verb } => secret::run(app, verb).await,
        Noun::User { verb } => user::run(app, verb).await,
        Noun::Audit { verb } => audit::run(app, verb).await,
        Noun::Context { verb } => context::run(app, verb).await,
        Noun::Top(all) => top::all(app, &all).await,
        Noun::Doctor(doctor) => doctor::run(app, &doctor).await,
        Noun::Version(version) => version::run(app, &version).await,
    }
}

/// What every change takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Change {
    /// UUIDv7 of this request: asked again with the same one, it takes effect once.
    #[arg(long, value_name = "UUID", value_parser = request_id)]
    request_id: Option<Uuid>,
}

impl Change {
    /// Returns the id that was given, or a fresh one; to be asked before the calls are prepared.
    pub(crate) fn id(&self, app: &App) -> String {
        app.request_id(self.request_id)
    }
}

/// Where the things of a list are: what lists of what is in workspaces take.
#[derive(Debug, Clone, Args)]
pub(crate) struct Within {
    /// client/workspace, a bare name that fits one, or an id; all workspaces without it.
    pub(crate) workspace: Option<String>,
    /// Of all workspaces, which is also what no workspace means.
    #[arg(long, conflicts_with = "workspace")]
    all: bool,
    /// Only of this client.
    #[arg(long, value_name = "CLIENT")]
    pub(crate) client: Option<String>,
    /// Only on this node.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
}

/// What every list that can be watched takes.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Watch {
    /// Then go on with what changes, a line each, until Ctrl-C (exit code 130).
    ///
    /// With -o json each change is one line: event, revision, index, at, address, object. Where
    /// coordinators are lost it goes on at another one, and gives up after --timeout (2m).
    #[arg(short, long, conflicts_with_all = ["stale", "min_revision"])]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) fresh: Fresh,
}

/// What every look at something takes.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Fresh {
    /// Take what the asked coordinator knows, also without a quorum, and say how old that may be.
    ///
    /// With -o json and yaml each object then has a field as_of: coordinator, age_ms (null where it
    /// cannot tell), revision, incarnation.
    #[arg(long)]
    stale: bool,
    /// As --stale, but with this revision in it: what -o json shows of a change can be seen at once,
    /// whichever coordinator is asked.
    #[arg(long, value_name = "REVISION")]
    min_revision: Option<u64>,
}

impl Fresh {
    /// Returns how fresh the answer must be, as calls carry it.
    pub(crate) fn read(self) -> Option<pb::Read> {
        (self.stale || self.min_revision.is_some()).then(|| pb::Read {
            consistency: pb::Consistency::Stale.into(),
            min_revision: self.min_revision.unwrap_or_default(),
        })
    }
}

/// Returns a revision as talk names it; nothing where the coordinator did not.
pub(crate) fn at_revision(revision: u64) -> String {
    if revision == 0 { String::new() } else { format!(" (revision {revision})") }
}

/// Returns another program of Warren: the one beside this one, or else whichever the path finds.
pub(crate) fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join(name))).filter(|path| path.exists());
    beside.unwrap_or_else(|| name.into())
}

fn request_id(text: &str) -> Result<Uuid, String> {
    match Uuid::try_parse(text) {
        Ok(id) if id.get_version_num() == 7 => Ok(id),
        _ => Err("a request id is a UUID of version 7; leave it out to have one made".to_owned()),
    }
}

/// Returns an answer's object, which the protocol leaves optional.
///
/// # Errors
/// Where the coordinator left it out.
pub(crate) fn present<T>(part: Option<T>) -> Result<T, Error> {
    part.ok_or_else(|| {
        Error::new(Kind::Failed, "INCOMPLETE_ANSWER", "the coordinator's answer is incomplete")
            .next("warren version shows whether it is of another version than this command")
    })
}

/// Makes a usage error of a value that a type of the vocabulary refuses.
pub(crate) fn refused(error: impl std::fmt::Display) -> Error {
    Error::usage(error.to_string())
}
