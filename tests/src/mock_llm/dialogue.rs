//! Where a dialogue stands: its newest prompt, and how many tools have answered since.

use super::Script;

/// One thing that reached the model, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// A text in the person's name; agents put reminders of their own beside the real ones.
    Text(String),
    /// A tool's answer.
    Result,
}

/// Returns the newest prompt and the number of tools that have answered it.
pub(super) fn stand(said: impl IntoIterator<Item = Said>) -> (String, usize) {
    let (mut prompt, mut done) = (String::new(), 0);
    for one in said {
        match one {
            Said::Result => done += 1,
            // what an agent says of itself stands in tags
            Said::Text(text) if Script::is_in(&text) || !is_of_the_agent(&text) => {
                (prompt, done) = (text, 0);
            }
            Said::Text(_) => {}
        }
    }
    (prompt, done)
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

    #[test]
    fn a_new_prompt_begins_anew_and_a_reminder_does_not() {
        let dialogue = [
            text("<environment>x</environment>"),
            text("[[bash a]]"),
            Said::Result,
            text("<system-reminder>x</system-reminder>"),
            Said::Result,
        ];
        assert_eq!(stand(dialogue), ("[[bash a]]".to_owned(), 2));
        let dialogue = [text("[[bash a]]"), Said::Result, text("hello")];
        assert_eq!(stand(dialogue), ("hello".to_owned(), 0));
        assert_eq!(stand([]), (String::new(), 0));
    }

    #[test]
    fn of_prompts_that_nobody_answered_the_last_one_counts() {
        let dialogue = [text("[[err 401]]"), text("[[bash a]]")];
        assert_eq!(stand(dialogue), ("[[bash a]]".to_owned(), 0));
    }
}
