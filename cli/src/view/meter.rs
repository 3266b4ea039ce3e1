//! What agents run with and have used, as it is printed.

use serde::Serialize;
use warren_common::agent;

use super::filled;

/// What an agent runs with, and what it has used. What it did not say is null.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Meter {
    /// The model's own id.
    pub(crate) model: Option<String>,
    /// How it asks for leave, in its own word.
    pub(crate) mode: Option<String>,
    /// Tokens of the conversation as the model is given it now, of as many as it takes.
    pub(crate) context_tokens: Option<u64>,
    pub(crate) context_window: Option<u64>,
    pub(crate) context_percent: Option<u64>,
    /// Tokens since the conversation began, or was gone on with.
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    /// The agent's own estimate.
    pub(crate) cost_usd: Option<f64>,
}

impl From<&agent::Meter> for Meter {
    fn from(told: &agent::Meter) -> Self {
        Self {
            model: filled(&told.model),
            mode: filled(&told.mode),
            context_tokens: told.context_tokens,
            context_window: told.context_window,
            context_percent: told.context_percent(),
            input_tokens: told.input_tokens,
            output_tokens: told.output_tokens,
            cost_usd: told.cost_micro_usd.map(|cost| cost as f64 / 1e6),
        }
    }
}

impl Meter {
    /// Returns which model it runs with, and how it asks for leave.
    pub(crate) fn model(&self) -> Option<String> {
        let Self { model, mode, .. } = self;
        match (model.clone(), mode) {
            (Some(model), Some(mode)) => Some(format!("{model} ({mode})")),
            (model, mode) => model.or_else(|| mode.clone()),
        }
    }

    /// Returns how full its conversation is, and what it has used.
    pub(crate) fn usage(&self) -> Option<String> {
        let context =
            self.context_tokens.map(|tokens| match (self.context_window, self.context_percent) {
                (Some(window), Some(percent)) => {
                    format!(
                        "{} of {} tokens in context ({percent} %)",
                        count(tokens),
                        count(window)
                    )
                }
                _ => format!("{} tokens in context", count(tokens)),
            });
        let given = self.input_tokens.map(|tokens| format!("{} in", count(tokens)));
        let answered = self.output_tokens.map(|tokens| format!("{} out", count(tokens)));
        let cost = self.cost_usd.map(|usd| format!("about ${usd:.2}"));
        let parts: Vec<String> = [context, given, answered, cost].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Returns a number of tokens as people say it.
fn count(tokens: u64) -> String {
    match tokens {
        0..1000 => tokens.to_string(),
        1000..1_000_000 => format!("{} k", tokens / 1000),
        _ => format!("{:.1} M", tokens as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_shown_and_nothing_else() {
        let none = Meter::from(&agent::Meter::default());
        assert_eq!((none.model(), none.usage()), (None, None));
        let told = agent::Meter {
            model: "claude-opus-5-5".to_owned(),
            mode: "plan".to_owned(),
            context_tokens: Some(54_000),
            context_window: Some(200_000),
            input_tokens: Some(1_250_000),
            output_tokens: Some(900),
            cost_micro_usd: Some(1_234_000),
        };
        let meter = Meter::from(&told);
        assert_eq!(meter.model().as_deref(), Some("claude-opus-5-5 (plan)"));
        let used = "54 k of 200 k tokens in context (27 %), 1.2 M in, 900 out, about $1.23";
        assert_eq!(meter.usage().as_deref(), Some(used));
        let half = agent::Meter { context_window: None, mode: String::new(), ..told };
        let half = Meter::from(&half);
        assert_eq!(half.model().as_deref(), Some("claude-opus-5-5"));
        let used = half.usage().expect("something");
        assert!(used.starts_with("54 k tokens in context, 1.2 M in"), "{used}");
    }
}
