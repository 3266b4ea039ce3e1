//! What the benchmarks ask of a system, and the two that answer: our coordinators and etcd.

use std::{fs, net::TcpListener};

use anyhow::{Context as _, Result};
use warren_proto::pb::admin::v1::{self as pb, client_service_client::ClientServiceClient};

use super::etcd_api::EtcdApi;

/// How many objects the writes go round.
pub const KEYS: usize = 64;
/// The bytes of one write.
pub const VALUE_BYTES: usize = 256;
/// Which label of a client is written.
const LABEL: &str = "note";

/// Returns the name of one object.
pub fn key(number: usize) -> String {
    format!("client-{:02}", number % KEYS)
}

/// Returns [`VALUE_BYTES`] that no other write has.
pub fn value(number: u64) -> String {
    format!("{number:0>VALUE_BYTES$}")
}

/// A replicated system, running.
pub trait System {
    /// Returns its name and version.
    fn name(&self) -> &str;

    /// Returns the processes of its members, the stopped ones left out.
    fn pids(&self) -> Vec<u32>;

    /// Returns how many members it has.
    fn members(&self) -> usize;

    /// Connects to a member.
    fn connect(&self, member: usize) -> impl Future<Output = Result<Api>>;

    /// Returns who leads, waiting until somebody does and everybody follows.
    fn leader(&self) -> impl Future<Output = Result<usize>>;

    /// Asks for a planned hand-over to a member.
    fn hand_over(&self, to: usize) -> impl Future<Output = Result<()>>;

    /// Kills a member with SIGKILL, or starts it again.
    ///
    /// # Errors
    /// Fails where its process cannot be ended or started.
    fn set_running(&mut self, member: usize, running: bool) -> Result<()>;
}

/// One caller's connection to one member.
#[derive(Debug, Clone)]
pub enum Api {
    /// Ours.
    Warren(ClientServiceClient<tonic::transport::Channel>),
    /// The peer's.
    Etcd(EtcdApi),
}

impl Api {
    /// Overwrites one object durably. The same request id takes effect once, where the system
    /// knows such a thing.
    ///
    /// # Errors
    /// As the call fails.
    pub async fn write(&mut self, request: &str, key: &str, value: &str) -> Result<()> {
        match self {
            Self::Warren(api) => {
                let mutation = pb::Mutation { request_id: request.to_owned(), if_revision: None };
                let set_labels = [(LABEL.to_owned(), value.to_owned())].into();
                let update = pb::UpdateClientRequest {
                    mutation: Some(mutation),
                    client: key.to_owned(),
                    set_labels,
                    remove_labels: Vec::new(),
                };
                Ok(api.update_client(update).await.map(drop)?)
            }
            Self::Etcd(api) => api.put(key, value).await,
        }
    }

    /// Reads one object, linearizably; answers the bytes of its value.
    ///
    /// # Errors
    /// As the call fails, or where the object is not as it was written.
    pub async fn read(&mut self, key: &str) -> Result<usize> {
        match self {
            Self::Warren(api) => {
                let request = pb::GetClientRequest { client: key.to_owned(), read: None };
                let client = api.get_client(request).await?.into_inner().client;
                let client = client.context("a client")?;
                Ok(client.labels.get(LABEL).context("the label is there")?.len())
            }
            Self::Etcd(api) => api.get(key).await,
        }
    }
}

/// Mints a request id.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().hyphenated().to_string()
}

/// Returns a port of the loopback that was free a moment ago, for programs that take no port 0.
///
/// # Errors
/// Fails where there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Returns the processor time these processes have used, in microseconds, from Linux's `stat`
/// files; their clock ticks every 10 ms.
///
/// # Errors
/// Fails where one of them is gone.
pub fn cpu_micros(pids: &[u32]) -> Result<f64> {
    let mut ticks = 0_u64;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // the program's name may hold anything but ends with the last bracket
        let (_, after) = stat.rsplit_once(')').context("a stat line")?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        for field in [11, 12] {
            ticks += fields.get(field).context("a stat line")?.parse::<u64>()?;
        }
    }
    Ok(ticks as f64 * 10_000.0)
}
