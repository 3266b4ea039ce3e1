//! Who this agent is among those that may have its identity: the claims of its registrations.
//!
//! A state folder that is copied takes its claims along, and from then on two agents ask with the
//! same one. The first of them gets the next; the other one shows a claim that is not the node's
//! last any more, and the coordinator refuses it. So the claim is on the disk before it is sent, and
//! one whose answer was lost is sent again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use warren_daemon::files::{self, FileError};

const FILE: &str = "seat.json";

/// Why the claims cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SeatError {
    /// The disk.
    #[error("the node's claims cannot be kept")]
    File(#[source] FileError),
    /// Not what was written.
    #[error(
        "{} is damaged; remove it, start the agent, and let it in again with: warren node rejoin",
        .0.display()
    )]
    Damaged(PathBuf),
}

/// The claims of one agent.
#[derive(Debug)]
pub struct Seat {
    path: PathBuf,
    machine: String,
    kept: Kept,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Of the last registration that was answered.
    held: Option<Uuid>,
    /// Of the one that is asked for.
    asked: Option<Uuid>,
}

/// What a registration shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Tells this machine from others; empty where nothing does.
    pub machine: String,
    /// Of the last registration that was answered.
    pub held: Option<Uuid>,
    /// Of this one.
    pub asked: Uuid,
}

impl Seat {
    /// Opens the claims of a state folder, none where there are none yet.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn open(state: &Path, machine: String) -> Result<Self, SeatError> {
        let path = state.join(FILE);
        let text = files::read_optional(&path).map_err(SeatError::File)?;
        let kept = match text {
            Some(text) => {
                serde_json::from_str(&text).map_err(|_| SeatError::Damaged(path.clone()))?
            }
            None => Kept::default(),
        };
        Ok(Self { path, machine, kept })
    }

    /// Returns what the next registration shows, on the disk before it is returned. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn ask(&mut self) -> Result<Shown, SeatError> {
        let asked = match self.kept.asked {
            Some(asked) => asked,
            None => {
                let asked = Uuid::new_v4();
                self.keep(Kept { asked: Some(asked), ..self.kept.clone() })?;
                asked
            }
        };
        Ok(Shown { machine: self.machine.clone(), held: self.kept.held, asked })
    }

    /// Notes that the registration that was asked for was answered. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn answered(&mut self) -> Result<(), SeatError> {
        match self.kept.asked {
            Some(asked) => self.keep(Kept { held: Some(asked), asked: None }),
            None => Ok(()),
        }
    }

    fn keep(&mut self, kept: Kept) -> Result<(), SeatError> {
        let text = serde_json::json!(kept).to_string();
        files::write_atomic(&self.path, text.as_bytes(), 0o600).map_err(SeatError::File)?;
        self.kept = kept;
        Ok(())
    }
}

/// Returns what tells a machine from others: its id, hashed for this use alone as `machine-id(5)`
/// asks for; empty where it has none.
pub fn machine(id: &str) -> String {
    let id = id.trim();
    if id.is_empty() || id == "uninitialized" {
        return String::new();
    }
    let digest = Sha256::digest(format!("warren node of machine {id}"));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(state: &Path) -> Seat {
        Seat::open(state, "m".to_owned()).expect("readable")
    }

    #[test]
    fn a_claim_is_kept_before_it_is_shown_and_shown_until_it_is_answered() {
        let state = tempfile::tempdir().expect("a folder");
        let first = open(state.path()).ask().expect("kept");
        assert_eq!(first.held, None);
        let again = open(state.path()).ask().expect("kept");
        assert_eq!(again, first, "its answer was lost");
        let mut seat = open(state.path());
        seat.answered().expect("kept");
        let second = open(state.path()).ask().expect("kept");
        assert_eq!(second.held, Some(first.asked));
        assert_ne!(second.asked, first.asked);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let state = tempfile::tempdir().expect("a folder");
        std::fs::write(state.path().join(FILE), "{").expect("written");
        // whoever may read it
        let error = Seat::open(state.path(), String::new()).expect_err("damaged");
        assert!(error.to_string().contains(FILE), "{error}");
    }

    #[test]
    fn a_machine_is_told_by_its_id_and_its_id_is_not_told() {
        let id = "4f1c0a8e4f1c0a8e4f1c0a8e4f1c0a8e\n";
        assert_eq!(machine(id), machine(id.trim()));
        assert_eq!(machine(id).len(), 32);
        assert!(!machine(id).contains("4f1c0a8e"));
        assert_eq!((machine(""), machine("uninitialized\n")), (String::new(), String::new()));
    }
}
