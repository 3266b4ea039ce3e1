//! Callers that write as fast as they are answered, and never forget what they asked.
//!
//! Each writer makes clients and removes them again, so that the state stays small. A request
//! whose answer did not come is asked again under the same id after the restart, as every program
//! should: whatever it did before, it must have done once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tonic::{Code, Status, transport::Channel};
use uuid::Uuid;
use warren_daemon::identity::{ClientTls, Folder, connect_lazy};
use warren_proto::pb::admin::v1::{
    self as pb, client_service_client::ClientServiceClient as Clients,
};

use super::journal::{Journal, Noted};
use crate::Cluster;

/// How many callers there are.
const WRITERS: usize = 4;
/// How many clients each keeps.
const KEPT: usize = 6;
/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);
/// How soon a coordinator that does not answer is asked again.
const RETRY: Duration = Duration::from_millis(5);

/// A write that was asked.
#[derive(Debug, Clone)]
struct Asked {
    request: String,
    /// None makes a new client of this name, some removes it.
    remove: bool,
    name: String,
}

/// One caller, over all restarts.
#[derive(Debug)]
struct Writer {
    /// What the names of its clients begin with.
    prefix: String,
    made: usize,
    /// Names of clients that exist, oldest first, with their ids.
    kept: VecDeque<(String, String)>,
    /// Asked and not answered.
    pending: Option<Asked>,
}

/// All callers, and the runtime they run on.
pub struct Writers {
    runtime: tokio::runtime::Runtime,
    writers: Vec<Writer>,
    journal: Arc<Journal>,
}

/// Callers that are writing.
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<(Writer, Result<()>)>>,
}

/// Returns who the administrator is that `init` made, for connections.
///
/// # Errors
/// Fails where the certificate cannot be read.
pub fn administrator(cluster: &Cluster) -> Result<Arc<ClientTls>> {
    let folder = Folder::open(cluster.folder().join("config/contexts/test"))?;
    let identity = folder.load()?.context("no administrator's certificate")?;
    Ok(Arc::new(ClientTls::new(&identity.credentials, &identity.trust_pem)?))
}

/// Connects to the coordinator as the administrator that `init` made.
///
/// # Errors
/// Fails where the certificate cannot be read.
pub fn channel(cluster: &Cluster) -> Result<Channel> {
    Ok(connect_lazy(&administrator(cluster)?, &[cluster.api_address()?]))
}

impl Writers {
    /// Makes callers that have asked nothing yet.
    ///
    /// # Errors
    /// Fails where no runtime can be made.
    pub fn new(journal: Arc<Journal>) -> Result<Self> {
        let mut building = tokio::runtime::Builder::new_multi_thread();
        let runtime = building.worker_threads(2).enable_all().build()?;
        let writer = |number| {
            let prefix = format!("w{number}");
            Writer { prefix, made: 0, kept: VecDeque::new(), pending: None }
        };
        Ok(Self { runtime, writers: (0..WRITERS).map(writer).collect(), journal })
    }

    /// Starts them on a cluster that answers. Each first asks again what it was not answered.
    ///
    /// # Errors
    /// Fails where the certificate cannot be read.
    pub fn start(&mut self, cluster: &Cluster) -> Result<Load> {
        let stop = Arc::new(AtomicBool::new(false));
        let _inside = self.runtime.enter();
        let tasks = self.writers.drain(..).map(|writer| {
            let api = Clients::new(channel(cluster)?);
            let (stop, journal) = (stop.clone(), self.journal.clone());
            Ok(self.runtime.spawn(writer.run(api, journal, stop)))
        });
        Ok(Load { tasks: tasks.collect::<Result<_>>()?, stop })
    }

    /// Ends them after the coordinator was stopped. What they were not answered stays asked.
    ///
    /// # Errors
    /// Fails where one was given an answer that must not be.
    pub fn stop(&mut self, load: Load) -> Result<()> {
        load.stop.store(true, Ordering::SeqCst);
        for task in load.tasks {
            let (writer, outcome) = self.runtime.block_on(task)?;
            self.writers.push(writer);
            outcome?;
        }
        Ok(())
    }

    /// Returns the clients that must exist, by name, with their ids.
    pub fn expected(&self) -> BTreeMap<String, String> {
        self.writers.iter().flat_map(|writer| writer.kept.iter().cloned()).collect()
    }

    /// Returns the names of which it is not known whether they exist.
    pub fn unsettled(&self) -> Vec<String> {
        let pending = self.writers.iter().filter_map(|writer| writer.pending.as_ref());
        pending.map(|asked| asked.name.clone()).collect()
    }

    /// Lists every client there is.
    ///
    /// # Errors
    /// Fails where the coordinator does not answer.
    pub fn list(&self, cluster: &Cluster) -> Result<BTreeMap<String, pb::Client>> {
        self.runtime.block_on(async {
            let mut api = Clients::new(channel(cluster)?);
            let (mut all, mut page_token) = (BTreeMap::new(), String::new());
            loop {
                let request = pb::ListClientsRequest { page_size: 100, page_token, read: None };
                let call = tokio::time::timeout(CALL, api.list_clients(request));
                let page = call.await.context("no list in time")??.into_inner();
                all.extend(page.clients.into_iter().map(|client| (client.name.clone(), client)));
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return Ok(all);
                }
            }
        })
    }
}

impl Writer {
    async fn run(
        mut self,
        mut api: Clients<Channel>,
        journal: Arc<Journal>,
        stop: Arc<AtomicBool>,
    ) -> (Self, Result<()>) {
        while !stop.load(Ordering::SeqCst) {
            let asked = self.next();
            self.pending = Some(asked.clone());
            let answer = tokio::time::timeout(CALL, ask(&mut api, &asked)).await;
            let noted = match answer {
                Ok(Ok(noted)) => noted,
                // Dead, or dying: whether it happened is settled after the restart.
                Ok(Err(status)) if unanswered(&status) => {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(_) => continue,
                Ok(Err(status)) => {
                    let why = format!("{asked:?} was refused: {status}");
                    return (self, Err(anyhow::anyhow!(why)));
                }
            };
            if let Err(error) = journal.note(&noted) {
                return (self, Err(error));
            }
            self.settle(&asked, noted.id);
        }
        (self, Ok(()))
    }

    /// Returns what to ask: again what was not answered, else something new.
    fn next(&mut self) -> Asked {
        if let Some(asked) = &self.pending {
            return asked.clone();
        }
        let request = Uuid::now_v7().hyphenated().to_string();
        if self.kept.len() >= KEPT
            && let Some((name, _)) = self.kept.front()
        {
            return Asked { request, remove: true, name: name.clone() };
        }
        self.made += 1;
        let name = format!("{}-{}", self.prefix, self.made);
        Asked { request, remove: false, name }
    }

    fn settle(&mut self, asked: &Asked, id: String) {
        self.pending = None;
        if asked.remove {
            self.kept.pop_front();
        } else {
            self.kept.push_back((asked.name.clone(), id));
        }
    }
}

async fn ask(api: &mut Clients<Channel>, asked: &Asked) -> Result<Noted, Status> {
    let mutation = Some(pb::Mutation { request_id: asked.request.clone(), if_revision: None });
    let (request, name) = (asked.request.clone(), asked.name.clone());
    if asked.remove {
        let remove = pb::DeleteClientRequest { mutation, client: name.clone() };
        api.delete_client(remove).await?;
        let (action, id) = ("client.delete".to_owned(), String::new());
        return Ok(Noted { request, action, name, id, revision: 0 });
    }
    let create = pb::CreateClientRequest { mutation, name: name.clone(), ..Default::default() };
    let made = api.create_client(create).await?.into_inner().client;
    let made = made.ok_or_else(|| Status::internal("an answer without the client"))?;
    let action = "client.create".to_owned();
    Ok(Noted { request, action, name, id: made.id, revision: made.revision })
}

/// Whether a call ended without an answer about what was asked.
pub fn unanswered(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}
