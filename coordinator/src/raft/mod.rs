//! Consensus: many coordinators agree on one log of commands, and each applies it to its state.
//!
//! [`Consensus`] is all the rest of the coordinator sees: propose a command, read the state, know
//! who leads. Behind it openraft runs over the log in `store/`, over checkpoints (the whole state
//! as one file) and over tonic. No other folder names openraft. What a command means is the
//! model's business; who may propose it, the API's.

mod answers;
mod checkpoint;
mod checkpoint_v1;
mod checkpoint_v2;
mod checkpoint_v3;
mod config;
mod consensus;
mod contact;
mod error;
mod forward;
mod led;
mod line;
mod log;
mod machine;
mod membership;
mod network;
mod observe;
mod open;
mod propose;
mod reads;
mod recent;
mod records;
mod salvage;
mod seed;
mod server;
mod thin;
mod types;
mod writes;

pub use answers::{Leadership, Member, ReplicaRole, Status};
pub use checkpoint::recorded_head;
pub use config::{Connect, Options, Tuning};
pub use consensus::Consensus;
pub use error::{InitialiseError, OpenError, ProposeError, ReadError, TransferError};
pub use led::{Led, LedError};
pub use membership::MembershipError;
pub(crate) use propose::check_size;
pub use salvage::{Salvaged, salvage};
pub use seed::{Seed, SeedError, decode_state, encode_state, seed};
pub use server::RaftRpc;

#[cfg(test)]
pub(crate) mod tests;
