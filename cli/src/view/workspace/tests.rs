//! What is told of a home, and of workspaces on silent nodes.

use warren_proto::pb::node::v1 as node;

use super::*;

fn workspace(used: u64, live: bool) -> Workspace {
    let gib = Bytes::GIB;
    let volume = node::VolumeUsage { used_bytes: used, limit_bytes: 20 * gib };
    let resources = node::Resources { disk_bytes: 20 * gib, ..Default::default() };
    Workspace::from(pb::Workspace {
        phase: pb::Phase::Active.into(),
        node: "n1".to_owned(),
        spec: Some(node::WorkspaceSpec { resources: Some(resources), ..Default::default() }),
        observed: Some(node::WorkspaceObserved {
            state: node::RunState::Running.into(),
            volume: Some(volume),
            ..Default::default()
        }),
        observed_unix_ms: 1,
        observed_live: live,
        ..Default::default()
    })
}

#[test]
fn a_full_home_is_told_and_what_is_not_known_now_is_not() {
    let gib = Bytes::GIB;
    let full = workspace(20 * gib - gib / 10, true);
    assert_eq!(full.table_reason(), "home full, 19.9 of 20 GiB");
    assert!(full.text(Timestamp(2)).contains("full, 19.9 of 20 GiB"));
    let shown = serde_json::to_value(&full).expect("JSON");
    assert_eq!(shown["observed"]["volume"]["full"], true);
    let half = workspace(gib / 2, true);
    assert_eq!((half.table_reason(), half.home()), (String::new(), "512 MiB of 20 GiB".to_owned()));
    assert_eq!(workspace(20 * gib, false).home(), "20 GiB", "its node is silent");
}
#[test]
fn of_a_silent_node_nobody_is_said_to_run_though_nothing_was_heard_of_them_here() {
    let mut unheard = pb::Workspace {
        phase: pb::Phase::Active.into(),
        node: "n1".to_owned(),
        ..Default::default()
    };
    assert_eq!(Workspace::from(unheard.clone()).status, "active");
    unheard.silent_since_unix_ms = 1_000;
    let silent = Workspace::from(unheard);
    assert_eq!(silent.status, "active, n1 silent since 1970-01-01T00:00:01Z");
}

#[test]
fn browsers_with_a_sandbox_are_told_and_others_are_not() {
    let shown = |value: &str| {
        let labels = [("warren.browser-sandbox".to_owned(), value.to_owned())].into();
        let spec = Some(node::WorkspaceSpec { labels, ..Default::default() });
        let workspace = Workspace::from(pb::Workspace { spec, ..Default::default() });
        (workspace.spec.browser_sandbox, workspace.text(Timestamp(2)).contains("their own sandbox"))
    };
    assert_eq!((shown("on"), shown("off")), ((true, true), (false, false)));
}
