//! Hosts that are not as Docker likes them: without its firewall rules, and with somebody else's.

use std::time::Duration;

use anyhow::{Context as _, Result};
use warren_tests::{lab::Around, wait_until};

use crate::{
    field::{Field, INTERNET, LAN, NODE},
    probe::connect,
};

#[test]
fn an_engine_without_rules_works_and_what_is_in_the_way_is_told() -> Result<()> {
    let around = Around {
        bottom: format!("[network]\nresolvers = [\"{INTERNET}\"]\n"),
        dockerd: vec!["--iptables=false".to_owned()],
        ..Around::default()
    };
    let field = Field::around(&around)?;
    let ruleset = field.ruleset()?;
    anyhow::ensure!(!ruleset.contains("DOCKER"), "the engine has rules: {ruleset}");
    let reaches = |line: String| -> Result<bool> { Ok(field.in_a(&line)?.stdout.contains("seen")) };
    anyhow::ensure!(reaches(connect(INTERNET, 443))?, "the internet is closed");
    anyhow::ensure!(reaches(connect("www.example", 443))?, "names are not resolved");
    anyhow::ensure!(!reaches(connect(LAN, 22))?, "a private network is open");
    anyhow::ensure!(!reaches(connect(NODE, 2222))?, "the host is open");
    told(&field, &[])?;

    field.nft(
        "table inet other { chain f { type filter hook forward priority 0; policy drop; }; chain i \
         { type filter hook input priority 0; policy drop; iifname { lo, eth0 } accept; }; }\n",
    )?;
    let forward = |on: &str| {
        let set = format!("net.ipv4.ip_forward={on}");
        field.lab.node.program("sysctl").args(["-qw", &set]).run()?.success()
    };
    forward("0")?;
    told(&field, &["W1301", "W1302", "W1303"])?;
    anyhow::ensure!(!reaches(connect(INTERNET, 443))?, "the other firewall drops nothing");
    // as the findings say
    field.nft(
        "add rule inet other f iifname \"wrn-*\" accept\n\
         add rule inet other f oifname \"wrn-*\" ct state established accept\n\
         add rule inet other i iifname \"wrn-*\" accept\n",
    )?;
    forward("1")?;
    told(&field, &[])?;
    anyhow::ensure!(reaches(connect("www.example", 443))?, "what the findings say does not help");
    anyhow::ensure!(!reaches(connect(NODE, 2222))?, "the host is open");
    Ok(())
}

/// Waits until the node tells of exactly these of the network's warnings.
fn told(field: &Field, expected: &[&str]) -> Result<()> {
    wait_until(&format!("it tells {expected:?}"), Duration::from_secs(90), || {
        let node = field.lab.cluster.json(&["node", "show", "n1"])?;
        let findings = node["facts"]["findings"].as_array().context("findings")?;
        let codes = findings.iter().filter_map(|one| one["code"].as_str());
        let codes: Vec<&str> = codes.filter(|code| code.starts_with("W13")).collect();
        anyhow::ensure!(codes == expected, "it tells {codes:?}");
        Ok(())
    })
}
