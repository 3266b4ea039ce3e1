//! `[network]`: bounds and ports of workspaces' networks.

use std::net::IpAddr;

use serde::Deserialize;
use warren_daemon::config::InvalidField;

/// Resolvers that can be named, as in a host's `resolv.conf`.
const RESOLVERS: usize = 3;

/// The network's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Where the node's resolver listens on each gateway; workspaces ask port 53.
    pub dns_port: u16,
    /// Resolvers to ask; the host's own where it is empty.
    pub resolvers: Vec<IpAddr>,
    /// Connections and UDP flows that one workspace may have open.
    pub connections: u32,
    /// Connections and UDP flows that one workspace may begin in a second, in the long run; ten
    /// times as many at once.
    pub new_connections: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNetwork {
    dns_port: u16,
    resolvers: Vec<IpAddr>,
    connections: u32,
    new_connections: u32,
}

impl Default for RawNetwork {
    fn default() -> Self {
        Self { dns_port: 7405, resolvers: Vec::new(), connections: 1024, new_connections: 100 }
    }
}

impl TryFrom<RawNetwork> for NetworkConfig {
    type Error = InvalidField;
    fn try_from(raw: RawNetwork) -> Result<Self, InvalidField> {
        let RawNetwork { dns_port, resolvers, connections, new_connections } = raw;
        if dns_port == 0 {
            return Err(InvalidField::new("network.dns_port", "must be a port of 1 to 65535"));
        }
        if resolvers.len() > RESOLVERS {
            let why = format!("must name at most {RESOLVERS} addresses");
            return Err(InvalidField::new("network.resolvers", why));
        }
        for (field, number) in
            [("network.connections", connections), ("network.new_connections", new_connections)]
        {
            if !(1..=1_000_000).contains(&number) {
                return Err(InvalidField::new(field, "must be 1 to 1000000"));
            }
        }
        Ok(Self { dns_port, resolvers, connections, new_connections })
    }
}
