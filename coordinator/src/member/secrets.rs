//! The keystore among the coordinators: copies pushed by the leader.
//!
//! A write is the leader's, in the term in which it was decided: wherever a later leader has written,
//! it is refused. It is fsynced here, pushed to all others at once, and acknowledged when a majority of
//! the voters has fsynced it; one that was not acknowledged may still come to be, as with the log. What
//! coordinators lack they take from each other by themselves: see `compare.rs`.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tonic::Code;
use warren_common::ReplicaId;
use warren_daemon::Secret;
use warren_proto::{
    error::{ApiError, reason},
    pb::raft::v1 as pb,
};

use super::{Failed, Members, compare::list_all};
use crate::{
    api::errors,
    keystore::{Kept, KeystoreError, Stamp, Taken},
};

/// How long one call about secrets may take: small files and an fsync.
const CALL: Duration = Duration::from_secs(5);
impl Members {
    /// Keeps a secret, or with none that it is gone, on a majority of the coordinators, as the leader
    /// of `term` decided.
    ///
    /// # Errors
    /// This coordinator does not lead in that term any more, its disk failed, or no majority confirmed
    /// it: then it may still come to be.
    pub async fn put_secret(
        &self,
        name: &str,
        secret: Option<Secret<String>>,
        term: u64,
    ) -> Result<(), ApiError> {
        self.leading().await?;
        let parts = &self.0.parts;
        // of the leadership itself: a follower's term is that of another leader's values
        let led = *parts.consensus.leadership().borrow();
        if !led.leading || led.term != term {
            return Err(errors::not_leader(led.leader, &self.state()));
        }
        let written = {
            let (keystore, name) = (parts.keystore.clone(), name.to_owned());
            blocking(move || keystore.write(&name, secret.as_ref(), term)).await?
        };
        let status = parts.consensus.status();
        let voters: Vec<ReplicaId> =
            status.members.iter().filter(|one| one.voter).map(|one| one.replica).collect();
        let needed = voters.len() / 2 + 1;
        let mut pushing: FuturesUnordered<_> = status
            .members
            .iter()
            .map(|one| one.replica)
            .filter(|replica| *replica != parts.replica)
            .map(async |replica| (replica, self.push(replica, name, &written).await))
            .collect();
        let mut kept = usize::from(voters.contains(&parts.replica));
        while kept < needed {
            match pushing.next().await {
                Some((replica, Ok(Taken::New | Taken::Same))) => {
                    kept += usize::from(voters.contains(&replica));
                }
                Some((replica, Ok(Taken::Older))) => {
                    drop(pushing);
                    // what is newer is taken before anybody tries again
                    self.compare().await;
                    return Err(overtaken(name, replica));
                }
                Some((replica, Err(error))) => {
                    tracing::warn!(%replica, name, %error, "a secret was not copied");
                }
                None => return Err(unconfirmed(name, (kept, needed))),
            }
        }
        let now = *parts.consensus.leadership().borrow();
        match now.leading && now.term == term {
            true => Ok(()),
            // whoever leads now may have written over it
            false => Err(errors::not_leader(now.leader, &self.state())),
        }
    }

    /// Gives another coordinator a secret; says whether it is kept there, or a newer one is.
    async fn push(&self, replica: ReplicaId, name: &str, kept: &Kept) -> Result<Taken, ApiError> {
        let request = pb::PutSecretRequest {
            stamp: Some(shown(name, &kept.stamp)),
            content: kept.content.expose().clone().into_bytes().into(),
        };
        let mut api = self.peer(replica)?;
        let answer = within(api.put_secret(request)).await?;
        Ok(if answer.superseded { Taken::Older } else { Taken::New })
    }

    /// Gives another coordinator what it lacks, and returns how many secrets it then holds.
    pub(super) async fn give_secrets(&self, replica: ReplicaId) -> Result<usize, ApiError> {
        let keystore = self.keystore().clone();
        let ours = blocking(move || keystore.stamps()).await?;
        let mut api = self.peer(replica)?;
        let theirs = list_all(&mut api, Vec::new()).await?;
        // where nothing is, nothing need be known of a deletion
        let lacks = |theirs: &BTreeMap<String, Stamp>, name: &String, stamp: &Stamp| {
            theirs.get(name).map_or(!stamp.deleted, |theirs| theirs < stamp)
        };
        for (name, stamp) in &ours {
            if !lacks(&theirs, name, stamp) {
                continue;
            }
            let (keystore, wanted) = (self.keystore().clone(), name.clone());
            if let Some(kept) = blocking(move || keystore.kept(&wanted)).await? {
                self.push(replica, name, &kept).await?;
            }
        }
        let theirs = list_all(&mut api, Vec::new()).await?;
        match ours.iter().find(|(name, stamp)| lacks(&theirs, name, stamp)) {
            Some((name, _)) => {
                let message = format!("coordinator {replica} did not keep the secret {name}");
                Err(ApiError::new(Code::Unavailable, "KEYSTORE_BEHIND", message))
            }
            None => Ok(theirs.len()),
        }
    }
}

/// Runs work on the keystore's files where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeystoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let told = |error: KeystoreError| match error {
        KeystoreError::Name(_) => errors::invalid("name", error),
        KeystoreError::Fenced { .. } => {
            ApiError::new(Code::Unavailable, reason::NOT_LEADER, error.to_string())
                .next("repeat the call with the same request id")
        }
        KeystoreError::Damaged(_) | KeystoreError::File(_) | KeystoreError::List(_) => {
            errors::internal("using the keystore", warren_daemon::telemetry::Chain(&error))
        }
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(told),
        Err(error) => Err(errors::internal("using the keystore", error)),
    }
}

pub(super) async fn within<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Failed::from(status).0),
        Err(_) => {
            let message = format!("no answer about the keystore within {} s", CALL.as_secs());
            Err(ApiError::new(Code::DeadlineExceeded, reason::UNREACHABLE, message))
        }
    }
}

fn overtaken(name: &str, by: ReplicaId) -> ApiError {
    let message = format!("coordinator {by} has a newer value of the secret {name}");
    ApiError::new(Code::Unavailable, reason::NOT_LEADER, message)
        .why("another coordinator led meanwhile, or this one lost what it had")
        .next("repeat the call with the same request id")
}

fn unconfirmed(name: &str, (kept, needed): (usize, usize)) -> ApiError {
    let message = format!("the secret {name} is on {kept} coordinators, {needed} are needed");
    ApiError::new(Code::Unavailable, reason::OUTCOME_UNKNOWN, message)
        .next("start the other coordinators, then repeat the call")
}

/// Shows a stamp as the wire does.
pub(super) fn shown(name: &str, stamp: &Stamp) -> pb::SecretStamp {
    pb::SecretStamp {
        name: name.to_owned(),
        term: stamp.term,
        number: stamp.number,
        sha256: stamp.sha256.to_vec().into(),
        deleted: stamp.deleted,
    }
}

fn read_stamp(stamp: pb::SecretStamp) -> Result<(String, Stamp), ApiError> {
    let sha256 = <[u8; 32]>::try_from(&stamp.sha256[..]);
    let sha256 = sha256.map_err(|_| errors::invalid("stamp.sha256", "has not 32 bytes"))?;
    let pb::SecretStamp { name, term, number, deleted, .. } = stamp;
    Ok((name, Stamp { term, number, sha256, deleted }))
}

/// Reads stamps from the wire, by name.
pub(super) fn read_all(stamps: Vec<pb::SecretStamp>) -> Result<BTreeMap<String, Stamp>, ApiError> {
    stamps.into_iter().map(read_stamp).collect()
}

/// Reads a secret from the wire; whether stamp and content fit is the keystore's to say.
pub(super) fn read(
    stamp: Option<pb::SecretStamp>,
    content: &[u8],
) -> Result<(String, Kept), ApiError> {
    let stamp = stamp.ok_or_else(|| errors::invalid("stamp", "is missing"))?;
    let (name, stamp) = read_stamp(stamp)?;
    let content = String::from_utf8(content.to_vec());
    let content = content.map_err(|_| errors::invalid("content", "is no text"))?;
    Ok((name, Kept { stamp, content: Secret::new(content) }))
}
