//! Who may call what: one table over every RPC.
//!
//! [`rule`] is exhaustive over [`Method`], which the build generates from the `.proto` files, so an
//! RPC without a row does not compile. [`Authz`] is the tower layer that asks it before anything
//! else runs. Rules about objects (a node's own workspaces, a person's clients) are the handlers';
//! they find the [`Caller`] in the request. `authz/tests.rs` holds the table a second time, written
//! by hand.

mod guard;
mod layer;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use tonic::{Code, Request, Status};
use warren_common::{NodeId, ReplicaId, Timestamp};
use warren_daemon::identity::{Connection, Peer, PeerIdentity, Role};
use warren_model::{Principal, command::ViewTarget};
use warren_proto::{
    ApiError, Method,
    error::reason,
    pb::inside::v1::{Connect, ViewKind, connect, open::What},
};

pub use layer::{Authz, AuthzService};

/// Who may call one RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Whoever holds a join token, which the handler checks; a certificate is neither needed nor
    /// in the way.
    TokenHolder,
    /// Any holder of a certificate, for itself.
    Holder,
    /// Nodes.
    Node,
    /// Coordinators.
    Coordinator,
    /// Root and the coordinator's own user, over the local socket.
    Local,
    /// People and automation of these roles.
    People(&'static [Role]),
}

const ADMIN: Rule = Rule::People(&[Role::Admin]);
const WORK: Rule = Rule::People(&[Role::Admin, Role::Operator]);
const WATCH: Rule = Rule::People(&[Role::Admin, Role::Operator, Role::Viewer]);
const STATUS: Rule = Rule::People(&[Role::Admin, Role::Operator, Role::Viewer, Role::Automation]);
const AUDIT: Rule = Rule::People(&[Role::Admin, Role::Auditor]);
const READ: Rule = Rule::People(&Role::ALL);

/// Returns who may call an RPC.
#[expect(clippy::too_many_lines, reason = "one row for each RPC, in one table")]
pub const fn rule(method: Method) -> Rule {
    match method {
        Method::BootstrapInit
        | Method::BootstrapJoin
        | Method::BootstrapRestore
        | Method::BootstrapRecover => Rule::Local,

        Method::EnrollEnroll | Method::EnrollEnrollCoordinator | Method::UserJoinUser => {
            Rule::TokenHolder
        }
        Method::EnrollRenew => Rule::Holder,
        Method::NodeStatus
        | Method::NodeControl
        | Method::NodeTunnel
        // of its own workspaces at their generation: the handler's
        | Method::NodeFetchSecrets => Rule::Node,

        Method::RaftAppendEntries
        | Method::RaftAppendStream
        | Method::RaftVote
        | Method::RaftPreVote
        | Method::RaftTransferLeader
        | Method::RaftInstallCheckpoint
        | Method::MemberAdmit
        | Method::MemberDrop
        | Method::MemberTransfer
        | Method::MemberDescribe
        | Method::MemberListSecrets
        | Method::MemberGetSecret
        | Method::MemberPutSecret
        | Method::MemberSetSecret
        | Method::MemberDigestSecrets
        | Method::MemberVerifyAudit
        | Method::MemberHeard
        | Method::RaftPropose
        | Method::RaftReadIndex => Rule::Coordinator,

        Method::ClusterGetCluster
        | Method::ClusterInspectCoordinator
        | Method::ClientListClients
        | Method::ClientGetClient
        | Method::NodeAdminListNodes
        | Method::NodeAdminGetNode
        | Method::WorkspaceListWorkspaces
        | Method::WorkspaceGetWorkspace
        | Method::WorkspaceExplainWorkspace
        | Method::TemplateListTemplates
        | Method::TemplateGetTemplate
        // names and versions; no call gives a value
        | Method::SecretListSecrets
        // it tells what the lists show; of people, those alone who may list them
        | Method::WatchWatch => READ,

        Method::WorkspaceFollowWorkspace
        | Method::SessionListSessions
        | Method::BrowserListBrowsers => STATUS,
        // what may be opened is `may_open`'s
        Method::SessionOpenStream => WATCH,

        Method::WorkspaceCreateWorkspace
        | Method::WorkspaceStartWorkspace
        | Method::WorkspaceStopWorkspace
        | Method::WorkspaceRestartWorkspace
        | Method::WorkspaceDeleteWorkspace
        | Method::WorkspaceResizeWorkspace
        | Method::WorkspaceUpdateWorkspace
        | Method::SessionCreateSession
        | Method::SessionStopSession
        | Method::SessionRestartSession
        | Method::SessionDeleteSession
        | Method::SecretSetSecret
        | Method::SecretDeleteSecret
        | Method::NodeAdminSetNodeAvailability => WORK,

        Method::UserListUsers | Method::AuditListRecords | Method::AuditVerifyRecords => AUDIT,

        Method::ClusterBackup
        | Method::ClusterEndRecovery
        | Method::ClusterCreateCoordinatorToken
        | Method::ClusterRemoveCoordinator
        | Method::ClusterTransferLeadership
        | Method::ClientCreateClient
        | Method::ClientDeleteClient
        | Method::UserInviteUser
        | Method::UserRevokeUser
        | Method::ClientUpdateClient
        | Method::NodeAdminRemoveNode
        | Method::NodeAdminRejoinNode
        | Method::NodeAdminLabelNode
        | Method::ClientChangeAllowed
        | Method::TemplatePushTemplate
        | Method::TemplateActivateTemplate
        | Method::TemplateDeleteTemplate
        | Method::NodeAdminCreateNodeToken => ADMIN,
    }
}

/// Who calls, in the extensions of every request that reaches a handler.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Somebody on this machine, let in by the local socket.
    Local {
        /// Who, as the kernel says.
        uid: u32,
    },
    /// Somebody without a certificate.
    Anonymous {
        /// Where from.
        address: SocketAddr,
    },
    /// The holder of a certificate of this cluster.
    Peer {
        /// Who.
        peer: Arc<Peer>,
        /// Where from.
        address: SocketAddr,
    },
}

impl Caller {
    /// Returns who calls this request.
    ///
    /// # Errors
    /// The request did not come through [`Authz`]: a fault of ours.
    pub fn of<T>(request: &Request<T>) -> Result<&Self, Status> {
        request.extensions().get::<Self>().ok_or_else(|| {
            ApiError::new(Code::Internal, reason::INTERNAL, "the request has no caller").into()
        })
    }

    /// Returns whom the certificate names; none for callers without one.
    pub fn identity(&self) -> Option<&PeerIdentity> {
        match self {
            Self::Peer { peer, .. } => Some(&peer.identity),
            Self::Local { .. } | Self::Anonymous { .. } => None,
        }
    }

    /// Returns the serial of the caller's certificate.
    pub fn serial(&self) -> Option<&[u8]> {
        match self {
            Self::Peer { peer, .. } => Some(&peer.serial),
            Self::Local { .. } | Self::Anonymous { .. } => None,
        }
    }

    /// Returns the node that calls.
    pub fn node(&self) -> Option<NodeId> {
        match self.identity()? {
            PeerIdentity::Node(node) => Some(*node),
            PeerIdentity::Coordinator(_) | PeerIdentity::Person { .. } => None,
        }
    }

    /// Returns the coordinator that calls.
    pub fn coordinator(&self) -> Option<ReplicaId> {
        match self.identity()? {
            PeerIdentity::Coordinator(replica) => Some(*replica),
            PeerIdentity::Node(_) | PeerIdentity::Person { .. } => None,
        }
    }

    /// Returns the role of the person that calls.
    pub fn role(&self) -> Option<Role> {
        match self.identity()? {
            PeerIdentity::Person { role, .. } => Some(*role),
            PeerIdentity::Node(_) | PeerIdentity::Coordinator(_) => None,
        }
    }

    /// Returns who the audit log will name; none for callers without a certificate.
    pub fn principal(&self) -> Option<Principal> {
        self.identity().map(principal)
    }

    /// Returns the certificate that was shown; none for callers without one.
    pub fn peer(&self) -> Option<&Peer> {
        match self {
            Self::Peer { peer, .. } => Some(peer),
            Self::Local { .. } | Self::Anonymous { .. } => None,
        }
    }
}

/// Returns the holder of a certificate as the state names them.
pub fn principal(identity: &PeerIdentity) -> Principal {
    match identity {
        PeerIdentity::Node(node) => Principal::Node(*node),
        PeerIdentity::Coordinator(replica) => Principal::Coordinator(*replica),
        PeerIdentity::Person { name, .. } => Principal::Person(name.to_string()),
    }
}

impl From<Connection> for Caller {
    fn from(connection: Connection) -> Self {
        match connection {
            Connection::Local { uid } => Self::Local { uid },
            Connection::Remote { address, peer: None } => Self::Anonymous { address },
            Connection::Remote { address, peer: Some(peer) } => Self::Peer { peer, address },
        }
    }
}

/// Decides whether a caller may call an RPC.
///
/// # Errors
/// Says what the caller lacks and what to do about it.
pub fn decide(method: Method, caller: &Caller) -> Result<(), ApiError> {
    let identity = match (rule(method), caller) {
        (Rule::Local, Caller::Local { .. }) | (Rule::TokenHolder, Caller::Anonymous { .. }) => {
            return Ok(());
        }
        (Rule::Local, _) => return Err(local_only(method)),
        (_, Caller::Local { .. }) => return Err(not_local(method)),
        (_, Caller::Anonymous { .. }) => return Err(no_certificate()),
        (_, Caller::Peer { peer, .. }) => &peer.identity,
    };
    let allowed = match (rule(method), identity) {
        (Rule::TokenHolder | Rule::Holder, _)
        | (Rule::Node, PeerIdentity::Node(_))
        | (Rule::Coordinator, PeerIdentity::Coordinator(_)) => true,
        (Rule::People(roles), PeerIdentity::Person { role, .. }) => roles.contains(role),
        (Rule::Local | Rule::Node | Rule::Coordinator | Rule::People(_), _) => false,
    };
    if allowed { Ok(()) } else { Err(not_permitted(method, identity)) }
}

/// Decides whether a person may open such a stream: a viewer looks and types nothing. Whoever
/// relays for a viewer drops input frames too.
///
/// # Errors
/// Says which role it takes.
pub fn may_open(caller: &Caller, what: &What) -> Result<(), ApiError> {
    let looks = match what {
        What::Attach(attach) => attach.read_only,
        What::Exec(_) | What::Send(_) => false,
        What::Logs(_) | What::Explain(_) | What::Read(_) | What::Shot(_) => true,
        // the workspace passes on no key of whoever has not asked for control
        What::Connect(connect) => {
            matches!(target(connect), Some(ViewTarget::Display))
        }
    };
    match caller.role() {
        Some(Role::Admin | Role::Operator) => Ok(()),
        Some(Role::Viewer) if looks => Ok(()),
        Some(Role::Viewer) => {
            let message = "a viewer may not type or run programs in a workspace";
            let next = match what {
                What::Connect(_) => "warren workspace open WORKSPACE playwright --view-only",
                _ => "attach with --read-only, or read the session or the logs",
            };
            Err(ApiError::new(Code::PermissionDenied, reason::NOT_PERMITTED, message)
                .why("it takes the role admin or operator")
                .next(next))
        }
        Some(Role::Automation | Role::Auditor) | None => {
            let message = "only people who work in workspaces may open streams into them";
            Err(ApiError::new(Code::PermissionDenied, reason::NOT_PERMITTED, message)
                .why("it takes the role admin, operator or viewer")
                .next("ask an administrator, or use another context"))
        }
    }
}

/// Returns what in a workspace is looked at or connected to; none where that is not said.
pub fn target(connect: &Connect) -> Option<ViewTarget> {
    match connect.target.as_ref()? {
        connect::Target::Port(port) => {
            u16::try_from(*port).ok().filter(|port| *port > 0).map(ViewTarget::Port)
        }
        connect::Target::View(view) => match view.kind() {
            ViewKind::Unspecified => None,
            ViewKind::Terminal => Some(ViewTarget::Terminal),
            ViewKind::Editor => Some(ViewTarget::Editor),
            ViewKind::Display if view.control_ms > 0 => Some(ViewTarget::DisplayControl),
            ViewKind::Display => Some(ViewTarget::Display),
        },
    }
}

/// How a peer stands, whatever the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its certificate is good until it expires.
    Good,
    /// Its certificate is on the deny-list, or its holder is gone.
    Revoked,
    /// It is a node that was taken out: it is to stop what it runs.
    Removed {
        /// Of the cluster that took it out.
        incarnation: u32,
    },
}

/// Checks that a certificate is good now for this call: TLS looked at it when the connection began,
/// and lets expired ones in because they may renew.
///
/// # Errors
/// It was revoked, or it has expired and the call is another than `Renew`.
pub fn check_standing(
    peer: &Peer,
    method: Option<Method>,
    (standing, now): (Standing, Timestamp),
) -> Result<(), ApiError> {
    let name = &peer.identity;
    let revoked = |reason, why| {
        let message = format!("the certificate of {name} was revoked{why}");
        ApiError::new(Code::Unauthenticated, reason, message)
            .next("ask an administrator for a new invitation or token")
    };
    match standing {
        Standing::Good => {}
        Standing::Revoked => return Err(revoked(reason::CERTIFICATE_REVOKED, "")),
        Standing::Removed { incarnation } => {
            let removed = revoked(reason::NODE_REMOVED, ": the node was removed");
            return Err(removed.incarnation(incarnation));
        }
    }
    if peer.is_expired(now) && method != Some(Method::EnrollRenew) {
        let message = format!("the certificate of {name} has expired");
        return Err(ApiError::new(Code::Unauthenticated, reason::CERTIFICATE_EXPIRED, message)
            .next("renew it first, as every node agent and every warren command does by itself"));
    }
    Ok(())
}

fn no_certificate() -> ApiError {
    let message = "this call needs a certificate and none was shown";
    ApiError::new(Code::Unauthenticated, reason::CERTIFICATE_MISSING, message)
        .next("warren cluster init on the coordinator's machine, or join with a token")
}

fn local_only(method: Method) -> ApiError {
    let message = format!("{} is served on the coordinator's own machine only", name(method));
    ApiError::new(Code::PermissionDenied, reason::LOCAL_ONLY, message)
        .next("run the command as root on the machine of the coordinator")
}

fn not_local(method: Method) -> ApiError {
    let message = format!("{} is not served on the local socket", name(method));
    ApiError::new(Code::PermissionDenied, reason::NOT_PERMITTED, message)
        .next("call the API with a certificate, which warren cluster init gives")
}

fn not_permitted(method: Method, identity: &PeerIdentity) -> ApiError {
    let message = format!("{identity} may not call {}", name(method));
    let error = ApiError::new(Code::PermissionDenied, reason::NOT_PERMITTED, message);
    match rule(method) {
        Rule::People(roles) => {
            let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
            error
                .why(format!("it takes a person's certificate with role {}", roles.join(" or ")))
                .next("ask an administrator, or use another context")
        }
        Rule::Node => error.why("it takes a node's certificate"),
        Rule::Coordinator => error.why("it takes a coordinator's certificate"),
        Rule::TokenHolder | Rule::Holder | Rule::Local => error,
    }
}

/// Returns service and RPC without the package: `WorkspaceService/CreateWorkspace`.
fn name(method: Method) -> &'static str {
    method.path().rsplit_once(".v1.").map_or(method.path(), |(_, name)| name)
}
