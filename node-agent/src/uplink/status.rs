//! Observation, to every coordinator: all workspaces when a stream begins, then what changes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Duration, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Streaming;
use tracing::info;
use warren_common::Limits;
use warren_daemon::{backoff::Backoff, clock};
use warren_proto::pb::node::v1::{self as pb, status_response};

use super::{HEARTBEAT, LinkError, RETRY, Registration, SILENCE, Shared, push, report};

/// A report that was not acknowledged for this long is sent again.
const PATIENCE: Duration = Duration::from_secs(1);
/// The least time between two reports: what changes meanwhile is gathered.
const GATHER: Duration = Duration::from_millis(200);
/// The same where an agent came into another state. A workspace decides when its agents do, so it
/// is not nothing.
const GATHER_AGENTS: Duration = Duration::from_millis(50);

/// Keeps one stream to each coordinator that is to hear.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut registration = shared.registration.subscribe();
    let mut learnt = shared.parts.coordinators.watch();
    let tasks = TaskTracker::new();
    let mut links: BTreeMap<String, CancellationToken> = BTreeMap::new();
    // dropping this future must end the links too
    let all = CancellationToken::new();
    let _guard = all.clone().drop_guard();
    loop {
        let leader = registration.borrow_and_update().as_ref().map(|one| one.leader.clone());
        learnt.mark_unchanged();
        let wanted = leader.map(|leader| shared.parts.coordinators.report_to(&leader));
        let wanted: BTreeSet<String> = wanted.unwrap_or_default();
        links.retain(|address, link| {
            let kept = wanted.contains(address);
            if !kept {
                link.cancel();
            }
            kept
        });
        for address in wanted {
            links.entry(address).or_insert_with_key(|address| {
                let stop = all.child_token();
                let link = link(Arc::clone(&shared), address.clone());
                tasks.spawn(stop.clone().run_until_cancelled_owned(link));
                stop
            });
        }
        tokio::select! {
            changed = registration.changed() => if changed.is_err() { return },
            changed = learnt.changed() => if changed.is_err() { return },
        }
    }
}

/// Reports to one coordinator, again and again.
async fn link(shared: Arc<Shared>, address: String) {
    let mut backoff = Backoff::seeded(RETRY.0, RETRY.1);
    loop {
        let begun = Instant::now();
        let ended = match session(&shared, &address).await {
            Ok(()) => LinkError::Closed,
            Err(ended) => ended,
        };
        metrics::counter!("warren_uplink_losses_total", "stream" => "status").increment(1);
        info!(coordinator = %address, error = %ended, "status ended");
        shared.parts.links.reconnect(&address);
        if begun.elapsed() > SILENCE {
            backoff.reset();
        }
        sleep(backoff.next_wait()).await;
    }
}

/// Where one stream stands.
struct Session<'a> {
    shared: &'a Shared,
    address: &'a str,
    queue: mpsc::Sender<pb::StatusRequest>,
    registration: Registration,
    /// How far the board was read.
    version: u64,
    /// When the last report was sent.
    sent: Instant,
    /// Reports that were not acknowledged yet: sequence, and how far each read the board.
    pending: VecDeque<(u64, u64)>,
    /// How far the coordinator is known to have read.
    taken: u64,
}

async fn session(shared: &Shared, address: &str) -> Result<(), LinkError> {
    let mut registered = shared.registration.subscribe();
    let registration = current(&mut registered).await?;
    let (queue, requests) = mpsc::channel(Limits::STREAM_QUEUE);
    let mut session = Session {
        shared,
        address,
        queue,
        registration,
        version: 0,
        sent: Instant::now(),
        pending: VecDeque::new(),
        taken: 0,
    };
    session.report().await?;
    let mut api = shared.parts.links.api(address);
    let calling = timeout(Limits::CALL_TIMEOUT, api.status(ReceiverStream::new(requests)));
    let incoming = calling.await.map_err(|_| LinkError::Silent)??.into_inner();
    session.serve(incoming, registered).await
}

async fn current(
    registered: &mut watch::Receiver<Option<Registration>>,
) -> Result<Registration, LinkError> {
    let some = registered.wait_for(Option::is_some).await.map_err(|_| LinkError::Closed)?;
    some.clone().ok_or(LinkError::Closed)
}

/// What of the board is waited for, each with the least time between two reports because of it.
type Waits = [(watch::Receiver<u64>, Duration); 3];

/// Waits until the board is past `version`, and for as long after `sent` as what changed can wait:
/// not at all where a workspace stands elsewhere. Cancel safe.
async fn news(waits: &mut Waits, version: u64, sent: Instant) -> Result<(), LinkError> {
    let past = async |(board, least): &mut (watch::Receiver<u64>, Duration)| {
        board.wait_for(|now| *now > version).await.map(drop)?;
        sleep(least.saturating_sub(sent.elapsed())).await;
        Ok(())
    };
    let [any, agents, moves] = waits;
    let waited: Result<(), watch::error::RecvError> = tokio::select! {
        waited = past(any) => waited,
        waited = past(agents) => waited,
        waited = past(moves) => waited,
    };
    waited.map_err(|_| LinkError::Closed)
}

impl Session<'_> {
    async fn serve(
        &mut self,
        mut incoming: Streaming<pb::StatusResponse>,
        mut registered: watch::Receiver<Option<Registration>>,
    ) -> Result<(), LinkError> {
        let board = &self.shared.parts.board;
        let mut board = [
            (board.watch(), GATHER),
            (board.watch_agents(), GATHER_AGENTS),
            (board.watch_moves(), Duration::ZERO),
        ];
        let mut look = interval(PATIENCE);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = incoming.message() => {
                    heard = Instant::now();
                    self.take(message?.ok_or(LinkError::Closed)?);
                }
                changed = registered.changed() => {
                    changed.map_err(|_| LinkError::Closed)?;
                    let registration = current(&mut registered).await?;
                    if registration.epoch != self.registration.epoch {
                        self.registration = registration;
                        (self.version, self.taken) = (0, 0);
                        self.pending.clear();
                        self.report().await?;
                    }
                }
                changed = news(&mut board, self.version, self.sent) => {
                    changed?;
                    self.report().await?;
                }
                _ = look.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(LinkError::Silent);
                    }
                    self.beat().await?;
                }
            }
        }
    }

    /// Sends again what was not taken, and a sign of life where nothing else was sent. A follower
    /// that has not heard of the registration yet drops reports without a word.
    async fn beat(&mut self) -> Result<(), LinkError> {
        if !self.pending.is_empty() && self.sent.elapsed() >= PATIENCE {
            self.version = self.taken;
            self.pending.clear();
            return self.report().await;
        }
        if self.sent.elapsed() >= HEARTBEAT {
            return self.report().await;
        }
        Ok(())
    }

    /// Sends what changed since the last report, which may be nothing: then it is a heartbeat.
    async fn report(&mut self) -> Result<(), LinkError> {
        let changes = self.shared.parts.board.since(self.version);
        self.version = changes.version;
        self.sent = Instant::now();
        let sequence = self.shared.next_sequence();
        self.pending.push_back((sequence, changes.version));
        let message = report::fit(pb::StatusRequest {
            node_epoch: self.registration.epoch.0,
            sequence,
            sent_unix_ms: clock::now().0,
            full: changes.full,
            workspaces: changes.workspaces.into_iter().map(Into::into).collect(),
            usage: Some(self.shared.parts.usage.borrow().clone()),
            lease_age_ms: self.shared.parts.lease.age().map(millis),
        });
        push(&self.queue, message).await
    }

    fn take(&mut self, message: pb::StatusResponse) {
        match message.kind {
            Some(status_response::Kind::OpenTunnel(request)) => {
                let channel = self.shared.parts.links.channel(self.address);
                self.shared.parts.tunnels.answer(channel, request);
            }
            Some(status_response::Kind::Acknowledged(sequence)) => {
                self.acknowledged(sequence);
            }
            None => {}
        }
    }

    /// Reports are acknowledged in their order: one that was passed over was dropped, so what it
    /// said is sent again.
    fn acknowledged(&mut self, sequence: u64) {
        match self.pending.front() {
            Some(&(sent, version)) if sent == sequence => {
                self.pending.pop_front();
                self.taken = version;
            }
            Some(&(sent, _)) if sent < sequence => {
                self.pending.clear();
                self.version = self.taken;
            }
            Some(_) | None => {}
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
