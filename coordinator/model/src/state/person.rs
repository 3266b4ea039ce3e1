//! People: whom administrators invited, what they are, and who is out again.

use serde::{Deserialize, Serialize};
use warren_common::{Limits, PersonName, Revision, Role, Timestamp, TokenId};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{EnrolPerson, InvitePerson, Occasion, Principal, RecordCertificate, RevokePerson},
    event::EventKind,
    state::{ClusterState, cluster::deny, token},
};

/// A person, or their automation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Unique in the cluster.
    pub name: PersonName,
    /// What they are.
    pub role: Role,
    /// When they were first let in.
    pub joined: Timestamp,
    /// Set while they are out.
    pub revoked: Option<Timestamp>,
    /// They were out once and were let in again: only certificates on record are theirs.
    pub readmitted: bool,
    /// The mutation that last changed it.
    pub revision: Revision,
}

/// A single-use right to become a person of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
    /// Who.
    pub name: PersonName,
    /// What they will be.
    pub role: Role,
    /// After this it is refused.
    pub expires: Timestamp,
    /// Set once it is spent: the key that spent it.
    pub spent: Option<[u8; 32]>,
}

impl ClusterState {
    /// Whether a certificate is refused although it may not have expired: its serial is on the
    /// deny-list, or it belongs to a person who is out, or is one from before they were.
    pub fn refuses(&self, holder: &Principal, serial: &[u8]) -> bool {
        if self.revoked.contains_key(serial) {
            return true;
        }
        let Principal::Person(name) = holder else { return false };
        let Ok(name) = name.parse::<PersonName>() else { return true };
        self.people.get(&name).is_some_and(|person| {
            let recorded = || self.certificates.contains_key(&(holder.clone(), serial.to_vec()));
            person.revoked.is_some() || person.readmitted && !recorded()
        })
    }
}

pub(crate) fn invite(
    state: &mut ClusterState,
    context: &Context,
    command: &InvitePerson,
) -> Result<Change, Refusal> {
    let InvitePerson { token: id, secret_hash, name, role, expires } = command;
    if state.invitations.contains_key(id) {
        let message = format!("the id of token {id} is in use");
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    token::check_expiry("an invitation", *expires, context.at)?;
    same_role(state, name, *role)?;
    let kept = |one: &Invitation| token::is_kept(one.expires, context.at);
    let room = (Limits::INVITATIONS, "invitations");
    let mut live = token::with_room(&state.invitations, kept, room)?;
    let invitation = Invitation {
        id: *id,
        secret_hash: *secret_hash,
        name: name.clone(),
        role: *role,
        expires: *expires,
        spent: None,
    };
    live.insert(*id, invitation);
    state.invitations = live;
    Ok(Change::new("person.invite", Outcome::Token(*id))
        .object(name, id)
        .detail(format!("role {role}"))
        .event(EventKind::PersonInvited(name.clone())))
}

pub(crate) fn enrol(
    state: &mut ClusterState,
    context: &Context,
    command: &EnrolPerson,
) -> Result<Change, Refusal> {
    let EnrolPerson { token: id, secret_hash, key_hash } = command;
    let invitation = match state.invitations.get(id) {
        Some(invitation) if invitation.secret_hash == *secret_hash => invitation.clone(),
        Some(_) | None => {
            let message = "the invitation is not known here";
            return Err(Refusal::new(RefusalCode::TokenInvalid, message));
        }
    };
    let Invitation { name, role, .. } = &invitation;
    match invitation.spent {
        Some(key) if key == *key_hash => return Ok(Change::none(Outcome::Token(*id))),
        Some(_) => {
            let message = format!("the invitation of {name} was used before, on another machine");
            return Err(Refusal::new(RefusalCode::TokenUsed, message));
        }
        None => {}
    }
    if context.at > invitation.expires {
        let message = format!("the invitation of {name} has expired");
        return Err(Refusal::new(RefusalCode::TokenExpired, message));
    }
    same_role(state, name, *role)?;
    let_in(state, context, (name, *role))?;
    let spent = Invitation { spent: Some(*key_hash), ..invitation.clone() };
    state.invitations.insert(*id, spent);
    Ok(Change::new("person.enrol", Outcome::Token(*id))
        .object(name, id)
        .detail(format!("role {role}"))
        .event(EventKind::PersonEnrolled(name.clone())))
}

/// Lets the holder of a fresh certificate in, where it was given to somebody new on the
/// coordinator's own machine; every other occasion finds them in.
pub(crate) fn admit(
    state: &mut ClusterState,
    context: &Context,
    (name, command): (&PersonName, &RecordCertificate),
) -> Result<(), Refusal> {
    let Some(role) = command.role else { return Ok(()) };
    match command.occasion {
        Occasion::Local => {
            same_role(state, name, role)?;
            let_in(state, context, (name, role))
        }
        // one that was renewed may be older than this record of people
        Occasion::Renewed { .. } if !state.people.contains_key(name) => {
            let_in(state, context, (name, role))
        }
        Occasion::Renewed { .. } | Occasion::Invited(_) | Occasion::Joined => Ok(()),
    }
}

pub(crate) fn revoke(
    state: &mut ClusterState,
    context: &Context,
    command: &RevokePerson,
) -> Result<Change, Refusal> {
    let name = &command.name;
    let Some(person) = state.people.get(name).cloned() else {
        let message = format!("there is no user {name}");
        return Err(Refusal::new(RefusalCode::NotFound, message));
    };
    context.unchanged_since(person.revision, || format!("user {name}"))?;
    let invited = state.invitations.values().filter(|one| one.name == *name);
    let invited: Vec<TokenId> = invited.map(|one| one.id).collect();
    if person.revoked.is_some() && invited.is_empty() {
        return Ok(Change::none(Outcome::Done));
    }
    let holder = Principal::Person(name.to_string());
    let held = state.certificates_of(&holder);
    let held: Vec<_> = held.map(|(serial, row)| (serial.clone(), row.expires)).collect();
    let certificates = held.len();
    let serials = held.clone();
    deny(state, context, held)?;
    for id in &invited {
        state.invitations.remove(id);
    }
    let revoked = person.revoked.or(Some(context.at));
    let out = Person { revoked, revision: context.revision, ..person };
    state.people.insert(name.clone(), out);
    let change = Change::new("person.revoke", Outcome::Done)
        .object(name, &format!("user {name}"))
        .detail(format!("{certificates} certificates, {} invitations", invited.len()))
        .event(EventKind::PersonRevoked(name.clone()));
    let revoked = serials.into_iter().map(|(serial, _)| EventKind::CertificateRevoked(serial));
    Ok(revoked.fold(change, Change::event))
}

/// Refuses another role for somebody who is in.
fn same_role(state: &ClusterState, name: &PersonName, role: Role) -> Result<(), Refusal> {
    match state.people.get(name) {
        Some(person) if person.revoked.is_none() && person.role != role => {
            let message = format!("{name} already exists, with role {}", person.role);
            Err(Refusal::new(RefusalCode::NameTaken, message))
        }
        Some(_) | None => Ok(()),
    }
}

fn let_in(
    state: &mut ClusterState,
    context: &Context,
    (name, role): (&PersonName, Role),
) -> Result<(), Refusal> {
    let person = match state.people.get(name) {
        Some(person) if person.revoked.is_none() => return Ok(()),
        Some(person) => Person {
            role,
            revoked: None,
            readmitted: true,
            revision: context.revision,
            ..person.clone()
        },
        None if state.people.len() >= Limits::PEOPLE => {
            let message = format!("the cluster has {} users, the limit", Limits::PEOPLE);
            return Err(Refusal::new(RefusalCode::LimitReached, message));
        }
        None => Person {
            name: name.clone(),
            role,
            joined: context.at,
            revoked: None,
            readmitted: false,
            revision: context.revision,
        },
    };
    state.people.insert(name.clone(), person);
    Ok(())
}
