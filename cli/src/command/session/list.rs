//! `warren session list`.

use clap::{Args, ValueEnum};
use warren_common::{ClientId, agent::StateName};
use warren_proto::pb::admin::v1::{self as pb, AgentStateName};

use super::{State, sessions};
use crate::{
    api::{Api, Listed},
    app::App,
    command::{Watch, Within},
    error::{Error, Outcome},
    follow::{Follow, Reports},
    view::session::Session,
};

/// Arguments of `session list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    within: Within,
    /// Only sessions whose agent is in one of these states.
    #[arg(long, value_name = "STATES", value_enum, value_delimiter = ',')]
    state: Vec<State>,
    /// Only sessions whose agent needs a person: it waits, failed, crashed, has finished with nobody
    /// looking, or is stalled.
    #[arg(long)]
    needs_me: bool,
    /// The order of the list.
    #[arg(long, value_enum, default_value = "attention")]
    sort: Sort,
    /// Who needs a person first, which is the default.
    #[arg(long, conflicts_with = "sort")]
    attention: bool,
    #[command(flatten)]
    watch: Watch,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// By address.
    Name,
    /// Who needs a person first, and of equals who has for longest.
    Attention,
}

impl List {
    fn request(&self) -> pb::ListSessionsRequest {
        let states = self.state.iter().map(|state| StateName::from(*state));
        pb::ListSessionsRequest {
            workspace: self.within.workspace.clone().unwrap_or_default(),
            client: self.within.client.clone().unwrap_or_default(),
            node: self.within.node.clone().unwrap_or_default(),
            states: states.map(|state| AgentStateName::from(state).into()).collect(),
            needs_me: self.needs_me,
            ..Default::default()
        }
    }

    /// Whether a session is among those asked for, where its workspace is. An older coordinator
    /// tells the others too.
    fn holds(&self, session: &Session) -> bool {
        // an id only the coordinator can compare
        let named = |wanted: &Option<String>, name: Option<&str>| {
            let name =
                |wanted: &String| wanted.parse::<ClientId>().is_ok() || Some(&**wanted) == name;
            wanted.as_ref().is_none_or(name)
        };
        if !named(&self.within.client, Some(&session.client))
            || !named(&self.within.node, session.node.as_deref())
        {
            return false;
        }
        if self.state.is_empty() && !self.needs_me {
            return true;
        }
        let Some(agent) = &session.seen.agent else { return false };
        let wanted = |state: &State| StateName::from(*state) == agent.name();
        (self.state.is_empty() || self.state.iter().any(wanted))
            && (!self.needs_me || agent.needs_me)
    }

    /// Lists in our own order: pages by attention could miss who changes between two of them.
    async fn fetch(&self, api: &mut Api, read: Option<pb::Read>) -> Result<Listed<Session>, Error> {
        let mut listed = sessions(api, &pb::ListSessionsRequest { read, ..self.request() }).await?;
        listed.items.retain(|one| self.holds(one));
        if self.sort == Sort::Attention {
            listed.items.sort_by(Session::by_attention);
        }
        Ok(listed)
    }
}

pub(crate) async fn run(app: &App, list: List) -> Outcome {
    let pb::ListSessionsRequest { workspace, client, node, .. } = list.request();
    let request = pb::WatchRequest { workspace, client, node, ..Default::default() };
    let reports = Reports {
        follow: Follow { app, request, empty: "no sessions" },
        holds: |one: &Session| list.holds(one),
    };
    reports.show(&list.watch, async |api: &mut Api, read| list.fetch(api, read).await).await
}
