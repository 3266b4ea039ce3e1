//! What the reporter sends to PID 1: one message, one connection.

use serde::{Deserialize, Serialize};
use warren_common::{
    Limits, SessionName, Timestamp,
    agent::{AgentKind, Hook, Meter, Observation, Report},
    status::clean,
};

use super::tree::Life;

/// Name of the socket in the runtime folder.
pub(crate) const SOCKET: &str = "status.sock";
/// One message, at most.
pub(super) const MESSAGE_BYTES: usize = 64 * 1024;
/// A folder in a message, at most.
const FOLDER_BYTES: usize = 4096;

/// Whose hook it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Teller {
    Claude,
    Codex,
    Gemini,
    /// A person's own agent.
    Custom,
}

impl Teller {
    /// Returns the teller of this word.
    pub(super) fn named(word: &str) -> Option<Self> {
        match word {
            "claude" => Some(Self::Claude),
            "codex" => Some(Self::Codex),
            "gemini" => Some(Self::Gemini),
            "custom" => Some(Self::Custom),
            _ => None,
        }
    }

    /// Returns the agent whose hooks these are; none for a person's own, which may be any program.
    pub(super) const fn kind(self) -> Option<AgentKind> {
        match self {
            Self::Claude => Some(AgentKind::Claude),
            Self::Codex => Some(AgentKind::Codex),
            Self::Gemini => Some(AgentKind::Gemini),
            Self::Custom => None,
        }
    }
}

/// One hook that fired, with what tells whose it is. A field that is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) teller: Teller,
    /// When it fired.
    pub(super) at: Timestamp,
    /// `WARREN_SESSION`.
    #[serde(default)]
    pub(super) session: String,
    /// `TMUX_PANE`.
    #[serde(default)]
    pub(super) pane: String,
    /// The agent's folder.
    #[serde(default)]
    pub(super) folder: String,
    /// The agent's own id of its session.
    #[serde(default)]
    pub(super) thread: String,
    /// The agent's process, as the reporter sees it above itself.
    #[serde(default)]
    pub(super) process: Option<Life>,
    /// What happened; without an event only the meter is told.
    pub(super) hook: Hook,
    /// What the agent runs with and has used.
    #[serde(default)]
    pub(super) meter: Meter,
}

impl Message {
    /// Reads one; none where it is not one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MESSAGE_BYTES {
            return None;
        }
        Some(serde_json::from_slice::<Self>(bytes).ok()?.bounded())
    }

    /// Returns the same with every text cleaned and cut.
    #[must_use]
    pub(super) fn bounded(self) -> Self {
        let observation = Observation { at: self.at, report: Report::Hook(Box::new(self.hook)) };
        let hook = match observation.bounded().report {
            Report::Hook(hook) => *hook,
            _ => Hook::default(),
        };
        let session = self.session.parse::<SessionName>().is_ok();
        let pane = self.pane.len() <= 16 && self.pane.starts_with('%');
        Self {
            session: if session { self.session } else { String::new() },
            pane: if pane { self.pane } else { String::new() },
            folder: clean(&self.folder, FOLDER_BYTES),
            thread: clean(&self.thread, Limits::AGENT_NAME_BYTES),
            hook,
            meter: self.meter.bounded(),
            ..self
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A message of Claude Code in session `main`.
    pub(in crate::agent) fn message(event: &str) -> Message {
        Message {
            teller: Teller::Claude,
            at: Timestamp(2_000_000),
            session: "main".to_owned(),
            pane: String::new(),
            folder: "/home/agent/work".to_owned(),
            thread: "t1".to_owned(),
            process: None,
            hook: Hook { event: event.to_owned(), ..Hook::default() },
            meter: Meter::default(),
        }
    }

    #[test]
    fn a_message_survives_the_way_and_the_fullest_one_fits() {
        let mut sent = message("Stop");
        sent.hook.text = "\"".repeat(9000);
        sent.hook.tasks = vec!["\\".repeat(9000); 99];
        sent.hook.wakeups = sent.hook.tasks.clone();
        sent.folder = "\u{1}".repeat(9000);
        let sent = sent.bounded();
        let bytes = serde_json::to_vec(&sent).expect("plain data");
        assert!(bytes.len() < MESSAGE_BYTES, "{}", bytes.len());
        assert_eq!(Message::read(&bytes), Some(sent));
    }

    #[test]
    fn what_is_none_is_refused_and_texts_are_cut() {
        let read = |text: &str| Message::read(text.as_bytes());
        for text in ["", "{}", "[]", "\u{0}", r#"{"teller":"nobody","at":1,"hook":{}}"#] {
            assert_eq!(read(text), None, "{text}");
        }
        let mut hostile = message("\u{1b}]0;x\u{7}Stop");
        hostile.session = "../main".to_owned();
        hostile.pane = "-t x".to_owned();
        hostile.thread = "x".repeat(999);
        let taken = Message::read(&serde_json::to_vec(&hostile).expect("plain data"));
        let taken = taken.expect("a message");
        assert_eq!((taken.session.as_str(), taken.pane.as_str()), ("", ""));
        assert_eq!((taken.hook.event.as_str(), taken.thread.len()), ("]0;xStop", 64));
        let long = vec![b' '; MESSAGE_BYTES + 1];
        assert_eq!(Message::read(&long), None);
    }
}
