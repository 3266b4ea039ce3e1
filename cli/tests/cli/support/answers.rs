//! What answers of the stand-in are made of.

use tonic::{Code, Status};
use warren_proto::{ApiError, error::reason, pb::admin::v1 as pb};

use super::{
    data::NOW,
    fake::{INCARNATION, State},
};

pub(super) fn fresh() -> Option<pb::Freshness> {
    Some(pb::Freshness {
        revision: 42,
        served_unix_ms: NOW,
        incarnation: INCARNATION,
        ..Default::default()
    })
}

/// Cuts one page; the token is where it begins.
pub(super) fn page<T: Clone>(all: &[T], size: usize, token: &str) -> (Vec<T>, String) {
    let size = if size == 0 { usize::MAX } else { size };
    let begin: usize = token.parse().unwrap_or(0);
    let items: Vec<T> = all.iter().skip(begin).take(size).cloned().collect();
    let end = begin + items.len();
    (items, if end < all.len() { end.to_string() } else { String::new() })
}

pub(super) fn missing(what: &str, name: &str) -> Status {
    let error = ApiError::new(Code::NotFound, reason::NOT_FOUND, format!("no {what} {name}"));
    error.next(format!("warren {what} list")).into()
}

pub(super) fn workspace(state: &State, name: &str) -> Result<pb::Workspace, Status> {
    let found = state.workspaces.iter().find(|workspace| {
        workspace.id == name
            || workspace.name == name
            || format!("{}/{}", workspace.client, workspace.name) == name
    });
    found.cloned().ok_or_else(|| missing("workspace", name))
}
