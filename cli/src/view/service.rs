//! What a workspace keeps up beside its sessions, as it is printed.

use serde::Serialize;
use warren_common::Timestamp;
use warren_proto::pb::inside::v1 as pb;

use super::{Moment, filled, moment};
use crate::render::{table, time::age};

/// One service as its workspace saw it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) reason: Option<String>,
    /// Times it was started again after it ended by itself.
    pub(crate) restarts: u32,
    pub(crate) since: Option<Moment>,
}

impl From<pb::ServiceStatus> for Service {
    fn from(service: pb::ServiceStatus) -> Self {
        let state = match service.state() {
            pb::ServiceState::Unspecified => "unknown",
            pb::ServiceState::Absent => "absent",
            pb::ServiceState::Idle => "idle",
            pb::ServiceState::Starting => "starting",
            pb::ServiceState::Running => "running",
            pb::ServiceState::Failed => "failed",
        };
        Self {
            state,
            reason: filled(&service.reason),
            restarts: service.restarts,
            since: moment(service.since_unix_ms),
            name: service.name,
        }
    }
}

/// Returns the table of `workspace show`; nothing of what the image does not have.
pub(crate) fn text(services: &[Service], now: Timestamp) -> String {
    let row = |service: &Service| {
        let lasts = service.since.map_or_else(String::new, |at| age(at.0, now));
        let reason = service.reason.clone().unwrap_or_default();
        let restarts = service.restarts.to_string();
        vec![service.name.clone(), service.state.to_owned(), lasts, restarts, reason]
    };
    let there = services.iter().filter(|service| service.state != "absent");
    let rows: Vec<_> = there.map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = ["SERVICE", "STATE", "FOR", "RESTARTS", "REASON"];
    format!("\n{}", table::lay_out(&header, rows, 4, None))
}
