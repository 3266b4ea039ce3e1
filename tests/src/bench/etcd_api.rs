//! The few messages of etcd's version 3 API that the benchmarks speak, numbered as its
//! documentation numbers them.

use anyhow::{Context as _, Result};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::{Request, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

/// Every answer begins with one.
#[derive(Clone, PartialEq, Message)]
pub struct Header {
    /// Who answered.
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
}

/// `KV/Put`.
#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

/// `KV/Range` of one key; linearizable unless it asks for less.
#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

/// `Maintenance/Status`.
#[derive(Clone, PartialEq, Message)]
pub struct StatusResponse {
    /// Who answered.
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// Who leads; 0 where nobody does.
    #[prost(uint64, tag = "4")]
    pub leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct MoveLeaderRequest {
    #[prost(uint64, tag = "1")]
    target: u64,
}

#[derive(Clone, PartialEq, Message)]
struct MoveLeaderResponse {}

/// One member.
#[derive(Debug, Clone)]
pub struct EtcdApi(Grpc<Channel>);

impl EtcdApi {
    /// Speaks over a channel.
    pub fn new(channel: Channel) -> Self {
        Self(Grpc::new(channel))
    }

    /// Puts a value.
    ///
    /// # Errors
    /// As the call fails.
    pub async fn put(&mut self, key: &str, value: &str) -> Result<()> {
        let request = PutRequest { key: key.into(), value: value.into() };
        self.call::<_, PutResponse>("/etcdserverpb.KV/Put", request).await.map(drop)
    }

    /// Reads a value, linearizably.
    ///
    /// # Errors
    /// As the call fails, or where there is no such key.
    pub async fn get(&mut self, key: &str) -> Result<usize> {
        let request = RangeRequest { key: key.into() };
        let answer: RangeResponse = self.call("/etcdserverpb.KV/Range", request).await?;
        Ok(answer.kvs.first().context("the key is there")?.value.len())
    }

    /// Asks who this is and who leads.
    ///
    /// # Errors
    /// As the call fails.
    pub async fn status(&mut self) -> Result<StatusResponse> {
        self.call("/etcdserverpb.Maintenance/Status", StatusRequest {}).await
    }

    /// Asks the leader to hand over to the member.
    ///
    /// # Errors
    /// As the call fails.
    pub async fn move_leader(&mut self, target: u64) -> Result<()> {
        let path = "/etcdserverpb.Maintenance/MoveLeader";
        self.call::<_, MoveLeaderResponse>(path, MoveLeaderRequest { target }).await.map(drop)
    }

    async fn call<A, B>(&mut self, path: &'static str, message: A) -> Result<B>
    where
        A: Message + 'static,
        B: Message + Default + 'static,
    {
        self.0.ready().await?;
        let codec = ProstCodec::<A, B>::default();
        let answer = self.0.unary(Request::new(message), PathAndQuery::from_static(path), codec);
        Ok(answer.await?.into_inner())
    }
}
