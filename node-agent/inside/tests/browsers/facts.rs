//! What was measured of each driver, for the table at the end of `cargo xtask browsers`.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::Write as _,
    time::{Duration, Instant},
};

/// One line of the table.
pub(crate) struct Facts {
    driver: &'static str,
    columns: Vec<(&'static str, String)>,
}

impl Facts {
    pub(crate) fn of(driver: &'static str) -> Self {
        Self { driver, columns: Vec::new() }
    }

    /// Notes a word.
    pub(crate) fn note(&mut self, column: &'static str, word: impl Into<String>) {
        self.columns.push((column, word.into()));
    }

    /// Notes how long it took for something to be told, which is at most a second.
    pub(crate) fn took(&mut self, column: &'static str, since: Instant) {
        let told = since.elapsed();
        self.note(column, format!("{} ms", told.as_millis()));
        let driver = self.driver;
        assert!(told < Duration::from_secs(1), "{driver}: {column} took {told:?}");
    }

    /// Adds the line to the file that whoever prints the table reads.
    pub(crate) fn keep(self) {
        let Some(file) = env::var_os("WARREN_FACTS") else { return };
        let mut line = format!("driver={}", self.driver);
        for (column, word) in self.columns {
            write!(line, "\t{column}={word}").expect("a text takes all");
        }
        let file = fs::OpenOptions::new().create(true).append(true).open(file);
        writeln!(file.expect("a file"), "{line}").expect("written");
    }
}
