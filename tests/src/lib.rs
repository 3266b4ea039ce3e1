//! The stage on which the system tests play: real processes, and real hosts made of network
//! namespaces with an engine each.
//!
//! Everything a test run makes carries the prefix `wt<pid>-` (namespaces, cgroups, folders), lives
//! outside the host's own Docker and firewall, and goes with the [`Stage`] that made it; what a
//! killed run leaves is found by its prefix and cleaned at the next start.

pub mod agents;
pub mod alone;
pub mod bench;
pub mod clock;
pub mod cluster;
pub mod coordinator;
pub mod crowd;
pub mod daemon;
pub mod engine;
pub mod host;
pub mod lab;
pub mod mock_llm;
pub mod node;
pub mod opened;
pub mod program;
pub mod repo;
pub mod stage;
pub mod stream;
pub mod swap;
pub mod terminal;
pub mod torture;
pub mod trio;
pub mod wait;
pub mod watching;

pub use cluster::Cluster;
pub use coordinator::Coordinator;
pub use crowd::Crowd;
pub use daemon::Daemon;
pub use engine::Engine;
pub use host::{Host, Network, Way};
pub use lab::Lab;
pub use node::Node;
pub use opened::Opened;
pub use program::{Output, Program};
pub use stage::Stage;
pub use stream::Stream;
pub use trio::Trio;
pub use wait::wait_until;
pub use watching::Watching;
