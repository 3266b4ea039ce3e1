//! A door with a hostile and a well-behaved PID 1 behind it.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::UnixStream, time::timeout};
use warren_common::{Limits, WorkspaceId};
use warren_daemon::clock;
use warren_proto::pb::inside::v1::{self as pb, hello::Role};

use super::{Door, Doors, Expected, InsideView, OpenError, PeerCheck, read_message, write_message};

const SOON: Duration = Duration::from_secs(5);

fn id() -> WorkspaceId {
    "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id")
}

fn expected(run_serial: u64) -> Expected {
    let setup = pb::Setup { repo: "https://git.example/x.git".to_owned(), ..pb::Setup::default() };
    Expected { container: Some("c".to_owned()), run_serial, setup }
}

fn door(dir: &Path) -> (Doors, Arc<Door>) {
    let doors = Doors::new(dir, PeerCheck::Off).expect("a runtime folder");
    let door = doors.open(id()).expect("a door");
    door.expect(expected(1));
    (doors, door)
}

async fn dial(door: &Door, role: Role) -> UnixStream {
    let mut stream = UnixStream::connect(door.dir().join("agent.sock")).await.expect("listens");
    let hello = pb::Hello { protocol: 1, role: Some(role) };
    write_message(&mut stream, &hello).await.expect("greeted");
    stream
}

async fn control(door: &Door, run_serial: u64) -> UnixStream {
    control_of(door, run_serial, true).await
}

async fn control_of(door: &Door, run_serial: u64, takes_orders: bool) -> UnixStream {
    let version = "0.1.0".to_owned();
    dial(door, Role::Control(pb::Control { version, run_serial, takes_orders })).await
}

/// A setup that names these sessions, of a life and a run each.
fn ordered(sessions: &[(&str, u64, u64)]) -> Expected {
    let session = |(name, life, run): &(&str, u64, u64)| pb::Session {
        name: (*name).to_owned(),
        command: "claude".to_owned(),
        branch: if *life > 0 { format!("warren/{name}") } else { String::new() },
        life: *life,
        run: *run,
        ..pb::Session::default()
    };
    let mut expected = expected(1);
    expected.setup.ordered = true;
    expected.setup.sessions = sessions.iter().map(session).collect();
    expected
}

async fn told(stream: &mut UnixStream) -> Option<pb::to_inside::Kind> {
    let message = timeout(SOON, read_message::<pb::ToInside, _>(stream)).await.expect("in time");
    message.ok().flatten().and_then(|message| message.kind)
}

async fn seen(door: &Door, what: impl FnMut(&InsideView) -> bool) {
    timeout(SOON, door.view().wait_for(what)).await.expect("in time").expect("open");
}

fn status(started: bool) -> pb::FromInside {
    let status = pb::Status { started, ..pb::Status::default() };
    pb::FromInside { kind: Some(pb::from_inside::Kind::Status(status)) }
}

#[tokio::test]
async fn pid_1_is_told_its_setup_and_its_status_is_seen() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_doors, door) = door(dir.path());
    let mut stream = control(&door, 1).await;
    let setup = told(&mut stream).await;
    assert_eq!(setup, Some(pb::to_inside::Kind::Setup(expected(1).setup)));
    write_message(&mut stream, &status(true)).await.expect("sent");
    seen(&door, |view| view.connected && view.status.as_ref().is_some_and(|s| s.started)).await;
    let sent = clock::now();
    drop(stream);
    seen(&door, |view| !view.connected && view.status.is_some()).await;
    let heard = door.view().borrow().heard.expect("it was heard");
    assert!(heard <= clock::now() && sent.since(heard) < SOON, "{heard:?}");
    let mut again = control(&door, 1).await;
    seen(&door, |view| view.connected && view.heard == Some(heard)).await;
    write_message(&mut again, &status(false)).await.expect("sent");
    seen(&door, |view| view.heard > Some(heard)).await;
}

#[tokio::test]
async fn another_run_is_turned_away_and_a_new_run_forgets_the_old() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_doors, door) = door(dir.path());
    assert_eq!(told(&mut control(&door, 7).await).await, None, "closed without a word");
    let mut stream = control(&door, 1).await;
    told(&mut stream).await.expect("the setup");
    write_message(&mut stream, &status(true)).await.expect("sent");
    seen(&door, |view| view.status.is_some()).await;
    door.expect(expected(2));
    seen(&door, |view| *view == InsideView::default()).await;
    assert_eq!(told(&mut stream).await, None, "the old run's connection is cut");
}

#[tokio::test]
async fn a_newer_control_connection_replaces_an_older() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_doors, door) = door(dir.path());
    let mut older = control(&door, 1).await;
    told(&mut older).await.expect("the setup");
    let mut newer = control(&door, 1).await;
    told(&mut newer).await.expect("the setup");
    assert_eq!(told(&mut older).await, None, "closed");
    assert!(door.shut_down(Limits::STOP_GRACE));
    let shutdown = pb::Shutdown { grace_ms: 10_000 };
    assert_eq!(told(&mut newer).await, Some(pb::to_inside::Kind::Shutdown(shutdown)));
    assert!(door.view().borrow().connected);
}

#[tokio::test]
async fn streams_are_matched_by_id() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_doors, door) = door(dir.path());
    assert!(matches!(door.stream().await, Err(OpenError::NotConnected)));
    let mut stream = control(&door, 1).await;
    told(&mut stream).await.expect("the setup");
    let asking = tokio::spawn({
        let door = Arc::clone(&door);
        async move { door.stream().await }
    });
    let Some(pb::to_inside::Kind::OpenStream(open)) = told(&mut stream).await else {
        panic!("no stream was asked for");
    };
    let mut stray = dial(&door, Role::StreamId(open.stream_id + 1)).await;
    let frame = read_message::<pb::Frame, _>(&mut stray).await.expect("closed cleanly");
    assert_eq!(frame, None, "nobody waits for that id");
    let mut dialled = dial(&door, Role::StreamId(open.stream_id)).await;
    let mut given = asking.await.expect("no panic").expect("a stream");
    let opened = pb::Frame { kind: Some(pb::frame::Kind::Opened(pb::Opened {})) };
    write_message(&mut dialled, &opened).await.expect("sent");
    let got = read_message::<pb::Frame, _>(&mut given.stream).await.expect("whole");
    assert_eq!(got, Some(opened));
}

#[tokio::test]
async fn nonsense_closes_only_its_own_connection() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_doors, door) = door(dir.path());
    let mut good = control(&door, 1).await;
    told(&mut good).await.expect("the setup");
    for bytes in [&[0xff; 64][..], &[3, 9, 9, 9], &[b'G'; 100]] {
        let mut hostile =
            UnixStream::connect(door.dir().join("agent.sock")).await.expect("listens");
        hostile.write_all(bytes).await.expect("sent");
        assert_eq!(told(&mut hostile).await, None, "closed");
    }
    let mut old = UnixStream::connect(door.dir().join("agent.sock")).await.expect("listens");
    let hello = pb::Hello { protocol: 99, role: Some(Role::StreamId(1)) };
    write_message(&mut old, &hello).await.expect("sent");
    let frame = read_message::<pb::Frame, _>(&mut old).await.expect("whole").expect("an answer");
    let Some(pb::frame::Kind::Failed(failed)) = frame.kind else { panic!("{frame:?}") };
    assert_eq!(failed.reason, "PROTOCOL_UNKNOWN");
    write_message(&mut good, &status(true)).await.expect("still there");
    seen(&door, |view| view.connected && view.status.is_some()).await;
}

#[tokio::test]
async fn a_new_agent_takes_the_socket_over_in_the_same_folder() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let (doors, first) = door(dir.path());
    let inode = std::fs::metadata(first.dir()).expect("there").ino();
    drop((doors, first));
    let (doors, second) = door(dir.path());
    assert_eq!(std::fs::metadata(second.dir()).expect("there").ino(), inode, "mounts hold");
    told(&mut control(&second, 1).await).await.expect("the setup");
    doors.close(id()).await;
    assert!(!doors.dir(id()).exists());
}

#[tokio::test]
async fn a_stranger_is_turned_away() {
    let dir = tempfile::tempdir().expect("a folder");
    let doors = Doors::new(dir.path(), PeerCheck::Cgroup).expect("a runtime folder");
    let door = doors.open(id()).expect("a door");
    door.expect(expected(1));
    let mut stream = UnixStream::connect(door.dir().join("agent.sock")).await.expect("listens");
    assert_eq!(told(&mut stream).await, None, "this test is not in container c");
}

#[tokio::test]
async fn the_newest_setup_is_told_however_much_else_waits() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_doors, door) = door(dir.path());
    let mut stream = control(&door, 1).await;
    told(&mut stream).await.expect("the setup");
    seen(&door, |view| view.connected).await;
    // nobody reads: what is asked fills the queue and then the connection
    let mut asked = 0;
    while door.shut_down(Limits::STOP_GRACE) {
        asked += 1;
        assert!(asked < 1_000_000, "the queue has an end");
        if asked % 8 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for run in 1..=3 {
        door.expect(ordered(&[("main", 0, run)]));
    }
    let setup = ordered(&[("main", 0, 3)]).setup;
    let mut others = 0;
    loop {
        match told(&mut stream).await.expect("there is more") {
            pb::to_inside::Kind::Setup(seen) => {
                assert_eq!(seen, setup, "the newest and no other");
                break;
            }
            pb::to_inside::Kind::OpenStream(_) | pb::to_inside::Kind::Shutdown(_) => others += 1,
        }
    }
    assert!(others <= asked, "{others} of {asked}");
}

#[tokio::test]
async fn a_pid_1_that_takes_no_orders_is_told_of_none_and_that_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_doors, door) = door(dir.path());
    let mut older = control_of(&door, 1, false).await;
    told(&mut older).await.expect("the setup");
    seen(&door, |view| view.connected).await;
    door.expect(ordered(&[("main", 0, 0), ("review", 5, 5)]));
    let plain = |sessions| pb::Setup { ordered: false, ..ordered(sessions).setup };
    let first = plain(&[("main", 0, 0)]);
    assert_eq!(told(&mut older).await, Some(pb::to_inside::Kind::Setup(first)));
    let status = pb::Status {
        sessions: vec![pb::SessionStatus {
            name: "main".to_owned(),
            running: true,
            ..pb::SessionStatus::default()
        }],
        ..pb::Status::default()
    };
    let status = pb::FromInside { kind: Some(pb::from_inside::Kind::Status(status)) };
    write_message(&mut older, &status).await.expect("sent");
    seen(&door, |view| view.status.is_some()).await;
    let sessions = door.view().borrow().status.clone().expect("it said so").sessions;
    let problem = |at: usize| sessions[at].run.as_ref().map(|run| (run.run, run.problem.clone()));
    assert_eq!(problem(0), None, "it is as it was from the beginning");
    let (run, why) = problem(1).expect("it is told");
    assert!(run == 5 && why.contains("restart the workspace"), "{why}");
    assert!(sessions[1].name.to_string() == "review" && sessions[1].started.0 > 0);
    // one that does is told all
    drop(older);
    seen(&door, |view| !view.connected).await;
    let mut newer = control(&door, 1).await;
    let all = ordered(&[("main", 0, 0), ("review", 5, 5)]).setup;
    assert_eq!(told(&mut newer).await, Some(pb::to_inside::Kind::Setup(all)));
}
