//! Reads that ask no majority: what is sent, and what is said of the answer's age.

use serde_json::Value;
use warren_proto::{Method, pb::admin::v1 as pb};

use crate::support::{Bench, Run};

/// Every verb that only looks.
const LOOKS: [&[&str]; 11] = [
    &["cluster", "status"],
    &["client", "list"],
    &["client", "show", "acme"],
    &["node", "list"],
    &["node", "show", "n1"],
    &["workspace", "list"],
    &["workspace", "show", "acme/web"],
    &["workspace", "explain", "acme/web"],
    &["session", "list"],
    &["user", "list"],
    &["user", "show", "ann"],
];
const LINE: &str = "as coordinator 2 knew it 1.2 s ago, revision 42\n";

fn run(bench: &Bench, look: &[&str], more: &[&str]) -> Run {
    bench.warren(&[look, more].concat())
}

fn json(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{run:?}");
    serde_json::from_str(&run.stdout).expect("JSON")
}

#[test]
fn every_look_can_be_stale_and_says_how_old_it_is() {
    let bench = Bench::new();
    for look in LOOKS {
        let fresh = run(&bench, look, &[]);
        assert_eq!((fresh.code, fresh.stderr.as_str()), (0, ""), "{look:?}");
        assert_eq!(bench.fake.state().reads.pop(), Some(None), "{look:?}");
        let stale = run(&bench, look, &["--stale"]);
        assert_eq!((stale.code, stale.stderr.as_str()), (0, LINE), "{look:?}");
        assert_eq!(stale.stdout, fresh.stdout, "{look:?}: only the line tells them apart");
        let read = pb::Read { consistency: pb::Consistency::Stale.into(), min_revision: 0 };
        assert_eq!(bench.fake.state().reads.pop(), Some(Some(read)), "{look:?}");
        run(&bench, look, &["--min-revision", "42"]);
        let read = pb::Read { min_revision: 42, ..read };
        assert_eq!(bench.fake.state().reads.pop(), Some(Some(read)), "{look:?}");
        assert_eq!(run(&bench, look, &["--stale", "--quiet"]).stderr, "", "{look:?}");
    }
}

#[test]
fn programs_find_the_age_in_each_object_and_nothing_else_changes() {
    let bench = Bench::new();
    let as_of = serde_json::json!({
        "coordinator": 2, "age_ms": 1234, "revision": 42, "incarnation": 9
    });
    for look in LOOKS {
        let fresh = json(&run(&bench, look, &["-o", "json"]));
        let mut stale = json(&run(&bench, look, &["-o", "json", "--stale"]));
        let rows = match &mut stale {
            Value::Array(rows) => rows.as_mut_slice(),
            object => std::slice::from_mut(object),
        };
        assert!(!rows.is_empty(), "{look:?}");
        for row in rows {
            let row = row.as_object_mut().expect("an object");
            assert_eq!(row.remove("as_of").as_ref(), Some(&as_of), "{look:?}");
        }
        assert_eq!(stale, fresh, "{look:?}");
    }
}

#[test]
fn without_a_quorum_a_look_names_stale_and_stale_goes_on() {
    let bench = Bench::new();
    bench.fake.state().alone = true;
    let refused = bench.warren(&["--timeout", "1s", "client", "list"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (5, ""), "{refused:?}");
    assert!(refused.stderr.contains("no coordinator leads"), "{refused:?}");
    assert!(refused.stderr.contains("next:") && refused.stderr.contains("--stale"), "{refused:?}");
    let calls = bench.fake.calls(Method::ClientListClients);
    bench.fake.state().ages.push_back(None);
    let stale = bench.warren(&["client", "list", "--stale", "-o", "json"]);
    assert!(stale.stderr.contains("it has heard no leader since it started"), "{stale:?}");
    assert_eq!(json(&stale)[0]["as_of"]["age_ms"], Value::Null);
    assert_eq!(bench.fake.calls(Method::ClientListClients), calls + 1, "asked once");
    let version = bench.warren(&["version"]);
    assert!(version.stdout.contains("coordinator: 0.1.0"), "{version:?}");
}

#[test]
fn a_list_of_several_pages_is_as_old_as_its_oldest() {
    let bench = Bench::new();
    bench.fake.state().page = 1;
    bench.fake.state().ages.extend([Some(10), Some(150_000), Some(20), Some(30)]);
    let stale = bench.warren(&["workspace", "list", "--stale"]);
    let line = "as coordinator 2 knew it 2m30s ago, revision 42\n";
    assert_eq!((stale.code, stale.stderr.as_str()), (0, line));
}

#[test]
fn a_watch_is_never_stale() {
    let bench = Bench::new();
    for noun in ["client", "node", "workspace", "session"] {
        for flag in [&["--stale"][..], &["--min-revision", "3"][..]] {
            let refused = run(&bench, &[noun, "list", "--watch"], flag);
            assert_eq!(refused.code, 2, "{refused:?}");
            assert!(refused.stderr.contains("cannot be used with"), "{refused:?}");
        }
    }
    assert!(bench.fake.state().calls.is_empty(), "nothing was asked");
}

#[test]
fn a_change_names_its_revision() {
    let bench = Bench::new();
    let deleted = bench.warren(&["client", "delete", "acme"]);
    assert_eq!(deleted.stderr, "client acme is deleted (revision 43)\n");
    let revoked = json(&bench.warren(&["user", "revoke", "vera", "-o", "json"]));
    assert_eq!(revoked["revision"], 43);
    let removed = json(&bench.warren(&["cluster", "remove", "3", "-o", "json"]));
    assert_eq!(removed["revision"], 43);
}
