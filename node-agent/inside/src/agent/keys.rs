//! Whether one that calls itself ready can be typed to.
//!
//! Gemini CLI says so, by its title and by its first hook, before it reads keys, and throws away what was
//! typed until then: on a busy machine that is a second or more. Its word counts once its terminal has
//! taken keys for a moment.

use std::time::Duration;

use warren_common::{Timestamp, agent::Hook};

/// How long its terminal takes keys before it is ready.
const TAKES_KEYS: Duration = Duration::from_secs(1);
/// How long it may call itself ready and take none: its word counts then all the same.
const TAKES_NONE: Duration = Duration::from_secs(15);
/// The hook that says that it is ready.
const FIRST_HOOK: &str = "SessionStart";

/// What is known of one process's keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// When it first called itself ready.
    ready: Option<Timestamp>,
    /// Since when it was seen to take keys, too.
    since: Option<Timestamp>,
    /// The hook that said so, with its time.
    held: Option<(Timestamp, Hook)>,
    taken: bool,
}

impl Keys {
    /// Returns whether a look at its terminal is wanted.
    pub(super) const fn are_wanted(&self) -> bool {
        self.ready.is_some() && !self.taken
    }

    /// Notes that its title calls it ready; returns whether that counts.
    pub(super) fn says_ready(&mut self, now: Timestamp) -> bool {
        self.ready.get_or_insert(now);
        self.taken
    }

    /// Takes one of its hooks with its time: keeps one that is too early, and returns those that count
    /// now, the kept one first.
    pub(super) fn heard(
        &mut self,
        (at, hook): (Timestamp, Hook),
        now: Timestamp,
    ) -> Vec<(Timestamp, Hook)> {
        if !self.taken && hook.event == FIRST_HOOK {
            self.ready.get_or_insert(now);
            self.held = Some((at, hook));
            return Vec::new();
        }
        // each of them comes after it was typed to, or has ended
        self.taken = true;
        self.held.take().into_iter().chain([(at, hook)]).collect()
    }

    /// Takes in whether its terminal takes keys now; returns the hook that counts from now on.
    pub(super) fn look(&mut self, takes: bool, now: Timestamp) -> Option<(Timestamp, Hook)> {
        self.since = takes.then(|| self.since.unwrap_or(now));
        let passed = |since: Option<Timestamp>, time| since.is_some_and(|at| now.since(at) >= time);
        self.taken |= passed(self.since, TAKES_KEYS) || passed(self.ready, TAKES_NONE);
        self.held.take_if(|_| self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(2_000_000);

    fn after(ms: u64) -> Timestamp {
        NOW.plus(Duration::from_millis(ms))
    }

    fn hook(event: &str) -> Hook {
        Hook { event: event.to_owned(), ..Hook::default() }
    }

    #[test]
    fn its_word_counts_once_it_took_keys_for_a_second() {
        let mut keys = Keys::default();
        assert!(!keys.are_wanted(), "it has said nothing");
        assert!(!keys.says_ready(NOW) && keys.are_wanted());
        assert!(keys.heard((NOW, hook(FIRST_HOOK)), after(100)).is_empty());
        for (ms, takes) in [(200, false), (300, true), (900, true), (1000, false), (1200, true)] {
            assert_eq!(keys.look(takes, after(ms)), None, "{ms}");
        }
        assert!(!keys.says_ready(after(2000)));
        assert_eq!(keys.look(true, after(2200)), Some((NOW, hook(FIRST_HOOK))));
        assert!(keys.says_ready(after(2200)) && !keys.are_wanted());
        assert_eq!(keys.heard((NOW, hook(FIRST_HOOK)), after(2300)).len(), 1, "of another thread");
    }

    #[test]
    fn one_that_takes_none_is_believed_late_and_one_that_works_at_once() {
        let mut keys = Keys::default();
        assert!(!keys.says_ready(NOW));
        assert_eq!(keys.look(false, after(14_999)), None);
        assert!(!keys.says_ready(after(14_999)));
        keys.look(false, after(15_000));
        assert!(keys.says_ready(after(15_000)));

        let mut keys = Keys::default();
        assert!(keys.heard((NOW, hook(FIRST_HOOK)), NOW).is_empty());
        let heard = keys.heard((after(1), hook("BeforeAgent")), after(2));
        let events: Vec<_> = heard.iter().map(|(_, hook)| hook.event.as_str()).collect();
        assert_eq!(events, [FIRST_HOOK, "BeforeAgent"], "in their order");
        assert!(keys.says_ready(after(3)));
    }
}
