//! Conversions between wire and vocabulary, one file per group of messages.
//!
//! Towards the wire they are `From` and cannot fail. From the wire they are `TryFrom` and check
//! form: ids, names, enum values, fields that must be set. Texts that come from a node or from
//! inside a workspace are untrusted: they pass through `status::clean` and their lists are bounded
//! here. Bounds of a spec are `WorkspaceSpec::validate`'s, which callers run themselves.

mod agent;
mod browser;
mod inside;
mod service;
mod session_order;
mod step;

#[cfg(feature = "grpc")]
mod facts;
#[cfg(feature = "grpc")]
mod measure;
#[cfg(feature = "grpc")]
mod observed;
#[cfg(feature = "grpc")]
mod order;
#[cfg(feature = "grpc")]
mod session;
#[cfg(feature = "grpc")]
mod spec;

#[cfg(all(test, feature = "grpc"))]
mod tests;

pub use agent::{explanation, explanation_bytes};
pub use inside::InsideStatus;
pub use session_order::{agent_program, tell_sessions};

use std::{fmt::Display, str::FromStr};

/// A message that is no value of the vocabulary: which field, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct InvalidMessage {
    field: String,
    why: String,
}

impl InvalidMessage {
    /// Names the field as the `.proto` file does, and what is wrong with its value.
    pub fn new(field: impl Into<String>, why: impl Display) -> Self {
        Self { field: field.into(), why: why.to_string() }
    }

    /// Returns the path of the field from the outermost message, such as `spec.sessions[1].name`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Says that the message stood in this field of another one.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), why: self.why }
    }
}

/// Reads an id, a name or another text that parses itself.
///
/// # Errors
/// Names the field and repeats what the parser said.
pub fn parse<T>(field: &str, text: &str) -> Result<T, InvalidMessage>
where
    T: FromStr,
    T::Err: Display,
{
    if text.is_empty() {
        return Err(InvalidMessage::new(field, "is not set"));
    }
    text.parse().map_err(|error| InvalidMessage::new(field, error))
}

/// Returns the message in a field that must be set.
///
/// # Errors
/// Names the field where it is not.
pub fn required<T>(field: &str, value: Option<T>) -> Result<T, InvalidMessage> {
    value.ok_or_else(|| InvalidMessage::new(field, "is not set"))
}

/// Converts the message in a field.
///
/// # Errors
/// Puts the field before the path of what failed inside.
fn convert<M, T>(field: &str, message: M) -> Result<T, InvalidMessage>
where
    T: TryFrom<M, Error = InvalidMessage>,
{
    T::try_from(message).map_err(|error| error.within(field))
}

/// Converts every message of a repeated field, which may hold at most `limit`.
fn convert_all<M, T>(field: &str, messages: Vec<M>, limit: usize) -> Result<Vec<T>, InvalidMessage>
where
    T: TryFrom<M, Error = InvalidMessage>,
{
    if messages.len() > limit {
        let why = format!("has {} items, the limit is {limit}", messages.len());
        return Err(InvalidMessage::new(field, why));
    }
    let one = |(index, message)| convert(&format!("{field}[{index}]"), message);
    messages.into_iter().enumerate().map(one).collect()
}

/// Reads an enum value; zero and numbers of a later version are refused.
fn enumeration<E: TryFrom<i32>>(field: &str, number: i32) -> Result<E, InvalidMessage> {
    if number == 0 {
        return Err(InvalidMessage::new(field, "is not set"));
    }
    E::try_from(number)
        .map_err(|_| InvalidMessage::new(field, format!("has the unknown value {number}")))
}

/// Says that an enum holds its zero value, which [`enumeration`] has refused before.
fn unspecified(field: &str) -> InvalidMessage {
    InvalidMessage::new(field, "is not set")
}
