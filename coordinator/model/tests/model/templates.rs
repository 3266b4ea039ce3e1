//! Templates: versions, which one is active, and what is kept.

use warren_common::{Limits, TemplateName};
use warren_model::{
    Command, Outcome, RefusalCode,
    command::{
        TemplateCommand,
        template::{ActivateTemplate, DeleteTemplate, PushTemplate},
    },
    state::Template,
};

use crate::make::{World, person};

fn name() -> TemplateName {
    "agent".parse().expect("a name")
}

fn command(command: TemplateCommand) -> Command {
    Command::Template(Box::new(command))
}

fn push(text: &str, activate: bool) -> Command {
    let message = format!("as {text}");
    let (template, text) = (name(), text.to_owned());
    command(TemplateCommand::Push(PushTemplate { template, text, message, activate }))
}

fn activate(version: Option<u32>) -> Command {
    command(TemplateCommand::Activate(ActivateTemplate { template: name(), version }))
}

fn delete() -> Command {
    command(TemplateCommand::Delete(DeleteTemplate { template: name() }))
}

fn template(world: &World) -> &Template {
    world.state.templates.get(&name()).expect("it is there")
}

fn numbers(world: &World) -> Vec<u32> {
    template(world).versions.iter().map(|version| version.number).collect()
}

#[test]
fn the_first_version_is_active_and_later_ones_when_asked() {
    let mut world = World::with_nodes(&[]);
    assert_eq!(world.must(push("one", false)).outcome, Outcome::Template(1));
    assert_eq!(template(&world).active, 1);
    assert_eq!(world.must(push("two", false)).outcome, Outcome::Template(2));
    assert_eq!((template(&world).active, template(&world).before), (1, None));
    assert_eq!(world.must(push("three", true)).outcome, Outcome::Template(3));
    assert_eq!((template(&world).active, template(&world).before), (3, Some(1)));
    assert_eq!(template(&world).version(3).expect("kept").message, "as three");
    // back, which done twice is not back where it began
    assert_eq!(world.must(activate(None)).outcome, Outcome::Template(1));
    assert_eq!(world.refused(activate(None)).code, RefusalCode::WrongState);
    assert_eq!(world.must(activate(Some(2))).outcome, Outcome::Template(2));
    assert_eq!((template(&world).active, template(&world).before), (2, Some(1)));
}

#[test]
fn the_newest_pushed_again_adds_nothing_and_is_on_no_record() {
    let mut world = World::with_nodes(&[]);
    world.must(push("one", false));
    world.must(push("two", false));
    let again = world.envelope(person(), push("two", false));
    let effect = world.apply(&again);
    assert_eq!(effect.result.expect("as asked").outcome, Outcome::Template(2));
    assert!(effect.audit.is_none());
    // unless it is to be active
    let switched = world.envelope(person(), push("two", true));
    let effect = world.apply(&switched);
    let audit = effect.audit.expect("a record");
    assert_eq!(
        (audit.action.as_str(), audit.object.address.as_str()),
        ("template.activate", "agent")
    );
    assert_eq!(audit.detail, "version 1 to 2");
    // an older text is a new version: nobody is moved back unasked
    assert_eq!(world.must(push("one", false)).outcome, Outcome::Template(3));
}

#[test]
fn old_versions_go_and_those_in_use_stay() {
    let mut world = World::with_nodes(&[]);
    world.must(push("text 1", false));
    world.must(push("text 2", true));
    let last = u32::try_from(Limits::TEMPLATE_VERSIONS).expect("small") + 7;
    for number in 3..=last {
        world.must(push(&format!("text {number}"), false));
    }
    let kept = numbers(&world);
    assert_eq!(kept.len(), Limits::TEMPLATE_VERSIONS);
    assert_eq!(kept[..3], [1, 2, 10], "the active one, the one before it, then the newest");
    assert_eq!(kept.last(), Some(&last));
    let refusal = world.refused(activate(Some(5)));
    assert_eq!(refusal.code, RefusalCode::NotFound);
    assert!(refusal.message.starts_with("template agent has no version 5; there are 1, 2, 10"));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut world = World::with_nodes(&[]);
    assert_eq!(world.refused(activate(None)).code, RefusalCode::NotFound);
    assert_eq!(world.refused(delete()).code, RefusalCode::NotFound);
    let long = "x".repeat(Limits::TEMPLATE_BYTES + 1);
    assert_eq!(world.refused(push(&long, false)).code, RefusalCode::InvalidSpec);
    world.must(push(&long[1..], false));
    let refusal = world.refused(activate(None));
    assert_eq!(refusal.code, RefusalCode::WrongState);
    assert_eq!(refusal.message, "template agent had no version active before 1");
    assert_eq!(world.must(delete()).outcome, Outcome::Template(1));
    assert!(world.state.templates.is_empty());
    // numbers begin again: it is another template
    assert_eq!(world.must(push("one", false)).outcome, Outcome::Template(1));
    for number in 1..Limits::TEMPLATES {
        let template = format!("t{number}").parse().expect("a name");
        let (text, message) = ("x".to_owned(), String::new());
        let push = PushTemplate { template, text, message, activate: false };
        world.must(command(TemplateCommand::Push(push)));
    }
    let (template, text) = ("more".parse().expect("a name"), "x".to_owned());
    let push = PushTemplate { template, text, message: String::new(), activate: false };
    let refusal = world.refused(command(TemplateCommand::Push(push)));
    assert_eq!(refusal.code, RefusalCode::LimitReached);
}
