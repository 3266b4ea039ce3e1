//! The history taken apart into objects, and the search for an order at each.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    history::{Ask, Call, Object, Outcome, Refused},
    linear::{self, Finding, Operation},
    register::{Act, Seen},
    requests::{Effect, Mutation, Settled},
};

/// How many calls of a failing history are shown.
const SHOWN: usize = 12;

/// The calls at one object, each with the number of the call that shows it.
#[derive(Debug, Default)]
struct Part {
    operations: Vec<Operation>,
    from: Vec<usize>,
}

impl Part {
    fn add(&mut self, number: usize, operation: Operation) {
        self.operations.push(operation);
        self.from.push(number);
    }

    /// A call that is over and was right at some moment in between.
    fn during(&mut self, calls: &[Call], number: usize, act: Act) {
        let Call { invoked, returned, .. } = calls[number];
        self.add(number, Operation { invoked, returned: Some(returned), certain: true, act });
    }
}

/// Searches an order of the calls at each object; returns how many objects there are.
///
/// # Errors
/// Fails with a short slice of the calls at the first object that has no order, or is undecided.
pub fn check(
    calls: &[Call],
    mutations: &BTreeMap<String, Mutation>,
    effects: &BTreeMap<String, Effect>,
) -> anyhow::Result<usize> {
    let parts = take_apart(calls, mutations, effects);
    for (object, part) in &parts {
        match linear::search(&part.operations) {
            Finding::Linearizable => {}
            Finding::Impossible => {
                anyhow::bail!("{object} is not linearizable:\n{}", slice(calls, part))
            }
            Finding::Undecided => anyhow::bail!(
                "{object}: {} calls are undecided after {} steps; that is no pass",
                part.operations.len(),
                linear::STEPS
            ),
        }
    }
    Ok(parts.len())
}

fn take_apart(
    calls: &[Call],
    mutations: &BTreeMap<String, Mutation>,
    effects: &BTreeMap<String, Effect>,
) -> BTreeMap<Object, Part> {
    let mut parts: BTreeMap<Object, Part> = BTreeMap::new();
    for (request, mutation) in mutations {
        let Some(object) = calls[mutation.calls[0]].ask.object() else { continue };
        let part = parts.entry(object.clone()).or_default();
        mutated(part, calls, (mutation, effects.contains_key(request)));
    }
    for (number, call) in calls.iter().enumerate() {
        if let (Ask::Get(object), Outcome::Found(found)) = (&call.ask, &call.outcome) {
            let act = Act::Read(found.as_ref().map(|(_, seen)| seen.clone()));
            parts.entry(object.clone()).or_default().during(calls, number, act);
        }
    }
    let lives: BTreeMap<Object, (u64, u64)> =
        parts.iter().map(|(object, part)| (object.clone(), life(calls, part))).collect();
    for (number, call) in calls.iter().enumerate() {
        let Outcome::Listed(_, all) = &call.outcome else { continue };
        for (object, part) in &mut parts {
            let (from, to) = lives[object];
            if object.starts_with("client ") && call.returned >= from && call.invoked <= to {
                part.during(calls, number, Act::Read(all.get(object).cloned()));
            }
        }
    }
    parts
}

/// From the first call at an object to the last.
fn life(calls: &[Call], part: &Part) -> (u64, u64) {
    let own = || part.from.iter().map(|number| &calls[*number]);
    let from = own().map(|call| call.invoked).min().unwrap_or(0);
    (from, own().map(|call| call.returned).max().unwrap_or(0))
}

/// Adds what is known of one mutation; `took_effect` where the audit log has it.
fn mutated(part: &mut Part, calls: &[Call], (mutation, took_effect): (&Mutation, bool)) {
    let first = mutation.calls[0];
    let (ask, invoked) = (&calls[first].ask, calls[first].invoked);
    let mark = mark(ask);
    let own = |seen: &Seen| mark.is_some() && seen.labels.get("mark").map(String::as_str) == mark;
    let mut bound = None;
    for number in &mutation.calls {
        match &calls[*number].outcome {
            Outcome::Done(Some(seen))
                if own(seen) && mutation.settled == Settled::Done(*number) =>
            {
                bound = Some(seen.clone());
            }
            // what it shows is newer than its effect, and was so before the answer
            Outcome::Done(Some(seen)) => {
                part.during(calls, *number, Act::Read(Some(seen.clone())));
            }
            Outcome::Refused(Refused::Missing) if !matches!(ask, Ask::Create(..)) => {
                part.during(calls, *number, Act::Read(None));
            }
            Outcome::Done(None)
            | Outcome::Refused(_)
            | Outcome::Unknown(_)
            | Outcome::Found(_)
            | Outcome::Listed(..) => {}
        }
    }
    let effect = |shown| match ask {
        Ask::Create(_, labels) => Some(Act::Create(labels.clone(), shown)),
        Ask::Label(_, change) => Some(Act::Label(change.clone(), shown)),
        Ask::Delete(_, since) => Some(Act::Delete(*since)),
        Ask::Get(_) | Ask::List => None,
    };
    let (number, returned, act) = match mutation.settled {
        Settled::Done(number) => (number, Some(calls[number].returned), effect(bound)),
        Settled::Refused(number, why) => (number, Some(calls[number].returned), refusal(ask, why)),
        Settled::Open if took_effect => (first, None, effect(None)),
        Settled::Open => return,
    };
    if let Some(act) = act {
        part.add(number, Operation { invoked, returned, certain: true, act });
    }
}

fn refusal(ask: &Ask, why: Refused) -> Option<Act> {
    let since = match ask {
        Ask::Label(_, change) => change.if_revision,
        Ask::Delete(_, since) => *since,
        Ask::Create(..) | Ask::Get(_) | Ask::List => None,
    };
    match why {
        Refused::There => Some(Act::RefusedThere),
        Refused::Changed => since.map(Act::RefusedChanged),
        // that it was missing is noted for the call itself
        Refused::Missing | Refused::Reused => None,
    }
}

/// Returns the label by which a mutation is told from all others.
pub fn mark(ask: &Ask) -> Option<&str> {
    let labels = match ask {
        Ask::Create(_, labels) => labels,
        Ask::Label(_, change) => &change.set,
        Ask::Delete(..) | Ask::Get(_) | Ask::List => return None,
    };
    labels.get("mark").map(String::as_str)
}

fn slice(calls: &[Call], part: &Part) -> String {
    let mut short = linear::shortest(&part.operations);
    short.sort_by_key(|number| part.operations[*number].invoked);
    let skipped = short.len().saturating_sub(SHOWN);
    let mut text = String::new();
    if skipped > 0 {
        // writing to a String cannot fail
        let _ = writeln!(text, "  ({skipped} calls before these)");
    }
    for number in &short[skipped..] {
        let _ = writeln!(text, "  {}", calls[part.from[*number]]);
    }
    text
}
