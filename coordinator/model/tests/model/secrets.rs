//! Secrets: versions, vaults, who gets what, and what nodes are told of it.

use warren_common::{
    Bytes, Limits, ReplicaId, SecretName,
    spec::{AgentProgram, HeldOrder, SessionProgram, WorkspaceSpec},
};
use warren_model::{
    Command, Outcome, Principal, RefusalCode,
    command::{
        AdoptWorkspace, DeleteClient, Forget, NodeCommand, RunRequest, SecretCommand,
        SessionCommand, SetRun, Update,
        node::RemoveNode,
        secret::{DeleteSecret, SetSecret},
        session::{CreateSession, NamedSession},
    },
    node_spec,
    state::{ValueId, ValueMark, Vault},
};

use crate::{
    make::{World, client, create_client, create_workspace, node, person, spec, workspace},
    sessions, taking_over, templated,
};

fn name(text: &str) -> SecretName {
    text.parse().expect("a name")
}

fn acme() -> Vault {
    Vault::Client(client(1))
}

fn set(vault: Vault, secret: &str, of: (u64, u8)) -> Command {
    set_with(vault, secret, of, |_| {})
}

fn set_with(
    vault: Vault,
    secret: &str,
    (version, value): (u64, u8),
    change: impl FnOnce(&mut SetSecret),
) -> Command {
    let (name, value, mark) = (name(secret), ValueId([value; 16]), ValueMark::default());
    let mut set = SetSecret { vault, name, version, value, mark, made_for: None };
    change(&mut set);
    Command::Secret(Box::new(SecretCommand::Set(set)))
}

/// Sets one with a workspace, as its creation does.
fn set_for(secret: &str, workspace: &str) -> Command {
    let made_for = workspace.parse().expect("a name");
    set_with(acme(), secret, (1, 1), |set| set.made_for = Some(made_for))
}

fn delete(vault: Vault, secret: &str) -> Command {
    let name = name(secret);
    Command::Secret(Box::new(SecretCommand::Delete(DeleteSecret { vault, name })))
}

/// Two clients with a workspace each, on one node.
fn two_clients() -> World {
    let mut world = World::with_nodes(&[Bytes::gib(16)]);
    world.must(create_client(2, "other"));
    world.must(create_workspace(1, "web", spec(Bytes::gib(1))));
    let Command::CreateWorkspace(mut create) = create_workspace(2, "web", spec(Bytes::gib(1)))
    else {
        unreachable!("it is one")
    };
    create.client = client(2);
    world.must(Command::CreateWorkspace(create));
    world.settle();
    world
}

fn marks(world: &World) -> (Option<u64>, Option<u64>) {
    let told = node_spec(&world.state, node(1), 1).secrets;
    (told.get(&workspace(1)).copied(), told.get(&workspace(2)).copied())
}

#[test]
fn versions_follow_each_other_and_a_stale_one_is_refused() {
    let mut world = two_clients();
    assert_eq!(world.must(set(acme(), "git-token", (1, 1))).outcome, Outcome::Secret(1));
    assert_eq!(world.must(set(acme(), "git-token", (2, 2))).outcome, Outcome::Secret(2));
    for stale in [0, 1, 2, 4, u64::MAX] {
        let refused = world.refused(set(acme(), "git-token", (stale, 9)));
        assert_eq!(refused.code, RefusalCode::WrongState, "{stale}");
    }
    let record = world.state.secret(acme(), &name("git-token")).expect("there");
    assert_eq!((record.version, record.value, &record.by), (2, ValueId([2; 16]), &person()));
    assert_eq!(world.must(delete(acme(), "git-token")).outcome, Outcome::Secret(2));
    assert!(world.state.secrets.is_empty(), "an empty vault is none");
    assert_eq!(world.refused(delete(acme(), "git-token")).code, RefusalCode::NotFound);
    world.must(set(acme(), "git-token", (1, 3)));
    let nobody = Vault::Client(client(9));
    assert_eq!(world.refused(set(nobody, "x", (1, 1))).code, RefusalCode::NotFound);
}

#[test]
fn a_repeated_set_is_the_same_whatever_it_would_become() {
    let mut world = two_clients();
    let first = world.envelope(person(), set(acme(), "a", (1, 1)));
    world.apply(&first).result.expect("set");
    // another leader draws another value for the same request
    let again = warren_model::Envelope { command: set(acme(), "a", (2, 7)), ..first.clone() };
    let effect = world.apply(&again);
    let applied = effect.result.expect("answered");
    assert!(applied.repeated && applied.outcome == Outcome::Secret(1), "{applied:?}");
    assert!(effect.audit.is_none());
    let other = warren_model::Envelope { command: set(acme(), "b", (1, 1)), ..first };
    let refused = world.apply(&other).result.expect_err("another secret");
    assert_eq!(refused.code, RefusalCode::RequestReused);
}

#[test]
fn the_same_request_with_another_value_is_refused() {
    let mut world = two_clients();
    let mark = |mark: u8| set_with(acme(), "a", (1, 1), |set| set.mark = ValueMark([mark; 16]));
    let first = world.envelope(person(), mark(1));
    world.apply(&first).result.expect("set");
    assert!(world.apply(&first).result.expect("answered").repeated);
    let other = warren_model::Envelope { command: mark(2), ..first };
    let refused = world.apply(&other).result.expect_err("another value");
    assert_eq!(refused.code, RefusalCode::RequestReused);
}

fn remove(world: &mut World, number: u8) {
    let workspace = workspace(number);
    world.must(Command::SetRun(SetRun { workspace, run: RunRequest::Delete }));
    let generation = world.state.workspaces[&workspace].generation;
    world.must(Command::Forget(Forget { workspace, generation }));
}

#[test]
fn what_was_made_for_a_workspace_goes_with_it_unless_another_one_names_it() {
    let mut world = two_clients();
    let mut using = spec(Bytes::gib(1));
    using.setup = Some("cat /run/secrets/web-shared-one".to_owned());
    world.must(create_workspace(3, "api", using));
    world.settle();
    world.must(set_for("web-token", "web"));
    world.must(set_for("web-shared-one", "web"));
    world.must(set_for("api-token", "api"));
    world.must(set(acme(), "git-token", (1, 1)));
    // another value of it is still the workspace's
    world.must(set(acme(), "web-token", (2, 2)));
    let held = |world: &World| {
        let held = world.state.secrets_for(client(1));
        held.keys().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(held(&world), ["api-token", "git-token", "web-shared-one", "web-token"]);
    let before = marks(&world).1;
    remove(&mut world, 1);
    assert_eq!(held(&world), ["api-token", "git-token", "web-shared-one"]);
    assert_eq!(marks(&world).1, before, "of another client");
    // the last that names it takes it along; what is set for one that is made next stays
    world.must(set_for("new-token", "new"));
    remove(&mut world, 3);
    assert_eq!(held(&world), ["git-token", "new-token"]);
}

#[test]
fn what_a_session_that_people_made_reads_stays_until_its_workspace_goes() {
    let mut world = two_clients();
    world.must(create_workspace(3, "api", spec(Bytes::gib(1))));
    world.settle();
    for secret in ["web-read", "web-longer", "web-agent", "web-token"] {
        world.must(set_for(secret, "web"));
    }
    let make = |world: &mut World, number, session: &str, agent, command: &str| {
        let program =
            SessionProgram { agent, command: command.to_owned(), ..SessionProgram::default() };
        let (workspace, name) = (workspace(number), Some(session.parse().expect("a name")));
        let create = CreateSession { workspace, name, program };
        world.must(Command::Session(Box::new(SessionCommand::Create(create))));
    };
    make(&mut world, 3, "reader", None, "deploy --token-file=/run/secrets/web-read");
    // another file, whose name begins alike
    make(&mut world, 3, "other", None, "cat /run/secrets/web-longer.pem");
    make(&mut world, 3, "agent", Some(AgentProgram::Claude), "--mcp-config /run/secrets/web-agent");
    // its own sessions and those of other clients keep none
    make(&mut world, 1, "own", None, "cat /run/secrets/web-token");
    make(&mut world, 2, "others", None, "cat /run/secrets/web-token");
    let held = |world: &World| {
        let held = world.state.secrets_for(client(1));
        held.keys().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    remove(&mut world, 1);
    assert_eq!(held(&world), ["web-agent", "web-read"]);
    remove(&mut world, 3);
    assert_eq!(held(&world), Vec::<String>::new(), "the last that read it takes it along");
}

#[test]
fn the_last_session_to_read_what_was_made_for_a_workspace_that_is_gone_takes_it_along() {
    let mut world = two_clients();
    world.must(create_workspace(3, "api", spec(Bytes::gib(1))));
    world.settle();
    world.must(set_for("web-token", "web"));
    world.must(set_for("api-token", "api"));
    let of = |session: &str| (workspace(3), session.parse().expect("a name"));
    for session in ["one", "two"] {
        let (workspace, name) = of(session);
        let command = "cat /run/secrets/web-token /run/secrets/api-token".to_owned();
        let program = SessionProgram { command, ..SessionProgram::default() };
        let create = CreateSession { workspace, name: Some(name), program };
        world.must(Command::Session(Box::new(SessionCommand::Create(create))));
    }
    remove(&mut world, 1);
    let delete = |world: &mut World, session: &str| {
        let (workspace, name) = of(session);
        let delete = SessionCommand::Delete(NamedSession { workspace, name });
        let asked = world.envelope(person(), Command::Session(Box::new(delete)));
        let effect = world.apply(&asked);
        effect.result.expect("deleted");
        effect.audit.expect("a record").detail
    };
    assert_eq!(delete(&mut world, "one"), "");
    assert!(world.state.secrets_for(client(1)).contains_key(&name("web-token")));
    assert_eq!(delete(&mut world, "two"), "with its secrets web-token");
    let held = world.state.secrets_for(client(1));
    let held: Vec<_> = held.keys().map(|name| name.to_string()).collect();
    assert_eq!(held, ["api-token"], "its workspace is there");
}

/// A workspace of a template, and two others of its client: one on another node, and one with which a
/// secret was made.
fn last_reader() -> World {
    let mut world = World::with_nodes(&[Bytes::gib(4), Bytes::gib(4)]);
    let others = [(2, "far"), (3, "old")];
    let others = others.map(|(number, name)| create_workspace(number, name, spec(Bytes::gib(1))));
    for command in [templated::make(1)].into_iter().chain(others) {
        world.must(command);
        world.settle();
    }
    let on = |number| world.workspace(number).assignment.as_ref().expect("placed").node;
    assert_ne!(on(1), on(2));
    world.must(set_for("old-token", "old"));
    world
}

fn reads(spec: &mut WorkspaceSpec) {
    spec.setup = Some("cat /run/secrets/old-token".to_owned());
}

/// From a version that reads the secret to one that does not.
fn reads_no_more() -> Command {
    let Command::UpdateWorkspace(mut update) = templated::update(2, 3, |_| {}) else {
        unreachable!("it is one")
    };
    let Update::Template(change) = &mut update.update else { unreachable!("it is one") };
    reads(change.base.as_mut().expect("it is told"));
    Command::UpdateWorkspace(update)
}

fn is_there(world: &World) -> bool {
    world.state.secrets_for(client(1)).contains_key(&name("old-token"))
}

#[test]
fn a_template_that_names_a_secret_of_a_workspace_that_is_gone_no_more_takes_it_along() {
    let mut world = last_reader();
    world.must(templated::update(1, 2, reads));
    remove(&mut world, 3);
    assert!(is_there(&world), "it is read");
    let backup = world.state.clone();
    let asked = world.envelope(person(), reads_no_more());
    let detail = world.apply(&asked).audit.expect("a record").detail;
    assert!(detail.ends_with(", with its secrets old-token"), "{detail}");
    assert!(!is_there(&world));

    // and where a restored cluster is told of that version
    let orders = node_spec(&world.state, sessions::on(&world), 1).workspaces;
    let order = orders.into_iter().find(|one| one.workspace == workspace(1)).expect("it is there");
    let (node, revision) = (sessions::on(&world), world.state.revision);
    taking_over::restore(&mut world, backup);
    assert!(is_there(&world));
    let held = HeldOrder { order, started_run: 0 };
    let adopt = AdoptWorkspace { node, revision, held };
    world.must(Command::AdoptWorkspace(Box::new(adopt)));
    assert!(!is_there(&world));
}

#[test]
fn every_node_of_the_client_is_told_of_a_secret_that_went_with_a_session_also_after_a_restore() {
    let mut world = last_reader();
    let command = "cat /run/secrets/old-token".to_owned();
    let program = SessionProgram { command, ..SessionProgram::default() };
    let (workspace, name) = (workspace(1), "reader".parse().expect("a name"));
    let create = CreateSession { workspace, name: Some(name), program };
    world.must(Command::Session(Box::new(SessionCommand::Create(create))));
    remove(&mut world, 3);
    let backup = world.state.clone();
    let delete = NamedSession { workspace, name: "reader".parse().expect("a name") };
    // each step is checked for who is told something else
    world.must(Command::Session(Box::new(SessionCommand::Delete(delete))));
    assert!(!is_there(&world));
    let held = taking_over::restore(&mut world, backup);
    assert!(is_there(&world), "the backup has both");
    taking_over::adopt(&mut world, held);
    assert!(!is_there(&world));
}

#[test]
fn the_record_of_the_removal_names_the_secrets_that_went() {
    let mut world = two_clients();
    world.must(set_for("web-token", "web"));
    let workspace = workspace(1);
    world.must(Command::SetRun(SetRun { workspace, run: RunRequest::Delete }));
    let generation = world.state.workspaces[&workspace].generation;
    let forget = Command::Forget(Forget { workspace, generation });
    let forget = world.envelope(Principal::Coordinator(ReplicaId(1)), forget);
    let effect = world.apply(&forget);
    effect.result.expect("forgotten");
    assert_eq!(effect.audit.expect("a record").detail, "with its secrets web-token");
}

#[test]
fn the_record_of_a_nodes_removal_names_the_secrets_that_went_with_what_was_being_deleted() {
    let mut world = two_clients();
    world.must(set_for("web-token", "web"));
    let gone = workspace(1);
    world.must(Command::SetRun(SetRun { workspace: gone, run: RunRequest::Delete }));
    let lost = [gone, workspace(2)].into();
    let remove = NodeCommand::Remove(RemoveNode { node: node(1), lost });
    let remove = world.envelope(person(), Command::Node(Box::new(remove)));
    let effect = world.apply(&remove);
    effect.result.expect("removed");
    let detail = effect.audit.expect("a record").detail;
    assert!(detail.ends_with("2 workspaces lost: acme/web with its secrets web-token"), "{detail}");
    assert!(world.state.secrets.is_empty());
}

/// Makes a session in the client's third workspace.
fn told(command: &str, prompt: &str) -> Command {
    let (command, prompt) = (command.to_owned(), prompt.to_owned());
    let agent = Some(AgentProgram::Claude);
    let program = SessionProgram { agent, command, prompt, ..SessionProgram::default() };
    let create = CreateSession { workspace: workspace(3), name: None, program };
    Command::Session(Box::new(SessionCommand::Create(create)))
}

#[test]
fn what_a_session_runs_or_is_told_names_secrets_too() {
    let mut world = two_clients();
    world.must(create_workspace(3, "api", spec(Bytes::gib(1))));
    world.settle();
    for secret in ["web-run", "web-told", "web-token"] {
        world.must(set_for(secret, "web"));
    }
    world.must(told("--settings /run/secrets/web-run", ""));
    world.must(told("", "log in with what is in /run/secrets/web-told and go on"));
    let held = |world: &World| {
        let held = world.state.secrets_for(client(1));
        held.keys().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    remove(&mut world, 1);
    assert_eq!(held(&world), ["web-run", "web-told"]);
    // the last whose sessions name them takes them along
    remove(&mut world, 3);
    assert!(held(&world).is_empty(), "{:?}", held(&world));
}

#[test]
fn a_workspace_is_told_of_its_clients_vault_and_the_shared_one_alone() {
    let mut world = two_clients();
    assert_eq!(marks(&world), (None, None));
    world.must(set(acme(), "a", (1, 1)));
    let (first, none) = marks(&world);
    assert!(first.is_some() && none.is_none(), "the other client's is as it was");
    world.must(set(Vault::Shared, "b", (1, 2)));
    let (second, shared) = marks(&world);
    assert!(second != first && shared.is_some() && shared != second);
    // the client's own goes before a shared one of its name
    world.must(set(Vault::Shared, "a", (1, 3)));
    assert_eq!(marks(&world).0, second);
    assert_ne!(marks(&world).1, shared);
    let held = world.state.secrets_for(client(1));
    assert_eq!(held[&name("a")].0, acme());
    let held = world.state.secrets_for(client(2));
    assert_eq!(held.len(), 2);
    assert!(held.values().all(|(vault, _)| *vault == Vault::Shared));
    world.must(set(acme(), "a", (2, 4)));
    assert_ne!(marks(&world).0, second, "a new value");
    for secret in ["a", "b"] {
        world.must(delete(Vault::Shared, secret));
    }
    world.must(delete(acme(), "a"));
    assert_eq!(marks(&world), (None, None));
}

#[test]
fn records_name_the_secret_and_nothing_of_its_value() {
    let mut world = two_clients();
    let asked = world.envelope(person(), set(acme(), "git-token", (1, 0xab)));
    let effect = world.apply(&asked);
    let audit = effect.audit.expect("a record");
    assert_eq!(
        (audit.action.as_str(), audit.object.address.as_str()),
        ("secret.set", "acme/git-token")
    );
    assert_eq!(audit.detail, "version 1");
    let shared = world.envelope(person(), set(Vault::Shared, "x", (1, 1)));
    let audit = world.apply(&shared).audit.expect("a record");
    assert_eq!(audit.object.address, "(shared)/x");
    let node = world.envelope(Principal::Node(node(1)), delete(acme(), "git-token"));
    assert_eq!(world.apply(&node).result.expect_err("a node").code, RefusalCode::NotAllowed);
}

#[test]
fn vaults_are_bounded_and_end_with_their_client() {
    let mut world = two_clients();
    world.must(create_client(3, "third"));
    let third = Vault::Client(client(3));
    for number in 0..Limits::SECRETS_PER_VAULT {
        world.must(set(third, &format!("s{number}"), (1, 1)));
    }
    let refused = world.refused(set(third, "one-more", (1, 1)));
    assert_eq!(refused.code, RefusalCode::LimitReached);
    world.must(set(third, "s0", (2, 2)));
    world.must(Command::DeleteClient(DeleteClient { client: client(3) }));
    assert!(!world.state.secrets.contains_key(&third));
}
