//! Which value of a secret a file holds.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// How a stamped file begins.
const MARK: &str = "warren-secret 1 ";

/// Orders the values that a secret ever had: a later leader's after an earlier one's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Of the leader that wrote it; zero before there was one.
    pub term: u64,
    /// Counts the values of this secret.
    pub number: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// The secret is gone.
    pub deleted: bool,
}

impl Stamp {
    /// Returns the stamp of a value that was written before there were stamps, or whose stamp was
    /// lost: any stamped one counts more.
    pub(super) fn first(content: &str) -> Self {
        Self { term: 0, number: 0, sha256: Sha256::digest(content).into(), deleted: false }
    }

    /// Returns the stamp of a value, or of a deletion, with its term and number.
    pub(super) fn new((term, number): (u64, u64), (deleted, content): (bool, &str)) -> Self {
        Self { term, number, sha256: Sha256::digest(content).into(), deleted }
    }

    /// Whether this is the content it was made for.
    pub fn is_of(&self, content: &str) -> bool {
        self.sha256 == <[u8; 32]>::from(Sha256::digest(content))
    }

    /// Splits a file into stamp and content; the inner none is a stamp that cannot be read, the
    /// outer one a file without.
    pub(super) fn split(text: &str) -> Option<(Option<Self>, &str)> {
        let (line, content) = text.strip_prefix(MARK)?.split_once('\n').unwrap_or_default();
        Some((Self::read(line), content))
    }

    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [term, number, sha256, state] = words[..] else { return None };
        Some(Self {
            term: term.parse().ok()?,
            number: number.parse().ok()?,
            sha256: unhex(sha256)?,
            deleted: match state {
                "kept" => false,
                "deleted" => true,
                _ => return None,
            },
        })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{} {} ", self.term, self.number)?;
        self.sha256.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(if self.deleted { " deleted" } else { " kept" })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}
