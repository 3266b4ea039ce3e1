//! What a person reads when something went wrong: what happened, why, what to do next.
//!
//! Every failure of the command line ends as one [`Error`]; its [`Kind`] sets the exit code. Texts
//! from the wire are kept as the coordinator wrote them (cleaned of control characters); local
//! failures follow the same form. Rendering stands here, deciding nowhere else.

use std::{fmt::Write as _, io};

use serde::Serialize;
use warren_common::{Limits, status::clean};
use warren_proto::error::reason;

/// What kind of failure it was: sets the exit code, which scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything without a kind of its own.
    Failed,
    /// The command line cannot be meant.
    Usage,
    /// No such object.
    NotFound,
    /// The state of things forbids it.
    Conflict,
    /// No coordinator answers, or those that do have no quorum.
    Unreachable,
    /// `--wait` or `session wait` ran out of time; what was asked goes on.
    Timeout,
    /// The caller's certificate does not allow it.
    NotPermitted,
    /// The reader of stdout went away: no error, nothing is said.
    BrokenPipe,
}

impl Kind {
    /// Returns the exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unreachable => 5,
            Self::Timeout => 6,
            Self::NotPermitted => 7,
        }
    }
}

/// One failure, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    /// Sets the exit code.
    pub(crate) kind: Kind,
    /// Stable code in capitals, for scripts.
    pub(crate) reason: String,
    /// What happened, in one sentence.
    pub(crate) message: String,
    /// Why; left out where the message says it all.
    pub(crate) why: Option<String>,
    /// What to do about it.
    pub(crate) next: Option<String>,
    /// The id under which the coordinators' logs tell of the call; none of local failures.
    pub(crate) request: Option<Box<str>>,
}

/// What a command ends with: the exit code where it is not zero by itself (`exec`, `attach`).
pub(crate) type Outcome = Result<u8, Error>;

#[derive(Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    reason: &'a str,
    message: &'a str,
    why: Option<&'a str>,
    next: Option<&'a str>,
    exit_code: u8,
    request_id: Option<&'a str>,
}

impl Error {
    /// Makes an error of `kind`; `reason` is its stable code.
    pub(crate) fn new(kind: Kind, reason: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, reason: reason.to_owned(), message, why: None, next: None, request: None }
    }

    /// Makes a usage error: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, "USAGE", message)
    }

    /// Adds why it happened.
    #[must_use]
    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Adds the id under which the call is found in the logs.
    #[must_use]
    pub(crate) fn request(mut self, request: &str) -> Self {
        self.request = Some(request.into());
        self
    }

    /// Adds what to do next where the coordinator did not say.
    #[must_use]
    pub(crate) fn or_next(self, next: impl Into<String>) -> Self {
        if self.next.is_some() { self } else { self.next(next) }
    }

    /// Makes an error of a failed write or read of our own terminal or pipes.
    pub(crate) fn pipe(what: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::BrokenPipe, "BROKEN_PIPE", what),
            _ => {
                Self::new(Kind::Failed, "LOCAL_IO", format!("{what} failed")).why(error.to_string())
            }
        }
    }

    /// Returns the three lines people read, with a line end; `colour` marks the first word red.
    pub(crate) fn text(&self, colour: bool) -> String {
        let (on, off) = if colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        let mut text = format!("{on}error:{off} {}\n", line(&self.message));
        // a fault of ours is looked for in the logs; of everything else the text says enough
        let request = self.request.as_deref().filter(|_| self.reason == reason::INTERNAL);
        let (why, next) = (self.why.as_deref(), self.next.as_deref());
        for (label, part) in [("why", why), ("next", next), ("request", request)] {
            if let Some(part) = part {
                // a String takes every write
                let _ = writeln!(text, "  {label}: {}", line(part));
            }
        }
        text
    }

    /// Returns the error as one line of JSON, with a line end.
    pub(crate) fn json(&self) -> String {
        let body = Body {
            reason: &self.reason,
            message: &self.message,
            why: self.why.as_deref(),
            next: self.next.as_deref(),
            exit_code: self.kind.code(),
            request_id: self.request.as_deref(),
        };
        let text = serde_json::to_string(&Envelope { error: body });
        text.expect("strings and a number always encode") + "\n"
    }
}

/// Texts may come from a workspace or a peer: one line, no control characters.
fn line(text: &str) -> String {
    clean(text, Limits::REASON_BYTES * 4).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_lines_as_the_design_shows_them() {
        let error =
            Error::new(Kind::Conflict, "NO_NODE_FITS", "no node can hold workspace acme/web")
                .why("it asks for 64 GiB; of 3 nodes 2 lack memory (largest free 11.2 GiB on n2)")
                .next("warren workspace explain acme/web, or lower --memory");
        assert_eq!(
            error.text(false),
            "error: no node can hold workspace acme/web\n  \
             why: it asks for 64 GiB; of 3 nodes 2 lack memory (largest free 11.2 GiB on n2)\n  \
             next: warren workspace explain acme/web, or lower --memory\n"
        );
        assert_eq!(error.kind.code(), 4);
    }

    #[test]
    fn json_carries_every_field() {
        let text = Error::usage("bad\u{1b}[31m").json();
        let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(value["error"]["exit_code"], 2);
        assert_eq!(value["error"]["reason"], "USAGE");
        assert!(value["error"]["why"].is_null());
        assert!(value["error"]["request_id"].is_null());
        let id = "0199a0b2-7f00-7000-8000-000000000001";
        let error = Error::new(Kind::Failed, "INTERNAL", "it failed").request(id);
        assert_eq!(error.text(false), format!("error: it failed\n  request: {id}\n"));
        assert!(error.json().ends_with(&format!("\"request_id\":\"{id}\"}}}}\n")));
        let error = Error::new(Kind::NotFound, "NOT_FOUND", "no such thing").request(id);
        assert_eq!(error.text(false), "error: no such thing\n");
    }

    #[test]
    fn texts_of_others_cannot_drive_the_terminal() {
        assert_eq!(Error::usage("a\x1b]0;x\x07b\nc").text(false), "error: a]0;xb c\n");
    }
}
