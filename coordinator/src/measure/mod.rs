//! What a coordinator counts: the table of its metrics, and who fills the rows that nobody else does.
//!
//! Most rows are counted where things happen, with the macros of the `metrics` crate. Here are the
//! layer that counts calls ([`calls`]) and what is read only when somebody scrapes ([`probe`]).
//! Every name stands in [`METRICS`]; a test scrapes a real cluster and fails on one that does not.
//! No label is a name that people choose: methods, codes, phases, ids of coordinators.

pub mod calls;
pub mod probe;
mod table;

pub use table::METRICS;
