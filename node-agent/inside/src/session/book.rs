//! What is remembered of sessions over runs of the workspace: in a file of the home, since the
//! container does not stay.
//!
//! The file belongs to the workspace and may hold anything: it is bounded, what is odd in it is as
//! good as nothing, and a conversation's id is only used where it is plain.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use warren_common::Limits;

use crate::{config::Config, files, journal::event, step::write_marker};

const NAME: &str = "sessions.json";
/// Several thousand pages.
const BYTES: usize = 1024 * 1024;

/// The book; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    path: PathBuf,
    pages: Arc<Mutex<Pages>>,
}

type Pages = BTreeMap<String, Page>;

/// What is remembered of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Page {
    life: u64,
    /// The agent's own id of its conversation; empty before it is known.
    #[serde(default)]
    conversation: String,
    /// The run that it began with.
    #[serde(default)]
    since: u64,
    #[serde(default)]
    prompted: bool,
}

impl Book {
    /// Opens the book of a home.
    pub(crate) fn open(config: &Config) -> Self {
        let path = config.state().join(NAME);
        let pages = files::read(&path, BYTES)
            .and_then(|bytes| serde_json::from_slice::<Pages>(&bytes).ok())
            .unwrap_or_default();
        Self { path, pages: Arc::new(Mutex::new(pages)) }
    }

    /// Whether this life of a session was begun before.
    pub(crate) fn knows(&self, name: &str, life: u64) -> bool {
        self.pages().get(name).is_some_and(|page| page.life == life)
    }

    /// Whether its prompt was typed, or was about to be.
    pub(crate) fn is_prompted(&self, name: &str, life: u64) -> bool {
        self.page(name, life).prompted
    }

    /// Notes that its prompt is typed now.
    pub(crate) fn prompted(&self, name: &str, life: u64) {
        self.change((name, life), |page| page.prompted = true);
    }

    /// Returns the id of a conversation that began with this run or later.
    pub(crate) fn conversation(&self, name: &str, life: u64, since: u64) -> Option<String> {
        let page = self.page(name, life);
        (page.since >= since && is_plain(&page.conversation)).then_some(page.conversation)
    }

    /// Notes the conversation that begins with this run; empty where its id is not known yet.
    pub(crate) fn begin(&self, (name, life): (&str, u64), run: u64, conversation: &str) {
        self.change((name, life), |page| {
            (page.conversation, page.since) = (conversation.to_owned(), run);
        });
    }

    /// Notes the id that an agent told of its conversation.
    pub(crate) fn told(&self, name: &str, life: u64, conversation: &str) {
        if is_plain(conversation) {
            self.change((name, life), |page| page.conversation = conversation.to_owned());
        }
    }

    /// Forgets a session.
    pub(crate) fn forget(&self, name: &str) {
        if self.pages().remove(name).is_some() {
            self.write();
        }
    }

    fn page(&self, name: &str, life: u64) -> Page {
        let page = self.pages().get(name).filter(|page| page.life == life).cloned();
        page.unwrap_or_else(|| Page { life, ..Page::default() })
    }

    fn change(&self, (name, life): (&str, u64), how: impl FnOnce(&mut Page)) {
        let mut page = self.page(name, life);
        how(&mut page);
        let before = self.pages().insert(name.to_owned(), page.clone());
        if before.as_ref() != Some(&page) {
            self.write();
        }
    }

    fn write(&self) {
        let text = serde_json::to_string_pretty(&*self.pages()).unwrap_or_default();
        if let Err(error) = write_marker(&self.path, &text) {
            event!("{} cannot be written: {error}", self.path.display());
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // nothing panics while it holds the pages
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a text is an id that may stand in a command line and in a path.
fn is_plain(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (8..=Limits::AGENT_NAME_BYTES).contains(&id.len())
        && id.chars().all(plain)
        && !id.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_there_in_the_next_run_and_not_in_another_life() {
        let home = tempfile::tempdir().expect("a folder");
        let book = Book::open(&Config::in_folder(home.path()));
        assert!(!book.knows("web", 3));
        book.begin(("web", 3), 3, "0199a0b2-7f00");
        book.prompted("web", 3);
        let again = Book::open(&Config::in_folder(home.path()));
        assert!(again.knows("web", 3) && again.is_prompted("web", 3));
        assert_eq!(again.conversation("web", 3, 3).as_deref(), Some("0199a0b2-7f00"));
        assert_eq!(again.conversation("web", 3, 4), None, "a later one was asked for");
        assert_eq!(again.conversation("web", 9, 3), None);
        assert!(!again.is_prompted("web", 9));
        again.told("web", 3, "0199a0b2-8f00");
        assert_eq!(again.conversation("web", 3, 3).as_deref(), Some("0199a0b2-8f00"));
        again.forget("web");
        assert!(!Book::open(&Config::in_folder(home.path())).knows("web", 3));
    }

    #[test]
    fn an_id_that_a_shell_would_read_is_none() {
        let home = tempfile::tempdir().expect("a folder");
        let book = Book::open(&Config::in_folder(home.path()));
        for odd in ["$(reboot)", "--resume-x", "../../etc/x", "a b c d e f", "", "x"] {
            book.begin(("web", 1), 1, odd);
            assert_eq!(book.conversation("web", 1, 1), None, "{odd:?}");
        }
        let path = Config::in_folder(home.path()).state().join(NAME);
        std::fs::write(&path, "{\"web\":7").expect("a file");
        assert!(!Book::open(&Config::in_folder(home.path())).knows("web", 1));
    }
}
