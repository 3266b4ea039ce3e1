//! The load: callers in a closed loop, each with one call under way at any time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{task::JoinSet, time::Instant};

use super::system::{Api, KEYS, System, cpu_micros, key, request_id, value};

/// At most so many connections carry the callers of a spell.
pub const CONNECTIONS: usize = 16;
/// What runs before figures are taken.
const WARM: Duration = Duration::from_millis(300);

static VALUES: AtomicU64 = AtomicU64::new(0);

/// Returns a value that this process has not written before.
pub fn next_value() -> String {
    value(VALUES.fetch_add(1, Ordering::Relaxed))
}

/// Which call the callers repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Overwrites an object.
    Write,
    /// Reads one, linearizably.
    Read,
}

/// What a spell is.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// What is called.
    pub call: Call,
    /// By how many at once.
    pub callers: usize,
    /// For how long figures are taken.
    pub length: Duration,
}

/// Figures of one spell.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Calls that were answered.
    pub calls: usize,
    /// Calls per second.
    pub rate: f64,
    /// The middle latency, milliseconds.
    pub p50: f64,
    /// The latency that one call of a hundred exceeds, milliseconds.
    pub p99: f64,
    /// Processor time of all servers per call, microseconds.
    pub cpu: f64,
}

/// Returns how many connections this many callers share.
pub fn connections(callers: usize) -> usize {
    callers.min(CONNECTIONS)
}

/// Connects callers to the leader.
///
/// # Errors
/// Fails where there is none.
pub async fn connect(system: &impl System, callers: usize) -> Result<Vec<Api>> {
    let leader = system.leader().await?;
    let mut apis = Vec::new();
    for _ in 0..connections(callers) {
        apis.push(system.connect(leader).await?);
    }
    Ok(apis)
}

/// Writes every object once, so that reads find them.
///
/// # Errors
/// Fails as a write does.
pub async fn fill(api: &mut Api) -> Result<()> {
    for number in 0..KEYS {
        api.write(&request_id(), &key(number), &next_value()).await?;
    }
    Ok(())
}

/// Lets callers call for a while.
///
/// # Errors
/// Fails with the first call that does: a figure with failures in it says nothing.
pub async fn spell(system: &impl System, apis: &[Api], work: Work) -> Result<Figures> {
    let Work { call, callers, length } = work;
    let pids = system.pids();
    let begin = Instant::now() + WARM;
    let end = begin + length;
    let objects = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for number in 0..callers {
        let api = apis.get(number % apis.len().max(1)).context("a connection")?.clone();
        tasks.spawn(caller(api, call, objects.clone(), (begin, end)));
    }
    tokio::time::sleep_until(begin).await;
    let cpu_before = cpu_micros(&pids)?;
    tokio::time::sleep_until(end).await;
    let cpu = cpu_micros(&pids)? - cpu_before;
    let mut micros = Vec::new();
    while let Some(done) = tasks.join_next().await {
        micros.extend(done??);
    }
    micros.sort_unstable();
    let calls = micros.len();
    let share = |per_cent: usize| {
        let at = (calls * per_cent / 100).min(calls.saturating_sub(1));
        micros.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    };
    Ok(Figures {
        calls,
        rate: calls as f64 / length.as_secs_f64(),
        p50: share(50),
        p99: share(99),
        cpu: cpu / calls.max(1) as f64,
    })
}

/// Calls until the end; returns the latencies of the calls that were answered between the two.
async fn caller(
    mut api: Api,
    call: Call,
    objects: Arc<AtomicU64>,
    (begin, end): (Instant, Instant),
) -> Result<Vec<u32>> {
    let mut micros = Vec::new();
    loop {
        let number = objects.fetch_add(1, Ordering::Relaxed) as usize;
        let asked = Instant::now();
        match call {
            Call::Write => {
                api.write(&request_id(), &key(number), &next_value()).await?;
            }
            Call::Read => {
                api.read(&key(number)).await?;
            }
        }
        let answered = Instant::now();
        if answered >= end {
            return Ok(micros);
        }
        if answered >= begin {
            let took = answered.duration_since(asked).as_micros();
            micros.push(u32::try_from(took).unwrap_or(u32::MAX));
        }
    }
}
