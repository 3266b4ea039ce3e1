//! How results and talk leave the process: stdout is data, stderr is talk.

pub(crate) mod table;
pub(crate) mod time;

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd,
};

use clap::ValueEnum;
use serde::Serialize;
use warren_common::Timestamp;
use warren_proto::pb::admin::v1::Freshness;

use crate::{error::Error, view::as_of::AsOf};

pub(crate) use table::Tabular;

/// How data is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences for people.
    #[default]
    Table,
    /// JSON with stable field names.
    Json,
    /// The same as YAML.
    Yaml,
    /// Addresses only, one per line.
    Name,
}

/// Where data and talk go.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// How data is printed.
    pub(crate) format: Format,
    /// Say nothing but data and errors.
    pub(crate) quiet: bool,
    /// Mark words with colour on a terminal.
    pub(crate) colour: bool,
    /// Of when the data is; none where it is of now.
    pub(crate) as_of: Option<AsOf>,
}

/// An object with of when it is.
#[derive(Serialize)]
struct Dated<'a, T> {
    #[serde(flatten)]
    object: &'a T,
    as_of: &'a AsOf,
}

impl Output {
    /// Returns the output for an answer: where it is stale, each object says so in its field
    /// `as_of`, and a line on stderr follows.
    pub(crate) fn of(&self, freshness: Option<&Freshness>) -> Self {
        Self { as_of: AsOf::of(freshness), ..self.clone() }
    }

    fn tell_age(&self) {
        if let Some(as_of) = &self.as_of {
            self.talk(&as_of.text());
        }
    }

    /// Writes data to stdout.
    ///
    /// # Errors
    /// A closed pipe is [`crate::error::Kind::BrokenPipe`], which ends the command in silence.
    #[expect(clippy::unused_self, reason = "all writing goes through the output")]
    pub(crate) fn data(&self, text: &str) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| Error::pipe("writing to stdout", &error))
    }

    /// Writes data to stdout as it is.
    ///
    /// # Errors
    /// As [`Self::data`].
    #[expect(clippy::unused_self, reason = "all writing goes through the output")]
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        written.map_err(|error| Error::pipe("writing to stdout", &error))
    }

    /// Writes a line of talk to stderr, unless quiet. Nobody is told where nobody listens.
    pub(crate) fn talk(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// Prints one object: `text` for tables, `name` for names, else the object itself.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub(crate) fn object<T: Serialize>(
        &self,
        object: &T,
        name: &str,
        text: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        match (self.format, &self.as_of) {
            (Format::Table, _) => self.data(&text())?,
            (Format::Name, _) => self.data(&format!("{name}\n"))?,
            (Format::Json | Format::Yaml, None) => self.data(&self.encode(object)?)?,
            (Format::Json | Format::Yaml, Some(as_of)) => {
                self.data(&self.encode(&Dated { object, as_of })?)?;
            }
        }
        self.tell_age();
        Ok(())
    }

    /// Prints a list; an empty one says so on stderr and keeps stdout empty (or `[]`).
    ///
    /// # Errors
    /// As [`Self::data`].
    pub(crate) fn list<T: Tabular + Serialize>(
        &self,
        rows: &[T],
        now: Timestamp,
        empty: &str,
    ) -> Result<(), Error> {
        match (self.format, &self.as_of) {
            (Format::Table | Format::Name, _) if rows.is_empty() => self.talk(empty),
            (Format::Table, _) => self.data(&table::table(rows, now, stdout_width()))?,
            (Format::Name, _) => {
                let names: Vec<String> = rows.iter().map(|row| row.address() + "\n").collect();
                self.data(&names.concat())?;
            }
            (Format::Json | Format::Yaml, None) => self.data(&self.encode(&rows)?)?,
            (Format::Json | Format::Yaml, Some(as_of)) => {
                let dated: Vec<_> = rows.iter().map(|object| Dated { object, as_of }).collect();
                self.data(&self.encode(&dated)?)?;
            }
        }
        self.tell_age();
        Ok(())
    }

    /// Prints one object of a stream of them: a line of JSON, a document of YAML, `name`, or `text`.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub(crate) fn line<T: Serialize>(
        &self,
        object: &T,
        name: &str,
        text: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        match self.format {
            Format::Table => self.data(&text()),
            Format::Name => self.data(&format!("{name}\n")),
            Format::Json => {
                let line = serde_json::to_string(object).map_err(|error| unencodable(&error))?;
                self.data(&(line + "\n"))
            }
            Format::Yaml => self.data(&format!("---\n{}", self.encode(object)?)),
        }
    }

    fn encode<T: Serialize>(&self, object: &T) -> Result<String, Error> {
        match self.format {
            Format::Yaml => serde_yaml_ng::to_string(object).map_err(|error| unencodable(&error)),
            Format::Json | Format::Table | Format::Name => serde_json::to_string_pretty(object)
                .map(|text| text + "\n")
                .map_err(|error| unencodable(&error)),
        }
    }
}

fn unencodable(error: &dyn std::fmt::Display) -> Error {
    Error::new(crate::error::Kind::Failed, "ENCODING", "the result cannot be encoded")
        .why(error.to_string())
}

/// Returns the width of the terminal that stdout is; none for pipes and files.
pub(crate) fn stdout_width() -> Option<u16> {
    let out = io::stdout();
    if out.is_terminal() { window(out.as_fd()).map(|(columns, _)| columns) } else { None }
}

/// Returns columns and rows of a terminal; none where it has no size.
pub(crate) fn window(fd: impl AsFd) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(fd).ok()?;
    if size.ws_col == 0 || size.ws_row == 0 { None } else { Some((size.ws_col, size.ws_row)) }
}
