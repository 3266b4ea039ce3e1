//! The grammar of prompts: what the model answers, one step after the other.
//!
//! | marker | the model |
//! |---|---|
//! | `[[bash LINE]]` | runs a shell line with the agent's own tool |
//! | `[[background LINE]]` | the same, and does not wait for it |
//! | `[[risky LINE]]` | the same, in a way that a person has to allow |
//! | `[[ask A\|B]]` | asks the person to choose |
//! | `[[tool NAME {…}]]` | calls this tool with this input |
//! | `[[say TEXT]]` | says this and ends the turn |
//! | `[[slow N]]` | writes N pieces, half a second apart, and ends the turn |
//! | `[[hang N]]` | is silent for N seconds before its next answer |
//! | `[[err CODE]]`, `[[err CODE N]]` | is refused with this status, always or N times, before its next answer |
//!
//! Markers do not nest, and what stands around them is ignored. A step that calls a tool is done
//! when the tool has answered; at the end of the script the model says so and ends the turn.

use std::time::Duration;

use serde_json::Value;

/// A prompt's steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    answers: Vec<Answer>,
}

/// One answer of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Silence before anything is said.
    pub hang: Duration,
    /// A refusal before it, and how often; for ever without a count.
    pub refusal: Option<(u16, Option<u32>)>,
    /// What it does then.
    pub act: Act,
}

/// What an answer does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Act {
    /// Ends the turn.
    #[default]
    Done,
    /// Says something and ends the turn.
    Say(String),
    /// Writes pieces slowly and ends the turn.
    Slow(u32),
    /// Runs a shell line.
    Shell {
        /// The line.
        line: String,
        /// How.
        manner: Manner,
    },
    /// Asks the person to choose.
    Ask(Vec<String>),
    /// Calls a tool.
    Tool {
        /// Its name.
        name: String,
        /// Its input; null where it is not JSON.
        input: Value,
    },
}

/// How a shell line runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As the agent sees fit.
    Plain,
    /// While the agent goes on.
    Background,
    /// Beyond what the agent may do by itself, where it tells such lines apart.
    Risky,
}

impl Script {
    /// Returns whether a prompt has a marker at all.
    pub fn is_in(prompt: &str) -> bool {
        markers(prompt).any(|(word, rest)| marker(word, rest).is_some())
    }

    /// Reads a prompt; what is no marker is ignored.
    pub fn read(prompt: &str) -> Self {
        let (mut answers, mut next) = (Vec::new(), Answer::default());
        for (word, rest) in markers(prompt) {
            match marker(word, rest) {
                Some(Marker::Hang(hang)) => next.hang = hang,
                Some(Marker::Refusal(refusal)) => next.refusal = Some(refusal),
                Some(Marker::Act(act)) => answers.push(Answer { act, ..std::mem::take(&mut next) }),
                None => {}
            }
        }
        answers.push(next);
        Self { answers }
    }

    /// Returns the answer after `done` tools have answered.
    pub fn answer(&self, done: usize) -> Answer {
        self.answers.get(done).cloned().unwrap_or_default()
    }
}

enum Marker {
    Hang(Duration),
    Refusal((u16, Option<u32>)),
    Act(Act),
}

fn markers(prompt: &str) -> impl Iterator<Item = (&str, &str)> {
    let bodies = prompt.split("[[").skip(1).filter_map(|part| part.split_once("]]"));
    bodies.map(|(body, _)| body.split_once(' ').unwrap_or((body, "")))
}

fn marker(word: &str, rest: &str) -> Option<Marker> {
    let rest = rest.trim();
    let act = match word {
        "hang" => {
            let span = Duration::try_from_secs_f64(rest.parse().ok()?);
            return Some(Marker::Hang(span.ok()?));
        }
        "err" => {
            let (code, times) = rest.split_once(' ').unwrap_or((rest, ""));
            return Some(Marker::Refusal((code.parse().ok()?, times.trim().parse().ok())));
        }
        "bash" => Act::Shell { line: rest.to_owned(), manner: Manner::Plain },
        "background" => Act::Shell { line: rest.to_owned(), manner: Manner::Background },
        "risky" => Act::Shell { line: rest.to_owned(), manner: Manner::Risky },
        "ask" => Act::Ask(rest.split('|').map(|choice| choice.trim().to_owned()).collect()),
        "say" => Act::Say(rest.to_owned()),
        "slow" => Act::Slow(rest.parse().ok()?),
        "tool" => {
            let (name, input) = rest.split_once(' ').unwrap_or((rest, "{}"));
            let input = serde_json::from_str(input).unwrap_or_default();
            Act::Tool { name: name.to_owned(), input }
        }
        _ => return None,
    };
    Some(Marker::Act(act))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Act {
        Act::Shell { line: line.to_owned(), manner: Manner::Plain }
    }

    #[test]
    fn steps_come_one_after_the_other_and_end() {
        let script = Script::read("go [[bash sleep 2]] then [[ask A| B]] and stop");
        assert_eq!(script.answer(0).act, shell("sleep 2"));
        assert_eq!(script.answer(1).act, Act::Ask(vec!["A".to_owned(), "B".to_owned()]));
        assert_eq!(script.answer(2), Answer::default());
        assert_eq!(script.answer(9), Answer::default());
    }

    #[test]
    fn silence_and_refusals_come_before_the_next_answer() {
        let script = Script::read("[[hang 1.5]] [[err 529 3]] [[bash ls]] [[err 401]]");
        let first = script.answer(0);
        assert_eq!(first.hang, Duration::from_millis(1500));
        assert_eq!(first.refusal, Some((529, Some(3))));
        assert_eq!(first.act, shell("ls"));
        let last = script.answer(1);
        assert_eq!((last.refusal, last.act), (Some((401, None)), Act::Done));
    }

    #[test]
    fn a_tool_has_json_and_a_line_has_anything() {
        let script = Script::read(r#"[[tool Read {"file_path":"/a b"}]] [[bash echo "[x]" | wc]]"#);
        let input = serde_json::json!({"file_path": "/a b"});
        assert_eq!(script.answer(0).act, Act::Tool { name: "Read".to_owned(), input });
        assert_eq!(script.answer(1).act, shell("echo \"[x]\" | wc"));
    }

    #[test]
    fn what_is_no_marker_is_ignored() {
        for prompt in ["", "hello", "[[bash", "[[nothing x]]", "[[slow soon]]", "[bash ls]"] {
            assert!(!Script::is_in(prompt), "{prompt}");
            assert_eq!(Script::read(prompt).answer(0), Answer::default(), "{prompt}");
        }
        assert!(Script::is_in("x [[slow 3]]") && Script::is_in("[[err 429]]"));
    }
}
