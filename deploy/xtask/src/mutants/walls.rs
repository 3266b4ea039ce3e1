//! The walls that are taken away, one by one.

use super::Mutant;

const BODY: &str = "node-agent/src/engine/docker/body.rs";

/// See the module.
pub const MUTANTS: [Mutant; 1] = [Mutant {
    name: "all capabilities are kept",
    file: BODY,
    from: r#"cap_drop: Some(vec!["ALL".to_owned()])"#,
    to: "cap_drop: Some(Vec::new())",
    test: "walls::no_capability_is_left",
}];
