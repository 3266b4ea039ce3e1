//! What is remembered of sessions over runs of the workspace: in a file of the home, since the
//! container does not stay.
//!
//! The file belongs to the workspace and may hold anything: it is bounded, what is odd in it is as
//! good as nothing, and a conversation's id is only used where it is plain.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::{Path, PathBuf},
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
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    text: Text,
    /// The file does not hold what is known.
    unwritten: bool,
}

/// What stands in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    pages: BTreeMap<String, Page>,
    /// Lives of sessions that are no more and whose prompt was typed; the newest
    /// [`Limits::SESSIONS_GONE`]. A restored cluster may not know that they were deleted.
    #[serde(default)]
    gone: VecDeque<(String, u64)>,
}

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

impl Text {
    /// Reads the file, also as it was when it held the pages alone.
    fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().or_else(|| {
            let pages = serde_json::from_slice(bytes).ok()?;
            Some(Self { pages, gone: VecDeque::new() })
        })
    }
}

impl Book {
    /// Opens the book of a home.
    pub(crate) fn open(config: &Config) -> Self {
        let path = config.state().join(NAME);
        let mut text =
            files::read(&path, BYTES).and_then(|bytes| Text::read(&bytes)).unwrap_or_default();
        text.gone.truncate(Limits::SESSIONS_GONE);
        Self { path, open: Arc::new(Mutex::new(Open { text, unwritten: false })) }
    }

    /// Whether this life of a session was begun before.
    pub(crate) fn knows(&self, name: &str, life: u64) -> bool {
        self.read().text.pages.get(name).is_some_and(|page| page.life == life)
    }

    /// Whether its prompt was typed, or was about to be.
    pub(crate) fn is_prompted(&self, name: &str, life: u64) -> bool {
        let open = self.read();
        let is_it = |(known, of): &(String, u64)| known == name && *of == life;
        open.text.page(name, life).prompted || open.text.gone.iter().any(is_it)
    }

    /// Notes that its prompt is typed now.
    ///
    /// # Errors
    /// It could not be written: it is as if it had not been asked.
    pub(crate) fn prompted(&self, name: &str, life: u64) -> io::Result<()> {
        let mut open = self.read();
        let before = open.text.clone();
        open.text.change((name, life), |page| page.prompted = true);
        let written = open.write(&self.path);
        if written.is_err() {
            open.text = before;
        }
        written
    }

    /// Returns the id of a conversation that began with this run or later.
    pub(crate) fn conversation(&self, name: &str, life: u64, since: u64) -> Option<String> {
        let page = self.read().text.page(name, life);
        (page.since >= since && is_plain(&page.conversation)).then_some(page.conversation)
    }

    /// Notes the conversation that begins with this run; empty where its id is not known yet.
    pub(crate) fn begin(&self, (name, life): (&str, u64), run: u64, conversation: &str) {
        self.note(|text| {
            text.change((name, life), |page| {
                (page.conversation, page.since) = (conversation.to_owned(), run);
            });
        });
    }

    /// Notes the id that an agent told of its conversation.
    pub(crate) fn told(&self, name: &str, life: u64, conversation: &str) {
        if is_plain(conversation) {
            self.note(|text| {
                text.change((name, life), |page| page.conversation = conversation.to_owned());
            });
        }
    }

    /// Forgets every session but these; of those whose prompt was typed only that stays known.
    pub(crate) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.note(|text| {
            let names = text.pages.keys().filter(|name| !is_there(name));
            for name in names.cloned().collect::<Vec<String>>() {
                text.end(&name);
            }
        });
    }

    /// Changes what is known and writes it where it differs, or where that failed before.
    fn note(&self, how: impl FnOnce(&mut Text)) {
        let mut open = self.read();
        let before = open.text.clone();
        how(&mut open.text);
        if open.text == before && !open.unwritten {
            return;
        }
        let failed_before = open.unwritten;
        if let Err(error) = open.write(&self.path)
            && !failed_before
        {
            event!("{} cannot be written: {error}", self.path.display());
        }
    }

    fn read(&self) -> MutexGuard<'_, Open> {
        // nothing panics while it is open
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn write(&mut self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&self.text).unwrap_or_default();
        let written = write_marker(path, &text);
        self.unwritten = written.is_err();
        written
    }
}

impl Text {
    fn page(&self, name: &str, life: u64) -> Page {
        let page = self.pages.get(name).filter(|page| page.life == life).cloned();
        page.unwrap_or_else(|| Page { life, ..Page::default() })
    }

    fn change(&mut self, (name, life): (&str, u64), how: impl FnOnce(&mut Page)) {
        let mut page = self.page(name, life);
        if self.pages.get(name).is_some_and(|known| known.life != life) {
            self.end(name);
        }
        how(&mut page);
        self.pages.insert(name.to_owned(), page);
    }

    /// Removes a page.
    fn end(&mut self, name: &str) {
        let Some(page) = self.pages.remove(name).filter(|page| page.prompted) else { return };
        self.gone.push_front((name.to_owned(), page.life));
        self.gone.truncate(Limits::SESSIONS_GONE);
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
    fn a_file_of_before_is_read() {
        let before = br#"{"main":{"life":3,"conversation":"c-1","since":2,"prompted":true},"gone":{"life":4}}"#;
        let text = Text::read(before).expect("it is read");
        assert!(text.pages["main"].prompted && text.pages["main"].conversation == "c-1");
        assert_eq!(text.pages["gone"].life, 4, "a session may be called anything");
        assert_eq!(Text::read(&serde_json::to_vec(&text).expect("written")), Some(text));
        assert_eq!(Text::read(b"no JSON"), None);
    }

    #[test]
    fn what_is_noted_is_there_in_the_next_run_and_not_in_another_life() {
        let home = tempfile::tempdir().expect("a folder");
        let book = Book::open(&Config::in_folder(home.path()));
        assert!(!book.knows("web", 3));
        book.begin(("web", 3), 3, "0199a0b2-7f00");
        book.prompted("web", 3).expect("it is written");
        let again = Book::open(&Config::in_folder(home.path()));
        assert!(again.knows("web", 3) && again.is_prompted("web", 3));
        assert_eq!(again.conversation("web", 3, 3).as_deref(), Some("0199a0b2-7f00"));
        assert_eq!(again.conversation("web", 3, 4), None, "a later one was asked for");
        assert_eq!(again.conversation("web", 9, 3), None);
        assert!(!again.is_prompted("web", 9));
        again.told("web", 3, "0199a0b2-8f00");
        assert_eq!(again.conversation("web", 3, 3).as_deref(), Some("0199a0b2-8f00"));
        again.keep(|name| name != "web");
        assert!(!Book::open(&Config::in_folder(home.path())).knows("web", 3));
    }

    #[test]
    fn of_a_session_that_is_no_more_it_stays_known_that_its_prompt_was_typed() {
        let home = tempfile::tempdir().expect("a folder");
        let book = Book::open(&Config::in_folder(home.path()));
        book.begin(("quiet", 3), 3, "0199a0b2-7f00");
        for name in ["web", "other"] {
            book.begin((name, 3), 3, "0199a0b2-7f00");
            book.prompted(name, 3).expect("it is written");
        }
        book.keep(|name| name == "other");
        let again = Book::open(&Config::in_folder(home.path()));
        assert!(!again.knows("web", 3) && again.is_prompted("web", 3));
        assert_eq!(again.conversation("web", 3, 3), None);
        assert!(!again.knows("quiet", 3) && !again.is_prompted("quiet", 3));
        assert!(!again.is_prompted("web", 4), "another life of that name");
        // a name that is taken again
        again.begin(("other", 9), 9, "");
        assert!(again.is_prompted("other", 3) && !again.is_prompted("other", 9));
        for life in 10..10 + Limits::SESSIONS_GONE as u64 {
            again.prompted("many", life).expect("it is written");
        }
        again.keep(|_| false);
        assert!(again.is_prompted("many", 10) && !again.is_prompted("web", 3), "the oldest goes");
    }

    #[test]
    fn what_cannot_be_written_now_is_written_with_the_next_note() {
        let home = tempfile::tempdir().expect("a folder");
        let config = Config::in_folder(home.path());
        let book = Book::open(&config);
        let folder = config.state();
        let parent = folder.parent().expect("a folder").to_owned();
        std::fs::create_dir_all(&parent).expect("a folder");
        std::fs::write(&folder, "in the way").expect("a file");
        book.begin(("web", 3), 3, "0199a0b2-7f00");
        assert!(book.prompted("web", 3).is_err() && !book.is_prompted("web", 3));
        assert_eq!(book.conversation("web", 3, 3).as_deref(), Some("0199a0b2-7f00"));
        std::fs::remove_file(&folder).expect("it was there");
        book.told("web", 3, "0199a0b2-7f00");
        let again = Book::open(&config);
        assert_eq!(again.conversation("web", 3, 3).as_deref(), Some("0199a0b2-7f00"));
        assert!(!again.is_prompted("web", 3));
        book.prompted("web", 3).expect("there is room");
        assert!(Book::open(&config).is_prompted("web", 3));
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
        std::fs::write(&path, "{\"pages\":{\"web\":7").expect("a file");
        assert!(!Book::open(&Config::in_folder(home.path())).knows("web", 1));
    }
}
