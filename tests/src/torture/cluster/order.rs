//! The audit log as a witness: it names one order of all effects, by revision. Is that order right?
//!
//! It must be one in which each effect was possible, in which each read shows exactly what there was
//! at the revision that it names, and which agrees with time: nobody who asks after an answer gets
//! less than that answer had. This looks across objects, and at lists as a whole, where the search
//! at each object ([`super::objects`]) does not trust the log.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::{
    history::{Ask, Call, Object, Outcome},
    objects::mark,
    register::{Labels, Seen},
    requests::{Effect, Mutation, Settled},
};

/// What an object was from a revision on.
type Versions = Vec<(u64, Option<Labels>)>;

/// Checks the order; returns how many reads were compared.
///
/// # Errors
/// Fails with the effect that was not possible, the read that shows something else, or the call
/// that was given less than what had been answered before it.
pub fn check(
    calls: &[Call],
    mutations: &BTreeMap<String, Mutation>,
    effects: &BTreeMap<String, Effect>,
) -> Result<usize> {
    let versions = replay((calls, mutations), effects)?;
    shown((calls, mutations), effects)?;
    in_time((calls, mutations), effects)?;
    reads(calls, &versions)
}

/// Applies every effect in the order of the revisions.
fn replay(
    (calls, mutations): (&[Call], &BTreeMap<String, Mutation>),
    effects: &BTreeMap<String, Effect>,
) -> Result<BTreeMap<Object, Versions>> {
    let mut ordered: Vec<&Effect> = effects.values().collect();
    ordered.sort_by_key(|effect| effect.revision);
    let mut all: BTreeMap<Object, Versions> = BTreeMap::new();
    for effect in ordered {
        let call = &calls[mutations[&effect.request].calls[0]];
        let object = call.ask.object().context("a mutation has an object")?;
        let versions = all.entry(object.clone()).or_default();
        let (since, labels) = versions.last().cloned().unwrap_or_default();
        ensure!(since < effect.revision, "two effects share revision {since}: {call}");
        let unchanged = |wanted: Option<u64>| wanted.is_none_or(|wanted| since <= wanted);
        let after = match (&call.ask, labels) {
            (Ask::Create(_, labels), None) => Some(Some(labels.clone())),
            (Ask::Label(_, change), Some(mut labels)) if unchanged(change.if_revision) => {
                labels.retain(|key, _| !change.remove.contains(key));
                labels.extend(change.set.clone());
                Some(Some(labels))
            }
            (Ask::Delete(_, wanted), Some(_)) if unchanged(*wanted) => Some(None),
            _ => None,
        };
        let what = || format!("revision {} was not possible then: {call}", effect.revision);
        versions.push((effect.revision, after.with_context(what)?));
    }
    Ok(all)
}

fn at(versions: &Versions, revision: u64) -> Option<Seen> {
    let upto = versions.partition_point(|(from, _)| *from <= revision);
    let (from, labels) = versions[..upto].last()?;
    Some(Seen { labels: labels.clone()?, revision: Some(*from) })
}

/// Compares what each read shows with what there was.
fn reads(calls: &[Call], versions: &BTreeMap<Object, Versions>) -> Result<usize> {
    let mut compared = 0;
    for call in calls {
        match (&call.ask, &call.outcome) {
            (Ask::Get(object), Outcome::Found(Some((revision, seen)))) => {
                let was = versions.get(object).and_then(|versions| at(versions, *revision));
                let same = was.as_ref().is_some_and(|was| is(was, seen));
                ensure!(same, "at revision {revision} it was {was:?}: {call}");
            }
            (_, Outcome::Listed(revision, all)) => {
                for (object, versions) in versions.iter().filter(|(name, _)| listed(name)) {
                    let (was, seen) = (at(versions, *revision), all.get(object));
                    ensure!(
                        was.as_ref() == seen,
                        "{object} was {was:?} at revision {revision} and is listed as {seen:?}: {call}"
                    );
                }
                let unknown = all.keys().find(|name| !versions.contains_key(*name));
                ensure!(unknown.is_none(), "{unknown:?} was never made: {call}");
            }
            _ => continue,
        }
        compared += 1;
    }
    Ok(compared)
}

fn listed(object: &str) -> bool {
    object.starts_with("client ")
}

/// Whether an object is shown as it was; some answers name no revision.
fn is(was: &Seen, seen: &Seen) -> bool {
    was.labels == seen.labels && (seen.revision.is_none() || seen.revision == was.revision)
}

/// Compares the revision in an answer with the audit log's.
fn shown(
    (calls, mutations): (&[Call], &BTreeMap<String, Mutation>),
    effects: &BTreeMap<String, Effect>,
) -> Result<()> {
    for (request, effect) in effects {
        let mutation = &mutations[request];
        for call in mutation.calls.iter().map(|number| &calls[*number]) {
            let Outcome::Done(Some(seen)) = &call.outcome else { continue };
            let own = seen.labels.get("mark").map(String::as_str) == mark(&call.ask);
            let same = seen.revision.is_none_or(|revision| match own {
                true => revision == effect.revision,
                false => revision > effect.revision,
            });
            ensure!(same, "its revision is {} in the audit log: {call}", effect.revision);
        }
    }
    Ok(())
}

/// One end of a call: answers bring a revision, beginnings must not get less than was answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    when: u64,
    /// Beginnings come first where the moment is the same: that asks for less.
    answer: bool,
    revision: u64,
    /// A read may get the same revision again, an effect must have a later one.
    effect: bool,
    call: usize,
}

fn in_time(
    (calls, mutations): (&[Call], &BTreeMap<String, Mutation>),
    effects: &BTreeMap<String, Effect>,
) -> Result<()> {
    let mut edges = Vec::new();
    for (request, effect) in effects {
        let Mutation { calls: own, settled } = &mutations[request];
        let edge = |when, answer, call| Edge {
            when,
            answer,
            revision: effect.revision,
            effect: true,
            call,
        };
        edges.push(edge(calls[own[0]].invoked, false, own[0]));
        if let Settled::Done(number) = settled {
            edges.push(edge(calls[*number].returned, true, *number));
        }
    }
    for (number, call) in calls.iter().enumerate() {
        let (Outcome::Listed(revision, _) | Outcome::Found(Some((revision, _)))) = &call.outcome
        else {
            continue;
        };
        for (when, answer) in [(call.invoked, false), (call.returned, true)] {
            edges.push(Edge { when, answer, revision: *revision, effect: false, call: number });
        }
    }
    edges.sort_unstable();
    let mut newest: Option<Edge> = None;
    for edge in edges {
        let least = newest.map_or(0, |newest| newest.revision);
        if edge.answer {
            if edge.revision > least {
                newest = Some(edge);
            }
            continue;
        }
        let fits = if edge.effect { edge.revision > least } else { edge.revision >= least };
        let before = newest.map(|newest| calls[newest.call].to_string()).unwrap_or_default();
        ensure!(
            fits,
            "revision {} came after revision {least} had been answered:\n  {before}\n  {}",
            edge.revision,
            calls[edge.call]
        );
    }
    Ok(())
}
