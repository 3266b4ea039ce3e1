//! The walls that are taken away, one by one.

use super::Mutant;

const BODY: &str = "node-agent/src/engine/docker/body.rs";
const TABLE: &str = "node-agent/src/network/table.rs";
/// Probes from inside a container, each with a control.
const INSIDE: &str = "walls::no_power_file_call_process_or_memory_of_the_host_can_be_had";
/// Probes of what can be reached.
const REACH: &str = "network::a_workspace_reaches_the_internet_and_nothing_else";

const fn body(name: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { name, file: BODY, from, to, test: INSIDE }
}

const fn rule(name: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { name, file: TABLE, from, to, test: REACH }
}

/// See the module.
pub const MUTANTS: [Mutant; 13] = [
    body("capabilities are kept", r#"vec!["ALL".to_owned()]"#, "Vec::new()"),
    rule("everything is accepted", r#""ct direction original jump ws_policy""#, r#""accept""#),
    body("privileges can be gained", "no-new-privileges:true", "no-new-privileges:false"),
    body(
        "no system call is filtered",
        r#"format!("seccomp={profile}")"#,
        r#""seccomp=unconfined".to_owned()"#,
    ),
    body("the root can be written", "readonly_rootfs: Some(true)", "readonly_rootfs: Some(false)"),
    body("the kernel's files are shown", "MASKED.map(str::to_owned).to_vec()", "Vec::new()"),
    body(
        "processes are the host's",
        "pid_mode: Some(String::new())",
        "pid_mode: Some(\"host\".to_owned())",
    ),
    body("shared memory is the host's", r#"ipc_mode: Some("private""#, r#"ipc_mode: Some("host""#),
    rule(
        "private ranges are open",
        r#"            "ct original ip daddr @ws_private goto ws_allowed".to_owned(),"#,
        "",
    ),
    rule(
        "metadata is open",
        r#"            "ct original ip daddr @ws_never return".to_owned(),"#,
        "",
    ),
    rule("other resolvers are open", "[u16; 2] = [53, 853]", "[u16; 2] = [5354, 8853]"),
    rule(
        "published ports are open",
        r#"                    "ct status dnat goto ws_refuse".to_owned(),"#,
        "",
    ),
    Mutant {
        name: "connections are not counted",
        file: TABLE,
        from: "ct count over {connections}",
        to: "ct count over 1000000",
        test: "flood::a_flood_of_connections_is_bounded_and_its_neighbour_connects",
    },
];
