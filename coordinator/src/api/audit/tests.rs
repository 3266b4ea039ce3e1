//! Which records fit, whom a name means, and where a page goes on.

use warren_common::{Revision, status::NodeFacts};
use warren_model::{command::Availability, state::Node};

use super::*;

const DAY: u64 = 24 * 3600 * 1000;

fn node_id() -> NodeId {
    NodeId::new(uuid::Uuid::from_u128(7))
}

fn state() -> ClusterState {
    let mut state = ClusterState::default();
    let name: warren_common::NodeName = "n1".parse().expect("a name");
    let facts = NodeFacts {
        hostname: "vps-1".to_owned(),
        boot: warren_common::BootId::new(uuid::Uuid::from_u128(1)),
        allocatable_memory: warren_common::Bytes::gib(1),
        swap: warren_common::Bytes(0),
        cpus: warren_common::MilliCpus(1000),
        disk: warren_common::Bytes::gib(1),
        version: "0.1.0".to_owned(),
        engine: String::new(),
        kernel: String::new(),
        cgroup: 2,
        labels: Default::default(),
        findings: Vec::new(),
    };
    let node = Node {
        id: node_id(),
        name: name.clone(),
        facts,
        availability: Availability::Active,
        epoch: warren_common::NodeEpoch(1),
        overcommitted: false,
        registered: None,
        joined: Timestamp(1),
        revision: Revision(1),
    };
    state.node_names.insert(name, node_id());
    state.nodes.insert(node_id(), std::sync::Arc::new(node));
    state
}

fn record(action: &str, (address, id): (&str, &str)) -> AuditRecord {
    AuditRecord {
        sequence: 5,
        at: Timestamp(10 * DAY),
        principal: Principal::Person("ann".to_owned()),
        request: RequestId::new(uuid::Uuid::from_u128(9)),
        revision: Revision(5),
        action: action.to_owned(),
        object: AuditObject { address: address.to_owned(), id: id.to_owned() },
        detail: String::new(),
        previous_hash: [0; 32],
        hash: [0; 32],
    }
}

fn fit(change: impl FnOnce(&mut pb::ListRecordsRequest)) -> Fit {
    let mut request = pb::ListRecordsRequest::default();
    change(&mut request);
    let wanted = Wanted::read(&state(), &request).expect("it can be meant");
    wanted.fit(&record("workspace.create", ("acme/web", "w1")))
}

#[test]
fn a_record_fits_by_whole_words() {
    assert_eq!(fit(|_| {}), Fit::Taken);
    for action in ["workspace", "workspace.create"] {
        assert_eq!(fit(|request| request.action = action.to_owned()), Fit::Taken, "{action}");
    }
    for action in ["work", "workspace.", "workspace.createx", "create", "client"] {
        assert_eq!(fit(|request| request.action = action.to_owned()), Fit::Passed, "{action}");
    }
    for target in ["acme", "acme/web", "w1"] {
        assert_eq!(fit(|request| request.target = target.to_owned()), Fit::Taken, "{target}");
    }
    for target in ["ac", "acme/w", "web", "w"] {
        assert_eq!(fit(|request| request.target = target.to_owned()), Fit::Passed, "{target}");
    }
    let id = |n: u128| uuid::Uuid::from_u128(n).to_string();
    assert_eq!(fit(|request| request.request_id = id(9)), Fit::Taken);
    assert_eq!(fit(|request| request.request_id = id(8)), Fit::Passed);
}

#[test]
fn times_bound_and_a_search_ends_a_day_past_them() {
    let since = |at: u64| fit(|request| request.since_unix_ms = at);
    assert_eq!(since(10 * DAY), Fit::Taken);
    assert_eq!(since(10 * DAY + 1), Fit::Passed, "another clock may have been behind");
    assert_eq!(since(11 * DAY + 1), Fit::Over);
    let until = |at: u64, oldest_first: bool| {
        fit(|request| (request.until_unix_ms, request.oldest_first) = (at, oldest_first))
    };
    assert_eq!(until(10 * DAY + 1, true), Fit::Taken);
    assert_eq!(until(10 * DAY, true), Fit::Passed);
    assert_eq!(until(9 * DAY - 1, true), Fit::Over);
    assert_eq!(until(DAY, false), Fit::Passed, "older ones are still to come");
}

#[test]
fn a_bare_name_is_a_persons_or_a_nodes() {
    let who = |text: &str| actors(&state(), text);
    let node = Principal::Node(node_id());
    assert_eq!(who("").expect("anybody"), []);
    assert_eq!(who("ann").expect("a person"), [Principal::Person("ann".to_owned())]);
    assert_eq!(who("n1").expect("both"), [Principal::Person("n1".to_owned()), node.clone()]);
    assert_eq!(who("person/n1").expect("a person"), [Principal::Person("n1".to_owned())]);
    assert_eq!(who("node/n1").expect("a node"), [node]);
    let gone = NodeId::new(uuid::Uuid::from_u128(99));
    let by_id = who(&format!("node/{gone}")).expect("it need not exist any more");
    assert_eq!(by_id, [Principal::Node(gone)]);
    assert_eq!(who("coordinator/2").expect("one"), [Principal::Coordinator(ReplicaId(2))]);
    for odd in ["node/n9", "coordinator/x", "robot/x", "person/", "A B", "/"] {
        assert!(who(odd).is_err(), "{odd:?} passed");
    }
}

#[test]
fn a_page_goes_on_where_the_last_one_ended() {
    let at = |token: &str, oldest_first: bool, after_sequence: u64| {
        let request = pb::ListRecordsRequest { oldest_first, after_sequence, ..Default::default() };
        let page = Page::read(0, token)?;
        search(&request, &page, 100).map(|search| (search.after, search.before))
    };
    assert_eq!(at("", false, 0).expect("all"), (0, 101));
    assert_eq!(at(&token("40"), false, 7).expect("older ones"), (7, 40));
    assert_eq!(at(&token("40"), true, 7).expect("newer ones"), (40, 101));
    assert_eq!(at(&token("3"), true, 7).expect("never before the bound"), (7, 101));
    assert!(at(&token("acme"), true, 0).is_err(), "another list's token");
}
