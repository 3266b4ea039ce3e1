//! `warren session`: terminals inside workspaces, and the agents in them.

mod attach;
mod change;
mod create;
mod explain;
mod list;
mod reach;
mod screen;
mod target;
mod wait;

use clap::{Subcommand, ValueEnum};
use warren_common::agent::StateName;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api::{self, Api, Listed},
    app::App,
    error::{Error, Outcome},
    view::session::Session,
};

/// Verbs on sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List sessions and what their agents do, of one workspace or of all.
    ///
    /// Who needs a person comes first: who waits, whose turn failed, who crashed, who finished with
    /// nobody looking, who is stalled; of equals who has for longest. docs/AGENTS.md says what the
    /// states mean.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:
  warren session list
  warren session list acme/web -o json
  warren session list --needs-me --watch
  warren session list --state waiting,error --client acme --sort name"
    )]
    List(list::List),
    /// Make a session in a workspace: an agent or a command, on a branch of its own.
    ///
    /// It gets a worktree beside the checkout, on the branch that --branch names or on
    /// warren/NAME; `main`, and the first session of a workspace, work in the checkout itself. An
    /// agent acts without asking, since its workspace is its sandbox, unless --permissions ask is
    /// given. Its conversation is kept: it goes on after a restart of the session or of the
    /// workspace.
    #[command(after_help = "Examples:
  warren session create acme/web --agent claude --prompt 'fix the failing tests'
  warren session create acme/web/review --agent codex --branch review --prompt @task.md
  warren session create acme/web/dev -- npm run dev
  warren session create acme/web --agent gemini --permissions ask -- --model gemini-2.5-pro")]
    Create(create::Create),
    /// End every process of a session; its worktree and its conversation stay.
    #[command(after_help = "Examples:
  warren session stop acme/web/review")]
    Stop(change::Stop),
    /// Run a session anew, whether it runs or not; its agent goes on with its conversation.
    #[command(after_help = "Examples:
  warren session restart acme/web/review
  warren session restart acme/web/review --fresh     (with a new conversation)")]
    Restart(change::Restart),
    /// End a session for good; its worktree stays unless --worktree is given.
    #[command(after_help = "Examples:
  warren session delete acme/web/review
  warren session delete acme/web/review --worktree")]
    Delete(change::Delete),
    /// Show one session: what was asked for, and how it stands.
    #[command(after_help = "Examples:
  warren session show acme/web/review
  warren session show acme/web -o json     (its only session, or main)")]
    Show(change::Show),
    /// Show why an agent is said to be in its state: what each source said, and what came of it.
    #[command(after_help = "Examples:
  warren session explain acme/web/main
  warren session explain acme/web -o json     (its only session, or main)")]
    Explain(explain::Explain),
    /// Wait until an agent comes into one of these states.
    ///
    /// Returns at once where it is in one. Exit code 0 where it came there, 6 where it did not within
    /// --timeout (10m), 3 where there is no such session.
    #[command(after_help = "Examples:
  warren session wait acme/web/main
  warren session wait acme/web/main --until idle,exited --timeout 2h -o json")]
    Wait(wait::Wait),
    /// Show a session in this terminal; leaving does not end it.
    ///
    /// The session is tmux: colours, UTF-8, mouse and resizing work as usual, and so does
    /// scrolling back: turn the mouse wheel, or press Ctrl-b [ and leave with q. Several people
    /// may look at once.
    ///
    /// Leave with Ctrl-] d: the program runs on. Ctrl-] Ctrl-] sends one Ctrl-]. When the
    /// connection drops it is made again for as long as --timeout says (2m): the session lives on
    /// its node. When the session's program ends, its exit code is ours.
    #[command(after_help = "Examples:
  warren session attach acme/web/main
  warren session attach acme/web              (its only session, or main)
  warren session attach web --read-only
  warren session attach acme/web --detach-keys ctrl-p,ctrl-q")]
    Attach(attach::Attach),
    /// Type into a session as if at its terminal.
    ///
    /// The text goes in as one paste, then Enter is pressed, or the keys that --key names: Enter,
    /// Escape, Tab, BSpace, Up, Down, PageUp, C-c, M-x, F1 or a single character. Whatever runs in
    /// the session takes it as it would take a person's; what an agent makes of it is its own
    /// matter. It is refused where the session's program has ended.
    #[command(after_help = "Examples:
  warren session send acme/web/main 'run the tests and fix what fails'
  warren session send acme/web/main - < prompt.md
  warren session send acme/web/main --key Escape
  warren session send acme/web/main 2 --no-enter")]
    Send(screen::Send),
    /// Print the text that a session shows.
    #[command(after_help = "Examples:
  warren session read acme/web/main
  warren session read acme/web/main --history 500
  warren session read acme/web/main -o json")]
    Read(screen::Read),
}

/// The eight states of an agent, as they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// The process is up or wanted; nothing was heard of it.
    Starting,
    /// A turn is running.
    Working,
    /// Blocked on a person.
    Waiting,
    /// The turn is over; something of its own will wake it.
    Background,
    /// At the prompt; will not move by itself.
    Idle,
    /// The turn ended by an error.
    Error,
    /// The process is gone.
    Exited,
    /// Who watches it is out of reach.
    Unknown,
}

impl From<State> for StateName {
    fn from(state: State) -> Self {
        match state {
            State::Starting => Self::Starting,
            State::Working => Self::Working,
            State::Waiting => Self::Waiting,
            State::Background => Self::Background,
            State::Idle => Self::Idle,
            State::Error => Self::Error,
            State::Exited => Self::Exited,
            State::Unknown => Self::Unknown,
        }
    }
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::List(list) => list::run(app, list).await,
        Verb::Create(create) => create::run(app, create).await,
        Verb::Stop(stop) => change::stop(app, &stop).await,
        Verb::Restart(restart) => change::restart(app, &restart).await,
        Verb::Delete(delete) => change::delete(app, &delete).await,
        Verb::Show(show) => change::show(app, &show).await,
        Verb::Explain(explain) => explain::run(app, &explain).await,
        Verb::Wait(wait) => wait::run(app, &wait).await,
        Verb::Attach(attach) => attach::run(app, &attach).await,
        Verb::Send(send) => screen::send(app, &send).await,
        Verb::Read(read) => screen::read(app, &read).await,
    }
}

/// Returns the sessions that are asked for, by address; pages are filled in.
///
/// # Errors
/// Not found, ambiguous, or that no coordinator answered.
async fn sessions(
    api: &mut Api,
    wanted: &pb::ListSessionsRequest,
) -> Result<Listed<Session>, Error> {
    let listed = api::pages(api, async |api, page_size, page_token| {
        let request = pb::ListSessionsRequest { page_size, page_token, ..wanted.clone() };
        let page = api
            .read(async |channel| api::sessions(channel).list_sessions(request.clone()).await)
            .await?;
        Ok((page.sessions, page.next_page_token, page.freshness))
    })
    .await?;
    Ok(listed.map(Session::from))
}

/// Returns the sessions of a workspace, or of all where it is empty.
///
/// # Errors
/// As [`sessions`].
async fn sessions_of(api: &mut Api, workspace: &str) -> Result<Listed<Session>, Error> {
    let workspace = workspace.to_owned();
    sessions(api, &pb::ListSessionsRequest { workspace, ..Default::default() }).await
}
