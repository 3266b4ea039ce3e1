//! Looks into workspaces are on record and change nothing.

use warren_model::{
    ClusterState, Command, Principal, RefusalCode,
    command::{NoteView, ViewTarget},
};

use crate::{
    make::{World, node, person, workspace},
    resizing::two,
};

#[test]
fn who_looks_into_a_workspace_is_on_record_and_nothing_else_changes() {
    let mut world = two();
    let before = world.state.clone();
    let note = |target| Command::NoteView(Box::new(NoteView { workspace: workspace(1), target }));
    for (target, detail) in [
        (ViewTarget::Port(8080), "port 8080"),
        (ViewTarget::Terminal, "terminal"),
        (ViewTarget::Editor, "editor"),
        (ViewTarget::Display, "display, view only"),
        (ViewTarget::DisplayControl, "display, with control"),
    ] {
        let asked = world.envelope(person(), note(target));
        let record = world.apply(&asked).audit.expect("it is on record");
        assert_eq!(record.action, "workspace.open");
        assert_eq!((record.principal, record.detail.as_str()), (person(), detail));
        assert_eq!(record.object.id, workspace(1).to_string());
    }
    let same = ClusterState {
        revision: before.revision,
        audit: before.audit,
        requests: before.requests.clone(),
        ..world.state.clone()
    };
    assert_eq!(same, before);
    let by_node = world.envelope(Principal::Node(node(1)), note(ViewTarget::Terminal));
    let refusal = world.apply(&by_node).result.expect_err("no node looks");
    assert_eq!(refusal.code, RefusalCode::NotAllowed);
    let mut empty = World::new();
    let asked = empty.envelope(person(), note(ViewTarget::Terminal));
    let refusal = empty.apply(&asked).result.expect_err("there is none");
    assert_eq!(refusal.code, RefusalCode::NotFound);
}
