//! What version 0.1 left on disks and sent to other coordinators, read by today's code.

mod commands;
#[path = "../../../../../tests/golden/file.rs"]
mod file;
mod secrets;
mod sessions;

use std::{collections::BTreeMap, fs};

use bytes::Bytes;
use openraft::{
    BasicNode, EntryPayload, Membership,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use warren_common::spec::Failover;
use warren_model::{
    AuditHead, ClusterState, Command, Outcome,
    command::{
        Availability, MakeWorkspace, TemplateCommand, TemplateUpdate, Update, UpdateWorkspace,
        template::{ActivateTemplate, DeleteTemplate, PushTemplate},
    },
    state::{Desired, PhaseKind, Recipe},
};

use self::{
    commands::{client, envelopes, node, spec, token, workspace},
    file::{Strings, golden},
};
use crate::{
    audit::{self, AuditLog},
    raft::{
        checkpoint::Checkpoints,
        types::{
            Entry, LogId, Proposal, SnapshotMeta, StoredMembership, TypeConfig, Vote, decode,
            encode,
        },
    },
};

fn log_id(index: u64) -> LogId {
    LogId::new(*Vote::new_committed(3, 2).leader_id(), index)
}

fn members() -> Membership<u64, BasicNode> {
    let nodes = (1..=3).map(|id| (id, BasicNode::new(format!("vps{id}.example:7401"))));
    let nodes: BTreeMap<u64, BasicNode> = nodes.collect();
    Membership::new(vec![[1, 2].into()], nodes).expect("every voter has a node")
}

fn entry(index: u64, payload: EntryPayload<Proposal, u64, BasicNode>) -> Entry {
    Entry { log_id: log_id(index), payload }
}

/// Returns every entry of the fixture: one per command, then the two kinds openraft makes.
fn entries() -> Vec<(String, Entry)> {
    let commands = (1..).zip(envelopes()).map(|(index, (name, envelope))| {
        (name, entry(index, EntryPayload::Normal(Proposal(envelope.into()))))
    });
    let mut all: Vec<_> = commands.collect();
    let next = all.len() as u64 + 1;
    all.push(("blank".to_owned(), entry(next, EntryPayload::Blank)));
    all.push(("membership".to_owned(), entry(next + 1, EntryPayload::Membership(members()))));
    all
}

/// Checks that what an older version wrote is read as `value`, and still written like that.
fn check<T>(name: &str, kept: &Strings, value: &T)
where
    T: Serialize + DeserializeOwned + std::fmt::Debug,
{
    let bytes = kept.get(name).unwrap_or_else(|| panic!("no {name} in the file"));
    let read: T = decode(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(format!("{read:?}"), format!("{value:?}"), "{name}");
    assert_eq!(&encode(value).expect("it encodes"), bytes, "{name} is written in another way now");
}

fn written<T: Serialize>(name: &str, value: &T) -> (String, Vec<u8>) {
    (name.to_owned(), encode(value).expect("it encodes"))
}

#[test]
fn the_log_of_0_1_is_read_and_still_written_alike() {
    let (vote, committed) = (Vote::new_committed(3, 2), Some(log_id(9)));
    let mut today: Strings =
        entries().iter().map(|(name, entry)| written(&format!("entry {name}"), entry)).collect();
    today.extend([written("slot vote", &vote), written("slot committed", &committed)]);
    today.extend([written("slot purged", &log_id(4))]);
    let kept = golden("v0.1-log.txt", &today);
    assert_eq!(kept.len(), entries().len() + 3, "nothing is skipped");
    for (name, entry) in entries() {
        check(&format!("entry {name}"), &kept, &entry);
    }
    check("slot vote", &kept, &vote);
    check("slot committed", &kept, &committed);
    check("slot purged", &kept, &log_id(4));
}

#[test]
fn the_messages_of_0_1_are_read_and_still_written_alike() {
    let (vote, higher) = (Vote::new_committed(3, 2), Vote::new(4, 1));
    let append: AppendEntriesRequest<TypeConfig> = AppendEntriesRequest {
        vote,
        prev_log_id: Some(log_id(0)),
        entries: entries().into_iter().take(2).map(|(_, entry)| entry).collect(),
        leader_commit: Some(log_id(1)),
    };
    let mut ballot = VoteRequest::<TypeConfig>::new(higher, Some(log_id(2)));
    let transfer = TransferLeaderRequest::<TypeConfig>::new(vote, 3, Some(log_id(2)));
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(30)),
        last_membership: StoredMembership::new(Some(log_id(30)), members()),
    };
    let answers: [AppendEntriesResponse<TypeConfig>; 4] = [
        AppendEntriesResponse::Success,
        AppendEntriesResponse::PartialSuccess(Some(log_id(1))),
        AppendEntriesResponse::Conflict,
        AppendEntriesResponse::HigherVote(higher),
    ];
    let granted = VoteResponse::<TypeConfig>::new(higher, Some(log_id(2)), true);
    let refused: TransferLeaderResponse<TypeConfig> =
        Err(TransferLeaderError::VoteChanged { expected: vote, actual: higher });
    let installed = SnapshotResponse::<TypeConfig>::new(vote);
    let plain = ballot.clone();
    ballot.leadership_transfer = true;
    let today: Strings = [
        written("append request", &append),
        written("append answers", &answers),
        written("vote request", &plain),
        written("vote request of a transfer", &ballot),
        written("vote answer", &granted),
        written("transfer request", &transfer),
        written("transfer answer", &refused),
        written("checkpoint header", &(vote, &meta)),
        written("checkpoint answer", &installed),
    ]
    .into();
    let kept = golden("v0.1-raft.txt", &today);
    assert_eq!(kept.len(), today.len(), "nothing is skipped");
    check("append request", &kept, &append);
    check("append answers", &kept, &answers);
    check("vote request", &kept, &plain);
    check("vote request of a transfer", &kept, &ballot);
    check("vote answer", &kept, &granted);
    check("transfer request", &kept, &transfer);
    check("transfer answer", &kept, &refused);
    check("checkpoint header", &kept, &(vote, meta));
    check("checkpoint answer", &kept, &installed);
}

/// Returns the state after every command of the fixture, and the records of it.
fn replayed() -> (ClusterState, Vec<warren_model::AuditRecord>) {
    let mut state = ClusterState::default();
    let mut records = Vec::new();
    for (name, envelope) in envelopes() {
        let effect = state.apply(&envelope);
        assert!(effect.result.is_ok(), "{name}: {:?}", effect.result);
        records.extend(effect.audit);
    }
    (state, records)
}

#[test]
fn a_checkpoint_of_0_1_is_read_and_is_what_its_log_gives() {
    let (state, _) = replayed();
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(30)),
        last_membership: StoredMembership::new(Some(log_id(30)), members()),
    };
    let file = Checkpoints::encode(&meta, &state).expect("it encodes");
    let kept = golden("v0.1-checkpoint.txt", &[("file".to_owned(), file.to_vec())].into());
    let loaded = Checkpoints::decode(&Bytes::from(kept["file"].clone())).expect("it is read");
    assert_eq!(loaded.meta, meta);
    let read = loaded.state;

    // Said here in words, so that reading and replaying cannot be wrong in the same way.
    let cluster = read.cluster.as_ref().expect("initialised");
    assert_eq!((cluster.name.as_str(), cluster.incarnation), ("burrow", 7));
    assert_eq!(read.clients.keys().copied().collect::<Vec<_>>(), [client(1)]);
    assert_eq!(read.clients[&client(1)].labels["plan"], "gold");
    let n1 = &read.nodes[&node(1)];
    assert_eq!((n1.name.as_str(), n1.facts.kernel.as_str()), ("n1", "6.13"));
    assert_eq!(n1.availability, Availability::Cordoned);
    assert_eq!(read.tokens.keys().copied().collect::<Vec<_>>(), [token(1), token(2)]);
    let web = &read.workspaces[&workspace(1)];
    assert_eq!((web.spec.whole(), web.desired), (spec(), Desired::Running));
    assert_eq!(read.workspaces[&workspace(2)].phase.kind, PhaseKind::Preparing);
    assert_eq!(read.workspaces.len(), 2, "the third was forgotten");
    assert_eq!(read.placed.len(), 2);
    assert_eq!(read.revoked.keys().cloned().collect::<Vec<_>>(), [vec![0xab, 0xcd]]);
    assert_eq!(read.replicas.len(), 1);

    // Every field of 0.1, and the chain over every record: yesterday's log gives the same today.
    assert_eq!(read.audit, state.audit);
    assert_eq!(read.cluster, state.cluster);
    assert_eq!(read.revision, state.revision);
    assert_eq!(read.replicas, state.replicas);
    assert_eq!(read.clients, state.clients);
    assert_eq!(read.client_names, state.client_names);
    assert_eq!(read.nodes, state.nodes);
    assert_eq!(read.node_names, state.node_names);
    assert_eq!(read.tokens, state.tokens);
    assert_eq!(read.workspaces, state.workspaces);
    assert_eq!(read.workspace_names, state.workspace_names);
    assert_eq!(read.placed, state.placed);
    assert_eq!(read.revoked, state.revoked);
    assert_eq!(read.requests, state.requests);
    // Whoever reads version 1 writes today's.
    let today = Checkpoints::encode(&meta, &state).expect("it encodes");
    assert_ne!(today, kept["file"], "another format");
    assert_eq!(Checkpoints::decode(&today).expect("it is read").state, state);
}

#[test]
fn what_is_done_to_templates_is_read_and_still_written_alike() {
    let name = || "agent".parse().expect("a name");
    let push = PushTemplate {
        template: name(),
        text: "description = \"a\"".to_owned(),
        message: "first".to_owned(),
        activate: true,
    };
    let commands = [
        ("push", TemplateCommand::Push(push)),
        (
            "activate",
            TemplateCommand::Activate(ActivateTemplate { template: name(), version: Some(3) }),
        ),
        ("back", TemplateCommand::Activate(ActivateTemplate { template: name(), version: None })),
        ("delete", TemplateCommand::Delete(DeleteTemplate { template: name() })),
    ];
    let commands = commands.map(|(name, one)| (name, Command::Template(Box::new(one))));
    let outcome = Outcome::Template(7);
    let mut today: Strings = commands.iter().map(|(name, one)| written(name, one)).collect();
    today.extend([written("outcome", &outcome)]);
    let kept = golden("v0.2-templates.txt", &today);
    assert_eq!(kept.len(), today.len(), "nothing is skipped");
    for (name, command) in &commands {
        check(name, &kept, command);
    }
    check("outcome", &kept, &outcome);
}

#[test]
fn what_workspaces_are_updated_to_is_read_and_still_written_alike() {
    let workspace = workspace(1);
    let template = Update::Template(Box::new(TemplateUpdate {
        from: Some(recipe(3)),
        base: Some(spec()),
        to: recipe(4),
        new: spec(),
    }));
    let mut ruled = spec();
    ruled.failover = Failover::Auto;
    let (from, base, to) = (None, Some(spec()), recipe(4));
    let rules = Update::TemplateRules(Box::new(TemplateUpdate { from, base, to, new: ruled }));
    let updates = [
        ("image", Update::Image("agents:2".to_owned())),
        ("back", Update::ImageBefore),
        ("template", template),
        ("template with rules", rules),
    ];
    let mut commands: Vec<(&str, Command)> = updates
        .map(|(name, update)| {
            (name, Command::UpdateWorkspace(UpdateWorkspace { workspace, update }))
        })
        .into();
    let Command::CreateWorkspace(create) = commands::create_workspace(1, "web") else {
        unreachable!("it makes one")
    };
    let make = MakeWorkspace { create: *create, recipe: recipe(3) };
    commands.push(("make", Command::MakeWorkspace(Box::new(make))));
    let mut today: Strings = commands.iter().map(|(name, one)| written(name, one)).collect();
    today.extend([written("recipe", &recipe(3))]);
    let kept = golden("v0.3-updates.txt", &today);
    assert_eq!(kept.len(), today.len(), "nothing is skipped");
    for (name, command) in &commands {
        check(name, &kept, command);
    }
    check("recipe", &kept, &recipe(3));
}

fn recipe(version: u32) -> Recipe {
    let parameters = [("repo".to_owned(), "https://git.example/acme/web.git".to_owned())].into();
    Recipe { template: "agent".parse().expect("a name"), version, parameters }
}

#[test]
fn a_checkpoint_of_version_2_is_read_as_a_state_without_templates() {
    let (state, _) = replayed();
    let last_membership = StoredMembership::new(Some(log_id(30)), members());
    let meta = SnapshotMeta { last_log_id: Some(log_id(30)), last_membership };
    let old = Checkpoints::encode_v2(&meta, state.clone());
    let loaded = Checkpoints::decode(&old).expect("it is read");
    assert_eq!(
        (loaded.meta, loaded.state),
        (meta, ClusterState { templates: Default::default(), ..state })
    );
}

#[test]
fn a_checkpoint_of_version_3_is_read_as_a_state_without_session_records_and_secrets() {
    let (state, _) = replayed();
    let last_membership = StoredMembership::new(Some(log_id(30)), members());
    let meta = SnapshotMeta { last_log_id: Some(log_id(30)), last_membership };
    let old = Checkpoints::encode_v3(&meta, state.clone());
    let loaded = Checkpoints::decode(&old).expect("it is read");
    let (sessions, secrets, images_before, updated, recipes) = Default::default();
    let state = ClusterState { sessions, secrets, images_before, updated, recipes, ..state };
    assert_eq!((loaded.meta, loaded.state), (meta, state));
}

#[test]
fn audit_segments_of_0_1_are_read_and_still_written_alike() {
    let (state, records) = replayed();
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = AuditLog::open(folder.path(), AuditHead::default()).expect("it opens");
    log.append(&records).expect("written");
    drop(log);
    let mut today = Strings::new();
    for file in fs::read_dir(folder.path()).expect("listed") {
        let file = file.expect("listed");
        let name = file.file_name().to_string_lossy().into_owned();
        today.insert(name, fs::read(file.path()).expect("read"));
    }
    let kept = golden("v0.1-audit.txt", &today);
    assert_eq!(kept, today, "written in another way now");
    let old = tempfile::tempdir().expect("a folder");
    for (name, content) in &kept {
        fs::write(old.path().join(name), content).expect("written");
    }
    let verified = super::whole_audit(old.path());
    assert_eq!((verified.head, verified.gaps), (state.audit, vec![]));
    assert_eq!(audit::read(old.path(), 1, 1000).expect("read"), records);
    AuditLog::open(old.path(), state.audit).expect("today's version goes on from there");
}
