//! Sessions or browsers for one watch stream: all of them first, then those that stand otherwise.
//!
//! They are what nodes report, so they are no events and nothing of them is kept here but what was
//! told: a mark of each, to know it again. The workspaces to look at are gathered while the
//! reader does not read, each once, so a slow reader is told the newest and misses what was between.
//!
//! That nothing is known of a workspace does not mean that nothing is there: a coordinator that
//! just started has heard nobody, and a node that just registered has said nothing. For as long as an
//! agent would be known without being heard, such a workspace is left as it was told, or told as it was a
//! moment before its node registered.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hasher as _},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use warren_common::{Limits, NodeId, Revision, Timestamp, WorkspaceId};
use warren_model::{ClusterState, state::Workspace};

use super::Scope;
use crate::{api::view::View, live::Live};

/// Workspaces looked at in one turn.
const TURN: usize = 500;
/// Between two looks at workspaces of which their nodes are yet to tell.
const UNTOLD: Duration = Duration::from_millis(250);

/// What was decided, whenever it is asked for.
pub type Decided = Box<dyn Fn() -> ClusterState + Send + Sync>;

/// What a feed tells of workspaces.
pub trait Fed: Sized {
    /// Returns all of a workspace.
    fn all(workspace: &Workspace, view: &View<'_>) -> Vec<Self>;
    /// Returns client, workspace and its own name.
    fn address(&self) -> [&str; 3];
    /// Returns what it says when what only says that something still moves is left out.
    fn standing(&self) -> Vec<u8>;
    /// Returns how many bytes it takes to tell.
    fn bytes(&self) -> usize;
}

/// What is to be told at one time.
#[derive(Debug)]
pub struct Batch<T> {
    /// These stand otherwise than was told.
    pub stand: Vec<T>,
    /// These are there no more: client, workspace and name.
    pub gone: Vec<[String; 3]>,
    /// All of them are told from here on.
    pub begins: bool,
    /// With this all of them were told.
    pub complete: bool,
    /// When it is told.
    pub served: Timestamp,
}

/// The sessions, or the browsers, of one watch.
pub struct Feed<T> {
    live: Arc<Live>,
    decided: Decided,
    scope: Scope,
    moves: watch::Receiver<u64>,
    /// Up to here it is known who moved.
    upto: u64,
    /// To be looked at.
    waiting: BTreeSet<WorkspaceId>,
    /// To be looked at again then: their nodes are yet to tell of them.
    untold: BTreeSet<WorkspaceId>,
    again: Instant,
    /// Who moved is not known any more: all are to be looked at.
    missed: bool,
    /// What was decided is not to be seen here yet.
    behind: bool,
    told: BTreeMap<WorkspaceId, Told>,
    standing: Standing,
    of: PhantomData<fn() -> T>,
}

/// What was told of one workspace.
#[derive(Default)]
struct Told {
    client: String,
    workspace: String,
    /// A mark of each one as it was told, by name.
    marks: BTreeMap<String, u64>,
}

/// How far the first telling has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    New,
    Begun,
    Complete,
}

impl<T: Fed> Feed<T> {
    /// Makes one that begins with everything in the scope.
    pub fn new(live: Arc<Live>, decided: Decided, scope: Scope) -> Self {
        let moves = live.moves();
        let (upto, _) = live.moved_since(u64::MAX);
        Self {
            live,
            decided,
            scope,
            moves,
            upto,
            waiting: BTreeSet::new(),
            untold: BTreeSet::new(),
            again: Instant::now(),
            missed: false,
            behind: false,
            told: BTreeMap::new(),
            standing: Standing::New,
            of: PhantomData,
        }
    }

    /// Has a workspace looked at of which something was decided.
    pub(super) fn touch(&mut self, workspace: Option<WorkspaceId>) {
        self.waiting.extend(workspace);
    }

    /// Waits until there is something to look at. Cancel safe.
    pub(super) async fn moved(&mut self) -> Result<(), watch::error::RecvError> {
        if !self.waiting.is_empty() && !self.behind {
            return Ok(());
        }
        tokio::select! {
            changed = self.moves.changed() => changed,
            () = tokio::time::sleep_until(self.again), if !self.untold.is_empty() => Ok(()),
        }
    }

    /// Returns what is to be told now; none where it is nothing, or where not everything up to a
    /// revision is to be seen yet.
    pub(super) fn next(&mut self, least: Revision) -> Option<Batch<T>> {
        self.moves.mark_unchanged();
        let (upto, moved) = self.live.moved_since(self.upto);
        self.upto = upto;
        self.missed |= moved.is_none();
        self.waiting.extend(moved.into_iter().flatten());
        let begins = self.standing == Standing::New;
        if self.again <= Instant::now() {
            self.waiting.append(&mut self.untold);
        }
        if self.waiting.is_empty() && !begins && !self.missed {
            return None;
        }
        let state = (self.decided)();
        self.behind = state.revision < least;
        if self.behind {
            return None;
        }
        let (live, now) = self.live.snapshot();
        let view = View { state: &state, live: &live, now };
        let missed = std::mem::take(&mut self.missed);
        if begins || missed {
            self.waiting.extend(state.workspaces.keys().chain(self.told.keys()).copied());
        }
        if begins {
            self.standing = Standing::Begun;
        }
        let (stand, gone) = (Vec::new(), Vec::new());
        let mut answer = Batch { stand, gone, begins, complete: false, served: now };
        let mut bytes = 0;
        for _ in 0..TURN {
            if bytes >= Limits::WATCH_BATCH_BYTES {
                break;
            }
            let Some(workspace) = self.waiting.pop_first() else { break };
            bytes += self.look(workspace, &view, &mut answer);
        }
        let all = self.waiting.is_empty() && self.untold.is_empty();
        if self.standing == Standing::Begun && all {
            self.standing = Standing::Complete;
            answer.complete = true;
        }
        let says = begins || answer.complete;
        let news = !answer.stand.is_empty() || !answer.gone.is_empty();
        (says || news).then_some(answer)
    }

    /// Adds what is new of one workspace; returns about how many bytes that is.
    fn look(&mut self, id: WorkspaceId, view: &View<'_>, answer: &mut Batch<T>) -> usize {
        let workspace = view.state.workspaces.get(&id).filter(|one| self.concerns(one));
        if workspace.is_some_and(|one| is_untold(one, view)) {
            if self.untold.is_empty() {
                self.again = Instant::now() + UNTOLD;
            }
            self.untold.insert(id);
            return 0;
        }
        let there = workspace.map(|one| T::all(one, view)).unwrap_or_default();
        let before = self.told.remove(&id);
        let mut bytes = 0;
        let mut told = Told::default();
        for one in there {
            let ([client, workspace, name], mark) = (one.address().map(str::to_owned), mark(&one));
            let known = before.as_ref().and_then(|before| before.marks.get(&name));
            let same = known == Some(&mark);
            told.marks.insert(name, mark);
            (told.client, told.workspace) = (client, workspace);
            if !same {
                bytes += one.bytes();
                answer.stand.push(one);
            }
        }
        let Told { client, workspace, marks: before } = before.unwrap_or_default();
        for name in before.into_keys().filter(|name| !told.marks.contains_key(name)) {
            let gone = [client.clone(), workspace.clone(), name];
            bytes += gone.iter().map(String::len).sum::<usize>();
            answer.gone.push(gone);
        }
        if !told.marks.is_empty() {
            self.told.insert(id, told);
        }
        bytes
    }

    fn concerns(&self, workspace: &Workspace) -> bool {
        let Scope { client, workspace: only, node } = self.scope;
        let on = workspace.assignment.as_ref().map(|assignment| assignment.node);
        client.is_none_or(|client| client == workspace.client)
            && only.is_none_or(|only| only == workspace.id)
            && node.is_none_or(|node| on == Some(node))
    }
}

/// Whether a workspace's node may yet tell of it for the first time: here, or since it registered.
fn is_untold(workspace: &Workspace, view: &View<'_>) -> bool {
    let Some(assignment) = &workspace.assignment else { return false };
    // what it said long before it registered anew tells nobody anything
    let seen = match view.is_heard(assignment.node) {
        true => view.live.last_said(assignment.node, workspace.id),
        false => view.live.observed(assignment.node, workspace.id),
    };
    let known = seen.is_some_and(|seen| seen.observed.generation == workspace.generation);
    !known && is_new(assignment.node, view)
}

/// Whether a node has not told what it holds, and for less long than agents are known unheard.
fn is_new(node: NodeId, view: &View<'_>) -> bool {
    let told = view.live.nodes.get(&node).is_some_and(|live| live.inventory);
    let registered = view.state.nodes.get(&node).and_then(|node| node.registered);
    // another coordinator's clock told when it registered
    let near = |at| view.now.since(at).max(at.since(view.now)) < Limits::AGENT_UNHEARD;
    !told && (near(view.live.started) || registered.is_some_and(near))
}

/// Returns a mark of how one stands.
fn mark(one: &impl Fed) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&one.standing());
    hasher.finish()
}
