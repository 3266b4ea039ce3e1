//! `MemberService`: what the other coordinators may ask of this one.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use warren_common::{Limits, ReplicaId};
use warren_model::{AuditHead, command::SetReplica};
use warren_proto::pb::raft::v1::{
    self as pb,
    member_service_server::{MemberService, MemberServiceServer},
};

use super::{Members, Removal, Setting, secrets};
use crate::{api::errors, authz::Caller, keystore::Taken};

/// The service that the Raft listener mounts.
#[derive(Clone)]
pub struct MemberRpc {
    members: Members,
}

type Answer<T> = Result<Response<T>, Status>;

impl MemberRpc {
    pub(super) fn new(members: Members) -> Self {
        Self { members }
    }

    /// Returns the gRPC service with our bounds.
    pub fn into_service(self) -> MemberServiceServer<Self> {
        MemberServiceServer::new(self)
            .max_decoding_message_size(Limits::MESSAGE_BYTES)
            .max_encoding_message_size(Limits::MESSAGE_BYTES)
    }
}

/// Returns the coordinator that calls, as its certificate says.
fn calling<T>(request: &Request<T>) -> Result<ReplicaId, Status> {
    let replica = Caller::of(request)?.coordinator();
    replica.ok_or_else(|| errors::no_certificate().into())
}

#[tonic::async_trait]
impl MemberService for MemberRpc {
    type AdmitStream = ReceiverStream<Result<pb::AdmitResponse, Status>>;

    async fn admit(&self, request: Request<pb::AdmitRequest>) -> Answer<Self::AdmitStream> {
        let replica = calling(&request)?;
        let pb::AdmitRequest { api_address, raft_address } = request.into_inner();
        let wanted = SetReplica { replica, api_address, raft_address };
        let (told, steps) = mpsc::channel(Limits::STREAM_QUEUE);
        let members = self.members.clone();
        // ends with the one that asks: every wait in it looks whether somebody listens
        tokio::spawn(async move {
            if let Err(error) = members.admit(wanted, &told).await {
                tracing::info!(%replica, %error, "a coordinator was not admitted");
                // nobody listens any more: it asks again
                let _ = told.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(steps)))
    }

    async fn drop(&self, request: Request<pb::DropRequest>) -> Answer<pb::DropResponse> {
        let asked = Removal::from_wire(&request.into_inner())?;
        let removed = self.members.remove_here(&asked).await;
        removed.map_err(|failed| failed.0)?;
        Ok(Response::new(pb::DropResponse {}))
    }

    async fn transfer(
        &self,
        request: Request<pb::TransferRequest>,
    ) -> Answer<pb::TransferResponse> {
        let to = Some(request.into_inner().replica_id).filter(|to| *to != 0).map(ReplicaId);
        let leader = self.members.transfer_here(to).await.map_err(|failed| failed.0)?;
        Ok(Response::new(pb::TransferResponse { leader_replica_id: leader.0 }))
    }

    async fn describe(&self, _: Request<pb::DescribeRequest>) -> Answer<pb::DescribeResponse> {
        Ok(Response::new(self.members.describe().await?))
    }

    async fn list_secrets(
        &self,
        request: Request<pb::ListSecretsRequest>,
    ) -> Answer<pb::ListSecretsResponse> {
        Ok(Response::new(self.members.list_here(request.into_inner()).await?))
    }

    async fn digest_secrets(
        &self,
        request: Request<pb::DigestSecretsRequest>,
    ) -> Answer<pb::DigestSecretsResponse> {
        Ok(Response::new(self.members.digest_here(request.into_inner()).await?))
    }

    async fn get_secret(
        &self,
        request: Request<pb::GetSecretRequest>,
    ) -> Answer<pb::GetSecretResponse> {
        let name = request.into_inner().name;
        let (keystore, wanted) = (self.members.keystore().clone(), name.clone());
        let kept = secrets::blocking(move || keystore.kept(&wanted)).await?;
        let kept = kept.ok_or_else(|| errors::not_found("secret", &name))?;
        Ok(Response::new(pb::GetSecretResponse {
            stamp: Some(secrets::shown(&name, &kept.stamp)),
            content: kept.content.expose().clone().into_bytes().into(),
        }))
    }

    async fn put_secret(
        &self,
        request: Request<pb::PutSecretRequest>,
    ) -> Answer<pb::PutSecretResponse> {
        let request = request.into_inner();
        let (name, kept) = secrets::read(request.stamp, &request.content)?;
        let keystore = self.members.keystore().clone();
        let taken = secrets::blocking(move || keystore.take(&name, &kept)).await?;
        Ok(Response::new(pb::PutSecretResponse { superseded: taken == Taken::Older }))
    }

    async fn set_secret(
        &self,
        request: Request<pb::SetSecretRequest>,
    ) -> Answer<pb::SetSecretResponse> {
        let setting = Setting::from_wire(request.into_inner())?;
        let (version, revision) = self.members.set_secret_here(&setting).await?;
        Ok(Response::new(pb::SetSecretResponse { version, revision: revision.0 }))
    }

    async fn heard(&self, _: Request<pb::HeardRequest>) -> Answer<pb::HeardResponse> {
        Ok(Response::new(self.members.heard()))
    }

    async fn verify_audit(
        &self,
        request: Request<pb::VerifyAuditRequest>,
    ) -> Answer<pb::VerifyAuditResponse> {
        let pb::VerifyAuditRequest { head_sequence, head_hash } = request.into_inner();
        let hash = <[u8; 32]>::try_from(&head_hash[..]);
        let hash = hash.map_err(|_| errors::invalid("head_hash", "has not 32 bytes"))?;
        let head = AuditHead { sequence: head_sequence, hash };
        let verified = self.members.verify_audit_here(head).await?;
        Ok(Response::new(pb::VerifyAuditResponse { verified: Some(verified) }))
    }
}
