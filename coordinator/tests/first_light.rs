//! A coordinator from nothing to a served workspace, over real TLS and a real disk, with a node
//! that only speaks the protocol.

mod recovery;
#[allow(missing_docs, unreachable_pub)]
mod support;

use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use warren_coordinator::run::run;
use warren_daemon::{Shutdown, identity::Key};
use warren_proto::{
    error::ApiError,
    pb::{
        admin::v1::{self as pb, open_stream_request},
        inside::v1::{Attach, Frame, Open, StdinClosed, frame, open},
    },
};

use support::{Admin, Coordinator, mutation, node, wait_until, web};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_made_once_and_told_apart_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(folder.path()).await;
    let (first, _) = coordinator.init("home").await.expect("made");
    assert!(first.created && first.coordinators.len() == 1);
    let (again, _) = coordinator.init("home").await.expect("found");
    assert!(!again.created && again.cluster_id == first.cluster_id);
    assert_ne!(again.certificate_pem, first.certificate_pem, "a fresh certificate");
    let refused = coordinator.init("other").await.err().expect("another name");
    assert_eq!(
        (refused.code, refused.reason.as_ref()),
        (Code::AlreadyExists, "ALREADY_INITIALISED")
    );
    let odd = coordinator.init("Not A Name").await.err().expect("no name");
    assert_eq!(odd.code, Code::InvalidArgument);

    let mut admin = coordinator.admin("home").await;
    let cluster = admin.cluster.get_cluster(pb::GetClusterRequest::default()).await.expect("read");
    let cluster = cluster.into_inner();
    assert_eq!((cluster.name.as_str(), cluster.replicas.len()), ("home", 1));
    assert!(cluster.leader_replica_id == 1 && cluster.replicas[0].voter);
    assert!(cluster.audit_sequence >= 2, "init and replica are recorded");

    let health = HealthCheckRequest { service: "warren.admin.v1.WorkspaceService".to_owned() };
    let health = HealthClient::new(admin.channel.clone()).check(health).await.expect("served");
    assert_eq!(health.into_inner().status(), ServingStatus::Serving);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(admin.channel.clone());
    let listed = reflection.server_reflection_info(tokio_stream::once(list)).await.expect("served");
    let listed = listed.into_inner().message().await.expect("open").expect("an answer");
    let Some(MessageResponse::ListServicesResponse(services)) = listed.message_response else {
        panic!("no list of services");
    };
    assert!(services.service.iter().any(|one| one.name == "warren.node.v1.NodeService"));
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_as_fresh_as_it_was_asked_for_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(folder.path()).await;
    let mut admin = coordinator.admin("home").await;
    admin.create_client("acme").await.expect("made");
    let delete = pb::DeleteClientRequest { mutation: mutation(), client: "acme".to_owned() };
    let revision = admin.clients.delete_client(delete.clone()).await.expect("deleted");
    let revision = revision.into_inner().revision;
    let again = admin.clients.delete_client(delete).await.expect("the same request");
    assert!(again.into_inner().revision >= revision, "a state without it");

    let list = async |consistency: i32, min_revision| {
        let read = Some(pb::Read { consistency, min_revision });
        let request = pb::ListClientsRequest { read, ..Default::default() };
        admin.clients.clone().list_clients(request).await.map(tonic::Response::into_inner)
    };
    let (fresh, stale) = (pb::Consistency::Linearizable, pb::Consistency::Stale);
    for kind in [pb::Consistency::Unspecified, fresh] {
        let listed = list(kind.into(), 0).await.expect("read").freshness.expect("it says");
        assert_eq!((listed.consistency(), listed.age_ms, listed.replica_id), (fresh, None, 1));
        assert!(listed.revision >= revision);
    }
    let listed = list(stale.into(), revision).await.expect("read");
    assert!(listed.clients.is_empty(), "{:?}", listed.clients);
    let listed = listed.freshness.expect("it says");
    assert_eq!((listed.consistency(), listed.replica_id), (stale, 1));
    assert!(listed.age_ms.is_some_and(|age| age < 1000), "it decides alone: {listed:?}");
    assert!(listed.revision >= revision);
    let behind = list(stale.into(), listed.revision + 1000).await.expect_err("nobody decided that");
    let behind = ApiError::from(&behind);
    assert_eq!((behind.code, behind.reason.as_ref()), (Code::Unavailable, "BEHIND"));
    assert!(behind.message.contains(&listed.revision.to_string()), "{behind}");
    let odd = list(9, 0).await.expect_err("no such kind");
    assert_eq!(odd.code(), Code::InvalidArgument);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_init_at_once_make_one_cluster() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().expect("a folder");
        let coordinator = Coordinator::start(folder.path()).await;
        let (one, two, three) = tokio::join!(
            coordinator.init("home"),
            coordinator.init("home"),
            coordinator.init("home"),
        );
        let answers = [one, two, three].map(|answer| answer.expect("made or found").0);
        assert!(answers.iter().all(|answer| answer.cluster_id == answers[0].cluster_id));
        assert!(answers.iter().all(|answer| answer.trust_pem == answers[0].trust_pem));
        assert_eq!(answers.iter().filter(|answer| answer.created).count(), 1);
        coordinator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_made_cluster_is_finished_wherever_making_it_was_killed() {
    for killed in ["after the authorities", "after the intent", "after the Raft group"] {
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = support::half_made(&folder.path().join("state"), killed).await;
        let coordinator = Coordinator::start(folder.path()).await;
        let (answer, _) = coordinator.init("home").await.expect(killed);
        assert_eq!(answer.cluster_id, cluster.to_string(), "{killed}: its id holds");
        assert_eq!(answer.coordinators.len(), 1, "{killed}");
        let mut admin = coordinator.admin("home").await;
        admin.create_client("acme").await.expect(killed);
        coordinator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_coordinator_on_the_same_folder_leaves_the_first_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(folder.path()).await;
    let addresses = folder.path().join("state/addresses.json");
    let before = std::fs::read(&addresses).expect("published");
    let second = run(support::config(folder.path()), None, Shutdown::new()).await;
    let refused = second.expect_err("the socket is answered");
    assert!(refused.to_string().contains("another coordinator"), "{refused}");
    assert_eq!(std::fs::read(&addresses).expect("still there"), before);
    coordinator.init("home").await.expect("the first still answers");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_lives_from_create_to_delete() {
    let folder = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(folder.path()).await;
    let mut admin = coordinator.admin("home").await;
    admin.create_client("acme").await.expect("made");
    let shutdown = start_node(&mut admin, "n1").await;

    let created = admin.create(web("web")).await.expect("made");
    let explanation = created.explanation.expect("where it goes");
    assert_eq!(explanation.node, "n1", "{}", explanation.summary);
    let active = admin.wait_for_phase("acme/web", pb::Phase::Active).await;
    assert!(active.observed_live && active.node == "n1");
    let sessions = pb::ListSessionsRequest { workspace: "web".to_owned(), ..Default::default() };
    let sessions = admin.sessions.list_sessions(sessions).await.expect("read").into_inner();
    assert_eq!(sessions.sessions.len(), 1, "the bare name is enough");

    attach_and_echo(&mut admin).await;

    let follow = pb::FollowWorkspaceRequest { workspace: "acme/web".to_owned() };
    let mut follow = admin.workspaces.follow_workspace(follow).await.expect("open").into_inner();
    let first = follow.next().await.expect("a value").expect("at once").workspace.expect("it");
    assert_eq!(first.phase(), pb::Phase::Active);

    let stop = |workspace: &str| pb::StopWorkspaceRequest {
        mutation: mutation(),
        workspace: workspace.to_owned(),
    };
    admin.workspaces.stop_workspace(stop("acme/web")).await.expect("asked");
    admin.wait_for_phase("acme/web", pb::Phase::Stopped).await;
    let refused = open(&mut admin, "acme/web").await.expect_err("it does not run");
    assert_eq!(refused.code(), Code::FailedPrecondition);

    let delete =
        pb::DeleteWorkspaceRequest { mutation: mutation(), workspace: "acme/web".to_owned() };
    admin.workspaces.delete_workspace(delete.clone()).await.expect("asked");
    let last = loop {
        match follow.next().await.expect("it ends with a reason") {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(last.code(), Code::NotFound);
    admin.workspaces.delete_workspace(delete).await.expect("the same request again");
    shutdown.request();
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything_and_a_repeated_create_makes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(folder.path()).await;
    let mut admin = coordinator.admin("home").await;
    let client = admin.create_client("acme").await.expect("made");
    let request = web("web");
    let first = admin.create(request.clone()).await.expect("made").workspace.expect("it");
    assert_eq!(first.phase(), pb::Phase::Queued, "there is no node");
    let again = admin.create(request.clone()).await.expect("answered").workspace.expect("it");
    assert_eq!(first.id, again.id);
    let reused = pb::CreateWorkspaceRequest { name: "other".to_owned(), ..request.clone() };
    let reused = admin.create(reused).await.expect_err("the id is another's");
    assert_eq!(reused.reason, "REQUEST_REUSED");
    let cluster = admin.cluster.get_cluster(pb::GetClusterRequest::default()).await.expect("read");
    let before = cluster.into_inner();
    coordinator.stop().await;

    let coordinator = Coordinator::start(folder.path()).await;
    let mut admin = coordinator.admin("home").await;
    let again = admin.create(request).await.expect("answered").workspace.expect("it");
    assert_eq!((first.id, first.created_unix_ms), (again.id, again.created_unix_ms));
    let get = pb::GetClientRequest { client: client.id.clone(), read: None };
    let kept = admin.clients.get_client(get).await.expect("read").into_inner().client;
    assert_eq!(kept.map(|kept| (kept.name, kept.workspaces)), Some(("acme".to_owned(), 1)));
    let cluster = admin.cluster.get_cluster(pb::GetClusterRequest::default()).await.expect("read");
    let after = cluster.into_inner();
    assert_eq!((before.cluster_id, before.incarnation), (after.cluster_id, after.incarnation));
    assert!(after.audit_sequence >= before.audit_sequence);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_create_of_what_is_gone_since_is_no_refusal() {
    let folder = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(folder.path()).await;
    let mut admin = coordinator.admin("home").await;
    admin.create_client("acme").await.expect("made");
    let request = web("web");
    let made = admin.create(request.clone()).await.expect("made").workspace.expect("it");
    let delete = pb::DeleteWorkspaceRequest { mutation: mutation(), workspace: made.id };
    admin.workspaces.delete_workspace(delete).await.expect("deleted");
    wait_until("it is gone", || async {
        let found = Admin::new(admin.channel.clone()).workspace("acme/web").await;
        found.is_none().then_some(())
    })
    .await;
    let again = admin.create(request).await.expect("it took effect once");
    assert_eq!(again.workspace, None);

    let create = pb::CreateClientRequest {
        mutation: mutation(),
        name: "brief".to_owned(),
        ..Default::default()
    };
    let made = admin.clients.create_client(create.clone()).await.expect("made").into_inner();
    let client = made.client.expect("it").id;
    let delete = pb::DeleteClientRequest { mutation: mutation(), client };
    admin.clients.delete_client(delete).await.expect("deleted");
    let again = admin.clients.create_client(create).await.expect("it took effect once");
    assert_eq!(again.into_inner().client, None);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_certificates_open_one_door_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(folder.path()).await;
    let mut admin = coordinator.admin("home").await;
    let token = admin.token().await;
    let key = Key::generate().expect("a key");
    let joined = node::enroll(&token, "n1", &key).await.expect("let in");
    let again = node::enroll(&token, "n1", &key).await.expect("the same machine");
    assert_eq!(joined.answer.node_id, again.answer.node_id);
    let other = Key::generate().expect("a key");
    let used = node::enroll(&token, "n2", &other).await.err().expect("spent");
    assert_eq!(used.reason, "TOKEN_USED");

    let mut wrong = Admin::new(joined.channel);
    let refused = wrong.create_client("acme").await.expect_err("a node's certificate");
    assert_eq!((refused.code, refused.reason.as_ref()), (Code::PermissionDenied, "NOT_PERMITTED"));

    let mut as_node = warren_proto::pb::node::v1::node_service_client::NodeServiceClient::new(
        admin.channel.clone(),
    );
    let refused = as_node.status(tokio_stream::empty()).await.expect_err("a person's certificate");
    assert_eq!(refused.code(), Code::PermissionDenied);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(folder.path()).await;
    let mut admin = coordinator.admin("home").await;
    admin.create_client("acme").await.expect("made");
    let taken = admin.create_client("acme").await.expect_err("twice");
    assert_eq!(taken.reason, "NAME_TAKEN");
    assert!(admin.create_client("Acme Inc").await.is_err());

    let mut request = web("web");
    request.parameters = [("repos".to_owned(), "https://h/x".to_owned())].into();
    let unknown = admin.create(request).await.expect_err("no such parameter");
    assert_eq!(unknown.reason, "UNKNOWN_PARAMETER");
    assert!(unknown.message.contains("repo") && unknown.next.is_some());

    let mut request = web("web");
    request.labels = [("k".to_owned(), "x".repeat(1 << 20))].into();
    assert_eq!(admin.create(request).await.expect_err("1 MiB").code, Code::InvalidArgument);

    let mut request = web("web");
    request.labels = [("k".to_owned(), "x".repeat(10 << 20))].into();
    let huge = admin.create(request).await.expect_err("10 MiB");
    assert_eq!(huge.code, Code::OutOfRange, "an answer, not a broken connection: {huge:?}");
    assert!(huge.message.contains("too large"), "{huge}");

    let impossible = pb::CreateWorkspaceRequest { no_queue: true, ..web("web") };
    let impossible = admin.create(impossible).await.expect_err("there is no node");
    assert_eq!(impossible.reason, "NO_NODE_FITS");

    let anonymous = pb::CreateWorkspaceRequest { mutation: None, ..web("web") };
    assert_eq!(admin.create(anonymous).await.expect_err("no id").reason, "REQUEST_ID_MISSING");

    let missing = pb::GetWorkspaceRequest { workspace: "acme/none".to_owned(), read: None };
    let missing = admin.workspaces.get_workspace(missing).await.expect_err("none");
    assert_eq!(missing.code(), Code::NotFound);
    coordinator.stop().await;
}

async fn start_node(admin: &mut Admin, name: &str) -> Shutdown {
    let token = admin.token().await;
    let key = Key::generate().expect("a key");
    let joined = node::enroll(&token, name, &key).await.expect("let in");
    let shutdown = Shutdown::new();
    tokio::spawn(node::run(joined.channel, shutdown.clone()));
    wait_until("a ready node", || async {
        let mut nodes = Admin::new(admin.channel.clone()).nodes;
        let nodes = nodes.list_nodes(pb::ListNodesRequest::default()).await.ok()?;
        let nodes = nodes.into_inner().nodes;
        nodes.iter().any(|node| node.liveness() == pb::NodeLiveness::Ready).then_some(())
    })
    .await;
    shutdown
}

type Opened = (mpsc::Sender<pb::OpenStreamRequest>, tonic::Streaming<pb::OpenStreamResponse>);

async fn open(admin: &mut Admin, workspace: &str) -> Result<Opened, tonic::Status> {
    let (requests, receiver) = mpsc::channel(16);
    let attach = Attach { session: "main".to_owned(), terminal: None, read_only: false };
    let open = Some(Open { what: Some(open::What::Attach(attach)) });
    let target = pb::StreamTarget { workspace: workspace.to_owned(), open, last: false };
    let kind = Some(open_stream_request::Kind::Target(target));
    requests.send(pb::OpenStreamRequest { kind }).await.expect("open");
    let answers = admin.sessions.open_stream(ReceiverStream::new(receiver)).await?;
    Ok((requests, answers.into_inner()))
}

async fn attach_and_echo(admin: &mut Admin) {
    let (requests, mut answers) = open(admin, "acme/web").await.expect("it runs");
    let send = |kind| {
        let frame = Frame { kind: Some(kind) };
        pb::OpenStreamRequest { kind: Some(open_stream_request::Kind::Frame(frame)) }
    };
    for text in ["hello", "grüße"] {
        let bytes = text.as_bytes().to_vec().into();
        requests.send(send(frame::Kind::Stdin(bytes))).await.expect("open");
    }
    requests.send(send(frame::Kind::StdinClosed(StdinClosed {}))).await.expect("open");
    let mut seen = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer.expect("open").frame.and_then(|frame| frame.kind) {
            Some(frame::Kind::Stdout(bytes)) => {
                seen.push(String::from_utf8(bytes.to_vec()).expect("text"));
            }
            Some(frame::Kind::Exited(exited)) => seen.push(exited.code.to_string()),
            Some(frame::Kind::Opened(_)) => seen.push("opened".to_owned()),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(seen, ["opened", "hello", "grüße", "7"]);
}
