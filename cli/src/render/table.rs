//! Tables as kubectl prints them: no borders, columns as wide as their content.

use comfy_table::{Column, ColumnConstraint, ContentArrangement, Row, Table, presets};
use warren_common::{Timestamp, status::clean};

/// A row of a list.
pub(crate) trait Tabular {
    /// Column titles, in capitals.
    const HEADER: &'static [&'static str];
    /// The column that is cut where the terminal is too narrow.
    const FLEXIBLE: usize;
    /// Returns one cell per column; ages are counted to `now`.
    fn row(&self, now: Timestamp) -> Vec<String>;
    /// Returns the address that other commands take.
    fn address(&self) -> String;
}

/// Returns the table with a line end after each row; `width` is the terminal's, none for pipes,
/// where nothing is ever cut.
pub(crate) fn table<T: Tabular>(rows: &[T], now: Timestamp, width: Option<u16>) -> String {
    let rows = rows.iter().map(|row| row.row(now)).collect();
    lay_out(T::HEADER, rows, T::FLEXIBLE, width)
}

/// Returns the table of `rows` below `header`.
pub(crate) fn lay_out(
    header: &[&str],
    rows: Vec<Vec<String>>,
    flexible: usize,
    width: Option<u16>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    for cells in rows {
        let cells = cells.into_iter().map(|cell| one_line(&cell));
        let mut row = Row::from(cells.collect::<Vec<String>>());
        row.max_height(1);
        table.add_row(row);
    }
    match width {
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(40));
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        lay_out_column(column, index == flexible);
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn lay_out_column(column: &mut Column, flexible: bool) {
    column.set_padding((0, 3));
    if !flexible {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
}

/// Texts may come from a workspace: a cell is one line without control characters, never empty.
pub(crate) fn one_line(cell: &str) -> String {
    let cell = clean(cell, 4096).replace(['\n', '\t'], " ");
    if cell.trim().is_empty() { "-".to_owned() } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![
            row(["acme/web", "running", ""]),
            row([
                "acme/a-rather-long-name",
                "queued",
                "no node has 64 GiB free: the largest is n2",
            ]),
        ]
    }

    #[test]
    fn pipes_get_everything() {
        let text = lay_out(&["WORKSPACE", "STATUS", "REASON"], rows(), 2, None);
        assert_eq!(
            text,
            "WORKSPACE                 STATUS    REASON\n\
             acme/web                  running   -\n\
             acme/a-rather-long-name   queued    no node has 64 GiB free: the largest is n2\n"
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_the_flexible_column_only() {
        let text = lay_out(&["WORKSPACE", "STATUS", "REASON"], rows(), 2, Some(60));
        assert!(text.contains("acme/a-rather-long-name"), "{text}");
        assert!(text.contains('…'), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    }

    #[test]
    fn cells_cannot_break_the_table() {
        let text =
            lay_out(&["A", "B"], vec![vec!["x\ny".to_owned(), "\x1b[2J".to_owned()]], 1, None);
        assert_eq!(text, "A     B\nx y   [2J\n");
    }
}
