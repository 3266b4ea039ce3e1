//! The one document a node receives.

use std::collections::{BTreeMap, BTreeSet};

use warren_common::{
    ClientId, Generation, Limits, Revision, WorkspaceAddress,
    spec::{Destination, HeldOrder, NodeSpec, Permit, Run, WorkspaceOrder},
};

use super::{InvalidMessage, convert, convert_all, enumeration, parse, required, unspecified};
use crate::pb::node::v1 as pb;

impl From<NodeSpec> for pb::NodeSpec {
    fn from(spec: NodeSpec) -> Self {
        let order = |order: WorkspaceOrder| {
            let secrets = spec.secrets.get(&order.workspace).copied().unwrap_or_default();
            pb::WorkspaceOrder { secrets, ..order.into() }
        };
        Self {
            incarnation: spec.incarnation,
            term: spec.term,
            revision: spec.revision.0,
            workspaces: spec.workspaces.into_iter().map(order).collect(),
            recovering: spec.recovering,
            allowed: spec.allowed.into_iter().map(of_client).collect(),
        }
    }
}

fn of_client((client, allowed): (ClientId, BTreeSet<Destination>)) -> pb::ClientAllowed {
    let destinations = allowed.iter().map(ToString::to_string).collect();
    pb::ClientAllowed { client_id: client.to_string(), destinations }
}

fn to_client(
    allowed: &pb::ClientAllowed,
) -> Result<(ClientId, BTreeSet<Destination>), InvalidMessage> {
    let one = |text: &String| parse("destinations", text);
    let destinations: Result<_, InvalidMessage> = allowed.destinations.iter().map(one).collect();
    Ok((parse("client_id", &allowed.client_id)?, destinations?))
}

impl TryFrom<pb::NodeSpec> for NodeSpec {
    type Error = InvalidMessage;
    fn try_from(spec: pb::NodeSpec) -> Result<Self, InvalidMessage> {
        let mut secrets = BTreeMap::new();
        for order in spec.workspaces.iter().filter(|order| order.secrets != 0) {
            secrets.insert(parse("workspace_id", &order.workspace_id)?, order.secrets);
        }
        let order = |(index, order)| convert(&format!("workspaces[{index}]"), order);
        Ok(Self {
            incarnation: spec.incarnation,
            term: spec.term,
            revision: Revision(spec.revision),
            workspaces: spec
                .workspaces
                .into_iter()
                .enumerate()
                .map(order)
                .collect::<Result<_, _>>()?,
            recovering: spec.recovering,
            allowed: spec.allowed.iter().map(to_client).collect::<Result<_, _>>()?,
            secrets,
        })
    }
}

impl From<HeldOrder> for pb::HeldOrder {
    fn from(held: HeldOrder) -> Self {
        Self { order: Some(held.order.into()), started_run: held.started_run }
    }
}

impl TryFrom<pb::HeldOrder> for HeldOrder {
    type Error = InvalidMessage;
    fn try_from(held: pb::HeldOrder) -> Result<Self, InvalidMessage> {
        let order = convert("order", required("order", held.order)?)?;
        Ok(Self { order, started_run: held.started_run })
    }
}

impl From<WorkspaceOrder> for pb::WorkspaceOrder {
    fn from(order: WorkspaceOrder) -> Self {
        Self {
            workspace_id: order.workspace.to_string(),
            client_id: order.client.to_string(),
            client_name: order.address.client.into(),
            workspace_name: order.address.workspace.into(),
            generation: order.generation.0,
            run: pb::Run::from(order.run).into(),
            run_serial: order.run_serial,
            permit: order.permit.map(Into::into),
            spec: Some(order.spec.into()),
            request_id: order.request.map(|id| id.to_string()).unwrap_or_default(),
            sessions: order.sessions.into_iter().map(Into::into).collect(),
            secrets: 0,
            sessions_told: order.sessions_told,
        }
    }
}

impl TryFrom<pb::WorkspaceOrder> for WorkspaceOrder {
    type Error = InvalidMessage;
    fn try_from(order: pb::WorkspaceOrder) -> Result<Self, InvalidMessage> {
        Ok(Self {
            workspace: parse("workspace_id", &order.workspace_id)?,
            client: parse("client_id", &order.client_id)?,
            address: WorkspaceAddress {
                client: parse("client_name", &order.client_name)?,
                workspace: parse("workspace_name", &order.workspace_name)?,
            },
            generation: Generation(order.generation),
            run: enumeration::<pb::Run>("run", order.run)?.try_into()?,
            run_serial: order.run_serial,
            permit: order.permit.map(|permit| convert("permit", permit)).transpose()?,
            spec: convert("spec", required("spec", order.spec)?)?,
            request: match order.request_id.as_str() {
                "" => None,
                id => Some(parse("request_id", id)?),
            },
            sessions: convert_all("sessions", order.sessions, Limits::SESSIONS_TOLD)?,
            sessions_told: order.sessions_told,
        })
    }
}

impl From<Run> for pb::Run {
    fn from(run: Run) -> Self {
        match run {
            Run::Running => Self::Running,
            Run::Stopped => Self::Stopped,
            Run::Removed => Self::Removed,
        }
    }
}

impl TryFrom<pb::Run> for Run {
    type Error = InvalidMessage;
    fn try_from(run: pb::Run) -> Result<Self, InvalidMessage> {
        match run {
            pb::Run::Unspecified => Err(unspecified("run")),
            pb::Run::Running => Ok(Self::Running),
            pb::Run::Stopped => Ok(Self::Stopped),
            pb::Run::Removed => Ok(Self::Removed),
        }
    }
}

impl From<Permit> for pb::Permit {
    fn from(permit: Permit) -> Self {
        Self { run_serial: permit.run_serial, boot_id: permit.boot.to_string() }
    }
}

impl TryFrom<pb::Permit> for Permit {
    type Error = InvalidMessage;
    fn try_from(permit: pb::Permit) -> Result<Self, InvalidMessage> {
        Ok(Self { run_serial: permit.run_serial, boot: parse("boot_id", &permit.boot_id)? })
    }
}
