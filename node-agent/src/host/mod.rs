//! What this machine is and has, read from the kernel's own files.
//!
//! [`capacity`] counts memory, processors and disk, [`cgroup`] reads what a container uses,
//! [`levels`] makes the cgroup of each workspace, [`load`] reads the host, [`truth`] says what the
//! kernel knows of a running container, and [`preflight`] judges kernel and engine. Small facts are
//! here. Nothing is cached: files of the kernel are cheap to read, and a machine changes.

pub mod capacity;
pub mod cgroup;
pub mod freezer;
pub mod levels;
pub mod live_restore;
pub mod load;
pub mod preflight;
pub mod swapfile;
pub mod truth;

use std::{fs, io, net::Ipv4Addr, path::Path, sync::LazyLock};

use warren_common::BootId;

use crate::container::{Abilities, subnet::Subnet};
use crate::engine::EngineInfo;

/// Returns the parent cgroup of this node's workspaces in the form the engine's driver wants:
/// `/warren-<node>`, or a slice where systemd makes the cgroups.
pub fn cgroup_parent(node: &str, systemd: bool) -> String {
    match systemd {
        // a dash would nest slices
        true => format!("warren-{}.slice", node.replace('-', "_")),
        false => format!("/warren-{node}"),
    }
}

/// Returns the parents that this node's workspaces may have: the one that is configured, else the
/// place of either driver, since the engine may have had the other one.
pub fn cgroup_parents(named: Option<&str>, node: &str) -> Vec<String> {
    match named {
        Some(named) => vec![named.to_owned()],
        None => [true, false].map(|systemd| cgroup_parent(node, systemd)).to_vec(),
    }
}

/// Returns the id of the running boot.
///
/// # Errors
/// Where the kernel does not tell, which no Linux does.
pub fn boot_id() -> io::Result<BootId> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Returns the id of this installation of the system (`machine-id(5)`); empty where it has none.
pub fn machine_id() -> String {
    first_line("/etc/machine-id")
}

/// Returns the kernel's release, such as `6.1.0-28-amd64`; empty where it is not told.
pub fn kernel() -> String {
    first_line("/proc/sys/kernel/osrelease")
}

/// Returns the host's name; empty where it is not told.
pub fn hostname() -> String {
    first_line("/proc/sys/kernel/hostname")
}

/// Returns what kernel and engine can do for a container.
pub fn abilities(engine: &EngineInfo) -> Abilities {
    Abilities {
        swap_limit: engine.swap_limit,
        pids_limit: engine.pids_limit,
        apparmor: engine.apparmor,
        ipv6: Path::new("/proc/sys/net/ipv6").exists(),
        open_files: open_files(),
    }
}

/// Returns how many open files a process can be given here. Whoever may not raise limits (some
/// hosted machines take that right from root) is bound by the one the engine was started with,
/// which is taken to be this process's own.
fn open_files() -> u64 {
    static READ: LazyLock<u64> = LazyLock::new(read_open_files);
    *READ
}

fn read_open_files() -> u64 {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let powers = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let powers = powers.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    if (powers >> CAP_SYS_RESOURCE) & 1 == 1 {
        return u64::MAX;
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.maximum.unwrap_or(u64::MAX)
}

/// Raises how many files this process may hold open to what it is allowed: each workspace takes
/// about ten, and many systems start programs with 1,024.
pub fn raise_open_files() {
    const ENOUGH: u64 = 65_536;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = rustix::process::Rlimit { current: Some(wanted), maximum: limit.maximum };
        if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit on open files cannot be raised");
        }
    }
}

/// Returns the IPv4 ranges this host has routes to, default routes left out.
pub fn routes() -> Vec<Subnet> {
    parse_routes(&fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// Returns whether this process's network has a device of this name; it has where the kernel does
/// not tell.
pub fn has_device(name: &str) -> bool {
    match fs::read_to_string("/proc/self/net/dev") {
        Ok(text) => {
            let names = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
            names.into_iter().any(|device| device == name)
        }
        Err(_) => true,
    }
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Reads `/proc/net/route`: addresses are hexadecimal numbers in the machine's byte order.
fn parse_routes(text: &str) -> Vec<Subnet> {
    let address = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u32::from_be);
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (destination, mask) = (address(fields.get(1)?)?, address(fields.get(7)?)?);
        let bits = u8::try_from(mask.leading_ones()).ok()?;
        Subnet::new(Ipv4Addr::from(destination), bits).filter(|_| bits > 0)
    };
    text.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_and_the_default_is_none() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth0\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                    docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                    odd\n";
        let found: Vec<String> = parse_routes(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.0/16", "172.17.0.0/16"]);
    }

    #[test]
    fn this_machine_has_a_boot_and_a_kernel() {
        assert_eq!(boot_id().expect("a boot id"), boot_id().expect("the same"));
        assert!(!kernel().is_empty());
        assert!(!hostname().is_empty());
    }

    #[test]
    fn a_slice_is_never_nested_by_a_name() {
        assert_eq!(cgroup_parent("n-1", true), "warren-n_1.slice");
        assert_eq!(cgroup_parent("n-1", false), "/warren-n-1");
    }
}
