//! Whether a workspace's processes notice anything: looked at from the host, with nobody of ours
//! in between, and from inside.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Trio, wait_until};

use crate::restarts::inside;

const SOON: Duration = Duration::from_secs(60);

/// A workspace whose session counts, as it was when all was well.
pub(crate) struct Pulse {
    pub(crate) address: &'static str,
    pid: u64,
    inside: Vec<String>,
    run: Value,
    /// Where the host sees the file that is counted into.
    file: PathBuf,
}

impl Pulse {
    /// Takes it.
    pub(crate) fn of(trio: &Trio, address: &'static str) -> Result<Self> {
        let home = trio.cluster.try_shell(address, "echo -n ~")?.success()?.stdout;
        let pid = trio.pid(address)?;
        let file = PathBuf::from(format!("/proc/{pid}/root{home}/count"));
        let run = trio.cluster.workspace(address)?["run_serial"].clone();
        let inside = inside(&trio.cluster, address)?;
        let pulse = Self { address, pid, inside, run, file };
        pulse.beats()?;
        Ok(pulse)
    }

    /// Takes those of several.
    pub(crate) fn all(trio: &Trio, addresses: [&'static str; 3]) -> Result<Vec<Self>> {
        addresses.into_iter().map(|one| Self::of(trio, one)).collect()
    }

    fn count(&self) -> Result<u64> {
        let text = fs::read_to_string(&self.file);
        let text = text.with_context(|| format!("{} has no count", self.address))?;
        text.trim().parse().with_context(|| format!("{text:?} is no count"))
    }

    /// Waits until it counts on; asks nobody but the kernel.
    pub(crate) fn beats(&self) -> Result<()> {
        let what = format!("{} counts", self.address);
        let before = wait_until(&what, SOON, || self.count())?;
        wait_until(&what, SOON, || {
            let now = self.count()?;
            ensure!(now > before, "it stands at {now}");
            Ok(())
        })
    }

    /// Waits until it is seen to run, and judges that nothing was restarted and that there is one
    /// container of it in all engines.
    pub(crate) fn unchanged(&self, trio: &Trio, when: &str) -> Result<()> {
        let Self { address, .. } = self;
        let seen = wait_until(&format!("{address} is seen to run {when}"), SOON, || {
            let seen = trio.cluster.workspace(address)?;
            ensure!(seen["status"] == "running", "it is {seen}");
            Ok(seen)
        })?;
        ensure!(seen["run_serial"] == self.run, "{when}: another run: {seen}");
        let pid = trio.pid(address)?;
        ensure!(pid == self.pid, "{when}: PID 1 of {address} was {}, is {pid}", self.pid);
        // an agent that has just started may not be connected yet
        let now = wait_until(&format!("{address} answers {when}"), SOON, || {
            inside(&trio.cluster, address)
        })?;
        ensure!(now == self.inside, "{when}: in {address} were {:?}, now {now:?}", self.inside);
        self.beats()
    }
}
