//! The script and its reading back, without a kernel.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use warren_common::ClientId;

use super::{
    readback::Seen,
    table::{Bridge, Settings, Wanted},
};

fn client(n: u8) -> ClientId {
    format!("0199a0b2-7f00-7000-8000-0000000000{n:02x}").parse().expect("an id")
}

fn wanted() -> Wanted {
    let bridge =
        |subnet: &str, n| Bridge { subnet: subnet.parse().expect("a range"), client: client(n) };
    let allowed = ["10.1.2.0/24:5432", "192.168.7.3:53/udp"];
    Wanted {
        range: "10.213.0.0/16".parse().expect("a range"),
        cluster: ["198.51.100.9".parse().expect("an address")].into(),
        bridges: [
            ("wrn-00000001".to_owned(), bridge("10.213.0.0/28", 1)),
            ("wrn-00000002".to_owned(), bridge("10.213.0.16/28", 2)),
        ]
        .into(),
        allowed: [(client(1), allowed.iter().map(|one| one.parse().expect("one")).collect())]
            .into(),
        settings: Settings { dns_port: 7405, connections: 1024, beginnings: 100 },
    }
}

/// What `nft` would answer of a table that holds this.
fn listed(wanted: &Wanted, packets: u64, handle: u64) -> Value {
    let mut items = vec![
        json!({"metainfo": {"version": "1.0.6"}}),
        json!({"table": {"family": "inet", "name": "warren", "handle": handle}}),
        json!({"counter": {"name": "ws_refused", "packets": packets, "bytes": 9, "handle": handle}}),
        json!({"set": {"name": "ws_connections", "elem": [packets]}}),
    ];
    for (kind, name, _, elements) in wanted.sets() {
        items.push(json!({kind: {"name": name, "elem": elements, "handle": handle}}));
    }
    for chain in wanted.chains() {
        let mut of = json!({"name": chain.name, "handle": handle});
        if let Some((kind, hook, priority)) = chain.hook {
            of["type"] = kind.into();
            of["hook"] = hook.into();
            of["prio"] = priority.into();
        }
        items.push(json!({ "chain": of }));
        for rule in chain.rules {
            items.push(json!({"rule": {"chain": chain.name, "handle": handle, "expr": rule}}));
        }
    }
    json!({ "nftables": items })
}

fn seen(answer: &Value) -> Seen {
    Seen::parse(answer.to_string().as_bytes()).expect("an answer of nft's")
}

#[test]
fn every_chain_that_a_rule_or_a_map_names_is_declared_before() {
    let wanted = wanted();
    let script = wanted.script(None);
    let mut declared = BTreeSet::new();
    for line in script.lines() {
        if let Some(name) = line.strip_prefix("chain ") {
            declared.insert(name.trim_end_matches(" {").to_owned());
        }
        let words: Vec<&str> = line.split([' ', ',']).collect();
        for pair in words.windows(2) {
            if matches!(pair[0], "goto" | "jump") {
                assert!(declared.contains(pair[1]), "{} is named before it is there", pair[1]);
            }
        }
    }
}

#[test]
fn a_client_that_is_allowed_something_has_a_chain_and_others_have_none() {
    let script = wanted().script(None);
    let rule =
        "ct original ip daddr 10.1.2.0/24 meta l4proto tcp ct original proto-dst 5432 accept";
    assert_eq!(script.matches(rule).count(), 1);
    let of = |n| format!("jump client-{}", client(n));
    assert!(script.contains(&format!("\"wrn-00000001\" : {}", of(1))));
    assert!(!script.contains(&of(2)), "{script}");
}

#[test]
fn what_is_not_wanted_any_more_goes_and_counters_stay() {
    let mut wanted = wanted();
    let before = seen(&listed(&wanted, 0, 1)).chains();
    wanted.allowed.clear();
    wanted.bridges.remove("wrn-00000002");
    let script = wanted.script(Some(&before));
    let deleted: Vec<&str> =
        script.lines().filter_map(|line| line.strip_prefix("delete chain inet warren ")).collect();
    assert_eq!(deleted, [&format!("client-{}", client(1)), "from-wrn-00000002"]);
    assert!(!script.contains("delete table"), "counters would begin anew");
    assert!(wanted.script(None).contains("delete table inet warren"));
}

#[test]
fn what_changes_by_itself_is_no_difference_and_a_rule_is() {
    let wanted = wanted();
    let loaded = seen(&listed(&wanted, 0, 1));
    assert_eq!(loaded.check(&wanted), Ok(()));
    let later = seen(&listed(&wanted, 77, 4));
    assert_eq!(later.fingerprint, loaded.fingerprint);
    assert_eq!(later.counters, BTreeMap::from([("ws_refused".to_owned(), 77)]));
    let mut tampered = listed(&wanted, 0, 1);
    let items = tampered["nftables"].as_array_mut().expect("items");
    let rule = items.iter_mut().rev().find(|item| item.get("rule").is_some()).expect("a rule");
    rule["rule"]["expr"] = "accept".into();
    let tampered = seen(&tampered);
    assert_ne!(tampered.fingerprint, loaded.fingerprint);
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    let wanted = wanted();
    let whole = listed(&wanted, 0, 1);
    let without = |lacks: &dyn Fn(&Value) -> bool| {
        let mut answer = whole.clone();
        answer["nftables"].as_array_mut().expect("items").retain(|item| !lacks(item));
        seen(&answer).check(&wanted).expect_err("it differs")
    };
    let policy =
        |item: &Value| item["rule"]["chain"] == "ws_policy" && item["rule"]["expr"] == "accept";
    assert!(without(&policy).starts_with("chain ws_policy has"));
    assert_eq!(
        without(&|item| item["chain"]["name"] == "ws_input"),
        "chain ws_input is not where it belongs"
    );
    assert!(without(&|item| item["map"]["name"] == "ws_bridges").starts_with("set ws_bridges has"));
    let mut more = whole.clone();
    more["nftables"].as_array_mut().expect("items").push(json!({"chain": {"name": "other"}}));
    assert_eq!(seen(&more).check(&wanted), Err("there are chains beside ours".to_owned()));
    assert_eq!(Seen::parse(b"{}"), None);
}
