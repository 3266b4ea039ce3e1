//! Join tokens: one line of text that lets one machine or person in, once.
//!
//! `wrn1_` and base64url of: version, role, token id, secret, SHA-256 of the coordinators'
//! authority, expiry, the coordinators' addresses, and the first four bytes of SHA-256 over all of
//! it, so that a cut or mistyped paste is told from a wrong one. The coordinator keeps the secret's
//! hash only.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use warren_common::{Limits, Timestamp, TokenId};

use crate::Secret;

const PREFIX: &str = "wrn1_";
const VERSION: u8 = 1;
const CHECK: usize = 4;
const ADDRESS_BYTES: usize = 255;

/// What a token lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRole {
    /// A node.
    Node,
    /// Another coordinator.
    Coordinator,
    /// A person.
    Person,
}

impl TokenRole {
    const fn number(self) -> u8 {
        match self {
            Self::Node => 1,
            Self::Coordinator => 2,
            Self::Person => 3,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Node, Self::Coordinator, Self::Person]
            .into_iter()
            .find(|role| role.number() == number)
    }
}

impl fmt::Display for TokenRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Coordinator => "coordinator",
            Self::Person => "person",
        })
    }
}

/// A join token.
#[derive(Clone)]
pub struct JoinToken {
    /// What it lets in.
    pub role: TokenRole,
    /// Under which id its hash is kept.
    pub id: TokenId,
    /// 32 random bytes.
    pub secret: Secret<[u8; 32]>,
    /// SHA-256 of the certificate of the coordinators' authority.
    pub pin: [u8; 32],
    /// After this it is refused.
    pub expires: Timestamp,
    /// host:port of coordinators' APIs.
    pub addresses: Vec<String>,
}

/// Why a text is no token; never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It does not begin as tokens do.
    #[error("this is not a join token: one begins with wrn1_")]
    Prefix,
    /// A character that no token has.
    #[error("the join token holds a character that none has: was it copied whole?")]
    Characters,
    /// The check bytes do not fit.
    #[error("the join token is cut or mistyped: copy the whole line again")]
    Damaged,
    /// A later version.
    #[error("the join token has version {0}, this program knows version 1: upgrade it")]
    Version(u8),
    /// More or longer addresses than fit, or none.
    #[error("a join token holds 1 to 16 addresses of at most 255 characters")]
    Addresses,
}

impl JoinToken {
    /// Returns what the coordinator keeps: SHA-256 of the secret.
    pub fn secret_hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret.expose()).into()
    }

    /// Returns 32 bytes fit for a secret; none where the system has no randomness.
    pub fn random_secret() -> Option<Secret<[u8; 32]>> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok().map(|()| Secret::new(bytes))
    }

    /// Returns the one line that people copy.
    ///
    /// # Errors
    /// [`InvalidToken::Addresses`] where the addresses do not fit.
    pub fn to_text(&self) -> Result<Secret<String>, InvalidToken> {
        let fits = |address: &String| (1..=ADDRESS_BYTES).contains(&address.len());
        if !(1..=Limits::ADDRESSES).contains(&self.addresses.len())
            || !self.addresses.iter().all(fits)
        {
            return Err(InvalidToken::Addresses);
        }
        let mut bytes = vec![VERSION, self.role.number()];
        bytes.extend(self.id.as_bytes());
        bytes.extend(self.secret.expose());
        bytes.extend(self.pin);
        bytes.extend(self.expires.0.to_be_bytes());
        for address in &self.addresses {
            // the length fits, it was checked above
            bytes.push(address.len() as u8);
            bytes.extend(address.as_bytes());
        }
        bytes.extend(check(&bytes));
        let bytes = Secret::new(bytes);
        Ok(Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.expose()))))
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;
    /// Reads a pasted line; white space around it is passed over.
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(InvalidToken::Prefix)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !encoded.bytes().all(plain) {
            return Err(InvalidToken::Characters);
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidToken::Damaged)?;
        let bytes = Secret::new(bytes);
        let split = bytes.expose().len().checked_sub(CHECK).ok_or(InvalidToken::Damaged)?;
        let (body, shown) = bytes.expose().split_at(split);
        if check(body) != shown {
            return Err(InvalidToken::Damaged);
        }
        read(body).ok_or_else(|| match body.first() {
            Some(&version) if version != VERSION => InvalidToken::Version(version),
            Some(_) | None => InvalidToken::Damaged,
        })
    }
}

/// Reads a body whose check bytes fit.
fn read(body: &[u8]) -> Option<JoinToken> {
    let (&[version, role], rest) = body.split_first_chunk()?;
    if version != VERSION {
        return None;
    }
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (secret, rest) = rest.split_first_chunk::<32>()?;
    let (pin, rest) = rest.split_first_chunk::<32>()?;
    let (expires, mut rest) = rest.split_first_chunk::<8>()?;
    let mut addresses = Vec::new();
    while let Some((&length, tail)) = rest.split_first() {
        let (address, tail) = tail.split_at_checked(usize::from(length))?;
        addresses.push(String::from_utf8(address.to_vec()).ok()?);
        rest = tail;
    }
    if !(1..=Limits::ADDRESSES).contains(&addresses.len()) {
        return None;
    }
    Some(JoinToken {
        role: TokenRole::from_number(role)?,
        id: token_id(id)?,
        secret: Secret::new(*secret),
        pin: *pin,
        expires: Timestamp(u64::from_be_bytes(*expires)),
        addresses,
    })
}

/// Makes an id from its bytes through its text, the only way in.
fn token_id(bytes: &[u8; 16]) -> Option<TokenId> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.parse().ok()
}

fn check(body: &[u8]) -> [u8; CHECK] {
    let digest: [u8; 32] = Sha256::digest(body).into();
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            role: TokenRole::Node,
            id: "0199a0b2-7f00-7000-8000-0000000000aa".parse().expect("an id"),
            secret: Secret::new([7; 32]),
            pin: [9; 32],
            expires: Timestamp(1_764_000_000_000),
            addresses: vec!["10.0.0.1:7400".to_owned(), "[::1]:7400".to_owned()],
        }
    }

    fn text() -> String {
        token().to_text().expect("it fits").expose().clone()
    }

    fn error(text: &str) -> InvalidToken {
        match text.parse::<JoinToken>() {
            Ok(_) => panic!("{text} passed"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_token_survives_its_text() {
        let back: JoinToken = format!("  {}\n", text()).parse().expect("a token");
        let token = token();
        assert_eq!(back.role, token.role);
        assert_eq!(back.id, token.id);
        assert_eq!(back.secret.expose(), token.secret.expose());
        assert_eq!(back.pin, token.pin);
        assert_eq!(back.expires, token.expires);
        assert_eq!(back.addresses, token.addresses);
        assert!(text().bytes().all(|byte| byte.is_ascii_graphic()), "one word for the shell");
    }

    #[test]
    fn every_cut_and_every_changed_character_is_recognised() {
        let text = text();
        for end in 0..text.len() {
            let expected = match end < PREFIX.len() {
                true => InvalidToken::Prefix,
                false => InvalidToken::Damaged,
            };
            assert_eq!(error(&text[..end]), expected, "cut at {end}");
        }
        for at in PREFIX.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(error(&changed), InvalidToken::Damaged, "changed at {at}");
        }
    }

    #[test]
    fn other_texts_say_what_they_are_not() {
        assert_eq!(error("ssh-rsa AAAA"), InvalidToken::Prefix);
        assert_eq!(error("wrn1_abc def"), InvalidToken::Characters);
        assert_eq!(error("wrn1_"), InvalidToken::Damaged);
        let mut later = vec![2, 1];
        later.extend(check(&later));
        let later = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(later));
        assert_eq!(error(&later), InvalidToken::Version(2));
    }

    #[test]
    fn addresses_have_bounds() {
        let none = JoinToken { addresses: vec![], ..token() };
        assert_eq!(none.to_text().err(), Some(InvalidToken::Addresses));
        let many = JoinToken { addresses: vec!["a:1".to_owned(); 17], ..token() };
        assert_eq!(many.to_text().err(), Some(InvalidToken::Addresses));
        let longest = JoinToken { addresses: vec!["a".repeat(255); 16], ..token() };
        let text = longest.to_text().expect("it fits");
        assert!(text.expose().parse::<JoinToken>().is_ok());
    }
}
