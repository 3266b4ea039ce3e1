//! The keys that leave a session while it runs on.
//!
//! Every byte passes through [`Detacher`]; bytes that may begin the sequence are held back until
//! the next one decides. The first key typed twice goes through once, so nothing is unreachable.

/// A sequence of keys, `ctrl-],d` by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    bytes: Vec<u8>,
    text: String,
}

/// How many keys a sequence may have.
const MOST: usize = 8;

impl DetachKeys {
    /// Reads `ctrl-],d`: keys with commas between them, each one character or `ctrl-` and one;
    /// `none` for no way out but the program's own.
    ///
    /// # Errors
    /// Returns a sentence that names the key.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self { bytes: Vec::new(), text: text.to_owned() });
        }
        let bytes: Vec<u8> = text.split(',').map(key).collect::<Result<_, _>>()?;
        if bytes.len() > MOST {
            return Err(format!("at most {MOST} keys can detach"));
        }
        Ok(Self { bytes, text: text.to_owned() })
    }

    /// Returns the keys as people read them: `Ctrl-] d`; none where nothing detaches.
    pub(crate) fn spelled(&self) -> Option<String> {
        if self.bytes.is_empty() {
            return None;
        }
        Some(self.text.replace("ctrl-", "Ctrl-").replace(',', " "))
    }
}

fn key(text: &str) -> Result<u8, String> {
    let invalid = || {
        format!("{text:?} is not a key: write one character, or ctrl- and one of a-z [ \\ ] ^ _ @")
    };
    match text.as_bytes() {
        [byte] if byte.is_ascii_graphic() => Ok(*byte),
        [prefix @ .., byte] if prefix.eq_ignore_ascii_case(b"ctrl-") => {
            match byte.to_ascii_uppercase() {
                upper @ b'@'..=b'_' => Ok(upper & 0x1f),
                _ => Err(invalid()),
            }
        }
        _ => Err(invalid()),
    }
}

/// Watches typed bytes for the sequence.
#[derive(Debug, Clone)]
pub(crate) struct Detacher {
    keys: Vec<u8>,
    matched: usize,
}

impl Detacher {
    /// Begins to watch.
    pub(crate) fn new(keys: &DetachKeys) -> Self {
        Self { keys: keys.bytes.clone(), matched: 0 }
    }

    /// Takes typed bytes; returns those to pass on, and whether the sequence is complete. What
    /// comes after it is dropped.
    pub(crate) fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (typed.to_vec(), false);
        }
        let mut pass = Vec::with_capacity(typed.len());
        for &byte in typed {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (pass, true);
                }
                continue;
            }
            if self.matched == 1 && byte == self.keys[0] {
                pass.push(byte);
                self.matched = 0;
                continue;
            }
            pass.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if byte == self.keys[0] {
                self.matched = 1;
            } else {
                pass.push(byte);
            }
        }
        (pass, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detacher(keys: &str) -> Detacher {
        Detacher::new(&DetachKeys::parse(keys).expect("keys"))
    }

    #[test]
    fn the_sequence_detaches_even_in_pieces() {
        let mut keys = detacher("ctrl-],d");
        assert_eq!(keys.feed(b"ls\n"), (b"ls\n".to_vec(), false));
        assert_eq!(keys.feed(b"\x1d"), (Vec::new(), false));
        assert_eq!(keys.feed(b"d"), (Vec::new(), true));
        assert_eq!(keys.feed(b"a\x1ddrest"), (b"a".to_vec(), true));
    }

    #[test]
    fn the_prefix_twice_sends_it_once() {
        let mut keys = detacher("ctrl-],d");
        assert_eq!(keys.feed(b"\x1d\x1d"), (b"\x1d".to_vec(), false));
        assert_eq!(keys.feed(b"d"), (b"d".to_vec(), false), "the second one began nothing");
        assert_eq!(keys.feed(b"\x1dx"), (b"\x1dx".to_vec(), false), "anything else goes through");
    }

    #[test]
    fn utf8_and_mouse_bytes_pass_untouched() {
        let mut keys = detacher("ctrl-],d");
        let bytes = "ä€\x1b[<0;12;3M\x1b[200~".as_bytes();
        assert_eq!(keys.feed(bytes), (bytes.to_vec(), false));
        let mut none = detacher("none");
        assert_eq!(none.feed(b"\x1dd"), (b"\x1dd".to_vec(), false));
    }

    #[test]
    fn longer_and_shorter_sequences() {
        let mut keys = detacher("ctrl-p,ctrl-q");
        assert_eq!(keys.feed(b"\x10\x11"), (Vec::new(), true));
        let mut keys = detacher("~");
        assert_eq!(keys.feed(b"a~"), (b"a".to_vec(), true));
        let mut keys = detacher("a,b,c");
        assert_eq!(keys.feed(b"ababc"), (b"ab".to_vec(), true), "a broken match may begin anew");
        for odd in ["", "ctrl-", "dd", "ctrl-1", "ä", "a,,b", "a,b,c,d,e,f,g,h,i"] {
            assert!(DetachKeys::parse(odd).is_err(), "{odd:?} passed");
        }
        let spelled = DetachKeys::parse("ctrl-],d").expect("keys").spelled();
        assert_eq!(spelled.as_deref(), Some("Ctrl-] d"));
    }
}
