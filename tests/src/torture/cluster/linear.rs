//! Is there an order of these calls in which each answer is right?
//!
//! The search of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the memo of
//! Lowe ("Testing for linearizability", 2017): take any call that began before the first answer
//! still outstanding, see whether its answer fits, go on; where none fits, take the last one back.
//! A set of calls taken together with the state they led to is tried once. Linearizability is
//! compositional, so each object is searched alone. A call without an answer may take effect at any
//! time after it began, or never. A search that grows past [`STEPS`] is undecided, which is no pass.

use std::collections::HashSet;

use super::register::{Act, State};

/// How many calls may be tried at one object: some seconds.
pub const STEPS: usize = 4_000_000;

/// One call at one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// When it was asked.
    pub invoked: u64,
    /// When it was answered; none: it may take effect at any time after it was asked.
    pub returned: Option<u64>,
    /// It is known to have taken effect; otherwise it may never have.
    pub certain: bool,
    /// What it was.
    pub act: Act,
}

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// There is such an order.
    Linearizable,
    /// There is none.
    Impossible,
    /// It was not found within the bound.
    Undecided,
}

/// No node: the end of the list.
const END: usize = usize::MAX;

/// Calls and answers by time, as a list from which calls that were taken are lifted out.
struct Events {
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Which operation, and whether this is its answer.
    of: Vec<(usize, bool)>,
    /// Where an operation's call and answer are.
    at: Vec<(usize, Option<usize>)>,
}

/// Node 0 is the head.
const HEAD: usize = 0;

impl Events {
    fn new(operations: &[Operation]) -> Self {
        let mut events: Vec<(u64, bool, usize)> = Vec::new();
        for (number, one) in operations.iter().enumerate() {
            events.push((one.invoked, false, number));
            events.extend(one.returned.map(|at| (at, true, number)));
        }
        // at one moment calls come before answers: that allows more orders, never fewer
        events.sort_unstable();
        let count = events.len();
        let mut at = vec![(END, None); operations.len()];
        let mut of = vec![(END, false)];
        for (node, (_, answer, number)) in events.into_iter().enumerate() {
            of.push((number, answer));
            match answer {
                true => at[number].1 = Some(node + 1),
                false => at[number].0 = node + 1,
            }
        }
        let next = (1..=count).chain([END]).collect();
        let previous = [END].into_iter().chain(0..count).collect();
        Self { next, previous, of, at }
    }

    fn lift(&mut self, operation: usize) {
        let (call, answer) = self.at[operation];
        for node in [Some(call), answer].into_iter().flatten() {
            let (before, after) = (self.previous[node], self.next[node]);
            self.next[before] = after;
            if after != END {
                self.previous[after] = before;
            }
        }
    }

    /// Puts back what was lifted last.
    fn put_back(&mut self, operation: usize) {
        let (call, answer) = self.at[operation];
        for node in [answer, Some(call)].into_iter().flatten() {
            let (before, after) = (self.previous[node], self.next[node]);
            self.next[before] = node;
            if after != END {
                self.previous[after] = node;
            }
        }
    }
}

/// Searches an order of the calls at one object that begins absent.
pub fn search(operations: &[Operation]) -> Finding {
    search_within(operations, STEPS)
}

fn search_within(operations: &[Operation], steps: usize) -> Finding {
    let mut events = Events::new(operations);
    let mut state = State::absent();
    let mut taken = vec![0_u64; operations.len().div_ceil(64)];
    let mut tried = HashSet::new();
    let mut path: Vec<(usize, State)> = Vec::new();
    let mut open = operations.iter().filter(|one| one.certain).count();
    let mut node = events.next[HEAD];
    for _ in 0..steps {
        if open == 0 {
            return Finding::Linearizable;
        }
        if node != END && !events.of[node].1 {
            let number = events.of[node].0;
            if let Some(after) = state.after(&operations[number].act) {
                taken[number / 64] |= 1 << (number % 64);
                if tried.insert((taken.clone(), after.clone())) {
                    path.push((number, std::mem::replace(&mut state, after)));
                    open -= usize::from(operations[number].certain);
                    events.lift(number);
                    node = events.next[HEAD];
                    continue;
                }
                taken[number / 64] &= !(1 << (number % 64));
            }
            node = events.next[node];
            continue;
        }
        // an answer, or the end: what is taken so far cannot be right
        let Some((number, before)) = path.pop() else { return Finding::Impossible };
        state = before;
        taken[number / 64] &= !(1 << (number % 64));
        open += usize::from(operations[number].certain);
        events.put_back(number);
        node = events.next[events.at[number].0];
    }
    Finding::Undecided
}

/// Returns the numbers of few calls that already have no order: the shortest beginning that has
/// none, without the answers that it does not take to see it. The calls must have no order.
pub fn shortest(operations: &[Operation]) -> Vec<usize> {
    let fails = |kept: &[usize]| {
        let kept: Vec<Operation> = kept.iter().map(|number| operations[*number].clone()).collect();
        search_within(&kept, STEPS / 20) == Finding::Impossible
    };
    let mut answers: Vec<u64> = operations.iter().filter_map(|one| one.returned).collect();
    answers.sort_unstable();
    // A beginning: what was answered by then; what was under way may have taken effect.
    let beginning = |until: u64| -> Vec<Operation> {
        let begun = operations.iter().filter(|one| one.invoked <= until);
        let cut = begun.map(|one| match one.returned {
            Some(at) if at <= until => one.clone(),
            Some(_) | None => Operation { returned: None, certain: false, ..one.clone() },
        });
        cut.collect()
    };
    let whole = |until: &u64| search_within(&beginning(*until), STEPS / 20) != Finding::Impossible;
    let end = answers.get(answers.partition_point(whole)).copied().unwrap_or(u64::MAX);
    let mut kept: Vec<usize> =
        (0..operations.len()).filter(|number| operations[*number].invoked <= end).collect();
    if !fails(&kept) {
        return kept;
    }
    // what changes nothing may be left out: the others have an order if they had one with it
    for number in kept.clone() {
        let idle = matches!(
            operations[number].act,
            Act::Read(_) | Act::RefusedThere | Act::RefusedChanged(_)
        );
        if idle {
            let without: Vec<usize> = kept.iter().copied().filter(|one| *one != number).collect();
            if fails(&without) {
                kept = without;
            }
        }
    }
    kept
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
