//! What a person's own agent tells: `{"state":"working|waiting|idle|error","text":"…"}`.

use warren_common::agent::Hook;

use super::payload::Payload;

pub(super) fn hook(payload: &Payload) -> Hook {
    Hook {
        event: payload.text("state").to_owned(),
        text: payload.text("text").to_owned(),
        ..Hook::default()
    }
}
