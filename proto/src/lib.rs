//! Wire messages of Warren, and every conversion between wire and vocabulary.
//!
//! The `.proto` files beside this crate are the API; `protox` compiles them without a `protoc`.
//! Without the `grpc` feature only the messages of `warren.inside.v1` are built, which is all that
//! PID 1 of a workspace may know. Conversions stand in [`convert`], one file per message, and
//! nowhere else; generated code is only reached through the `pb` modules here.

pub mod convert;
#[cfg(feature = "grpc")]
pub mod error;
#[cfg(feature = "grpc")]
mod method;

pub use convert::InvalidMessage;
#[cfg(feature = "grpc")]
pub use error::ApiError;
#[cfg(feature = "grpc")]
pub use method::Method;

/// Request metadata, and the answer's: the request id of a call, which every log line about it
/// carries. A mutation's is the one that takes effect once.
pub const REQUEST_ID: &str = "warren-request-id";

/// Generated messages and services, by package.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod pb {
    /// Between PID 1 of a workspace and its node agent, and the frames of interactive streams.
    pub mod inside {
        /// Version 1.
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/warren.inside.v1.rs"));
        }
    }
    /// Between node agents and coordinators.
    #[cfg(feature = "grpc")]
    pub mod node {
        /// Version 1.
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/warren.node.v1.rs"));
        }
    }
    /// Between people's tools and coordinators.
    #[cfg(feature = "grpc")]
    pub mod admin {
        /// Version 1.
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/warren.admin.v1.rs"));
        }
    }
    /// Among coordinators.
    #[cfg(feature = "grpc")]
    pub mod raft {
        /// Version 1.
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/warren.raft.v1.rs"));
        }
    }
}

/// Encoded `FileDescriptorSet` of every package, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
