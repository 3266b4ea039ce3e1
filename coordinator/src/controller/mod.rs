//! The controller: on the leader alone, it turns state and live view into commands.
//!
//! It takes no hint of what changed: each round reads everything, plans, and proposes, so a lost
//! wake-up or a kill at any line costs a tick and nothing else. What is decided, and why, is the
//! model's; here is only when to look.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;
use tracing::{debug, field, info, warn};
use uuid::Uuid;
use warren_common::{ReplicaId, RequestId, Revision, Timestamp, WorkspaceId};
use warren_daemon::Shutdown;
use warren_model::{ClusterState, Command, Envelope, Plan, Principal, plan, reads_alike};

use crate::{
    live::Live,
    measure::probe::number,
    raft::{Consensus, Leadership},
};

/// Between two rounds while something is under way.
const TICK: Duration = Duration::from_secs(1);
/// Between two rounds while nothing is.
const REST: Duration = Duration::from_secs(60);
/// A round that is due at once still lets what woke it settle.
const SETTLE: Duration = Duration::from_millis(5);
/// Commands of one round on their way at one time; they are logged in the plan's order.
const PROPOSING: usize = 32;

/// Plans for as long as this coordinator leads.
pub struct Controller {
    /// This coordinator, in whose name commands are proposed.
    pub replica: ReplicaId,
    /// Where commands go and state comes from.
    pub consensus: Consensus,
    /// What nodes report.
    pub live: Arc<Live>,
}

/// What one round left behind.
struct Round {
    /// How long to wait unless something happens.
    wait: Duration,
    overdue: BTreeSet<WorkspaceId>,
    /// What it planned on; none where it could not.
    on: Option<ClusterState>,
}

impl Controller {
    /// Runs until shutdown or until consensus ends.
    pub async fn run(self, shutdown: Shutdown) {
        let mut leadership = self.consensus.leadership();
        loop {
            if leadership.borrow_and_update().leading {
                tokio::select! {
                    () = self.lead(&mut leadership) => {}
                    () = shutdown.requested() => return,
                }
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = shutdown.requested() => return,
            }
        }
    }

    /// Plans until leadership changes.
    async fn lead(&self, leadership: &mut watch::Receiver<Leadership>) {
        info!(term = leadership.borrow().term, "planning begins");
        let mut decided = self.consensus.changes();
        let mut seen = self.live.changes();
        let mut overdue = BTreeSet::new();
        loop {
            decided.mark_unchanged();
            seen.mark_unchanged();
            let began = Instant::now();
            let round = self.round(overdue).await;
            metrics::histogram!("warren_planner_round_seconds")
                .record(began.elapsed().as_secs_f64());
            overdue = round.overdue;
            tokio::select! {
                open = self.differs(&mut decided, round.on.as_ref()) => if !open { return },
                changed = seen.changed() => if changed.is_err() { return },
                _ = leadership.changed() => return,
                () = tokio::time::sleep(round.wait) => {}
            }
        }
    }

    /// Waits until planning would read something else than it did; false where consensus ends. Most
    /// of what people change is nothing to it.
    async fn differs(
        &self,
        decided: &mut watch::Receiver<Revision>,
        on: Option<&ClusterState>,
    ) -> bool {
        while decided.changed().await.is_ok() {
            let now = self.consensus.local();
            if !on.is_some_and(|on| reads_alike(on, &now)) {
                return true;
            }
        }
        false
    }

    async fn round(&self, known: BTreeSet<WorkspaceId>) -> Round {
        let state = match self.consensus.linearizable_leading().await {
            Ok(state) => state,
            Err(error) => {
                debug!(%error, "no round: the state cannot be confirmed");
                metrics::counter!("warren_planner_rounds_total", "result" => "unconfirmed")
                    .increment(1);
                return Round { wait: TICK, overdue: known, on: None };
            }
        };
        let (live, now) = self.live.snapshot();
        // many workspaces take a while: what answers calls goes on meanwhile
        let on = state.clone();
        let planned = tokio::task::spawn_blocking(move || plan(&on, &live, now)).await;
        let Plan { commands, report, wake_at } = match planned {
            Ok(plan) => plan,
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            // the process ends
            Err(_) => return Round { wait: TICK, overdue: known, on: None },
        };
        metrics::counter!("warren_planner_rounds_total", "result" => "planned").increment(1);
        metrics::gauge!("warren_workspaces_queued")
            .set(number(report.queued.len() + report.unread));
        metrics::gauge!("warren_workspaces_overdue").set(number(report.overdue.len()));
        for (workspace, reason) in &report.overdue {
            if !known.contains(workspace) {
                let workspace = state.workspace_label(*workspace);
                warn!(workspace, reason, "a workspace takes longer than it should");
            }
        }
        let under_way = !commands.is_empty()
            || state.workspaces.values().any(|one| one.phase.deadline.is_some());
        self.propose(&state, commands, now).await;
        let due = wake_at.map_or(REST, |at| at.since(now).max(SETTLE));
        let wait = due.min(if under_way { TICK } else { REST });
        let overdue = report.overdue.into_iter().map(|(id, _)| id).collect();
        Round { wait, overdue, on: Some(state) }
    }

    /// Proposes in the plan's order. A refusal means that the state moved on: the next round sees.
    /// What it did for a workspace is logged with the request that asked for the workspace's run.
    async fn propose(&self, state: &ClusterState, commands: Vec<Command>, at: Timestamp) {
        let proposing = stream::iter(commands).map(|command| {
            let (name, subject) = (name(&command), command.workspace());
            let envelope = Envelope {
                request: RequestId::new(Uuid::now_v7()),
                principal: Principal::Coordinator(self.replica),
                at,
                if_revision: None,
                command,
            };
            async move { (name, subject, self.consensus.propose_leading(envelope).await) }
        });
        let mut proposed = proposing.buffered(PROPOSING);
        while let Some((command, subject, outcome)) = proposed.next().await {
            let request = subject.and_then(|id| state.origins.get(&id)).map(field::display);
            let workspace = subject.map(|id| state.workspace_label(id));
            metrics::counter!("warren_planner_commands_total", "command" => command).increment(1);
            match outcome {
                Ok(Ok(applied)) => {
                    let revision = applied.revision.0;
                    info!(command, workspace, request, revision, "planned");
                }
                Ok(Err(refusal)) => {
                    debug!(command, workspace, request, %refusal, "the state moved on");
                }
                Err(error) => {
                    warn!(command, workspace, request, %error, "a planned command got no answer");
                }
            }
        }
    }
}

/// Returns a command's name for logs and counters.
pub(crate) const fn name(command: &Command) -> &'static str {
    match command {
        Command::InitCluster(_) => "init-cluster",
        Command::SetReplica(_) => "set-replica",
        Command::CreateClient(_) => "create-client",
        Command::DeleteClient(_) => "delete-client",
        Command::IssueToken(_) => "issue-token",
        Command::JoinNode(_) => "join-node",
        Command::RegisterNode(_) => "register-node",
        Command::UpdateNodeFacts(_) => "update-node-facts",
        Command::SetNodeAvailability(_) => "set-node-availability",
        Command::CreateWorkspace(_) | Command::MakeWorkspace(_) => "create-workspace",
        Command::SetRun(_) => "set-run",
        Command::Assign(_) => "assign",
        Command::Advance(_) => "advance",
        Command::Forget(_) => "forget",
        Command::RevokeCertificate(_) => "revoke-certificate",
        Command::InvitePerson(_) => "invite-person",
        Command::EnrolPerson(_) => "enrol-person",
        Command::RecordCertificate(_) => "record-certificate",
        Command::RevokePerson(_) => "revoke-person",
        Command::BeginIncarnation(_) => "begin-incarnation",
        Command::AdoptNode(_) => "adopt-node",
        Command::AdoptWorkspace(_) => "adopt-workspace",
        Command::AccountNode(_) => "account-node",
        Command::EndRecovery(_) => "end-recovery",
        Command::UpdateClient(_) => "update-client",
        Command::IssueCoordinatorToken(_) => "issue-coordinator-token",
        Command::JoinReplica(_) => "join-replica",
        Command::RemoveReplica(_) => "remove-replica",
        Command::NoteBackup(_) => "note-backup",
        Command::NoteView(_) => "note-view",
        Command::Node(command) => command.name(),
        Command::ResizeWorkspace(_) => "resize-workspace",
        Command::ChangeAllowed(_) => "change-allowed",
        Command::Template(command) => command.name(),
        Command::UpdateWorkspace(_) => "update-workspace",
        Command::Session(command) => command.name(),
        Command::Secret(command) => command.name(),
    }
}
