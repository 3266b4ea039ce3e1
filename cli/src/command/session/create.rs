//! `warren session create`.

use std::{
    fs::File,
    io::{self, Read},
};

use clap::{Args, ValueEnum};
use warren_common::{Limits, SessionAddress};
use warren_proto::pb::admin::v1 as pb;

use super::{
    reach::{self, Goal},
    target::Target,
};
use crate::{
    api,
    app::App,
    command::{Change, refused, workspace::Waiting},
    error::{Error, Outcome},
    view::session::Session,
};

/// Arguments of `session create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// client/workspace/NAME, or client/workspace for a name after the agent.
    session: String,
    /// What runs in it; a command without it.
    #[arg(long, value_enum, default_value = "command")]
    agent: Agent,
    /// The branch of its worktree; made from what is checked out where there is none of this name.
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// Typed into the agent once, when it is first ready; - reads it from stdin, @FILE from a file.
    #[arg(long, value_name = "TEXT|-|@FILE", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Whether the agent asks before it acts.
    #[arg(long, value_enum, default_value = "bypass")]
    permissions: Asking,
    /// Only where the workspace has not changed since this revision, as `workspace show -o json`
    /// gives.
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    change: Change,
    /// What follows the agent's name, or the command; a login shell without one.
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// What runs in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Agent {
    /// Claude Code.
    Claude,
    /// Codex CLI.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// The command that follows --.
    Command,
}

/// Whether an agent asks before it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Asking {
    /// It acts.
    Bypass,
    /// It asks, as it is set up to.
    Ask,
}

impl Agent {
    const fn word(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Command => "",
        }
    }
}

pub(crate) async fn run(app: &App, create: Create) -> Outcome {
    let (workspace, name) = match create.session.split('/').count() {
        3 => {
            let address: SessionAddress = create.session.parse().map_err(refused)?;
            (address.workspace.to_string(), address.session.to_string())
        }
        _ => (create.session.clone(), String::new()),
    };
    let prompt = create.prompt.as_deref().map(prompt).transpose()?.unwrap_or_default();
    let mutation = api::mutation(&create.change.id(app));
    let request = pb::CreateSessionRequest {
        mutation: Some(pb::Mutation { if_revision: create.if_revision, ..mutation }),
        workspace,
        name,
        agent: create.agent.word().to_owned(),
        arguments: create.arguments,
        branch: create.branch.unwrap_or_default(),
        prompt,
        asks: create.permissions == Asking::Ask,
    };
    let mut api = app.api()?;
    let answer = api
        .write(async |channel| api::sessions(channel).create_session(request.clone()).await)
        .await?;
    let Some(session) = answer.session.map(Session::from) else {
        app.output.talk("the session was made, and has been deleted since");
        return Ok(0);
    };
    let goal = Goal::Runs(session.asked_run());
    let target = Target::of(&session);
    reach::finish(app, &mut api, (&target, goal), (session, create.waiting.no_wait)).await
}

/// Reads a prompt from where it is said to be.
fn prompt(given: &str) -> Result<String, Error> {
    let text = if given == "-" {
        read("stdin", io::stdin().lock())?
    } else if let Some(path) = given.strip_prefix('@') {
        let file = File::open(path).map_err(|error| {
            Error::usage(format!("the prompt's file {path} cannot be read")).why(error.to_string())
        })?;
        read(path, file)?
    } else {
        given.to_owned()
    };
    let text = text.trim_end_matches('\n').to_owned();
    if text.trim().is_empty() {
        return Err(Error::usage("the prompt is empty").next("leave --prompt out, or give a text"));
    }
    Ok(text)
}

/// Reads at most one byte more than the limit, which is enough to be refused.
fn read(name: &str, from: impl Read) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(Limits::PROMPT_BYTES).unwrap_or(u64::MAX).saturating_add(2);
    from.take(limit).read_to_end(&mut bytes).map_err(|error| {
        Error::usage(format!("the prompt cannot be read from {name}")).why(error.to_string())
    })?;
    if bytes.len() > Limits::PROMPT_BYTES + 1 {
        let message = format!("the prompt has more than {} bytes, the limit", Limits::PROMPT_BYTES);
        return Err(Error::usage(message)
            .next("put it into a file in the workspace and send the file's name"));
    }
    String::from_utf8(bytes).map_err(|_| Error::usage(format!("{name} is not UTF-8")))
}
