//! `warren session`: terminals inside workspaces.

mod attach;
mod screen;
mod target;

use clap::{Args, Subcommand};
use warren_proto::pb::admin::v1 as pb;

use super::Watch;
use crate::{
    api::{self, Api, Listed},
    app::App,
    error::{Error, Outcome},
    follow::Follow,
    view::session::Session,
};

/// Verbs on sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List sessions, of one workspace or of all.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  warren session list\n  warren session list acme/web -o json\n  warren session list --watch"
    )]
    List(List),
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

/// Arguments of `session list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// client/workspace, a bare name that fits one, or an id; all workspaces without it.
    workspace: Option<String>,
    #[command(flatten)]
    watch: Watch,
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::List(list) => {
            let workspace = list.workspace.unwrap_or_default();
            let (mut api, empty) = (app.api()?, "no sessions");
            if list.watch.watch {
                let follow = Follow { app, request: pb::WatchRequest::default(), empty };
                return follow
                    .run(&mut api, async |api| sessions(api, &workspace, None).await)
                    .await;
            }
            let read = list.watch.fresh.read();
            let listed = sessions(&mut api, &workspace, read).await?;
            app.output.of(Some(&listed.at)).list(&listed.items, listed.now, empty)?;
            Ok(0)
        }
        Verb::Attach(attach) => attach::run(app, &attach).await,
        Verb::Send(send) => screen::send(app, &send).await,
        Verb::Read(read) => screen::read(app, &read).await,
    }
}

/// Returns the sessions of a workspace, or of all where it is empty.
///
/// # Errors
/// Not found, ambiguous, or that no coordinator answered.
async fn sessions(
    api: &mut Api,
    workspace: &str,
    read: Option<pb::Read>,
) -> Result<Listed<Session>, Error> {
    let listed = api::pages(api, async |api, page_size, page_token| {
        let workspace = workspace.to_owned();
        let request = pb::ListSessionsRequest { workspace, page_size, page_token, read };
        let page = api
            .read(async |channel| api::sessions(channel).list_sessions(request.clone()).await)
            .await?;
        Ok((page.sessions, page.next_page_token, page.freshness))
    })
    .await?;
    Ok(listed.map(Session::from))
}
