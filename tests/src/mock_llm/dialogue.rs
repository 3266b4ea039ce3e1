//! Where a dialogue stands: its newest prompt, how many tools have answered since, and what came
//! before it.

use super::Script;

/// One thing that reached the model, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// A text in the person's name; agents put reminders of their own beside the real ones.
    Text(String),
    /// A tool's answer.
    Result,
}

/// Where a dialogue stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stand {
    /// The newest prompt.
    pub(super) prompt: String,
    /// The number of tools that have answered it.
    pub(super) done: usize,
    /// The prompts before it, the oldest first.
    pub(super) earlier: Vec<String>,
}

/// Returns where a dialogue stands.
pub(super) fn stand(said: impl IntoIterator<Item = Said>) -> Stand {
    let mut stand = Stand::default();
    for one in said {
        match one {
            Said::Result => stand.done += 1,
            // what an agent says of itself stands in tags
            Said::Text(text) if Script::is_in(&text) || !is_of_the_agent(&text) => {
                let before = std::mem::replace(&mut stand.prompt, text);
                stand.earlier.extend(Some(before).filter(|text| !text.is_empty()));
                stand.done = 0;
            }
            Said::Text(_) => {}
        }
    }
    stand
}

fn is_of_the_agent(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with('<')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Said {
        Said::Text(text.to_owned())
    }

    fn at(prompt: &str, done: usize, earlier: &[&str]) -> Stand {
        let earlier = earlier.iter().map(|text| (*text).to_owned()).collect();
        Stand { prompt: prompt.to_owned(), done, earlier }
    }

    #[test]
    fn a_new_prompt_begins_anew_and_a_reminder_does_not() {
        let dialogue = [
            text("<environment>x</environment>"),
            text("[[bash a]]"),
            Said::Result,
            text("<system-reminder>x</system-reminder>"),
            Said::Result,
        ];
        assert_eq!(stand(dialogue), at("[[bash a]]", 2, &[]));
        let dialogue = [text("[[bash a]]"), Said::Result, text("hello")];
        assert_eq!(stand(dialogue), at("hello", 0, &["[[bash a]]"]));
        assert_eq!(stand([]), Stand::default());
    }

    #[test]
    fn of_prompts_that_nobody_answered_the_last_one_counts() {
        let dialogue = [text("[[err 401]]"), text("[[bash a]]")];
        assert_eq!(stand(dialogue), at("[[bash a]]", 0, &["[[err 401]]"]));
    }
}
