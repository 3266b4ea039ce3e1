//! What people see of a workspace in a real Chromium: coordinator, node agent, command line and PID 1
//! are the real ones, the container alone is not.
//!
//! They take what a workspace's image has, so they run where `cargo xtask views` has prepared it;
//! pictures are kept where it says.

mod alone;
mod chromium;
mod pages;
mod phone;
mod stand;
