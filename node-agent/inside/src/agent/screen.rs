//! What the text on a screen tells, where nothing better does.

use warren_common::{
    Limits,
    agent::{Ask, Screen, WaitKind},
};

/// Lines at the end of a screen that are kept.
const LINES: usize = 12;
/// What stands above a question of Gemini CLI, and below it.
const QUESTION: (&str, &str) = ("Answer Questions", "Enter to select");
/// What Codex's line for prompts begins with; the chosen line of a list does too.
const PROMPT: &str = "› ";
/// What the lines below it show once it takes a prompt: other keys, or the folder it works in.
const READY: [&str; 3] = ["← for agents", " · ~", " · /"];
/// Lines that stand below it.
const BELOW: usize = 2;
/// What begins a part of what stands above it; the first of them, a failure.
const PARTS: [&str; 4] = ["■ ", "• ", "⚠ ", PROMPT];
/// How a part goes on that a person's Esc left.
const STOPPED: &str = "Conversation interrupted";
/// What stands at the top of a conversation.
const TOP: &str = ">_ OpenAI Codex";
/// What stands above it while a turn runs.
const RUNS: &str = "esc to interrupt)";

/// What begins a line by which Gemini CLI says that its turn failed.
const API_ERROR: &str = "✕ [API Error";
/// Lines that such a one is broken into, at most.
const API_ERROR_LINES: usize = 12;
/// What begins a line of its model, and one that a person types or typed.
const ANSWER: &str = "✦ ";
const TYPED: [&str; 3] = ["> ", "* ", "! "];

/// What may be looked for on a screen beside its last lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Nothing,
    /// Claude Code may be trying the model again.
    Retries,
    /// Gemini CLI may be asking a question.
    Question,
    /// Codex may have come to its prompt.
    Prompt,
    /// A turn of Codex may have failed.
    Failure,
    /// A turn of Gemini CLI may have failed.
    ApiError,
}

/// Returns what the screen of an agent tells.
pub(super) fn read(text: &str, wanted: For) -> Screen {
    let lines: Vec<&str> =
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let end = &lines[lines.len().saturating_sub(LINES)..];
    let trying = |line: &&&str| line.contains("retrying in ") && line.contains("attempt ");
    if let Some(line) = end.iter().rfind(trying).filter(|_| wanted == For::Retries) {
        // a mark that spins comes first
        let line = line.trim_start_matches(|c: char| !c.is_alphanumeric());
        return Screen::Retrying(line.to_owned());
    }
    if wanted == For::Prompt && is_at_prompt(&lines) {
        // a start that goes on with a conversation shows how that ended
        let failed = failure(&lines).filter(|failure| failure.asked);
        return failed.map_or(Screen::Prompt, |failure| Screen::Failed(failure.line.to_owned()));
    }
    if let Some(failure) = failure(&lines).filter(|_| wanted == For::Failure) {
        return Screen::Failed(failure.line.to_owned());
    }
    if let Some(line) = api_error(&lines).filter(|_| wanted == For::ApiError) {
        return Screen::Failed(line);
    }
    match question(&lines).filter(|_| wanted == For::Question) {
        Some(ask) => Screen::Asks(ask),
        None => Screen::Lines(last(end)),
    }
}

/// Returns whether Codex takes a prompt: its line for them is no numbered choice, and what stands below
/// it no keys of a dialog. While it starts that line is there too, and nothing of what it works with.
fn is_at_prompt(lines: &[&str]) -> bool {
    let Some(at) = lines.iter().rposition(|line| line.starts_with(PROMPT)) else { return false };
    let choice = lines[at].trim_start_matches(PROMPT).split_once(". ");
    let numbered = choice.is_some_and(|(number, _)| number.parse::<u8>().is_ok());
    let runs = lines[..at].iter().any(|line| line.ends_with(RUNS));
    // what a person has typed may be of several lines
    let below = &lines[(at + 1).max(lines.len().saturating_sub(BELOW))..];
    let ready = below.iter().any(|line| READY.iter().any(|mark| line.contains(mark)));
    ready && !numbered && !runs && !below.iter().any(|line| line.contains("esc "))
}

/// How Codex says that a turn failed.
struct Failure<'a> {
    line: &'a str,
    /// What was asked is on the screen.
    asked: bool,
}

/// Returns how Codex says that its turn failed: in the last part above its line for prompts. What fails
/// before anything was asked is no turn.
fn failure<'a>(lines: &[&'a str]) -> Option<Failure<'a>> {
    let at = lines.iter().rposition(|line| line.starts_with(PROMPT))?;
    let above = &lines[..at];
    let begins = |line: &&str| PARTS.iter().any(|part| line.starts_with(part));
    let line = above.iter().rfind(|line| begins(line))?.strip_prefix(PARTS[0])?;
    let asked = above.iter().any(|line| line.starts_with(PROMPT));
    let whole = above.iter().any(|line| line.contains(TOP));
    let failed = is_at_prompt(lines) && (asked || !whole) && !line.starts_with(STOPPED);
    failed.then_some(Failure { line, asked })
}

/// Returns how Gemini CLI says that its turn failed: below it stands nothing of its model, and one line
/// at most that a person types in.
fn api_error(lines: &[&str]) -> Option<String> {
    let plain: Vec<&str> = lines.iter().map(|line| inner(line)).collect();
    let at = plain.iter().rposition(|line| line.starts_with(API_ERROR))?;
    // it is broken where the window ends
    let last = plain[at..].iter().take(API_ERROR_LINES).position(|line| line.ends_with(']'));
    let (said, below) = plain[at..].split_at(last.unwrap_or_default() + 1);
    let is_typed = |line: &&&str| TYPED.iter().any(|mark| line.starts_with(mark));
    let goes_on = below.iter().any(|line| line.starts_with(ANSWER));
    let failed = !goes_on && below.iter().filter(is_typed).count() <= 1;
    failed.then(|| said.join(" ").trim_start_matches("✕ ").to_owned())
}

/// Returns what stands on a line, without a frame.
fn inner(line: &str) -> &str {
    line.trim_matches(|c: char| c == '│' || c.is_whitespace())
}

/// Reads the question that stands at the end of a screen, in a frame: a title, the question, numbered
/// answers, which keys do what.
fn question(lines: &[&str]) -> Option<Ask> {
    let plain = |line: &&str| inner(line).to_owned();
    let from = lines.iter().rposition(|line| line.contains(QUESTION.0))?;
    let dialog: Vec<String> = lines[from + 1..].iter().map(plain).collect();
    let end = dialog.iter().position(|line| line.starts_with(QUESTION.1))?;
    let said = |line: &&String| !line.is_empty();
    let text = dialog[..end].iter().find(said)?.clone();
    let answer = |line: &String| {
        let line = line.trim_start_matches(['●', ' ']);
        let (number, answer) = line.split_once(". ")?;
        number.parse::<u8>().ok()?;
        Some(answer.trim().to_owned())
    };
    let mut options: Vec<String> = dialog[..end].iter().filter_map(answer).collect();
    // the last one is what a person writes
    options.pop();
    Some(Ask { kind: WaitKind::Question, text, options })
}

/// Returns as many of the last lines as a status shows.
fn last(lines: &[&str]) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut room = Limits::AGENT_TEXT_BYTES;
    for line in lines.iter().rev() {
        let Some(left) = room.checked_sub(line.len() + 1) else { break };
        room = left;
        kept.push(line);
    }
    if kept.is_empty() {
        // one line alone is too long; the model cuts it
        kept.extend(lines.last());
    }
    kept.reverse();
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Screens of Codex 0.169 as they were, without the picture at its start.
    const CODEX: [(&str, &str, bool); 10] = [
        ("prompt", include_str!("screens/codex-prompt.txt"), true),
        ("a narrow prompt", include_str!("screens/codex-prompt-narrow.txt"), true),
        ("a prompt with a past", include_str!("screens/codex-failed.txt"), true),
        ("loading", include_str!("screens/codex-loading.txt"), false),
        ("login", include_str!("screens/codex-login.txt"), false),
        ("trust", include_str!("screens/codex-trust.txt"), false),
        ("update", include_str!("screens/codex-update.txt"), false),
        ("models", include_str!("screens/codex-models.txt"), false),
        ("which to resume", include_str!("screens/codex-resume.txt"), false),
        ("a turn", include_str!("screens/codex-working.txt"), false),
    ];

    #[test]
    fn the_prompt_of_codex_is_told_from_its_dialogs() {
        for (name, text, ready) in CODEX {
            let dialog = matches!(read(text, For::Prompt), Screen::Lines(_));
            assert_eq!(!dialog, ready, "{name}");
            assert!(matches!(read(text, For::Nothing), Screen::Lines(_)), "{name}");
        }
        let prompt = CODEX[0].1;
        for typed in ["› 1 line", "› one\n  two\n  three\n  four"] {
            let text = prompt.replace("› Ask Codex to do anything", typed);
            assert_eq!(read(&text, For::Prompt), Screen::Prompt, "{typed}");
        }
        let dialog = prompt.replace("? for shortcuts", "esc back");
        assert!(matches!(read(&dialog, For::Prompt), Screen::Lines(_)));
        let choice = prompt.replace("› Ask Codex", "› 1. Ask Codex");
        assert!(matches!(read(&choice, For::Prompt), Screen::Lines(_)));
        let gone = prompt.replace("› ", "");
        assert!(matches!(read(&gone, For::Prompt), Screen::Lines(_)));
    }

    #[test]
    fn the_last_lines_that_fit_are_kept() {
        let lines = |text: &str| match read(text, For::Nothing) {
            Screen::Lines(lines) => lines,
            other => panic!("{other:?}"),
        };
        assert_eq!(lines("one  \n\n two\n\n\n"), "one\n two");
        assert_eq!(lines(""), "");
        let long = format!("{}\n{}\nlast?", "a".repeat(390), "b".repeat(390));
        assert_eq!(lines(&long), format!("{}\nlast?", "b".repeat(390)));
        assert_eq!(lines(&"c".repeat(5000)).len(), 5000);
    }

    #[test]
    fn a_retry_is_found_where_one_may_be() {
        let text = "> hello\n\n✻ 401 mock 401 · retrying in 9s · attempt 5/10\n\n>\n";
        let line = "401 mock 401 · retrying in 9s · attempt 5/10";
        assert_eq!(read(text, For::Retries), Screen::Retrying(line.to_owned()));
        assert!(matches!(read(text, For::Nothing), Screen::Lines(_)));
        assert!(matches!(read("retrying in vain", For::Retries), Screen::Lines(_)));
    }

    #[test]
    fn a_failed_turn_of_codex_is_told_from_others() {
        let failed = include_str!("screens/codex-failed.txt");
        let line = "unexpected status 529 <unknown status code>: scripted 529, url: \
                    http://127.0.0.1:8089/v1/responses";
        assert_eq!(read(failed, For::Failure), Screen::Failed(line.to_owned()));
        let more = failed.replace("\n› Ask Codex", "\n• Done.\n\n› Ask Codex");
        let alone = CODEX[0].1.replace("› Ask Codex", "■ no such thing\n\n› Ask Codex");
        let stopped = include_str!("screens/codex-interrupted.txt");
        for other in CODEX.map(|(_, text, _)| text).iter().filter(|text| **text != failed) {
            assert!(matches!(read(other, For::Failure), Screen::Lines(_)), "{other}");
        }
        for other in [&more, &alone, stopped] {
            assert!(matches!(read(other, For::Failure), Screen::Lines(_)), "{other}");
        }
        let long = alone.replace(">_ OpenAI Codex (v0.169.0)", "");
        assert_eq!(read(&long, For::Failure), Screen::Failed("no such thing".to_owned()));
    }

    #[test]
    fn a_conversation_of_codex_that_goes_on_after_a_failed_turn_shows_that() {
        let failed = include_str!("screens/codex-failed.txt");
        assert!(matches!(read(failed, For::Prompt), Screen::Failed(line) if line.contains("529")));
        // what fails while it starts is no turn, whatever has left the screen
        let cut = CODEX[0].1.replace("› Ask Codex", "■ no such thing\n\n› Ask Codex");
        let cut = cut.replace(">_ OpenAI Codex (v0.169.0)", "");
        assert_eq!(read(&cut, For::Prompt), Screen::Prompt);
    }

    #[test]
    fn a_failed_turn_of_gemini_is_told_from_others() {
        // in the shape of Gemini CLI 0.61, written and not recorded
        let failed = include_str!("screens/gemini-failed.txt");
        let line = "[API Error: scripted 429 (Status: RESOURCE_EXHAUSTED) Please wait and try again \
                    later. To increase your limits, request a quota increase through AI Studio, or \
                    switch to another /auth method]";
        assert_eq!(read(failed, For::ApiError), Screen::Failed(line.to_owned()));
        assert!(matches!(read(failed, For::Nothing), Screen::Lines(_)));
        let typing = failed.replace(">   Type your message or @path/to/file", "> what now");
        assert!(matches!(read(&typing, For::ApiError), Screen::Failed(_)));
        for after in ["✦ Done.", " > again\n\nℹ Request cancelled."] {
            let other =
                failed.replace("  ? for shortcuts", &format!("\n{after}\n  ? for shortcuts"));
            assert!(matches!(read(&other, For::ApiError), Screen::Lines(_)), "{after}");
        }
    }

    #[test]
    fn a_question_is_read_with_its_answers_where_one_stands() {
        let dialog = "✦ Here\n╭───╮\n│ Answer Questions        │\n│                         │\n\
                      │ Which one?              │\n│                         │\n\
                      │ ● 1.  Red               │\n│       take Red          │\n\
                      │   2.  Blue              │\n│   3.  Enter a custom value │\n│      │\n\
                      │ Enter to select · ↑/↓ to navigate · Esc to cancel │\n╰───╯\n";
        let options = vec!["Red".to_owned(), "Blue".to_owned()];
        let ask = Ask { kind: WaitKind::Question, text: "Which one?".to_owned(), options };
        assert_eq!(read(dialog, For::Question), Screen::Asks(ask));
        assert!(matches!(read(dialog, For::Nothing), Screen::Lines(_)));
        for other in
            ["│ Answer Questions │", "Enter to select", "Enter to select\nAnswer Questions", ""]
        {
            assert!(matches!(read(other, For::Question), Screen::Lines(_)), "{other}");
        }
    }
}
