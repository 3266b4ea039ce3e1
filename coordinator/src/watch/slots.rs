//! How many watch streams are open: in all, and of one principal.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use warren_common::Limits;
use warren_model::Principal;

use crate::sync::locked;

/// The watch streams that are open.
#[derive(Debug, Default)]
pub struct Slots(Mutex<BTreeMap<Principal, usize>>);

/// One open stream; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    principal: Principal,
}

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// [`Limits::WATCHES_PER_PRINCIPAL`].
    #[error("{} watch streams of yours are open here, the limit", Limits::WATCHES_PER_PRINCIPAL)]
    Own,
    /// [`Limits::WATCHES`].
    #[error("{} watch streams are open on this coordinator, the limit", Limits::WATCHES)]
    All,
}

impl Slots {
    /// Takes one of the principal's streams.
    ///
    /// # Errors
    /// All are taken.
    pub fn take(self: &Arc<Self>, principal: Principal) -> Result<Slot, Full> {
        let mut open = locked(&self.0);
        let all: usize = open.values().sum();
        if all >= Limits::WATCHES {
            return Err(Full::All);
        }
        let own = open.entry(principal.clone()).or_default();
        if *own >= Limits::WATCHES_PER_PRINCIPAL {
            return Err(Full::Own);
        }
        *own += 1;
        metrics::gauge!("warren_watch_streams").increment(1.0);
        Ok(Slot { slots: Arc::clone(self), principal })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = locked(&self.slots.0);
        if let Some(own) = open.get_mut(&self.principal) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.principal);
            }
            metrics::gauge!("warren_watch_streams").decrement(1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: usize) -> Principal {
        Principal::Person(format!("p{name}"))
    }

    #[test]
    fn streams_are_bounded_for_each_and_for_all_and_given_back() {
        let slots = Arc::new(Slots::default());
        let take = |name| slots.take(person(name));
        let mut open: Vec<Slot> = (0..Limits::WATCHES)
            .map(|n| take(n / Limits::WATCHES_PER_PRINCIPAL).expect("fits"))
            .collect();
        assert_eq!(take(usize::MAX).err(), Some(Full::All));
        drop(open.pop());
        assert_eq!(take(0).err(), Some(Full::Own), "its own bound holds where others have room");
        open.push(take(usize::MAX).expect("one is free"));
        drop(open);
        assert!(locked(&slots.0).is_empty(), "nothing is kept of those who left");
    }
}
