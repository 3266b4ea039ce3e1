//! `warren browser list`.

use clap::Args;
use warren_common::browser::BrowserState;
use warren_proto::pb::{admin::v1 as pb, inside::v1 as inside};

use super::{State, browsers};
use crate::{
    api::{Api, Listed},
    app::App,
    command::{Watch, Within},
    error::{Error, Outcome},
    follow::{Follow, Reports},
    view::browser::Browser,
};

/// Arguments of `browser list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    within: Within,
    /// Only browsers in one of these states.
    #[arg(long, value_name = "STATES", value_enum, value_delimiter = ',')]
    state: Vec<State>,
    /// Only those started in the session of this name.
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    #[command(flatten)]
    watch: Watch,
}

impl List {
    fn request(&self) -> pb::ListBrowsersRequest {
        let states = self.state.iter().map(|state| BrowserState::from(*state));
        pb::ListBrowsersRequest {
            workspace: self.within.workspace.clone().unwrap_or_default(),
            client: self.within.client.clone().unwrap_or_default(),
            node: self.within.node.clone().unwrap_or_default(),
            session: self.session.clone().unwrap_or_default(),
            states: states.map(|state| inside::BrowserState::from(state).into()).collect(),
            ..Default::default()
        }
    }

    /// Whether a browser is among those asked for, where its workspace is.
    fn holds(&self, browser: &Browser) -> bool {
        let wanted = |state: &State| BrowserState::from(*state) == browser.state();
        (self.state.is_empty() || self.state.iter().any(wanted))
            && self.session.as_ref().is_none_or(|name| browser.seen.session.as_ref() == Some(name))
    }

    /// Lists in our own order: pages by attention could miss one that changes between two of them.
    async fn fetch(&self, api: &mut Api, read: Option<pb::Read>) -> Result<Listed<Browser>, Error> {
        let request = pb::ListBrowsersRequest { read, ..self.request() };
        let mut listed = browsers(api, &request).await?;
        listed.items.sort_by_cached_key(Browser::key);
        Ok(listed)
    }
}

pub(crate) async fn run(app: &App, list: List) -> Outcome {
    let pb::ListBrowsersRequest { workspace, client, node, .. } = list.request();
    let request = pb::WatchRequest { workspace, client, node, ..Default::default() };
    let reports = Reports {
        follow: Follow { app, request, empty: "no browsers" },
        holds: |one: &Browser| list.holds(one),
    };
    reports.show(&list.watch, async |api: &mut Api, read| list.fetch(api, read).await).await
}
