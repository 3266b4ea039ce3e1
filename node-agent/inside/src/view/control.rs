//! Who may use keyboard and mouse of the display: one person at a time, for a time.
//!
//! A grant belongs to the token of one `workspace open` and begins when its page first gets control.
//! Loading the page again does not make it longer; leaving it, or giving control back, makes room
//! for others. All pages that were opened with the token have control together and are told of each
//! other; others get it once all of them have let go. A grant that is over is remembered only while
//! there is room, and so costs nobody else anything: only pages that are there now have one that is
//! not, and of these there are at most [`Limits::VIEWERS`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use warren_common::Limits;

const _: () = assert!(Limits::VIEWERS < Limits::CONTROL_GRANTS, "a page that is there finds room");

/// The display's keyboard and mouse; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Control(Arc<Mutex<Seats>>);

#[derive(Debug, Default)]
struct Seats {
    grants: BTreeMap<String, Grant>,
    /// Pages that ask for control, by token.
    asking: BTreeMap<String, u32>,
    /// Whose it is, until all pages with that token have let go of everything.
    holder: Option<String>,
    /// Those of the holder's pages that may have keys down.
    hands: BTreeSet<u64>,
    /// The number of the last page that sat down.
    last: u64,
    /// Messages that let go of what is down still: the VNC server went before it heard them.
    stuck: Vec<u8>,
    watching: u32,
}

#[derive(Debug, Clone, Copy)]
struct Grant {
    /// When its time is over.
    until: Instant,
    /// It was given back, and not asked for again.
    given: bool,
}

/// How the display is looked at, as one viewer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Pages that show it.
    pub(crate) watching: u32,
    /// Somebody has control, for this long.
    pub(crate) taken: Option<Duration>,
    /// It is this viewer.
    pub(crate) mine: bool,
    /// Pages with this viewer's token that ask for control.
    pub(crate) own: u32,
    /// This viewer had control and gave it back.
    pub(crate) given: bool,
    /// This viewer's time is over.
    pub(crate) over: bool,
}

/// One page that shows the display; it gives control back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    control: Control,
    /// Told from the others with the same token.
    number: u64,
    token: String,
    wanted: Option<Duration>,
}

impl Control {
    /// Takes a seat; `wanted` asks for control for this long, given where nobody else has it.
    pub(crate) fn sit(&self, token: &str, wanted: Option<Duration>) -> Seat {
        let mut seats = self.seats();
        seats.watching += 1;
        seats.last += 1;
        let number = seats.last;
        if wanted.is_some() {
            *seats.asking.entry(token.to_owned()).or_default() += 1;
        }
        let seat = Seat { control: self.clone(), number, token: token.to_owned(), wanted };
        seat.take(&mut seats, Instant::now());
        drop(seats);
        seat
    }

    /// Returns how the display stands for the holder of a token.
    pub(crate) fn seen(&self, token: &str) -> Seen {
        let (seats, now) = (self.seats(), Instant::now());
        let taken = seats.left(now);
        let mine = taken.is_some() && seats.holder.as_deref() == Some(token);
        let grant = seats.grants.get(token);
        let over = grant.is_some_and(|grant| now >= grant.until);
        let given = grant.is_some_and(|grant| grant.given) && !over;
        let own = seats.asking.get(token).copied().unwrap_or_default();
        Seen { watching: seats.watching, taken, mine, own, given, over }
    }

    /// Gives control back, or asks for it again; the time runs on either way.
    pub(crate) fn give(&self, token: &str, given: bool) {
        if let Some(grant) = self.seats().grants.get_mut(token) {
            grant.given = given;
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        // no code path panics while it holds them
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    /// How long the holder still has; none where there is none.
    fn left(&self, now: Instant) -> Option<Duration> {
        let grant = self.grants.get(self.holder.as_ref()?).filter(|grant| !grant.given)?;
        grant.until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Makes room for one more grant: those that are over go first, then those whose page has gone.
    fn make_room(&mut self, now: Instant) {
        let asking = &self.asking;
        self.grants.retain(|token, grant| {
            now < grant.until + Limits::CONTROL || asking.contains_key(token)
        });
        while self.grants.len() >= Limits::CONTROL_GRANTS {
            let absent = self.grants.iter().filter(|(token, _)| !asking.contains_key(*token));
            let Some((first, _)) = absent.min_by_key(|(_, grant)| grant.until) else { return };
            let first = first.clone();
            self.grants.remove(&first);
        }
    }
}

impl Seat {
    /// Takes control where this page asked for it, its time is not over and nobody else has it.
    fn take(&self, seats: &mut Seats, now: Instant) {
        let Some(wanted) = self.wanted else { return };
        if seats.holder.is_some() {
            return;
        }
        let grant = match seats.grants.get(&self.token) {
            Some(grant) => *grant,
            None => {
                seats.make_room(now);
                let until = now + wanted.min(Limits::CONTROL);
                let grant = Grant { until, given: false };
                seats.grants.insert(self.token.clone(), grant);
                grant
            }
        };
        if now < grant.until && !grant.given {
            seats.holder = Some(self.token.clone());
        }
    }

    /// Returns whether this page has control now; it takes what has become free. Where it has, it says
    /// so with [`Seat::let_go`] once it has let go of everything.
    pub(crate) fn controls(&self) -> bool {
        let (mut seats, now) = (self.control.seats(), Instant::now());
        self.take(&mut seats, now);
        let has = self.wanted.is_some() && self.holds(&seats) && seats.left(now).is_some();
        if has {
            seats.hands.insert(self.number);
        }
        has
    }

    /// Notes that this page, which has no control any more, has let go of everything; the last one of
    /// its token leaves control to others.
    pub(crate) fn let_go(&self) {
        let mut seats = self.control.seats();
        seats.hands.remove(&self.number);
        self.leave(&mut seats);
    }

    /// Leaves control to others where its time has ended and none of its pages has anything down.
    fn leave(&self, seats: &mut Seats) {
        let over = seats.left(Instant::now()).is_none() && seats.hands.is_empty();
        if self.holds(seats) && (over || !seats.asking.contains_key(&self.token)) {
            seats.holder = None;
        }
    }

    fn holds(&self, seats: &Seats) -> bool {
        seats.holder.as_ref() == Some(&self.token)
    }

    /// Leaves what lets go of keys to whoever looks next.
    pub(crate) fn leave_stuck(&self, held: Vec<u8>) {
        // of several pages of one command each may leave some
        self.control.seats().stuck.extend(held);
    }

    /// Takes what somebody left so.
    pub(crate) fn stuck(&self) -> Vec<u8> {
        std::mem::take(&mut self.control.seats().stuck)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.control.seats();
        seats.watching = seats.watching.saturating_sub(1);
        if self.wanted.is_none() {
            return;
        }
        seats.hands.remove(&self.number);
        if let Some(asking) = seats.asking.get_mut(&self.token) {
            *asking -= 1;
            if *asking == 0 {
                seats.asking.remove(&self.token);
            }
        }
        self.leave(&mut seats);
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
        assert_eq!((seen.watching, seen.mine, seen.over), (3, false, false));
        assert!(seen.taken.is_some_and(|left| left <= MINUTE), "and it is told for how long");
        assert!(control.seen("first").mine);
        drop(first);
        assert!(second.controls() && !looks.controls(), "what is free is taken");
        drop((second, looks));
        let seen = control.seen("second");
        assert_eq!((seen.watching, seen.taken, seen.mine), (0, None, false));
    }

    #[test]
    fn two_pages_of_one_command_have_it_until_both_are_gone_and_each_is_told_of_the_other() {
        let control = Control::default();
        let (one, other) = (control.sit("first", Some(MINUTE)), control.sit("first", Some(MINUTE)));
        let second = control.sit("second", Some(MINUTE));
        assert!(one.controls() && other.controls() && !second.controls());
        assert_eq!((control.seen("first").own, control.seen("second").own), (2, 1));
        drop(one);
        assert!(!second.controls() && other.controls(), "it stays with the other");
        assert!(control.seen("first").mine && control.seen("first").own == 1);
        drop(other);
        assert!(second.controls());
    }

    #[test]
    fn what_two_pages_left_stuck_is_let_go_by_whoever_looks_next() {
        let control = Control::default();
        let (one, other) = (control.sit("first", Some(MINUTE)), control.sit("first", Some(MINUTE)));
        one.leave_stuck(vec![1]);
        other.leave_stuck(vec![2]);
        drop((one, other));
        let next = control.sit("next", None);
        assert_eq!(next.stuck(), [1, 2]);
        assert!(next.stuck().is_empty());
    }

    #[test]
    fn nobody_gets_control_while_any_page_of_who_had_it_may_have_keys_down() {
        let control = Control::default();
        let (one, other) = (control.sit("first", Some(MINUTE)), control.sit("first", Some(MINUTE)));
        let second = control.sit("second", Some(MINUTE));
        assert!(one.controls() && other.controls());
        control.give("first", true);
        assert!(!one.controls());
        one.let_go();
        assert!(!second.controls(), "the other page has not let go");
        assert!(!other.controls());
        other.let_go();
        assert!(second.controls());
        // one that goes without a word has let go on its way
        control.give("second", true);
        control.give("first", false);
        let third = control.sit("second", Some(MINUTE));
        drop(second);
        assert!(one.controls() && !third.controls());
    }

    #[test]
    fn time_that_is_over_stays_over() {
        let control = Control::default();
        let short = Duration::from_millis(500);
        let first = control.sit("first", Some(short));
        assert!(first.controls());
        let until = control.seats().grants["first"].until;
        drop(first);
        let again = control.sit("first", Some(MINUTE));
        assert_eq!(control.seats().grants["first"].until, until, "a page loaded again");
        std::thread::sleep(short);
        assert!(!again.controls() && control.seen("first").over);
        let second = control.sit("second", Some(MINUTE));
        assert!(!second.controls(), "keys may be down");
        again.let_go();
        assert!(second.controls(), "whoever stays on a page keeps nobody out");
    }

    #[test]
    fn what_is_given_back_is_anothers_and_may_be_asked_for_again() {
        let control = Control::default();
        let first = control.sit("first", Some(MINUTE));
        let second = control.sit("second", Some(MINUTE));
        control.give("second", true);
        assert!(first.controls(), "nobody gives what is another's");
        control.give("first", true);
        assert!(!first.controls() && control.seen("first").given && !second.controls());
        first.let_go();
        assert!(second.controls());
        control.give("first", false);
        assert!(!first.controls(), "it is taken");
        drop(second);
        assert!(first.controls(), "the rest of its time");
    }

    #[test]
    fn grants_that_are_over_cost_nobody_anything() {
        let control = Control::default();
        let long = control.sit("long", Some(Limits::CONTROL * 9));
        assert!(control.seen("long").taken.is_some_and(|left| left <= Limits::CONTROL));
        let until = control.seats().grants["long"].until;
        control.give("long", true);
        long.let_go();
        for number in 0..Limits::CONTROL_GRANTS + 9 {
            let seat = control.sit(&number.to_string(), Some(MINUTE));
            assert!(seat.controls(), "{number}");
        }
        assert_eq!(control.seats().grants.len(), Limits::CONTROL_GRANTS);
        assert_eq!(control.seats().grants["long"].until, until, "it is there and is remembered");
        assert!(!control.seats().grants.contains_key("0"), "the oldest that has gone made room");
    }
}
