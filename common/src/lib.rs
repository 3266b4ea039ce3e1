//! The vocabulary of Warren: the words every other crate shares.
//!
//! Ids, units, time, what was asked ([`spec`]), what was seen ([`status`], of a coding agent
//! [`agent`], of a browser [`browser`]), what workspaces are made from
//! ([`template`]) and every bound ([`Limits`]). Types validate themselves; nothing here does I/O, reads
//! a clock or knows a wire format. `docs/GLOSSARY.md` says what each word means.

pub mod agent;
pub mod browser;
pub mod id;
pub mod image;
pub mod limits;
pub mod mask;
pub mod measure;
pub mod name;
pub mod role;
pub mod spec;
pub mod status;
pub mod template;
pub mod time;
pub mod units;

pub use id::{
    BootId, ClientId, ClusterId, Generation, NodeEpoch, NodeId, ReplicaId, RequestId, Revision,
    TokenId, WorkspaceId,
};
pub use limits::Limits;
pub use name::{
    ClientName, NodeName, PersonName, SecretName, SessionAddress, SessionName, TemplateName,
    WorkspaceAddress, WorkspaceName,
};
pub use role::{InvalidRole, Role};
pub use time::Timestamp;
pub use units::{Bytes, MilliCpus};
