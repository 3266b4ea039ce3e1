//! What a run left, judged: the calls, and what the audit log says became of them.
//!
//! Nothing here speaks to a process, so a history that was told a lie can be judged as well: each
//! lie of [`lies`] must be noticed by the checks that it is named for, or the verdict is worth
//! nothing.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    history::{Ask, Call, Outcome},
    objects, order,
    register::Change,
    requests::{self, Effect, Mutation, Settled},
};

/// Everything that is judged.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Every call.
    pub calls: Vec<Call>,
    /// The audit log, oldest first.
    pub effects: Vec<Effect>,
    /// The newest revision before the first call.
    pub before: u64,
}

/// What was found right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judged {
    /// Objects whose calls have an order.
    pub objects: usize,
    /// Reads that show what the log says there was.
    pub reads: usize,
    /// Request ids.
    pub requests: usize,
    /// Those of them that nobody answered, and of these how many took effect.
    pub open: (usize, usize),
}

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Each request has one outcome and one effect.
    Requests,
    /// The calls at each object have an order.
    Objects,
    /// The log's order is one, and agrees with time.
    Order,
}

impl Check {
    const ALL: [Self; 3] = [Self::Requests, Self::Objects, Self::Order];
}

impl Evidence {
    /// Makes every check.
    ///
    /// # Errors
    /// Fails with all that does not hold.
    pub fn judge(&self) -> Result<Judged> {
        let mut judged = Judged::default();
        let wrong = |check| Some(format!("{:#}", self.check(check, &mut judged).err()?));
        let wrong: Vec<String> = Check::ALL.into_iter().filter_map(wrong).collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(judged)
    }

    fn check(&self, check: Check, judged: &mut Judged) -> Result<()> {
        let mutations = requests::gather(&self.calls);
        // what was there before, and what is nobody's call here: joining, workspaces' phases
        let foreign = |effect: &Effect| {
            let asked = ["client.create", "client.update", "client.delete", "workspace.create"];
            effect.revision <= self.before || !asked.contains(&effect.action.as_str())
        };
        let known = self.known(&mutations.all);
        match check {
            Check::Requests => {
                requests::once((&self.calls, &mutations), &self.effects, foreign)?;
                let open = mutations.all.iter().filter(|(_, one)| one.settled == Settled::Open);
                let took = open.clone().filter(|(request, _)| known.contains_key(*request));
                judged.requests = mutations.all.len();
                judged.open = (open.count(), took.count());
            }
            // of the log no more than which unanswered calls took effect
            Check::Objects => {
                judged.objects = objects::check(&self.calls, &mutations.all, &known)?;
            }
            Check::Order => judged.reads = order::check(&self.calls, &mutations.all, &known)?,
        }
        Ok(())
    }

    /// The effects of these requests, whatever is wrong with them.
    fn known(&self, mutations: &BTreeMap<String, Mutation>) -> BTreeMap<String, Effect> {
        let ours = self.effects.iter().filter(|effect| mutations.contains_key(&effect.request));
        ours.map(|effect| (effect.request.clone(), effect.clone())).collect()
    }
}

/// A lie: what it is called, the evidence that tells it, and which checks must notice it.
type Lie = (&'static str, Evidence, &'static [Check]);

/// Ensures that the checks notice each lie about this run; returns what the lies were.
///
/// # Errors
/// Fails with the lie that went unnoticed, or where the run is too poor to lie about.
pub fn lies(truth: &Evidence) -> Result<Vec<&'static str>> {
    let told: [Lie; 4] = [
        ("a stale read", stale_read(truth)?, &[Check::Objects, Check::Order]),
        ("a stale list", stale_list(truth)?, &[Check::Order]),
        ("an acknowledged write that was lost", lost(truth)?, &[Check::Objects, Check::Requests]),
        ("a request that took effect twice", twice(truth)?, &[Check::Requests]),
    ];
    for (name, evidence, checks) in &told {
        for check in *checks {
            if evidence.check(*check, &mut Judged::default()).is_ok() {
                bail!("{name} was put into the history, and {check:?} did not notice");
            }
        }
    }
    Ok(told.iter().map(|(name, ..)| *name).collect())
}

/// An acknowledged change of the object between two reads; none where there is none.
fn between(calls: &[Call], (one, two): (&Call, &Call)) -> bool {
    let (from, to) = (one.returned, two.invoked);
    let changed = |call: &&Call| {
        matches!(call.ask, Ask::Label(..)) && matches!(call.outcome, Outcome::Done(Some(_)))
    };
    let mut own = calls.iter().filter(changed).filter(|call| call.ask.object() == one.ask.object());
    own.any(|call| call.invoked > from && call.returned < to)
}

fn stale_read(truth: &Evidence) -> Result<Evidence> {
    let mut told = truth.clone();
    let reads: Vec<usize> = (0..told.calls.len())
        .filter(|at| matches!(told.calls[*at].outcome, Outcome::Found(Some(_))))
        .collect();
    let pair = reads.iter().enumerate().find_map(|(place, first)| {
        let one = &told.calls[*first];
        let later = reads[place + 1..].iter().filter(|at| told.calls[**at].ask == one.ask);
        let mut later = later.take(20).filter(|at| between(&told.calls, (one, &told.calls[**at])));
        later.next().map(|second| (*first, *second))
    });
    let (first, second) = pair.context("no two reads with a change between them")?;
    told.calls[second].outcome = told.calls[first].outcome.clone();
    Ok(told)
}

/// A list that shows what an earlier one did, after a third had shown more.
fn stale_list(truth: &Evidence) -> Result<Evidence> {
    let mut told = truth.clone();
    let lists: Vec<(usize, u64)> = (0..told.calls.len())
        .filter_map(|at| match told.calls[at].outcome {
            Outcome::Listed(revision, _) => Some((at, revision)),
            _ => None,
        })
        .collect();
    let three = lists.windows(3).find(|three| {
        let [(_, old), (newer, new), (last, _)] = three else { return false };
        old < new && told.calls[*newer].returned < told.calls[*last].invoked
    });
    let three = three.context("no three lists with a change between them")?;
    told.calls[three[2].0].outcome = told.calls[three[0].0].outcome.clone();
    Ok(told)
}

/// A change that was acknowledged, and of which the cluster knows nothing.
fn lost(truth: &Evidence) -> Result<Evidence> {
    let mut told = truth.clone();
    // nothing else was under way that could have hidden it
    let quiet = |read: &&Call| {
        let own = told.calls.iter().filter(|call| call.ask.object() == read.ask.object());
        own.filter(|call| !call.ask.reads()).all(|call| {
            let open = matches!(call.outcome, Outcome::Unknown(_));
            call.invoked > read.returned || !open && call.returned + 2 < read.invoked
        })
    };
    let mut reads =
        told.calls.iter().filter(|call| matches!(call.outcome, Outcome::Found(Some(_))));
    let read = reads.find(quiet).context("no read of an object that nobody changed then")?.clone();
    let Ask::Get(object) = &read.ask else { bail!("a read that is none") };
    let set = [("mark".to_owned(), "lost".to_owned())].into();
    let change = Change { set, remove: Vec::new(), if_revision: None };
    told.calls.push(Call {
        request: Some("lost".to_owned()),
        ask: Ask::Label(object.clone(), change),
        invoked: read.invoked.saturating_sub(2),
        returned: read.invoked.saturating_sub(1),
        outcome: Outcome::Done(None),
        ..read
    });
    Ok(told)
}

fn twice(truth: &Evidence) -> Result<Evidence> {
    let mut told = truth.clone();
    let asked: Vec<&String> = told.calls.iter().filter_map(|call| call.request.as_ref()).collect();
    let known = |effect: &&Effect| asked.contains(&&effect.request);
    let effect = told.effects.iter().find(known).context("no effect")?.clone();
    let last = told.effects.last().map_or(0, |last| last.revision);
    told.effects.push(Effect { revision: last + 1, ..effect });
    Ok(told)
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
