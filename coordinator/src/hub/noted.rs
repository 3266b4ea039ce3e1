//! Who looks into which workspace, as far as it is on the audit record lately.
//!
//! A page makes many connections: those of one person to one thing in a workspace within
//! [`Limits::VIEW_NOTED`] are one record. What is remembered here saves records and nothing else: a
//! coordinator that starts anew makes one more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::time::Instant;
use warren_common::{Limits, WorkspaceId};
use warren_model::{Principal, command::ViewTarget};

use crate::sync::locked;

/// Who looks at what.
pub type Look = (Principal, WorkspaceId, ViewTarget);

/// When one look was put on record last; locked while it is put there.
type Last = Arc<tokio::sync::Mutex<Option<Instant>>>;

/// What was put on record lately.
#[derive(Default)]
pub struct Noted(Mutex<BTreeMap<Look, Last>>);

impl Noted {
    /// Has `record` put the look on record unless it is; whoever comes meanwhile waits for it.
    ///
    /// # Errors
    /// Those of `record`: then it is not on record and nobody may look.
    pub async fn once<E>(
        &self,
        (look, now): (Look, Instant),
        record: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let last = self.last(look, now);
        let mut last = last.lock().await;
        if last.is_some_and(|at| now - at < Limits::VIEW_NOTED) {
            return Ok(());
        }
        record.await?;
        *last = Some(now);
        Ok(())
    }

    /// Returns the look's own place; one of its own, forgotten at once, where there is no room.
    fn last(&self, look: Look, now: Instant) -> Last {
        let mut all = locked(&self.0);
        if all.len() >= Limits::VIEWS_NOTED && !all.contains_key(&look) {
            all.retain(|_, last| {
                let lasting =
                    |at: &Option<Instant>| at.is_some_and(|at| now - at < Limits::VIEW_NOTED);
                // one that is locked is being put on record
                last.try_lock().map_or(true, |at| lasting(&at))
            });
            if all.len() >= Limits::VIEWS_NOTED {
                return Last::default();
            }
        }
        Arc::clone(all.entry(look).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use uuid::Uuid;

    use super::*;

    fn look(name: &str, port: u16) -> Look {
        let workspace = WorkspaceId::new(Uuid::from_u128(7));
        (Principal::Person(name.to_owned()), workspace, ViewTarget::Port(port))
    }

    #[tokio::test]
    async fn connections_of_one_page_are_one_record() {
        let (noted, records) = (Noted::default(), AtomicUsize::new(0));
        let start = Instant::now();
        let open = async |look, now, fails: bool| {
            let record = async {
                tokio::task::yield_now().await;
                records.fetch_add(1, Ordering::Relaxed);
                if fails { Err("no quorum") } else { Ok(()) }
            };
            noted.once((look, now), record).await
        };
        let count = || records.swap(0, Ordering::Relaxed);
        assert_eq!(open(look("ada", 80), start, true).await, Err("no quorum"));
        assert_eq!(count(), 1);
        let ada = |now| open(look("ada", 80), now, false);
        let all = tokio::join!(ada(start), ada(start), ada(start));
        assert_eq!(all, (Ok(()), Ok(()), Ok(())));
        assert_eq!(count(), 1, "a failed one is none, and those that wait are the same");
        open(look("ada", 81), start, false).await.expect("another port");
        open(look("bob", 80), start, false).await.expect("another person");
        assert_eq!(count(), 2);
        ada(start + Limits::VIEW_NOTED - Duration::from_millis(1)).await.expect("noted");
        assert_eq!(count(), 0);
        ada(start + Limits::VIEW_NOTED).await.expect("later");
        assert_eq!(count(), 1);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let (noted, start) = (Noted::default(), Instant::now());
        for number in 0..Limits::VIEWS_NOTED + 2 {
            let look = look(&format!("p{number}"), 1);
            noted.once((look, start), async { Ok::<(), ()>(()) }).await.expect("recorded");
        }
        assert_eq!(locked(&noted.0).len(), Limits::VIEWS_NOTED);
        let late = (look("late", 1), start + Limits::VIEW_NOTED);
        noted.once(late, async { Ok::<(), ()>(()) }).await.expect("recorded");
        assert_eq!(locked(&noted.0).len(), 1, "what is old makes room");
    }
}
