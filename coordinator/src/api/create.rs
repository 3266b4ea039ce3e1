//! Making a workspace: from the request to a complete spec, into Raft, and what became of it.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::Semaphore;
use tonic::Code;
use warren_common::{ClientId, WorkspaceId, WorkspaceName, spec::PlacementRules};
use warren_model::{
    Applied, ClusterState, Command, Outcome,
    command::{CreateWorkspace, MakeWorkspace},
    plan,
    state::{Client, PhaseKind},
};
use warren_proto::{
    convert::InvalidMessage,
    error::{ApiError, reason},
    pb::{admin::v1 as pb, node::v1 as node_pb},
};

use super::{
    Api, Moment, Who, considered, errors,
    mutation::Asked,
    resolve,
    template::{self, InvalidRequest, ResourceRequest},
};

/// How long a new workspace is waited for to leave the queue: the planner's next round is soon.
const SOON: Duration = Duration::from_millis(300);
/// The same where it fits somewhere, so that the answer can say where it went; past it the answer
/// says where it would go.
const PLACING: Duration = Duration::from_secs(1);

/// Held while a new workspace's queue is looked into for an answer, not while its place is waited
/// for.
static WEIGHING: Semaphore = Semaphore::const_new(1);

/// Refuses names of secrets that the workspace would not find.
pub(super) fn known_secrets(
    state: &ClusterState,
    client: ClientId,
    named: &BTreeSet<String>,
) -> Result<(), InvalidRequest> {
    let held = state.secrets_for(client);
    let has = |name: &String| held.keys().any(|held| held.as_str() == name);
    match named.iter().find(|name| !has(name)) {
        // it may be the secret itself that was given: it is not said again
        Some(_) => Err(InvalidRequest::Secret),
        None => Ok(()),
    }
}

impl Api {
    /// Makes a workspace, or answers what an earlier request of this id made.
    pub(super) async fn create(
        &self,
        who: Who,
        mut request: pb::CreateWorkspaceRequest,
    ) -> Result<pb::CreateWorkspaceResponse, ApiError> {
        let asked = Asked::read(who, request.mutation.take())?;
        let name: WorkspaceName =
            request.name.parse().map_err(|why| errors::invalid("name", why))?;
        let moment = self.read().await?;
        let client = resolve::client(&moment.state, &request.client)?;
        let no_queue = request.no_queue;
        let wanted = wanted(request, &moment)?;
        if let Some(applied) = self.made(&asked, (client.id, &name), &wanted.template) {
            return self.created(applied).await;
        }
        let chosen =
            template::document::choose(&moment.state, &wanted.template, &wanted.parameters)?;
        if let Some(chosen) = &chosen {
            known_secrets(&moment.state, client.id, &chosen.filled.secrets)?;
        }
        let recipe = chosen
            .as_ref()
            .and_then(|chosen| template::document::recipe(&chosen.reference, &wanted.parameters));
        let spec = template::expand(wanted, chosen, &self.parts().template)?;
        let command = CreateWorkspace {
            workspace: WorkspaceId::new(uuid::Uuid::now_v7()),
            client: client.id,
            name,
            spec,
            no_queue,
        };
        if no_queue && !self.took_effect(&asked) {
            must_fit(&moment, client, &command).await?;
        }
        let command = match recipe {
            None => Command::CreateWorkspace(Box::new(command)),
            Some(recipe) => {
                Command::MakeWorkspace(Box::new(MakeWorkspace { create: command, recipe }))
            }
        };
        let applied = self.mutate(&asked, command).await?;
        self.created(applied).await
    }

    /// What this very request made before from a template that was pushed: another version may be
    /// active by now, of which it would be another request.
    fn made(
        &self,
        asked: &Asked,
        (client, name): (ClientId, &WorkspaceName),
        template: &str,
    ) -> Option<Applied> {
        let state = self.parts().consensus.local();
        let answered = state.requests.answered(&asked.principal, asked.request)?.as_ref().ok()?;
        let Outcome::Workspace(id) = answered.outcome else { return None };
        let workspace = state.workspaces.get(&id)?;
        let same = workspace.client == client && workspace.name == *name;
        let base = template.is_empty() || template == template::BASE;
        (same && !base).then(|| Applied { repeated: true, ..answered.clone() })
    }

    async fn created(&self, applied: Applied) -> Result<pb::CreateWorkspaceResponse, ApiError> {
        let Outcome::Workspace(id) = applied.outcome else {
            return Err(errors::internal("making a workspace", "another outcome"));
        };
        let explanation = self.decision(id).await?;
        let moment = self.local();
        // made, and perhaps removed again before this answer or the repeat of a lost one
        let workspace = moment.state.workspaces.get(&id);
        Ok(pb::CreateWorkspaceResponse {
            workspace: workspace.map(|one| moment.view().workspace(one)),
            explanation,
            revision: applied.revision.0,
        })
    }

    /// Says where a new workspace went; where it stays queued, where it would go, or why nowhere.
    /// None where it is gone again.
    async fn decision(&self, id: WorkspaceId) -> Result<Option<pb::Explanation>, ApiError> {
        if !self.placed(id, SOON).await {
            // one at a time: whoever comes while another one weighs is told that it waits
            let Ok(turn) = WEIGHING.try_acquire() else {
                return Ok(self.local().standing(id));
            };
            let waits = self.local().explain(id).await;
            drop(turn);
            let waits = waits?;
            let fits = waits.as_ref().is_some_and(|one| !one.node.is_empty());
            if !fits || !self.placed(id, PLACING).await {
                return Ok(waits);
            }
        }
        Ok(self.local().standing(id))
    }

    /// Waits until a workspace is not queued any more, at most so long; false where it still is.
    async fn placed(&self, workspace: WorkspaceId, within: Duration) -> bool {
        let mut changes = self.parts().consensus.changes();
        let queued = || {
            let state = self.parts().consensus.local();
            let kind = state.workspaces.get(&workspace).map(|one| one.phase.kind.clone());
            kind == Some(PhaseKind::Queued)
        };
        let left = async { while queued() && changes.changed().await.is_ok() {} };
        tokio::time::timeout(within, left).await.is_ok()
    }
}

/// Refuses where no node would take it now.
async fn must_fit(
    moment: &Moment,
    client: &Client,
    command: &CreateWorkspace,
) -> Result<(), ApiError> {
    let (id, spec) = (client.id, command.spec.clone());
    let (state, live, now) = (moment.state.clone(), moment.live.clone(), moment.now);
    let preview = considered(move || {
        let ask = plan::Ask { client: id, spec: &spec };
        warren_model::preview(&state, &live, &ask, now)
    });
    let preview = preview.await?;
    let Some(preview) = preview.filter(|preview| preview.node.is_none()) else {
        return Ok(());
    };
    let message = format!("no node can hold workspace {}/{}", client.name, command.name);
    Err(ApiError::new(Code::ResourceExhausted, reason::NO_NODE_FITS, message)
        .why(preview.summary)
        .next("lower --memory, add a node, or leave --no-queue out"))
}

/// Reads what a request asks for beyond name and client.
fn wanted(
    request: pb::CreateWorkspaceRequest,
    moment: &Moment,
) -> Result<template::Request, ApiError> {
    let placement = placement(&request.pin_node, request.placement, moment)?;
    let failover = match request.failover {
        0 => None,
        number => Some(
            node_pb::Failover::try_from(number)
                .map_err(|_| {
                    InvalidMessage::new("failover", format!("has the unknown value {number}"))
                })?
                .try_into()?,
        ),
    };
    let session = |(index, session): (usize, node_pb::SessionSpec)| {
        let session: Result<warren_common::spec::SessionSpec, InvalidMessage> = session.try_into();
        session.map_err(|error| error.within(&format!("sessions[{index}]")))
    };
    let sessions = request.sessions.into_iter().enumerate().map(session);
    Ok(template::Request {
        template: request.template,
        parameters: request.parameters.into_iter().collect(),
        sessions: sessions.collect::<Result<_, _>>()?,
        resources: request.resources.map(resources).unwrap_or_default(),
        placement,
        failover,
        labels: request.labels.into_iter().collect(),
    })
}

fn placement(
    pin_node: &str,
    placement: Option<node_pb::Placement>,
    moment: &Moment,
) -> Result<PlacementRules, ApiError> {
    let mut rules = match placement {
        None => PlacementRules::default(),
        Some(mut placement) => {
            if placement.tier == node_pb::IsolationTier::Unspecified as i32 {
                placement.tier = node_pb::IsolationTier::Container.into();
            }
            let rules: Result<PlacementRules, InvalidMessage> = placement.try_into();
            rules.map_err(|error| error.within("placement"))?
        }
    };
    if !pin_node.is_empty() {
        rules.pin = Some(resolve::node(&moment.state, pin_node)?.id);
    }
    Ok(rules)
}

fn resources(request: pb::ResourceRequest) -> ResourceRequest {
    ResourceRequest {
        memory: request.memory_bytes,
        swap: request.swap_bytes,
        reserve: request.reserve_bytes,
        cpu_weight: request.cpu_weight,
        milli_cpus: request.milli_cpus,
        disk: request.disk_bytes,
        pids: request.pids,
    }
}
