//! Typing into a session and reading what it shows, without a terminal of the caller's own.

use warren_common::Limits;
use warren_proto::pb::inside::v1::{Read, Send};

use super::{
    Line, Refusal, Served, Streams,
    attach::{is_there, not_found},
};
use crate::{
    tmux::{TmuxError, pane_of},
    wire::WireError,
};

const FUNCTION_KEYS: [&str; 12] =
    ["F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9", "F10", "F11", "F12"];
/// Keys by name that tmux knows, beside those and printable characters. A name it does not know it
/// would type.
const KEYS: [&str; 18] = [
    "Enter", "Escape", "Tab", "BTab", "Space", "BSpace", "Up", "Down", "Left", "Right", "Home",
    "End", "PageUp", "PageDown", "NPage", "PPage", "DC", "IC",
];

/// Types into a session.
pub(super) async fn send(streams: &Streams, send: &Send, line: &Line) -> Result<Served, WireError> {
    if let Some(why) = unfit(send) {
        return Ok(Err(("INVALID_ARGUMENT", why)));
    }
    if !is_there(streams, &send.session).await {
        return Ok(Err(not_found(streams, &send.session).await));
    }
    let tmux = streams.keeper.tmux();
    let _typing = streams.typing.lock().await;
    let there = tmux.list().await.unwrap_or_default();
    if there.iter().any(|seen| seen.name == send.session && seen.exit.is_some()) {
        let message = format!("the program of session {} has ended", send.session);
        return Ok(Err(("WRONG_STATE", message)));
    }
    match tmux.type_into(&send.session, &send.text, &send.keys).await {
        Ok(()) => line.answer(&[]).await,
        Err(error) => Ok(Err(failed(&error))),
    }
}

/// Reads what a session shows.
pub(super) async fn read(streams: &Streams, read: &Read, line: &Line) -> Result<Served, WireError> {
    if read.history > Limits::READ_LINES {
        let most = Limits::READ_LINES;
        let message = format!("{} lines were asked for, the limit is {most}", read.history);
        return Ok(Err(("INVALID_ARGUMENT", message)));
    }
    if !is_there(streams, &read.session).await {
        return Ok(Err(not_found(streams, &read.session).await));
    }
    match streams.keeper.tmux().screen(&pane_of(&read.session), read.history).await {
        Ok(text) => line.answer(text.as_bytes()).await,
        Err(error) => Ok(Err(failed(&error))),
    }
}

fn failed(error: &TmuxError) -> Refusal {
    ("INTERNAL", error.to_string())
}

/// Returns why it cannot be typed.
fn unfit(send: &Send) -> Option<String> {
    let typable = |character: char| !character.is_control() || matches!(character, '\n' | '\t');
    if send.text.is_empty() && send.keys.is_empty() {
        return Some("there is nothing to type".to_owned());
    }
    if send.text.len() > Limits::SEND_BYTES {
        let (bytes, most) = (send.text.len(), Limits::SEND_BYTES);
        return Some(format!("the text has {bytes} bytes, the limit is {most}"));
    }
    if !send.text.chars().all(typable) {
        return Some("the text holds control characters; press them as keys".to_owned());
    }
    if send.keys.len() > Limits::SEND_KEYS {
        let (count, most) = (send.keys.len(), Limits::SEND_KEYS);
        return Some(format!("there are {count} keys, the limit is {most}"));
    }
    let unknown = send.keys.iter().find(|key| !is_key(key))?;
    let shown: String = unknown.chars().take(40).collect();
    Some(format!("{shown:?} is no key; there are {}, F1 to F12, C-x and M-x", KEYS.join(", ")))
}

fn is_key(mut key: &str) -> bool {
    while let Some(rest) = ["C-", "M-", "S-"].iter().find_map(|held| key.strip_prefix(held)) {
        key = rest;
    }
    let printable = key.len() == 1 && key.bytes().all(|byte| byte.is_ascii_graphic());
    printable || KEYS.contains(&key) || FUNCTION_KEYS.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_tmux_knows_are_pressed() {
        for key in
            ["Enter", "Escape", "C-c", "M-Left", "C-M-x", "F12", "y", "1", ";", "C-;", "S-Tab"]
        {
            assert!(is_key(key), "{key}");
        }
        for odd in [
            "", "enter", "Return", "yes", "F0", "F13", "F01", "F+1", "C-", "Enter;", "ä", "-t",
            "C-c ",
        ] {
            assert!(!is_key(odd), "{odd:?}");
        }
    }

    #[test]
    fn what_cannot_be_typed_is_refused_with_the_reason() {
        let send = |text: &str, keys: &[&str]| Send {
            session: "main".to_owned(),
            text: text.to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        };
        let why = |send: Send| unfit(&send).unwrap_or_default();
        assert_eq!(why(send("two\nlines\tä", &["Enter"])), "");
        assert!(why(send("", &[])).contains("nothing"));
        assert!(why(send("\x1b[201~rm", &[])).contains("control characters"));
        assert!(why(send("x", &["Entr"])).contains("\"Entr\" is no key"));
        assert!(why(send("", &["y"; Limits::SEND_KEYS + 1])).contains("65 keys"));
        assert_eq!(why(send("", &["y"; Limits::SEND_KEYS])), "");
        assert!(why(send(&"x".repeat(Limits::SEND_BYTES + 1), &[])).contains("65537 bytes"));
        assert_eq!(why(send(&"x".repeat(Limits::SEND_BYTES), &[])), "");
    }
}
