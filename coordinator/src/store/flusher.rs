//! The one thread that makes writes durable.
//!
//! It takes every waiting acknowledgement at once, syncs the store a single time and completes
//! them all: a group commit. The first failure is final: everything waiting, and everything that
//! comes later, is answered with it, and the store is never synced again, because after a failed
//! fsync nobody knows what is on the disk.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Instant,
};

use tokio::sync::{mpsc, oneshot, watch};
use warren_common::Limits;

use super::{LogStore, StoreError};

/// Called once, on the flusher's thread, when the writes before it are durable or never will be.
pub type Done = Box<dyn FnOnce(Result<(), Lost>) + Send>;

/// Durability is lost: why, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("storage failed: {reason}")]
pub struct Lost {
    /// The error with its causes.
    pub reason: Arc<str>,
}

/// The handle of the flusher's thread; cheap to clone.
#[derive(Clone)]
pub struct Flusher {
    queue: Arc<Mutex<Option<mpsc::Sender<Done>>>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    lost: watch::Sender<Option<Lost>>,
}

impl Flusher {
    /// Starts the thread that syncs `store`.
    pub fn start(store: Arc<dyn LogStore>) -> Result<Self, StoreError> {
        let (queue, waiting) = mpsc::channel(Limits::FLUSH_QUEUE);
        let (lost, _) = watch::channel(None);
        let reporter = lost.clone();
        let thread = std::thread::Builder::new()
            .name("flusher".to_owned())
            .spawn(move || run(store.as_ref(), waiting, &reporter))
            .map_err(|source| StoreError::io("starting the flusher", "", source))?;
        Ok(Self {
            queue: Arc::new(Mutex::new(Some(queue))),
            thread: Arc::new(Mutex::new(Some(thread))),
            lost,
        })
    }

    /// Calls `done` once everything written so far is durable. Waits only while the queue is full.
    pub async fn notify(&self, done: Done) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let refused = match queue {
            Some(queue) => queue.send(done).await.err().map(|refused| refused.0),
            None => Some(done),
        };
        if let Some(done) = refused {
            done(Err(self.reason()));
        }
    }

    /// Returns once everything written so far is durable.
    ///
    /// Dropping the future does not undo anything: what was written still becomes durable.
    pub async fn flushed(&self) -> Result<(), Lost> {
        let (done, outcome) = oneshot::channel();
        self.notify(Box::new(move |result| {
            // The waiter may have given up; the writes are durable all the same.
            let _ = done.send(result);
        }))
        .await;
        outcome.await.unwrap_or_else(|_| Err(self.reason()))
    }

    /// Tells why storage failed, from the moment it does.
    pub fn lost(&self) -> watch::Receiver<Option<Lost>> {
        self.lost.subscribe()
    }

    /// Reports a storage failure that was met outside the flusher: nothing is acknowledged from now.
    pub fn fail(&self, reason: &str) {
        record(&self.lost, reason);
    }

    /// Returns how many writes wait for the next flush.
    pub fn waiting(&self) -> usize {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    /// Lets the thread finish what is queued and joins it. Blocks.
    pub fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            record(&self.lost, "the flusher panicked");
        }
    }

    fn reason(&self) -> Lost {
        let known = self.lost.borrow().clone();
        known.unwrap_or_else(|| Lost { reason: Arc::from("the store is shut down") })
    }
}

fn run(
    store: &dyn LogStore,
    mut waiting: mpsc::Receiver<Done>,
    lost: &watch::Sender<Option<Lost>>,
) {
    let mut batch = Vec::new();
    while let Some(first) = waiting.blocking_recv() {
        batch.push(first);
        while let Ok(next) = waiting.try_recv() {
            batch.push(next);
        }
        metrics::histogram!("warren_store_flush_batch_writes").record(batch.len() as f64);
        let began = Instant::now();
        let outcome = sync_once(store, lost);
        metrics::histogram!("warren_store_flush_seconds").record(began.elapsed().as_secs_f64());
        metrics::counter!("warren_store_syncs_total").increment(1);
        for done in batch.drain(..) {
            // A callback that panics must not take the others' acknowledgements with it.
            if catch_unwind(AssertUnwindSafe(|| done(outcome.clone()))).is_err() {
                tracing::error!("an acknowledgement panicked");
            }
        }
    }
}

fn sync_once(store: &dyn LogStore, lost: &watch::Sender<Option<Lost>>) -> Result<(), Lost> {
    if let Some(lost) = lost.borrow().clone() {
        return Err(lost);
    }
    let reason = match catch_unwind(AssertUnwindSafe(|| store.sync())) {
        Ok(Ok(())) => match lost.borrow().clone() {
            // Reported by somebody else while we synced.
            Some(lost) => return Err(lost),
            None => return Ok(()),
        },
        Ok(Err(error)) => error.chain(),
        Err(_) => "the store panicked while it synced".to_owned(),
    };
    Err(record(lost, &reason))
}

/// Keeps the first reason and returns it.
fn record(lost: &watch::Sender<Option<Lost>>, reason: &str) -> Lost {
    let mut kept = Lost { reason: Arc::from(reason) };
    lost.send_if_modified(|slot| match slot {
        Some(first) => {
            kept = first.clone();
            false
        }
        None => {
            tracing::error!(reason, "storage failed: this replica stops acknowledging");
            *slot = Some(kept.clone());
            true
        }
    });
    kept
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::{Slot, fake::FakeStore};

    #[tokio::test]
    async fn a_failed_flush_is_never_acknowledged_and_never_tried_again() {
        let store = Arc::new(FakeStore::default());
        let flusher = Flusher::start(store.clone()).expect("a thread starts");
        store.append(&[(0, Bytes::from_static(b"a"))]).expect("the fake takes it");
        flusher.flushed().await.expect("the first sync works");

        store.fail_next_sync("no space left on device");
        let error = flusher.flushed().await.expect_err("the sync fails");
        assert!(error.reason.contains("no space left"), "{error}");
        let syncs = store.syncs();
        let again = flusher.flushed().await.expect_err("it stays failed");
        assert_eq!(again, error, "the first reason is kept");
        assert_eq!(store.syncs(), syncs, "a failed store is not synced again");
        assert_eq!(flusher.lost().borrow().clone(), Some(error));
        flusher.stop();
        assert!(flusher.flushed().await.is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn waiting_writes_share_one_sync() {
        let store = Arc::new(FakeStore::default());
        let flusher = Flusher::start(store.clone()).expect("a thread starts");
        let gate = store.hold_sync();
        let first = tokio::spawn({
            let flusher = flusher.clone();
            async move { flusher.flushed().await }
        });
        store.wait_for_sync();
        let mut rest = Vec::new();
        for index in 0..20_u8 {
            store.put(Slot::Vote, &[index]).expect("the fake takes it");
            let (done, outcome) = oneshot::channel();
            flusher.notify(Box::new(move |result| drop(done.send(result)))).await;
            rest.push(outcome);
        }
        drop(gate);
        first.await.expect("no panic").expect("synced");
        for outcome in rest {
            outcome.await.expect("called").expect("synced");
        }
        assert!(store.syncs() <= 3, "{} syncs for 21 writes", store.syncs());
        flusher.stop();
    }
}
