//! Another image: when a workspace starts again by it, and the way back.

use warren_common::Bytes;
use warren_model::{
    Command, RefusalCode,
    command::{RunRequest, Update, UpdateWorkspace},
    node_spec,
    state::{Desired, PhaseKind},
};

use crate::make::{World, create_workspace, node, person, set_run, spec, workspace};

fn to(image: &str) -> Command {
    let update = Update::Image(image.to_owned());
    Command::UpdateWorkspace(UpdateWorkspace { workspace: workspace(1), update })
}

fn back() -> Command {
    let update = Update::ImageBefore;
    Command::UpdateWorkspace(UpdateWorkspace { workspace: workspace(1), update })
}

fn one() -> World {
    let mut world = World::with_nodes(&[Bytes::gib(16)]);
    world.must(create_workspace(1, "web", spec(Bytes::gib(4))));
    world.settle();
    world
}

fn image(world: &World) -> String {
    world.workspace(1).spec.whole().image
}

#[test]
fn what_runs_starts_again_with_the_order_that_names_the_new_image() {
    let mut world = one();
    let (run, first) = (world.workspace(1).run_serial, image(&world));
    let envelope = world.envelope(person(), to("agents:2"));
    let effect = world.apply(&envelope);
    effect.result.clone().expect("it is there");
    let audit = effect.audit.expect("a record");
    let told = (audit.action.as_str(), audit.object.address.as_str(), audit.detail.as_str());
    let detail = format!("image {first} to agents:2");
    assert_eq!(told, ("workspace.update", "acme/web", detail.as_str()));
    let order = node_spec(&world.state, node(1), 1).workspaces.remove(0);
    assert_eq!((order.spec.image.as_str(), order.run_serial), ("agents:2", run + 1));
    assert_eq!((order.permit, order.request), (None, Some(envelope.request)));
    assert_eq!(world.workspace(1).phase.kind, PhaseKind::Preparing);
    assert!(world.apply(&envelope).result.expect("answered again").repeated);
    let same = world.envelope(person(), to("agents:2"));
    assert!(world.apply(&same).audit.is_none(), "everything is as asked");
    assert_eq!(world.workspace(1).run_serial, run + 1);
}

#[test]
fn the_way_back_is_there_once() {
    let mut world = one();
    let first = image(&world);
    assert_eq!(world.refused(back()).code, RefusalCode::WrongState);
    world.must(to("agents:2"));
    world.must(to("agents:3"));
    world.must(back());
    assert_eq!(image(&world), "agents:2");
    assert_eq!(world.refused(back()).code, RefusalCode::WrongState);
    world.must(to(&first));
    world.must(set_run(1, RunRequest::Delete));
    assert_eq!(world.refused(back()).code, RefusalCode::WrongState);
}

#[test]
fn one_that_is_stopped_stays_stopped_and_one_that_failed_runs_again() {
    let mut world = one();
    world.must(set_run(1, RunRequest::Stop));
    let run = world.workspace(1).run_serial;
    world.must(to("agents:2"));
    let stopped = world.workspace(1);
    assert_eq!((stopped.desired, stopped.run_serial), (Desired::Stopped, run));
    assert_eq!(image(&world), "agents:2");
    let code = world.refused(to(" ")).code;
    assert_eq!((code, image(&world).as_str()), (RefusalCode::InvalidSpec, "agents:2"));
}
