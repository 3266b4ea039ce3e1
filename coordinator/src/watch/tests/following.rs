//! A reader's stream: what it is told, when, and how it ends.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};
use tonic::Code;
use warren_common::Revision;
use warren_daemon::Shutdown;
use warren_model::{
    Command, Principal,
    command::{RunRequest, SetRun},
};
use warren_proto::{
    ApiError,
    error::{least_revision, reason},
    pb::admin::v1::{self as pb, event::What, watch_response::Kind},
};

use super::{
    INCARNATION, World, client, create_client, create_workspace, issue, join, node, workspace,
};
use crate::watch::{Filter, Scope, Slots, Watcher, ring::Bounds};

struct Site {
    world: World,
    changes: watch::Sender<Revision>,
    shutdown: Shutdown,
}

impl Site {
    fn new(bounds: Bounds) -> Self {
        let (changes, shutdown) = (watch::Sender::new(Revision(0)), Shutdown::new());
        Self { world: World::new(bounds), changes, shutdown }
    }

    fn must(&mut self, commands: Vec<Command>) {
        self.world.must(commands);
        self.changes.send_replace(self.world.state.revision);
    }

    fn watcher(&self, filter: Filter, from: u64) -> Watcher {
        let cursor = self.world.ring.seek(0, Revision(from)).expect("kept");
        let slots = std::sync::Arc::new(Slots::default());
        let slot = slots.take(Principal::Person("ada".to_owned())).expect("a slot");
        let source = (self.world.ring.clone(), self.changes.subscribe());
        Watcher::new(source, filter, cursor, (slot, self.shutdown.clone()))
    }
}

async fn next(watcher: &mut Watcher) -> Kind {
    let answer = timeout(Duration::from_secs(60), watcher.next()).await.expect("in time");
    answer.expect("open").expect("an answer").kind.expect("of a kind")
}

async fn events(watcher: &mut Watcher) -> Vec<pb::Event> {
    match next(watcher).await {
        Kind::Events(events) => events.events,
        Kind::Bookmark(bookmark) => panic!("{bookmark:?}"),
        Kind::Standings(standings) => panic!("{standings:?}"),
        Kind::Sessions(sessions) => panic!("{sessions:?}"),
        Kind::Browsers(sessions) => panic!("{sessions:?}"),
    }
}

async fn bookmark(watcher: &mut Watcher) -> u64 {
    match next(watcher).await {
        Kind::Bookmark(bookmark) => {
            assert_eq!(bookmark.incarnation, INCARNATION);
            bookmark.revision
        }
        Kind::Events(events) => panic!("{events:?}"),
        Kind::Standings(standings) => panic!("{standings:?}"),
        Kind::Sessions(sessions) => panic!("{sessions:?}"),
        Kind::Browsers(sessions) => panic!("{sessions:?}"),
    }
}

async fn end(watcher: &mut Watcher) -> (ApiError, Option<u64>) {
    let answer = timeout(Duration::from_secs(60), watcher.next()).await.expect("in time");
    let status = answer.expect("open").expect_err("it ends");
    assert!(watcher.next().await.is_none(), "nothing comes after the end");
    (ApiError::from(&status), least_revision(&status))
}

#[tokio::test]
async fn history_comes_first_then_a_bookmark_then_what_happens() {
    let mut site = Site::new(Bounds::default());
    site.must(vec![create_client(1), create_client(2)]);
    let watcher = site.watcher(Filter::default(), 1);
    let mut watcher = watcher.bookmarks_every(Duration::from_millis(100));
    let told = events(&mut watcher).await;
    assert_eq!(
        told.iter().map(|one| (one.revision, one.index)).collect::<Vec<_>>(),
        [(2, 0), (3, 0)]
    );
    assert_eq!(bookmark(&mut watcher).await, 3);
    site.must(vec![create_workspace(1, 1, None)]);
    let told = events(&mut watcher).await;
    assert_eq!(told.len(), 2, "a revision comes whole");
    let Some(What::WorkspaceCreated(created)) = &told[0].what else { panic!("{told:?}") };
    let shown = created.workspace.as_ref().expect("the workspace");
    assert_eq!((shown.client.as_str(), shown.name.as_str()), ("c1", "w1"));
    // a quiet stream is told how far it has come
    assert_eq!(bookmark(&mut watcher).await, 4);
    assert_eq!(bookmark(&mut watcher).await, 4);
}

#[tokio::test]
async fn a_filter_tells_less_and_bookmarks_as_far() {
    let mut site = Site::new(Bounds::default());
    let at = site.world.now;
    site.must(vec![create_client(1), create_client(2), issue(1, at), join(1)]);
    let of_client = Scope { client: Some(client(2)), ..Scope::default() };
    let of_node = Scope { node: Some(node(1)), ..Scope::default() };
    let of_workspace = Scope { workspace: Some(workspace(2)), ..Scope::default() };
    let only = |scope| Filter { scope, ..Filter::default() };
    let mut by_client = site.watcher(only(of_client), 1);
    let mut by_node = site.watcher(only(of_node), 1);
    let mut by_workspace = site.watcher(only(of_workspace), 1);
    let kinds = vec![pb::EventKind::WorkspaceCreated];
    let mut by_kind = site.watcher(Filter { kinds, ..Filter::default() }, 1);
    site.must(vec![create_workspace(1, 1, None), create_workspace(2, 2, None)]);
    let delete = |n| Command::SetRun(SetRun { workspace: workspace(n), run: RunRequest::Delete });
    site.must(vec![delete(1), delete(2)]);
    let of = |told: Vec<pb::Event>| told.iter().map(|one| one.revision).collect::<Vec<_>>();
    assert_eq!(of(events(&mut by_client).await), [3, 7, 7, 9], "the removal too");
    assert_eq!(of(events(&mut by_node).await), [5]);
    assert_eq!(of(events(&mut by_workspace).await), [7, 7, 9]);
    assert_eq!(of(events(&mut by_kind).await), [6, 7]);
    for watcher in [&mut by_client, &mut by_node, &mut by_workspace, &mut by_kind] {
        assert_eq!(bookmark(watcher).await, 9);
    }
}

#[tokio::test]
async fn a_reader_slower_than_the_events_is_cut_and_holds_nothing_up() {
    let mut site = Site::new(Bounds { events: 10, ..Bounds::default() });
    let mut slow = site.watcher(Filter::default(), 1);
    let mut quick = site.watcher(Filter::default(), 1);
    assert_eq!(bookmark(&mut slow).await, 1);
    assert_eq!(bookmark(&mut quick).await, 1);
    for n in 1..=30 {
        site.must(vec![create_client(n)]);
        assert_eq!(events(&mut quick).await.len(), 1);
    }
    let (error, least) = end(&mut slow).await;
    assert_eq!(
        (error.code, error.reason.as_ref()),
        (Code::ResourceExhausted, reason::SLOW_CONSUMER)
    );
    assert_eq!(least, Some(21));
    assert!(error.next.is_some());
}

#[tokio::test]
async fn a_stream_ends_with_the_coordinator_and_with_its_history() {
    let mut site = Site::new(Bounds::default());
    site.must(vec![create_client(1)]);
    let mut watcher = site.watcher(Filter::default(), 2);
    let mut replaced = site.watcher(Filter::default(), 2);
    assert_eq!(bookmark(&mut watcher).await, 2);
    assert_eq!(bookmark(&mut replaced).await, 2);
    site.world.ring.replace(INCARNATION, Revision(9));
    site.changes.send_replace(Revision(9));
    let (error, least) = end(&mut replaced).await;
    assert_eq!((error.code, error.reason.as_ref()), (Code::OutOfRange, reason::RESYNC));
    assert_eq!(least, Some(9));
    let mut watcher = site.watcher(Filter::default(), 9);
    assert_eq!(bookmark(&mut watcher).await, 9);
    site.shutdown.request();
    let (error, _) = end(&mut watcher).await;
    assert_eq!((error.code, error.reason.as_ref()), (Code::Unavailable, reason::SHUTTING_DOWN));
}
