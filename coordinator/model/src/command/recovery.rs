//! What brings a cluster back from a backup or from one survivor.

use serde::{Deserialize, Serialize};
use warren_common::{NodeId, NodeName, Revision, WorkspaceId, spec::HeldOrder, status::NodeFacts};

use super::SetReplica;

/// See [`super::Command::BeginIncarnation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginIncarnation {
    /// Higher than every one before: `max(old + 1, unix seconds)`.
    pub incarnation: u32,
    /// The only coordinator from now on, under an id that never was before.
    pub replica: SetReplica,
    /// Why, for people: "restored from the backup of 2026-11-24 15:00".
    pub reason: String,
}

/// See [`super::Command::AdoptNode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptNode {
    /// From its certificate.
    pub node: NodeId,
    /// The name it had; another where that is taken.
    pub name: NodeName,
    /// What it is and has.
    pub facts: NodeFacts,
}

/// See [`super::Command::AdoptWorkspace`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptWorkspace {
    /// Which node says so.
    pub node: NodeId,
    /// Revision of the document the node was told last, by the cluster as it was.
    pub revision: Revision,
    /// What it was told of the workspace, and what it began; in the log without its sessions, which
    /// orders did not have when it was made.
    #[serde(with = "logged")]
    pub held: HeldOrder,
}

/// See [`super::Command::AccountNode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountNode {
    /// Which node.
    pub node: NodeId,
    /// Revision of the document it was told last, by the cluster as it was; zero where it never was.
    pub revision: Revision,
    /// Every workspace it holds.
    pub holds: Vec<WorkspaceId>,
}

/// See [`super::Command::NoteBackup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteBackup {
    /// What the caller had seen of the cluster; the backup holds at least that.
    pub revision: Revision,
}

/// See [`super::Command::EndRecovery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecovery {
    /// Stop waiting for this node alone; none ends the recovery.
    pub node: Option<NodeId>,
    /// Although nodes are still awaited.
    pub early: bool,
}

/// The layout of a held order in the log, which never changes.
mod logged {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use warren_common::{
        ClientId, Generation, RequestId, WorkspaceAddress, WorkspaceId,
        spec::{HeldOrder, Permit, Run, WorkspaceOrder, WorkspaceSpec},
    };

    #[derive(Serialize, Deserialize)]
    struct Logged {
        order: Order,
        started_run: u64,
    }

    #[derive(Serialize, Deserialize)]
    struct Order {
        workspace: WorkspaceId,
        client: ClientId,
        address: WorkspaceAddress,
        generation: Generation,
        run: Run,
        run_serial: u64,
        permit: Option<Permit>,
        spec: WorkspaceSpec,
        request: Option<RequestId>,
    }

    pub(super) fn serialize<S: Serializer>(held: &HeldOrder, to: S) -> Result<S::Ok, S::Error> {
        let HeldOrder { order, started_run } = held.clone();
        let order = Order {
            workspace: order.workspace,
            client: order.client,
            address: order.address,
            generation: order.generation,
            run: order.run,
            run_serial: order.run_serial,
            permit: order.permit,
            spec: order.spec,
            request: order.request,
        };
        Logged { order, started_run }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HeldOrder, D::Error> {
        let Logged { order, started_run } = Logged::deserialize(from)?;
        let order = WorkspaceOrder {
            workspace: order.workspace,
            client: order.client,
            address: order.address,
            generation: order.generation,
            run: order.run,
            run_serial: order.run_serial,
            permit: order.permit,
            spec: order.spec,
            request: order.request,
            sessions: Vec::new(),
            sessions_told: false,
        };
        Ok(HeldOrder { order, started_run })
    }
}
