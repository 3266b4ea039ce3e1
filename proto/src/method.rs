//! The generated enum of every RPC.

include!(concat!(env!("OUT_DIR"), "/method.rs"));
