//! The files of the installer: where they lie on the coordinator, and their checksums.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

/// A file of more is not served.
const LARGEST: u64 = 16 << 30;

/// Where the files lie, as configured.
#[derive(Debug, Clone, Default)]
pub struct InstallPaths {
    /// `warren-node-agent`; beside the coordinator's own program without it.
    pub agent: Option<PathBuf>,
    /// `warren-inside`; where quickstart puts it, beside the coordinator's program, without it.
    pub inside: Option<PathBuf>,
    /// The workspace image, as `docker save` writes it; not offered where it is not there.
    pub image: PathBuf,
}

/// One thing that the installer may fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Agent,
    Inside,
    Image,
    Unit,
    Supervise,
}

impl Item {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "agent" => Some(Self::Agent),
            "inside" => Some(Self::Inside),
            "image" => Some(Self::Image),
            "unit" => Some(Self::Unit),
            "supervise" => Some(Self::Supervise),
            _ => None,
        }
    }
}

/// What there is now.
pub(super) struct Offer {
    pub(super) address: String,
    pub(super) pin: String,
    pub(super) agent: [u8; 32],
    pub(super) inside: [u8; 32],
    pub(super) image: Option<[u8; 32]>,
}

/// Returns the pin of the public key that is shown now.
type Pin = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// When a file was changed last, its length, and its checksum.
type Digested = (SystemTime, u64, [u8; 32]);

/// The files, with the checksums that were computed.
pub struct Files {
    address: String,
    pin: Pin,
    agent: PathBuf,
    inside: PathBuf,
    image: PathBuf,
    digests: Mutex<BTreeMap<PathBuf, Digested>>,
}

impl Files {
    /// Finds them; `address` is where others reach this coordinator's API.
    pub fn new(
        paths: &InstallPaths,
        address: &str,
        pin: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let own = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
        let own = own.unwrap_or_else(|| PathBuf::from("/usr/local/bin"));
        let inside = || {
            let places = [own.join("../lib/warren/warren-inside"), own.join("warren-inside")];
            let found = places.into_iter().find(|path| path.exists());
            found.unwrap_or_else(|| "/usr/lib/warren/warren-inside".into())
        };
        Self {
            address: address.to_owned(),
            pin: Box::new(pin),
            agent: paths.agent.clone().unwrap_or_else(|| own.join("warren-node-agent")),
            inside: paths.inside.clone().unwrap_or_else(inside),
            image: paths.image.clone(),
            digests: Mutex::default(),
        }
    }

    /// Returns where it is fetched from, and the pin of the key that is shown there; none where
    /// the files are not here.
    pub fn place(&self) -> Option<(String, String)> {
        let there = self.agent.is_file() && self.inside.is_file();
        there.then(|| Some((self.address.clone(), (self.pin)()?)))?
    }

    /// Returns what there is now. Blocks.
    pub(super) fn offer(&self) -> Result<Offer, String> {
        let pin = (self.pin)().ok_or("this coordinator has no certificate")?;
        let digest = |path: &Path| {
            let read = self.digest(path);
            read.map_err(|error| format!("{} cannot be read: {error}", path.display()))
        };
        let image = match self.image.is_file() {
            true => Some(digest(&self.image)?),
            false => None,
        };
        let (agent, inside) = (digest(&self.agent)?, digest(&self.inside)?);
        Ok(Offer { address: self.address.clone(), pin, agent, inside, image })
    }

    /// Opens a file from a byte on; returns it with its whole length. Blocks.
    pub(super) fn open(&self, item: Item, from: u64) -> io::Result<(File, u64)> {
        let path = match item {
            Item::Agent => &self.agent,
            Item::Inside => &self.inside,
            Item::Image => &self.image,
            Item::Unit | Item::Supervise => return Err(io::ErrorKind::NotFound.into()),
        };
        let mut file = File::open(path)?;
        let facts = file.metadata()?;
        if !facts.is_file() || facts.len() > LARGEST {
            return Err(io::Error::other("it is no file, or too large"));
        }
        file.seek(SeekFrom::Start(from.min(facts.len())))?;
        Ok((file, facts.len()))
    }

    fn digest(&self, path: &Path) -> io::Result<[u8; 32]> {
        let facts = fs::metadata(path)?;
        let stamp = (facts.modified()?, facts.len());
        let known = |known: &Digested| (known.0, known.1) == stamp;
        let kept = self.digests.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        if let Some((_, _, digest)) = kept.filter(known) {
            return Ok(digest);
        }
        let mut hasher = Sha256::new();
        let mut file = File::open(path)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        digests.insert(path.to_owned(), (stamp.0, stamp.1, digest));
        Ok(digest)
    }
}

pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_has_another_checksum_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("agent"), "one").expect("written");
        let paths = InstallPaths {
            agent: Some(path("agent")),
            inside: Some(path("inside")),
            image: path("image.tar"),
        };
        let files = Files::new(&paths, "vps1.example:7400", || Some("pin".to_owned()));
        assert_eq!(files.place(), None, "one of them is not there");
        let missing = files.offer().map(drop).expect_err("missing");
        assert!(missing.contains("inside"), "{missing}");
        fs::write(path("inside"), "two").expect("written");
        assert_eq!(files.place(), Some(("vps1.example:7400".to_owned(), "pin".to_owned())));
        let first = files.offer().expect("there");
        assert_eq!((first.agent, first.image), (digest(b"one"), None));
        fs::write(path("agent"), "three").expect("written");
        fs::write(path("image.tar"), "layers").expect("written");
        let second = files.offer().expect("there");
        assert_eq!((second.agent, second.image), (digest(b"three"), Some(digest(b"layers"))));
        let (mut file, length) = files.open(Item::Agent, 2).expect("there");
        let mut rest = String::new();
        file.read_to_string(&mut rest).expect("read");
        assert_eq!((rest.as_str(), length), ("ree", 5));
    }
}
