//! openraft's log on top of a [`LogStore`]: encoding, acknowledgement through the flusher, and the
//! rule that the first storage error is the last thing this replica does.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex},
    time::Instant,
};

use bytes::Bytes;
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    entry::RaftEntry as _,
    storage::{IOFlushed, RaftLogStorage},
};
use warren_common::Limits;

use super::{
    checkpoint::Reach,
    recent::Recent,
    types::{Entry, LogId, TypeConfig, Vote, decode, encode},
};
use crate::{
    store::{Flusher, LogStore, Lost, Record, Slot, StoreError},
    sync::locked,
};

/// The log as openraft wants it; clones are readers of the same log.
#[derive(Clone)]
pub(crate) struct Log {
    store: Arc<dyn LogStore>,
    flusher: Flusher,
    recent: Arc<Mutex<Recent>>,
    reach: Reach,
}

impl Log {
    /// Takes over a store, finishing a purge that a crash interrupted and reading every entry once:
    /// what is damaged or missing must be met now, not when it is applied. Blocks.
    pub(crate) fn open(store: Arc<dyn LogStore>, flusher: Flusher) -> Result<Self, io::Error> {
        let log = Self { store, flusher, recent: Arc::default(), reach: Reach::default() };
        let purged = log.purged()?;
        log.check(purged)?;
        if let Some(purged) = purged
            && let Some((first, _)) = log.store.bounds().map_err(|error| log.failed(error))?
            && first <= purged.index
        {
            let value = log.encoded(&purged)?;
            log.store.purge(purged.index, &value).map_err(|error| log.failed(error))?;
        }
        Ok(log)
    }

    /// Keeps what the older checkpoint needs, whatever openraft lets go.
    pub(crate) fn reach_back_to(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// Returns up to where the log may be removed when openraft lets it go up to `upto`: openraft
    /// keeps a number of entries, and while one checkpoint was on its way more than that may have
    /// been applied. What an installed checkpoint replaces is no part of the log that goes on: it
    /// goes whole.
    fn removable(&self, upto: LogId) -> Result<Option<LogId>, io::Error> {
        let first = self.reach.first();
        if upto.index < first || self.id(upto.index)? != Some(upto) {
            return Ok(Some(upto));
        }
        match first.checked_sub(1) {
            Some(index) => self.id(index),
            None => Ok(None),
        }
    }

    /// Returns the id of the entry at an index; none where there is no such entry.
    fn id(&self, index: u64) -> Result<Option<LogId>, io::Error> {
        let entries = self.entries(index, index.saturating_add(1), usize::MAX)?;
        Ok(entries.first().map(|entry| entry.log_id()))
    }

    /// Checks that the log goes on from what was purged without a hole, that every entry is the one
    /// its index says, and that it does not end before what is known as committed or voted for.
    fn check(&self, purged: Option<LogId>) -> Result<(), io::Error> {
        let Some((first, end)) = self.store.bounds().map_err(|error| self.failed(error))? else {
            return Ok(());
        };
        let begins = purged.map_or(0, |purged| purged.index.saturating_add(1));
        let mut next = first.max(begins);
        if first > begins {
            return Err(odd(format!("it begins with entry {first} instead of {begins}")));
        }
        let mut term = purged.map_or(0, |purged| purged.leader_id.term);
        while next <= end {
            let entries = self.entries(next, end.saturating_add(1), Limits::RAFT_APPEND_BYTES)?;
            if entries.is_empty() {
                return Err(odd(format!("entry {next} is missing, it ends with {end}")));
            }
            for entry in entries {
                let id = entry.log_id();
                if id.index != next || id.leader_id.term < term {
                    return Err(odd(format!(
                        "entry {id} stands where {next} of term {term} belongs"
                    )));
                }
                (next, term) = (next.saturating_add(1), id.leader_id.term);
            }
        }
        let voted = self.value::<Vote>(Slot::Vote)?.map_or(0, |vote| vote.leader_id.term);
        if voted < term {
            return Err(odd(format!("its vote is of term {voted}, its last entry of term {term}")));
        }
        match self.value::<LogId>(Slot::Committed)? {
            Some(committed) if committed.index > end => {
                Err(odd(format!("it ends with {end}, and {} was committed", committed.index)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the newest log id that was removed from the front; none where nothing was.
    pub(crate) fn purged(&self) -> Result<Option<LogId>, io::Error> {
        self.value(Slot::Purged)
    }

    /// Reports the failure, so that nothing is acknowledged any more, and returns it for openraft,
    /// which then stops.
    fn failed(&self, error: StoreError) -> io::Error {
        self.flusher.fail(&error.chain());
        error.into_io()
    }

    fn encoded<T: serde::Serialize>(&self, value: &T) -> Result<Vec<u8>, io::Error> {
        encode(value).map_err(|error| error.into_io("encoding for the log"))
    }

    fn value<T: serde::de::DeserializeOwned>(&self, slot: Slot) -> Result<Option<T>, io::Error> {
        let value = self.store.get(slot).map_err(|error| self.failed(error))?;
        value
            .map(|value| decode(&value).map_err(|error| error.into_io(slot.name())))
            .transpose()
            .inspect_err(|error| self.flusher.fail(&error.to_string()))
    }

    fn entries(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Entry>, io::Error> {
        if let Some(entries) = locked(&self.recent).range(from, to, max_bytes) {
            return Ok(entries);
        }
        let records = self.store.read_range(from, to, max_bytes).map_err(|e| self.failed(e))?;
        let decoded = records.iter().map(|(index, record)| {
            decode(record).map_err(|error| error.into_io(&format!("log entry {index}")))
        });
        decoded.collect::<Result<_, _>>().inspect_err(|e| self.flusher.fail(&e.to_string()))
    }

    /// Runs a longer piece of work of the store off the async workers.
    async fn blocking(
        &self,
        work: impl FnOnce(&dyn LogStore) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), io::Error> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || work(store.as_ref())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failed(error)),
            Err(panicked) => {
                let error = StoreError::Failed(format!("the store stopped: {panicked}"));
                Err(self.failed(error))
            }
        }
    }

    fn alive(&self) -> Result<(), io::Error> {
        self.flusher.lost().borrow().as_ref().map_or(Ok(()), |lost| Err(lost_io(lost)))
    }
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.entries(start, end, Limits::RAFT_APPEND_BYTES)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.value(Slot::Vote)
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let last_purged_log_id = self.purged()?;
        let bounds = self.store.bounds().map_err(|error| self.failed(error))?;
        let last_log_id = match bounds {
            Some((_, last)) => self.id(last)?,
            None => last_purged_log_id,
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.alive()?;
        let value = self.encoded(vote)?;
        self.store.put(Slot::Vote, &value).map_err(|error| self.failed(error))?;
        self.flusher.flushed().await.map_err(|lost| lost_io(&lost))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.alive()?;
        let Some(committed) = committed else { return Ok(()) };
        let value = self.encoded(&committed)?;
        // Not flushed: it only saves replaying at the next start, and travels with the next flush.
        self.store.put(Slot::Committed, &value).map_err(|error| self.failed(error))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.value(Slot::Committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.alive()?;
        let began = Instant::now();
        let (mut records, mut recent): (Vec<Record>, Vec<(Entry, usize)>) = Default::default();
        for entry in entries {
            let record = Bytes::from(self.encoded(&entry)?);
            recent.push((entry, record.len()));
            records.push((recent[recent.len() - 1].0.log_id().index, record));
        }
        self.store.append(&records).map_err(|error| self.failed(error))?;
        locked(&self.recent).append(recent);
        let done = move |result: Result<(), Lost>| {
            metrics::histogram!("warren_raft_append_seconds").record(began.elapsed().as_secs_f64());
            callback.io_completed(result.map_err(|lost| lost_io(&lost)));
        };
        self.flusher.notify(Box::new(done)).await;
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.alive()?;
        let from = last.map_or(0, |last| last.index.saturating_add(1));
        locked(&self.recent).truncate_from(from);
        self.blocking(move |store| store.truncate_from(from)).await?;
        self.flusher.flushed().await.map_err(|lost| lost_io(&lost))
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.alive()?;
        let Some(upto) = self.removable(upto)? else { return Ok(()) };
        let value = self.encoded(&upto)?;
        locked(&self.recent).purge(upto.index);
        self.blocking(move |store| store.purge(upto.index, &value)).await
    }
}

/// The log is not what was written.
fn odd(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn lost_io(lost: &Lost) -> io::Error {
    io::Error::other(lost.to_string())
}
