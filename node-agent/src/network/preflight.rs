//! What may stand in the walls' way: another firewall that drops, forwarding that is off.
//!
//! A drop of another table is final whatever ours accepts, so it can only be told.

use serde_json::Value;
use warren_common::{
    Timestamp,
    status::{Finding, FindingLevel, reason},
};
use warren_daemon::telemetry::Chain;

use super::{
    NetworkError,
    table::{PREFIX, TABLE},
    tool::{self, ToolError},
};

/// Everything that is wrong, until it is told.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The last attempt to set or check the table failed.
    pub(super) failed: Option<NetworkError>,
    /// The table was taken away, and is back.
    pub(super) lost: Option<Lost>,
    /// Workspaces that run without their bridge.
    pub(super) bridges: Vec<String>,
    /// Why questions cannot be answered.
    pub(super) resolver: Option<String>,
    /// What [`look`] found.
    pub(super) around: Vec<Finding>,
}

/// A table that was not as it was loaded.
#[derive(Debug)]
pub(super) struct Lost {
    /// When it was back.
    pub(super) at: Timestamp,
    /// What had happened to it.
    pub(super) what: &'static str,
    /// How long it took from when that was noticed, in milliseconds.
    pub(super) took: u128,
    /// How many workspaces stood still meanwhile; none where that is not sure of all that ran.
    pub(super) paused: Option<usize>,
}

impl Lost {
    fn finding(&self) -> Finding {
        let Self { at, what, took, paused } = self;
        let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).unwrap_or(0));
        let at = at.map(|at| at.strftime("%FT%TZ").to_string()).unwrap_or_default();
        let meanwhile = match paused {
            Some(0) => "no workspace ran".to_owned(),
            Some(1) => "1 workspace stood still meanwhile".to_owned(),
            Some(count) => format!("{count} workspaces stood still meanwhile"),
            None => "not every workspace could be made to stand still meanwhile".to_owned(),
        };
        warning(
            "W1304",
            &format!(
                "somebody else than the node agent changed the firewall: its table {what}, and was \
                 put back at {at}, {took} ms after that was noticed; {meanwhile}"
            ),
            "run nft monitor as root on the node: it names the process of each change; systemctl \
             reload nftables is one, where /etc/nftables.conf begins with flush ruleset",
        )
    }
}

impl Trouble {
    /// Returns it as findings.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(failed) = &self.failed {
            findings.push(of_failure(failed));
        }
        findings.extend(self.lost.as_ref().map(Lost::finding));
        if !self.bridges.is_empty() {
            let which = self.bridges.join(", ");
            findings.push(warning(
                "W1305",
                &reason(&format!("running without a network, since the bridge is gone: {which}")),
                "warren workspace restart CLIENT/WORKSPACE makes another",
            ));
        }
        if let Some(why) = &self.resolver {
            findings.push(warning(
                "W1306",
                &reason(&format!("workspaces cannot resolve names: {why}")),
                "see the host's /etc/resolv.conf, or set [network] resolvers and dns_port in \
                 node-agent.toml",
            ));
        }
        findings.extend(self.around.iter().cloned());
        findings
    }
}

fn of_failure(failed: &NetworkError) -> Finding {
    let (code, fix) = match failed {
        NetworkError::Tool(ToolError::Missing { program: "nft" }) => {
            ("E1301", "install nftables (apt-get install nftables)")
        }
        NetworkError::Tool(ToolError::Missing { .. }) => {
            ("E1301", "install iproute2 (apt-get install iproute2)")
        }
        NetworkError::Taken => ("E1303", "end one of the two: a host can be one node"),
        NetworkError::Tool(_)
        | NetworkError::Differs(_)
        | NetworkError::NoBridge(_)
        | NetworkError::Pause(_) => {
            ("E1302", "run nft list ruleset as root on the node, and see the node agent's log")
        }
    };
    Finding {
        code: code.to_owned(),
        level: FindingLevel::Blocking,
        message: reason(&format!("workspaces cannot be walled off: {}", Chain(failed))),
        fix: fix.to_owned(),
    }
}

fn warning(code: &str, message: &str, fix: &str) -> Finding {
    Finding {
        code: code.to_owned(),
        level: FindingLevel::Warning,
        message: message.to_owned(),
        fix: fix.to_owned(),
    }
}

/// Looks at forwarding and at other firewalls; what cannot be read is not judged.
pub(super) async fn look() -> Vec<Finding> {
    let forward = tokio::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").await;
    let mut findings = of_forwarding(&forward.unwrap_or_default());
    if let Ok(ruleset) = tool::run("nft", &["-j", "list", "ruleset"], "").await {
        findings.extend(of_firewalls(&ruleset));
    }
    findings
}

fn of_forwarding(ip_forward: &str) -> Vec<Finding> {
    match ip_forward.trim() {
        "0" => vec![warning(
            "W1301",
            "workspaces reach nothing outside this host: net.ipv4.ip_forward is 0",
            "set net.ipv4.ip_forward = 1 in /etc/sysctl.d and run sysctl --system",
        )],
        _ => Vec::new(),
    }
}

/// Judges other tables' base chains that drop by default. One that names our bridges, or that Docker
/// fills, is taken to let them through.
fn of_firewalls(ruleset: &[u8]) -> Vec<Finding> {
    let answer: Value = serde_json::from_slice(ruleset).unwrap_or_default();
    let items: Vec<&Value> =
        answer.get("nftables").and_then(Value::as_array).into_iter().flatten().collect();
    let field =
        |item: &Value, kind: &str, key: &str| Some(item.get(kind)?.get(key)?.as_str()?.to_owned());
    let mut findings = Vec::new();
    for item in &items {
        let (Some(family), Some(table), Some(chain), Some(hook)) = (
            field(item, "chain", "family"),
            field(item, "chain", "table"),
            field(item, "chain", "name"),
            field(item, "chain", "hook"),
        ) else {
            continue;
        };
        let drops = field(item, "chain", "policy").as_deref() == Some("drop");
        let of_four = family == "ip" || family == "inet";
        if !drops || !of_four || table == TABLE {
            continue;
        }
        let same = |other: &&&Value, kind: &str| {
            field(other, kind, "family").as_deref() == Some(&*family)
                && field(other, kind, "table").as_deref() == Some(&*table)
        };
        let named = items.iter().filter(|other| same(other, "rule"));
        let named = named.map(|rule| rule.to_string()).any(|rule| rule.contains(PREFIX));
        let docker = items.iter().filter(|other| same(other, "chain"));
        let docker = docker
            .filter_map(|other| field(other, "chain", "name"))
            .any(|name| name == "DOCKER" || name == "DOCKER-FORWARD");
        let where_ = format!("table {family} {table}, chain {chain}");
        match hook.as_str() {
            "forward" if !named && !docker => findings.push(warning(
                "W1302",
                &format!("another firewall drops what workspaces send out ({where_})"),
                "let it accept iifname \"wrn-*\", and oifname \"wrn-*\" for what is established; \
                 Warren's own table decides the rest",
            )),
            "input" if !named => findings.push(warning(
                "W1303",
                &format!(
                    "another firewall drops what workspaces ask the node ({where_}), so names \
                          are not resolved"
                ),
                "let it accept iifname \"wrn-*\"; Warren's own table lets nothing in but questions \
                 for names",
            )),
            _ => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruleset(policy: &str, hook: &str, more: &str) -> Vec<String> {
        let json = format!(
            r#"{{"nftables":[{{"metainfo":{{}}}},
            {{"chain":{{"family":"inet","table":"warren","name":"ws_x","hook":"forward","prio":-10,
              "policy":"drop"}}}},
            {{"chain":{{"family":"ip","table":"filter","name":"CHAIN","hook":"{hook}","prio":0,
              "policy":"{policy}"}}}}{more}]}}"#
        );
        of_firewalls(json.as_bytes()).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_firewall_that_drops_by_default_is_told_unless_it_knows_us() {
        assert_eq!(ruleset("accept", "forward", ""), Vec::<String>::new());
        assert_eq!(ruleset("drop", "forward", ""), ["W1302"]);
        assert_eq!(ruleset("drop", "input", ""), ["W1303"]);
        assert_eq!(ruleset("drop", "output", ""), Vec::<String>::new());
        let docker = r#",{"chain":{"family":"ip","table":"filter","name":"DOCKER"}}"#;
        assert_eq!(ruleset("drop", "forward", docker), Vec::<String>::new());
        assert_eq!(ruleset("drop", "input", docker), ["W1303"], "Docker lets nothing in");
        let named = r#",{"rule":{"family":"ip","table":"filter","chain":"CHAIN",
            "expr":[{"match":{"right":"wrn-*"}}]}}"#;
        assert_eq!(ruleset("drop", "forward", named), Vec::<String>::new());
        assert_eq!(ruleset("drop", "input", named), Vec::<String>::new());
        let other = r#",{"chain":{"family":"ip6","table":"filter","name":"DOCKER"}}"#;
        assert_eq!(ruleset("drop", "forward", other), ["W1302"]);
    }

    #[test]
    fn forwarding_that_is_off_is_told() {
        assert_eq!(of_forwarding("0\n").len(), 1);
        assert_eq!(of_forwarding("1\n").len() + of_forwarding("").len(), 0);
    }

    #[test]
    fn each_trouble_has_its_code() {
        let trouble = Trouble {
            failed: Some(NetworkError::Tool(ToolError::Missing { program: "nft" })),
            lost: Some(Lost {
                at: Timestamp(1_700_000_000_000),
                what: "was removed",
                took: 41,
                paused: Some(2),
            }),
            bridges: vec!["acme/web".to_owned()],
            resolver: Some("no resolver is known".to_owned()),
            around: Vec::new(),
        };
        let findings = trouble.findings();
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(codes, ["E1301", "W1304", "W1305", "W1306"]);
        assert!(findings[0].message.contains("nft is not installed"), "{:?}", findings[0]);
        let lost = &findings[1].message;
        assert!(lost.contains("table was removed, and was put back at 2023-11-14T22:13:20Z"));
        assert!(lost.ends_with("41 ms after that was noticed; 2 workspaces stood still meanwhile"));
    }
}
