//! After a restart: is everything acknowledged there, and did each request take effect once?

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use warren_coordinator::audit;
use warren_model::{AuditHead, audit::verify_chain};

use super::{
    journal::{Journal, Noted},
    writer::Writers,
};
use crate::Cluster;

/// How many audit records are read at once.
const BATCH: usize = 10_000;

/// What is known so far, over all restarts.
#[derive(Debug, Default)]
pub struct Checker {
    head: AuditHead,
    /// Where each request stands in the audit log: revision, action.
    effects: BTreeMap<String, (u64, String)>,
    /// How much of the journal was checked.
    checked: usize,
}

impl Checker {
    /// Checks a running coordinator: its list of clients, and the audit records since the last time.
    ///
    /// # Errors
    /// Fails with what was lost, happened twice, or does not follow.
    pub fn running(
        &mut self,
        cluster: &Cluster,
        writers: &Writers,
        journal: &Journal,
    ) -> Result<()> {
        let found = writers.list(cluster).context("listing clients after a restart")?;
        self.records(cluster)?;
        self.acknowledged(&journal.read()?)?;
        let (expected, unsettled) = (writers.expected(), writers.unsettled());
        let lost = |(name, id): &(&String, &String)| {
            !unsettled.contains(name) && found.get(*name).is_none_or(|client| client.id != **id)
        };
        let lost: Vec<_> = expected.iter().filter(lost).map(|(name, _)| name).collect();
        anyhow::ensure!(lost.is_empty(), "acknowledged clients are lost: {lost:?}");
        let extra = |name: &&String| !expected.contains_key(*name) && !unsettled.contains(name);
        let extra: Vec<_> = found.keys().filter(extra).collect();
        anyhow::ensure!(extra.is_empty(), "removed or never asked for, and there: {extra:?}");
        Ok(())
    }

    /// Checks the files of a coordinator that has stopped: the whole chain, from its first record.
    ///
    /// # Errors
    /// Fails where the chain does not hold, or something acknowledged is not in it.
    pub fn stopped(&mut self, cluster: &Cluster, journal: &Journal) -> Result<u64> {
        self.records(cluster)?;
        self.checked = 0;
        self.acknowledged(&journal.read()?)?;
        let verified = audit::verify(&cluster.folder().join("state/audit"), None)?;
        anyhow::ensure!(verified.broken.is_none(), "{:?}", verified.broken);
        anyhow::ensure!(verified.gaps.is_empty(), "records are missing: {:?}", verified.gaps);
        anyhow::ensure!(verified.head == self.head, "the chain ends elsewhere: {verified:?}");
        Ok(verified.records)
    }

    /// Reads the records that are new, as a chain, and notes which request did what.
    fn records(&mut self, cluster: &Cluster) -> Result<()> {
        let folder = cluster.folder().join("state/audit");
        loop {
            let records = audit::read(&folder, self.head.sequence + 1, BATCH)?;
            self.head = verify_chain(self.head, &records).context("the audit chain")?;
            for record in &records {
                let effect = (record.revision.0, record.action.clone());
                let request = record.request.to_string();
                if let Some(before) = self.effects.insert(request.clone(), effect) {
                    anyhow::bail!("request {request} took effect twice: {before:?} and {record:?}");
                }
            }
            if records.len() < BATCH {
                return Ok(());
            }
        }
    }

    /// Checks that everything noted took effect as it was answered.
    fn acknowledged(&mut self, noted: &[Noted]) -> Result<()> {
        for one in &noted[self.checked..] {
            let effect = self.effects.get(&one.request);
            let (revision, action) =
                effect.with_context(|| format!("acknowledged and lost: {one:?}"))?;
            let same = *action == one.action && (one.revision == 0 || one.revision == *revision);
            anyhow::ensure!(same, "{one:?} is {action} of revision {revision} in the audit log");
        }
        self.checked = noted.len();
        Ok(())
    }
}
