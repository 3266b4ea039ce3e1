//! Attacks from inside a workspace, on real parts. Each one is a probe with a positive control: the
//! same probe succeeds where the mechanism it tests is switched off, so that a blind probe cannot
//! pass for a wall.
//!
//! One file per group; `probe` is the table and its runner, `field` the hosts around a node. Needs
//! root and the workspace image; `./deploy/test security` prepares both.

mod allowed;
mod canary;
mod field;
mod flood;
mod guard;
mod hosts;
mod names;
mod network;
mod probe;
mod sandbox;
mod secrets;
mod walls;
