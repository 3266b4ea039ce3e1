//! Which modes a program has switched on in our terminal, so that leaving it in the middle can
//! switch them off again: the alternate screen, mouse reports, bracketed paste, a hidden cursor.

use std::collections::BTreeSet;

/// Private modes that would spoil a shell, in the order in which they are switched off: the
/// alternate screen last, so that the rest still applies to it.
const SPOILING: [u16; 14] =
    [9, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 2004, 2026, 47, 1047, 1049];
const CURSOR: u16 = 25;
/// Longer parameter lists are no mode switches.
const LONGEST: usize = 64;

/// Follows `CSI ? … h` and `CSI ? … l` through a program's output.
#[derive(Debug, Clone, Default)]
pub(super) struct Modes {
    set: BTreeSet<u16>,
    hidden: bool,
    keypad: bool,
    written: bool,
    state: State,
}

#[derive(Debug, Clone, Default)]
enum State {
    #[default]
    Text,
    Escape,
    Bracket,
    Private(Vec<u8>),
}

impl Modes {
    /// Takes output on its way to the terminal.
    pub(super) fn watch(&mut self, output: &[u8]) {
        self.written |= !output.is_empty();
        for &byte in output {
            let state = std::mem::take(&mut self.state);
            self.state = self.step(state, byte);
        }
    }

    fn step(&mut self, state: State, byte: u8) -> State {
        match (state, byte) {
            (_, 0x1b) => State::Escape,
            (State::Escape, b'[') => State::Bracket,
            (State::Escape, b'=' | b'>') => {
                self.keypad = byte == b'=';
                State::Text
            }
            (State::Bracket, b'?') => State::Private(Vec::new()),
            (State::Private(mut digits), b'0'..=b'9' | b';') if digits.len() < LONGEST => {
                digits.push(byte);
                State::Private(digits)
            }
            (State::Private(digits), b'h' | b'l') => {
                self.switch(&digits, byte == b'h');
                State::Text
            }
            (State::Text | State::Escape | State::Bracket | State::Private(_), _) => State::Text,
        }
    }

    fn switch(&mut self, digits: &[u8], on: bool) {
        let text = String::from_utf8_lossy(digits);
        for mode in text.split(';').filter_map(|mode| mode.parse::<u16>().ok()) {
            match mode {
                CURSOR => self.hidden = !on,
                1 => self.keypad = on,
                mode if SPOILING.contains(&mode) && on => {
                    self.set.insert(mode);
                }
                mode => {
                    self.set.remove(&mode);
                }
            }
        }
    }

    /// Returns what makes the terminal fit for a shell again; empty where nothing was written.
    pub(super) fn reset(&self) -> String {
        if !self.written {
            return String::new();
        }
        let mut text = String::from("\x1b[m");
        if self.keypad {
            text.push_str("\x1b[?1l\x1b>");
        }
        if self.hidden {
            text.push_str("\x1b[?25h");
        }
        for mode in SPOILING.iter().filter(|mode| self.set.contains(mode)) {
            text.push_str(&format!("\x1b[?{mode}l"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_is_switched_off_and_nothing_else() {
        let mut modes = Modes::default();
        assert_eq!(modes.reset(), "");
        modes.watch(b"\x1b[?1049h\x1b[?1002;1006h\x1b[?25");
        modes.watch(b"l\x1b=\x1b[2J\x1b[1;31mtext");
        assert_eq!(modes.reset(), "\x1b[m\x1b[?1l\x1b>\x1b[?25h\x1b[?1002l\x1b[?1006l\x1b[?1049l");
        modes.watch(b"\x1b[?1006l\x1b[?1002l\x1b[?25h\x1b[?1l\x1b>\x1b[?1049l");
        assert_eq!(modes.reset(), "\x1b[m");
    }

    #[test]
    fn noise_is_no_mode() {
        let mut modes = Modes::default();
        modes.watch(b"?1049h [?1049h \x1b[1049h \x1b[?99999h \x1b[?");
        modes.watch(&[b'1'; 10_000]);
        modes.watch(b"h");
        assert_eq!(modes.reset(), "\x1b[m");
    }
}
