//! Everything interactive: a person's terminal at one end of a stream, a program at the other.
//!
//! [`stream`] speaks frames with the coordinator, [`pump`] moves bytes both ways without one side
//! holding up the other, [`raw`] owns the terminal's mode, [`detach`] finds the keys that leave.
//! [`attach`] and [`exec`] put them together; [`forward`] has a browser in the place of the terminal.

pub(crate) mod attach;
pub(crate) mod detach;
pub(crate) mod exec;
pub(crate) mod forward;
mod input;
mod modes;
pub(crate) mod pipe;
mod pump;
mod raw;
pub(crate) mod stream;
pub(crate) mod unseen;

use std::{env, io};

use warren_proto::pb::inside::v1::Terminal;

use crate::render::window;

/// Returns the terminal we stand in: its kind and size, with the usual 80 by 24 where it has none.
pub(crate) fn here() -> Terminal {
    let (columns, rows) = size();
    let term = env::var("TERM").unwrap_or_default();
    Terminal { term, columns: columns.into(), rows: rows.into() }
}

/// Returns columns and rows of our terminal.
fn size() -> (u16, u16) {
    window(io::stdout()).or_else(|| window(io::stdin())).unwrap_or((80, 24))
}
