//! Certificates of others that end soon: each should have renewed itself long before.

use warren_common::Timestamp;
use warren_proto::pb::admin::v1 as pb;

use super::faults_or;
use crate::{
    command::doctor::{
        facts::{Answer, Facts},
        finding::{Check, Finding},
    },
    render::time::{rfc3339_seconds, spell},
};

const PART: &str = "certificates";

/// Whose they are, what the check is called, and how one is renewed.
const KINDS: [(pb::CertificateHolder, Check, &str); 3] = [
    (
        pb::CertificateHolder::Coordinator,
        Check::new(PART, "CERTIFICATE_COORDINATORS"),
        "see its log for why it did not renew itself; stopped: warren-coordinator renew-certs",
    ),
    (
        pb::CertificateHolder::Node,
        Check::new(PART, "CERTIFICATE_NODES"),
        "start its agent where it is off: it renews itself, for five years after the end too",
    ),
    (
        pb::CertificateHolder::Person,
        Check::new(PART, "CERTIFICATE_PEOPLE"),
        "any command of theirs renews it; whoever is not needed: warren user revoke NAME",
    ),
];

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    // the newest state has seen every renewal
    let told = facts.answering().max_by_key(|(_, one)| one.said.audit_sequence);
    let Some((_, answer)) = told else {
        let unseen = |(_, check, _): (_, Check, _)| check.not_looked("no coordinator answers");
        return KINDS.map(unseen).to_vec();
    };
    KINDS.iter().flat_map(|(kind, check, fix)| one_kind(answer, (*kind, *check, fix))).collect()
}

fn one_kind(
    answer: &Answer,
    (kind, check, fix): (pb::CertificateHolder, Check, &str),
) -> Vec<Finding> {
    let said = &answer.said;
    if kind == pb::CertificateHolder::Person && !said.people_told {
        return vec![check.not_looked("it takes the role admin or auditor")];
    }
    if kind == pb::CertificateHolder::Coordinator && said.coordinator_holders == 0 {
        return vec![check.not_looked("no certificate of a coordinator is on record yet")];
    }
    let now = Timestamp(said.now_unix_ms);
    let fault = |due: &pb::CertificateDue| {
        let end = Timestamp(due.expires_unix_ms);
        let (left, at) = (end.since(now), rfc3339_seconds(end));
        let finding = match left.is_zero() {
            // people's are renewed by their next command, and nothing fails before that
            true if kind != pb::CertificateHolder::Person => check.error(format!("ended at {at}")),
            true => check.warning(format!("ended at {at}")),
            false => check.warning(format!("ends in {} ({at})", spell(left))),
        };
        let subject = match kind {
            pb::CertificateHolder::Coordinator => format!("coordinator {}", due.name),
            _ => due.name.clone(),
        };
        finding.about(subject).fix(fix)
    };
    let due = said.certificates.iter().filter(|due| due.kind() == kind);
    faults_or(due.map(fault).collect(), || check.ok("none ends within 30 days"))
}
