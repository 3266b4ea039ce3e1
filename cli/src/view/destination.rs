//! Allowed destinations as they are printed.

use serde::Serialize;
use warren_common::{Timestamp, spec::Destination};

use crate::render::Tabular;

/// One destination that a client is allowed.
#[derive(Debug, Serialize)]
pub(crate) struct Allowance {
    destination: String,
    range: Option<String>,
    port: Option<u16>,
    protocol: Option<&'static str>,
}

impl Allowance {
    /// Reads what a coordinator said; one of a newer form is shown as it stands.
    pub(crate) fn of(text: &str) -> Self {
        let read: Option<Destination> = text.parse().ok();
        let range = |one: Destination| format!("{}/{}", one.range().0, one.range().1);
        Self {
            destination: text.to_owned(),
            range: read.map(range),
            port: read.map(|one| one.port()),
            protocol: read.map(|one| one.transport().as_str()),
        }
    }
}

impl Tabular for Allowance {
    const HEADER: &'static [&'static str] = &["RANGE", "PORT", "PROTOCOL"];
    const FLEXIBLE: usize = 0;

    fn row(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.range.clone().unwrap_or_else(|| self.destination.clone()),
            self.port.map_or_else(String::new, |port| port.to_string()),
            self.protocol.unwrap_or_default().to_owned(),
        ]
    }

    fn address(&self) -> String {
        self.destination.clone()
    }
}
