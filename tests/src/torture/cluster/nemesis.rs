//! One fault at a time, chosen by the seed, always healed before the next: a majority is alive.

use std::{
    collections::BTreeMap,
    fmt, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{
    replicas::Records,
    stand::{COORDINATORS, Stand},
};
use crate::{Way, torture::Moments};

/// How long a fault lasts, milliseconds: some shorter than an election, some much longer.
const LASTS: (u64, u64) = (300, 7_000);
/// How long all is well before the next, milliseconds.
const BETWEEN: (u64, u64) = (200, 3_000);

/// What is done to a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL, and started again.
    Kill,
    /// SIGSTOP, then SIGCONT.
    Stop,
    /// Its link goes down.
    Cut,
    /// It hears nobody, and is heard.
    CutIn,
    /// It hears everybody, and is not heard.
    CutOut,
    /// SIGKILL, its folder is removed, and it comes back under a new id.
    Wipe,
}

impl Fault {
    const ALL: [Self; 6] =
        [Self::Kill, Self::Stop, Self::Cut, Self::CutIn, Self::CutOut, Self::Wipe];

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Stop => "stopped",
            Self::Cut => "cut off",
            Self::CutIn => "cut off inwards",
            Self::CutOut => "cut off outwards",
            Self::Wipe => "wiped",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A fault that is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// What.
    pub fault: Fault,
    /// To whoever leads then; otherwise to a follower.
    pub leader: bool,
    /// Which follower.
    pub which: usize,
    /// How long all is well before.
    pub after: Duration,
    /// How long it lasts.
    pub lasts: Duration,
}

/// Returns every fault once, in an order of the seed's; two in three hit the leader.
pub fn round(moments: &mut Moments) -> Vec<Planned> {
    let mut faults = Fault::ALL.to_vec();
    let mut planned = Vec::new();
    while !faults.is_empty() {
        planned.push(Planned {
            fault: faults.remove(moments.below(faults.len())),
            leader: !moments.once_in(3),
            which: moments.below(COORDINATORS - 1),
            after: moments.between(BETWEEN.0, BETWEEN.1),
            lasts: moments.between(LASTS.0, LASTS.1),
        });
    }
    planned
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// How often each fault was made.
    pub faults: BTreeMap<Fault, usize>,
    /// When each was made, what it was, and whether it hit the leader.
    pub times: Vec<(u64, Fault, bool)>,
    /// The audit records that were gathered on the way.
    pub records: Records,
}

/// Makes faults until the time is over, each kind at least once. `told` is given a line for each,
/// and says whether to go on and when it was, by the history's clock.
///
/// # Errors
/// Fails where a fault cannot be made, or the cluster does not come back after one.
pub fn run(
    stand: &mut Stand,
    moments: &mut Moments,
    lasts: Duration,
    mut told: impl FnMut(String) -> Result<u64>,
) -> Result<Done> {
    let began = Instant::now();
    let mut done = Done::default();
    loop {
        for planned in round(moments) {
            if began.elapsed() >= lasts && done.faults.len() == Fault::ALL.len() {
                return Ok(done);
            }
            pass(planned.after);
            let leader = stand.leader()?;
            let target = match planned.leader {
                true => leader,
                false => (leader + 1 + planned.which) % COORDINATORS,
            };
            let who = if planned.leader { "which leads" } else { "which follows" };
            let Planned { fault, lasts, .. } = planned;
            let seconds = lasts.as_secs_f64();
            let line = format!("coordinator {}, {who}, is {fault} for {seconds:.1} s", target + 1);
            let now = told(line)?;
            *done.faults.entry(fault).or_default() += 1;
            done.times.push((now, fault, planned.leader));
            if fault == Fault::Wipe {
                done.records.gather(stand)?;
            }
            inflict(stand, target, fault).with_context(|| format!("{fault}: making it"))?;
            pass(lasts);
            heal(stand, target, fault).with_context(|| format!("{fault}: healing it"))?;
            stand
                .settled()
                .with_context(|| format!("after coordinator {} was {fault}", target + 1))?;
        }
    }
}

fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

fn inflict(stand: &mut Stand, at: usize, fault: Fault) -> Result<()> {
    match fault {
        Fault::Kill | Fault::Wipe => stand.coordinator(at).kill(),
        Fault::Stop => stand.coordinator(at).process()?.signal(Signal::STOP),
        Fault::Cut => stand.hosts[at].cut(),
        Fault::CutIn => stand.hosts[at].cut_one_way(Way::In),
        Fault::CutOut => stand.hosts[at].cut_one_way(Way::Out),
    }
}

fn heal(stand: &mut Stand, at: usize, fault: Fault) -> Result<()> {
    match fault {
        Fault::Kill => stand.coordinator(at).start(),
        Fault::Stop => stand.coordinator(at).process()?.signal(Signal::CONT),
        Fault::Cut => stand.hosts[at].mend(),
        Fault::CutIn | Fault::CutOut => stand.hosts[at].mend_one_way(),
        Fault::Wipe => stand.replace(at),
    }
}

#[cfg(test)]
mod tests {
    use warren_coordinator::store::Engine;

    use super::*;

    #[test]
    fn a_seed_plans_the_same_faults_again_and_each_round_has_every_kind() {
        let rounds = |seed| {
            let mut moments = Moments::new(seed, Engine::default());
            [round(&mut moments), round(&mut moments)]
        };
        assert_eq!(rounds(5), rounds(5));
        assert_ne!(rounds(5), rounds(6));
        for planned in rounds(7) {
            let mut kinds: Vec<Fault> = planned.iter().map(|planned| planned.fault).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, Fault::ALL);
        }
    }
}
