//! Coordinators once more, as plainly as possible: see `naive.rs`.

use warren_common::{ReplicaId, Timestamp, TokenId};
use warren_model::{
    RefusalCode,
    command::{IssueCoordinatorToken, JoinReplica, SetReplica},
};

use crate::naive::Answer;

#[derive(Debug, Default)]
pub(crate) struct NaiveReplicas {
    /// Every one there ever was: its Raft address while it belongs to the cluster.
    pub(crate) ever: Vec<(u64, Option<String>)>,
    pub(crate) tokens: Vec<NaiveCoordinatorToken>,
    /// New, old.
    pub(crate) replacing: Vec<(u64, u64)>,
}

#[derive(Debug)]
pub(crate) struct NaiveCoordinatorToken {
    id: TokenId,
    secret: [u8; 32],
    expires: Timestamp,
    replaces: Option<ReplicaId>,
    spent: Option<([u8; 32], u64)>,
}

impl NaiveReplicas {
    pub(crate) fn present(&self) -> Vec<u64> {
        let mut present: Vec<u64> =
            self.ever.iter().filter(|(_, at)| at.is_some()).map(|(id, _)| *id).collect();
        present.sort_unstable();
        present
    }

    pub(crate) fn highest(&self) -> u64 {
        self.ever.iter().map(|(id, _)| *id).max().unwrap_or(0)
    }

    fn known(&self, id: u64) -> Result<(), RefusalCode> {
        if self.present().contains(&id) {
            return Ok(());
        }
        let gone = id <= self.highest();
        Err(if gone { RefusalCode::WrongState } else { RefusalCode::NotFound })
    }

    pub(crate) fn set(&mut self, one: &SetReplica) -> Answer {
        let id = one.replica.0;
        if let Some((_, Some(at))) = self.ever.iter_mut().find(|(known, _)| *known == id) {
            let changed = *at != one.raft_address;
            at.clone_from(&one.raft_address);
            return Ok(changed);
        }
        if id <= self.highest() {
            return Err(RefusalCode::WrongState);
        }
        if self.present().len() >= 9 {
            return Err(RefusalCode::LimitReached);
        }
        self.ever.push((id, Some(one.raft_address.clone())));
        Ok(true)
    }

    pub(crate) fn issue(&mut self, one: &IssueCoordinatorToken, at: Timestamp) -> Answer {
        if self.tokens.iter().any(|token| token.id == one.token) {
            return Err(RefusalCode::WrongState);
        }
        if let Some(old) = one.replaces {
            self.known(old.0)?;
        }
        self.tokens.retain(|token| token.expires.0 + 900_000 > at.0);
        self.tokens.push(NaiveCoordinatorToken {
            id: one.token,
            secret: one.secret_hash,
            expires: one.expires,
            replaces: one.replaces,
            spent: None,
        });
        Ok(true)
    }

    pub(crate) fn join(&mut self, one: &JoinReplica, at: Timestamp) -> Answer {
        let found = self.tokens.iter().position(|token| token.id == one.token);
        let found = found.filter(|found| self.tokens[*found].secret == one.secret_hash);
        let Some(found) = found else { return Err(RefusalCode::TokenInvalid) };
        let (spent, replaces) = (self.tokens[found].spent, self.tokens[found].replaces);
        match spent {
            Some((key, id)) if key == one.key_hash => return self.known(id).map(|()| false),
            Some(_) => return Err(RefusalCode::TokenUsed),
            None if at > self.tokens[found].expires => return Err(RefusalCode::TokenExpired),
            None => {}
        }
        let taken = |(id, address): &(u64, Option<String>)| {
            address.as_ref() == Some(&one.raft_address) && Some(ReplicaId(*id)) != replaces
        };
        if self.ever.iter().any(taken) {
            return Err(RefusalCode::NameTaken);
        }
        if self.present().len() >= 9 {
            return Err(RefusalCode::LimitReached);
        }
        if let Some(old) = replaces {
            self.known(old.0)?;
        }
        let id = self.highest() + 1;
        self.ever.push((id, Some(one.raft_address.clone())));
        self.replacing.extend(replaces.map(|old| (id, old.0)));
        self.tokens[found].spent = Some((one.key_hash, id));
        Ok(true)
    }

    pub(crate) fn remove(&mut self, replica: ReplicaId) -> Answer {
        match self.known(replica.0) {
            Err(RefusalCode::WrongState) => return Ok(false),
            known => known?,
        }
        if self.present().len() == 1 {
            return Err(RefusalCode::WrongState);
        }
        for (id, at) in &mut self.ever {
            if *id == replica.0 {
                *at = None;
            }
        }
        self.replacing.retain(|(new, old)| *new != replica.0 && *old != replica.0);
        Ok(true)
    }
}
