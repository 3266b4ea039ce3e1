//! Mutations of the cluster as a whole: its making and its deny-list.

use warren_common::{Limits, Timestamp};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{InitCluster, RevokeCertificate},
    event::EventKind,
    state::{ClusterInfo, ClusterState},
};

pub(crate) fn init(
    state: &mut ClusterState,
    context: &Context,
    command: &InitCluster,
) -> Result<Change, Refusal> {
    if let Some(cluster) = &state.cluster {
        let message = format!("cluster {} was initialised before", cluster.name);
        return Err(Refusal::new(RefusalCode::AlreadyInitialised, message));
    }
    line("the cluster's name", &command.name, Limits::LABEL_BYTES)?;
    state.cluster = Some(ClusterInfo {
        id: command.cluster,
        name: command.name.clone(),
        incarnation: command.incarnation,
        created: context.at,
    });
    Ok(Change::new("cluster.init", Outcome::Done)
        .object(&command.name, &command.cluster)
        .detail(format!("incarnation {}", command.incarnation))
        .event(EventKind::ClusterInitialised))
}

pub(crate) fn revoke(
    state: &mut ClusterState,
    context: &Context,
    command: &RevokeCertificate,
) -> Result<Change, Refusal> {
    let RevokeCertificate { serial, subject, expires } = command;
    line("the certificate's subject", subject, Limits::REASON_BYTES)?;
    if serial.is_empty() || serial.len() > Limits::SERIAL_BYTES {
        let message = format!("a certificate's serial has 1 to {} bytes", Limits::SERIAL_BYTES);
        return Err(Refusal::new(RefusalCode::InvalidSpec, message));
    }
    if state.revoked.contains_key(serial) {
        return Ok(Change::none(Outcome::Done));
    }
    deny(state, context, [(serial.clone(), *expires)])?;
    let hex: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Change::new("certificate.revoke", Outcome::Done)
        .object(subject, &hex)
        .event(EventKind::CertificateRevoked(serial.clone())))
}

/// Puts serials on the deny-list, and drops those whose certificates could not be renewed any more.
pub(crate) fn deny(
    state: &mut ClusterState,
    context: &Context,
    serials: impl IntoIterator<Item = (Vec<u8>, Timestamp)>,
) -> Result<(), Refusal> {
    let usable = |expires: &Timestamp| expires.plus(Limits::RENEWAL_GRACE) > context.at;
    let live = state.revoked.iter().filter(|(_, expires)| usable(expires));
    let mut live: imbl::OrdMap<_, _> = live.map(|(serial, at)| (serial.clone(), *at)).collect();
    live.extend(serials);
    if live.len() > Limits::REVOKED {
        let message = format!("{} certificates are revoked, the limit", Limits::REVOKED);
        return Err(Refusal::new(RefusalCode::LimitReached, message));
    }
    state.revoked = live;
    Ok(())
}

/// Refuses a text that is empty, too long or holds control characters.
pub(crate) fn line(field: &str, text: &str, limit: usize) -> Result<(), Refusal> {
    let wrong = if text.trim().is_empty() {
        "is empty".to_owned()
    } else if text.len() > limit {
        format!("has {} bytes, the limit is {limit}", text.len())
    } else if text.chars().any(char::is_control) {
        "holds a control character".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal::new(RefusalCode::InvalidSpec, format!("{field} {wrong}")))
}
