//! Certificates that end soon: of each holder who belongs to the cluster, the newest good one.

use std::collections::BTreeMap;

use warren_common::{Limits, PersonName, Timestamp};
use warren_daemon::identity::Role;
use warren_model::{ClusterState, Principal, command::Availability};
use warren_proto::pb::admin::v1 as pb;

use super::view::count;

/// Whether somebody of this role may know the people.
pub(super) const fn may_know_people(role: Option<Role>) -> bool {
    matches!(role, Some(Role::Admin | Role::Auditor))
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Soonest first, of each kind at most [`Limits::PAGE`].
    pub(super) rows: Vec<pb::CertificateDue>,
    /// How many holders were looked at.
    pub(super) holders: u32,
    /// How many of them are coordinators.
    pub(super) coordinators: u32,
}

/// Returns those that end within [`Limits::CERTIFICATE_DUE`]; with those of people where `people`.
pub(super) fn due(state: &ClusterState, people: bool, now: Timestamp) -> Due {
    let mut newest: BTreeMap<&Principal, Timestamp> = BTreeMap::new();
    for ((holder, serial), row) in &state.certificates {
        let told = people || !matches!(holder, Principal::Person(_));
        if told && belongs(state, holder) && !state.revoked.contains_key(serial) {
            let end = newest.entry(holder).or_insert(row.expires);
            *end = (*end).max(row.expires);
        }
    }
    let holders = count(newest.len());
    let is_coordinator = |holder: &&&Principal| matches!(holder, Principal::Coordinator(_));
    let coordinators = count(newest.keys().filter(is_coordinator).count());
    let soon = now.plus(Limits::CERTIFICATE_DUE);
    let mut due: Vec<(Timestamp, &Principal)> =
        newest.into_iter().filter(|(_, end)| *end < soon).map(|(who, end)| (end, who)).collect();
    due.sort();
    // a kind with very many must not push another out
    let mut told: BTreeMap<i32, usize> = BTreeMap::new();
    let rows = due.into_iter().map(|(end, holder)| show(state, holder, end));
    let few = |row: &pb::CertificateDue| {
        let told = told.entry(row.kind).or_default();
        *told += 1;
        *told <= Limits::PAGE
    };
    Due { rows: rows.filter(few).collect(), holders, coordinators }
}

/// Whether somebody is still let in.
fn belongs(state: &ClusterState, holder: &Principal) -> bool {
    match holder {
        Principal::Coordinator(replica) => state.replicas.contains_key(replica),
        Principal::Node(id) => {
            state.nodes.get(id).is_some_and(|node| node.availability != Availability::Retired)
        }
        Principal::Person(name) => {
            let name = name.parse::<PersonName>().ok();
            let person = name.and_then(|name| state.people.get(&name));
            person.is_none_or(|person| person.revoked.is_none())
        }
    }
}

fn show(state: &ClusterState, holder: &Principal, expires: Timestamp) -> pb::CertificateDue {
    let (kind, name) = match holder {
        Principal::Coordinator(id) => (pb::CertificateHolder::Coordinator, id.to_string()),
        Principal::Node(id) => (pb::CertificateHolder::Node, state.node_label(*id)),
        Principal::Person(name) => (pb::CertificateHolder::Person, name.clone()),
    };
    pb::CertificateDue { kind: kind.into(), name, expires_unix_ms: expires.0 }
}

#[cfg(test)]
mod tests {
    use warren_common::ReplicaId;
    use warren_model::state::{Certificate, Replica};

    use super::*;

    const DAY: u64 = 24 * 3600 * 1000;

    fn state(rows: &[(Principal, u8, u64)]) -> ClusterState {
        let mut state = ClusterState::default();
        let known = Replica { api_address: String::new(), raft_address: String::new() };
        state.replicas.insert(ReplicaId(1), known);
        for (holder, serial, days) in rows {
            let row = Certificate {
                role: None,
                key_hash: [0; 32],
                issued: Timestamp(0),
                expires: Timestamp(days * DAY),
                renewal: false,
                successor: None,
            };
            state.certificates.insert((holder.clone(), vec![*serial]), row);
        }
        state
    }

    #[test]
    fn the_newest_good_one_of_each_holder_counts() {
        let (one, other) = (ReplicaId(1), ReplicaId(2));
        let person = |name: &str| Principal::Person(name.to_owned());
        let mut state = state(&[
            (Principal::Coordinator(one), 1, 5),
            (Principal::Coordinator(one), 2, 20),
            // revoked, or of somebody who left
            (Principal::Coordinator(one), 3, 90),
            (Principal::Coordinator(other), 4, 1),
            (person("ann"), 5, 10),
            (person("bob"), 6, 31),
        ]);
        state.revoked.insert(vec![3], Timestamp(90 * DAY));
        let names = |role| {
            let Due { rows, holders, coordinators } =
                due(&state, may_know_people(role), Timestamp(0));
            assert_eq!(coordinators, 1);
            let rows: Vec<_> =
                rows.into_iter().map(|one| (one.name, one.expires_unix_ms / DAY)).collect();
            (rows, holders)
        };
        let all = vec![("ann".to_owned(), 10), ("1".to_owned(), 20)];
        assert_eq!(names(Some(Role::Admin)), (all.clone(), 3));
        assert_eq!(names(Some(Role::Viewer)), (all[1..].to_vec(), 1));
    }

    #[test]
    fn many_people_do_not_push_a_coordinator_out() {
        let names: Vec<Principal> =
            (0..=Limits::PAGE).map(|n| Principal::Person(format!("p{n}"))).collect();
        let mut rows: Vec<(Principal, u8, u64)> =
            names.into_iter().map(|person| (person, 1, 1)).collect();
        rows.push((Principal::Coordinator(ReplicaId(1)), 2, 20));
        let found = due(&state(&rows), true, Timestamp(0));
        assert_eq!(found.rows.len(), Limits::PAGE + 1);
        let last = found.rows.last().expect("there are many");
        assert_eq!(last.kind(), pb::CertificateHolder::Coordinator);
    }
}
