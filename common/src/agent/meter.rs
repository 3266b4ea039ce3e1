//! What an agent runs with, and what it has used.

use serde::{Deserialize, Serialize};

use super::state::name;

/// What an agent says of its model and of what it has used. It is shown, and nothing follows from it:
/// it comes from a workspace, and a cost is the agent's own estimate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meter {
    /// Its model, by the model's own id; empty where it did not say.
    pub model: String,
    /// How it asks for leave, in its own word, such as `default` or `bypassPermissions`; empty where it
    /// did not say.
    pub mode: String,
    /// Tokens of the conversation as the model is given it now.
    pub context_tokens: Option<u64>,
    /// Tokens that the model takes.
    pub context_window: Option<u64>,
    /// Tokens that the model was given since the conversation began, or was gone on with.
    pub input_tokens: Option<u64>,
    /// Tokens that it answered with.
    pub output_tokens: Option<u64>,
    /// What that costs, in millionths of a US dollar.
    pub cost_micro_usd: Option<u64>,
}

impl Meter {
    /// Takes over what `newer` says; what it does not say stays.
    pub fn take(&mut self, newer: Self) {
        let Self {
            model,
            mode,
            context_tokens,
            context_window,
            input_tokens,
            output_tokens,
            cost_micro_usd,
        } = newer.bounded();
        for (known, told) in [(&mut self.model, model), (&mut self.mode, mode)] {
            if !told.is_empty() {
                *known = told;
            }
        }
        for (known, told) in [
            (&mut self.context_tokens, context_tokens),
            (&mut self.context_window, context_window),
            (&mut self.input_tokens, input_tokens),
            (&mut self.output_tokens, output_tokens),
            (&mut self.cost_micro_usd, cost_micro_usd),
        ] {
            *known = told.or(*known);
        }
    }

    /// Returns how full the conversation is, in percent of what the model takes; none where that is
    /// not known.
    pub fn context_percent(&self) -> Option<u64> {
        let window = self.context_window.filter(|window| *window > 0)?;
        let tokens = u128::from(self.context_tokens?);
        u64::try_from(tokens * 100 / u128::from(window)).ok()
    }

    /// Returns the same with its texts cleaned and cut.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { model: name(&self.model), mode: name(&self.mode), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_later_counts_and_what_is_not_said_stays() {
        let mut meter = Meter { mode: "plan".to_owned(), ..Meter::default() };
        meter.take(Meter {
            model: "m\u{1b}".to_owned(),
            input_tokens: Some(7),
            ..Meter::default()
        });
        meter.take(Meter { output_tokens: Some(0), input_tokens: Some(5), ..Meter::default() });
        assert_eq!((meter.model.as_str(), meter.mode.as_str()), ("m", "plan"));
        assert_eq!((meter.input_tokens, meter.output_tokens), (Some(5), Some(0)));
    }

    #[test]
    fn a_share_needs_both_numbers() {
        let percent = |context_tokens, context_window| {
            Meter { context_tokens, context_window, ..Meter::default() }.context_percent()
        };
        assert_eq!(percent(Some(54_000), Some(200_000)), Some(27));
        assert_eq!(percent(Some(u64::MAX), Some(1)), None);
        for (tokens, window) in [(None, Some(9)), (Some(9), None), (Some(9), Some(0))] {
            assert_eq!(percent(tokens, window), None);
        }
    }
}
