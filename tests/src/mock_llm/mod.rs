//! Stands in for the APIs of models, so that real coding agents can be driven without a network or
//! a key: Anthropic's Messages, OpenAI's Responses and Gemini's `generateContent`.
//!
//! What the model does next stands in the prompt itself; `script` has the grammar. One file per
//! API turns a request into what was asked of it, and an answer into the API's events; `server`
//! knows HTTP and nothing of any of them. It checks no credentials and remembers only how often it
//! has refused.

mod anthropic;
mod dialogue;
mod gemini;
mod openai;
mod script;
mod server;

pub use script::{Act, Answer, Manner, Script};
pub use server::{PORT, serve, start};

use std::time::Duration;

use serde_json::Value;

/// What was asked of a model, whichever API it came through.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    /// The dialogue; the markers of its newest prompt are the script.
    stand: dialogue::Stand,
    /// Names of the tools it may call.
    tools: Vec<String>,
    /// What the agent asks for itself, such as a title: JSON, or anything short.
    aside: Option<Value>,
    /// The model's name.
    model: String,
    /// Whether the answer comes as events.
    streams: bool,
}

impl Asked {
    /// Returns the answer that the script names, for a model that has the tools for it.
    fn answer(&self) -> Answer {
        if self.aside.is_some() {
            return Answer::default();
        }
        Script::read(&self.stand.prompt).answer(self.stand.done)
    }

    /// Returns the first of these tools that may be called.
    fn tool<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        names.iter().copied().find(|name| self.tools.iter().any(|tool| tool == name))
    }
}

/// One event of an answer.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    /// Its name, where the API names them.
    name: Option<&'static str>,
    data: Value,
    /// How long the one before it stands alone.
    pause: Duration,
}

impl Event {
    /// An event that is named by its own type.
    fn typed(name: &'static str, mut data: Value) -> Self {
        data["type"] = name.into();
        Self { name: Some(name), data, pause: Duration::ZERO }
    }

    fn after(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }
}

/// Between two pieces of a slow answer.
const PIECE: Duration = Duration::from_millis(500);
/// What a turn ends with.
const DONE: &str = "DONE: the script is at its end.";

/// Returns the text of an answer in the pieces it comes in.
fn pieces(asked: &Asked, act: &Act) -> Vec<(String, Duration)> {
    if let Some(aside) = &asked.aside {
        return vec![(aside.to_string(), Duration::ZERO)];
    }
    match act {
        Act::Slow(count) => (0..*count)
            .map(|number| (format!("piece {number} "), PIECE))
            .chain([(DONE.to_owned(), PIECE)])
            .collect(),
        Act::Say(text) => vec![(text.clone(), Duration::ZERO)],
        Act::Done | Act::Shell { .. } | Act::Ask(_) | Act::Tool { .. } => {
            vec![(DONE.to_owned(), Duration::ZERO)]
        }
    }
}
