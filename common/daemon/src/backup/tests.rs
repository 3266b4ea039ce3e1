//! Every way in which a file can be wrong, and what is said of it.

use super::*;
use crate::sealed::SealKey;

fn key(byte: u8) -> BackupKey {
    Secret::new([byte; 32])
}

fn header() -> Header {
    Header {
        cluster: ClusterId::new("0199a0b2-7f00-7000-8000-000000000001".parse().expect("a uuid")),
        name: "demo".to_owned(),
        incarnation: 7,
        revision: 42,
        term: 3,
        index: 99,
        last_replica: 3,
        taken: Timestamp(1000),
        version: "0.1.0".to_owned(),
        kdf: Kdf::fresh().expect("randomness"),
        nonce: String::new(),
        key_check: String::new(),
    }
}

fn content(bytes: usize) -> Content {
    let secrets = [("node-authority".to_owned(), Secret::new("a key".to_owned()))];
    Content {
        manifest: Manifest { clients: 2, workspaces: 5, ..Manifest::default() },
        state: (0..bytes).map(|at| u8::try_from(at % 251).expect("small")).collect(),
        secrets: secrets.into(),
    }
}

fn sealed(bytes: usize) -> Vec<u8> {
    let (mut file, mut sealer) = Sealer::begin(header(), &key(1)).expect("begun");
    let encoded = content(bytes).encode(|plain| {
        file.extend(sealer.push(plain)?);
        Ok(())
    });
    encoded.expect("encoded");
    file.extend(sealer.finish().expect("finished"));
    file
}

fn opened(mut file: &[u8]) -> Result<(Header, Content), BackupError> {
    open(&mut file, |_| Ok(key(1)))
}

#[test]
fn what_was_sealed_is_there_again_whatever_its_length() {
    for bytes in [0, 1, 65_000, 65_536, 131_072, 400_000] {
        let (read, found) = opened(&sealed(bytes)).expect("opens");
        assert_eq!((read.name.as_str(), read.revision), ("demo", 42));
        let expected = content(bytes);
        assert_eq!((found.manifest, found.state), (expected.manifest, expected.state));
        assert_eq!(found.secrets["node-authority"].expose(), "a key");
    }
}

#[test]
fn no_secret_and_no_state_is_readable_in_the_file() {
    let file = sealed(1000);
    let holds = |text: &[u8]| file.windows(text.len()).any(|window| window == text);
    assert!(holds(b"demo"), "the header is for everybody");
    assert!(!holds(b"a key") && !holds(b"node-authority"));
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let file = sealed(200_000);
    let boundary = file.len() - 200_000 % (64 * 1024);
    for at in [0, 5, 12, 40, 200, 700, boundary, file.len() / 2, file.len() - 1] {
        assert!(opened(&file[..at]).is_err(), "cut to {at}");
    }
    // exactly between two segments, where every segment that is left is whole
    let (_, digest) = Header::read(&mut &*file).expect("a header");
    let preamble = file.windows(32).position(|w| *w == digest).expect("there") + 32;
    let cut = opened(&file[..preamble + 64 * 1024 + 16]).err().expect("cut");
    assert!(matches!(cut, BackupError::CutOff(_)), "{cut}");
    assert!(matches!(opened(b"").err().expect("empty"), BackupError::NotOne));
    assert!(matches!(opened(b"PK\x03\x04 and so on").err().expect("a zip"), BackupError::NotOne));
}

#[test]
fn a_changed_bit_anywhere_is_told_from_a_wrong_passphrase() {
    let file = sealed(150_000);
    let places = (0..700).chain((700..file.len()).step_by(997)).chain([file.len() - 1]);
    for at in places {
        let mut bad = file.clone();
        bad[at] ^= 0x10;
        let error = opened(&bad).err().unwrap_or_else(|| panic!("byte {at} may be changed"));
        assert!(!matches!(error, BackupError::WrongKey), "byte {at}: {error}");
    }
    let mut longer = file.clone();
    longer.push(0);
    assert!(opened(&longer).is_err(), "something appended");
    let wrong = open(&mut &*file, |_| Ok(key(2))).err().expect("another key");
    assert!(matches!(wrong, BackupError::WrongKey), "{wrong}");
    let mut newer = file;
    newer[8] = 2;
    let newer = opened(&newer).err().expect("newer");
    assert!(newer.to_string().contains("format 2"), "{newer}");
}

#[test]
fn the_key_follows_from_passphrase_and_salt_and_from_nothing_short() {
    let secret = |text: &str| Secret::new(text.to_owned());
    let kdf = Kdf { memory_kib: 8 * 1024, passes: 1, ..Kdf::fresh().expect("randomness") };
    let derive = |kdf: &Kdf, text: &str| *kdf.derive(&secret(text)).expect("derived").expose();
    let first = derive(&kdf, "correct horse battery");
    assert_eq!(first, derive(&kdf, "correct horse battery"));
    assert_ne!(first, derive(&kdf, "correct horse batterz"));
    let salted = Kdf { salt: Kdf::fresh().expect("randomness").salt, ..kdf.clone() };
    assert_ne!(first, derive(&salted, "correct horse battery"));
    for short in ["", "           ", "elevenchars"] {
        let error = kdf.derive(&secret(short)).err().expect("too short");
        assert!(error.to_string().contains("12 characters"), "{error}");
    }
    for odd in [
        Kdf { memory_kib: u32::MAX, ..kdf.clone() },
        Kdf { passes: 0, ..kdf.clone() },
        Kdf { lanes: 1000, ..kdf.clone() },
        Kdf { algorithm: "md5".to_owned(), ..kdf.clone() },
        Kdf { salt: "äö".to_owned(), ..kdf },
    ] {
        assert!(odd.check().is_err(), "{odd:?}");
    }
}

#[test]
fn a_file_without_the_newest_value_of_a_secret_is_found_out() {
    let key = SealKey::random().expect("a key");
    let of = |version: u64| SealedValue {
        secret: "acme/git-token".to_owned(),
        key: "vault-key".to_owned(),
        file: "value".to_owned(),
        place: format!("place {version}"),
    };
    let value = key.seal(b"place 2", &Secret::new(b"canary".to_vec())).expect("sealed");
    let mut whole = content(10);
    whole.secrets.insert("vault-key".to_owned(), key.to_text());
    whole.secrets.insert("value".to_owned(), Secret::new(value));
    whole.manifest.sealed = vec![of(2)];
    whole.check().expect("it has it");
    let lacks = |content: &Content| matches!(content.check(), Err(BackupError::Lacks(name)) if name == "acme/git-token");
    whole.manifest.sealed = vec![of(2), of(3)];
    assert!(lacks(&whole), "another value stands there");
    whole.manifest.sealed = vec![of(2)];
    whole.secrets.remove("value");
    assert!(lacks(&whole), "none does");
    whole.secrets.clear();
    assert!(lacks(&whole), "its key is lost too");
}
