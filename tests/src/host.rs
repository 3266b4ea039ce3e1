//! Hosts on one machine: a network namespace each, joined by a bridge in a namespace of its own,
//! so that the machine's own network is never touched.

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Program, Stage};

/// The table with which a host drops one direction, in its own namespace.
const DROP: &str = "warren-test-drop";

/// The wire between the hosts of one stage: a bridge in its own namespace.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    hosts: u8,
}

/// One host: a network namespace with one address on the wire.
#[derive(Debug)]
pub struct Host {
    name: String,
    space: String,
    switch: String,
    port: String,
    address: String,
}

impl Network {
    /// Makes the wire.
    ///
    /// # Errors
    /// Fails without root or `ip`.
    pub fn new(stage: &Stage) -> Result<Self> {
        let network = Self { prefix: stage.prefix().to_owned(), hosts: 0 };
        let switch = network.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        Ok(network)
    }

    /// Adds a host with the next address of 203.0.113.0/24: a range for documentation, so that it is
    /// the internet to whoever tells private ranges apart.
    ///
    /// # Errors
    /// Fails where a step of the wiring fails.
    pub fn host(&mut self, name: &str) -> Result<Host> {
        self.hosts += 1;
        let switch = self.switch();
        let space = format!("{}-{name}", self.prefix);
        let port = format!("p{}", self.hosts);
        let address = format!("203.0.113.{}", self.hosts);
        ip(&["netns", "add", &space])?;
        ip(&[
            "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
            &space,
        ])?;
        ip(&["-n", &switch, "link", "set", &port, "master", "br0"])?;
        ip(&["-n", &switch, "link", "set", &port, "up"])?;
        ip(&["-n", &space, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", &space, "link", "set", "eth0", "up"])?;
        ip(&["-n", &space, "link", "set", "lo", "up"])?;
        Ok(Host { name: name.to_owned(), space, switch, port, address })
    }

    /// Adds a host behind a router that hides it: it reaches the wire under the router's address,
    /// and nothing on the wire reaches it by itself.
    ///
    /// # Errors
    /// Fails where a step of the wiring fails, or without `nft`.
    pub fn hidden_host(&mut self, name: &str) -> Result<(Host, Host)> {
        let router = self.host(&format!("{name}r"))?;
        let space = format!("{}-{name}", self.prefix);
        let inner = &router.space;
        ip(&["netns", "add", &space])?;
        ip(&[
            "-n", inner, "link", "add", "in0", "type", "veth", "peer", "name", "eth0", "netns",
            &space,
        ])?;
        ip(&["-n", inner, "address", "add", "192.168.77.1/24", "dev", "in0"])?;
        ip(&["-n", inner, "link", "set", "in0", "up"])?;
        ip(&["-n", &space, "address", "add", "192.168.77.2/24", "dev", "eth0"])?;
        ip(&["-n", &space, "link", "set", "eth0", "up"])?;
        ip(&["-n", &space, "link", "set", "lo", "up"])?;
        ip(&["-n", &space, "route", "add", "default", "via", "192.168.77.1"])?;
        router.program("sysctl").args(["-qw", "net.ipv4.ip_forward=1"]).run()?.success()?;
        router.nft(
            "table ip hide { chain out { type nat hook postrouting priority 100; \
             oifname \"eth0\" masquerade; }; chain in { type filter hook forward priority 0; \
             iifname \"eth0\" ct state new drop; }; }\n",
        )?;
        let host = Host {
            name: name.to_owned(),
            space,
            switch: router.space.clone(),
            port: "in0".to_owned(),
            address: "192.168.77.2".to_owned(),
        };
        Ok((host, router))
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        delete(&self.switch());
    }
}

impl Host {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its address on the wire.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Names a program to be run in this host's network.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Program {
        // not `ip netns exec`: it remounts /sys and hides the cgroups
        let net = format!("--net=/run/netns/{}", self.space);
        Program::new("nsenter").args([net.as_str(), "--"]).args([program])
    }

    /// Cuts the host off, both ways.
    ///
    /// # Errors
    /// Fails where the link is gone.
    pub fn cut(&self) -> Result<()> {
        ip(&["-n", &self.switch, "link", "set", &self.port, "down"])
    }

    /// Mends what [`Host::cut`] did.
    ///
    /// # Errors
    /// Fails where the link is gone.
    pub fn mend(&self) -> Result<()> {
        ip(&["-n", &self.switch, "link", "set", &self.port, "up"])
    }

    /// Drops what comes in or what goes out, of connections that are open too; the host's own
    /// loopback is left alone. Done again, it drops the one that was named last.
    ///
    /// # Errors
    /// Fails without `nft`.
    pub fn cut_one_way(&self, way: Way) -> Result<()> {
        let (hook, side) = match way {
            Way::In => ("input", "iifname"),
            Way::Out => ("output", "oifname"),
        };
        self.nft(&format!(
            "add table inet {DROP}\ndelete table inet {DROP}\ntable inet {DROP} {{ chain one {{ \
             type filter hook {hook} priority 0; {side} \"eth0\" drop; }}; }}\n"
        ))
    }

    /// Mends what [`Host::cut_one_way`] did.
    ///
    /// # Errors
    /// Fails without `nft`.
    pub fn mend_one_way(&self) -> Result<()> {
        // added first, so that there is one to delete
        self.nft(&format!("add table inet {DROP}\ndelete table inet {DROP}\n"))
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let nft = self.program("nft").args(["-f", "-"]).input(rules);
        nft.within(Duration::from_secs(20)).run()?.success().map(drop)
    }

    /// Drops what comes from these hosts, of connections that are open too. Done again, it drops
    /// what comes from those that were named last; from none it drops nothing.
    ///
    /// # Errors
    /// Fails without `nft`.
    pub fn ignore(&self, others: &[&Self]) -> Result<()> {
        let addresses: Vec<&str> = others.iter().map(|other| other.address()).collect();
        if addresses.is_empty() {
            return self.mend_one_way();
        }
        self.nft(&format!(
            "add table inet {DROP}\ndelete table inet {DROP}\ntable inet {DROP} {{ chain one {{ \
             type filter hook input priority 0; ip saddr {{ {} }} drop; }}; }}\n",
            addresses.join(", ")
        ))
    }

    /// Moves the calling thread into this host's network: sockets it makes from now on are there.
    ///
    /// # Errors
    /// Fails where the namespace is gone.
    pub fn enter(&self) -> Result<()> {
        let path = format!("/run/netns/{}", self.space);
        let space = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(space.as_fd(), network)
            .with_context(|| format!("cannot enter {path}"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        delete(&self.space);
    }
}

/// One direction of what travels between a host and the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the host.
    In,
    /// From the host.
    Out,
}

/// Returns whether the machine lets us make hosts and has what they need beside, or why not.
///
/// # Errors
/// Fails without root, `ip`, `nsenter`, or one of `programs`.
pub fn check(programs: &[&str]) -> Result<()> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "hosts are network namespaces: run as root"
    );
    for program in ["ip", "nsenter"].iter().chain(programs) {
        Program::new(program)
            .args(["--version"])
            .run()
            .with_context(|| format!("{program} is missing"))?;
    }
    Ok(())
}

fn delete(space: &str) {
    if fs::exists(format!("/run/netns/{space}")).unwrap_or(false)
        && let Err(error) = ip(&["netns", "delete", space])
    {
        eprintln!("{error:#}");
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    Program::new("ip").args(arguments).within(Duration::from_secs(20)).run()?.success().map(drop)
}
