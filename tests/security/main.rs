//! Attacks from inside a workspace, on real parts. Each one is a probe with a positive control: the
//! same probe succeeds where the mechanism it tests is switched off, so that a blind probe cannot
//! pass for a wall.
//!
//! Needs root and the workspace image; `./deploy/test security` prepares both.

mod walls;
