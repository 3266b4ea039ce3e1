//! Where the coordinators are: configured, learnt when joining, and told by each registration.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;
use warren_common::Limits;
use warren_daemon::files::{FileError, read_optional, write_atomic};

const NAME: &str = "coordinators.json";

/// Why the addresses cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorsError {
    /// The file cannot be read or written.
    #[error("the coordinators' addresses cannot be kept")]
    File(#[source] FileError),
    /// The file holds something else.
    #[error("{} does not hold addresses: remove it, or write them into the configuration", .0.display())]
    Damaged(PathBuf),
}

/// The addresses, shared; what is learnt is kept in the state folder.
#[derive(Debug, Clone)]
pub struct Coordinators {
    path: PathBuf,
    configured: Arc<[String]>,
    learnt: Arc<watch::Sender<BTreeSet<String>>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    coordinators: BTreeSet<String>,
}

impl Coordinators {
    /// Reads what was learnt into `state`, beside what is configured.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn open(state: &std::path::Path, configured: &[String]) -> Result<Self, CoordinatorsError> {
        let path = state.join(NAME);
        let learnt = Arc::new(watch::Sender::new(read(&path)?.unwrap_or_default()));
        Ok(Self { path, configured: configured.into(), learnt })
    }

    /// Takes the addresses a coordinator told, for now and for the next start.
    ///
    /// # Errors
    /// They cannot be written; they hold for now all the same.
    pub fn learn(&self, addresses: &[String]) -> Result<(), CoordinatorsError> {
        let told: BTreeSet<String> = addresses
            .iter()
            .filter(|address| !address.is_empty() && address.len() <= Limits::LABEL_BYTES)
            .take(Limits::ADDRESSES)
            .cloned()
            .collect();
        if told.is_empty() || *self.learnt.borrow() == told {
            return Ok(());
        }
        self.learnt.send_replace(told.clone());
        write(&self.path, told)
    }

    /// Writes the addresses a person gave into `state`, in place of those learnt; an agent that
    /// runs takes them when it next looks for the leader.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn set(
        state: &std::path::Path,
        addresses: BTreeSet<String>,
    ) -> Result<(), CoordinatorsError> {
        write(&state.join(NAME), addresses)
    }

    /// Takes what a person wrote meanwhile; a file that cannot be read changes nothing.
    pub(super) fn look_again(&self) {
        match read(&self.path) {
            Ok(Some(found)) => {
                self.learnt.send_if_modified(|learnt| {
                    let changed = *learnt != found && !found.is_empty();
                    if changed {
                        *learnt = found;
                    }
                    changed
                });
            }
            Ok(None) => {}
            Err(error) => warn!(error = %error, "the coordinators' addresses cannot be read again"),
        }
    }

    /// Returns every address to look for the leader at: those told first, then those configured.
    pub fn candidates(&self) -> Vec<String> {
        let learnt = self.learnt.borrow();
        let configured = self.configured.iter().filter(|address| !learnt.contains(*address));
        learnt.iter().chain(configured).cloned().collect()
    }

    /// Returns where status goes while `leader` is the address that took the registration. A
    /// coordinator can be known by two addresses; it must not get two streams.
    pub fn report_to(&self, leader: &str) -> BTreeSet<String> {
        let learnt = self.learnt.borrow();
        if learnt.len() <= 1 && !learnt.contains(leader) {
            return [leader.to_owned()].into();
        }
        learnt.clone()
    }

    /// Watches what is learnt.
    pub fn watch(&self) -> watch::Receiver<BTreeSet<String>> {
        self.learnt.subscribe()
    }

    /// As [`Self::learn`], where failing to keep them is not worth ending a connection.
    pub(super) fn note(&self, addresses: &[String]) {
        if let Err(error) = self.learn(addresses) {
            warn!(error = %error, "addresses of coordinators hold until the next start only");
        }
    }
}

fn read(path: &std::path::Path) -> Result<Option<BTreeSet<String>>, CoordinatorsError> {
    let Some(text) = read_optional(path).map_err(CoordinatorsError::File)? else {
        return Ok(None);
    };
    let kept: Result<Kept, _> = serde_json::from_str(&text);
    let kept = kept.map_err(|_| CoordinatorsError::Damaged(path.to_owned()))?;
    Ok(Some(kept.coordinators))
}

fn write(path: &std::path::Path, addresses: BTreeSet<String>) -> Result<(), CoordinatorsError> {
    let text = serde_json::to_string(&Kept { coordinators: addresses });
    let text = text.map_err(|_| CoordinatorsError::Damaged(path.to_owned()))?;
    write_atomic(path, text.as_bytes(), 0o600).map_err(CoordinatorsError::File)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_is_learnt_is_tried_first_and_survives() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || Coordinators::open(dir.path(), &texts(&["c:1", "a:1"])).expect("opens");
        assert_eq!(open().candidates(), texts(&["c:1", "a:1"]));
        open().learn(&texts(&["b:1", "a:1", ""])).expect("kept");
        assert_eq!(open().candidates(), texts(&["a:1", "b:1", "c:1"]));
        open().learn(&[]).expect("nothing told changes nothing");
        assert_eq!(open().candidates().len(), 3);
        let running = open();
        let given = texts(&["d:1"]).into_iter().collect();
        Coordinators::set(dir.path(), given).expect("written beside a running agent");
        running.look_again();
        assert_eq!(running.candidates(), texts(&["d:1", "c:1", "a:1"]));
        std::fs::write(dir.path().join(NAME), "{").expect("written");
        running.look_again();
        assert_eq!(running.candidates().len(), 3, "a damaged file changes nothing that runs");
        let error = Coordinators::open(dir.path(), &[]).expect_err("damaged");
        assert!(error.to_string().contains(NAME), "{error}");
    }

    #[test]
    fn one_coordinator_behind_two_addresses_gets_one_stream() {
        let dir = tempfile::tempdir().expect("a folder");
        let known = Coordinators::open(dir.path(), &texts(&["127.0.0.1:7400"])).expect("opens");
        let only = |address: &str| BTreeSet::from([address.to_owned()]);
        assert_eq!(known.report_to("127.0.0.1:7400"), only("127.0.0.1:7400"));
        known.learn(&texts(&["host:7400"])).expect("kept");
        assert_eq!(known.report_to("127.0.0.1:7400"), only("127.0.0.1:7400"));
        assert_eq!(known.report_to("host:7400"), only("host:7400"));
        known.learn(&texts(&["a:1", "b:1", "c:1"])).expect("kept");
        assert_eq!(known.report_to("a:1").len(), 3);
    }
}
