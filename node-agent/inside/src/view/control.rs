//! Who may use keyboard and mouse of the display: one person at a time, for a time.
//!
//! A grant belongs to the token of one `workspace open` and begins when its page first connects.
//! Loading the page again does not make it longer; leaving it makes room for others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use warren_common::Limits;

/// Grants remembered at one time: those that have ended too, so that they are not given again.
const GRANTS: usize = 256;

/// The display's keyboard and mouse; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Control(Arc<Mutex<Seats>>);

#[derive(Debug, Default)]
struct Seats {
    /// When each token's time is over.
    granted: BTreeMap<String, Instant>,
    /// Whose it is now.
    holder: Option<String>,
    watching: u32,
}

/// How the display is looked at, as one viewer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Pages that show it.
    pub(crate) watching: u32,
    /// Somebody has control.
    pub(crate) taken: bool,
    /// This viewer has, for this long.
    pub(crate) left: Option<Duration>,
}

/// One page that shows the display; it gives control back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    control: Control,
    token: String,
    wanted: Option<Duration>,
}

impl Control {
    /// Takes a seat; `wanted` asks for control for this long, given where nobody else has it.
    pub(crate) fn sit(&self, token: &str, wanted: Option<Duration>) -> Seat {
        self.seats().watching += 1;
        let seat = Seat { control: self.clone(), token: token.to_owned(), wanted };
        seat.take(Instant::now());
        seat
    }

    /// Returns how the display stands for the holder of a token.
    pub(crate) fn seen(&self, token: &str) -> Seen {
        let (seats, now) = (self.seats(), Instant::now());
        let left = seats.left(now);
        let mine = seats.holder.as_deref() == Some(token);
        Seen { watching: seats.watching, taken: left.is_some(), left: left.filter(|_| mine) }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        // no code path panics while it holds them
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    /// How long the holder still has; none where there is none.
    fn left(&self, now: Instant) -> Option<Duration> {
        let until = self.granted.get(self.holder.as_ref()?)?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

impl Seat {
    /// Takes control where this page asked for it, its time is not over and nobody else has it.
    fn take(&self, now: Instant) {
        let Some(wanted) = self.wanted else { return };
        let mut seats = self.control.seats();
        if seats.left(now).is_some() {
            return;
        }
        seats.granted.retain(|_, until| now < *until + Limits::CONTROL);
        if seats.granted.len() >= GRANTS && !seats.granted.contains_key(&self.token) {
            return;
        }
        let until = now + wanted.min(Limits::CONTROL);
        let until = *seats.granted.entry(self.token.clone()).or_insert(until);
        if now < until {
            seats.holder = Some(self.token.clone());
        }
    }

    /// Returns whether this page has control now; it takes what has become free.
    pub(crate) fn controls(&self) -> bool {
        self.take(Instant::now());
        self.wanted.is_some() && self.control.seen(&self.token).left.is_some()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.control.seats();
        seats.watching = seats.watching.saturating_sub(1);
        if seats.holder.as_ref() == Some(&self.token) {
            seats.holder = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn one_at_a_time_and_only_who_asked() {
        let control = Control::default();
        let looks = control.sit("looks", None);
        let first = control.sit("first", Some(MINUTE));
        let second = control.sit("second", Some(MINUTE));
        assert!(!looks.controls() && first.controls() && !second.controls());
        let seen = control.seen("second");
        assert_eq!((seen.watching, seen.taken, seen.left), (3, true, None));
        assert!(control.seen("first").left.is_some_and(|left| left <= MINUTE));
        drop(first);
        assert!(second.controls() && !looks.controls(), "what is free is taken");
        drop((second, looks));
        let seen = control.seen("second");
        assert_eq!((seen.watching, seen.taken, seen.left), (0, false, None));
    }

    #[test]
    fn time_that_is_over_stays_over() {
        let control = Control::default();
        let short = Duration::from_millis(30);
        let first = control.sit("first", Some(short));
        assert!(first.controls());
        let until = control.seats().granted["first"];
        drop(first);
        let again = control.sit("first", Some(MINUTE));
        assert_eq!(control.seats().granted["first"], until, "a page loaded again gets no more");
        again.take(until);
        std::thread::sleep(short);
        assert!(!again.controls());
        let second = control.sit("second", Some(MINUTE));
        assert!(second.controls(), "whoever stays on a page keeps nobody out");
    }

    #[test]
    fn no_more_than_the_bound_is_given_or_remembered() {
        let control = Control::default();
        let long = control.sit("long", Some(Limits::CONTROL * 9));
        assert!(control.seen("long").left.is_some_and(|left| left <= Limits::CONTROL));
        drop(long);
        for number in 0..GRANTS + 9 {
            drop(control.sit(&number.to_string(), Some(MINUTE)));
        }
        assert_eq!(control.seats().granted.len(), GRANTS);
    }
}
