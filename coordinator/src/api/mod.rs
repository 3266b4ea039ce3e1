//! What people's tools and nodes may ask, one file per service.
//!
//! A service reads the request, resolves names, asks Raft, and shows the state: nothing is decided
//! here. Who may call what was checked before ([`crate::authz`]); what refusals look like to
//! callers stands in [`errors`].

pub(crate) mod audit;
mod backup;
mod browser;
mod client;
pub mod cluster;
mod coordinator;
mod create;
mod due;
mod enroll;
mod enroll_coordinator;
pub mod errors;
mod follow;
pub mod issue;
mod mutation;
mod node;
mod node_admin;
pub mod page;
mod place;
mod read;
mod resize;
pub mod resolve;
mod secret;
mod session;
mod session_change;
mod session_view;
mod sessions;
pub mod template;
mod templates;
mod update;
mod update_template;
mod user;
pub mod view;
mod watch;
mod workspace;

use std::{sync::Arc, time::Duration};

use tonic::{Request, Status};
use warren_common::{NodeId, ReplicaId};
use warren_daemon::Shutdown;
use warren_model::{ClusterState, LiveView, Principal};
use warren_proto::error::{ApiError, reason};

use crate::{
    authz::Caller,
    ca::Ca,
    config::TemplateDefaults,
    hub::Hub,
    install::Files,
    keystore::Keystore,
    live::Live,
    member::Members,
    raft::{Consensus, Leadership},
    watch::Slots,
};
use read::Basis;
use view::View;

/// How long a call waits for an election that is under way.
const ELECTION: Duration = Duration::from_secs(2);

/// Every service of the API; cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

/// What the services are made of.
pub struct Parts {
    /// This coordinator.
    pub replica: ReplicaId,
    /// Where commands go and state comes from.
    pub consensus: Consensus,
    /// What nodes report.
    pub live: Arc<Live>,
    /// The nodes that are connected.
    pub hub: Arc<Hub>,
    /// What Raft must not hold.
    pub keystore: Keystore,
    /// Signs certificates.
    pub ca: Arc<Ca>,
    /// This coordinator among the others.
    pub members: Members,
    /// What a workspace gets by default.
    pub template: TemplateDefaults,
    /// What a new server is given to become a node; none where it is not served.
    pub installer: Option<Arc<Files>>,
    /// The watch streams that are open.
    pub watches: Arc<Slots>,
    /// Ends every stream, and waits for them.
    pub shutdown: Shutdown,
}

/// Who asks for a change.
#[derive(Debug, Clone)]
struct Who {
    principal: Principal,
    /// Of the certificate: the leader holds it against its own deny-list. Empty where this
    /// coordinator asks for itself.
    serial: Vec<u8>,
}

/// One consistent moment of state and live view.
pub struct Moment {
    state: ClusterState,
    live: LiveView,
    now: warren_common::Timestamp,
    replica: ReplicaId,
    basis: Basis,
}

impl Moment {
    /// Returns what answers are made from.
    pub const fn view(&self) -> View<'_> {
        View { state: &self.state, live: &self.live, now: self.now }
    }
}

impl Api {
    /// Puts the services together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Returns what the services are made of.
    pub fn parts(&self) -> &Parts {
        &self.0
    }

    /// Returns who signs certificates.
    fn issuer(&self) -> issue::Issuer<'_> {
        let Parts { ca, consensus, replica, .. } = &*self.0;
        issue::Issuer { ca, consensus, replica: *replica }
    }

    /// Reads the state with everything in it that was acknowledged before the call.
    async fn read(&self) -> Result<Moment, ApiError> {
        self.settled().await;
        match self.0.consensus.linearizable().await {
            Ok(state) => Ok(Moment { basis: Basis::Linearizable, ..self.moment(state) }),
            Err(error) => Err(self.explain(errors::read(error, &self.0.consensus.local()))),
        }
    }

    /// Waits a moment for an election that is under way, as after a restart; not where there has
    /// been no leader for longer than that.
    async fn settled(&self) {
        if self.0.consensus.without_quorum().is_some_and(|lasting| lasting > ELECTION) {
            return;
        }
        let mut leadership = self.0.consensus.leadership();
        let own = Some(self.0.replica);
        let settled =
            |now: &Leadership| now.leading || now.leader.is_some_and(|_| now.leader != own);
        // where none is elected in time, the call says so
        let _ = tokio::time::timeout(ELECTION, leadership.wait_for(settled)).await;
    }

    /// Tells, beside a missing quorum, which coordinators this one hears.
    fn explain(&self, error: ApiError) -> ApiError {
        if error.reason != reason::NO_QUORUM {
            return error;
        }
        let consensus = &self.0.consensus;
        error.why(errors::silent(&consensus.status(), &consensus.contacts()))
    }

    /// Reads what is applied here.
    fn local(&self) -> Moment {
        self.moment(self.0.consensus.local())
    }

    fn moment(&self, state: ClusterState) -> Moment {
        let (live, now) = self.0.live.snapshot();
        Moment { state, live, now, replica: self.0.replica, basis: Basis::Own }
    }
}

/// Weighs all nodes, and whoever waits before, on a thread of its own: with many of them that takes a
/// while, and what answers calls goes on meanwhile.
///
/// # Errors
/// The coordinator is stopping.
async fn considered<T: Send + 'static>(
    weighing: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let weighed = tokio::task::spawn_blocking(weighing).await;
    weighed.map_err(|error| errors::internal("weighing the nodes", error))
}

/// Returns who asks, as the audit log will name them, and the serial of their certificate.
fn caller<T>(request: &Request<T>) -> Result<Who, Status> {
    let caller = Caller::of(request)?;
    let who = caller.principal().zip(caller.serial().map(<[u8]>::to_vec));
    let who = who.map(|(principal, serial)| Who { principal, serial });
    who.ok_or_else(|| errors::no_certificate().into())
}

/// Returns the node that calls.
fn calling_node<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let node = Caller::of(request)?.node();
    node.ok_or_else(|| errors::no_certificate().into())
}
