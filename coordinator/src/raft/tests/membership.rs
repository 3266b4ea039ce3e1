//! The group changes while it works, and nobody speaks for another.

use tonic::Code;
use warren_common::ReplicaId;
use warren_proto::pb::raft::v1 as pb;

use super::{
    apply_anywhere, create_client, init_cluster,
    node::{Node, handles, leader, speaking_as, three},
};
use crate::raft::{
    MembershipError,
    network::{addressed, api},
    types::{Vote, encode},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_takes_a_checkpoint_gets_its_vote_and_the_leader_goes() {
    let mut nodes = three().await;
    apply_anywhere(&handles(&nodes), &init_cluster()).await;
    for count in 0..60 {
        apply_anywhere(&handles(&nodes), &create_client(&format!("c{count}"))).await;
    }
    let first = leader(&nodes).await;
    let leading = nodes[&first].consensus.clone();
    let fourth = Node::blank(4).await;
    let id = ReplicaId(4);
    let absent = leading.promote(id).await;
    assert_eq!(absent, Err(MembershipError::NotAMember(id)), "a learner first");
    for _ in 0..2 {
        leading.add_learner(id, &fourth.address.to_string()).await.expect("added, or there");
    }
    let length = leading.caught_up(id).await.expect("it takes all");
    assert!(length > 60, "{length}");
    let member = |status: crate::raft::Status| {
        status.members.into_iter().find(|member| member.replica == id)
    };
    assert!(!member(leading.status()).expect("there").voter, "no vote before it has the log");
    for _ in 0..2 {
        leading.promote(id).await.expect("promoted, or so before");
    }
    assert!(member(leading.status()).expect("there").voter);
    fourth.sees("c59").await;
    nodes.insert(4, fourth);

    let follower = nodes.keys().copied().find(|id| *id != first).expect("three of them");
    let refused = nodes[&follower].consensus.drop_member(id).await;
    assert!(matches!(refused, Err(MembershipError::NotLeader { .. })), "{refused:?}");
    // the leader goes too, once it has handed over
    let next = ReplicaId(follower);
    leading.transfer_to(next).await.expect("it takes over");
    nodes[&follower].until("it leads", |known| known.leading).await;
    nodes[&follower].consensus.drop_member(ReplicaId(first)).await.expect("dropped");
    let gone = nodes.remove(&first).expect("it is there");
    let second = leader(&nodes).await;
    apply_anywhere(&handles(&nodes), &create_client("after")).await;
    let members = nodes[&second].consensus.status().members;
    assert_eq!(members.iter().filter(|member| member.voter).count(), 3);
    assert!(members.iter().all(|member| member.replica != ReplicaId(first)));
    gone.stop().await;
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinators_certificate_speaks_for_itself_alone() {
    let nodes = three().await;
    apply_anywhere(&handles(&nodes), &init_cluster()).await;
    let leading = leader(&nodes).await;
    let term = nodes[&leading].consensus.status().term;
    let victim = nodes.keys().copied().find(|id| *id != leading).expect("three of them");
    let address = nodes[&victim].address.to_string();
    // it claims to lead, in the name of another, in a later term
    let message = openraft::raft::AppendEntriesRequest::<crate::raft::types::TypeConfig> {
        vote: Vote::new_committed(term + 5, leading),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    let payload = encode(&message).expect("it encodes");
    let ask = async |own: u64| {
        let channel = speaking_as(own)(ReplicaId(victim), &address).expect("a channel");
        let payload = payload.clone().into();
        let request = addressed(ReplicaId(victim), pb::AppendEntriesRequest { payload });
        api(channel).append_entries(request).await
    };
    let forger = nodes.keys().copied().find(|id| ![leading, victim].contains(id));
    let refused = ask(forger.expect("the third")).await.expect_err("not in its name");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert_eq!(nodes[&victim].consensus.status().term, term, "nothing was believed");
    ask(leading).await.expect("the same message from whom it names");
    nodes[&victim].until("it believes it", |known| known.term == term + 5).await;
    for node in nodes.into_values() {
        node.stop().await;
    }
}
