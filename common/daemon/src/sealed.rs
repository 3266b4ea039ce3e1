//! Sealing single values under a key: what a keystore holds of clients' secrets.
//!
//! ChaCha20-Poly1305 with a nonce drawn at random for each value: a key seals far fewer than the
//! 2^32 after which that would be unsafe. What a value belongs to is said when it is sealed and
//! again when it is opened, so that one that was moved elsewhere does not open.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use zeroize::Zeroizing;

use crate::Secret;

const KEY: usize = 32;
/// Bytes of a mark.
pub const MARK: usize = 16;

/// Why a value cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Randomness,
    /// The key's text is none.
    #[error("the key is damaged")]
    Key,
    /// It was changed, belongs elsewhere or was sealed under another key.
    #[error("the sealed value does not open")]
    Open,
}

/// A key that seals values.
#[derive(Clone)]
pub struct SealKey(Secret<[u8; KEY]>);

impl SealKey {
    /// Draws a key.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn random() -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; KEY]);
        getrandom::fill(key.as_mut()).map_err(|_| SealError::Randomness)?;
        Ok(Self(Secret::new(*key)))
    }

    /// Returns the key as text, for a keystore.
    pub fn to_text(&self) -> Secret<String> {
        Secret::new(STANDARD.encode(self.0.expose()))
    }

    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    /// It is no key.
    pub fn from_text(text: &Secret<String>) -> Result<Self, SealError> {
        let bytes = STANDARD.decode(text.expose().trim()).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| SealError::Key)?;
        let key = <[u8; KEY]>::try_from(&bytes[..]).map_err(|_| SealError::Key)?;
        Ok(Self(Secret::new(key)))
    }

    /// Seals a value that belongs to `place`; the result is text.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn seal(&self, place: &[u8], value: &Secret<Vec<u8>>) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Randomness)?;
        // room for the tag from the beginning: a buffer that grows leaves a copy behind
        let tag = CHACHA20_POLY1305.tag_len();
        let mut sealed = Zeroizing::new(Vec::with_capacity(value.expose().len() + tag));
        sealed.extend_from_slice(value.expose());
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        let done = self.key()?.seal_in_place_append_tag(nonce_of, Aad::from(place), &mut *sealed);
        done.map_err(|_| SealError::Key)?;
        Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    /// It was changed, belongs elsewhere or was sealed under another key.
    pub fn open(&self, place: &[u8], sealed: &str) -> Result<Secret<Vec<u8>>, SealError> {
        let bytes = STANDARD.decode(sealed.trim()).map_err(|_| SealError::Open)?;
        let (nonce, rest) = bytes.split_at_checked(NONCE_LEN).ok_or(SealError::Open)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Open)?;
        let mut rest = Zeroizing::new(rest.to_vec());
        let opened = self.key()?.open_in_place(nonce, Aad::from(place), &mut rest);
        Ok(Secret::new(opened.map_err(|_| SealError::Open)?.to_vec()))
    }

    /// Returns a mark that tells this value from others at the same `place`, and nothing to whoever
    /// lacks the key (HMAC-SHA-256 under a key derived from it, cut short).
    pub fn mark(&self, place: &[u8], value: &Secret<Vec<u8>>) -> [u8; MARK] {
        let own = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose());
        let derived = hmac::sign(&own, b"warren-value-mark-1");
        let mut mark =
            hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()));
        mark.update(&(place.len() as u64).to_be_bytes());
        mark.update(place);
        mark.update(value.expose());
        let mut short = [0; MARK];
        short.copy_from_slice(&mark.sign().as_ref()[..MARK]);
        short
    }

    fn key(&self) -> Result<LessSafeKey, SealError> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, self.0.expose());
        key.map(LessSafeKey::new).map_err(|_| SealError::Key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_with_its_key_in_its_place_and_nowhere_else() {
        let (one, other) = (SealKey::random().expect("a key"), SealKey::random().expect("a key"));
        let value = Secret::new(b"hunter2\0\xff".to_vec());
        let sealed = one.seal(b"a/1", &value).expect("sealed");
        assert!(!sealed.contains("hunter2"));
        assert_ne!(sealed, one.seal(b"a/1", &value).expect("sealed"), "each has its own nonce");
        assert_eq!(one.open(b"a/1", &sealed).expect("opened").expose(), value.expose());
        assert_eq!(one.open(b"a/2", &sealed).err(), Some(SealError::Open));
        assert_eq!(other.open(b"a/1", &sealed).err(), Some(SealError::Open));
        for damaged in ["", "AAAA", &sealed[4..], &sealed.replace(&sealed[20..24], "AAAA")] {
            assert_eq!(one.open(b"a/1", damaged).err(), Some(SealError::Open), "{damaged}");
        }
        let again = SealKey::from_text(&one.to_text()).expect("a key");
        assert_eq!(again.open(b"a/1", &sealed).expect("opened").expose(), value.expose());
        let other_value = Secret::new(b"hunter3".to_vec());
        assert_eq!(again.mark(b"r/1", &value), one.mark(b"r/1", &value));
        for mark in [
            one.mark(b"r/2", &value),
            one.mark(b"r/1", &other_value),
            other.mark(b"r/1", &value),
            one.mark(b"r/1h", &Secret::new(value.expose()[1..].to_vec())),
        ] {
            assert_ne!(mark, one.mark(b"r/1", &value));
        }
        let none = Secret::new("no key".to_owned());
        assert!(SealKey::from_text(&none).is_err());
    }
}
