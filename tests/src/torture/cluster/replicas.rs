//! Do all coordinators hold the same, and do their audit logs tell one history?
//!
//! A coordinator that came back with an empty disk has no records of before, so they are gathered
//! from all before one is lost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use warren_coordinator::audit;
use warren_daemon::identity::{ClientTls, connect_lazy};
use warren_model::{AuditHead, AuditRecord, audit::verify_chain};
use warren_proto::pb::admin::v1::{
    self as pb, client_service_client::ClientServiceClient,
    cluster_service_client::ClusterServiceClient,
};

use super::{
    requests::Effect,
    stand::{COORDINATORS, Stand},
};
use crate::{torture::writer::administrator, wait_until};

/// How long the last entries may take to be everywhere.
const SAME: Duration = Duration::from_secs(60);
/// How long one coordinator may take to say what it holds.
const CALL: Duration = Duration::from_secs(10);
/// How many audit records are read at once.
const BATCH: usize = 10_000;

/// What a coordinator holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The revision of its state.
    pub revision: u64,
    /// Sequence and hash of its newest audit record.
    audit: (u64, String),
    /// Its clients, with labels and revisions.
    clients: Vec<pb::Client>,
}

/// Waits until all coordinators hold the same, and returns it.
///
/// # Errors
/// Fails with what two of them hold where they differ for long.
pub fn same(stand: &Stand) -> Result<Held> {
    let tls = administrator(&stand.cluster)?;
    let addresses = stand.addresses();
    wait_until("all coordinators hold the same", SAME, || {
        let all = among_people(stand, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let asked = addresses.iter().map(|address| runtime.block_on(held(&tls, address)));
            asked.collect::<Result<Vec<Held>>>()
        })?;
        let other = all.iter().position(|one| *one != all[0]);
        ensure!(other.is_none(), "coordinators 1 and {other:?} (from 0) differ: {all:?}");
        all.into_iter().next().context("no coordinator")
    })
}

/// Runs what makes connections on a thread that is in the people's network.
fn among_people<T: Send>(stand: &Stand, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let entered = || {
        stand.people.enter()?;
        work()
    };
    std::thread::scope(|scope| {
        scope.spawn(entered).join().map_err(|_| anyhow!("a thread among the people panicked"))
    })?
}

/// Asks one coordinator and no other.
async fn held(tls: &Arc<ClientTls>, address: &str) -> Result<Held> {
    let channel = connect_lazy(tls, &[address.to_owned()]);
    let mut cluster = ClusterServiceClient::new(channel.clone());
    let cluster =
        tokio::time::timeout(CALL, cluster.get_cluster(pb::GetClusterRequest { read: None }));
    let cluster =
        cluster.await.with_context(|| format!("{address} does not answer"))??.into_inner();
    let mut clients = ClientServiceClient::new(channel);
    let list = clients.list_clients(pb::ListClientsRequest::default());
    let listed = tokio::time::timeout(CALL, list).await;
    let listed = listed.with_context(|| format!("{address} does not answer"))??.into_inner();
    Ok(Held {
        revision: cluster.freshness.context("its revision")?.revision,
        audit: (cluster.audit_sequence, cluster.audit_hash),
        clients: listed.clients,
    })
}

/// The audit records of the whole run, whoever has them.
#[derive(Debug, Default)]
pub struct Records(BTreeMap<u64, AuditRecord>);

impl Records {
    /// Adds what the coordinators have beyond what is known.
    ///
    /// # Errors
    /// Fails where two of them tell different histories.
    pub fn gather(&mut self, stand: &Stand) -> Result<()> {
        let known = self.0.last_key_value().map_or(0, |(sequence, _)| *sequence);
        self.gather_from(stand, known + 1)
    }

    fn gather_from(&mut self, stand: &Stand, first: u64) -> Result<()> {
        for at in 0..COORDINATORS {
            let mut next = first;
            loop {
                let batch = audit::read(&stand.audit(at), next, BATCH)?;
                let whole = batch.len() == BATCH;
                for record in batch {
                    next = record.sequence + 1;
                    let known = self.0.entry(record.sequence).or_insert_with(|| record.clone());
                    ensure!(
                        *known == record,
                        "coordinator {} has {record:?} where another has {known:?}",
                        at + 1
                    );
                }
                if !whole {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Returns every effect up to what all hold, once each coordinator's log was verified and has the
    /// record that the state ends with. It may go on after it: a node registers again whenever
    /// another coordinator leads.
    ///
    /// # Errors
    /// Fails where a chain is broken or is another one, or a record is nowhere.
    pub fn finish(mut self, stand: &Stand, held: &Held) -> Result<Vec<Effect>> {
        for at in 0..COORDINATORS {
            let folder = stand.audit(at);
            wait_until("the audit records are on disk", SAME, || {
                let audit::Verified { head, broken, .. } = audit::verify(&folder, None)?;
                ensure!(broken.is_none(), "coordinator {}: {broken:?}", at + 1);
                let last = audit::read(&folder, held.audit.0, 1)?;
                let last = last.first().map(|record| (record.sequence, hex(&record.hash)));
                // a log that begins after a checkpoint with nothing behind it has its head alone
                let last = last.unwrap_or((head.sequence, hex(&head.hash)));
                ensure!(last == held.audit, "coordinator {}: {last:?}, {:?}", at + 1, held.audit);
                Ok(())
            })?;
        }
        self.gather_from(stand, 1)?;
        self.0.retain(|sequence, _| *sequence <= held.audit.0);
        let head = verify_chain(AuditHead::default(), self.0.values())?;
        let end = (head.sequence, hex(&head.hash));
        ensure!(end == held.audit, "the records end at {end:?}, the state at {:?}", held.audit);
        let effects = self.0.into_values().map(|record| Effect {
            revision: record.revision.0,
            request: record.request.to_string(),
            action: record.action,
        });
        Ok(effects.collect())
    }
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
