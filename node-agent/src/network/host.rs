//! What the host has of ours beside the table: bridges with their addresses, and the routing rules
//! that hold where there is no table.
//!
//! A rule per bridge sends what lacks the table's mark nowhere. It cannot keep a workspace from the
//! host's own ports, since the host's own addresses are looked up before any rule.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde_json::Value;

use super::{
    table::{MARK, PREFIX},
    tool::{self, ToolError},
};
use crate::container::subnet::Subnet;

/// Where our rules stand: behind the host's own addresses, before every routing table.
const PRIORITY: &str = "7400";

/// A bridge of ours as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The host's address on it.
    pub gateway: Ipv4Addr,
    /// Its range.
    pub subnet: Subnet,
}

/// Returns every device of ours that has an IPv4 address, by name.
///
/// # Errors
/// `ip` fails.
pub async fn links() -> Result<BTreeMap<String, Link>, ToolError> {
    let answer = tool::run("ip", &["-j", "-4", "address", "show"], "").await?;
    Ok(parse_links(&answer))
}

/// Returns whether each of our rules is as it should be, by bridge.
///
/// # Errors
/// `ip` fails.
pub async fn backstops() -> Result<BTreeMap<String, bool>, ToolError> {
    let answer = tool::run("ip", &["-j", "-4", "rule", "show"], "").await?;
    Ok(parse_rules(&answer))
}

/// Adds the rule of a bridge, which need not be there yet.
///
/// # Errors
/// `ip` fails.
pub async fn add_backstop(bridge: &str) -> Result<(), ToolError> {
    change("add", bridge).await
}

/// Removes the rule of a bridge.
///
/// # Errors
/// `ip` fails.
pub async fn remove_backstop(bridge: &str) -> Result<(), ToolError> {
    change("del", bridge).await
}

/// Removes the rule of every bridge, as often as it is there.
///
/// # Errors
/// `ip` fails.
pub async fn remove_backstops() -> Result<(), ToolError> {
    let answer = tool::run("ip", &["-j", "-4", "rule", "show"], "").await?;
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    for item in answer.as_array().into_iter().flatten().filter(|item| is_ours(item)) {
        let bridge = item.get("iif").and_then(Value::as_str).unwrap_or_default();
        tool::run("ip", &["-4", "rule", "del", "priority", PRIORITY, "iif", bridge], "").await?;
    }
    Ok(())
}

/// Whether one of the kernel's routing rules is ours.
fn is_ours(item: &Value) -> bool {
    let iif = item.get("iif").and_then(Value::as_str).unwrap_or_default();
    item.get("priority").and_then(Value::as_u64) == PRIORITY.parse().ok() && iif.starts_with(PREFIX)
}

async fn change(verb: &str, bridge: &str) -> Result<(), ToolError> {
    // a mark of zero under the mask: what the table did not mark
    let unmarked = format!("0x0/{MARK:#x}");
    let rule = ["-4", "rule", verb, "priority", PRIORITY, "iif", bridge, "fwmark", &unmarked];
    let arguments: Vec<&str> = rule.into_iter().chain(["unreachable"]).collect();
    match tool::run("ip", &arguments, "").await {
        Err(ToolError::Refused { said, .. }) if said.contains("File exists") => Ok(()),
        outcome => outcome.map(drop),
    }
}

fn parse_links(json: &[u8]) -> BTreeMap<String, Link> {
    let answer: Value = serde_json::from_slice(json).unwrap_or_default();
    let link = |item: &Value| {
        let name = item.get("ifname")?.as_str().filter(|name| name.starts_with(PREFIX))?;
        let address = item.get("addr_info")?.as_array()?.iter().find_map(|one| {
            let gateway: Ipv4Addr = one.get("local")?.as_str()?.parse().ok()?;
            let bits = u8::try_from(one.get("prefixlen")?.as_u64()?).ok()?;
            Some(Link { gateway, subnet: Subnet::new(gateway, bits)? })
        })?;
        Some((name.to_owned(), address))
    };
    answer.as_array().into_iter().flatten().filter_map(link).collect()
}

/// Two rules of one bridge are one too many, and told as not right.
fn parse_rules(json: &[u8]) -> BTreeMap<String, bool> {
    let answer: Value = serde_json::from_slice(json).unwrap_or_default();
    let mut rules = BTreeMap::new();
    for item in answer.as_array().into_iter().flatten() {
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| match text(key).strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text(key).parse().ok(),
        };
        if !is_ours(item) {
            continue;
        }
        let right = text("action") == "unreachable"
            && item.get("not").is_none()
            && number("fwmark") == Some(0)
            && number("fwmask") == Some(MARK);
        rules.entry(text("iif").to_owned()).and_modify(|one| *one = false).or_insert(right);
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_are_read_with_their_ranges_and_other_devices_are_not() {
        let json = br#"[{},{"ifname":"eth0","addr_info":[{"family":"inet","local":"203.0.113.1",
            "prefixlen":24}]},{"ifname":"wrn-deadbeef","addr_info":[{"family":"inet",
            "local":"10.213.0.17","prefixlen":28}]},{"ifname":"wrn-0badcafe","addr_info":[]}]"#;
        let links = parse_links(json);
        assert_eq!(links.keys().collect::<Vec<_>>(), ["wrn-deadbeef"]);
        assert_eq!(links["wrn-deadbeef"].subnet.to_string(), "10.213.0.16/28");
        assert_eq!(links["wrn-deadbeef"].gateway.to_string(), "10.213.0.17");
        assert!(parse_links(b"no json").is_empty());
    }

    #[test]
    fn a_rule_that_is_not_ours_or_not_right_is_told_apart() {
        let json = br#"[{"priority":0,"src":"all","table":"local"},
            {"priority":7400,"src":"all","fwmark":"0","fwmask":"0x1000000","iif":"wrn-a",
             "action":"unreachable"},
            {"not":null,"priority":7400,"src":"all","fwmark":"0x1000000","fwmask":"0x1000000",
             "iif":"wrn-b","action":"unreachable"},
            {"priority":7400,"src":"all","fwmark":"0","fwmask":"0x1000000","iif":"wrn-c",
             "action":"unreachable"},
            {"priority":7400,"src":"all","fwmark":"0","fwmask":"0x1000000","iif":"wrn-c",
             "action":"unreachable"},
            {"priority":7400,"src":"all","iif":"eth0","table":"main"}]"#;
        let rules: Vec<(String, bool)> = parse_rules(json).into_iter().collect();
        let expected = [("wrn-a", true), ("wrn-b", false), ("wrn-c", false)];
        assert_eq!(rules, expected.map(|(name, right)| (name.to_owned(), right)));
    }
}
