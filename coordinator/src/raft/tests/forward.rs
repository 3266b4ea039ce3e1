//! Calls through a coordinator that does not lead: to a leader that falls silent, and for callers
//! whose certificate was taken away.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use warren_common::{ReplicaId, Role, Timestamp, TokenId};
use warren_model::{
    Command, Envelope, Principal,
    command::{EnrolPerson, InvitePerson, RevokeCertificate, RevokePerson},
};

use super::{
    PATIENCE, apply, apply_anywhere, create_client, envelope, has_client, init_cluster,
    node::{Node, grouped, handles, leader, speaking_as, three},
};
use crate::{
    raft::{Connect, Consensus, LedError, ProposeError},
    sync::locked,
};

/// Three, of which the third reaches one of the others, once it is told which, where nobody answers.
struct Silenced {
    nodes: BTreeMap<u64, Node>,
    leading: u64,
    next: ReplicaId,
    hole: TcpListener,
}

const ASKING: u64 = 3;

impl Silenced {
    async fn begin() -> Self {
        let hole = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let nowhere = hole.local_addr().expect("bound").to_string();
        let silent = Arc::new(Mutex::new(None));
        let (told, real) = (silent.clone(), speaking_as(ASKING));
        let connect: Connect = Arc::new(move |replica, address| {
            let silent = *locked(&told) == Some(replica);
            real(replica, if silent { &nowhere } else { address })
        });
        let mut nodes = BTreeMap::new();
        for replica in 1..ASKING {
            nodes.insert(replica, Node::blank(replica).await);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        nodes.insert(ASKING, Node::start_with(connect, ASKING, folder, listener).await);
        let nodes = grouped(nodes).await;
        apply_anywhere(&handles(&nodes), &init_cluster()).await;
        let mut leading = leader(&nodes).await;
        if leading == ASKING {
            nodes[&leading].consensus.transfer_to(ReplicaId(1)).await.expect("it takes over");
            leading = 1;
            nodes[&leading].until("it leads", |known| known.leading).await;
        }
        let leads = Some(ReplicaId(leading));
        nodes[&ASKING].until("it knows", |known| known.leader == leads).await;
        *locked(&silent) = leads;
        let next = ReplicaId(if leading == 1 { 2 } else { 1 });
        Self { nodes, leading, next, hole }
    }

    fn asking(&self) -> Consensus {
        self.nodes[&ASKING].consensus.clone()
    }

    fn leader(&self) -> &Consensus {
        &self.nodes[&self.leading].consensus
    }

    /// Waits until a call is on its way to where nobody answers; it stays so while this is held.
    async fn asked(&self) -> TcpStream {
        let asked = timeout(PATIENCE, self.hole.accept()).await;
        asked.expect("it is asked in time").expect("accepted").0
    }

    async fn hand_over(&self) {
        self.leader().transfer_to(self.next).await.expect("it takes over");
    }

    async fn end(self) {
        for node in self.nodes.into_values() {
            node.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_a_silent_leader_go_to_its_successor_once_there_is_one() {
    let group = Silenced::begin().await;
    let asking = group.asking();
    let write = tokio::spawn(async move { asking.propose(create_client("acme")).await });
    let held = group.asked().await;
    group.hand_over().await;
    let written = write.await.expect("no panic").expect("the successor answers");
    written.expect("the state allows it");
    assert!(has_client(&group.asking().local(), "acme"));
    drop(held);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_a_silent_leader_goes_to_its_successor_once_there_is_one() {
    let group = Silenced::begin().await;
    apply(group.leader(), create_client("acme")).await;
    let asking = group.asking();
    let read = tokio::spawn(async move { asking.linearizable().await });
    let held = group.asked().await;
    group.hand_over().await;
    let state = read.await.expect("no panic").expect("the successor answers");
    assert!(has_client(&state, "acme"));
    drop(held);
    group.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_says_that_nothing_happened_after_an_attempt_was_lost() {
    let group = Silenced::begin().await;
    let asking = group.asking();
    let write = tokio::spawn(async move {
        let envelope = create_client("acme");
        asking.propose_for(&envelope, &[9]).await
    });
    let held = group.asked().await;
    let revoke = RevokeCertificate {
        serial: vec![9],
        subject: "tester".to_owned(),
        expires: Timestamp(u64::MAX),
    };
    apply(group.leader(), envelope(Command::RevokeCertificate(revoke))).await;
    group.hand_over().await;
    let written = write.await.expect("no panic");
    assert_eq!(written, Err(ProposeError::Unknown), "the first attempt may have been heard");
    let written = group.asking().propose_for(&create_client("later"), &[9]).await;
    assert_eq!(written, Err(ProposeError::Revoked), "this one was not");
    drop(held);
    group.end().await;
}

/// Lets a person in and takes them out again.
async fn in_and_out(replicas: &[&Consensus], name: &str) {
    let token = TokenId::new(uuid::Uuid::now_v7());
    let invite = InvitePerson {
        token,
        secret_hash: [7; 32],
        name: name.parse().expect("a valid name"),
        role: Role::Admin,
        expires: Timestamp(init_cluster().at.0 + 60_000),
    };
    let revoked = RevokePerson { name: invite.name.clone() };
    let enrol = EnrolPerson { token, secret_hash: [7; 32], key_hash: [8; 32] };
    let by = Principal::Coordinator(ReplicaId(1));
    let enrol = Envelope { principal: by, ..envelope(Command::EnrolPerson(enrol)) };
    let (invite, revoke) = (Command::InvitePerson(invite), Command::RevokePerson(revoked));
    for step in [envelope(invite), enrol, envelope(revoke)] {
        apply_anywhere(replicas, &step).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_refuses_whoever_the_edge_would_refuse() {
    let nodes = three().await;
    apply_anywhere(&handles(&nodes), &init_cluster()).await;
    in_and_out(&handles(&nodes), "mallory").await;
    let leading = leader(&nodes).await;
    // no deny-list has this serial: it is the person who is out
    let by_mallory = |name| Envelope {
        principal: Principal::Person("mallory".to_owned()),
        ..create_client(name)
    };
    for node in nodes.values() {
        let written = node.consensus.propose_for(&by_mallory("acme"), &[5]).await;
        assert_eq!(written, Err(ProposeError::Revoked));
    }
    let leader = &nodes[&leading].consensus;
    let led = leader.led().expect("it leads");
    let written = leader.propose_led(&led, by_mallory("acme"), &[5]).await;
    assert_eq!(written, Err(LedError::Propose(ProposeError::Revoked)));
    let written = leader.propose_for(&create_client("acme"), &[5]).await;
    written.expect("a majority").expect("anybody else may");
    for node in nodes.into_values() {
        node.stop().await;
    }
}
