//! Homes in a real btrfs pool: quotas that hold, growth in use, a machine that reboots, crashes
//! between any two steps, and files that are no pool of ours.
//!
//! Needs root, btrfs-progs and a kernel with btrfs and loop devices; without them every test here
//! is skipped, aloud. Each has a pool of its own in a temporary folder and unmounts it.

mod homes;
mod stage;
mod whole;
