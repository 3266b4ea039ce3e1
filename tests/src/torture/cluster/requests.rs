//! Mutations: all calls under one request id are one, which must have one outcome and one effect.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use super::history::{Ask, Call, Outcome, Refused};

/// An effect as the audit log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The revision it got.
    pub revision: u64,
    /// Which request.
    pub request: String,
    /// The audit log's word for what it did.
    pub action: String,
}

/// How a mutation ended, over all its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It took effect: the call that said so first.
    Done(usize),
    /// It was refused for good by this call.
    Refused(usize, Refused),
    /// Nobody has said.
    Open,
}

/// All calls under one request id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// Numbers of its calls, in the order in which they were made.
    pub calls: Vec<usize>,
    /// How it ended.
    pub settled: Settled,
}

/// All mutations by their request ids.
#[derive(Debug, Clone, Default)]
pub struct Mutations {
    /// By request id.
    pub all: BTreeMap<String, Mutation>,
    /// Requests that were answered in two ways, as sentences.
    pub conflicts: Vec<String>,
}

/// Gathers the calls by their request ids.
pub fn gather(calls: &[Call]) -> Mutations {
    let mut by_request: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (number, call) in calls.iter().enumerate() {
        if let Some(request) = &call.request {
            by_request.entry(request.clone()).or_default().push(number);
        }
    }
    let mut mutations = Mutations::default();
    for (request, mut numbers) in by_request {
        numbers.sort_by_key(|number| calls[*number].invoked);
        let mut settled = Settled::Open;
        for (place, number) in numbers.iter().enumerate() {
            let next = settle(calls, *number, place > 0 && settled == Settled::Open);
            match agreed(settled, next) {
                Ok(both) => settled = both,
                Err((first, second)) => mutations.conflicts.push(format!(
                    "request {request} was answered in two ways:\n  {}\n  {}",
                    calls[first], calls[second]
                )),
            }
        }
        mutations.all.insert(request, Mutation { calls: numbers, settled });
    }
    mutations
}

/// What one call says of its request; `earlier` where calls before it have no answer.
fn settle(calls: &[Call], number: usize, earlier: bool) -> Settled {
    let create = matches!(calls[number].ask, Ask::Create(..));
    match calls[number].outcome {
        Outcome::Done(_) => Settled::Done(number),
        // said before the request is looked up: an earlier call may still take effect
        Outcome::Refused(Refused::Missing) if earlier && !create => Settled::Open,
        // it was answered before, to somebody who did not hear it
        Outcome::Refused(Refused::Reused) if !create => Settled::Open,
        Outcome::Refused(why) => Settled::Refused(number, why),
        Outcome::Found(_) | Outcome::Listed(..) | Outcome::Unknown(_) => Settled::Open,
    }
}

/// What two calls of one request say together; the two where they contradict each other.
fn agreed(before: Settled, next: Settled) -> Result<Settled, (usize, usize)> {
    match (before, next) {
        (Settled::Open, next) => Ok(next),
        (before, Settled::Open) | (before @ Settled::Done(_), Settled::Done(_)) => Ok(before),
        (Settled::Refused(_, one), Settled::Refused(_, two)) if one == two => Ok(before),
        // refused because of what it is now, and once it is gone because it is gone
        (Settled::Refused(..), Settled::Refused(_, Refused::Missing)) => Ok(before),
        (
            Settled::Done(first) | Settled::Refused(first, _),
            Settled::Done(second) | Settled::Refused(second, _),
        ) => Err((first, second)),
    }
}

/// Ensures that each request took effect as often as its answers allow. `foreign` says which records
/// are somebody else's.
///
/// # Errors
/// Fails with the request that was answered in two ways, took effect twice, not at all, or after it
/// was refused.
pub fn once(
    (calls, mutations): (&[Call], &Mutations),
    effects: &[Effect],
    foreign: impl Fn(&Effect) -> bool,
) -> Result<()> {
    if let Some(conflict) = mutations.conflicts.first() {
        bail!("{conflict}\n  (one of {})", mutations.conflicts.len());
    }
    let mut known: BTreeMap<String, Effect> = BTreeMap::new();
    for effect in effects {
        let request = &effect.request;
        if !mutations.all.contains_key(request) {
            ensure!(foreign(effect), "nobody asked for {effect:?}");
            continue;
        }
        if let Some(before) = known.insert(request.clone(), effect.clone()) {
            bail!("request {request} took effect twice: {before:?} and {effect:?}");
        }
    }
    for (request, mutation) in &mutations.all {
        let call = &calls[mutation.calls[0]];
        match (mutation.settled, known.get(request)) {
            (Settled::Done(_), None) => bail!("acknowledged and lost: request {request}, {call}"),
            (Settled::Refused(..), Some(effect)) => {
                bail!("refused, and it took effect ({effect:?}): request {request}, {call}")
            }
            (_, Some(effect)) => {
                let word = action(&call.ask);
                ensure!(effect.action == word, "{effect:?} is not what was asked: {call}");
            }
            (Settled::Refused(..) | Settled::Open, None) => {}
        }
    }
    Ok(())
}

fn action(ask: &Ask) -> &'static str {
    match ask {
        Ask::Create(object, _) if object.starts_with("workspace ") => "workspace.create",
        Ask::Create(..) => "client.create",
        Ask::Label(..) => "client.update",
        Ask::Delete(..) => "client.delete",
        Ask::Get(_) | Ask::List => "",
    }
}
