//! What a workspace's container looks like: one pure function from an order to a closed plan.
//!
//! No caller supplies an engine setting. An order names an image, caps and an address; everything
//! that makes the container safe (user, capabilities, filters, mounts, network) is decided here
//! and nowhere else. The engine turns a [`ContainerPlan`] into its own words, reads the result
//! back, and compares it with [`drift()`] before the container may start. Why each setting:
//! `docs/SECURITY.md`. The system-call filter is in [`seccomp`], address ranges in [`subnet`].

pub mod drift;
#[cfg(test)]
pub(crate) mod fixture;
pub mod plan;
pub mod seccomp;
pub mod subnet;

pub use drift::{Drift, Inspected, apart_from_caps, drift};
pub use plan::{
    Abilities, Caps, ContainerPlan, Ground, Mount, NetworkPlan, Tmpfs, container_name,
    network_name, plan, plan_network,
};
