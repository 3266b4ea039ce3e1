//! What a viewer of a display says (RFB, RFC 6143 §7.5), and which of it is passed on.
//!
//! Whoever only looks gets pictures: keys, pointer and clipboard are left out, and the server is
//! told of no encoding that would let a viewer ask for more. Nothing here is the browser's word: a
//! message that is not known, or is longer than its bound, ends the connection.

use std::collections::BTreeSet;

/// Encodings in one `SetEncodings`, at most; viewers name some twenty.
const ENCODINGS: usize = 256;
/// A clipboard that is passed on, at most.
const CUT_TEXT: usize = 256 * 1024;
/// Keys held down at one time that are let go when control ends.
const KEYS: usize = 32;
const KEY: u8 = 4;
const POINTER: u8 = 5;

/// Why a viewer is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// It does not begin as RFB does.
    #[error("it does not speak RFB 3.3, 3.7 or 3.8")]
    Version,
    /// It asks for another way to prove itself than the server offers.
    #[error("it chose a security type that is not served")]
    Security,
    /// A message of a type that is not passed on to anybody.
    #[error("it sent a message of type {0}, which is not served")]
    Unknown(u8),
    /// A message beyond its bound.
    #[error("it sent a message that is too long")]
    TooLong,
}

/// Reads one viewer's half of a connection.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    stage: Stage,
    /// The beginning of a message whose end has not come.
    pending: Vec<u8>,
    /// Bytes of a clipboard that are still to come, and whether they are passed on.
    text: usize,
    text_passes: bool,
    keys: BTreeSet<[u8; 4]>,
    /// Buttons that are down, and where.
    pointer: [u8; 5],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Version,
    Security,
    Init,
    Messages,
}

impl Filter {
    /// Takes what the viewer sent and appends what the server is to get; `control` says whether its
    /// keys and pointer are passed on.
    ///
    /// # Errors
    /// The viewer is to be sent away.
    pub(crate) fn feed(
        &mut self,
        mut input: &[u8],
        control: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        while !input.is_empty() {
            if self.text > 0 {
                let (piece, rest) = input.split_at(self.text.min(input.len()));
                if self.text_passes {
                    out.extend_from_slice(piece);
                }
                self.text -= piece.len();
                input = rest;
                continue;
            }
            // one byte more at a time until the length is known: messages are short
            let wanted = self.wanted()?.max(1);
            let missing = wanted.saturating_sub(self.pending.len()).min(input.len());
            let (piece, rest) = input.split_at(missing);
            self.pending.extend_from_slice(piece);
            input = rest;
            if self.is_whole()? {
                let message = std::mem::take(&mut self.pending);
                self.take(&message, control, out)?;
            }
        }
        Ok(())
    }

    /// Appends what lets go of every key and button that is down: control has ended. A clipboard that
    /// was on its way is filled up with blanks, since nothing else may stand in it.
    pub(crate) fn release(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.text_passes) {
            out.resize(out.len() + self.text, b' ');
        }
        out.append(&mut self.held());
        self.keys.clear();
        self.pointer[0] = 0;
    }

    /// Returns the messages that let go of what is down.
    pub(crate) fn held(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for key in &self.keys {
            out.extend_from_slice(&[KEY, 0, 0, 0]);
            out.extend_from_slice(key);
        }
        if self.pointer[0] != 0 {
            out.extend_from_slice(&[POINTER, 0]);
            out.extend_from_slice(&self.pointer[1..]);
        }
        out
    }

    /// Whether the server may be told something of ours now: no message of the viewer's is half done.
    pub(crate) fn is_between(&self) -> bool {
        self.stage == Stage::Messages && !(self.text > 0 && self.text_passes)
    }

    fn is_whole(&self) -> Result<bool, Refused> {
        Ok(!self.pending.is_empty() && self.text == 0 && self.pending.len() >= self.wanted()?)
    }

    /// Returns how long the pending message is, or how much of it tells its length.
    fn wanted(&self) -> Result<usize, Refused> {
        match self.stage {
            Stage::Version => return Ok(12),
            Stage::Security | Stage::Init => return Ok(1),
            Stage::Messages => {}
        }
        let Some(kind) = self.pending.first() else { return Ok(1) };
        match kind {
            0 => Ok(20),
            2 => match self.pending[..] {
                [_, _, high, low, ..] => match usize::from(u16::from_be_bytes([high, low])) {
                    count @ 0..=ENCODINGS => Ok(4 + 4 * count),
                    _ => Err(Refused::TooLong),
                },
                _ => Ok(4),
            },
            3 => Ok(10),
            &KEY | 6 => Ok(8),
            &POINTER => Ok(6),
            kind => Err(Refused::Unknown(*kind)),
        }
    }

    fn take(&mut self, message: &[u8], control: bool, out: &mut Vec<u8>) -> Result<(), Refused> {
        match (self.stage, message) {
            (Stage::Version, b"RFB 003.003\n") => self.stage = Stage::Init,
            (Stage::Version, b"RFB 003.007\n" | b"RFB 003.008\n") => self.stage = Stage::Security,
            (Stage::Version, _) => return Err(Refused::Version),
            (Stage::Security, [1]) => self.stage = Stage::Init,
            (Stage::Security, _) => return Err(Refused::Security),
            (Stage::Init, _) => {
                self.stage = Stage::Messages;
                // no viewer sends the others away
                out.push(1);
                return Ok(());
            }
            (Stage::Messages, [2, _, _, _, encodings @ ..]) => {
                let (known, _) = encodings.as_chunks::<4>();
                let known: Vec<_> = known.iter().filter(|one| is_plain(**one)).collect();
                let count = u16::try_from(known.len()).map_err(|_| Refused::TooLong)?;
                out.extend_from_slice(&[2, 0]);
                out.extend_from_slice(&count.to_be_bytes());
                known.into_iter().for_each(|one| out.extend_from_slice(one));
                return Ok(());
            }
            (Stage::Messages, [KEY, down, _, _, a, b, c, d]) => {
                if !control {
                    return Ok(());
                }
                let key = [*a, *b, *c, *d];
                match *down != 0 {
                    // one that would not be let go is not pressed
                    true if self.keys.len() >= KEYS && !self.keys.contains(&key) => return Ok(()),
                    true => self.keys.insert(key),
                    false => self.keys.remove(&key),
                };
            }
            (Stage::Messages, [POINTER, a, b, c, d, e]) => {
                if !control {
                    return Ok(());
                }
                self.pointer = [*a, *b, *c, *d, *e];
            }
            (Stage::Messages, [6, _, _, _, a, b, c, d]) => {
                self.text = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d]))
                    .ok()
                    .filter(|length| *length <= CUT_TEXT)
                    .ok_or(Refused::TooLong)?;
                self.text_passes = control;
                if !control {
                    return Ok(());
                }
            }
            (Stage::Messages, _) => {}
        }
        out.extend_from_slice(message);
        Ok(())
    }
}

/// Whether an encoding is about pictures alone: the others announce that a viewer may send messages
/// which are not served.
fn is_plain(encoding: [u8; 4]) -> bool {
    // raw, copy, RRE, hextile, zlib, tight, ZRLE and JPEG; tight PNG, desktop name, cursor, size and
    // last rectangle; the degrees of quality and of compression
    matches!(
        i32::from_be_bytes(encoding),
        0 | 1 | 2 | 5 | 6 | 7 | 16 | 21 | -260 | -307 | -239 | -223 | -224 | -32..=-23 | -256..=-247
    )
}

#[cfg(test)]
#[path = "rfb_tests.rs"]
mod tests;
