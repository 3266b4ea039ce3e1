//! Whether a node can hold a workspace: the one rule that the planner chooses by and `apply` checks.
//!
//! The filters stand in the order of DESIGN §7. What only the live view knows (is the node ready?)
//! is the planner's, in [`super::place`]; it counts under [`Filter::Schedulable`] too.
//!
//! Memory: (A) Σ reserved ≤ allocatable; (B) Σ (caps + swap shares) ≤ allocatable + s·swap and
//! Σ swap shares ≤ s·swap, with s ≤ 0.5. A cap and its swap share together are what a workspace can
//! demand, so both count in (B). (C) a node whose processes wait for memory now takes nothing new:
//! only the live view knows, so it too is [`super::place`]'s, and counts under [`Filter::Memory`].

use std::collections::BTreeMap;

use warren_common::{
    Bytes, ClientId, ClientName, Limits, NodeEpoch,
    spec::{IsolationTier, PlacementRules, Resources, WorkspaceSpec},
    status::NodeFacts,
};

use crate::{
    command::Availability,
    state::{Client, Node, Workspace},
};

/// A node's label naming the one client whose workspaces it takes.
pub const CLIENT_LABEL: &str = "warren.client";
/// What labels of isolation tiers begin with: `warren.tier.userns`, `warren.tier.gvisor`. A node
/// agent sets them from what its engine says, and nobody else can.
pub const TIER_LABELS: &str = "warren.tier.";

/// The hard filters, in their fixed order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// Registered, ready, open, free of blocking findings, not overcommitted.
    Schedulable,
    /// The node that was asked for, where one was.
    Pin,
    /// The labels that were asked for.
    Labels,
    /// Walls as strong as asked for.
    Tier,
    /// Clients kept apart: the node is not another client's own.
    Client,
    /// Room for the home.
    Disk,
    /// Rules A, B and C.
    Memory,
    /// Processor caps.
    Cpu,
    /// Workspaces on one node.
    Count,
}

impl Filter {
    /// Every filter, in its order.
    pub const ALL: [Self; 9] = [
        Self::Schedulable,
        Self::Pin,
        Self::Labels,
        Self::Tier,
        Self::Client,
        Self::Disk,
        Self::Memory,
        Self::Cpu,
        Self::Count,
    ];

    /// Returns the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedulable => "schedulable",
            Self::Pin => "pin",
            Self::Labels => "labels",
            Self::Tier => "tier",
            Self::Client => "client",
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Count => "count",
        }
    }
}

/// Why a node is out, in the order in which people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It joined and never registered.
    Unregistered,
    /// It is not heard from, or has not told what it holds.
    NotReady,
    /// Closed by the operator.
    Cordoned,
    /// Being emptied.
    Draining,
    /// Gone for good.
    Retired,
    /// Its preflight found something that must be mended.
    Finding,
    /// It shrank below what it holds.
    Overcommitted,
    /// Another one was asked for.
    NotPinned,
    /// It lacks a label.
    Label,
    /// Its walls are not strong enough.
    Tier,
    /// It belongs to another client.
    OtherClient,
    /// No room for the home.
    Disk,
    /// No memory left.
    Memory,
    /// Its processes wait for memory now.
    Pressure,
    /// No swap left for the share asked for.
    Swap,
    /// No processors left, or not that many.
    Cpu,
    /// As many workspaces as a node takes.
    Full,
}

impl Cause {
    /// Returns the filter it counts under.
    pub const fn filter(self) -> Filter {
        match self {
            Self::Unregistered
            | Self::NotReady
            | Self::Cordoned
            | Self::Draining
            | Self::Retired
            | Self::Finding
            | Self::Overcommitted => Filter::Schedulable,
            Self::NotPinned => Filter::Pin,
            Self::Label => Filter::Labels,
            Self::Tier => Filter::Tier,
            Self::OtherClient => Filter::Client,
            Self::Disk => Filter::Disk,
            Self::Memory | Self::Pressure | Self::Swap => Filter::Memory,
            Self::Cpu => Filter::Cpu,
            Self::Full => Filter::Count,
        }
    }

    /// Returns what people read of one node and of several: `is cordoned`, `are cordoned`.
    pub const fn phrase(self) -> (&'static str, &'static str) {
        match self {
            Self::Unregistered => ("has not registered yet", "have not registered yet"),
            Self::NotReady => ("is not ready", "are not ready"),
            Self::Cordoned => ("is cordoned", "are cordoned"),
            Self::Draining => ("is being drained", "are being drained"),
            Self::Retired => ("is retired", "are retired"),
            Self::Finding => ("has a blocking finding", "have blocking findings"),
            Self::Overcommitted => ("is overcommitted", "are overcommitted"),
            Self::NotPinned => ("is not the node asked for", "are not the node asked for"),
            Self::Label => ("lacks a required label", "lack a required label"),
            Self::Tier => ("has no walls that strong", "have no walls that strong"),
            Self::OtherClient => ("belongs to another client", "belong to other clients"),
            Self::Disk => ("lacks disk", "lack disk"),
            Self::Memory => ("lacks memory", "lack memory"),
            Self::Pressure => ("is under memory pressure", "are under memory pressure"),
            Self::Swap => ("lacks swap", "lack swap"),
            Self::Cpu => ("lacks processors", "lack processors"),
            Self::Full => ("is full", "are full"),
        }
    }
}

/// A node that cannot hold a workspace, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Why.
    pub cause: Cause,
    /// With numbers or names: "free 1.2 GiB of 4 GiB asked for".
    pub detail: String,
}

impl Misfit {
    /// Makes a misfit.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

/// What is to be placed.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    /// Whose it is.
    pub client: ClientId,
    /// Their name, for nodes that belong to one.
    pub client_name: &'a ClientName,
    /// Caps and weights.
    pub resources: &'a Resources,
    /// Where it may run.
    pub placement: &'a PlacementRules,
}

impl<'a> Need<'a> {
    /// What a workspace of this client needs.
    pub fn of(client: &'a Client, workspace: &'a Workspace) -> Self {
        Self::new(client, (&workspace.spec.resources, workspace.spec.placement()))
    }

    /// What one that does not exist yet would need.
    pub fn asked(client: &'a Client, spec: &'a WorkspaceSpec) -> Self {
        Self::new(client, (&spec.resources, &spec.placement))
    }

    fn new(
        client: &'a Client,
        (resources, placement): (&'a Resources, &'a PlacementRules),
    ) -> Self {
        Self { client: client.id, client_name: &client.name, resources, placement }
    }
}

/// What is set aside on a node for the workspaces assigned to it, whether they run or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// Σ reserved memory.
    pub reserved: Bytes,
    /// Σ memory caps.
    pub caps: Bytes,
    /// Σ swap shares.
    pub swap: Bytes,
    /// Σ processor caps, thousandths of a core.
    pub cpus: u64,
    /// Σ sizes of homes.
    pub disk: Bytes,
    /// How many they are.
    pub count: usize,
    /// How many of each client.
    pub clients: BTreeMap<ClientId, usize>,
}

impl Load {
    /// Adds one workspace.
    pub fn add(&mut self, client: ClientId, resources: &Resources) {
        self.sum(resources);
        *self.clients.entry(client).or_default() += 1;
    }

    /// Returns the sums with one more workspace; whose they are is left out.
    fn with(&self, resources: &Resources) -> Self {
        let Self { reserved, caps, swap, cpus, disk, count, clients: _ } = *self;
        let clients = BTreeMap::new();
        let mut sums = Self { reserved, caps, swap, cpus, disk, count, clients };
        sums.sum(resources);
        sums
    }

    fn sum(&mut self, resources: &Resources) {
        self.reserved = self.reserved.plus(resources.reserve);
        self.caps = self.caps.plus(resources.memory);
        self.swap = self.swap.plus(resources.swap);
        self.cpus = self.cpus.saturating_add(resources.cpus.map_or(0, |cpus| u64::from(cpus.0)));
        self.disk = self.disk.plus(resources.disk);
        self.count += 1;
    }

    /// Returns how many workspaces of `client` there are.
    pub fn of(&self, client: ClientId) -> usize {
        self.clients.get(&client).copied().unwrap_or(0)
    }
}

/// What a node may be given in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Right side of rule A.
    pub reserve: Bytes,
    /// Right side of rule B.
    pub caps: Bytes,
    /// s·swap.
    pub swap: Bytes,
    /// Cores, thousandths.
    pub cores: u64,
    /// Cores times the overcommit, thousandths.
    pub cpus: u64,
    /// Room for homes.
    pub disk: Bytes,
}

impl Capacity {
    /// Returns what a node of these facts may be given.
    pub fn of(facts: &NodeFacts) -> Self {
        let share = u128::from(facts.swap.0) * u128::from(Limits::SWAP_SHARE_PER_MILLE) / 1000;
        let swap = Bytes(u64::try_from(share).unwrap_or(u64::MAX));
        let cores = u64::from(facts.cpus.0);
        Self {
            reserve: facts.allocatable_memory,
            caps: facts.allocatable_memory.plus(swap),
            swap,
            cores,
            cpus: cores * Limits::CPU_OVERCOMMIT,
            disk: facts.disk,
        }
    }

    /// Whether the rules hold for a node with this load.
    pub fn holds(&self, load: &Load) -> bool {
        self.holds_memory(load)
            && load.disk <= self.disk
            && load.cpus <= self.cpus
            && load.count <= Limits::WORKSPACES_PER_NODE
    }

    /// Whether the memory rules A and B hold for a node with this load.
    pub fn holds_memory(&self, load: &Load) -> bool {
        load.reserved <= self.reserve
            && load.caps.plus(load.swap) <= self.caps
            && load.swap <= self.swap
    }

    /// Returns the largest memory cap that would still fit, set aside in the same proportion and
    /// with the same swap share as `asked`.
    pub fn free_memory(&self, load: &Load, asked: &Resources) -> Bytes {
        let caps = self.caps.minus(load.caps).minus(load.swap).minus(asked.swap);
        let reserve = self.reserve.minus(load.reserved);
        let scaled =
            u128::from(reserve.0) * u128::from(asked.memory.0) / u128::from(asked.reserve.0.max(1));
        caps.min(Bytes(u64::try_from(scaled).unwrap_or(u64::MAX)))
    }
}

/// Decides whether `node`, holding `load`, can take `need`: every filter that needs no live view.
///
/// # Errors
/// Returns the first filter that refuses, in the fixed order.
pub fn fit(node: &Node, load: &Load, need: &Need<'_>) -> Result<(), Misfit> {
    schedulable(node)?;
    rules(node, need)?;
    room(node, load, need.resources)
}

fn schedulable(node: &Node) -> Result<(), Misfit> {
    match node.availability {
        Availability::Active => {}
        Availability::Cordoned => return Err(Misfit::new(Cause::Cordoned, "cordoned")),
        Availability::Draining => return Err(Misfit::new(Cause::Draining, "being drained")),
        Availability::Retired => return Err(Misfit::new(Cause::Retired, "retired")),
    }
    if node.epoch == NodeEpoch(0) {
        return Err(Misfit::new(Cause::Unregistered, "joined, but never registered"));
    }
    if let Some(finding) = node.blocking().next() {
        let detail = format!("{}: {}", finding.code, finding.message);
        return Err(Misfit::new(Cause::Finding, detail));
    }
    if node.overcommitted {
        let detail = "it shrank below what was placed on it and takes nothing new";
        return Err(Misfit::new(Cause::Overcommitted, detail));
    }
    Ok(())
}

/// Decides whether a node is one that a spec's rules of placement allow, whatever is on it.
pub(crate) fn allows(node: &Node, client: &Client, spec: &WorkspaceSpec) -> Result<(), Misfit> {
    rules(node, &Need::asked(client, spec))
}

fn rules(node: &Node, need: &Need<'_>) -> Result<(), Misfit> {
    let rules = need.placement;
    if rules.pin.is_some_and(|pin| pin != node.id) {
        return Err(Misfit::new(Cause::NotPinned, "pinned to another node"));
    }
    let labels = &node.facts.labels;
    let missing = |(key, value): &(&String, &String)| labels.get(*key) != Some(*value);
    if let Some((key, value)) = rules.required_labels.iter().find(missing) {
        return Err(Misfit::new(Cause::Label, format!("no label {key}={value}")));
    }
    let owner = labels.get(CLIENT_LABEL);
    let own = owner.is_some_and(|owner| owner == need.client_name.as_str());
    let offers = |tier: IsolationTier| labels.contains_key(&format!("{TIER_LABELS}{tier}"));
    let lacking = match rules.tier {
        IsolationTier::Container => None,
        IsolationTier::UserNamespace if offers(rules.tier) => None,
        IsolationTier::UserNamespace => Some("its engine does not remap user ids".to_owned()),
        IsolationTier::Gvisor if offers(rules.tier) => None,
        IsolationTier::Gvisor => Some("its engine has no runtime runsc that runs".to_owned()),
        IsolationTier::Dedicated if own => None,
        IsolationTier::Dedicated => {
            Some(format!("it has no label {CLIENT_LABEL}={}", need.client_name))
        }
    };
    if let Some(why) = lacking {
        let detail = format!("does not offer tier {}: {why}", rules.tier);
        return Err(Misfit::new(Cause::Tier, detail));
    }
    match owner {
        Some(owner) if !own => {
            Err(Misfit::new(Cause::OtherClient, format!("kept for client {owner}")))
        }
        Some(_) | None => Ok(()),
    }
}

fn room(node: &Node, load: &Load, asked: &Resources) -> Result<(), Misfit> {
    let capacity = Capacity::of(&node.facts);
    let disk = capacity.disk.minus(load.disk);
    if asked.disk > disk {
        let detail = format!("free {disk} of {} of disk asked for", asked.disk);
        return Err(Misfit::new(Cause::Disk, detail));
    }
    let with = load.with(asked);
    if asked.swap > Bytes(0) && with.swap > capacity.swap {
        let free = capacity.swap.minus(load.swap);
        let detail = format!("free {free} of {} of swap asked for", asked.swap);
        return Err(Misfit::new(Cause::Swap, detail));
    }
    if !capacity.holds_memory(&with) {
        let free = capacity.free_memory(load, asked);
        let detail = format!("free {free} of {} asked for", asked.memory);
        return Err(Misfit::new(Cause::Memory, detail));
    }
    if let Some(cap) = asked.cpus
        && (with.cpus > capacity.cpus || u64::from(cap.0) > capacity.cores)
    {
        let cores = node.facts.cpus;
        let free = capacity.cpus.saturating_sub(load.cpus) / 1000;
        let detail = format!("{cap} cores asked for, it has {cores} and {free} of caps left");
        return Err(Misfit::new(Cause::Cpu, detail));
    }
    if load.count >= Limits::WORKSPACES_PER_NODE {
        let detail = format!("{} workspaces are on it, the limit", load.count);
        return Err(Misfit::new(Cause::Full, detail));
    }
    Ok(())
}
