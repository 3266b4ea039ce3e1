//! What every Warren process needs, and no policy: configuration, identity and mutual TLS,
//! telemetry, an orderly end, back-off and secrets in memory.
//!
//! Start with [`identity`]: it is how processes know each other. Nothing here knows a message of
//! the wire or decides what a peer may do.

pub mod backoff;
pub mod backup;
pub mod clock;
pub mod config;
pub mod files;
pub mod identity;
pub mod metrics;
pub mod sealed;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
pub mod token;

pub use secret::Secret;
pub use shutdown::Shutdown;
