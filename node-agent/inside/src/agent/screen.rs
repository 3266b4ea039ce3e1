//! What the text on a screen tells, where nothing better does.

use warren_common::{Limits, agent::Screen};

/// Lines at the end of a screen that are kept.
const LINES: usize = 12;

/// Returns what the screen of an agent tells; `retries` where it may be trying the model again.
pub(super) fn read(text: &str, retries: bool) -> Screen {
    let lines: Vec<&str> =
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let end = &lines[lines.len().saturating_sub(LINES)..];
    let trying = |line: &&&str| line.contains("retrying in ") && line.contains("attempt ");
    if let Some(line) = end.iter().rfind(trying).filter(|_| retries) {
        // a mark that spins comes first
        let line = line.trim_start_matches(|c: char| !c.is_alphanumeric());
        return Screen::Retrying(line.to_owned());
    }
    Screen::Lines(last(end))
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

    #[test]
    fn the_last_lines_that_fit_are_kept() {
        let lines = |text: &str| match read(text, false) {
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
        assert_eq!(read(text, true), Screen::Retrying(line.to_owned()));
        assert!(matches!(read(text, false), Screen::Lines(_)));
        assert!(matches!(read("retrying in vain", true), Screen::Lines(_)));
    }
}
