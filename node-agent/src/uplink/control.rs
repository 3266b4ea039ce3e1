//! Intention, from the leader: registration, the node's one document, the lease.
//!
//! The leader is looked for among the known coordinators; a follower that knows it says so. Each
//! session registers anew, so a report is never taken for one of an earlier registration.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use metrics::counter;
use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{error, info, warn};
use warren_common::{Limits, NodeEpoch, spec::NodeSpec};
use warren_daemon::{backoff::Backoff, telemetry::Chain};
use warren_proto::{
    error::reason,
    pb::node::v1::{self as pb, control_request, control_response},
};

use super::{HEARTBEAT, LinkError, RETRY, Registration, SILENCE, Shared, push};
use crate::{
    lease::Reading,
    ledger::LedgerError,
    seat::{Seat, SeatError},
};

/// Why an agent may not act: another one has its identity.
const IDENTITY_CONFLICT: &str = "IDENTITY_CONFLICT";
/// Why a stream ended: another one of this node began.
const REPLACED: &str = "REPLACED";
/// How long its agent stays away then: longer than a registration is held back for.
const AFTER_REPLACED: Duration = Duration::from_secs(3);
/// Renewals that are remembered until they are confirmed.
const UNCONFIRMED: usize = 16;
/// Bytes of one piece of what is told to a cluster that came back.
const HELD_BYTES: usize = 1024 * 1024;

/// Looks for the leader, for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::seeded(RETRY.0, RETRY.1);
    let mut hint: Option<String> = None;
    let mut turn = 0_usize;
    loop {
        shared.parts.coordinators.look_again();
        let candidates = shared.parts.coordinators.candidates();
        let hinted = hint.take();
        let address = hinted.clone().or_else(|| {
            let index = turn.checked_rem(candidates.len())?;
            candidates.get(index).cloned()
        });
        let Some(address) = address else {
            warn!("no coordinator is known: join a cluster, or name one in the configuration");
            sleep(RETRY.1).await;
            continue;
        };
        let mut registered = false;
        let ended = session(&shared, &address, &mut registered).await;
        if registered {
            backoff.reset();
        } else if hinted.is_none() {
            turn = turn.wrapping_add(1);
        }
        if registered {
            counter!("warren_uplink_losses_total", "stream" => "control").increment(1);
        }
        hold(&shared, &ended);
        hint = leader_named(&ended).filter(|leader| *leader != address && hinted.is_none());
        if !matches!(&ended, LinkError::Refused(error) if error.reason == reason::NOT_LEADER) {
            warn!(coordinator = %address, error = %ended, registered, "control ended");
            shared.parts.links.reconnect(&address);
        }
        if matches!(&ended, LinkError::Refused(error) if error.reason == REPLACED) {
            // whoever came after this one registers first, and the two are told apart
            sleep(AFTER_REPLACED).await;
        } else if hint.is_none() {
            sleep(backoff.next_wait()).await;
        }
    }
}

/// Stops acting where another agent has this identity, or the node was removed: nothing more is
/// reported or done until this one is let in again. What runs is left alone, unless it was removed.
fn hold(shared: &Shared, ended: &LinkError) {
    let LinkError::Refused(refused) = ended else { return };
    // a coordinator of before a restore may know of a removal that the cluster does not
    let said = refused.incarnation.map_or(0, NonZeroU32::get);
    let of_today = said >= shared.parts.ledger.incarnation();
    let removed = refused.reason == reason::NODE_REMOVED && of_today;
    if refused.reason != IDENTITY_CONFLICT && !removed {
        return;
    }
    let why = refused.message.clone();
    let news = shared.parts.held.send_if_modified(|held| {
        let news = held.as_ref() != Some(&why);
        *held = Some(why.clone());
        news
    });
    if news {
        let then = if removed { "what runs is stopped" } else { "what runs is left alone" };
        error!(why, "this agent stops acting; {then}");
    }
    if removed {
        shared.parts.removed.send_replace(true);
    }
    // ends the streams of reports: they are the other agent's
    shared.registration.send_replace(None);
}

/// Lets this agent act again. It is no removed one before: what it then starts is not to be stopped.
fn let_in(removed: &watch::Sender<bool>, held: &watch::Sender<Option<String>>) {
    removed.send_replace(false);
    held.send_replace(None);
}

/// Returns the leader that a follower named.
fn leader_named(ended: &LinkError) -> Option<String> {
    match ended {
        LinkError::Refused(error) => error.leader.as_deref().map(str::to_owned),
        LinkError::Trouble(_)
        | LinkError::Closed
        | LinkError::Silent
        | LinkError::Stuck
        | LinkError::Ledger(_)
        | LinkError::Nonsense(_) => None,
    }
}

/// One session with one coordinator; returns why it ended.
async fn session(shared: &Shared, address: &str, registered: &mut bool) -> LinkError {
    match open(shared, address).await {
        Ok((epoch, queue, incoming)) => {
            *registered = true;
            counter!("warren_uplink_registrations_total").increment(1);
            info!(coordinator = address, epoch = epoch.0, "registered with the leader");
            let_in(&shared.parts.removed, &shared.parts.held);
            shared.parts.links.led_by(address);
            let mut session =
                Session { shared, queue, incoming, renewals: 0, sent: VecDeque::new() };
            match session.serve().await {
                Ok(never) => match never {},
                Err(ended) => ended,
            }
        }
        Err(ended) => ended,
    }
}

type Opened = (NodeEpoch, mpsc::Sender<pb::ControlRequest>, Streaming<pb::ControlResponse>);

/// Registers; a coordinator that does not lead refuses.
async fn open(shared: &Shared, address: &str) -> Result<Opened, LinkError> {
    let (queue, requests) = mpsc::channel(Limits::STREAM_QUEUE);
    let shown = with_seat(shared, Seat::ask).await?;
    let facts = shared.parts.facts.borrow().clone();
    let incarnation = shared.parts.ledger.incarnation();
    let register = pb::Register {
        facts: Some(facts.into()),
        incarnation,
        node_name: shared.parts.name.to_string(),
        tells_held: true,
        machine: shown.machine,
        held_claim: shown.held.map(|claim| claim.into_bytes().to_vec().into()).unwrap_or_default(),
        asked_claim: shown.asked.into_bytes().to_vec().into(),
    };
    push(&queue, request(control_request::Kind::Register(register))).await?;
    let mut api = shared.parts.links.api(address);
    let opening = async {
        let mut incoming = api.control(ReceiverStream::new(requests)).await?.into_inner();
        let first = incoming.message().await?;
        Ok::<_, tonic::Status>((first, incoming))
    };
    let opened = timeout(Limits::CALL_TIMEOUT, opening).await.map_err(|_| LinkError::Silent)?;
    let (first, incoming) = opened?;
    let first = first.ok_or(LinkError::Closed)?;
    let Some(control_response::Kind::Registered(told)) = first.kind else {
        return Err(LinkError::Nonsense("the first answer is no registration".to_owned()));
    };
    let epoch = NodeEpoch(told.node_epoch);
    with_seat(shared, Seat::answered).await?;
    shared.parts.coordinators.note(&told.coordinators);
    if told.tell_held {
        tell_held(shared, &queue).await?;
    }
    let registration = Registration { epoch, leader: address.to_owned() };
    shared.registration.send_replace(Some(registration));
    Ok((epoch, queue, incoming))
}

/// Reads or changes the claims where it may block.
async fn with_seat<T: Send + 'static>(
    shared: &Shared,
    what: impl FnOnce(&mut Seat) -> Result<T, SeatError> + Send + 'static,
) -> Result<T, LinkError> {
    let seat = Arc::clone(&shared.parts.seat);
    let done = tokio::task::spawn_blocking(move || {
        what(&mut seat.lock().unwrap_or_else(PoisonError::into_inner))
    });
    let done = done.await.map_err(|_| LinkError::Closed)?;
    done.map_err(|failed| LinkError::Nonsense(Chain(&failed).to_string()))
}

/// Tells a coordinator that may know less, because it came back from a backup, what is held here.
async fn tell_held(
    shared: &Shared,
    queue: &mpsc::Sender<pb::ControlRequest>,
) -> Result<(), LinkError> {
    let (revision, held) = shared.parts.ledger.memory().held();
    info!(workspaces = held.len(), "the cluster came back and asks what is held here");
    let mut pieces: Vec<Vec<pb::HeldOrder>> = vec![Vec::new()];
    let mut bytes = 0;
    for held in held {
        let held = pb::HeldOrder::from(held);
        let size = held.encoded_len();
        if bytes + size > HELD_BYTES && bytes > 0 {
            pieces.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        pieces.last_mut().into_iter().for_each(|piece| piece.push(held.clone()));
    }
    let count = pieces.len();
    for (number, orders) in pieces.into_iter().enumerate() {
        let last = number + 1 == count;
        let piece = pb::Held { revision: revision.0, orders, last };
        push(queue, request(control_request::Kind::Held(piece))).await?;
    }
    Ok(())
}

struct Session<'a> {
    shared: &'a Shared,
    queue: mpsc::Sender<pb::ControlRequest>,
    incoming: Streaming<pb::ControlResponse>,
    renewals: u64,
    /// Renewals that were not confirmed yet: number, and when each was sent.
    sent: VecDeque<(u64, Reading)>,
}

/// Cannot be made: a session ends with an error only.
enum Never {}

impl Session<'_> {
    async fn serve(&mut self) -> Result<Never, LinkError> {
        let mut facts = self.shared.parts.facts.clone();
        // they may have changed while the node registered with the ones before
        facts.mark_changed();
        let mut renew = interval(HEARTBEAT);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = self.incoming.message() => {
                    heard = Instant::now();
                    let message = message?.ok_or(LinkError::Closed)?;
                    self.take(message).await?;
                }
                _ = renew.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(LinkError::Silent);
                    }
                    self.renew().await?;
                }
                changed = facts.changed() => {
                    if changed.is_err() {
                        return Err(LinkError::Closed);
                    }
                    let now = facts.borrow_and_update().clone();
                    push(&self.queue, request(control_request::Kind::Facts(now.into()))).await?;
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<(), LinkError> {
        self.renewals += 1;
        let sent = Reading::now();
        if self.sent.len() >= UNCONFIRMED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.renewals, sent));
        let sent_monotonic_ms = sent.boottime_ms;
        let renewal = pb::RenewLease { sequence: self.renewals, sent_monotonic_ms };
        push(&self.queue, request(control_request::Kind::RenewLease(renewal))).await
    }

    async fn take(&mut self, message: pb::ControlResponse) -> Result<(), LinkError> {
        match message.kind {
            Some(control_response::Kind::Spec(spec)) => self.apply(spec).await,
            Some(control_response::Kind::LeaseConfirmed(confirmed)) => {
                // by our own note of when it was sent: what was never sent confirms nothing
                let known = self.sent.iter().find(|(sequence, _)| *sequence == confirmed.sequence);
                if let Some((sequence, sent)) = known.copied() {
                    self.sent.retain(|(other, _)| *other > sequence);
                    self.shared.parts.lease.confirm(sent);
                }
                Ok(())
            }
            Some(control_response::Kind::Registered(told)) => {
                self.shared.parts.coordinators.note(&told.coordinators);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn apply(&mut self, spec: pb::NodeSpec) -> Result<(), LinkError> {
        let spec = NodeSpec::try_from(spec).map_err(|why| LinkError::Nonsense(why.to_string()))?;
        let revision = spec.revision.0;
        let outcome = self.shared.parts.ledger.accept(spec).await;
        let result = if outcome.is_ok() { "taken" } else { "refused" };
        counter!("warren_uplink_documents_total", "result" => result).increment(1);
        match outcome {
            Ok(accepted) => {
                for (workspace, generation) in &accepted.refused {
                    error!(%workspace, %generation, "an order of a lower generation was refused");
                }
                if !accepted.changed.is_empty() {
                    push(&self.shared.parts.changed, accepted.changed).await?;
                }
                let applied = control_request::Kind::AppliedRevision(revision);
                push(&self.queue, request(applied)).await
            }
            Err(LedgerError::Refused(refused)) => {
                error!(%refused, "an older document was refused");
                Err(LinkError::Ledger(LedgerError::Refused(refused)))
            }
            Err(failed) => {
                error!(error = %Chain(&failed), "a document could not be kept");
                Err(LinkError::Ledger(failed))
            }
        }
    }
}

fn request(kind: control_request::Kind) -> pb::ControlRequest {
    pb::ControlRequest { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_let_in_again_acts_only_once_nothing_is_stopped_any_more() {
        let why = "the node was removed".to_owned();
        let (removed, held) = (watch::Sender::new(true), watch::Sender::new(Some(why)));
        let mut stops = removed.subscribe();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime");
        std::thread::scope(|scope| {
            // what is read cannot be changed meanwhile: nobody may act yet
            let reading = held.borrow();
            scope.spawn(|| let_in(&removed, &held));
            let ended = async { timeout(RETRY.1, stops.wait_for(|stops| !*stops)).await.is_ok() };
            assert!(runtime.block_on(ended), "it may act first");
            assert!(reading.is_some());
        });
        assert_eq!(*held.borrow(), None);
    }
}
