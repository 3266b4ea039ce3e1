//! How Warren's processes know each other: keys, certificates and mutual TLS 1.3.
//!
//! [`Key`] and [`Folder`] keep one process's own identity; [`Peer`] is whom a certificate names.
//! [`ServerTls`] and [`incoming`] accept connections, [`ClientTls`] and [`connect`] make them; both
//! take new certificates without a restart. What a peer may do is not decided here, and nothing
//! here issues certificates: `warren-coordinator` does both.

mod client;
mod connections;
mod folder;
mod key;
mod local;
mod peer;
mod server;
mod tls;
mod trouble;
mod verifier;

pub use client::{connect, connect_lazy, connect_lazy_to};
pub use connections::{Connection, Connections};
pub use folder::{Folder, Identity};
pub use key::{Credentials, Key, certificates};
pub use local::{LocalStream, connect_local, incoming_local};
pub use peer::{Authority, InvalidPeer, Peer, PeerIdentity};
pub use server::{PeerStream, incoming, server_builder};
pub use tls::{ClientCertificates, ClientTls, ServerTls, pin_of};
pub use trouble::{Trouble, explain};

pub use warren_common::Role;

use crate::files::FileError;

/// The name every coordinator's certificate carries and every peer asks for, whatever the address.
pub const SERVER_NAME: &str = "coordinator.warren.internal";

/// Why an identity cannot be made, kept or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A key or a request could not be made.
    #[error("cannot make {what}")]
    Make {
        /// What was to be made.
        what: &'static str,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A text that is not the PEM it should be.
    #[error("{what} is not valid PEM: {why}")]
    Pem {
        /// What it should have been.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Key and certificate are not of one pair, or rustls refuses them.
    #[error("{what} cannot be used for TLS")]
    Tls {
        /// What was refused.
        what: &'static str,
        /// What rustls said.
        source: rustls::Error,
    },
    /// A set of authorities that trusts nobody.
    #[error("the set of trusted authorities is empty")]
    NoTrust,
    /// The certificate names nobody.
    #[error("the certificate is of no use")]
    Peer(#[source] InvalidPeer),
    /// A file of the identity cannot be read or written.
    #[error("the identity's files cannot be used")]
    File(#[source] FileError),
}
