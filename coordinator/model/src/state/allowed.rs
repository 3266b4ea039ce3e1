//! What a client's workspaces may reach although it is closed to others.
//!
//! The nodes enforce it; here it is decided, bounded and recorded. A change of nothing says that
//! somebody has looked at what a restored cluster allows, and that it is to stay.

use std::collections::BTreeSet;

use warren_common::{Limits, spec::Destination};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::ChangeAllowed,
    event::EventKind,
    state::{Client, ClusterState},
};

pub(crate) fn change(
    state: &mut ClusterState,
    context: &Context,
    command: &ChangeAllowed,
) -> Result<Change, Refusal> {
    let ChangeAllowed { client: id, allow, disallow } = command;
    let Some(client) = state.clients.get(id) else {
        return Err(Refusal::new(RefusalCode::NotFound, format!("there is no client {id}")));
    };
    let name = client.name.clone();
    context.unchanged_since(client.revision, || format!("client {name}"))?;
    let before = state.allowed.get(id).cloned().unwrap_or_default();
    check(&name, &before, command)?;
    let mut after: BTreeSet<Destination> = before.difference(disallow).copied().collect();
    after.extend(allow);
    if after.len() > Limits::ALLOWED {
        let message = format!(
            "client {name} would be allowed {}, the limit is {}",
            after.len(),
            Limits::ALLOWED
        );
        return Err(Refusal::new(RefusalCode::LimitReached, message));
    }
    let reviewed = allow.is_empty() && disallow.is_empty() && state.unreviewed.contains(id);
    if after == before && !reviewed {
        return Ok(Change::none(Outcome::Client(*id)));
    }
    let changed = Client { revision: context.revision, ..client.clone() };
    state.clients.insert(*id, changed);
    let (action, detail) = match reviewed {
        true => ("client.review", texts(after.iter())),
        false => recorded(&before, &after),
    };
    if reviewed || after.is_empty() {
        state.unreviewed.remove(id);
    }
    match after.is_empty() {
        true => state.allowed.remove(id),
        false => state.allowed.insert(*id, after),
    };
    Ok(Change::new(action, Outcome::Client(*id))
        .object(&name, id)
        .detail(detail)
        .event(EventKind::ClientUpdated(*id, name)))
}

fn check(
    name: &warren_common::ClientName,
    before: &BTreeSet<Destination>,
    command: &ChangeAllowed,
) -> Result<(), Refusal> {
    let ChangeAllowed { allow, disallow, .. } = command;
    for destination in allow {
        destination
            .allowable()
            .map_err(|error| Refusal::new(RefusalCode::InvalidSpec, error.to_string()))?;
    }
    if let Some(both) = allow.intersection(disallow).next() {
        let message = format!("{both} cannot be both allowed and closed");
        return Err(Refusal::new(RefusalCode::InvalidSpec, message));
    }
    if let Some(missing) = disallow.difference(before).next() {
        let message = format!("client {name} is not allowed {missing}");
        return Err(Refusal::new(RefusalCode::NotFound, message));
    }
    Ok(())
}

/// Returns action and detail of the record: what it opens weighs more than what it closes.
fn recorded(
    before: &BTreeSet<Destination>,
    after: &BTreeSet<Destination>,
) -> (&'static str, String) {
    let opened = texts(after.difference(before));
    let closed = texts(before.difference(after));
    match (opened.is_empty(), closed.is_empty()) {
        (true, _) => ("client.disallow", closed),
        (false, true) => ("client.allow", opened),
        (false, false) => ("client.allow", format!("{opened}; closed: {closed}")),
    }
}

fn texts<'a>(some: impl Iterator<Item = &'a Destination>) -> String {
    some.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
