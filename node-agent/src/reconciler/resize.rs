//! Makes the caps of a container and the quota of a volume what the order says, while both are in
//! use.
//!
//! A cap that the kernel could meet only by killing is not set: the old one stays, the reason is
//! shown, and it is tried again until what holds the memory is gone or another order comes. A quota
//! below what is taken is set at once: nothing is lost by it.

use std::sync::Arc;

use tracing::{debug, info, warn};
use warren_common::{
    Bytes,
    spec::{Run, WorkspaceOrder},
    status::{CapsHeld, VolumeUse},
};
use warren_model::plan::resize::BREATH;

use super::{
    failure::Failure,
    worker::{Found, Worker},
};
use crate::{
    container::Caps,
    engine::{ContainerSeen, ContainerState},
    host::{self, capacity},
    ledger::Started,
    volume::Volume,
};

impl Worker {
    /// Makes sure of the volume, and remembers with which size.
    pub(super) async fn ensure(&mut self, size: Bytes) -> Result<Volume, Failure> {
        let volume = self.shared.parts.volumes.ensure(self.workspace, size).await?;
        (self.sized, self.metered) = (Some(size), volume.metered);
        Ok(volume)
    }

    /// Brings caps and quota in line with the order; what cannot be is shown, and tried again.
    pub(super) async fn resize(&mut self, order: Option<&WorkspaceOrder>, found: &Found) {
        let Some(order) = order.filter(|order| order.run != Run::Removed) else { return };
        let (held, failed) = match self.fit(order, found).await {
            Ok(as_ordered) => (as_ordered, None),
            Err(failure) => (false, Some(failure.message)),
        };
        let caps = held.then(|| CapsHeld::from(&order.spec.resources));
        self.picture.caps(caps, failed.as_deref().unwrap_or_default());
        if let Some(why) = &failed {
            if self.held_back.as_ref() != Some(why) {
                warn!(workspace = %self.workspace, why, "caps are not as ordered yet");
            }
            self.picture.explain(why);
        } else if self.held_back.is_some() {
            info!(workspace = %self.workspace, "caps are as ordered now");
        }
        self.held_back = failed;
        self.weigh().await;
    }

    /// Shows why caps and quota could not even be compared with the order.
    pub(super) fn falls_short(&self, order: Option<&WorkspaceOrder>, why: &str) {
        if let Some(order) = order.filter(|order| order.run != Run::Removed) {
            self.picture.falls_short(CapsHeld::from(&order.spec.resources), why);
        }
    }

    /// Returns whether all is as ordered now, as far as there is something of it.
    async fn fit(&mut self, order: &WorkspaceOrder, found: &Found) -> Result<bool, Failure> {
        let size = order.spec.resources.disk;
        if found.held.volume && self.sized != Some(size) {
            let shared = Arc::clone(&self.shared);
            let _turn = shared.steps.acquire().await;
            self.ensure(size).await?;
        }
        let ours = |seen: &&ContainerSeen| {
            order.run == Run::Running
                && (seen.generation, seen.run_serial) == (order.generation, order.run_serial)
                && matches!(seen.state, ContainerState::Created | ContainerState::Running { .. })
        };
        match &found.container {
            Some(seen) if ours(&seen) => self.cap(order, seen).await,
            // one that ends: the next is made as ordered
            Some(seen) => Ok(!matches!(seen.state, ContainerState::Running { .. })),
            None => Ok(true),
        }
    }

    async fn cap(&self, order: &WorkspaceOrder, seen: &ContainerSeen) -> Result<bool, Failure> {
        let info = self.shared.info().await?;
        let wanted = Caps::of(order, host::abilities(&info));
        let cores = capacity::cores().unwrap_or_default();
        let run = self.begun(seen);
        let given = run.and_then(|run| run.caps);
        let next = run.and_then(|run| run.next);
        let ledger = &self.shared.parts.ledger;
        if wanted.are_met_by(&seen.caps, cores) {
            // an agent that was killed between the engine and the ledger comes by here
            let differs = given.is_some_and(|given| given != wanted && given != seen.caps);
            if differs || next.is_some() {
                ledger.give(self.workspace, seen.caps).await?;
            }
            return Ok(true);
        }
        let engine = &self.shared.parts.engine;
        if wanted.memory < seen.caps.memory {
            let used = engine.usage(seen).await?;
            if used.held > Bytes(0) && used.held.plus(BREATH) > wanted.memory {
                return Err(Failure::cap(seen.caps.memory, wanted.memory, used.held));
            }
        }
        // so does one whose order changed once more before it came back
        let taken = next.filter(|next| next.are_met_by(&seen.caps, cores)).map(|_| seen.caps);
        if given == Some(wanted) && taken.is_none() {
            // not the order changed but the container: the guard's business
            return Ok(false);
        }
        ledger.intend(self.workspace, (taken.or(given), wanted)).await?;
        engine.update(&seen.id, wanted).await?;
        // what the engine was told: a processor cap that is gone is one of all there are now
        let told = Caps { cpus: wanted.cpus.or(Some(cores)), ..wanted };
        ledger.give(self.workspace, told).await?;
        info!(workspace = %self.workspace, memory = %wanted.memory, "caps were changed");
        Ok(true)
    }

    /// Returns what the ledger knows of a container's run.
    pub(super) fn begun(&self, seen: &ContainerSeen) -> Option<Started> {
        let started = self.shared.parts.ledger.memory().started.get(&self.workspace).copied()?;
        let of_it = (started.generation, started.run_serial) == (seen.generation, seen.run_serial);
        of_it.then_some(started)
    }

    /// Shows what the volume takes, where that is known.
    pub(super) async fn weigh(&self) {
        let (Some(limit), true) = (self.sized, self.metered) else { return };
        match self.shared.parts.volumes.usage(self.workspace).await {
            Ok(used) => self.picture.volume(Some(VolumeUse { used, limit })),
            Err(error) => debug!(workspace = %self.workspace, %error, "its volume is not measured"),
        }
    }
}
