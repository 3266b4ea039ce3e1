//! Pages of lists: stable order by name, and tokens that say after which name to go on.
//!
//! A token is opaque to callers: the last key of the page in hex, behind a version digit. What was
//! added or removed between two pages shows in its place; nothing is shown twice.

use std::fmt::Write as _;

use prost::Message;
use tonic::Code;
use warren_common::Limits;
use warren_proto::error::ApiError;

const VERSION: &str = "1";

/// Past this a page ends; one more object still fits below [`Limits::MESSAGE_BYTES`].
const BYTES: usize = Limits::MESSAGE_BYTES / 2;

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most this many objects.
    pub size: usize,
    /// Only what comes after this key.
    pub after: Option<String>,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// For the next page; empty on the last.
    pub next: String,
}

impl Page {
    /// Reads what a request says; no size, or one past the bound, is [`Limits::PAGE`].
    ///
    /// # Errors
    /// Refuses a token that no answer gave.
    pub fn read(size: u32, token: &str) -> Result<Self, ApiError> {
        let size = match usize::try_from(size).unwrap_or(usize::MAX) {
            0 => Limits::PAGE,
            size => size.min(Limits::PAGE),
        };
        if token.is_empty() {
            return Ok(Self { size, after: None });
        }
        let after = decode(token).ok_or_else(|| {
            let message = "the page token is none that this list gave";
            ApiError::new(Code::InvalidArgument, "INVALID_PAGE_TOKEN", message)
                .next("begin again without a page token")
        })?;
        Ok(Self { size, after: Some(after) })
    }

    /// Cuts the page out of a list in the order of its keys: `show` makes a message of what is on
    /// it. A page ends early where its messages together would not travel well in one answer.
    pub fn cut<I, T: Message>(
        &self,
        list: impl Iterator<Item = (String, I)>,
        mut show: impl FnMut(I) -> T,
    ) -> Paged<T> {
        let mut items = Vec::new();
        let mut last = String::new();
        let mut bytes = 0;
        for (key, item) in list {
            if self.after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            if items.len() == self.size || bytes >= BYTES {
                return Paged { items, next: token(&last) };
            }
            let item = show(item);
            bytes += item.encoded_len();
            items.push(item);
            last = key;
        }
        Paged { items, next: String::new() }
    }
}

/// Returns the token that goes on after a key.
pub(super) fn token(key: &str) -> String {
    let mut token = VERSION.to_owned();
    for byte in key.bytes() {
        // writing to a String cannot fail
        let _ = write!(token, "{byte:02x}");
    }
    token
}

fn decode(token: &str) -> Option<String> {
    let hex = token.strip_prefix(VERSION)?.as_bytes();
    if hex.len() % 2 != 0 || hex.len() > Limits::NAME_BYTES * 8 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let bytes: Option<Vec<u8>> =
        hex.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    String::from_utf8(bytes?).ok()
}

/// Joins the parts of an address into a key that sorts part by part: names never hold the
/// separator, and it comes before every character of a name.
pub fn key(parts: &[&str]) -> String {
    parts.join("\u{1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(page: &Page, names: &[&str]) -> Paged<String> {
        page.cut(list(names), |name| name)
    }

    fn list(names: &[&str]) -> impl Iterator<Item = (String, String)> {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort();
        names.into_iter().map(|name| (name.clone(), name))
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended() {
        let first = cut(&Page::read(2, "").expect("no token"), &["a", "b", "c", "e"]);
        assert_eq!(first.items, ["a", "b"]);
        let second = Page::read(2, &first.next).expect("its token");
        assert_eq!(cut(&second, &["a", "c", "d", "e"]).items, ["c", "d"], "b went, d came");
        let last = cut(&second, &["a", "c"]);
        assert_eq!((last.items.len(), last.next.as_str()), (1, ""));
        assert_eq!(cut(&second, &["c", "d"]).next, "", "full and yet the last");
    }

    #[test]
    fn a_page_of_large_objects_ends_early() {
        let large = "x".repeat(BYTES / 2);
        let page = Page::read(0, "").expect("no token");
        let list = ["a", "b", "c", "d"].into_iter().map(|name| (name.to_owned(), ()));
        let paged = page.cut(list, |()| large.clone());
        assert_eq!(paged.items.len(), 2);
        assert!(!paged.next.is_empty());
    }

    #[test]
    fn sizes_are_bounded_and_odd_tokens_refused() {
        assert_eq!(Page::read(0, "").expect("fits").size, Limits::PAGE);
        assert_eq!(Page::read(u32::MAX, "").expect("fits").size, Limits::PAGE);
        for odd in ["x", "1f", "1zz", "261", "1ff", &format!("1{}", "61".repeat(1000))] {
            assert!(Page::read(1, odd).is_err(), "{odd} passed");
        }
    }

    #[test]
    fn keys_sort_part_by_part() {
        assert!(key(&["a", "z"]) < key(&["a-b", "a"]));
    }
}
