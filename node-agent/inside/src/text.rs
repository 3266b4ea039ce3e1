//! Cutting a program's output into lines, and keeping the end of it.

use warren_common::{Limits, status::clean};

/// Longest line kept; the rest of it is dropped.
const LINE_BYTES: usize = 4096;

/// One line of output without its end, its escape sequences and control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The text.
    pub(crate) text: String,
    /// It ended in a carriage return: a progress line that the next one overwrites.
    pub(crate) fleeting: bool,
}

/// Cuts a stream of bytes into [`Piece`]s.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pending: Vec<u8>,
    /// A carriage return was the last byte: whether it ends a line shows in the next one.
    returned: bool,
}

impl Pieces {
    /// Takes bytes and hands over each line that is complete.
    pub(crate) fn feed(&mut self, bytes: &[u8], piece: &mut impl FnMut(Piece)) {
        for &byte in bytes {
            if std::mem::take(&mut self.returned) && byte != b'\n' {
                self.flush(true, piece);
            }
            match byte {
                b'\n' => self.flush(false, piece),
                b'\r' => self.returned = true,
                _ if self.pending.len() < LINE_BYTES => self.pending.push(byte),
                _ => {}
            }
        }
    }

    /// Hands over what came after the last line's end.
    pub(crate) fn finish(&mut self, piece: &mut impl FnMut(Piece)) {
        if !self.pending.is_empty() {
            self.flush(self.returned, piece);
        }
    }

    fn flush(&mut self, fleeting: bool, piece: &mut impl FnMut(Piece)) {
        let line = String::from_utf8_lossy(&self.pending);
        let text = clean(&without_escapes(&line), LINE_BYTES).trim_end().to_owned();
        self.pending.clear();
        piece(Piece { text, fleeting });
    }
}

/// Takes out `ESC [ … letter` and `ESC ] … BEL`; what is left of others loses its `ESC` in `clean`.
fn without_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\x1b' {
            out.push(character);
            continue;
        }
        let ends: fn(char) -> bool = match rest.clone().next() {
            Some('[') => |c| ('\x40'..='\x7e').contains(&c) && c != '[',
            Some(']') => |c| c == '\x07' || c == '\\',
            _ => continue,
        };
        // Consumes up to and with the character that ends the sequence.
        rest.find(|&c| ends(c));
    }
    out
}

/// The last lines of an output, at most [`Limits::STEP_OUTPUT_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct Tail {
    text: String,
    /// Where a fleeting last line starts.
    fleeting: Option<usize>,
}

impl Tail {
    /// Adds a line, in place of a fleeting one before it.
    pub(crate) fn push(&mut self, piece: &Piece) {
        if let Some(start) = self.fleeting.take() {
            self.text.truncate(start);
        }
        let start = self.text.len();
        self.text.push_str(&piece.text);
        self.text.push('\n');
        if self.text.len() > Limits::STEP_OUTPUT_BYTES {
            let over = self.text.len() - Limits::STEP_OUTPUT_BYTES;
            // From the next line's start; one line alone is always shorter than the limit.
            let cut = self.text[..].char_indices().map(|(at, _)| at).find(|&at| at >= over);
            let cut = cut.unwrap_or(over);
            let cut = self.text[cut..].find('\n').map_or(cut, |at| cut + at + 1);
            self.text.drain(..cut);
            self.fleeting = piece.fleeting.then(|| start.saturating_sub(cut));
        } else {
            self.fleeting = piece.fleeting.then_some(start);
        }
    }

    /// What is kept, a line's end after each line.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Returns `count` with commas: `1,204`.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(chunks: &[&str]) -> Vec<(String, bool)> {
        let mut seen = Vec::new();
        let mut take = |piece: Piece| seen.push((piece.text, piece.fleeting));
        let mut pieces = Pieces::default();
        for chunk in chunks {
            pieces.feed(chunk.as_bytes(), &mut take);
        }
        pieces.finish(&mut take);
        seen
    }

    #[test]
    fn lines_end_in_any_way() {
        let line = |text: &str| (text.to_owned(), false);
        let progress = |text: &str| (text.to_owned(), true);
        assert_eq!(pieces(&["a\nb\r", "\nc"]), [line("a"), line("b"), line("c")]);
        assert_eq!(pieces(&["1%\r2%\r", "3%\n"]), [progress("1%"), progress("2%"), line("3%")]);
        assert_eq!(pieces(&["\x1b[32mgreen\x1b[0m \x1b]0;t\x07x\n"]), [line("green x")]);
        let long = pieces(&["x".repeat(10_000).as_str(), "\ny\n"]);
        assert_eq!((long[0].0.len(), long[1].0.as_str()), (LINE_BYTES, "y"));
    }

    #[test]
    fn the_tail_keeps_whole_lines_at_the_end() {
        let mut tail = Tail::default();
        let piece = |text: &str, fleeting| Piece { text: text.to_owned(), fleeting };
        tail.push(&piece("1%", true));
        tail.push(&piece("2%", true));
        tail.push(&piece("done", false));
        assert_eq!(tail.as_str(), "done\n");
        for number in 0..3000 {
            tail.push(&piece(&format!("line ä {number}"), false));
        }
        let kept = tail.as_str();
        assert!(kept.len() <= Limits::STEP_OUTPUT_BYTES && kept.len() > 7000, "{}", kept.len());
        assert!(kept.starts_with("line ä ") && kept.ends_with("line ä 2999\n"));
    }

    #[test]
    fn counts_are_readable() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(1204), "1,204");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
