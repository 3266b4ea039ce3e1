//! Orders and grounds for tests.

use std::{net::Ipv4Addr, path::PathBuf};

use warren_common::{
    Bytes, Generation,
    spec::{
        Failover, Labels, PlacementRules, Resources, Run, SessionSpec, WorkspaceOrder,
        WorkspaceSpec,
    },
};

use super::{Abilities, Ground};

pub(crate) fn order() -> WorkspaceOrder {
    WorkspaceOrder {
        workspace: "0199a0b2-7f00-7000-8000-0000deadbeef".parse().expect("an id"),
        client: "0199a0b2-7f00-7000-8000-000000000002".parse().expect("an id"),
        address: "acme/web".parse().expect("an address"),
        generation: Generation::new(1, 4),
        run: Run::Running,
        run_serial: 7,
        permit: None,
        request: None,
        sessions: Vec::new(),
        sessions_told: true,
        spec: WorkspaceSpec {
            template: "base".to_owned(),
            image: "debian:bookworm-slim".to_owned(),
            repo: None,
            branch: None,
            setup: None,
            git_identity: None,
            sessions: vec![SessionSpec { name: "main".parse().expect("a name"), command: None }],
            resources: Resources::with_memory(Bytes::gib(1)),
            placement: PlacementRules::default(),
            failover: Failover::Auto,
            labels: Labels::new(),
        },
    }
}

pub(crate) fn ground() -> Ground {
    Ground {
        cluster: "0199a0b2-7f00-7000-8000-0000000000aa".parse().expect("an id"),
        node: "0199a0b2-7f00-7000-8000-0000000000bb".parse().expect("an id"),
        cgroup_parent: "/warren-n1".to_owned(),
        inside: PathBuf::from("/opt/warren/warren-inside"),
        hooks: PathBuf::from("/var/lib/warren/node/hooks"),
        run: PathBuf::from("/run/warren/n1/w"),
        secrets: PathBuf::from("/run/warren/n1/secrets/w"),
        home: PathBuf::from("/pool/w/home"),
        tmp: PathBuf::from("/pool/w/tmp"),
        abilities: Abilities {
            swap_limit: true,
            pids_limit: true,
            apparmor: false,
            ipv6: true,
            open_files: 65_536,
        },
        runtime: None,
        resolver: Some(Ipv4Addr::new(10, 213, 0, 1)),
    }
}
