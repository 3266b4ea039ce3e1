//! What is loaded, read back: `nft`'s JSON against what is wanted, and a fingerprint of it.
//!
//! Pure. Handles, counters and the sets that packets fill are no part of it; every rule is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::table::{DYNAMIC, TABLE, Wanted};

/// The table as it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Rules of each chain, and hook and priority of base chains.
    chains: BTreeMap<String, (usize, Option<(String, i64)>)>,
    /// Elements of each set and map.
    sets: BTreeMap<String, usize>,
    /// The first eight bytes of the SHA-256 over everything that matters; never zero.
    pub fingerprint: u64,
    /// Packets by counter.
    pub counters: BTreeMap<String, u64>,
}

impl Seen {
    /// Reads the answer of `nft -j list table inet warren`; none where it is no such answer.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let answer: Value = serde_json::from_slice(json).ok()?;
        let mut seen = Self {
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
            fingerprint: 0,
            counters: BTreeMap::new(),
        };
        let mut kept = Vec::new();
        for item in answer.get("nftables")?.as_array()? {
            let (kind, object) = item.as_object()?.iter().next()?;
            let text = |key: &str| Some(object.get(key)?.as_str()?.to_owned());
            match kind.as_str() {
                "metainfo" => continue,
                "counter" => {
                    let packets = object.get("packets")?.as_u64()?;
                    seen.counters.insert(text("name")?, packets);
                }
                "chain" => {
                    let hook = text("hook").zip(object.get("prio").and_then(Value::as_i64));
                    seen.chains.entry(text("name")?).or_default().1 = hook;
                }
                "rule" => seen.chains.entry(text("chain")?).or_default().0 += 1,
                "set" | "map" => {
                    let name = text("name")?;
                    if DYNAMIC.contains(&name.as_str()) {
                        continue;
                    }
                    let elements = object.get("elem").and_then(Value::as_array).map_or(0, Vec::len);
                    seen.sets.insert(name, elements);
                }
                _ => {}
            }
            kept.push(plain(item));
        }
        seen.fingerprint = fingerprint(&kept);
        Some(seen)
    }

    /// Returns the names of the chains.
    pub fn chains(&self) -> BTreeSet<String> {
        self.chains.keys().cloned().collect()
    }

    /// Checks that everything that was wanted is there and nothing else.
    ///
    /// # Errors
    /// Names the first thing that differs.
    pub fn check(&self, wanted: &Wanted) -> Result<(), String> {
        let chains = wanted.chains();
        for chain in &chains {
            let Some((rules, hook)) = self.chains.get(&chain.name) else {
                return Err(format!("chain {} is missing", chain.name));
            };
            if *rules != chain.rules.len() {
                let (name, meant) = (&chain.name, chain.rules.len());
                return Err(format!("chain {name} has {rules} rules, not {meant}"));
            }
            let meant = chain.hook.map(|(_, hook, priority)| (hook, i64::from(priority)));
            if hook.as_ref().map(|(hook, priority)| (hook.as_str(), *priority)) != meant {
                return Err(format!("chain {} is not where it belongs", chain.name));
            }
        }
        if self.chains.len() != chains.len() {
            return Err("there are chains beside ours".to_owned());
        }
        for (_, name, _, elements) in wanted.sets() {
            let found = self.sets.get(name).copied();
            if found != Some(elements.len()) {
                return Err(format!("set {name} has {found:?} elements, not {}", elements.len()));
            }
        }
        Ok(())
    }
}

/// Returns an item without what changes by itself; elements of sets in one order.
fn plain(item: &Value) -> Value {
    match item {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| {
                !matches!(key.as_str(), "handle" | "packets" | "bytes" | "index")
            });
            Value::Object(
                kept.map(|(key, value)| (key.clone(), element(key, plain(value)))).collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        other => other.clone(),
    }
}

fn element(key: &str, value: Value) -> Value {
    match (key, value) {
        ("elem", Value::Array(mut items)) => {
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        (_, value) => value,
    }
}

fn fingerprint(items: &[Value]) -> u64 {
    let mut hash = Sha256::new();
    hash.update(TABLE);
    for item in items {
        hash.update(item.to_string());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first).max(1)
}
