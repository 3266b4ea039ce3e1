//! The ledger's file: one line of header, then JSON, replaced as a whole.
//!
//! A change is written beside the file, synced, renamed over it and the folder synced; each step
//! is its own function so that a test can stop between any two. A file that does not match its own
//! checksum is never guessed at.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use sha2::{Digest as _, Sha256};

use super::{LedgerError, memory::Memory};

const NAME: &str = "ledger.json";
const TEMPORARY: &str = "ledger.json.new";
/// Room that is kept for the ledger on a disk that fills up.
const RESERVE: &str = "ledger.reserve";
/// How much: more than the largest ledger there was so far, twice, since old and new stand side by
/// side for a moment.
const RESERVE_BYTES: usize = 4 << 20;
const MAGIC: &str = "warren-ledger";
/// The format this agent writes. It reads every one up to it: format 1 knew no caps of runs.
pub(super) const FORMAT: u32 = 2;

/// Where the ledger lies.
#[derive(Debug)]
pub(super) struct LedgerFile {
    dir: PathBuf,
}

impl LedgerFile {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    fn temporary(&self) -> PathBuf {
        self.dir.join(TEMPORARY)
    }

    /// Reads what was last replaced; none where nothing ever was. What a crash left half written
    /// beside it is removed.
    pub(super) fn read(&self) -> Result<Option<Memory>, LedgerError> {
        match fs::remove_file(self.temporary()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed("clean up", error));
            }
            Ok(()) | Err(_) => {}
        }
        let bytes = match fs::read(self.path()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read", error)),
        };
        self.decode(&bytes).map(Some)
    }

    /// Replaces the file; once this returned, the change survives a power cut.
    pub(super) fn replace(&self, memory: &Memory) -> Result<(), LedgerError> {
        let bytes = encode(memory)?;
        let began = Instant::now();
        let mut written = self.write(&bytes);
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            // the disk filled up: what was kept for this moment is given back
            if fs::remove_file(self.reserve()).is_ok() {
                tracing::warn!("the disk is full; the ledger takes the room that was kept for it");
                written = self.write(&bytes);
            }
        } else if written.is_ok() {
            self.set_aside(bytes.len());
        }
        metrics::histogram!("warren_ledger_write_seconds").record(began.elapsed().as_secs_f64());
        written.map_err(|error| self.failed("write", error))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_temporary(bytes)
            .and_then(|file| file.sync_all())
            .and_then(|()| self.rename())
            .and_then(|()| self.sync_folder())
    }

    fn reserve(&self) -> PathBuf {
        self.dir.join(RESERVE)
    }

    /// Keeps room for the ledger where there is none yet, or too little. That it cannot is no
    /// failure: the ledger itself was written.
    fn set_aside(&self, length: usize) {
        let wanted = RESERVE_BYTES.max(length.saturating_mul(2)) as u64;
        if fs::metadata(self.reserve()).is_ok_and(|kept| kept.len() >= wanted) {
            return;
        }
        // after the disk was full it is taken again only where others have room, too
        let free = crate::host::capacity::disk(&self.dir).map(|disk| disk.available.0);
        if free.unwrap_or(0) < wanted.saturating_mul(8) {
            return;
        }
        let mut open = OpenOptions::new();
        let file = open.write(true).create(true).truncate(false).mode(0o600).open(self.reserve());
        let filled = file.and_then(|file| {
            // not the length alone: a file of holes would keep nothing
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, wanted)?;
            file.sync_all()
        });
        if let Err(error) = filled {
            tracing::debug!(%error, "no room is kept for the ledger");
            let _ = fs::remove_file(self.reserve());
        }
    }

    pub(super) fn write_temporary(&self, bytes: &[u8]) -> io::Result<File> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.temporary())?;
        file.write_all(bytes)?;
        Ok(file)
    }

    pub(super) fn rename(&self) -> io::Result<()> {
        fs::rename(self.temporary(), self.path())
    }

    pub(super) fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn decode(&self, bytes: &[u8]) -> Result<Memory, LedgerError> {
        let damaged = |what| LedgerError::Damaged { path: self.path(), what };
        let end = bytes
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or_else(|| damaged("it has no header"))?;
        let (header, body) = (&bytes[..end], &bytes[end + 1..]);
        let header = std::str::from_utf8(header).map_err(|_| damaged("its header is no text"))?;
        let fields: Vec<&str> = header.split(' ').collect();
        let [magic, format, checksum] = fields[..] else {
            return Err(damaged("its header is not a ledger's"));
        };
        if magic != MAGIC {
            return Err(damaged("its header is not a ledger's"));
        }
        match format.parse::<u32>() {
            Ok(0) | Err(_) => return Err(damaged("its header is not a ledger's")),
            Ok(format) if format > FORMAT => {
                return Err(LedgerError::Format { path: self.path(), format });
            }
            Ok(_) => {}
        }
        if checksum != hex(&Sha256::digest(body)) {
            return Err(damaged("its checksum does not match"));
        }
        serde_json::from_slice(body).map_err(|_| damaged("its content is not a ledger's"))
    }

    fn failed(&self, verb: &'static str, source: io::Error) -> LedgerError {
        LedgerError::Io { verb, path: self.path(), source }
    }
}

pub(super) fn encode(memory: &Memory) -> Result<Vec<u8>, LedgerError> {
    let body = serde_json::to_vec(memory).map_err(LedgerError::Encode)?;
    let mut bytes = format!("{MAGIC} {FORMAT} {}\n", hex(&Sha256::digest(&body))).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
