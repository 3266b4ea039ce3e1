//! `warren browser`: what the browsers in workspaces show.

mod list;
mod shot;
mod target;

use clap::{Args, Subcommand, ValueEnum};
use warren_common::browser::BrowserState;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api::{self, Api, Listed},
    app::App,
    error::{Error, Outcome},
    follow::{Follow, Reports},
    view::browser::Browser,
};

/// Verbs on browsers.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List browsers and what they show, of one workspace or of all.
    ///
    /// Those that need a person come first: who crashed, where a page crashed, who is hung, who shows a
    /// dialog; then by address. docs/BROWSERS.md says how they are found.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:
  warren browser list
  warren browser list acme/web -o json
  warren browser list --all --watch
  warren browser list --state crashed,hung --client acme"
    )]
    List(list::List),
    /// Show one browser and its pages.
    #[command(after_help = "Examples:
  warren browser show acme/web            (its only one)
  warren browser show acme/web/4711-83921 -o json")]
    Show(Show),
    /// Take a picture of a page: PNG, or JPEG where that would be too large.
    ///
    /// Of one page there is a picture each 2 s; who asks sooner waits.
    #[command(after_help = "Examples:
  warren browser shot acme/web page.png
  warren browser shot acme/web/4711-83921 --page 44EFCE9E - > page.png")]
    Shot(shot::Shot),
    /// Go on with what changes of one browser, a line each, until Ctrl-C.
    #[command(after_help = "Examples:
  warren browser watch acme/web
  warren browser watch acme/web/4711-83921 -o json")]
    Watch(Show),
}

/// Arguments of `browser show` and `browser watch`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// client/workspace/ID, or client/workspace where there is one.
    browser: String,
}

/// The states of a browser, as they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// Its process is there, and nothing was heard of it.
    Starting,
    /// It runs.
    Running,
    /// It does not answer.
    Hung,
    /// Its process ended, and nobody closed it.
    Crashed,
    /// It was closed.
    Closed,
}

impl From<State> for BrowserState {
    fn from(state: State) -> Self {
        match state {
            State::Starting => Self::Starting,
            State::Running => Self::Running,
            State::Hung => Self::Hung,
            State::Crashed => Self::Crashed,
            State::Closed => Self::Closed,
        }
    }
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::List(list) => list::run(app, list).await,
        Verb::Show(show) => self::show(app, &show).await,
        Verb::Shot(shot) => shot::run(app, &shot).await,
        Verb::Watch(show) => watch(app, &show).await,
    }
}

async fn show(app: &App, show: &Show) -> Outcome {
    let (browser, now) = target::find(&mut app.api()?, &show.browser).await?;
    app.output.object(&browser, &browser.address, || browser.text(now))?;
    Ok(0)
}

async fn watch(app: &App, show: &Show) -> Outcome {
    let mut api = app.api()?;
    let (browser, _) = target::find(&mut api, &show.browser).await?;
    let address = browser.address.clone();
    let workspace = format!("{}/{}", browser.client, browser.workspace);
    let request = pb::WatchRequest { workspace: workspace.clone(), ..Default::default() };
    let reports = Reports {
        follow: Follow { app, request, empty: "it is gone" },
        holds: |one: &Browser| one.address == address,
    };
    let list = async |api: &mut Api| {
        let mut listed = browsers_of(api, &workspace).await?;
        listed.items.retain(|one| one.address == address);
        Ok(listed)
    };
    reports.run(&mut api, list).await
}

/// Returns the browsers that are asked for, by address; pages are filled in.
///
/// # Errors
/// Not found, ambiguous, or that no coordinator answered.
async fn browsers(
    api: &mut Api,
    wanted: &pb::ListBrowsersRequest,
) -> Result<Listed<Browser>, Error> {
    let listed = api::pages(api, async |api, page_size, page_token| {
        let request = pb::ListBrowsersRequest { page_size, page_token, ..wanted.clone() };
        let page = api
            .read(async |channel| api::browsers(channel).list_browsers(request.clone()).await)
            .await?;
        let browsers = page.browsers.into_iter().filter_map(Browser::read).collect();
        Ok((browsers, page.next_page_token, page.freshness))
    });
    listed.await
}

/// Returns the browsers of a workspace.
///
/// # Errors
/// As [`browsers`].
async fn browsers_of(api: &mut Api, workspace: &str) -> Result<Listed<Browser>, Error> {
    let workspace = workspace.to_owned();
    browsers(api, &pb::ListBrowsersRequest { workspace, ..Default::default() }).await
}
