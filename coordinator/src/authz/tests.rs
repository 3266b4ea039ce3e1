//! The rule table against one written independently, every method by every role.

mod expired;
mod handshake;
mod streams;

use std::collections::BTreeMap;

use tonic::Code;
use warren_common::{ClusterId, ReplicaId};
use warren_proto::pb::inside::v1::{Attach, Exec, Explain, Logs, Read, Send, Shot, View};

use super::*;

/// The table again, by hand: who may call what. Columns: token holder without a certificate, local
/// socket, node, coordinator, admin, operator, viewer, automation, auditor.
const TABLE: &str = "
                                           anon local node coord admin oper view auto audit
BootstrapService/Init                      -    yes   -    -     -     -    -    -    -
BootstrapService/Restore                   -    yes   -    -     -     -    -    -    -
BootstrapService/Recover                   -    yes   -    -     -     -    -    -    -
BootstrapService/Join                      -    yes   -    -     -     -    -    -    -
EnrollService/Enroll                       yes  -     yes  yes   yes   yes  yes  yes  yes
EnrollService/EnrollCoordinator            yes  -     yes  yes   yes   yes  yes  yes  yes
EnrollService/Renew                        -    -     yes  yes   yes   yes  yes  yes  yes
NodeService/Status                         -    -     yes  -     -     -    -    -    -
NodeService/Control                        -    -     yes  -     -     -    -    -    -
NodeService/Tunnel                         -    -     yes  -     -     -    -    -    -
NodeService/FetchSecrets                   -    -     yes  -     -     -    -    -    -
RaftService/AppendEntries                  -    -     -    yes   -     -    -    -    -
RaftService/AppendStream                   -    -     -    yes   -     -    -    -    -
RaftService/Vote                           -    -     -    yes   -     -    -    -    -
RaftService/PreVote                        -    -     -    yes   -     -    -    -    -
RaftService/TransferLeader                 -    -     -    yes   -     -    -    -    -
RaftService/InstallCheckpoint              -    -     -    yes   -     -    -    -    -
MemberService/Admit                        -    -     -    yes   -     -    -    -    -
MemberService/Drop                         -    -     -    yes   -     -    -    -    -
MemberService/Transfer                     -    -     -    yes   -     -    -    -    -
MemberService/Describe                     -    -     -    yes   -     -    -    -    -
MemberService/ListSecrets                  -    -     -    yes   -     -    -    -    -
MemberService/GetSecret                    -    -     -    yes   -     -    -    -    -
MemberService/PutSecret                    -    -     -    yes   -     -    -    -    -
MemberService/SetSecret                    -    -     -    yes   -     -    -    -    -
MemberService/DigestSecrets                -    -     -    yes   -     -    -    -    -
RaftService/Propose                        -    -     -    yes   -     -    -    -    -
RaftService/ReadIndex                      -    -     -    yes   -     -    -    -    -
ClusterService/GetCluster                  -    -     -    -     yes   yes  yes  yes  yes
ClusterService/InspectCoordinator          -    -     -    -     yes   yes  yes  yes  yes
ClusterService/Backup                      -    -     -    -     yes   -    -    -    -
ClusterService/EndRecovery                 -    -     -    -     yes   -    -    -    -
ClusterService/CreateCoordinatorToken      -    -     -    -     yes   -    -    -    -
ClusterService/RemoveCoordinator           -    -     -    -     yes   -    -    -    -
ClusterService/TransferLeadership          -    -     -    -     yes   -    -    -    -
ClientService/CreateClient                 -    -     -    -     yes   -    -    -    -
ClientService/ListClients                  -    -     -    -     yes   yes  yes  yes  yes
ClientService/GetClient                    -    -     -    -     yes   yes  yes  yes  yes
ClientService/DeleteClient                 -    -     -    -     yes   -    -    -    -
ClientService/UpdateClient                 -    -     -    -     yes   -    -    -    -
ClientService/ChangeAllowed                -    -     -    -     yes   -    -    -    -
NodeAdminService/CreateNodeToken           -    -     -    -     yes   -    -    -    -
NodeAdminService/ListNodes                 -    -     -    -     yes   yes  yes  yes  yes
NodeAdminService/GetNode                   -    -     -    -     yes   yes  yes  yes  yes
NodeAdminService/SetNodeAvailability       -    -     -    -     yes   yes  -    -    -
NodeAdminService/LabelNode                 -    -     -    -     yes   -    -    -    -
NodeAdminService/RemoveNode                -    -     -    -     yes   -    -    -    -
NodeAdminService/RejoinNode                -    -     -    -     yes   -    -    -    -
WorkspaceService/CreateWorkspace           -    -     -    -     yes   yes  -    -    -
WorkspaceService/ListWorkspaces            -    -     -    -     yes   yes  yes  yes  yes
WorkspaceService/GetWorkspace              -    -     -    -     yes   yes  yes  yes  yes
WorkspaceService/ExplainWorkspace          -    -     -    -     yes   yes  yes  yes  yes
WorkspaceService/StartWorkspace            -    -     -    -     yes   yes  -    -    -
WorkspaceService/StopWorkspace             -    -     -    -     yes   yes  -    -    -
WorkspaceService/RestartWorkspace          -    -     -    -     yes   yes  -    -    -
WorkspaceService/DeleteWorkspace           -    -     -    -     yes   yes  -    -    -
WorkspaceService/ResizeWorkspace           -    -     -    -     yes   yes  -    -    -
WorkspaceService/UpdateWorkspace           -    -     -    -     yes   yes  -    -    -
WorkspaceService/FollowWorkspace           -    -     -    -     yes   yes  yes  yes  -
SessionService/ListSessions                -    -     -    -     yes   yes  yes  yes  -
SessionService/OpenStream                  -    -     -    -     yes   yes  yes  -    -
SessionService/CreateSession               -    -     -    -     yes   yes  -    -    -
SessionService/StopSession                 -    -     -    -     yes   yes  -    -    -
SessionService/RestartSession              -    -     -    -     yes   yes  -    -    -
SessionService/DeleteSession               -    -     -    -     yes   yes  -    -    -
BrowserService/ListBrowsers                -    -     -    -     yes   yes  yes  yes  -
TemplateService/PushTemplate               -    -     -    -     yes   -    -    -    -
TemplateService/ListTemplates              -    -     -    -     yes   yes  yes  yes  yes
TemplateService/GetTemplate                -    -     -    -     yes   yes  yes  yes  yes
TemplateService/ActivateTemplate           -    -     -    -     yes   -    -    -    -
TemplateService/DeleteTemplate             -    -     -    -     yes   -    -    -    -
SecretService/SetSecret                    -    -     -    -     yes   yes  -    -    -
SecretService/ListSecrets                  -    -     -    -     yes   yes  yes  yes  yes
SecretService/DeleteSecret                 -    -     -    -     yes   yes  -    -    -
WatchService/Watch                         -    -     -    -     yes   yes  yes  yes  yes
UserService/InviteUser                     -    -     -    -     yes   -    -    -    -
UserService/JoinUser                       yes  -     yes  yes   yes   yes  yes  yes  yes
UserService/ListUsers                      -    -     -    -     yes   -    -    -    yes
UserService/RevokeUser                     -    -     -    -     yes   -    -    -    -
AuditService/ListRecords                   -    -     -    -     yes   -    -    -    yes
AuditService/VerifyRecords                 -    -     -    -     yes   -    -    -    yes
MemberService/VerifyAudit                  -    -     -    yes   -     -    -    -    -
MemberService/Heard                        -    -     -    yes   -     -    -    -    -
";

fn address() -> SocketAddr {
    "127.0.0.1:1".parse().expect("an address")
}

fn caller(identity: PeerIdentity) -> Caller {
    let cluster: ClusterId = "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id");
    let (not_before, not_after) = (Timestamp(0), Timestamp(1000));
    let peer = Peer { identity, cluster, serial: vec![1], not_before, not_after };
    Caller::Peer { peer: Arc::new(peer), address: address() }
}

fn person(role: Role) -> Caller {
    caller(PeerIdentity::Person { role, name: "ada".parse().expect("a name") })
}

fn callers() -> Vec<Caller> {
    let node = "0199a0b2-7f00-7000-8000-0000000000ff".parse().expect("an id");
    let mut callers = vec![
        Caller::Anonymous { address: address() },
        Caller::Local { uid: 0 },
        caller(PeerIdentity::Node(node)),
        caller(PeerIdentity::Coordinator(ReplicaId(1))),
    ];
    callers.extend(
        [Role::Admin, Role::Operator, Role::Viewer, Role::Automation, Role::Auditor].map(person),
    );
    callers
}

#[test]
fn every_method_and_every_caller_are_as_the_table_says() {
    let rows: BTreeMap<&str, Vec<&str>> = TABLE
        .lines()
        .skip(2)
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.collect()))
        })
        .collect();
    assert_eq!(rows.len(), Method::ALL.len(), "one row for each method");
    for &method in Method::ALL {
        let row = rows.get(name(method)).unwrap_or_else(|| panic!("no row for {}", name(method)));
        let callers = callers();
        assert_eq!(row.len(), callers.len(), "{}", name(method));
        for (caller, expected) in callers.iter().zip(row) {
            let decision = decide(method, caller);
            let allowed = *expected == "yes";
            assert_eq!(decision.is_ok(), allowed, "{} by {caller:?}", name(method));
            if let Err(error) = decision {
                let missing =
                    matches!(caller, Caller::Anonymous { .. }) && rule(method) != Rule::Local;
                let code = if missing { Code::Unauthenticated } else { Code::PermissionDenied };
                assert_eq!(error.code, code, "{} by {caller:?}", name(method));
                assert!(error.why.is_some() || error.next.is_some(), "{error}: no advice");
            }
        }
    }
}

#[test]
fn a_refusal_names_caller_call_and_roles() {
    let error =
        decide(Method::WorkspaceDeleteWorkspace, &person(Role::Viewer)).expect_err("refused");
    assert_eq!(error.message, "person/viewer/ada may not call WorkspaceService/DeleteWorkspace");
    assert_eq!(error.reason, reason::NOT_PERMITTED);
    let why = "it takes a person's certificate with role admin or operator";
    assert_eq!(error.why.as_deref(), Some(why));
}

#[test]
fn a_viewer_looks_and_types_nothing() {
    let attach = |read_only| What::Attach(Attach { read_only, ..Default::default() });
    let exec = What::Exec(Exec::default());
    let logs = What::Logs(Logs::default());
    let (send, read) = (What::Send(Send::default()), What::Read(Read::default()));
    let explain = What::Explain(Explain::default());
    let shot = What::Shot(Shot::default());
    let all =
        [attach(false), attach(true), exec.clone(), logs.clone(), explain.clone(), shot.clone()];
    for role in [Role::Admin, Role::Operator] {
        for what in all.iter().chain([&send, &read]) {
            assert!(may_open(&person(role), what).is_ok(), "{role} {what:?}");
        }
    }
    let viewer = person(Role::Viewer);
    assert!(may_open(&viewer, &attach(true)).is_ok());
    assert!(may_open(&viewer, &logs).is_ok());
    assert!(may_open(&viewer, &explain).is_ok());
    assert!(may_open(&viewer, &shot).is_ok());
    assert!(may_open(&viewer, &attach(false)).is_err());
    assert!(may_open(&viewer, &exec).is_err());
    assert!(may_open(&viewer, &send).is_err());
    assert!(may_open(&viewer, &read).is_ok());
    for role in [Role::Automation, Role::Auditor] {
        assert!(may_open(&person(role), &logs).is_err(), "{role}");
        assert!(may_open(&person(role), &explain).is_err(), "{role}");
        assert!(may_open(&person(role), &shot).is_err(), "{role}");
    }
    let anonymous = Caller::Anonymous { address: address() };
    assert!(may_open(&anonymous, &logs).is_err() && may_open(&anonymous, &explain).is_err());
}

#[test]
fn a_viewer_sees_the_display_and_connects_to_nothing_else() {
    let view = |kind: ViewKind, control_ms| {
        let view = View { kind: kind.into(), control_ms, ..View::default() };
        What::Connect(Connect { target: Some(connect::Target::View(view)) })
    };
    let port = What::Connect(Connect { target: Some(connect::Target::Port(8080)) });
    let display = view(ViewKind::Display, 0);
    let others = [
        port,
        view(ViewKind::Display, 1),
        view(ViewKind::Terminal, 0),
        view(ViewKind::Editor, 0),
        view(ViewKind::Unspecified, 0),
    ];
    for what in others.iter().chain([&display]) {
        assert!(may_open(&person(Role::Operator), what).is_ok(), "{what:?}");
        for role in [Role::Automation, Role::Auditor] {
            assert!(may_open(&person(role), what).is_err(), "{role} {what:?}");
        }
    }
    assert!(may_open(&person(Role::Viewer), &display).is_ok());
    for what in &others {
        let refused = may_open(&person(Role::Viewer), what).expect_err("refused");
        assert!(refused.next.iter().any(|next| next.contains("playwright")), "{refused:?}");
    }
}

#[test]
fn a_certificate_ends_with_its_time_and_with_its_revocation() {
    let Caller::Peer { peer, .. } = person(Role::Admin) else { panic!("a peer") };
    let check = |method, standing, at| check_standing(&peer, method, (standing, Timestamp(at)));
    for method in Method::ALL.iter().copied().map(Some).chain([None]) {
        assert!(check(method, Standing::Good, 999).is_ok());
        let refused = |standing, at| check(method, standing, at).expect_err("refused").reason;
        assert_eq!(refused(Standing::Revoked, 0), reason::CERTIFICATE_REVOKED);
        assert_eq!(refused(Standing::Revoked, 1000), reason::CERTIFICATE_REVOKED, "and expired");
        assert_eq!(refused(Standing::Removed { incarnation: 7 }, 1000), reason::NODE_REMOVED);
        match method {
            Some(Method::EnrollRenew) => assert!(check(method, Standing::Good, 1000).is_ok()),
            _ => assert_eq!(refused(Standing::Good, 1000), reason::CERTIFICATE_EXPIRED),
        }
    }
}

fn revoked_if(revoked: bool) -> Standing {
    if revoked { Standing::Revoked } else { Standing::Good }
}
