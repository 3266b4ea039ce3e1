//! What coordinators lack of each other's keystores, taken by whoever lacks it.
//!
//! Every coordinator compares with all others on its own: at the start, after a change of leader and
//! now and then. Digests of vaults are compared first, then the stamps of those that differ, page by
//! page; what is newer there or damaged here is taken. A deletion is remembered until every other
//! coordinator knows of it or has nothing, or for [`Limits::TOMBSTONE_AGE`]: a copy that appears after
//! that is named by no state, and shredded anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tonic::{Code, transport::Channel};
use warren_common::Limits;
use warren_proto::{
    error::ApiError,
    pb::raft::v1::{self as pb, member_service_client::MemberServiceClient},
};

use super::{
    Members,
    secrets::{self, blocking, read_all, within},
};
use crate::{
    api::errors,
    keystore::{Keystore, Listed, Stamp, Taken, digests, group},
};

/// How often stamps are compared without a reason.
const COMPARE: Duration = Duration::from_secs(30);
/// The pause before a comparison that did not reach everybody is repeated.
const AGAIN: Duration = Duration::from_secs(3);

type Stamps = BTreeMap<String, Stamp>;

/// What another coordinator holds, as far as it differs from what is here.
struct Theirs {
    /// Vaults that are the same there.
    same: BTreeSet<String>,
    /// The stamps of all others.
    stamps: Stamps,
}

impl Theirs {
    /// Whether nothing is left there of a secret that is deleted here.
    fn know_of(&self, name: &str) -> bool {
        self.same.contains(group(name)) || self.stamps.get(name).is_none_or(|one| one.deleted)
    }
}

impl Members {
    /// Takes from every other coordinator what is newer or damaged here, and forgets deletions that
    /// all know of; returns whether all of them answered.
    pub(super) async fn compare(&self) -> bool {
        let keystore = self.keystore().clone();
        let ours = match blocking(move || keystore.list()).await {
            Ok(ours) => ours,
            Err(error) => {
                tracing::error!(%error, "the keystore cannot be compared");
                return false;
            }
        };
        let stamps = ours.iter().map(|(name, one)| (name.clone(), one.stamp.clone())).collect();
        let state = self.state();
        let (mut all, mut answers) = (true, Vec::new());
        for replica in state.replicas.keys().filter(|one| **one != self.0.parts.replica) {
            let taken = match self.peer(*replica) {
                Ok(mut api) => fetch_from(&mut api, self.keystore(), &stamps).await,
                Err(error) => Err(error),
            };
            match taken {
                Ok((taken, theirs)) => {
                    if taken > 0 {
                        tracing::info!(from = %replica, taken, "took secrets");
                    }
                    answers.push(theirs);
                }
                Err(error) => {
                    tracing::debug!(%replica, %error, "secrets were not compared");
                    all = false;
                }
            }
        }
        let known = |name: &str| all && answers.iter().all(|theirs| theirs.know_of(name));
        let over =
            |one: &Listed| one.written.elapsed().is_ok_and(|age| age > Limits::TOMBSTONE_AGE);
        let forgotten = ours
            .into_iter()
            .filter(|(name, one)| one.stamp.deleted && (known(name) || over(one)))
            .collect();
        if let Err(error) = self.forget(forgotten).await {
            tracing::info!(%error, "deletions are not forgotten yet");
        }
        all
    }

    async fn forget(&self, deleted: BTreeMap<String, Listed>) -> Result<(), ApiError> {
        let keystore = self.keystore().clone();
        let forgetting = move || {
            for (name, one) in &deleted {
                keystore.forget(name, &one.stamp)?;
            }
            Ok(())
        };
        blocking(forgetting).await
    }

    /// Takes what others have newer, now.
    pub async fn catch_up(&self) {
        self.compare().await;
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

    pub(super) async fn list_here(
        &self,
        request: pb::ListSecretsRequest,
    ) -> Result<pb::ListSecretsResponse, ApiError> {
        let keystore = self.keystore().clone();
        let stamps = blocking(move || keystore.stamps()).await?;
        let pb::ListSecretsRequest { vaults, after } = request;
        if vaults.len() > Limits::PAGE {
            let why = format!("more than the limit of {}", Limits::PAGE);
            return Err(errors::invalid("vaults", why));
        }
        let vaults: BTreeSet<&str> = vaults.iter().map(String::as_str).collect();
        let asked = |name: &str| vaults.is_empty() || vaults.contains(group(name));
        let mut wanted = stamps.iter().filter(|(name, _)| **name > after && asked(name));
        let page = wanted.by_ref().take(Limits::PAGE);
        let secrets = page.map(|(name, stamp)| secrets::shown(name, stamp)).collect();
        Ok(pb::ListSecretsResponse { secrets, more: wanted.next().is_some() })
    }

    pub(super) async fn digest_here(
        &self,
        request: pb::DigestSecretsRequest,
    ) -> Result<pb::DigestSecretsResponse, ApiError> {
        let keystore = self.keystore().clone();
        let digests = digests(&blocking(move || keystore.stamps()).await?);
        let after = request.after;
        let mut wanted = digests
            .into_iter()
            .filter(|(vault, _)| after.as_ref().is_none_or(|after| vault > after));
        let page = wanted.by_ref().take(Limits::PAGE);
        let shown = |(vault, sha256): (String, [u8; 32])| pb::VaultDigest {
            vault,
            sha256: sha256.to_vec().into(),
        };
        let vaults = page.map(shown).collect();
        Ok(pb::DigestSecretsResponse { vaults, more: wanted.next().is_some() })
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
    let ours = {
        let keystore = keystore.clone();
        blocking(move || keystore.stamps()).await?
    };
    fetch_from(api, keystore, &ours).await.map(|(taken, _)| taken)
}

async fn fetch_from(
    api: &mut MemberServiceClient<Channel>,
    keystore: &Keystore,
    ours: &Stamps,
) -> Result<(usize, Theirs), ApiError> {
    let theirs = differing(api, ours).await?;
    let mut taken = 0;
    for (name, stamp) in &theirs.stamps {
        let newer = match ours.get(name) {
            Some(ours) => ours < stamp,
            // of what is not here nothing need be known but that it is
            None => !stamp.deleted,
        };
        if !newer {
            continue;
        }
        let answer = match within(api.get_secret(pb::GetSecretRequest { name: name.clone() })).await
        {
            Ok(answer) => answer,
            // deleted and forgotten meanwhile
            Err(error) if error.code == Code::NotFound => continue,
            Err(error) => return Err(error),
        };
        let kept = secrets::read(answer.stamp, &answer.content)?.1;
        let (keystore, name) = (keystore.clone(), name.clone());
        let took = blocking(move || keystore.take(&name, &kept)).await?;
        taken += usize::from(took == Taken::New);
    }
    Ok((taken, theirs))
}

/// Asks for the stamps of those vaults that are not the same there, those of a page together.
async fn differing(
    api: &mut MemberServiceClient<Channel>,
    ours: &Stamps,
) -> Result<Theirs, ApiError> {
    let here = digests(ours);
    let mut theirs = Theirs { same: BTreeSet::new(), stamps: Stamps::new() };
    let mut after = None;
    loop {
        let page = match within(api.digest_secrets(pb::DigestSecretsRequest { after })).await {
            Ok(page) => page,
            // one of before there were digests gives all it has
            Err(error) if error.code == Code::Unimplemented => {
                let stamps = list_all(api, Vec::new()).await?;
                return Ok(Theirs { same: BTreeSet::new(), stamps });
            }
            Err(error) => return Err(error),
        };
        let last = page.vaults.last().map(|one| one.vault.clone());
        let alike = |one: &pb::VaultDigest| {
            here.get(&one.vault).is_some_and(|here| here[..] == one.sha256[..])
        };
        let (same, others): (Vec<_>, Vec<_>) = page.vaults.into_iter().partition(alike);
        theirs.same.extend(same.into_iter().map(|one| one.vault));
        if !others.is_empty() {
            let others = others.into_iter().map(|one| one.vault).collect();
            theirs.stamps.extend(list_all(api, others).await?);
        }
        match last.filter(|_| page.more) {
            Some(last) => after = Some(last),
            None => return Ok(theirs),
        }
    }
}

/// Returns the stamps of some vaults; of all where none is named.
///
/// # Errors
/// It does not answer, or lists without end.
pub(super) async fn list_all(
    api: &mut MemberServiceClient<Channel>,
    vaults: Vec<String>,
) -> Result<Stamps, ApiError> {
    // each secret has at most two files, each vault a key, and the authorities a handful
    let most = 4 * Limits::SECRETS + Limits::CLIENTS;
    let (mut all, mut after) = (Stamps::new(), String::new());
    loop {
        let request = pb::ListSecretsRequest { vaults: vaults.clone(), after };
        let page = within(api.list_secrets(request)).await?;
        all.extend(read_all(page.secrets)?);
        match all.keys().next_back() {
            Some(last) if page.more && all.len() <= most => after = last.clone(),
            Some(_) if page.more => {
                return Err(errors::internal("listing a keystore", "it has no end"));
            }
            Some(_) | None => return Ok(all),
        }
    }
}
