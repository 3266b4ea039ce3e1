//! Backups of the cluster, and the end of a recovery.

use std::pin::Pin;

use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tracing::{info, warn};
use warren_common::Limits;
use warren_daemon::{
    Secret,
    backup::{Content, Kdf},
    clock,
    telemetry::Chain,
};
use warren_model::{
    ClusterState, Command,
    command::{EndRecovery, NoteBackup},
};
use warren_proto::{error::ApiError, pb::admin::v1 as pb};

use super::{Api, Who, errors, mutation::Asked, resolve};
use crate::backup::{self, CopyError};

/// How often state and keystore are read before a value counts as lost.
const GATHERINGS: usize = 3;

/// The pieces of a file.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<pb::BackupResponse, Status>> + Send>>;

impl Api {
    /// Seals state and keystore as of now, piece by piece; who asks is on record first.
    pub(super) async fn back_up(
        &self,
        who: Who,
        request: pb::BackupRequest,
    ) -> Result<Pieces, ApiError> {
        let key: Result<[u8; 32], _> = request.key.as_ref().try_into();
        let key = key.map_err(|_| errors::invalid("key", "a key has 32 bytes"))?;
        let kdf = request.kdf.ok_or_else(|| errors::invalid("kdf", "is missing"))?;
        let kdf = Kdf {
            algorithm: kdf.algorithm,
            memory_kib: kdf.memory_kib,
            passes: kdf.passes,
            lanes: kdf.lanes,
            salt: kdf.salt,
        };
        kdf.check().map_err(|why| errors::invalid("kdf", why))?;
        // on record before a byte leaves: who breaks it off has what was sent
        let revision = self.parts().consensus.local().revision;
        let request_id = uuid::Uuid::now_v7().to_string();
        let asked = Asked::read(who, Some(pb::Mutation { request_id, if_revision: None }))?;
        self.mutate(&asked, Command::NoteBackup(NoteBackup { revision })).await?;
        let (state, content) = self.gather().await?;
        let order = backup::Order {
            state,
            status: self.parts().consensus.status(),
            content,
            key: Secret::new(key),
            kdf,
            taken: clock::now(),
        };
        let (sender, receiver) = mpsc::channel(Limits::STREAM_QUEUE);
        let sealing = tokio::task::spawn_blocking(move || {
            let last = sender.clone();
            let sealed = backup::seal_into(order, |chunk| {
                let piece = Ok(pb::BackupResponse { chunk });
                sender.blocking_send(piece).map_err(|_| CopyError::Gone)
            });
            match sealed {
                Ok(()) => info!("a backup was taken"),
                Err(CopyError::Gone) => info!("a backup was broken off"),
                Err(error) => {
                    warn!(error = %Chain(&error), "a backup failed");
                    let told = ApiError::new(Code::Internal, "BACKUP_FAILED", Chain(&error));
                    // the file is not whole without its end: whoever reads it knows
                    let _ = last.blocking_send(Err(told.into()));
                }
            }
        });
        self.parts().shutdown.spawn(sealing);
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    /// Returns the state, and what of it and the keystore goes into the file. What this coordinator
    /// lacks it takes from the others; a value that was set anew meanwhile is of a newer state.
    async fn gather(&self) -> Result<(ClusterState, Content), ApiError> {
        let mut tries = GATHERINGS;
        loop {
            let state = self.read().await?.state;
            let (seen, keystore) = (state.clone(), self.parts().keystore.clone());
            let gathering = tokio::task::spawn_blocking(move || backup::gather(&seen, &keystore));
            let gathered =
                gathering.await.map_err(|error| errors::internal("reading the keystore", error))?;
            tries -= 1;
            match gathered {
                Ok(content) => return Ok((state, content)),
                Err(CopyError::Lacks(_)) if tries > 0 => self.parts().members.catch_up().await,
                Err(CopyError::Lacks(secret)) => return Err(incomplete(&secret)),
                Err(error) => return Err(errors::internal("reading the keystore", Chain(&error))),
            }
        }
    }

    pub(super) async fn end(
        &self,
        who: Who,
        request: pb::EndRecoveryRequest,
    ) -> Result<pb::EndRecoveryResponse, ApiError> {
        let mutation = pb::Mutation { request_id: request.request_id, if_revision: None };
        let asked = Asked::read(who, Some(mutation))?;
        let state = self.read().await?.state;
        let node = match request.node.is_empty() {
            true => None,
            false => Some(resolve::node(&state, &request.node)?.id),
        };
        let end = Command::EndRecovery(EndRecovery { node, early: true });
        let revision = self.mutate(&asked, end).await?.revision.0;
        let state = self.parts().consensus.local();
        Ok(pb::EndRecoveryResponse { recovery: show_recovery(&state), revision })
    }
}

fn incomplete(secret: &str) -> ApiError {
    let message = format!("a backup made here would lack the newest value of the secret {secret}");
    ApiError::new(Code::Unavailable, "SECRET_MISSING", message)
        .why("this coordinator has not got it, and no other that answers has")
        .next("start the other coordinators, or set the secret again; then repeat the backup")
}

/// Shows the recovery under way, if any.
pub fn show_recovery(state: &ClusterState) -> Option<pb::Recovery> {
    state.recovery.as_ref().map(|recovery| pb::Recovery {
        since_unix_ms: recovery.since.0,
        reason: recovery.reason.clone(),
        awaited_nodes: recovery.awaited.iter().map(|id| state.node_label(*id)).collect(),
        earliest_end_unix_ms: recovery.earliest_end().0,
    })
}
