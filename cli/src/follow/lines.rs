//! What a watch prints: one line, or one document, per change.

use std::collections::BTreeMap;

use serde::Serialize;
use warren_common::Timestamp;

use super::Watched;
use crate::{
    api::Listed,
    error::Error,
    render::{Format, Output, Tabular, table::one_line, time::rfc3339_seconds},
    view::{Moment, event::Event},
};

/// One change as programs read it; `object` is a row of the list.
#[derive(Debug, Serialize)]
pub(crate) struct Change<'a, T> {
    /// `list` (forget what was listed before), `listed`, a kind of event, `seen` or `gone`.
    event: &'a str,
    revision: Option<u64>,
    index: Option<u32>,
    at: Option<Moment>,
    address: Option<&'a str>,
    object: Option<&'a T>,
}

/// What was last printed of one object.
struct Known<T> {
    row: T,
    /// Of the decision that it shows.
    revision: Option<u64>,
    /// It was printed as part of a list, not of an event.
    listed: bool,
}

/// Prints changes, and remembers how each object stood.
pub(super) struct Lines<'a, T> {
    output: &'a Output,
    known: BTreeMap<String, Known<T>>,
    widths: BTreeMap<usize, usize>,
}

impl<'a, T: Watched> Lines<'a, T> {
    pub(super) const fn new(output: &'a Output) -> Self {
        Self { output, known: BTreeMap::new(), widths: BTreeMap::new() }
    }

    /// Prints a list, and forgets what was known before it.
    pub(super) fn list(&mut self, listed: Listed<T>, empty: &str) -> Result<(), Error> {
        let (output, now) = (self.output, listed.now);
        match output.format {
            Format::Table | Format::Name => output.list(&listed.items, now, empty)?,
            Format::Json | Format::Yaml => {
                let revision = Some(listed.at.revision);
                let at = Some(Moment(now));
                let (index, address, object) = (None, None, None::<&T>);
                let list = Change { event: "list", revision, index, at, address, object };
                output.line(&list, "", String::new)?;
                for row in &listed.items {
                    let (address, object) = (row.address(), Some(row));
                    let address = Some(address.as_str());
                    let change = Change { event: "listed", revision, index, at, address, object };
                    output.line(&change, "", String::new)?;
                }
            }
        }
        self.known.clear();
        for row in listed.items {
            self.remember(row.address(), row, true);
        }
        Ok(())
    }

    /// Prints an event, unless the list held it already.
    pub(super) fn event(&mut self, event: Event) -> Result<(), Error> {
        let (name, word, time) = (event.event, event.word(), event.time());
        let (revision, index, at) = (event.revision, event.index, event.at);
        let address = event.address.clone();
        let held = |known: &Known<T>| match known.revision {
            Some(told) => Some(told) > revision || (Some(told) == revision && known.listed),
            None => false,
        };
        if self.known.get(&address).is_some_and(held) {
            return Ok(());
        }
        let known = self.known.remove(&address);
        let mut row = T::of(event);
        if let (Some(row), Some(known), Format::Table) = (&mut row, &known, self.output.format) {
            row.keep(&known.row);
        }
        let standing = row.as_ref().map(Watched::standing).unwrap_or_default();
        let same = known.is_some_and(|known| known.row.standing() == standing);
        let change = Change {
            event: name,
            revision,
            index,
            at,
            address: Some(&address),
            object: row.as_ref(),
        };
        // the second event of one decision says nothing new to people
        if !(same && self.output.format == Format::Table) {
            let mut cells = vec![time, address.clone(), word.to_owned()];
            cells.extend(standing);
            self.output.line(&change, &address, || aligned(&cells, &mut self.widths))?;
        }
        if let Some(row) = row {
            self.remember(address, row, false);
        }
        Ok(())
    }

    /// Prints what stands differently in a list than what was printed last. What was decided after
    /// `told` is left to the events that are on their way.
    pub(super) fn look(&mut self, listed: Listed<T>, told: u64) -> Result<(), Error> {
        let now = listed.now;
        let decided = !T::KINDS.is_empty();
        if !decided {
            let there: Vec<String> = listed.items.iter().map(Tabular::address).collect();
            let gone = self.known.keys().filter(|known| !there.contains(known));
            for address in gone.cloned().collect::<Vec<_>>() {
                self.gone(&address, now)?;
            }
        }
        for row in listed.items {
            let (address, standing) = (row.address(), row.standing());
            let known = self.known.get(&address);
            let newer = row.revision().is_some_and(|revision| revision > told);
            let coming = decided && (newer || known.is_none());
            if coming || known.is_some_and(|known| known.row.stands_as(&row)) {
                continue;
            }
            self.seen(("seen", now), (&address, Some(&row)), standing)?;
            self.remember(address, row, true);
        }
        Ok(())
    }

    /// Prints that a row stands so, where it did not.
    pub(super) fn stands(&mut self, row: T, now: Timestamp) -> Result<(), Error> {
        let (address, standing) = (row.address(), row.standing());
        if !self.known.get(&address).is_some_and(|known| known.row.stands_as(&row)) {
            self.seen(("seen", now), (&address, Some(&row)), standing)?;
        }
        self.remember(address, row, true);
        Ok(())
    }

    /// Prints that a row is gone, where it was there.
    pub(super) fn gone(&mut self, address: &str, now: Timestamp) -> Result<(), Error> {
        match self.known.remove(address) {
            Some(_) => self.seen(("gone", now), (address, None), Vec::new()),
            None => Ok(()),
        }
    }

    fn remember(&mut self, address: String, row: T, listed: bool) {
        let revision = row.revision();
        self.known.insert(address, Known { row, revision, listed });
    }

    fn seen(
        &mut self,
        (event, now): (&str, Timestamp),
        (address, object): (&str, Option<&T>),
        standing: Vec<String>,
    ) -> Result<(), Error> {
        let (revision, index, at) = (None, None, Some(Moment(now)));
        let change = Change { event, revision, index, at, address: Some(address), object };
        let mut cells = vec![rfc3339_seconds(now), address.to_owned(), event.to_owned()];
        cells.extend(standing);
        self.output.line(&change, address, || aligned(&cells, &mut self.widths))
    }
}

/// Prints something that happened, which has no age, as a row of its own.
pub(super) fn row<T: Tabular + Serialize>(
    output: &Output,
    happened: &T,
    widths: &mut BTreeMap<usize, usize>,
) -> Result<(), Error> {
    let cells = happened.row(Timestamp(0));
    output.line(happened, &happened.address(), || aligned(&cells, widths))
}

/// Lays cells out in columns as wide as what came before; the last column is as wide as it is.
fn aligned(cells: &[String], widths: &mut BTreeMap<usize, usize>) -> String {
    let mut text = String::new();
    for (index, cell) in cells.iter().enumerate() {
        let cell = one_line(cell);
        let width = widths.entry(index).or_default();
        *width = (*width).max(cell.chars().count());
        text.push_str(&format!("{cell:<0$}", *width + 3));
    }
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_grow_with_what_comes_and_never_break_a_line() {
        let mut widths = BTreeMap::new();
        let cells = |cells: [&str; 3]| cells.map(str::to_owned);
        assert_eq!(aligned(&cells(["a", "b\nc", ""]), &mut widths), "a   b c   -\n");
        assert_eq!(aligned(&cells(["long", "b", "x"]), &mut widths), "long   b     x\n");
        assert_eq!(aligned(&cells(["a", "b", "x"]), &mut widths), "a      b     x\n");
    }
}
