//! openraft's own suite over the log on each engine and over the state machine.

use std::sync::Arc;

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use tempfile::TempDir;
use warren_model::AuditHead;

use crate::{
    audit::AuditLog,
    raft::{checkpoint::Checkpoints, log::Log, machine::Machine, types::TypeConfig},
    store::{self, Engine, Flusher, LogStore, fake::FakeStore},
};

/// As a state folder opens it: under its seal.
struct On(Engine);
struct OnFake;

fn machine(folder: &TempDir, flusher: &Flusher) -> Machine {
    let path = folder.path();
    let (checkpoints, loaded) =
        Checkpoints::open(&path.join("checkpoints"), None).expect("an empty folder");
    let audit = AuditLog::open(&path.join("audit"), AuditHead::default()).expect("an empty folder");
    Machine::new(loaded, Arc::new(checkpoints), audit, flusher.clone())
}

fn stack(store: Arc<dyn LogStore>) -> (TempDir, Log, Machine) {
    let folder = tempfile::tempdir().expect("a folder");
    let flusher = Flusher::start(store.clone()).expect("a thread");
    let log = Log::open(store, flusher.clone()).expect("an empty log");
    let machine = machine(&folder, &flusher);
    (folder, log, machine)
}

impl StoreBuilder<TypeConfig, Log, Machine, (TempDir, TempDir)> for On {
    async fn build(&self) -> Result<((TempDir, TempDir), Log, Machine), StorageError<TypeConfig>> {
        let state = tempfile::tempdir().expect("a folder");
        let store = store::open(state.path(), self.0).expect("it opens");
        let (folder, log, machine) = stack(store);
        Ok(((state, folder), log, machine))
    }
}

impl StoreBuilder<TypeConfig, Log, Machine, TempDir> for OnFake {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError<TypeConfig>> {
        Ok(stack(Arc::new(FakeStore::default())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sled_store_passes_openrafts_suite() {
    Suite::test_all(On(Engine::Sled)).await.expect("the suite passes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redb_store_passes_openrafts_suite() {
    Suite::test_all(On(Engine::Redb)).await.expect("the suite passes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_store_passes_openrafts_suite() {
    Suite::test_all(OnFake).await.expect("the suite passes");
}
