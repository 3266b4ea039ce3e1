//! What was acknowledged, noted where the torture cannot reach it.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// One acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Under which request id it was asked.
    pub request: String,
    /// The audit log's word for it.
    pub action: String,
    /// The client's name.
    pub name: String,
    /// The client's id; empty where the answer names none.
    pub id: String,
    /// The revision in the answer; zero where the answer names none.
    pub revision: u64,
}

/// The file of everything acknowledged, one line each, synced before the writer goes on.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Mutex<(File, usize)>,
}

impl Journal {
    /// Begins an empty one.
    ///
    /// # Errors
    /// Fails where the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new((file, 0)) })
    }

    /// Notes one write and syncs the file. Blocks.
    ///
    /// # Errors
    /// Fails where it cannot be written: then it must not count.
    pub fn note(&self, noted: &Noted) -> Result<()> {
        let Noted { request, action, name, id, revision } = noted;
        let line = json!([request, action, name, id, revision]);
        let mut file = self.lock();
        writeln!(file.0, "{line}")?;
        file.0.sync_data()?;
        file.1 += 1;
        Ok(())
    }

    /// Counts what was noted so far.
    pub fn count(&self) -> usize {
        self.lock().1
    }

    /// Reads everything back, in the order in which it was noted.
    ///
    /// # Errors
    /// Fails where the file is not what was written.
    pub fn read(&self) -> Result<Vec<Noted>> {
        let text = fs::read_to_string(&self.path)?;
        let noted = text.lines().map(|line| {
            let row: Value = serde_json::from_str(line)?;
            let text = |at: usize| row[at].as_str().context("a text").map(str::to_owned);
            Ok(Noted {
                request: text(0)?,
                action: text(1)?,
                name: text(2)?,
                id: text(3)?,
                revision: row[4].as_u64().context("a number")?,
            })
        });
        noted.collect()
    }

    fn lock(&self) -> MutexGuard<'_, (File, usize)> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
