//! Why turns end badly.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Why a turn ended badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which kind of error.
    pub kind: FailureKind,
    /// What the agent says of it, at most [`Limits::AGENT_TEXT_BYTES`](crate::Limits::AGENT_TEXT_BYTES).
    pub text: String,
    /// When trying again can help, where that is told.
    pub retry_at: Option<Timestamp>,
}

impl Failure {
    /// Returns one of which nothing is known.
    pub(super) const fn unnamed() -> Self {
        Self { kind: FailureKind::Other, text: String::new(), retry_at: None }
    }

    /// Whether nobody said what failed.
    pub fn is_unnamed(&self) -> bool {
        *self == Self::unnamed()
    }
}

/// Kinds of errors that end a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// Too many requests, or the plan's limit is reached.
    RateLimit,
    /// Not logged in, or the key is not good.
    Auth,
    /// The model's API fails.
    Overloaded,
    /// The account has no means.
    Billing,
    /// The request was refused as it is.
    InvalidRequest,
    /// Anything else.
    Other,
}

impl FailureKind {
    /// Reads the word of an agent's hook; [`Self::Other`] where it is not known.
    pub fn parse(word: &str) -> Self {
        match word {
            "rate_limit" => Self::RateLimit,
            "authentication_failed" => Self::Auth,
            "server_error" | "overloaded" => Self::Overloaded,
            "billing_error" => Self::Billing,
            "invalid_request" => Self::InvalidRequest,
            _ => Self::Other,
        }
    }

    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Auth => "auth",
            Self::Overloaded => "overloaded",
            Self::Billing => "billing",
            Self::InvalidRequest => "invalid_request",
            Self::Other => "other",
        }
    }
}
