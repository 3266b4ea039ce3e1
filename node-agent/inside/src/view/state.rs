//! What the display's page asks beside the pictures: who has control, and that it is given or taken.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use warren_proto::pb::inside::v1::View;

use super::{Answer, control::Control, whole};

/// What the page asks for every other second.
#[derive(Serialize)]
struct State {
    watching: u32,
    /// Somebody has control, for so long.
    taken_ms: Option<u64>,
    /// This page asked for it.
    asked: bool,
    /// This page has it.
    mine: bool,
    /// Pages of this command that ask for it, this one among them: they have it together.
    own: u32,
    /// This page gave it back.
    given: bool,
    /// This page's time is over.
    over: bool,
}

/// Says how the display stands for a viewer.
pub(super) fn tell(control: &Control, view: &View) -> Answer {
    let seen = control.seen(&view.token);
    let state = State {
        watching: seen.watching,
        taken_ms: seen.taken.map(|left| left.as_millis().try_into().unwrap_or(u64::MAX)),
        asked: view.control_ms > 0,
        mine: seen.mine,
        own: seen.own,
        given: seen.given,
        over: seen.over,
    };
    // of numbers and truth values alone: it cannot fail
    let json = serde_json::to_vec(&state).unwrap_or_default();
    let mut answer = whole(Bytes::from(json));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
