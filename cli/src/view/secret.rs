//! Secrets as they are printed: everything but their values.

use serde::Serialize;
use warren_common::Timestamp;
use warren_proto::pb::admin::v1 as pb;

use super::{Moment, filled, moment};
use crate::render::{Tabular, time};

/// One secret.
#[derive(Debug, Serialize)]
pub(crate) struct Secret {
    /// None for one of the shared vault.
    pub(crate) client: Option<String>,
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) by: Option<String>,
    pub(crate) at: Option<Moment>,
    /// Which workspaces get it; the first ones where there are very many.
    pub(crate) workspaces: Vec<String>,
    pub(crate) workspace_count: u32,
    pub(crate) revision: u64,
    /// The workspace that it was set with, and goes with.
    pub(crate) made_for: Option<String>,
}

impl From<pb::Secret> for Secret {
    fn from(secret: pb::Secret) -> Self {
        Self {
            client: filled(&secret.client),
            name: secret.name,
            version: secret.version,
            by: filled(&secret.by),
            at: moment(secret.at_unix_ms),
            workspaces: secret.workspaces,
            workspace_count: secret.workspace_count,
            revision: secret.revision,
            made_for: filled(&secret.made_for),
        }
    }
}

impl Secret {
    /// Returns `client/name` or `(shared)/name`, which no client's name can be.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", vault(self.client.as_deref()), self.name)
    }
}

/// Returns what a vault is called: a client's name, or `(shared)`.
pub(crate) fn vault(client: Option<&str>) -> &str {
    client.unwrap_or("(shared)")
}

impl Tabular for Secret {
    const HEADER: &'static [&'static str] =
        &["VAULT", "SECRET", "VERSION", "SET", "BY", "MADE FOR", "WORKSPACES"];
    const FLEXIBLE: usize = 6;

    fn row(&self, now: Timestamp) -> Vec<String> {
        let workspaces = match self.workspaces.as_slice() {
            [] => "-".to_owned(),
            some => some.join(", "),
        };
        vec![
            vault(self.client.as_deref()).to_owned(),
            self.name.clone(),
            self.version.to_string(),
            self.at.map_or_else(|| "-".to_owned(), |at| time::age(at.0, now)),
            self.by.clone().unwrap_or_else(|| "-".to_owned()),
            self.made_for.clone().unwrap_or_else(|| "-".to_owned()),
            workspaces,
        ]
    }

    fn address(&self) -> String {
        self.label()
    }
}
