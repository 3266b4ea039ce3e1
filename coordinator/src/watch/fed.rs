//! Sessions and browsers as feeds tell them.

use prost::Message as _;
use warren_model::state::Workspace;
use warren_proto::pb::{
    admin::v1::{self as pb, watch_response::Kind},
    inside::v1::BrowserStatus,
    node::v1::SessionObserved,
};

use super::feed::{Batch, Fed};
use crate::api::view::View;

impl Fed for pb::Session {
    fn all(workspace: &Workspace, view: &View<'_>) -> Vec<Self> {
        view.sessions(workspace)
    }

    fn address(&self) -> [&str; 3] {
        let name = self.observed.as_ref().map(|one| one.name.as_str());
        [&self.client, &self.workspace, name.unwrap_or_default()]
    }

    fn standing(&self) -> Vec<u8> {
        let still = |observed: &SessionObserved| {
            let mut still = observed.clone();
            still.active_unix_ms = 0;
            if let Some(agent) = &mut still.agent {
                (agent.last_activity_unix_ms, agent.evidence_unix_ms) = (0, 0);
            }
            still
        };
        let observed = self.observed.as_ref().map(still);
        Self { observed, observed_unix_ms: 0, ..self.clone() }.encode_to_vec()
    }

    fn bytes(&self) -> usize {
        self.encoded_len()
    }
}

impl Fed for pb::Browser {
    fn all(workspace: &Workspace, view: &View<'_>) -> Vec<Self> {
        view.browsers(workspace)
    }

    fn address(&self) -> [&str; 3] {
        let id = self.observed.as_ref().map(|one| one.id.as_str());
        [&self.client, &self.workspace, id.unwrap_or_default()]
    }

    fn standing(&self) -> Vec<u8> {
        let still = |observed: &BrowserStatus| BrowserStatus {
            evidence_unix_ms: 0,
            memory_bytes: 0,
            processes: 0,
            renderers: 0,
            ..observed.clone()
        };
        let observed = self.observed.as_ref().map(still);
        Self { observed, observed_unix_ms: 0, ..self.clone() }.encode_to_vec()
    }

    fn bytes(&self) -> usize {
        self.encoded_len()
    }
}

impl From<Batch<pb::Session>> for Kind {
    fn from(batch: Batch<pb::Session>) -> Self {
        let Batch { stand, gone, begins, complete, served } = batch;
        let gone = gone.into_iter();
        Self::Sessions(pb::Sessions {
            sessions: stand,
            gone: gone.map(session_gone).collect(),
            begins,
            complete,
            served_unix_ms: served.0,
        })
    }
}

fn session_gone([client, workspace, session]: [String; 3]) -> pb::SessionGone {
    pb::SessionGone { client, workspace, session }
}

impl From<Batch<pb::Browser>> for Kind {
    fn from(batch: Batch<pb::Browser>) -> Self {
        let Batch { stand, gone, begins, complete, served } = batch;
        let gone = gone.into_iter();
        Self::Browsers(pb::Browsers {
            browsers: stand,
            gone: gone.map(browser_gone).collect(),
            begins,
            complete,
            served_unix_ms: served.0,
        })
    }
}

fn browser_gone([client, workspace, id]: [String; 3]) -> pb::BrowserGone {
    pb::BrowserGone { client, workspace, id }
}
