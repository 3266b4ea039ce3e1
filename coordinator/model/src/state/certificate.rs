//! Issued certificates: on record before their holders get them, so that they can be listed,
//! audited and revoked.
//!
//! A row stays for as long as its certificate could be used or renewed. One that was renewed and
//! has expired goes: an expired certificate that is not on record is an old one, and whoever shows
//! it is not the holder's present machine.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use warren_common::{Limits, PersonName, Role, Timestamp};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{Availability, Occasion, Principal, RecordCertificate},
    event::EventKind,
    state::{ClusterState, node, person},
};

/// Rows of other holders looked at by each new one.
const SWEEP: usize = 4;

type Rows = OrdMap<(Principal, Vec<u8>), Certificate>;

/// One issued certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// What a person is by it; none for nodes and coordinators.
    pub role: Option<Role>,
    /// SHA-256 of its public key.
    pub key_hash: [u8; 32],
    /// From when it is good.
    pub issued: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
    /// It was given in place of an older one.
    pub renewal: bool,
    /// Serial of the one that it was renewed by.
    pub successor: Option<Vec<u8>>,
}

impl Certificate {
    /// Whether nobody can use or renew it any more.
    fn is_over(&self, at: Timestamp, revoked: bool) -> bool {
        let kept = match self.successor.is_some() || revoked {
            true => self.expires,
            false => self.expires.plus(Limits::RENEWAL_GRACE),
        };
        kept <= at
    }
}

impl ClusterState {
    /// Returns the certificates on record of `holder`, by serial.
    pub fn certificates_of<'a>(
        &'a self,
        holder: &Principal,
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Certificate)> + use<'a> {
        let holder = holder.clone();
        let rows = self.certificates.range((holder.clone(), Vec::new())..);
        let own = rows.take_while(move |((of, _), _)| *of == holder);
        own.map(|((_, serial), row)| (serial, row))
    }

    /// Returns the certificate of this serial with its holder.
    pub fn certificate(&self, serial: &[u8]) -> Option<(&Principal, &Certificate)> {
        let mut rows = self.certificates.iter();
        let found = rows.find(|((_, own), _)| own == serial)?;
        Some((&found.0.0, found.1))
    }

    /// Returns the certificates without those that are over, of the rows from `start` on, at most
    /// `most` looked at.
    fn without_old(&self, start: (Principal, Vec<u8>), (at, most): (Timestamp, usize)) -> Rows {
        let mut left = self.certificates.clone();
        for ((holder, serial), row) in self.certificates.range(start..).take(most) {
            if row.is_over(at, self.revoked.contains_key(serial)) {
                left.remove(&(holder.clone(), serial.clone()));
            }
        }
        left
    }
}

pub(crate) fn record(
    state: &mut ClusterState,
    context: &Context,
    command: &RecordCertificate,
) -> Result<Change, Refusal> {
    let RecordCertificate { holder, serial, .. } = command;
    let key = (holder.clone(), serial.clone());
    if state.certificates.contains_key(&key) {
        return Ok(Change::none(Outcome::Done));
    }
    sound(command)?;
    known_holder(state, command)?;
    may_have(state, context, command)?;
    let mut rows = room(state, context, holder)?;
    if let Principal::Person(name) = holder {
        person::admit(state, context, (&person_name(name)?, command))?;
    }
    let renewal = match &command.occasion {
        Occasion::Renewed { serial: old, .. } => {
            if let Some(row) = rows.get_mut(&(holder.clone(), old.clone())) {
                row.successor = Some(serial.clone());
            }
            true
        }
        Occasion::Local | Occasion::Joined | Occasion::Invited(_) => false,
    };
    let RecordCertificate { role, key_hash, issued, expires, .. } = command.clone();
    let row = Certificate { role, key_hash, issued, expires, renewal, successor: None };
    rows.insert(key, row);
    state.certificates = rows;
    let action = if renewal { "certificate.renew" } else { "certificate.issue" };
    Ok(Change::new(action, Outcome::Done)
        .object(&subject(holder, role), &hex(serial))
        .detail(format!("good until {expires}"))
        .event(EventKind::CertificateIssued(serial.clone())))
}

/// Refuses what no coordinator would issue.
fn sound(command: &RecordCertificate) -> Result<(), Refusal> {
    let wrong = |message: String| Err(Refusal::new(RefusalCode::InvalidSpec, message));
    let RecordCertificate { holder, role, serial, issued, expires, .. } = command;
    if serial.is_empty() || serial.len() > Limits::SERIAL_BYTES {
        return wrong(format!("a certificate's serial has 1 to {} bytes", Limits::SERIAL_BYTES));
    }
    if expires <= issued {
        return wrong("a certificate ends after it begins".to_owned());
    }
    if role.is_some() != matches!(holder, Principal::Person(_)) {
        return wrong("people have a role, and nobody else".to_owned());
    }
    Ok(())
}

fn known_holder(state: &ClusterState, command: &RecordCertificate) -> Result<(), Refusal> {
    match &command.holder {
        Principal::Node(id) => match state.nodes.get(id) {
            None => Err(node::missing(*id)),
            Some(node) if node.availability == Availability::Retired => {
                let message = format!("node {} is retired and never comes back", node.name);
                Err(Refusal::new(RefusalCode::CertificateRevoked, message))
            }
            Some(_) => Ok(()),
        },
        Principal::Person(name) => person_name(name).map(drop),
        Principal::Coordinator(_) => Ok(()),
    }
}

/// Decides whether the holder may have a certificate on this occasion: the edge looked at its own
/// copy of the state, which may be behind.
fn may_have(
    state: &ClusterState,
    context: &Context,
    command: &RecordCertificate,
) -> Result<(), Refusal> {
    let RecordCertificate { holder, key_hash, .. } = command;
    let revoked = || {
        let message = format!("the certificate of {} was revoked", subject(holder, command.role));
        Refusal::new(RefusalCode::CertificateRevoked, message)
    };
    let same_key = state.certificates_of(holder).filter(|(_, row)| row.key_hash == *key_hash);
    if same_key.into_iter().any(|(serial, _)| state.revoked.contains_key(serial)) {
        return Err(revoked());
    }
    match &command.occasion {
        Occasion::Local | Occasion::Joined => Ok(()),
        Occasion::Invited(token) => {
            let invitation = state.invitations.get(token);
            let spent = invitation.and_then(|invitation| invitation.spent);
            if spent == Some(*key_hash) { Ok(()) } else { Err(revoked()) }
        }
        Occasion::Renewed { serial, .. } if state.refuses(holder, serial) => Err(revoked()),
        Occasion::Renewed { serial, expires } if *expires <= context.at => {
            newest(state, command, serial)
        }
        Occasion::Renewed { .. } => Ok(()),
    }
}

/// Refuses an expired certificate that was renewed before, by whoever has the newer one: a stolen
/// copy of it must not come back to life. A retry proves the newer one's key. Of a node nothing may
/// be on record where the state is a restored one; of a person then another machine is at stake.
fn newest(state: &ClusterState, command: &RecordCertificate, serial: &[u8]) -> Result<(), Refusal> {
    let RecordCertificate { holder, key_hash, .. } = command;
    let mut rows = state.certificates_of(holder).peekable();
    if rows.peek().is_none() && matches!(holder, Principal::Node(_)) {
        return Ok(());
    }
    let row = |serial: &[u8]| state.certificates.get(&(holder.clone(), serial.to_vec()));
    let newest = match row(serial) {
        Some(Certificate { successor: None, .. }) => true,
        Some(Certificate { successor: Some(successor), .. }) => {
            row(successor).is_some_and(|successor| successor.key_hash == *key_hash)
        }
        None => false,
    };
    if newest {
        return Ok(());
    }
    let subject = subject(holder, command.role);
    let message =
        format!("the certificate of {subject} has expired and is not the newest on record");
    Err(Refusal::new(RefusalCode::CertificateReplaced, message))
}

/// Returns the rows with room for one more of `holder`: without old ones of theirs, of the next few
/// in order, and of everybody where it is tight.
fn room(state: &ClusterState, context: &Context, holder: &Principal) -> Result<Rows, Refusal> {
    let full = |message: String| Err(Refusal::new(RefusalCode::LimitReached, message));
    let few = Limits::CERTIFICATES_PER_HOLDER + SWEEP;
    let mut rows = state.without_old((holder.clone(), Vec::new()), (context.at, few));
    if rows.len() >= Limits::CERTIFICATES
        && let Some((first, _)) = state.certificates.get_min()
    {
        rows = state.without_old(first.clone(), (context.at, usize::MAX));
    }
    if rows.len() >= Limits::CERTIFICATES {
        return full(format!("{} certificates are on record, the limit", Limits::CERTIFICATES));
    }
    let own = rows.range((holder.clone(), Vec::new())..).take_while(|((of, _), _)| of == holder);
    match own.count() {
        held if held >= Limits::CERTIFICATES_PER_HOLDER => {
            let name = subject(holder, None);
            full(format!("{name} has {held} certificates on record, the limit"))
        }
        _ => Ok(rows),
    }
}

fn person_name(text: &str) -> Result<PersonName, Refusal> {
    text.parse().map_err(|error: warren_common::name::InvalidName| {
        Refusal::new(RefusalCode::InvalidSpec, error.to_string())
    })
}

/// Returns whose a certificate is as certificates spell it: `person/admin/ada`.
pub fn subject(holder: &Principal, role: Option<Role>) -> String {
    match (holder, role) {
        (Principal::Person(name), Some(role)) => format!("person/{role}/{name}"),
        (Principal::Person(name), None) => format!("person/{name}"),
        (Principal::Node(id), _) => format!("node/{id}"),
        (Principal::Coordinator(id), _) => format!("coordinator/{id}"),
    }
}

/// Returns a serial in lower-case hex.
pub fn hex(serial: &[u8]) -> String {
    serial.iter().map(|byte| format!("{byte:02x}")).collect()
}
