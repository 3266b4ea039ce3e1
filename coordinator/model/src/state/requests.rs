//! Remembered requests: the same id of the same principal takes effect once.
//!
//! Ids are UUIDs of version 7, so their order is the order in which callers minted them. Per
//! principal the newest [`Limits::REQUESTS_PER_PRINCIPAL`] of the last [`Limits::REQUEST_AGE`] are
//! kept; what is dropped leaves a floor, and an id at or below the floor is too old. Each
//! remembered request also sweeps a few expired ones of its own principal and of the next one in
//! order, so the table shrinks without a scan: O(log n) per command.

use std::ops::Bound;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use warren_common::{Limits, RequestId, Revision, Timestamp};

use crate::{
    answer::{Applied, Refusal, RefusalCode},
    command::{Command, Envelope, Principal, SecretCommand, Update, UpdateWorkspace},
};

/// Expired requests dropped per command and principal.
const SWEEP: usize = 8;

/// The answers that are given again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestTable {
    principals: OrdMap<Principal, Remembered>,
    /// Where the sweep of other principals goes on.
    cursor: Option<Principal>,
}

/// What one principal asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    answers: OrdMap<RequestId, Answer>,
    /// The newest id that was dropped.
    floor: Option<RequestId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    /// Of what was asked, without what each attempt mints anew.
    intent: [u8; 16],
    result: Result<Applied, Refusal>,
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is new, and is to be remembered with this intent.
    New(Intent),
    /// It is a coordinator's own, which is guarded by what it carries.
    Unguarded,
    /// It was answered, or it may not be asked.
    Answered(Result<Applied, Refusal>),
}

/// The hash of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intent([u8; 16]);

impl RequestTable {
    /// Looks `envelope` up.
    pub(crate) fn look_up(&self, envelope: &Envelope) -> Known {
        match envelope.principal {
            Principal::Coordinator(_) => return Known::Unguarded,
            Principal::Person(_) | Principal::Node(_) => {}
        }
        let Some(minted) = minted(envelope.request) else {
            return refuse(RefusalCode::RequestIdInvalid, "the request id is no UUID of version 7");
        };
        if minted > envelope.at.plus(Limits::REQUEST_SKEW) {
            let message = "the request id was minted more than a day in the future: check the \
                           caller's clock";
            return refuse(RefusalCode::RequestIdInvalid, message);
        }
        let intent = intent(envelope);
        let remembered = self.principals.get(&envelope.principal);
        if let Some(answer) = remembered.and_then(|of| of.answers.get(&envelope.request)) {
            if answer.intent != intent.0 {
                let message = "the request id was used before for another command";
                return refuse(RefusalCode::RequestReused, message);
            }
            let again = |applied: Applied| Applied { repeated: true, ..applied };
            return Known::Answered(answer.result.clone().map(again));
        }
        let floor = remembered.and_then(|of| of.floor);
        if expired(minted, envelope.at) || floor.is_some_and(|floor| envelope.request <= floor) {
            let message = "the request is older than what is remembered: look whether it took \
                           effect, and ask again under a new id";
            return refuse(RefusalCode::RequestIdTooOld, message);
        }
        Known::New(intent)
    }

    /// Remembers the answer to a new request and sweeps a few old ones.
    pub(crate) fn remember(
        &mut self,
        envelope: &Envelope,
        intent: Intent,
        result: &Result<Applied, Refusal>,
    ) {
        let answer = Answer { intent: intent.0, result: result.clone() };
        let own = self.principals.entry(envelope.principal.clone()).or_default();
        own.answers.insert(envelope.request, answer);
        own.sweep(envelope.at);
        while own.answers.len() > Limits::REQUESTS_PER_PRINCIPAL && own.drop_oldest() {}
        self.sweep_next(envelope.at);
    }

    fn sweep_next(&mut self, at: Timestamp) {
        let from = match &self.cursor {
            Some(cursor) => Bound::Excluded(cursor.clone()),
            None => Bound::Unbounded,
        };
        let after = self.principals.range((from, Bound::Unbounded)).next();
        let next = after.or_else(|| self.principals.get_min().map(|(first, of)| (first, of)));
        self.cursor = next.map(|(principal, _)| principal.clone());
        if let Some(principal) = &self.cursor
            && let Some(other) = self.principals.get_mut(principal)
        {
            other.sweep(at);
        }
    }

    /// Returns what `request` of `principal` was answered, where that is remembered.
    pub fn answered(
        &self,
        principal: &Principal,
        request: RequestId,
    ) -> Option<&Result<Applied, Refusal>> {
        self.principals.get(principal)?.answers.get(&request).map(|answer| &answer.result)
    }

    /// Returns how many answers are held of `principal`.
    pub fn held(&self, principal: &Principal) -> usize {
        self.principals.get(principal).map_or(0, |of| of.answers.len())
    }

    /// Returns the principal whose answers are too many or lie below its floor; none where the
    /// table is sound.
    pub(crate) fn unsound(&self) -> Option<&Principal> {
        let sound = |of: &Remembered| {
            let oldest = of.answers.get_min().map(|(id, _)| *id);
            of.answers.len() <= Limits::REQUESTS_PER_PRINCIPAL
                && (oldest.is_none() || of.floor < oldest)
        };
        self.principals.iter().find(|(_, of)| !sound(of)).map(|(principal, _)| principal)
    }
}

impl Remembered {
    fn sweep(&mut self, at: Timestamp) {
        for _ in 0..SWEEP {
            let oldest = self.answers.get_min().and_then(|(id, _)| minted(*id));
            if !oldest.is_some_and(|oldest| expired(oldest, at)) || !self.drop_oldest() {
                return;
            }
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.answers.get_min().map(|(id, _)| *id) else {
            return false;
        };
        self.answers.remove(&oldest);
        self.floor = self.floor.max(Some(oldest));
        true
    }
}

fn refuse(code: RefusalCode, message: &str) -> Known {
    Known::Answered(Err(Refusal::new(code, message)))
}

fn expired(minted: Timestamp, at: Timestamp) -> bool {
    at.since(minted) > Limits::REQUEST_AGE
}

/// When a UUID of version 7 was minted, by its caller's clock; none for any other id.
fn minted(request: RequestId) -> Option<Timestamp> {
    let bytes = request.as_bytes();
    if bytes[6] >> 4 != 7 || bytes[8] >> 6 != 0b10 {
        return None;
    }
    let millis = bytes[..6].iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    Some(Timestamp(millis))
}

/// Returns what is hashed of an update: what a version comes to may be another thing a moment later.
fn of_update(command: &Command, one: &UpdateWorkspace) -> postcard::Result<Vec<u8>> {
    match &one.update {
        Update::Template(update) | Update::TemplateRules(update) => {
            postcard::to_stdvec(&("update to", one.workspace, &update.to))
        }
        Update::Image(_) | Update::ImageBefore => postcard::to_stdvec(command),
    }
}

/// Hashes what was asked, leaving out what the edge mints anew for each attempt (ids, secrets,
/// expiries, times), so that a caller's retry through another coordinator is the same request.
fn intent(envelope: &Envelope) -> Intent {
    let command = &envelope.command;
    let bytes = match command {
        Command::CreateClient(one) => postcard::to_stdvec(&("client", &one.name, &one.labels)),
        Command::CreateWorkspace(one) => {
            let asked = (&one.client, &one.name, &one.spec, one.no_queue);
            postcard::to_stdvec(&("workspace", asked))
        }
        Command::MakeWorkspace(one) => {
            let create = &one.create;
            let asked = (&create.client, &create.name, create.no_queue, &one.recipe);
            postcard::to_stdvec(&("workspace from", asked, &create.spec))
        }
        Command::UpdateWorkspace(one) => of_update(command, one),
        Command::IssueToken(one) => postcard::to_stdvec(&("token", &one.node_name)),
        Command::InvitePerson(one) => postcard::to_stdvec(&("invite", &one.name, one.role)),
        Command::JoinNode(one) => {
            postcard::to_stdvec(&("join", &one.token, &one.key_hash, &one.name))
        }
        Command::IssueCoordinatorToken(one) => {
            postcard::to_stdvec(&("coordinator token", &one.replaces))
        }
        Command::JoinReplica(one) => {
            postcard::to_stdvec(&("join replica", &one.token, &one.key_hash))
        }
        Command::Secret(one) => match one.as_ref() {
            SecretCommand::Set(set) => {
                let asked = (set.vault, &set.name, set.mark, &set.made_for);
                postcard::to_stdvec(&("set secret", asked))
            }
            SecretCommand::Delete(_) => postcard::to_stdvec(command),
        },
        Command::InitCluster(_)
        | Command::SetReplica(_)
        | Command::DeleteClient(_)
        | Command::RegisterNode(_)
        | Command::UpdateNodeFacts(_)
        | Command::SetNodeAvailability(_)
        | Command::SetRun(_)
        | Command::Assign(_)
        | Command::Advance(_)
        | Command::Forget(_)
        | Command::RevokeCertificate(_)
        | Command::EnrolPerson(_)
        | Command::RecordCertificate(_)
        | Command::RevokePerson(_)
        | Command::BeginIncarnation(_)
        | Command::AdoptNode(_)
        | Command::AdoptWorkspace(_)
        | Command::AccountNode(_)
        | Command::EndRecovery(_)
        | Command::UpdateClient(_)
        | Command::RemoveReplica(_)
        | Command::NoteBackup(_)
        | Command::NoteView(_)
        | Command::Node(_)
        | Command::ResizeWorkspace(_)
        | Command::ChangeAllowed(_)
        | Command::Template(_)
        | Command::Session(_) => postcard::to_stdvec(command),
    };
    let mut hash = Sha256::new();
    // our types have no sequences of unknown length, the one thing that fails
    hash.update(bytes.unwrap_or_default());
    hash.update(
        envelope.if_revision.map_or(0, |Revision(number)| number.saturating_add(1)).to_be_bytes(),
    );
    let digest: [u8; 32] = hash.finalize().into();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    Intent(short)
}
