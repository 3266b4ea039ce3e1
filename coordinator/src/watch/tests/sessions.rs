//! Sessions in a watch: all of them once, then those that stand otherwise.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use uuid::Uuid;
use warren_common::{
    Generation, Limits, NodeEpoch, Revision, Timestamp, WorkspaceId,
    agent::{AgentKind, AgentState, AgentStatus, Confidence, Flags, Meter, Source, Wait, WaitKind},
    status::{SessionObserved, SessionState, WorkspaceObserved},
};
use warren_daemon::Shutdown;
use warren_model::{
    ClusterState, Command, Principal, Report,
    command::{Forget, RegisterNode, RunRequest, SetRun},
};
use warren_proto::pb::{
    admin::v1::{self as pb, watch_response::Kind},
    inside::v1::agent_state::State,
};

use super::{World, client, facts, node, observed, workspace};
use crate::{
    live::{Beside, Live, Reading},
    sync::locked,
    watch::{Feed, Filter, Scope, Slots, Watcher},
};

/// One node with workspaces of two clients on it.
struct Site {
    world: World,
    decided: Arc<Mutex<ClusterState>>,
    live: Arc<Live>,
    clock: Arc<Mutex<Reading>>,
    changes: watch::Sender<Revision>,
    sequence: u64,
}

impl Site {
    fn new() -> Self {
        let world = World::with_placed();
        let clock = Arc::new(Mutex::new(Reading { wall: world.now, ..Reading::now() }));
        let read = clock.clone();
        let live = Arc::new(Live::new(move || *locked(&read)));
        let decided = Arc::new(Mutex::new(world.state.clone()));
        let changes = watch::Sender::new(Revision(0));
        Self { world, decided, live, clock, changes, sequence: 0 }
    }

    fn must(&mut self, commands: Vec<Command>) {
        self.world.must(commands);
        self.publish();
    }

    /// Shows readers what was decided.
    fn publish(&self) {
        *locked(&self.decided) = self.world.state.clone();
        self.changes.send_replace(self.world.state.revision);
    }

    fn generation(&self, n: u8) -> Generation {
        self.world.state.workspaces[&workspace(n)].generation
    }

    /// The node says what the agents of some workspaces do, and nothing of the others; at first
    /// that it has no others.
    fn report(&mut self, agents: &[(u8, AgentStatus)]) {
        self.sequence += 1;
        let seen = |(n, agent): &(u8, AgentStatus)| WorkspaceObserved {
            generation: self.generation(*n),
            sessions: vec![session(agent.clone())],
            ..observed(*n)
        };
        let workspaces = agents.iter().map(seen).collect();
        let (epoch, sequence) = (self.world.state.nodes[&node(1)].epoch, self.sequence);
        let report =
            |received| Report { epoch, sequence, received, full: sequence == 1, workspaces };
        assert!(self.live.take(node(1), report, Beside::default()));
    }

    fn pass(&self, time: Duration) {
        let mut clock = locked(&self.clock);
        (clock.steady, clock.wall) = (clock.steady + time, clock.wall.plus(time));
        drop(clock);
        self.live.look(&self.world.state);
    }

    /// A watch of nothing but sessions that has caught up with the events.
    async fn watch(&self, scope: Scope) -> Watcher {
        let decided = self.decided.clone();
        let decided = Box::new(move || locked(&decided).clone());
        let slot = Arc::new(Slots::default()).take(Principal::Person("ada".to_owned()));
        let source = (self.world.ring.clone(), self.changes.subscribe());
        let filter = Filter { scope, none: true, ..Filter::default() };
        let slot = (slot.expect("a slot"), Shutdown::new());
        let watcher = Watcher::new(source, filter, self.world.ring.newest(), slot);
        let feed = Feed::new(self.live.clone(), decided, scope);
        let mut watcher = watcher.with_sessions(feed);
        assert!(matches!(next(&mut watcher).await, Kind::Bookmark(_)));
        watcher
    }
}

fn session(agent: AgentStatus) -> SessionObserved {
    SessionObserved {
        name: "main".parse().expect("a name"),
        command: "claude".to_owned(),
        state: SessionState::Running,
        started: Timestamp(1),
        active: agent.last_activity,
        viewers: 0,
        panes: Vec::new(),
        killed: None,
        agent: Some(Box::new(agent)),
        run: None,
    }
}

fn agent(state: AgentState, moved: u64) -> AgentStatus {
    AgentStatus {
        kind: AgentKind::Claude,
        state,
        since: Timestamp(5),
        last_activity: Timestamp(moved),
        source: Source::Registry,
        confidence: Confidence::Exact,
        evidence: Timestamp(moved),
        flags: Flags::default(),
        subagents: 0,
        meter: Meter::default(),
    }
}

fn working(moved: u64) -> AgentStatus {
    agent(AgentState::Working { phase: None, tool: None }, moved)
}

fn waiting() -> AgentStatus {
    let wait = Wait {
        kind: WaitKind::Permission,
        text: "npm publish".to_owned(),
        options: Vec::new(),
        since: Timestamp(5),
    };
    agent(AgentState::Waiting(wait), 5)
}

async fn next(watcher: &mut Watcher) -> Kind {
    let answer = timeout(Duration::from_secs(60), watcher.next()).await.expect("in time");
    answer.expect("open").expect("an answer").kind.expect("of a kind")
}

/// What is told next: which sessions stand how, and which are gone.
async fn told(watcher: &mut Watcher) -> (pb::Sessions, Vec<String>) {
    let sessions = match next(watcher).await {
        Kind::Sessions(sessions) => sessions,
        other => panic!("{other:?}"),
    };
    let state = |one: &pb::Session| {
        let agent = one.observed.as_ref().and_then(|one| one.agent.clone()).expect("an agent");
        let state = match agent.state.and_then(|state| state.state) {
            Some(State::Working(_)) => "working",
            Some(State::Waiting(_)) => "waiting",
            other => panic!("{other:?}"),
        };
        let unknown = if agent.unknown { " once" } else { "" };
        format!("{}/{} {state}{unknown}", one.client, one.workspace)
    };
    let mut lines: Vec<String> = sessions.sessions.iter().map(state).collect();
    let gone = |one: &pb::SessionGone| format!("{}/{} gone", one.client, one.workspace);
    lines.extend(sessions.gone.iter().map(gone));
    (sessions, lines)
}

#[tokio::test]
async fn all_sessions_come_first_then_those_that_stand_otherwise() {
    let mut site = Site::new();
    site.report(&[(1, working(6)), (2, working(6))]);
    let mut all = site.watch(Scope::default()).await;
    let mut one = site.watch(Scope { client: Some(client(2)), ..Scope::default() }).await;
    let (first, lines) = told(&mut all).await;
    assert!(first.begins && first.complete);
    assert_eq!(lines, ["c1/w1 working", "c2/w2 working"]);
    assert_eq!(told(&mut one).await.1, ["c2/w2 working"]);
    // a turn that goes on is no news, and neither is what happens to others
    site.report(&[(1, working(7)), (2, working(8))]);
    site.report(&[(1, waiting()), (2, working(9))]);
    let (then, lines) = told(&mut all).await;
    assert!(!then.begins && !then.complete);
    assert_eq!(lines, ["c1/w1 waiting"]);
    site.report(&[(2, waiting())]);
    assert_eq!(told(&mut one).await.1, ["c2/w2 waiting"]);
}

/// Nothing is told for some time.
async fn silent(watcher: &mut Watcher) {
    let told = timeout(Duration::from_secs(1), watcher.next()).await;
    assert!(told.is_err(), "{told:?}");
}

#[tokio::test]
async fn an_empty_cluster_says_that_this_is_all() {
    let mut site = Site::new();
    site.report(&[]);
    let mut watcher = site.watch(Scope::default()).await;
    let (first, lines) = told(&mut watcher).await;
    assert!(first.begins && first.complete && lines.is_empty(), "{first:?}");
}

#[tokio::test]
async fn who_has_just_started_does_not_say_that_this_is_all() {
    let mut site = Site::new();
    let mut one = site.watch(Scope::default()).await;
    let (first, lines) = told(&mut one).await;
    assert!(first.begins && !first.complete && lines.is_empty(), "{first:?}");
    silent(&mut one).await;
    site.report(&[(1, waiting())]);
    let (then, lines) = told(&mut one).await;
    assert!(!then.begins && lines == ["c1/w1 waiting"]);
    let all = if then.complete { then } else { told(&mut one).await.0 };
    assert!(all.complete && all.gone.is_empty(), "{all:?}");

    let site = Site::new();
    let mut other = site.watch(Scope::default()).await;
    assert!(!told(&mut other).await.0.complete);
    site.pass(2 * Limits::AGENT_UNHEARD);
    assert!(told(&mut other).await.0.complete, "nobody waits for ever for a lost node");
}

#[tokio::test]
async fn an_agent_that_registers_anew_is_given_the_time_to_tell() {
    let mut site = Site::new();
    site.report(&[(1, waiting())]);
    site.pass(Limits::AGENT_UNHEARD);
    site.report(&[]);
    site.pass(Duration::ZERO);
    let mut watcher = site.watch(Scope::default()).await;
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 waiting"]);
    let anew = |site: &mut Site| {
        site.world.now = locked(&site.clock).wall;
        site.must(vec![Command::RegisterNode(RegisterNode { node: node(1), facts: facts(4) })]);
        site.live.seen(node(1), site.world.state.nodes[&node(1)].epoch);
        site.sequence = 0;
    };
    anew(&mut site);
    silent(&mut watcher).await;
    let mut other = site.watch(Scope::default()).await;
    let (before, lines) = told(&mut other).await;
    assert_eq!(lines, ["c1/w1 waiting"]);
    assert!(before.sessions[0].observed_live, "its node said so a moment ago");
    site.report(&[(1, working(9))]);
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 working"]);
    anew(&mut site);
    silent(&mut watcher).await;
    site.report(&[]);
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 gone"]);

    // what it said before it was silent for long is no word of the present, though it is heard again
    site.report(&[(1, waiting())]);
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 waiting"]);
    site.pass(Duration::from_secs(3600));
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 waiting once"]);
    anew(&mut site);
    silent(&mut watcher).await;
    let mut late = site.watch(Scope::default()).await;
    assert_eq!(told(&mut late).await.1, [""; 0]);
    site.report(&[(1, working(9))]);
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 working"]);
}

#[tokio::test]
async fn what_was_decided_is_looked_at_once_it_is_there() {
    let mut site = Site::new();
    site.report(&[(1, working(6)), (2, working(6))]);
    let mut watcher = site.watch(Scope::default()).await;
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 working", "c2/w2 working"]);
    let (workspace, generation) = (workspace(1), site.generation(1));
    site.world.must(vec![
        Command::SetRun(SetRun { workspace, run: RunRequest::Delete }),
        Command::Forget(Forget { workspace, generation }),
    ]);
    // it is woken by something else before the state is there
    site.report(&[(2, waiting())]);
    silent(&mut watcher).await;
    site.publish();
    assert_eq!(told(&mut watcher).await.1, ["c2/w2 waiting", "c1/w1 gone"]);
}

#[tokio::test]
async fn agents_on_a_node_that_is_not_heard_are_unknown_and_known_again() {
    let mut site = Site::new();
    site.report(&[(1, waiting())]);
    site.pass(Duration::from_secs(1));
    let mut watcher = site.watch(Scope::default()).await;
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 waiting"]);
    site.pass(Limits::AGENT_UNHEARD);
    let (unknown, lines) = told(&mut watcher).await;
    assert_eq!(lines, ["c1/w1 waiting once"]);
    assert!(!unknown.sessions[0].observed_live);
    site.report(&[]);
    site.pass(Duration::ZERO);
    let (known, lines) = told(&mut watcher).await;
    assert_eq!(lines, ["c1/w1 waiting"], "a sign of life is enough");
    let agent = known.sessions[0].observed.clone().and_then(|one| one.agent).expect("an agent");
    assert_eq!(agent.since_unix_ms, 5, "it is the same wait");
}

#[tokio::test]
async fn what_is_decided_is_seen_where_reports_say_nothing_new() {
    let mut site = Site::new();
    site.report(&[(1, working(6))]);
    let mut watcher = site.watch(Scope::default()).await;
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 working"]);
    let workspace = workspace(1);
    let generation = site.generation(1);
    site.must(vec![Command::SetRun(SetRun { workspace, run: RunRequest::Delete })]);
    site.must(vec![Command::Forget(Forget { workspace, generation })]);
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 gone"]);
}

#[tokio::test]
async fn a_watch_that_was_too_slow_looks_at_everything_once() {
    let mut site = Site::new();
    site.report(&[(1, working(6)), (2, working(6))]);
    let mut watcher = site.watch(Scope::default()).await;
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 working", "c2/w2 working"]);
    site.report(&[(1, waiting())]);
    // so many move meanwhile that it is not known any more who did
    for n in 0..20_u8 {
        let seen = |m: u16| WorkspaceObserved {
            workspace: WorkspaceId::new(Uuid::from_u128(u128::from(n) << 32 | u128::from(m))),
            ..observed(1)
        };
        let workspaces = (0..1000).map(seen).collect();
        let report = |received| Report {
            epoch: NodeEpoch(1),
            sequence: 1,
            received,
            full: true,
            workspaces,
        };
        assert!(site.live.take(node(100 + n), report, Beside::default()));
    }
    assert_eq!(site.live.moved_since(1).1, None, "it is not known any more");
    assert_eq!(told(&mut watcher).await.1, ["c1/w1 waiting"]);
    silent(&mut watcher).await;
}
