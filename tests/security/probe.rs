//! The table of probes and its runner.
//!
//! A group is a list of [`Probe`]s and a [`Switch`] for the mechanism they test. [`run`] runs them
//! three times: against the wall, without it (each must succeed: the positive control), and against
//! the wall put up again.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use warren_tests::Output;

use crate::field::Field;

/// Probes run at one time: each mostly waits.
const AT_ONCE: usize = 4;

/// One attack.
pub(crate) struct Probe {
    /// Its number in the threat catalogue, such as `A18`.
    pub(crate) id: &'static str,
    /// What is attacked.
    pub(crate) what: String,
    /// Who attacks.
    pub(crate) by: By,
    /// A shell line that writes `seen` where it got through; or sends `TOKEN` (replaced by a text
    /// of its own) to a canary, where nothing comes back.
    pub(crate) line: String,
}

/// Who attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The workspace's user, in workspace A.
    Agent,
    /// Root in A's network namespace: an attacker who got everything but out of it.
    RootOfNetwork,
}

/// A mechanism that can be switched off and on.
pub(crate) trait Switch {
    /// Switches it off, so that nobody switches it on again.
    fn off(&self, field: &mut Field) -> Result<()>;
    /// Switches it on and waits until it is in force.
    fn on(&self, field: &mut Field) -> Result<()>;
}

/// Runs a group.
pub(crate) fn run(field: &mut Field, probes: &[Probe], switch: &dyn Switch) -> Result<()> {
    none_succeeds(field, probes, "the wall is up")?;
    switch.off(field)?;
    let through = attempts(field, probes)?;
    let blind: Vec<String> = probes
        .iter()
        .zip(through)
        .filter(|(_, (through, _))| !through)
        .map(|(probe, (_, output))| format!("{} {}: {output:?}", probe.id, probe.what))
        .collect();
    anyhow::ensure!(blind.is_empty(), "without the wall these do not get through: {blind:#?}");
    switch.on(field)?;
    none_succeeds(field, probes, "the wall is up again")
}

fn none_succeeds(field: &Field, probes: &[Probe], when: &str) -> Result<()> {
    let through: Vec<String> = probes
        .iter()
        .zip(attempts(field, probes)?)
        .filter(|(_, (through, _))| *through)
        .map(|(probe, _)| format!("{} {}", probe.id, probe.what))
        .collect();
    anyhow::ensure!(through.is_empty(), "while {when} these get through: {through:#?}");
    Ok(())
}

/// Runs every probe once; returns whether each got through, and what it wrote.
fn attempts(field: &Field, probes: &[Probe]) -> Result<Vec<(bool, Output)>> {
    static TOKEN: AtomicUsize = AtomicUsize::new(0);
    let mut outcomes = Vec::new();
    for some in probes.chunks(AT_ONCE) {
        let outcomes_of_some: Vec<Result<(bool, Output)>> = std::thread::scope(|scope| {
            let tries: Vec<_> = some
                .iter()
                .map(|probe| {
                    scope.spawn(move || {
                        let number = TOKEN.fetch_add(1, Ordering::Relaxed);
                        let token = format!("token{number}x{}", std::process::id());
                        let line = probe.line.replace("TOKEN", &token);
                        let output = match probe.by {
                            By::Agent => field.in_a(&line)?,
                            By::RootOfNetwork => field.in_network_of_a(&line)?,
                        };
                        let seen = output.stdout.lines().any(|line| line.trim() == "seen");
                        Ok((seen || field.log.holds(&token), output))
                    })
                })
                .collect();
            let joined = tries.into_iter().map(|one| match one.join() {
                Ok(outcome) => outcome,
                Err(_) => Err(anyhow::anyhow!("a probe panicked")),
            });
            joined.collect()
        });
        for outcome in outcomes_of_some {
            outcomes.push(outcome?);
        }
    }
    Ok(outcomes)
}

/// Returns a line that connects and writes `seen` where somebody greets.
pub(crate) fn connect(address: &str, port: u16) -> String {
    format!(
        "timeout 4 bash -c 'exec 3<>/dev/tcp/{address}/{port} && head -n 1 <&3' 2>&1 \
         | grep -q . && timeout 4 bash -c 'exec 3<>/dev/tcp/{address}/{port}' && echo seen"
    )
}

/// Returns a line that sends its token in a datagram, three times.
pub(crate) fn send(address: &str, port: u16) -> String {
    format!("for i in 1 2 3; do echo TOKEN >/dev/udp/{address}/{port}; sleep 0.1; done; sleep 0.3")
}
