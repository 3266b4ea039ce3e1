//! Who is let in, with which certificate, and how they are put out.

use std::time::Duration;

use warren_common::{Limits, Role, Timestamp};
use warren_model::{
    Command, Principal, Refusal, RefusalCode,
    command::{
        Availability, EnrolPerson, InvitePerson, Occasion, RecordCertificate, RevokeCertificate,
        RevokePerson, SetNodeAvailability,
    },
};

use crate::make::{World, coordinator, facts, node, token};

const DAY: u64 = 24 * 3600 * 1000;

fn ada() -> Principal {
    Principal::Person("ada".to_owned())
}

fn invite(world: &World, n: u8, role: Role) -> Command {
    Command::InvitePerson(InvitePerson {
        token: token(n),
        secret_hash: [n; 32],
        name: "ada".parse().expect("a name"),
        role,
        expires: Timestamp(world.now.0 + 900_000),
    })
}

fn enrol(n: u8, key: u8) -> Command {
    let (token, secret_hash) = (token(n), [n; 32]);
    Command::EnrolPerson(EnrolPerson { token, secret_hash, key_hash: [key; 32] })
}

fn revoke() -> Command {
    Command::RevokePerson(RevokePerson { name: "ada".parse().expect("a name") })
}

/// A certificate of 90 days with this number as serial and key.
fn certificate(world: &World, n: u8, occasion: Occasion) -> RecordCertificate {
    RecordCertificate {
        holder: ada(),
        role: Some(Role::Operator),
        serial: vec![n],
        key_hash: [n; 32],
        issued: world.now,
        expires: Timestamp(world.now.0 + 90 * DAY),
        occasion,
    }
}

impl World {
    /// As a coordinator, which is what these commands come from.
    fn tell(&mut self, command: Command) -> Result<(), Refusal> {
        let envelope = self.envelope(coordinator(), command);
        self.apply(&envelope).result.map(drop)
    }

    fn record(&mut self, certificate: RecordCertificate) -> Result<(), Refusal> {
        self.tell(Command::RecordCertificate(Box::new(certificate)))
    }

    fn renew(&mut self, n: u8, old: u8) -> Result<(), Refusal> {
        let row = self.state.certificates.get(&(ada(), vec![old]));
        let expires = row.map_or(Timestamp(0), |row| row.expires);
        let occasion = Occasion::Renewed { serial: vec![old], expires };
        self.record(certificate(self, n, occasion))
    }

    fn serials(&self) -> Vec<u8> {
        self.state.certificates_of(&ada()).map(|(serial, _)| serial[0]).collect()
    }
}

/// Ada, an operator, with certificate 1.
fn with_ada() -> World {
    let mut world = World::new();
    world.must(invite(&world, 1, Role::Operator));
    world.tell(enrol(1, 1)).expect("let in");
    world.record(certificate(&world, 1, Occasion::Invited(token(1)))).expect("recorded");
    world
}

fn code(result: Result<(), Refusal>) -> RefusalCode {
    result.expect_err("refused").code
}

#[test]
fn an_invitation_is_good_once_for_its_key_and_in_time() {
    let mut world = World::new();
    world.must(invite(&world, 1, Role::Viewer));
    let wrong = EnrolPerson { token: token(1), secret_hash: [9; 32], key_hash: [1; 32] };
    assert_eq!(code(world.tell(Command::EnrolPerson(wrong))), RefusalCode::TokenInvalid);
    assert_eq!(code(world.tell(enrol(2, 1))), RefusalCode::TokenInvalid);
    let mut late = world.clone();
    late.wait(900_001);
    assert_eq!(code(late.tell(enrol(1, 1))), RefusalCode::TokenExpired);
    assert!(world.state.people.is_empty(), "nobody is in before it is spent");
    world.tell(enrol(1, 1)).expect("let in");
    let revision = world.state.revision;
    world.tell(enrol(1, 1)).expect("a retry");
    assert_eq!(world.state.revision, revision, "nothing happened");
    assert_eq!(code(world.tell(enrol(1, 2))), RefusalCode::TokenUsed);
    let person = world.state.people.values().next().expect("she is in");
    assert_eq!((person.role, person.revoked), (Role::Viewer, None));
}

#[test]
fn a_name_has_one_role_and_may_have_several_machines() {
    let mut world = with_ada();
    assert_eq!(world.refused(invite(&world, 2, Role::Admin)).code, RefusalCode::NameTaken);
    world.must(invite(&world, 2, Role::Operator));
    world.tell(enrol(2, 2)).expect("a second machine");
    world.record(certificate(&world, 2, Occasion::Invited(token(2)))).expect("recorded");
    assert_eq!(world.serials(), [1, 2]);
    // two invitations at once, of which the other one won
    world.must(revoke());
    world.must(invite(&world, 3, Role::Viewer));
    world.must(invite(&world, 4, Role::Auditor));
    world.tell(enrol(4, 4)).expect("let in");
    assert_eq!(code(world.tell(enrol(3, 3))), RefusalCode::NameTaken);
}

#[test]
fn only_coordinators_let_in_and_nodes_invite_nobody() {
    let mut world = World::with_nodes(&[warren_common::Bytes::gib(8)]);
    let record = certificate(&world, 1, Occasion::Local);
    let record = Command::RecordCertificate(Box::new(record));
    let invite = invite(&world, 1, Role::Admin);
    for (principal, command) in [
        (ada(), enrol(1, 1)),
        (ada(), record.clone()),
        (Principal::Node(node(1)), record),
        (Principal::Node(node(1)), invite),
        (Principal::Node(node(1)), revoke()),
    ] {
        let envelope = world.envelope(principal, command);
        let refusal = world.apply(&envelope).result.expect_err("refused");
        assert_eq!(refusal.code, RefusalCode::NotAllowed, "{envelope:?}");
    }
}

#[test]
fn who_is_revoked_is_out_with_everything_until_invited_again() {
    let mut world = with_ada();
    world.renew(2, 1).expect("renewed");
    world.must(invite(&world, 2, Role::Operator));
    world.must(revoke());
    assert!(world.state.refuses(&ada(), &[1]) && world.state.refuses(&ada(), &[2]));
    assert!(world.state.refuses(&ada(), &[99]), "one that is not on record too");
    assert!(!world.state.refuses(&Principal::Person("bob".to_owned()), &[99]));
    assert_eq!(code(world.renew(3, 2)), RefusalCode::CertificateRevoked);
    assert_eq!(code(world.tell(enrol(2, 3))), RefusalCode::TokenInvalid, "dropped with her");
    let before = world.state.revision;
    world.must(revoke());
    assert_eq!(world.state.revision, before, "she is out already");

    world.must(invite(&world, 3, Role::Viewer));
    world.tell(enrol(3, 7)).expect("let in again");
    let again = RecordCertificate {
        role: Some(Role::Viewer),
        ..certificate(&world, 7, Occasion::Invited(token(3)))
    };
    world.record(again).expect("recorded");
    assert!(!world.state.refuses(&ada(), &[7]));
    for old in [1, 2, 99] {
        assert!(world.state.refuses(&ada(), &[old]), "{old} stays dead");
    }
    assert_eq!(code(world.renew(8, 99)), RefusalCode::CertificateRevoked);
}

#[test]
fn a_certificate_that_was_on_its_way_when_its_holder_was_revoked_is_not_given() {
    let mut world = World::new();
    world.must(invite(&world, 1, Role::Operator));
    world.tell(enrol(1, 1)).expect("let in");
    world.must(revoke());
    let issued = certificate(&world, 1, Occasion::Invited(token(1)));
    assert_eq!(code(world.record(issued)), RefusalCode::CertificateRevoked);
    assert!(world.state.certificates.is_empty());
}

#[test]
fn the_key_of_a_revoked_certificate_gets_no_other_one() {
    let mut world = with_ada();
    let (serial, subject) = (vec![1], "person/operator/ada".to_owned());
    let expires = Timestamp(world.now.0 + 90 * DAY);
    world.must(Command::RevokeCertificate(RevokeCertificate { serial, subject, expires }));
    world.tell(enrol(1, 1)).expect("the same key again, within its minutes");
    let again = RecordCertificate {
        serial: vec![2],
        ..certificate(&world, 1, Occasion::Invited(token(1)))
    };
    assert_eq!(code(world.record(again)), RefusalCode::CertificateRevoked);
    assert_eq!(code(world.renew(3, 1)), RefusalCode::CertificateRevoked);
}

#[test]
fn an_expired_certificate_renews_unless_it_was_renewed_before() {
    let mut world = with_ada();
    world.wait(400 * DAY);
    world.renew(2, 1).expect("a year later");
    let retry = RecordCertificate {
        key_hash: [2; 32],
        ..certificate(
            &world,
            3,
            Occasion::Renewed { serial: vec![1], expires: Timestamp(world.now.0 - 310 * DAY) },
        )
    };
    world.record(retry).expect("the answer was lost: the same key asks again");
    assert_eq!(world.renew(4, 1).map_err(|r| r.code), Err(RefusalCode::CertificateReplaced));
    world.renew(5, 3).expect("the newest one goes on");
    assert!(
        !world.serials().contains(&1),
        "what can do nothing any more goes: {:?}",
        world.serials()
    );
    assert_eq!(code(world.renew(6, 1)), RefusalCode::CertificateReplaced, "and stays dead");
}

#[test]
fn a_holder_who_is_not_on_record_renews_in_time_and_is_on_record_then() {
    // as after a restore from a backup that is older than the certificate
    let mut world = World::new();
    let renewed = |expires| Occasion::Renewed { serial: vec![1], expires };
    let late = certificate(&world, 2, renewed(world.now));
    assert_eq!(code(world.record(late)), RefusalCode::CertificateReplaced);
    let in_time = certificate(&world, 2, renewed(Timestamp(world.now.0 + 1)));
    world.record(in_time).expect("renewed");
    assert_eq!(world.state.people.len(), 1);
    assert_eq!(world.serials(), [2]);
    world.add_node(1, facts(warren_common::Bytes::gib(8), 1));
    let node = RecordCertificate {
        holder: Principal::Node(node(1)),
        role: None,
        ..certificate(&world, 3, renewed(world.now))
    };
    world.record(node).expect("a node has one machine");
}

#[test]
fn a_retired_node_and_one_that_is_unknown_get_none() {
    let mut world = World::new();
    world.add_node(1, facts(warren_common::Bytes::gib(8), 1));
    let of = |world: &World, n: u8| RecordCertificate {
        holder: Principal::Node(node(n)),
        role: None,
        ..certificate(world, n, Occasion::Joined)
    };
    world.record(of(&world, 1)).expect("recorded");
    assert_eq!(code(world.record(of(&world, 2))), RefusalCode::NotFound);
    let availability = Availability::Retired;
    world.must(Command::SetNodeAvailability(SetNodeAvailability { node: node(1), availability }));
    let another = RecordCertificate { serial: vec![9], ..of(&world, 1) };
    assert_eq!(code(world.record(another)), RefusalCode::CertificateRevoked);
}

#[test]
fn the_record_is_bounded_and_swept() {
    let mut world = with_ada();
    let month = Duration::from_secs(30 * 24 * 3600);
    for n in 2..120 {
        world.wait(u64::try_from(month.as_millis()).expect("fits"));
        world.renew(n, n - 1).expect("renewed");
        assert!(world.serials().len() <= 4, "{:?}", world.serials());
    }
    let mut world = with_ada();
    for n in 2..=Limits::CERTIFICATES_PER_HOLDER {
        world.renew(u8::try_from(n).expect("few"), 1).expect("renewed");
    }
    assert_eq!(code(world.renew(200, 1)), RefusalCode::LimitReached);
}
