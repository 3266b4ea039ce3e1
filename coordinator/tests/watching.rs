//! Watching a coordinator in this process, over real TLS and a real disk.

#[allow(missing_docs, unreachable_pub, dead_code)]
mod support;

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tonic::{Code, Streaming};
use warren_common::Limits;
use warren_daemon::{
    identity::{ClientTls, Key, connect},
    token::JoinToken,
};
use warren_proto::{
    ApiError,
    error::{least_revision, reason},
    pb::admin::v1::{
        self as pb, event::What, user_service_client::UserServiceClient, watch_response::Kind,
        watch_service_client::WatchServiceClient,
    },
};

use support::{Admin, Coordinator, channel, mutation, wait_until, web};

type Answers = Streaming<pb::WatchResponse>;

async fn watch(admin: &Admin, request: pb::WatchRequest) -> Result<Answers, tonic::Status> {
    let answer = WatchServiceClient::new(admin.channel.clone()).watch(request).await?;
    Ok(answer.into_inner())
}

fn from(from_revision: u64) -> pb::WatchRequest {
    pb::WatchRequest { from_revision, ..Default::default() }
}

async fn refused(admin: &Admin, request: pb::WatchRequest) -> (ApiError, Option<u64>) {
    let status = watch(admin, request).await.expect_err("refused");
    (ApiError::from(&status), least_revision(&status))
}

async fn next(answers: &mut Answers) -> Kind {
    let answer = timeout(Duration::from_secs(20), answers.message()).await.expect("in time");
    answer.expect("open").expect("an answer").kind.expect("of a kind")
}

/// Reads events until the next bookmark.
async fn until_bookmark(answers: &mut Answers) -> (Vec<pb::Event>, u64) {
    let mut told = Vec::new();
    loop {
        match next(answers).await {
            Kind::Events(events) => told.extend(events.events),
            Kind::Bookmark(bookmark) => return (told, bookmark.revision),
            Kind::Standings(standings) => panic!("nobody asked: {standings:?}"),
            Kind::Sessions(sessions) => panic!("nobody asked: {sessions:?}"),
            Kind::Browsers(browsers) => panic!("nobody asked: {browsers:?}"),
        }
    }
}

fn names(events: &[pb::Event]) -> Vec<String> {
    let name = |event: &pb::Event| match event.what.clone().expect("it says what") {
        What::ClientCreated(made) => format!("+{}", made.client.expect("the client").name),
        What::ClientDeleted(gone) => format!("-{}", gone.name),
        What::WorkspaceCreated(made) => format!("+{}", made.workspace.expect("one").name),
        other => format!("{other:?}"),
    };
    events.iter().map(name).collect()
}

async fn freshness(admin: &mut Admin) -> pb::Freshness {
    let listed = admin.clients.list_clients(pb::ListClientsRequest::default()).await;
    listed.expect("listed").into_inner().freshness.expect("how fresh it is")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_a_watch_from_its_revision_leave_no_gap_across_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(folder.path()).await;
    let mut admin = coordinator.admin("home").await;
    admin.create_client("acme").await.expect("made");
    let at = freshness(&mut admin).await;
    assert_ne!(at.incarnation, 0);
    admin.create_client("between").await.expect("made after the list, before the watch");
    let asked = pb::WatchRequest { incarnation: at.incarnation, ..from(at.revision) };
    let mut answers = watch(&admin, asked.clone()).await.expect("it watches");
    let (told, upto) = until_bookmark(&mut answers).await;
    assert_eq!((names(&told), upto), (vec!["+between".to_owned()], at.revision + 1));
    admin.create_client("later").await.expect("made");
    let Kind::Events(events) = next(&mut answers).await else { panic!("no events") };
    assert_eq!(names(&events.events), ["+later"]);
    let last = events.events[0].revision;

    coordinator.stop().await;
    let end = timeout(Duration::from_secs(20), answers.message()).await.expect("in time");
    let end = ApiError::from(&end.expect_err("it says why"));
    assert_eq!((end.code, end.reason.as_ref()), (Code::Unavailable, reason::SHUTTING_DOWN));

    let coordinator = Coordinator::start(folder.path()).await;
    let mut admin = coordinator.admin("home").await;
    admin.create_client("after").await.expect("made");
    let mut answers = watch(&admin, pb::WatchRequest { from_revision: last, ..asked }).await;
    let answers = answers.as_mut().expect("it goes on");
    let (told, _) = until_bookmark(answers).await;
    // what a start writes by itself: its addresses, and the certificates that went out
    let own =
        |name: &String| name.starts_with("ReplicaSet") || name.starts_with("CertificateIssued");
    let told: Vec<String> = names(&told).into_iter().filter(|name| !own(name)).collect();
    assert_eq!(told, ["+after"], "nothing is lost or repeated");
    let oldest = pb::WatchRequest { from_oldest: true, ..Default::default() };
    let mut answers = watch(&admin, oldest).await.expect("it watches");
    let (told, _) = until_bookmark(&mut answers).await;
    assert!(matches!(told[0].what, Some(What::ClusterInitialised(_))), "{told:?}");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_bounded_filtered_and_refused_with_reasons() {
    let folder = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(folder.path()).await;
    let mut admin = coordinator.admin("home").await;
    admin.create_client("acme").await.expect("made");
    admin.create_client("other").await.expect("made");
    let at = freshness(&mut admin).await;

    let (error, least) = refused(&admin, from(at.revision + 1000)).await;
    assert_eq!((error.code, error.reason.as_ref()), (Code::OutOfRange, reason::RESYNC));
    assert_eq!(least, Some(at.revision + 1000), "as new as what was seen elsewhere");
    let wrong = pb::WatchRequest { incarnation: at.incarnation + 1, ..from(at.revision) };
    assert_eq!(refused(&admin, wrong).await.0.reason, reason::RESYNC);
    let odd = pb::WatchRequest { kinds: vec![999], ..from(0) };
    assert_eq!(refused(&admin, odd).await.0.code, Code::InvalidArgument);
    let both = pb::WatchRequest { from_oldest: true, ..from(1) };
    assert_eq!(refused(&admin, both).await.0.code, Code::InvalidArgument);
    let nobody = pb::WatchRequest { client: "nobody".to_owned(), ..from(0) };
    assert_eq!(refused(&admin, nobody).await.0.reason, reason::NOT_FOUND);

    let asked = pb::WatchRequest {
        client: "acme".to_owned(),
        kinds: vec![pb::EventKind::WorkspaceCreated.into()],
        ..from(0)
    };
    let mut filtered = watch(&admin, asked).await.expect("it watches");
    assert!(
        matches!(next(&mut filtered).await, Kind::Bookmark(one) if one.revision == at.revision)
    );
    admin
        .create(pb::CreateWorkspaceRequest { client: "other".to_owned(), ..web("theirs") })
        .await
        .expect("made");
    admin.create(web("ours")).await.expect("made");
    let Kind::Events(events) = next(&mut filtered).await else { panic!("no events") };
    assert_eq!(names(&events.events), ["+ours"]);
    drop(filtered);

    let mut open = Vec::new();
    while open.len() <= Limits::WATCHES_PER_PRINCIPAL {
        match watch(&admin, from(0)).await {
            Ok(answers) => open.push(answers),
            Err(status) => {
                let error = ApiError::from(&status);
                assert_eq!(error.reason, reason::LIMIT_REACHED, "{error}");
                assert!(error.next.is_some());
                break;
            }
        }
    }
    assert!(!open.is_empty() && open.len() <= Limits::WATCHES_PER_PRINCIPAL, "{}", open.len());
    drop(open);
    wait_until("they are given back", || async { watch(&admin, from(0)).await.ok() }).await;
    coordinator.stop().await;
}

/// Invites somebody and takes the invitation up for them.
async fn person(admin: &Admin, name: &str, role: &str) -> Admin {
    let (name, role) = (name.to_owned(), role.to_owned());
    let invite = pb::InviteUserRequest { mutation: mutation(), name, role };
    let invited = UserServiceClient::new(admin.channel.clone()).invite_user(invite).await;
    let token = invited.expect("invited").into_inner().token;
    let parsed: JoinToken = token.parse().expect("a token");
    let tls = Arc::new(ClientTls::pinned(parsed.pin).expect("TLS"));
    let anonymous = connect(&tls, &parsed.addresses).await.expect("the API answers");
    let key = Key::generate().expect("a key");
    let join = pb::JoinUserRequest { token, csr_pem: key.request().expect("a request") };
    let joined = UserServiceClient::new(anonymous).join_user(join).await;
    let joined = joined.expect("joined").into_inner();
    let chain = &joined.certificate_pem;
    Admin::new(channel(&key, chain, &joined.trust_pem, &joined.coordinators).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_of_people_only_those_who_may_list_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let coordinator = Coordinator::start(folder.path()).await;
    let mut admin = coordinator.admin("home").await;
    let vera = person(&admin, "vera", "viewer").await;
    let otto = person(&admin, "otto", "auditor").await;
    let at = freshness(&mut admin).await.revision;
    person(&admin, "mia", "operator").await;
    let revoke = pb::RevokeUserRequest {
        mutation: mutation(),
        name: "mia".to_owned(),
        ..Default::default()
    };
    UserServiceClient::new(admin.channel.clone()).revoke_user(revoke).await.expect("revoked");
    admin.create_client("acme").await.expect("made");
    let about_people = |event: &pb::Event| {
        matches!(
            event.what,
            Some(
                What::PersonInvited(_)
                    | What::PersonEnrolled(_)
                    | What::PersonRevoked(_)
                    | What::CertificateIssued(_)
                    | What::CertificateRevoked(_)
            )
        )
    };
    for (who, told_of_them) in [(&admin, true), (&otto, true), (&vera, false)] {
        let mut answers = watch(who, from(at)).await.expect("it watches");
        let (told, upto) = until_bookmark(&mut answers).await;
        assert!(upto > at, "the bookmark comes as far");
        let last = told.last().and_then(|event| event.what.as_ref());
        assert!(matches!(last, Some(What::ClientCreated(_))), "{told:?}");
        assert_eq!(told.iter().any(about_people), told_of_them, "{told:?}");
    }
    let kinds = [
        pb::EventKind::PersonInvited,
        pb::EventKind::PersonEnrolled,
        pb::EventKind::PersonRevoked,
        pb::EventKind::CertificateIssued,
        pb::EventKind::CertificateRevoked,
    ];
    for kind in kinds {
        let asked = pb::WatchRequest { kinds: vec![kind.into()], ..from(at) };
        let (error, _) = refused(&vera, asked.clone()).await;
        assert_eq!(error.reason, reason::NOT_PERMITTED, "{kind:?}");
        assert!(error.next.is_some());
        watch(&otto, asked).await.expect("an auditor may");
    }
    // sessions are for those who may list them
    let sessions = pb::WatchRequest {
        sessions: true,
        no_events: true,
        // without events there is no place, so none is missed
        from_revision: 1_000_000,
        incarnation: 99,
        ..Default::default()
    };
    assert_eq!(refused(&otto, sessions.clone()).await.0.reason, reason::NOT_PERMITTED);
    let mut answers = watch(&vera, sessions).await.expect("a viewer may");
    assert!(matches!(next(&mut answers).await, Kind::Bookmark(_)));
    let Kind::Sessions(all) = next(&mut answers).await else { panic!("no sessions") };
    assert!(all.begins && all.complete && all.sessions.is_empty(), "{all:?}");
    coordinator.stop().await;
}
