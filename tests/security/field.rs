//! A node with two workspaces, and around it everything that a workspace must not reach.
//!
//! One host plays the rest of the world under many addresses: the internet (documentation ranges), a
//! metadata service, private networks, a coordinator elsewhere, a resolver.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result};
use warren_tests::{Lab, Output, lab::Around, wait_until};

use crate::{
    canary::{self, Log, Stop},
    probe::Switch,
};

/// The internet, and the resolver that the node asks.
pub(crate) const INTERNET: &str = "203.0.113.2";
/// A host of an attacker in the internet.
pub(crate) const EVIL: &str = "198.51.100.66";
/// A coordinator of the cluster that is not on the node.
pub(crate) const COORDINATOR: &str = "198.51.100.9";
/// The node.
pub(crate) const NODE: &str = "203.0.113.1";
/// A host of the operator's private network.
pub(crate) const LAN: &str = "192.168.77.10";
/// Others of ranges that are closed.
pub(crate) const CLOSED: [&str; 4] = ["10.1.2.5", "172.16.9.9", "100.64.0.10", "198.18.0.10"];
/// Every cloud's metadata service.
pub(crate) const METADATA: &str = "169.254.169.254";
/// Ports on which the world greets.
const WORLD: [u16; 5] = [22, 443, 853, 5432, 7400];
/// Ports on which the node greets, on every address it has.
const HOST: [u16; 3] = [22, 2375, 2222];
/// Where a datagram is noted.
pub(crate) const SINK: u16 = 9999;
/// A port of the node that leads to [`LAN`], as a published port does.
pub(crate) const PUBLISHED: u16 = 8088;
/// An address of the internet's that the node, as an operator's own rules may, leads to [`LAN`].
pub(crate) const LED: &str = "198.51.100.80";

/// The field.
pub(crate) struct Field {
    pub(crate) lab: Lab,
    pub(crate) log: Log,
    a: String,
    _stop: Stop,
}

/// Where names lead, as the world's resolver tells it.
fn find(name: &str) -> Ipv4Addr {
    let address = match name.split('.').next() {
        Some("metadata") => METADATA,
        Some("lan") => LAN,
        _ => INTERNET,
    };
    address.parse().unwrap_or(Ipv4Addr::UNSPECIFIED)
}

impl Field {
    /// Builds it, with `more` lines in the node's `[network]`.
    pub(crate) fn new(more: &str) -> Result<Self> {
        let around = Around {
            top: format!("coordinators = [\"{COORDINATOR}:7400\"]\n"),
            bottom: format!("[network]\nresolvers = [\"{INTERNET}\"]\n{more}\n"),
            ..Around::default()
        };
        Self::around(&around)
    }

    /// Builds it around a node as it is configured.
    pub(crate) fn around(around: &Around) -> Result<Self> {
        let lab = Lab::around(around)?;
        let (log, stop) = (Log::default(), Stop::default());
        let world = || lab.internet.program("ip");
        let node = || lab.node.program("ip");
        for address in [EVIL, COORDINATOR, LAN, METADATA].iter().chain(&CLOSED) {
            let address = format!("{address}/32");
            world().args(["address", "add", &address, "dev", "eth0"]).run()?.success()?;
            node().args(["route", "add", &address, "dev", "eth0"]).run()?.success()?;
        }
        for port in WORLD {
            canary::tcp(&lab.internet, port, &log, &stop)?;
        }
        for port in HOST {
            canary::tcp(&lab.node, port, &log, &stop)?;
        }
        for port in [SINK, 443, 853] {
            canary::udp(&lab.internet, port, &log, &stop)?;
        }
        canary::udp(&lab.node, SINK, &log, &stop)?;
        canary::resolver(&lab.internet, &log, &stop, find)?;
        lab.node
            .program("nft")
            .args(["-f", "-"])
            .input(format!(
                "table ip published {{ chain lead {{ type nat hook prerouting priority dstnat; \
                 ip daddr {{ {NODE}, {LED} }} tcp dport {PUBLISHED} dnat to {LAN}:5432; }}; }}\n"
            ))
            .run()?
            .success()?;
        lab.create("acme/a", &[])?;
        lab.create("beta/b", &[])?;
        let a = lab.container("acme/a")?["Id"].as_str().context("an id")?.to_owned();
        Ok(Self { lab, log, a, _stop: stop })
    }

    /// Runs a line as A's user, by the engine alone: no agent is needed.
    pub(crate) fn in_a(&self, line: &str) -> Result<Output> {
        self.lab.engine.try_docker(&["exec", &self.a, "bash", "-c", line])
    }

    /// Runs a line as root in A's network namespace.
    pub(crate) fn in_network_of_a(&self, line: &str) -> Result<Output> {
        let pid = self.pid("acme/a")?.to_string();
        let enter = warren_tests::Program::new("nsenter").args(["-t", &pid, "-n", "--", "bash"]);
        enter.args(["-c", line]).run()
    }

    /// Returns a workspace's PID 1 on the host.
    pub(crate) fn pid(&self, address: &str) -> Result<u64> {
        self.lab.container(address)?["State"]["Pid"].as_u64().context("it runs")
    }

    /// Returns a workspace's bridge, its address and its gateway.
    pub(crate) fn network(&self, address: &str) -> Result<(String, String, String)> {
        let container = self.lab.container(address)?;
        let networks = container["NetworkSettings"]["Networks"].as_object().context("networks")?;
        let (bridge, network) = networks.iter().next().context("one network")?;
        let text = |key: &str| network[key].as_str().unwrap_or_default().to_owned();
        Ok((bridge.clone(), text("IPAddress"), text("Gateway")))
    }

    /// Runs `nft` on the node.
    pub(crate) fn nft(&self, rules: &str) -> Result<()> {
        let nft = self.lab.node.program("nft").args(["-f", "-"]).input(rules);
        nft.run()?.success().map(drop)
    }

    /// Returns the node's whole ruleset as text.
    pub(crate) fn ruleset(&self) -> Result<String> {
        Ok(self.lab.node.program("nft").args(["list", "ruleset"]).run()?.success()?.stdout)
    }

    /// Returns the priorities of routing rules that name our bridges.
    fn backstops(&self) -> Result<Vec<String>> {
        let listed = self.lab.node.program("ip").args(["rule", "show"]).run()?.success()?.stdout;
        let ours = listed.lines().filter(|line| line.contains("iif wrn-"));
        Ok(ours.filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect())
    }

    /// Takes the routing rules away.
    pub(crate) fn drop_backstops(&self) -> Result<()> {
        for priority in self.backstops()? {
            let delete = self.lab.node.program("ip").args(["rule", "del", "priority", &priority]);
            delete.run()?.success()?;
        }
        Ok(())
    }
}

/// Everything between a workspace and the network: the agent that guards it, the table, the routing
/// rules, and the engine's own rules, which must not be needed. What is left translates addresses
/// and nothing else, as a plain host does.
pub(crate) struct Walls;

impl Switch for Walls {
    fn off(&self, field: &mut Field) -> Result<()> {
        field.lab.cluster.nodes[0].kill()?;
        field.drop_backstops()?;
        field.nft(&format!(
            "flush ruleset\ntable ip plain {{ chain out {{ type nat hook postrouting priority \
             srcnat; ip saddr 10.213.0.0/16 oifname eth0 masquerade; }}; chain lead {{ type nat \
             hook prerouting priority dstnat; ip daddr {{ {NODE}, {LED} }} tcp dport {PUBLISHED} dnat \
             to {LAN}:5432; }}; }}\n"
        ))
    }

    fn on(&self, field: &mut Field) -> Result<()> {
        field.lab.cluster.nodes[0].start()?;
        let until = Duration::from_secs(30);
        wait_until("the table is loaded with both bridges", until, || {
            let ruleset = field.ruleset()?;
            anyhow::ensure!(ruleset.matches("goto from-wrn-").count() >= 2, "{ruleset}");
            Ok(())
        })?;
        field.lab.cluster.wait_ready("n1")
    }
}
