//! The plan of a container and of its network: a closed set of facts, made by pure functions.
//!
//! A [`ContainerPlan`] has no field for capabilities, privileges, devices, namespaces of the host,
//! ports or volume drivers: there is nothing to pass them through. What is constant for every
//! workspace is a constant here; what varies comes from the order's validated types and from the
//! node's [`Ground`].

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use warren_common::{
    Bytes, ClusterId, MilliCpus, NodeId, WorkspaceAddress, WorkspaceId, spec::WorkspaceOrder,
};

use crate::hooks;

/// Who everything in a workspace runs as.
pub const USER: &str = "1000:1000";
/// Where the home volume is mounted.
pub const HOME: &str = "/home/agent";
/// The entrypoint: PID 1 of every workspace.
pub const INSIDE: &str = "/warren/inside";
/// The folder that holds the agent's socket.
pub const RUN: &str = "/warren/run";
/// Name of the agent's socket in its folder.
pub const SOCKET: &str = "agent.sock";
/// Where its secrets are, a file each.
pub const SECRETS: &str = "/run/secrets";
/// Name of the file that says which repository git's helper answers for, in the folder of the agent's
/// socket.
pub const REPOSITORY: &str = "repository";
/// Name of the file that names the workspace's resolver, in the folder of the agent's socket.
pub const RESOLV_CONF: &str = "resolv.conf";
/// Open files of one process, at most.
pub const OPEN_FILES: u64 = 65_536;
/// Added to the score by which the kernel chooses a victim: workspaces go before daemons.
pub const OOM_SCORE_ADJ: i64 = 500;
/// Paths of the kernel that are hidden, in order: whatever tells of the host or of its other
/// programs, whichever of them a version of the engine hides by itself. One that a kernel has not is
/// no error.
pub const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/debug",
];
/// Paths of the kernel that are there to be read only, in order.
pub const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// The label that names the request which asked for the run. It says where a container comes from
/// and not what it is: a container that differs in nothing else is the same.
pub const REQUEST_LABEL: &str = "warren.request";
/// Shared memory, at most; half of a small workspace's memory. It counts towards the cap.
const SHM_MAX: Bytes = Bytes::mib(256);
/// Programs a person installs in the home come first.
const PATH: &str = "/home/agent/.local/bin:/home/agent/.cargo/bin:/usr/local/sbin:\
                    /usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the node adds to an order: places and abilities, never a wish of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// The cluster, for labels.
    pub cluster: ClusterId,
    /// This node, for labels.
    pub node: NodeId,
    /// Parent cgroup as the engine's driver wants it: the workspace's own, from
    /// [`crate::host::cgroup::level::workspace_parent`].
    pub cgroup_parent: String,
    /// The static PID 1 on the host.
    pub inside: PathBuf,
    /// The folder of the agents' hook files on the host.
    pub hooks: PathBuf,
    /// The workspace's folder with the agent's socket on the host.
    pub run: PathBuf,
    /// The folder of the workspace's secrets on the host.
    pub secrets: PathBuf,
    /// The home volume on the host.
    pub home: PathBuf,
    /// Disk-backed `/tmp` on the host, in the pool of the home.
    pub tmp: PathBuf,
    /// What kernel and engine can do.
    pub abilities: Abilities,
    /// The runtime that the order's isolation tier asks for; the engine's own without it.
    pub runtime: Option<String>,
    /// The node's resolver as the workspace reaches it: its gateway. None before there is a network.
    pub resolver: Option<Ipv4Addr>,
}

/// What kernel and engine can do; a missing one weakens the container and is a preflight finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Swap is counted, so a cap on it can be set.
    pub swap_limit: bool,
    /// Processes can be capped.
    pub pids_limit: bool,
    /// The `docker-default` AppArmor profile can be used.
    pub apparmor: bool,
    /// The kernel has IPv6, so it must be switched off inside.
    pub ipv6: bool,
    /// Open files that can be given to a process; a host may be held below [`OPEN_FILES`] itself.
    pub open_files: u64,
}

/// The whole of one workspace's container, for an engine to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// `warren-<client>-<workspace>-<8 hex>`.
    pub name: String,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// The image by tag or digest; its entrypoint, user and environment are not used.
    pub image: String,
    /// The host name inside: the workspace's name.
    pub hostname: String,
    /// Environment of PID 1, never a secret.
    pub env: BTreeMap<String, String>,
    /// Labels by which the container is found again.
    pub labels: BTreeMap<String, String>,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// Hard cap.
    pub memory: Bytes,
    /// Memory and swap together; none where the kernel does not count swap.
    pub memory_and_swap: Option<Bytes>,
    /// Size of `/dev/shm`.
    pub shm: Bytes,
    /// Processes and threads; none where the kernel does not count them.
    pub pids: Option<u32>,
    /// Weight of the processor.
    pub cpu_weight: u32,
    /// Hard cap of the processor.
    pub cpus: Option<MilliCpus>,
    /// Open files of one process.
    pub open_files: u64,
    /// Folders and files of the host, in the order of mounting.
    pub mounts: Vec<Mount>,
    /// Memory filesystems.
    pub tmpfs: Vec<Tmpfs>,
    /// Name of the workspace's own network.
    pub network: String,
    /// Kernel settings of its network namespace.
    pub sysctls: BTreeMap<String, String>,
    /// Whether the AppArmor profile `docker-default` is named.
    pub apparmor: bool,
    /// The runtime it is run by; the engine's own without it.
    #[serde(default)]
    pub runtime: Option<String>,
    /// Whom the engine's own resolver may ask: the node's and nobody else.
    #[serde(default)]
    pub resolver: Option<Ipv4Addr>,
    /// The system-call filter lets a browser make the namespaces of its sandbox.
    #[serde(default)]
    pub browser_sandbox: bool,
}

/// The caps of a container that can be changed while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// Hard cap of memory.
    pub memory: Bytes,
    /// Memory and swap together; none where the kernel does not count swap.
    pub memory_and_swap: Option<Bytes>,
    /// Hard cap of the processor; none, or all cores there are, caps nothing.
    pub cpus: Option<MilliCpus>,
}

impl Caps {
    /// Returns the caps of an order.
    pub fn of(order: &WorkspaceOrder, abilities: Abilities) -> Self {
        let resources = &order.spec.resources;
        Self {
            memory: resources.memory,
            memory_and_swap: abilities.swap_limit.then(|| resources.memory.plus(resources.swap)),
            cpus: resources.cpus,
        }
    }

    /// Returns whether a container with `other` is held as these say, on a machine with `cores`:
    /// an engine cannot take a processor cap away again, only raise it to all there is.
    pub fn are_met_by(&self, other: &Self, cores: MilliCpus) -> bool {
        let capped = |cpus: Option<MilliCpus>| cpus.filter(|cap| *cap < cores);
        self.memory == other.memory
            && self.memory_and_swap == other.memory_and_swap
            && capped(self.cpus) == capped(other.cpus)
    }
}

/// One bind mount, private, never recursive into the host's later mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path on the host.
    pub source: PathBuf,
    /// Path inside.
    pub target: String,
    /// Whether the workspace can only read it.
    pub read_only: bool,
}

/// One memory filesystem, counted towards the memory cap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Path inside.
    pub target: String,
    /// Mount options.
    pub options: String,
}

/// The network of one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// `wrn-<8 hex>`: name of the network and of its bridge.
    pub name: String,
    /// The node's range, such as `10.213.0.0/16`, out of which a free /28 is taken.
    pub range: String,
    /// Labels by which it is found again.
    pub labels: BTreeMap<String, String>,
}

impl ContainerPlan {
    /// Returns the host's side of a mount, by its path inside.
    pub fn source(&self, target: &str) -> Option<&Path> {
        let mount = self.mounts.iter().find(|mount| mount.target == target)?;
        Some(&mount.source)
    }

    /// Returns the labels that say what the container is: all but [`REQUEST_LABEL`].
    pub fn own_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.remove(REQUEST_LABEL);
        labels
    }

    /// Returns the caps that can be changed while it runs.
    pub const fn caps(&self) -> Caps {
        Caps { memory: self.memory, memory_and_swap: self.memory_and_swap, cpus: self.cpus }
    }

    /// Returns the plan of the same container with other caps: shared memory stays as it was made.
    #[must_use]
    pub fn with_caps(self, caps: Caps) -> Self {
        let Caps { memory, memory_and_swap, cpus } = caps;
        Self { memory, memory_and_swap, cpus, ..self }
    }

    /// Returns whether a container made from `other` is what this plan asks for.
    pub fn is_same(&self, other: &Self) -> bool {
        self.own_labels() == other.own_labels()
            && *self == Self { labels: self.labels.clone(), ..other.clone() }
    }
}

/// Returns the name of a workspace's network and bridge: 12 characters, of the 15 a device may have.
pub fn network_name(workspace: WorkspaceId) -> String {
    format!("wrn-{}", workspace.short())
}

/// Returns the name of a workspace's container.
pub fn container_name(address: &WorkspaceAddress, workspace: WorkspaceId) -> String {
    format!("warren-{}-{}-{}", address.client, address.workspace, workspace.short())
}

/// Plans the network of an order's workspace out of the node's range.
pub fn plan_network(order: &WorkspaceOrder, ground: &Ground, range: &str) -> NetworkPlan {
    NetworkPlan {
        name: network_name(order.workspace),
        range: range.to_owned(),
        labels: [
            ("warren.cluster".to_owned(), ground.cluster.to_string()),
            ("warren.node".to_owned(), ground.node.to_string()),
            ("warren.workspace".to_owned(), order.workspace.to_string()),
        ]
        .into(),
    }
}

/// Plans the container of an order. Total: a valid order and any ground give a plan.
pub fn plan(order: &WorkspaceOrder, ground: &Ground) -> ContainerPlan {
    let resources = &order.spec.resources;
    let abilities = ground.abilities;
    ContainerPlan {
        name: container_name(&order.address, order.workspace),
        workspace: order.workspace,
        image: order.spec.image.clone(),
        hostname: order.address.workspace.to_string(),
        env: env(order),
        labels: labels(order, ground),
        cgroup_parent: ground.cgroup_parent.clone(),
        memory: resources.memory,
        memory_and_swap: abilities.swap_limit.then(|| resources.memory.plus(resources.swap)),
        shm: SHM_MAX.min(Bytes(resources.memory.0 / 2)),
        pids: abilities.pids_limit.then_some(resources.pids),
        cpu_weight: resources.cpu_weight,
        cpus: resources.cpus,
        open_files: abilities.open_files.min(OPEN_FILES),
        mounts: mounts(ground),
        tmpfs: vec![Tmpfs {
            target: "/run".to_owned(),
            options: "rw,nosuid,nodev,noexec,size=16m,uid=1000,gid=1000,mode=755".to_owned(),
        }],
        network: network_name(order.workspace),
        sysctls: sysctls(abilities),
        apparmor: abilities.apparmor,
        runtime: ground.runtime.clone(),
        resolver: ground.resolver,
        browser_sandbox: order.spec.browser_sandbox(),
    }
}

/// A fixed list: nothing of an order reaches it but the address and the run.
fn env(order: &WorkspaceOrder) -> BTreeMap<String, String> {
    [
        ("HOME", HOME.to_owned()),
        ("USER", "agent".to_owned()),
        ("LOGNAME", "agent".to_owned()),
        ("SHELL", "/bin/bash".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("PATH", PATH.to_owned()),
        // where tools put what a person installs: the home, since the root is read-only
        ("NPM_CONFIG_PREFIX", format!("{HOME}/.local")),
        ("PNPM_HOME", format!("{HOME}/.local/bin")),
        ("BUN_INSTALL", format!("{HOME}/.local")),
        ("PIP_USER", "1".to_owned()),
        ("PIP_BREAK_SYSTEM_PACKAGES", "1".to_owned()),
        // coding agents: the image says which version runs, and Gemini's second process takes the
        // host's memory for its own
        ("DISABLE_AUTOUPDATER", "1".to_owned()),
        ("GEMINI_CLI_NO_RELAUNCH", "true".to_owned()),
        // beside what the image says of its own
        ("GIT_CONFIG_SYSTEM", hooks::GIT.target.to_owned()),
        // in memory: what gh keeps of a token goes into no home and no backup
        ("GH_CONFIG_DIR", "/run/tools/gh".to_owned()),
        ("WARREN_SOCKET", format!("{RUN}/{SOCKET}")),
        ("WARREN_RUN_SERIAL", order.run_serial.to_string()),
        ("WARREN_WORKSPACE", order.address.to_string()),
    ]
    .into_iter()
    // what the image starts browsers with follows it
    .chain(order.spec.browser_sandbox().then(|| ("WARREN_BROWSER_SANDBOX", "1".to_owned())))
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn labels(order: &WorkspaceOrder, ground: &Ground) -> BTreeMap<String, String> {
    [
        ("warren.cluster", ground.cluster.to_string()),
        ("warren.node", ground.node.to_string()),
        ("warren.workspace", order.workspace.to_string()),
        ("warren.generation", order.generation.0.to_string()),
        ("warren.run", order.run_serial.to_string()),
    ]
    .into_iter()
    .chain(order.request.map(|request| (REQUEST_LABEL, request.to_string())))
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn mounts(ground: &Ground) -> Vec<Mount> {
    let mount = |source: &Path, target: &str, read_only| Mount {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    };
    let mut mounts = vec![
        mount(&ground.home, HOME, false),
        mount(&ground.tmp, "/tmp", false),
        mount(&ground.inside, INSIDE, true),
        mount(&ground.run, RUN, true),
        mount(&ground.secrets, SECRETS, true),
    ];
    for file in hooks::FILES.into_iter().chain([hooks::GIT]) {
        mounts.push(mount(&ground.hooks.join(file.name), file.target, true));
    }
    if ground.resolver.is_some() {
        // its resolvers, whatever the engine would write there
        mounts.push(mount(&ground.run.join(RESOLV_CONF), "/etc/resolv.conf", true));
    }
    mounts
}

fn sysctls(abilities: Abilities) -> BTreeMap<String, String> {
    // no group may open ICMP sockets; runc's default would let all
    let mut sysctls: BTreeMap<String, String> =
        [("net.ipv4.ping_group_range".to_owned(), "1 0".to_owned())].into();
    if abilities.ipv6 {
        sysctls.insert("net.ipv6.conf.all.disable_ipv6".to_owned(), "1".to_owned());
    }
    sysctls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::fixture::{ground, order};

    #[test]
    fn names_fit_devices_and_are_found_again() {
        let (order, ground) = (order(), ground());
        let plan = plan(&order, &ground);
        assert_eq!(plan.name, "warren-acme-web-deadbeef");
        assert_eq!(plan.network, "wrn-deadbeef");
        assert!(plan.network.len() <= 15);
        assert_eq!(plan.hostname, "web");
        assert_eq!(plan.labels["warren.generation"], order.generation.0.to_string());
        assert_eq!(plan.labels["warren.run"], "7");
        let network = plan_network(&order, &ground, "10.213.0.0/16");
        assert_eq!(network.name, plan.network);
        assert_eq!(network.labels["warren.workspace"], order.workspace.to_string());
    }

    #[test]
    fn a_request_names_the_container_and_does_not_change_it() {
        let (mut order, ground) = (order(), ground());
        let without = plan(&order, &ground);
        assert_eq!(without.labels.get(REQUEST_LABEL), None);
        let id = "0199a0b2-7f00-7000-8000-0000000000cc";
        order.request = Some(id.parse().expect("an id"));
        let with = plan(&order, &ground);
        assert_eq!(with.labels[REQUEST_LABEL], id);
        assert!(with.is_same(&without) && without.is_same(&with));
        order.run_serial += 1;
        assert!(!plan(&order, &ground).is_same(&with), "another run is another container");
    }

    #[test]
    fn memory_and_swap_are_always_explicit() {
        let mut order = order();
        order.spec.resources.memory = Bytes::mib(256);
        order.spec.resources.swap = Bytes::mib(64);
        let plan = super::plan(&order, &ground());
        assert_eq!(plan.memory, Bytes::mib(256));
        assert_eq!(plan.memory_and_swap, Some(Bytes::mib(320)));
        assert_eq!(plan.shm, Bytes::mib(128), "half of a small workspace");
        order.spec.resources.memory = Bytes::gib(8);
        assert_eq!(super::plan(&order, &ground()).shm, Bytes::mib(256));
    }

    #[test]
    fn caps_are_met_by_no_cap_and_by_all_cores_alike() {
        let mut order = order();
        let cores = MilliCpus(2000);
        let none = Caps::of(&order, ground().abilities);
        order.spec.resources.cpus = Some(MilliCpus(500));
        let half = Caps::of(&order, ground().abilities);
        let all = Caps { cpus: Some(cores), ..none };
        assert!(none.are_met_by(&none, cores) && none.are_met_by(&all, cores));
        assert!(all.are_met_by(&none, cores) && half.are_met_by(&half, cores));
        assert!(!half.are_met_by(&none, cores) && !none.are_met_by(&half, cores));
        let more = Caps { memory: none.memory.plus(Bytes(1)), ..none };
        assert!(!more.are_met_by(&none, cores) && !none.are_met_by(&more, cores));
        assert_eq!(plan(&order, &ground()).caps(), half);
    }

    #[test]
    fn only_home_and_tmp_can_be_written() {
        let plan = plan(&order(), &ground());
        let writable: Vec<&str> = plan
            .mounts
            .iter()
            .filter(|mount| !mount.read_only)
            .map(|mount| mount.target.as_str())
            .collect();
        assert_eq!(writable, [HOME, "/tmp"]);
        assert_eq!(plan.source(RUN), Some(Path::new("/run/warren/n1/w")));
        assert_eq!(plan.source("/etc"), None);
    }

    #[test]
    fn each_agent_finds_its_hooks_where_nobody_inside_can_take_them_away() {
        let plan = plan(&order(), &ground());
        for (target, name) in [
            ("/etc/claude-code/managed-settings.json", "claude.json"),
            ("/etc/codex/requirements.toml", "codex.toml"),
            ("/etc/gemini-cli/settings.json", "gemini.json"),
        ] {
            let mount = plan.mounts.iter().find(|mount| mount.target == target).expect(target);
            assert!(mount.read_only, "{target}");
            assert_eq!(mount.source, Path::new("/var/lib/warren/node/hooks").join(name));
        }
    }
}
