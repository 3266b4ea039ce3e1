//! The one table, as a value: what is wanted, and the script that makes it so.
//!
//! Pure. A packet of a workspace meets, in this order: `ws_arrive` (its own source address, no
//! IPv6, a bridge that is open), `ws_resolve` (questions to its gateway go to our resolver), then
//! either `ws_host` (to this host: the resolver and nothing else) or `ws_leave` (to anywhere else:
//! never to a neighbour, never through a published port, a bounded number of flows, and whatever
//! `ws_policy` accepts). What comes back meets `ws_enter`, and `ws_policy` again: it looks at flows,
//! not at packets, so what is closed is closed for flows that are open.
//!
//! **`ws_policy` is the one chain that says where a workspace may go**; a policy proxy replaces its
//! rules and nothing else. Names begin with `ws_`, since some plain words are nft's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv4Addr,
};

use warren_common::{
    ClientId,
    spec::{Destination, NEVER},
};

use crate::container::subnet::Subnet;

/// The table's name, in the family `inet`.
pub const TABLE: &str = "warren";
/// What every bridge's name begins with.
pub const PREFIX: &str = "wrn-";
/// The bit that the table sets on packets from open bridges: without it they are routed nowhere.
pub const MARK: u32 = 0x0100_0000;

/// Private and shared ranges: closed unless a client is allowed something of them.
const PRIVATE: [&str; 6] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
];
/// Ports of resolvers: questions go to the node's.
const RESOLVERS: [u16; 2] = [53, 853];
/// Sets that the packets themselves fill.
pub(super) const DYNAMIC: [&str; 2] = ["ws_connections", "ws_beginnings"];
/// Bridges that can be counted for, at most.
const COUNTED: usize = 4096;

/// What the table is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The node's own range: no workspace reaches another through it.
    pub range: Subnet,
    /// The coordinators.
    pub cluster: BTreeSet<Ipv4Addr>,
    /// Open bridges by name.
    pub bridges: BTreeMap<String, Bridge>,
    /// What clients of these are allowed; those that have none are not named.
    pub allowed: BTreeMap<ClientId, BTreeSet<Destination>>,
    /// Bounds and ports.
    pub settings: Settings,
}

/// One open bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridge {
    /// Its range.
    pub subnet: Subnet,
    /// Whose workspace is behind it.
    pub client: ClientId,
}

/// What the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Where the node's resolver listens on each gateway.
    pub dns_port: u16,
    /// Flows that one workspace may have open.
    pub connections: u32,
    /// Flows that one workspace may begin in a second; ten times as many at once.
    pub beginnings: u32,
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: String,
    /// Type, hook and priority of a base chain.
    pub(super) hook: Option<(&'static str, &'static str, i32)>,
    pub(super) rules: Vec<String>,
}

impl Wanted {
    /// Returns the script that makes the table so, in one transaction. `loaded` are the chains that
    /// are there: with them counters and counted flows are kept; without them it is made anew.
    pub fn script(&self, loaded: Option<&BTreeSet<String>>) -> String {
        let chains = self.chains();
        let mut out = format!("add table inet {TABLE}\n");
        match loaded {
            None => line(&mut out, format_args!("delete table inet {TABLE}")),
            Some(loaded) => {
                line(&mut out, format_args!("flush table inet {TABLE}"));
                for (kind, name, _, _) in self.sets() {
                    // added first, so that there is one to empty
                    let declared = self.declared(name);
                    line(&mut out, format_args!("add {kind} inet {TABLE} {name} {{ {declared} }}"));
                    line(&mut out, format_args!("flush {kind} inet {TABLE} {name}"));
                }
                let wanted: BTreeSet<&str> =
                    chains.iter().map(|chain| chain.name.as_str()).collect();
                for gone in loaded.iter().filter(|name| !wanted.contains(name.as_str())) {
                    line(&mut out, format_args!("delete chain inet {TABLE} {gone}"));
                }
            }
        }
        line(&mut out, format_args!("table inet {TABLE} {{"));
        for counter in COUNTERS {
            line(&mut out, format_args!("counter {counter} {{ }}"));
        }
        for set in DYNAMIC {
            let declared = format!("type ifname; size {COUNTED}; flags dynamic;");
            line(&mut out, format_args!("set {set} {{ {declared} }}"));
        }
        // chains before the maps that name them
        for chain in &chains {
            write_chain(&mut out, chain);
        }
        for (kind, name, _, elements) in self.sets() {
            let declared = self.declared(name);
            let elements = match elements.is_empty() {
                true => String::new(),
                false => format!(" elements = {{ {} }}", elements.join(", ")),
            };
            line(&mut out, format_args!("{kind} {name} {{ {declared}{elements} }}"));
        }
        line(&mut out, format_args!("}}"));
        out
    }

    fn declared(&self, name: &str) -> &'static str {
        let found = self.sets().into_iter().find(|(_, other, _, _)| *other == name);
        found.map_or("", |(_, _, declared, _)| declared)
    }

    /// Returns kind, name, declaration and elements of every set that is ours to fill.
    pub(super) fn sets(&self) -> Vec<(&'static str, &'static str, &'static str, Vec<String>)> {
        let never = NEVER.iter().map(|(first, bits, _)| format!("{first}/{bits}"));
        let bridge = |name: &String| format!("\"{name}\" : goto {}", from(name));
        let clients = self.bridges.iter().filter(|(_, one)| self.allowed.contains_key(&one.client));
        let client = |(name, one): (&String, &Bridge)| {
            format!("\"{name}\" : jump {}", of_client(one.client))
        };
        vec![
            ("set", "ws_never", "type ipv4_addr; flags interval;", never.collect()),
            ("set", "ws_range", "type ipv4_addr; flags interval;", vec![self.range.to_string()]),
            (
                "set",
                "ws_cluster",
                "type ipv4_addr;",
                self.cluster.iter().map(ToString::to_string).collect(),
            ),
            (
                "set",
                "ws_private",
                "type ipv4_addr; flags interval;",
                PRIVATE.iter().map(ToString::to_string).collect(),
            ),
            (
                "set",
                "ws_open",
                "type ifname;",
                self.bridges.keys().map(|name| format!("\"{name}\"")).collect(),
            ),
            (
                "set",
                "ws_within",
                "type ifname . ifname;",
                self.bridges.keys().map(|name| format!("\"{name}\" . \"{name}\"")).collect(),
            ),
            (
                "map",
                "ws_bridges",
                "type ifname : verdict;",
                self.bridges.keys().map(bridge).collect(),
            ),
            ("map", "ws_clients", "type ifname : verdict;", clients.map(client).collect()),
        ]
    }

    /// Returns every chain, those that others name first.
    pub(super) fn chains(&self) -> Vec<Chain> {
        let mut chains: Vec<Chain> = self.bridges.iter().map(of_bridge).collect();
        chains.extend(self.allowed.iter().map(|(client, allowed)| Chain {
            name: of_client(*client),
            hook: None,
            rules: allowed.iter().map(accept).collect(),
        }));
        chains.extend(self.verdicts());
        chains.extend(self.hooks());
        chains
    }

    /// Where a workspace may go, and what becomes of the rest.
    fn verdicts(&self) -> Vec<Chain> {
        let Settings { connections, beginnings, .. } = self.settings;
        let burst = beginnings.saturating_mul(10);
        let reject = "reject with icmpx admin-prohibited";
        let mut policy = vec![
            "meta nfproto != ipv4 return".to_owned(),
            "meta l4proto != { tcp, udp } return".to_owned(),
            "ct original ip daddr @ws_never return".to_owned(),
            "ct original ip daddr @ws_range return".to_owned(),
            "ct original ip daddr @ws_cluster return".to_owned(),
            "ct original ip daddr @ws_private goto ws_allowed".to_owned(),
        ];
        for port in RESOLVERS {
            for transport in ["tcp", "udp"] {
                policy.push(format!(
                    "meta l4proto {transport} ct original proto-dst {port} goto ws_allowed"
                ));
            }
        }
        policy.push("accept".to_owned());
        vec![
            chain("ws_refuse", vec![format!("counter name ws_refused {reject}")]),
            chain(
                "ws_allowed",
                vec!["iifname vmap @ws_clients".to_owned(), "oifname vmap @ws_clients".to_owned()],
            ),
            chain("ws_policy", policy),
            chain(
                "ws_flood",
                vec![
                    format!(
                        "add @ws_connections {{ iifname ct count over {connections} }} \
                         counter name ws_flooded {reject}"
                    ),
                    format!(
                        "add @ws_beginnings {{ iifname limit rate over {beginnings}/second burst \
                         {burst} packets }} counter name ws_flooded {reject}"
                    ),
                ],
            ),
            chain(
                "ws_arrive",
                vec![
                    "meta nfproto ipv6 counter name ws_ipv6 drop".to_owned(),
                    "fib saddr . iif oif missing counter name ws_spoofed drop".to_owned(),
                    "iifname vmap @ws_bridges".to_owned(),
                    "counter name ws_refused drop".to_owned(),
                ],
            ),
        ]
    }

    /// The base chains, and the two ways that a workspace's packets go.
    fn hooks(&self) -> Vec<Chain> {
        let port = self.settings.dns_port;
        let ours = format!("iifname \"{PREFIX}*\"");
        let to_gateway = format!("{ours} fib daddr . iif type local");
        vec![
            chain(
                "ws_host",
                vec![
                    "ct state invalid drop".to_owned(),
                    // what the host itself asked a workspace
                    "ct direction reply ct state established,related accept".to_owned(),
                    // another bridge's gateway and the host's other addresses are not its own
                    "fib daddr . iif type != local goto ws_refuse".to_owned(),
                    "ct state new jump ws_flood".to_owned(),
                    format!("ct status dnat udp dport {port} accept"),
                    format!("ct status dnat tcp dport {port} accept"),
                    "goto ws_refuse".to_owned(),
                ],
            ),
            chain(
                "ws_leave",
                vec![
                    "ct state invalid drop".to_owned(),
                    // within one bridge, where the kernel filters that at all: what root attached
                    "iifname . oifname @ws_within accept".to_owned(),
                    format!("oifname \"{PREFIX}*\" goto ws_refuse"),
                    // a published port of the host leads elsewhere than its address says
                    "ct status dnat goto ws_refuse".to_owned(),
                    "ct state related meta l4proto icmp accept".to_owned(),
                    "ct state new jump ws_flood".to_owned(),
                    "ct direction original jump ws_policy".to_owned(),
                    "goto ws_refuse".to_owned(),
                ],
            ),
            chain(
                "ws_enter",
                vec![
                    "ct state related meta l4proto icmp accept".to_owned(),
                    "ct direction reply ct state established jump ws_policy".to_owned(),
                    "counter name ws_inbound drop".to_owned(),
                ],
            ),
            base(
                "ws_prerouting",
                ("filter", "prerouting", -300),
                vec![format!("{ours} goto ws_arrive")],
            ),
            // after whoever restores marks of connections at mangle
            base(
                "ws_mark",
                ("filter", "prerouting", -120),
                vec![format!("iifname @ws_open meta mark set meta mark or {MARK:#010x}")],
            ),
            base(
                "ws_resolve",
                ("nat", "prerouting", -110),
                vec![
                    format!("{to_gateway} udp dport 53 redirect to :{port}"),
                    format!("{to_gateway} tcp dport 53 redirect to :{port}"),
                ],
            ),
            base("ws_input", ("filter", "input", -10), vec![format!("{ours} goto ws_host")]),
            base(
                "ws_forward",
                ("filter", "forward", -10),
                vec![
                    format!("{ours} goto ws_leave"),
                    format!("oifname \"{PREFIX}*\" goto ws_enter"),
                ],
            ),
            base(
                "ws_masquerade",
                ("nat", "postrouting", 90),
                vec![format!("meta mark and {MARK:#010x} == {MARK:#010x} masquerade")],
            ),
        ]
    }
}

/// What is counted over the table's life.
pub(super) const COUNTERS: [&str; 5] =
    ["ws_ipv6", "ws_spoofed", "ws_refused", "ws_flooded", "ws_inbound"];

fn chain(name: &str, rules: Vec<String>) -> Chain {
    Chain { name: name.to_owned(), hook: None, rules }
}

fn base(name: &str, hook: (&'static str, &'static str, i32), rules: Vec<String>) -> Chain {
    Chain { name: name.to_owned(), hook: Some(hook), rules }
}

fn from(bridge: &str) -> String {
    format!("from-{bridge}")
}

fn of_client(client: ClientId) -> String {
    format!("client-{client}")
}

fn of_bridge((name, bridge): (&String, &Bridge)) -> Chain {
    let rules = vec![
        format!("ip saddr != {} counter name ws_spoofed drop", bridge.subnet),
        "accept".to_owned(),
    ];
    Chain { name: from(name), hook: None, rules }
}

fn accept(destination: &Destination) -> String {
    let ((first, bits), port) = (destination.range(), destination.port());
    let transport = destination.transport().as_str();
    format!(
        "ct original ip daddr {first}/{bits} meta l4proto {transport} ct original proto-dst {port} \
         accept"
    )
}

fn write_chain(out: &mut String, chain: &Chain) {
    line(out, format_args!("chain {} {{", chain.name));
    if let Some((kind, hook, priority)) = chain.hook {
        line(out, format_args!("type {kind} hook {hook} priority {priority}; policy accept;"));
    }
    for rule in &chain.rules {
        line(out, format_args!("{rule}"));
    }
    line(out, format_args!("}}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // writing to a String cannot fail
    let _ = out.write_fmt(text);
    out.push('\n');
}
