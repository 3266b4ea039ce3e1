//! Nodes as they are printed.

use serde::Serialize;
use warren_common::{Bytes, MilliCpus, Timestamp, spec::Labels};
use warren_proto::pb::{admin::v1 as pb, node::v1 as node};

use super::{
    Moment,
    event::{Event, Object},
    fields, filled, labels,
    measure::{Pressure, share},
    moment,
};
use crate::{
    follow::Watched,
    render::{
        Tabular,
        time::{age, rfc3339_seconds},
    },
};

/// One node.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) availability: &'static str,
    pub(crate) liveness: &'static str,
    pub(crate) reason: String,
    pub(crate) last_seen_at: Option<Moment>,
    pub(crate) joined_at: Option<Moment>,
    pub(crate) epoch: u64,
    pub(crate) workspaces: u32,
    pub(crate) reserved_memory_bytes: u64,
    pub(crate) capped_memory_bytes: u64,
    pub(crate) facts: Option<Facts>,
    pub(crate) usage: Option<Usage>,
    pub(crate) revision: u64,
    pub(crate) registered_at: Option<Moment>,
    /// When the renewal was sent that a leader last confirmed.
    pub(crate) lease_confirmed_at: Option<Moment>,
    /// Its clock less the coordinator's.
    pub(crate) clock_offset_ms: Option<i64>,
    /// It shrank below what is placed on it.
    pub(crate) overcommitted: bool,
    /// What the coordinators find, beside its own preflight.
    pub(crate) findings: Vec<Finding>,
    /// Isolation tiers that it offers.
    pub(crate) tiers: Vec<Tier>,
    /// Keys of the labels that the operator set; the others are the node's own.
    pub(crate) operator_labels: Vec<String>,
}

/// One isolation tier.
#[derive(Debug, Serialize)]
pub(crate) struct Tier {
    pub(crate) tier: &'static str,
    pub(crate) offered: bool,
    /// By what it is offered, or why it is not.
    pub(crate) why: String,
}

/// What a node is and has.
#[derive(Debug, Serialize)]
pub(crate) struct Facts {
    pub(crate) hostname: String,
    pub(crate) boot_id: String,
    pub(crate) allocatable_memory_bytes: u64,
    pub(crate) swap_bytes: u64,
    pub(crate) milli_cpus: u32,
    pub(crate) disk_bytes: u64,
    pub(crate) version: String,
    pub(crate) engine: Option<String>,
    pub(crate) kernel: String,
    pub(crate) cgroup: u32,
    pub(crate) labels: Labels,
    pub(crate) findings: Vec<Finding>,
}

/// One finding of its preflight.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) code: String,
    pub(crate) level: &'static str,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
}

/// What is free and what is used at the moment.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Usage {
    pub(crate) memory_available_bytes: u64,
    pub(crate) disk_available_bytes: u64,
    pub(crate) load_milli: u32,
    /// None where the agent is older than this.
    pub(crate) pool: Option<Pool>,
    pub(crate) memory_total_bytes: u64,
    pub(crate) swap_total_bytes: u64,
    pub(crate) swap_free_bytes: u64,
    pub(crate) busy_milli_cpus: u32,
    /// None where the kernel does not measure it.
    pub(crate) memory_pressure: Option<Pressure>,
    pub(crate) cpu_pressure: Option<Pressure>,
    pub(crate) io_pressure: Option<Pressure>,
    /// Fingerprint of the firewall's table as the node read it back; none where it has none.
    pub(crate) firewall: Option<String>,
}

/// Where its homes are kept.
#[derive(Debug, Serialize)]
pub(crate) struct Pool {
    pub(crate) kind: String,
    pub(crate) path: String,
    pub(crate) used_bytes: u64,
    pub(crate) available_bytes: u64,
}

impl From<node::PoolUsage> for Pool {
    fn from(pool: node::PoolUsage) -> Self {
        let word = warren_common::status::reason;
        let node::PoolUsage { kind, path, used_bytes, available_bytes } = pool;
        Self { kind: word(&kind), path: word(&path), used_bytes, available_bytes }
    }
}

impl From<pb::Node> for Node {
    fn from(node: pb::Node) -> Self {
        let usage = |usage: node::NodeUsage| Usage {
            memory_available_bytes: usage.memory_available_bytes,
            disk_available_bytes: usage.disk_available_bytes,
            load_milli: usage.load_milli,
            pool: usage.pool.map(Pool::from),
            memory_total_bytes: usage.memory_total_bytes,
            swap_total_bytes: usage.swap_total_bytes,
            swap_free_bytes: usage.swap_free_bytes,
            busy_milli_cpus: usage.busy_milli_cpus,
            memory_pressure: usage.memory_pressure.map(Pressure::from),
            cpu_pressure: usage.cpu_pressure.map(Pressure::from),
            io_pressure: usage.io_pressure.map(Pressure::from),
            firewall: (usage.firewall != 0).then(|| format!("{:016x}", usage.firewall)),
        };
        let (open, alive) = (node.availability(), node.liveness());
        let said = node.facts.as_ref();
        let tiers = said.map(|facts| tiers(&facts.labels.clone().into_iter().collect()));
        Self {
            tiers: tiers.unwrap_or_default(),
            registered_at: moment(node.registered_unix_ms),
            lease_confirmed_at: moment(node.lease_confirmed_unix_ms),
            clock_offset_ms: node.clock_offset_ms,
            overcommitted: node.overcommitted,
            findings: node.findings.into_iter().map(Finding::from).collect(),
            operator_labels: node.operator_labels,
            availability: availability(open),
            liveness: liveness(alive),
            id: node.id,
            name: node.name,
            reason: node.reason,
            last_seen_at: moment(node.last_seen_unix_ms),
            joined_at: moment(node.joined_unix_ms),
            epoch: node.epoch,
            workspaces: node.workspaces,
            reserved_memory_bytes: node.reserved_memory_bytes,
            capped_memory_bytes: node.capped_memory_bytes,
            facts: node.facts.map(Facts::from),
            usage: node.usage.map(usage),
            revision: node.revision,
        }
    }
}

impl From<node::NodeFacts> for Facts {
    fn from(facts: node::NodeFacts) -> Self {
        Self {
            hostname: facts.hostname,
            boot_id: facts.boot_id,
            allocatable_memory_bytes: facts.allocatable_memory_bytes,
            swap_bytes: facts.swap_bytes,
            milli_cpus: facts.milli_cpus,
            disk_bytes: facts.disk_bytes,
            version: facts.version,
            engine: filled(&facts.engine),
            kernel: facts.kernel,
            cgroup: facts.cgroup,
            labels: facts.labels.into_iter().collect(),
            findings: facts.findings.into_iter().map(Finding::from).collect(),
        }
    }
}

impl From<node::Finding> for Finding {
    fn from(finding: node::Finding) -> Self {
        let level = match finding.level() {
            node::FindingLevel::Unspecified => "unknown",
            node::FindingLevel::Warning => "warning",
            node::FindingLevel::Blocking => "blocking",
        };
        Self { code: finding.code, level, message: finding.message, fix: filled(&finding.fix) }
    }
}

/// The label of a client's own node.
const CLIENT_LABEL: &str = "warren.client";
/// What the labels begin with that a node agent sets from its engine.
const TIER_LABELS: &str = "warren.tier.";

/// Reads which tiers a node's labels offer.
fn tiers(labels: &Labels) -> Vec<Tier> {
    let of_engine = |tier: &'static str, not: &str| {
        let label = labels.get(&format!("{TIER_LABELS}{tier}"));
        let why = label.cloned().unwrap_or_else(|| not.to_owned());
        Tier { tier, offered: label.is_some(), why }
    };
    let own = labels.get(CLIENT_LABEL);
    let dedicated = match own {
        Some(client) => format!("kept for client {client}"),
        None => format!("no label {CLIENT_LABEL}=NAME"),
    };
    vec![
        Tier { tier: "container", offered: true, why: "every node".to_owned() },
        of_engine("userns", "its engine does not remap user ids"),
        of_engine("gvisor", "its engine has no runtime runsc that runs"),
        Tier { tier: "dedicated", offered: own.is_some(), why: dedicated },
    ]
}

const fn availability(availability: pb::NodeAvailability) -> &'static str {
    match availability {
        pb::NodeAvailability::Unspecified => "unknown",
        pb::NodeAvailability::Active => "active",
        pb::NodeAvailability::Cordoned => "cordoned",
        pb::NodeAvailability::Draining => "draining",
        pb::NodeAvailability::Retired => "retired",
    }
}

const fn liveness(liveness: pb::NodeLiveness) -> &'static str {
    match liveness {
        pb::NodeLiveness::Unspecified => "unknown",
        pb::NodeLiveness::Joining => "joining",
        pb::NodeLiveness::Ready => "ready",
        pb::NodeLiveness::Suspect => "suspect",
        pb::NodeLiveness::Unreachable => "unreachable",
        pb::NodeLiveness::Lost => "lost",
    }
}

impl Node {
    pub(crate) fn status(&self) -> String {
        match self.availability {
            // an event does not tell how a node lives
            other if self.liveness == "unknown" => other.to_owned(),
            "active" => self.liveness.to_owned(),
            other => format!("{}, {other}", self.liveness),
        }
    }

    /// The blocking finding where there is one, else why it is not ready.
    fn table_reason(&self) -> String {
        let findings = self.facts.as_ref().map_or(&[][..], |facts| &facts.findings);
        if let Some(finding) = self.findings.first() {
            return format!("{}: {}", finding.code, finding.message);
        }
        match findings.iter().find(|finding| finding.level == "blocking") {
            Some(finding) => format!("{}: {}", finding.code, finding.message),
            None if self.overcommitted => "overcommitted: it takes nothing new".to_owned(),
            None if self.liveness == "ready" && self.availability == "active" => String::new(),
            None => self.reason.clone(),
        }
    }

    /// Returns the page that `node show` prints.
    pub(crate) fn text(&self, now: Timestamp) -> String {
        let ago = |at: Option<Moment>| at.map_or_else(|| "-".to_owned(), |at| age(at.0, now));
        let seen = self.last_seen_at.map_or_else(
            || "never".to_owned(),
            |at| format!("{} ago ({})", age(at.0, now), rfc3339_seconds(at.0)),
        );
        let mut rows = vec![
            ("node", self.name.clone()),
            ("id", self.id.clone()),
            ("status", self.status()),
            ("reason", self.reason.clone()),
            ("last seen", seen),
            ("joined", format!("{} ago, registration {}", ago(self.joined_at), self.epoch)),
            ("workspaces", self.workspaces.to_string()),
        ];
        if let Some(at) = self.lease_confirmed_at {
            let at = format!("confirmed {} ago ({})", age(at.0, now), rfc3339_seconds(at.0));
            rows.push(("lease", at));
        }
        if self.overcommitted {
            let what = "it shrank below what is placed on it, and takes nothing new";
            rows.push(("overcommitted", what.to_owned()));
        }
        if let Some(facts) = &self.facts {
            rows.extend(self.facts_rows(facts));
        }
        let mut text = fields(&rows);
        let own = self.facts.iter().flat_map(|facts| &facts.findings);
        for finding in self.findings.iter().chain(own) {
            let message = warren_common::status::reason(&finding.message);
            text.push_str(&format!("\n{} {}: {message}\n", finding.level, finding.code));
            if let Some(fix) = &finding.fix {
                text.push_str(&format!("  fix: {}\n", warren_common::status::reason(fix)));
            }
        }
        text
    }

    /// The tiers that are offered, and why the others are not.
    fn tiers_text(&self) -> String {
        let offered = |offered| self.tiers.iter().filter(move |tier| tier.offered == offered);
        let names = offered(true).map(|tier| match tier.tier {
            "container" => tier.tier.to_owned(),
            other => format!("{other} ({})", tier.why),
        });
        let not = offered(false).map(|tier| format!("no {}: {}", tier.tier, tier.why));
        format!("{}; {}", names.collect::<Vec<_>>().join(", "), not.collect::<Vec<_>>().join("; "))
    }

    /// The labels but for those that say the tiers.
    fn labels_shown(&self, facts: &Facts) -> Labels {
        let shown = |(key, _): &(&String, &String)| !key.starts_with(TIER_LABELS);
        let shown = facts.labels.iter().filter(shown);
        shown.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Returns the line that changes of labels print.
    pub(crate) fn labelled(&self) -> String {
        let own = self.facts.as_ref().map(|facts| labels(&self.labels_shown(facts)));
        format!("{}: {}\n", self.name, own.unwrap_or_default())
    }

    fn facts_rows(&self, facts: &Facts) -> Vec<(&'static str, String)> {
        let usage = self.usage.as_ref();
        let free = |bytes: Option<u64>| {
            bytes.map_or_else(String::new, |bytes| format!(", {} available now", Bytes(bytes)))
        };
        let memory = format!(
            "{} allocatable, {} reserved, {} capped{}",
            Bytes(facts.allocatable_memory_bytes),
            Bytes(self.reserved_memory_bytes),
            Bytes(self.capped_memory_bytes),
            free(usage.map(|usage| usage.memory_available_bytes))
        );
        let disk = free(usage.map(|usage| usage.disk_available_bytes));
        let load = usage.map_or_else(String::new, |usage| {
            format!(", load {}.{:02}", usage.load_milli / 1000, usage.load_milli % 1000 / 10)
        });
        let firewall = usage.and_then(|usage| usage.firewall.as_deref());
        let waits = usage.and_then(|usage| usage.memory_pressure);
        let waits = waits.map_or_else(
            || "memory waits are not measured by its kernel".to_owned(),
            |waits| {
                let (some, full) = (share(waits.some_60), share(waits.full_60));
                format!("{some} of the last minute waited for memory, {full} all of it")
            },
        );
        let mut rows = vec![
            ("memory", memory),
            ("pressure", waits),
            ("swap", Bytes(facts.swap_bytes).to_string()),
            ("cpu", format!("{} cores{load}", MilliCpus(facts.milli_cpus))),
            ("disk", format!("{} for homes{disk}", Bytes(facts.disk_bytes))),
        ];
        if let Some(pool) = usage.and_then(|usage| usage.pool.as_ref()) {
            let whole = Bytes(pool.used_bytes).plus(Bytes(pool.available_bytes));
            let (used, kind, path) = (Bytes(pool.used_bytes), &pool.kind, &pool.path);
            rows.push(("pool", format!("{used} of {whole} used, {kind} {path}")));
        }
        rows.extend([
            ("host", facts.hostname.clone()),
            ("agent", facts.version.clone()),
            ("engine", facts.engine.clone().unwrap_or_else(|| "none".to_owned())),
            ("kernel", format!("{}, cgroup v{}", facts.kernel, facts.cgroup)),
            ("firewall", firewall.map_or_else(String::new, |table| format!("table {table}"))),
            ("tiers", self.tiers_text()),
            ("labels", labels(&self.labels_shown(facts))),
        ]);
        rows
    }
}

impl Tabular for Node {
    const HEADER: &'static [&'static str] =
        &["NODE", "STATUS", "WORKSPACES", "RESERVED", "CPU", "SEEN", "VERSION", "REASON"];
    const FLEXIBLE: usize = 7;

    fn row(&self, now: Timestamp) -> Vec<String> {
        let facts = self.facts.as_ref();
        let reserved = facts.map_or_else(String::new, |facts| {
            let all = Bytes(facts.allocatable_memory_bytes);
            format!("{} of {all}", Bytes(self.reserved_memory_bytes))
        });
        vec![
            self.name.clone(),
            self.status(),
            self.workspaces.to_string(),
            reserved,
            facts.map_or_else(String::new, |facts| MilliCpus(facts.milli_cpus).to_string()),
            self.last_seen_at.map_or_else(|| "never".to_owned(), |at| age(at.0, now)),
            facts.map_or_else(String::new, |facts| facts.version.clone()),
            self.table_reason(),
        ]
    }

    fn address(&self) -> String {
        self.name.clone()
    }
}

impl Watched for Node {
    const KINDS: &'static [pb::EventKind] = &[
        pb::EventKind::NodeJoined,
        pb::EventKind::NodeRegistered,
        pb::EventKind::NodeFactsChanged,
        pb::EventKind::NodeAvailabilityChanged,
    ];
    const STANDINGS: bool = true;

    fn standing(&self) -> Vec<String> {
        vec![self.status(), self.workspaces.to_string(), self.table_reason()]
    }

    fn revision(&self) -> Option<u64> {
        Some(self.revision)
    }

    fn keep(&mut self, known: &Self) {
        self.liveness = known.liveness;
        self.reason.clone_from(&known.reason);
        self.workspaces = known.workspaces;
    }

    fn of(event: Event) -> Option<Self> {
        match event.object? {
            Object::Node(node) => Some(*node),
            Object::Client(_) | Object::Workspace(_) | Object::Session(_) | Object::Browser(_) => {
                None
            }
        }
    }
}
