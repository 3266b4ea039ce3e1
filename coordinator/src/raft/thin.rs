//! Fewer messages to a follower: that an entry is committed is told with the next entries.
//!
//! openraft tells each follower of each commit in a message of its own where no entries are at
//! hand. Under load the next entries come a moment later, and every such message costs both sides
//! as much as one with entries. So while there are several writers, a message without entries waits
//! a moment for the next one, which says the same and more, and is sent in its place.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, timeout_at};

use super::{types::TypeConfig, writes::Turns};

/// How long a message without entries waits for the next one.
const HOLD: Duration = Duration::from_millis(3);

type Message = AppendEntriesRequest<TypeConfig>;

/// Leaves out the messages that the one after them makes needless. Answers to those that are left
/// out are answers to what was sent instead: openraft counts them by the log they confirm.
pub(super) fn thinned(
    input: impl Stream<Item = Message> + Send + Unpin + 'static,
    turns: Turns,
) -> impl Stream<Item = Message> + Send + Unpin + 'static {
    let thinned = stream::unfold(Some(input), move |input| {
        let turns = turns.clone();
        async move {
            let mut input = input?;
            let mut message = input.next().await?;
            let until = Instant::now() + HOLD;
            while message.entries.is_empty() && turns.crowded() {
                match timeout_at(until, input.next()).await {
                    Ok(Some(next)) => message = next,
                    Ok(None) => return Some((message, None)),
                    Err(_) => break,
                }
            }
            Some((message, Some(input)))
        }
    });
    Box::pin(thinned.fuse())
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;
    use crate::raft::types::{Entry, LogId, Vote};

    fn log_id(index: u64) -> LogId {
        LogId::new(*Vote::new_committed(1, 1).leader_id(), index)
    }

    /// Tells that everything up to `commit` is committed, with the entry after it or without.
    fn message(commit: u64, with_entry: bool) -> Message {
        let entry = Entry { log_id: log_id(commit + 1), payload: EntryPayload::Blank };
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(log_id(commit)),
            entries: if with_entry { vec![entry] } else { Vec::new() },
            leader_commit: Some(log_id(commit)),
        }
    }

    /// Returns commit and entries of each message that is left of these.
    async fn left(messages: &[(u64, bool)], crowded: bool) -> Vec<(u64, bool)> {
        let turns = Turns::default();
        turns.filled(if crowded { 2 } else { 1 });
        let messages: Vec<_> =
            messages.iter().map(|(commit, with)| message(*commit, *with)).collect();
        let left = thinned(stream::iter(messages), turns).map(|message| {
            let commit = message.leader_commit.map_or(0, |id| id.index);
            (commit, !message.entries.is_empty())
        });
        left.collect().await
    }

    #[tokio::test]
    async fn a_commit_is_told_with_the_next_entries_while_there_are_several_writers() {
        let all = [(1, true), (2, false), (3, false), (4, true), (5, true), (6, false)];
        assert_eq!(left(&all, true).await, [(1, true), (4, true), (5, true), (6, false)]);
        assert_eq!(left(&all, false).await, all, "a lone writer's commit is told at once");
        assert_eq!(left(&[(7, false)], true).await, [(7, false)], "a heartbeat is all there is");
        assert_eq!(left(&[], true).await, []);
    }

    #[tokio::test]
    async fn a_commit_waits_no_longer_than_a_moment_and_nothing_is_lost_after_it() {
        let (turns, (send, messages)) = (Turns::default(), mpsc::unbounded_channel());
        turns.filled(2);
        let mut left = thinned(UnboundedReceiverStream::new(messages), turns.clone());
        send.send(message(1, false)).expect("it listens");
        let began = Instant::now();
        let first = left.next().await.expect("it is sent");
        assert!(began.elapsed() >= HOLD, "{:?}", began.elapsed());
        assert_eq!(first.leader_commit, Some(log_id(1)));
        turns.filled(2);
        send.send(message(2, true)).expect("it listens");
        assert_eq!(left.next().await.expect("sent").leader_commit, Some(log_id(2)));
        drop(send);
        assert!(left.next().await.is_none());
        assert!(left.next().await.is_none(), "asking again is harmless");
    }
}
