//! Sealing and opening: the STREAM construction over ring's ChaCha20-Poly1305.
//!
//! A nonce is seven random bytes of the file, a counter, and one byte that is 1 for the last
//! segment alone. Two keys come from the given one: one seals, one only makes the check value that
//! tells a wrong passphrase from a damaged file.

use std::io::{ErrorKind, Read};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey},
    hmac,
};
use sha2::{Digest as _, Sha256};

use super::{BackupError, BackupKey, Content, Header, content, hex, unhex};

/// Plain bytes of one segment.
const SEGMENT: usize = 64 * 1024;
const PREFIX: usize = 7;

/// Seals what is pushed into it, piece by piece.
pub struct Sealer {
    key: LessSafeKey,
    prefix: [u8; PREFIX],
    digest: [u8; 32],
    counter: u32,
    waiting: Vec<u8>,
}

impl Sealer {
    /// Begins a file: completes the header and returns the preamble with the sealer of the rest.
    ///
    /// # Errors
    /// The header is too long, or there is no randomness.
    pub fn begin(mut header: Header, key: &BackupKey) -> Result<(Vec<u8>, Self), BackupError> {
        let mut prefix = [0; PREFIX];
        getrandom::fill(&mut prefix).map_err(|_| BackupError::Randomness)?;
        header.nonce = hex(&prefix);
        header.key_check = hex(&check_value(key));
        let preamble = header.preamble()?;
        let digest = digest_of(&preamble);
        let key = sealing_key(key)?;
        Ok((preamble, Self { key, prefix, digest, counter: 0, waiting: Vec::new() }))
    }

    /// Takes plain bytes and returns what is sealed by now, which may be nothing.
    ///
    /// # Errors
    /// The file has become too long for its counter.
    pub fn push(&mut self, mut plain: &[u8]) -> Result<Vec<u8>, BackupError> {
        let mut sealed = Vec::new();
        while !plain.is_empty() {
            if self.waiting.len() == SEGMENT {
                let segment = std::mem::take(&mut self.waiting);
                sealed.extend(self.seal(segment, false)?);
            }
            let (now, later) = plain.split_at(plain.len().min(SEGMENT - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            plain = later;
        }
        Ok(sealed)
    }

    /// Returns the last segment.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(mut self) -> Result<Vec<u8>, BackupError> {
        let segment = std::mem::take(&mut self.waiting);
        self.seal(segment, true)
    }

    fn seal(&mut self, mut segment: Vec<u8>, last: bool) -> Result<Vec<u8>, BackupError> {
        let nonce = nonce(&self.prefix, self.counter, last);
        self.counter = self.counter.checked_add(1).ok_or(BackupError::Seal)?;
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::from(self.digest), &mut segment);
        sealed.map_err(|_| BackupError::Seal)?;
        Ok(segment)
    }
}

/// Opens a backup whole: nothing of it is returned before all of it was checked. `key` makes the
/// key once the header is known.
///
/// # Errors
/// It is no backup, newer, cut off, damaged, too large, or sealed with another passphrase.
pub fn open(
    source: &mut impl Read,
    key: impl FnOnce(&Header) -> Result<BackupKey, BackupError>,
) -> Result<(Header, Content), BackupError> {
    let (header, digest) = Header::read(source)?;
    let prefix: Option<[u8; PREFIX]> = unhex(&header.nonce);
    let check: Option<[u8; 16]> = unhex(&header.key_check);
    let (Some(prefix), Some(check)) = (prefix, check) else {
        return Err(BackupError::Damaged("its header makes no sense".to_owned()));
    };
    let key = key(&header)?;
    if check != check_value(&key) {
        return Err(BackupError::WrongKey);
    }
    let key = sealing_key(&key)?;
    let mut plain = Vec::new();
    let mut segment = vec![0; SEGMENT + MAX_TAG_LEN];
    let mut had = fill(source, &mut segment)?;
    let mut counter = 0_u32;
    loop {
        let mut next = vec![0; SEGMENT + MAX_TAG_LEN];
        let more = if had < segment.len() { 0 } else { fill(source, &mut next)? };
        let last = more == 0;
        segment.truncate(had);
        let kept = segment.clone();
        let place = nonce(&prefix, counter, last);
        let opened = key.open_in_place(place, Aad::from(digest), &mut segment);
        let Ok(opened) = opened else {
            return Err(why(&key, (&prefix, counter, last), digest, kept));
        };
        if plain.len() + opened.len() > content::LIMIT {
            return Err(BackupError::TooLarge { limit: content::LIMIT });
        }
        plain.extend_from_slice(opened);
        if last {
            return Ok((header, Content::decode(plain)?));
        }
        counter = counter.checked_add(1).ok_or(BackupError::Seal)?;
        (segment, had) = (next, more);
    }
}

/// Says what is wrong with a segment: one that opens as the other kind is whole, and the file is
/// not.
fn why(
    key: &LessSafeKey,
    (prefix, counter, last): (&[u8; PREFIX], u32, bool),
    digest: [u8; 32],
    mut segment: Vec<u8>,
) -> BackupError {
    if segment.len() < MAX_TAG_LEN {
        return BackupError::CutOff("its content");
    }
    let other = nonce(prefix, counter, !last);
    match (key.open_in_place(other, Aad::from(digest), &mut segment).is_ok(), last) {
        (true, true) => BackupError::CutOff("its content"),
        (true, false) => BackupError::Damaged("something stands behind its end".to_owned()),
        (false, true) => BackupError::Damaged(format!(
            "segment {counter}, the last there is, was changed or is cut off"
        )),
        (false, false) => BackupError::Damaged(format!("segment {counter} was changed")),
    }
}

/// Reads until the buffer is full or the source ends; returns how much came.
pub(super) fn fill(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, BackupError> {
    let mut had = 0;
    while had < buffer.len() {
        match source.read(&mut buffer[had..]) {
            Ok(0) => break,
            Ok(more) => had += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(BackupError::Io(error)),
        }
    }
    Ok(had)
}

/// The digest at the end of a preamble.
fn digest_of(preamble: &[u8]) -> [u8; 32] {
    let (before, _) = preamble.split_at(preamble.len() - super::DIGEST);
    Sha256::digest(before).into()
}

fn nonce(prefix: &[u8; PREFIX], counter: u32, last: bool) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..PREFIX].copy_from_slice(prefix);
    bytes[PREFIX..PREFIX + 4].copy_from_slice(&counter.to_be_bytes());
    bytes[11] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

fn derived(key: &BackupKey, label: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let tag = hmac::sign(&key, label);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

fn sealing_key(key: &BackupKey) -> Result<LessSafeKey, BackupError> {
    let bytes = zeroize::Zeroizing::new(derived(key, b"warren backup: seal"));
    let key = UnboundKey::new(&CHACHA20_POLY1305, &*bytes).map_err(|_| BackupError::Seal)?;
    Ok(LessSafeKey::new(key))
}

fn check_value(key: &BackupKey) -> [u8; 16] {
    let tag = derived(key, b"warren backup: check");
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&tag[..16]);
    bytes
}
