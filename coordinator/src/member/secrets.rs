//! The keystore among the coordinators: copies pushed by the leader, gaps filled by whoever has
//! them.
//!
//! A write is the leader's. It is fsynced here, pushed to all others at once, and acknowledged when
//! a majority of the voters has fsynced it; one that was not acknowledged may still come to be, as
//! with the log. Every coordinator also compares its stamps with the others' on its own, at the
//! start, after a change of leader and now and then, and takes what is newer or damaged here.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tonic::{Code, transport::Channel};
use warren_common::ReplicaId;
use warren_daemon::Secret;
use warren_proto::{
    error::{ApiError, reason},
    pb::raft::v1::{self as pb, member_service_client::MemberServiceClient},
};

use super::{Failed, Members};
use crate::{
    api::errors,
    keystore::{Kept, Keystore, KeystoreError, Stamp},
};

/// How long one call about secrets may take: small files and an fsync.
const CALL: Duration = Duration::from_secs(5);
/// How often stamps are compared without a reason.
const COMPARE: Duration = Duration::from_secs(30);
/// The pause before a comparison that did not reach everybody is repeated.
const AGAIN: Duration = Duration::from_secs(3);

impl Members {
    /// Keeps a secret, or with none that it is gone, on a majority of the coordinators.
    ///
    /// # Errors
    /// This coordinator does not lead, its disk failed, or no majority confirmed it: then it may
    /// still come to be.
    pub async fn put_secret(
        &self,
        name: &str,
        secret: Option<Secret<String>>,
    ) -> Result<(), ApiError> {
        self.leading().await?;
        let parts = &self.0.parts;
        // of the leadership itself: a follower's term is that of another leader's values
        let led = *parts.consensus.leadership().borrow();
        if !led.leading {
            return Err(errors::not_leader(led.leader, &self.state()));
        }
        let term = led.term;
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
                Some((replica, Ok(()))) => kept += usize::from(voters.contains(&replica)),
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

    async fn push(&self, replica: ReplicaId, name: &str, kept: &Kept) -> Result<(), ApiError> {
        let request = pb::PutSecretRequest {
            stamp: Some(shown(name, &kept.stamp)),
            content: kept.content.expose().clone().into_bytes().into(),
        };
        let mut api = self.peer(replica)?;
        within(api.put_secret(request)).await.map(drop)
    }

    /// Gives another coordinator what it lacks, and returns how many secrets it then holds.
    pub(super) async fn give_secrets(&self, replica: ReplicaId) -> Result<usize, ApiError> {
        let keystore = self.keystore().clone();
        let ours = blocking(move || keystore.stamps()).await?;
        let mut api = self.peer(replica)?;
        let theirs = within(api.list_secrets(pb::ListSecretsRequest {})).await?;
        let theirs = read_all(theirs.secrets)?;
        for (name, stamp) in &ours {
            if theirs.get(name).is_some_and(|theirs| theirs >= stamp) {
                continue;
            }
            let (keystore, wanted) = (self.keystore().clone(), name.clone());
            if let Some(kept) = blocking(move || keystore.kept(&wanted)).await? {
                self.push(replica, name, &kept).await?;
            }
        }
        let theirs = within(api.list_secrets(pb::ListSecretsRequest {})).await?;
        let theirs = read_all(theirs.secrets)?;
        let lacks = |(name, stamp): &(&String, &Stamp)| {
            theirs.get(*name).is_none_or(|theirs| theirs < *stamp)
        };
        match ours.iter().find(lacks) {
            Some((name, _)) => {
                let message = format!("coordinator {replica} did not keep the secret {name}");
                Err(ApiError::new(Code::Unavailable, "KEYSTORE_BEHIND", message))
            }
            None => Ok(theirs.len()),
        }
    }

    /// Takes from every other coordinator what is newer or damaged here; returns whether all of
    /// them answered.
    pub(super) async fn compare(&self) -> bool {
        let state = self.state();
        let mut all = true;
        for replica in state.replicas.keys().filter(|one| **one != self.0.parts.replica) {
            let taken = match self.peer(*replica) {
                Ok(mut api) => fetch(&mut api, self.keystore()).await,
                Err(error) => Err(error),
            };
            match taken {
                Ok(0) => {}
                Ok(taken) => tracing::info!(from = %replica, taken, "took secrets"),
                Err(error) => {
                    tracing::debug!(%replica, %error, "secrets were not compared");
                    all = false;
                }
            }
        }
        all
    }

    /// Compares for ever: at the start, after each change of leader, and now and then.
    pub async fn keep_secrets(self) {
        let mut leadership = self.0.parts.consensus.leadership();
        loop {
            let pause = if self.compare().await { COMPARE } else { AGAIN };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Takes what a coordinator has newer than `keystore`, durably; returns how many secrets.
///
/// # Errors
/// It does not answer, or what it gives cannot be kept.
pub(crate) async fn fetch(
    api: &mut MemberServiceClient<Channel>,
    keystore: &Keystore,
) -> Result<usize, ApiError> {
    let listed = within(api.list_secrets(pb::ListSecretsRequest {})).await?;
    let ours = {
        let keystore = keystore.clone();
        blocking(move || keystore.stamps()).await?
    };
    let mut taken = 0;
    for (name, stamp) in read_all(listed.secrets)? {
        if ours.get(&name).is_some_and(|ours| *ours >= stamp) {
            continue;
        }
        let answer = within(api.get_secret(pb::GetSecretRequest { name: name.clone() })).await?;
        let kept = read(answer.stamp, &answer.content)?.1;
        let keystore = keystore.clone();
        taken += usize::from(blocking(move || keystore.take(&name, &kept)).await?);
    }
    Ok(taken)
}

/// Runs work on the keystore's files where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeystoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let told = |error: KeystoreError| match error {
        KeystoreError::Name(_) => errors::invalid("name", error),
        KeystoreError::Damaged(_) | KeystoreError::File(_) | KeystoreError::List(_) => {
            errors::internal("using the keystore", warren_daemon::telemetry::Chain(&error))
        }
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(told),
        Err(error) => Err(errors::internal("using the keystore", error)),
    }
}

async fn within<T>(
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

fn read_all(stamps: Vec<pb::SecretStamp>) -> Result<BTreeMap<String, Stamp>, ApiError> {
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
