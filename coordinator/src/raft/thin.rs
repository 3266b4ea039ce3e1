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
    Box::pin(thinned)
}
