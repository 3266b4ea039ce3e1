//! Sessions after a restore: what their nodes were told by the cluster as it was.

use warren_common::{
    Generation, Limits, ReplicaId, Revision,
    spec::{HeldOrder, SessionOrder, SessionWish},
};
use warren_model::{
    AuditRecord, Command, RefusalCode,
    command::{
        AdoptWorkspace, BeginIncarnation, SessionCommand, SetReplica,
        session::{AdoptSessions, TakeOverSessions},
    },
    node_spec,
    state::ClusterState,
};

use crate::{
    make::{World, node, workspace},
    sessions::{
        claude, command, create, delete, main, name, on, restart, stop, told, told_of, world,
    },
};

#[test]
fn what_a_node_was_told_after_the_backup_is_taken_over_after_a_restore() {
    let mut world = world();
    world.must(create(Some("kept"), claude()));
    let backup = world.state.clone();
    world.must(create(Some("newer"), claude()));
    world.must(restart("kept", true));
    world.must(stop("main"));
    let held = told(&world);
    let (known, generation) = (world.state.revision, world.workspace(1).generation);
    world.state = backup;
    world.state.restored = Some(world.state.revision);
    let by = |n, generation, told| {
        let (node, sessions) = (crate::make::node(n), held.clone());
        let adopt = AdoptSessions { workspace: workspace(1), node, generation, told, sessions };
        command(SessionCommand::TakeOver(TakeOverSessions { incarnation: 7, adopt }))
    };
    let adopt = || by(1, generation, known);
    // a node that does not hold it, or held it once, has no say; nor has one that knows less
    let before = world.state.sessions.clone();
    let older = Generation::default();
    for strange in [by(2, generation, known), by(1, older, known)] {
        let envelope = world.envelope(crate::make::coordinator(), strange);
        world.apply(&envelope).result.expect("it applies");
        assert_eq!(world.state.sessions, before);
    }
    let behind = world.envelope(crate::make::coordinator(), by(1, generation, Revision(1)));
    let mut late = world.clone();
    late.apply(&behind).result.expect("it applies");
    assert_eq!(told(&late), told(&world), "what it knows is older: newer is not there");
    assert!(told(&late).iter().all(|order| order.name != name("newer")));
    let by_person = world.envelope(crate::make::person(), adopt());
    let refusal = world.apply(&by_person).result.expect_err("not a person's to ask");
    assert_eq!(refusal.code, RefusalCode::NotAllowed);
    let by_coordinator = world.envelope(crate::make::coordinator(), adopt());
    world.apply(&by_coordinator).result.expect("it applies");
    let sorted = |mut orders: Vec<SessionOrder>| {
        orders.sort_by(|one, other| one.name.cmp(&other.name));
        orders
    };
    assert_eq!(sorted(told(&world)), sorted(held.clone()));
    // what was asked since the restore is kept, and its run comes after those of before
    let before = told_of(&world, "newer").run;
    world.must(restart("newer", false));
    let after = told_of(&world, "newer").run;
    assert!(after > before);
    let again = world.envelope(crate::make::coordinator(), adopt());
    world.apply(&again).result.expect("it applies");
    assert_eq!(told_of(&world, "newer").run, after);
}

fn begin(incarnation: u32, replica: u64) -> Command {
    let replica = SetReplica {
        replica: ReplicaId(replica),
        api_address: format!("10.0.0.{replica}:7400"),
        raft_address: format!("10.0.0.{replica}:7401"),
    };
    let reason = "restored".to_owned();
    Command::BeginIncarnation(BeginIncarnation { incarnation, replica, reason })
}

/// Goes back to `backup`, as a restore does, and returns what its node tells when it registers: what
/// it was told last and when.
pub(crate) fn restore(world: &mut World, backup: ClusterState) -> AdoptSessions {
    let (sessions, told) = (self::told(world), world.state.revision);
    let generation = world.workspace(1).generation;
    world.state = backup;
    let node = on(world);
    world.must(begin(8, 9));
    AdoptSessions { workspace: workspace(1), node, generation, told, sessions }
}

/// Takes over what the node was told in the incarnation before this one.
pub(crate) fn adopt(world: &mut World, adopt: AdoptSessions) -> Option<AuditRecord> {
    let present = world.state.cluster.as_ref().map_or(0, |cluster| cluster.incarnation);
    adopt_of(world, (present - 1, adopt))
}

fn adopt_of(world: &mut World, (incarnation, adopt): (u32, AdoptSessions)) -> Option<AuditRecord> {
    let take = command(SessionCommand::TakeOver(TakeOverSessions { incarnation, adopt }));
    let envelope = world.envelope(crate::make::coordinator(), take);
    let effect = world.apply(&envelope);
    effect.result.expect("it applies");
    effect.audit
}

fn names(world: &World) -> Vec<String> {
    told(world).iter().map(|order| order.name.to_string()).collect()
}

#[test]
fn what_was_deleted_before_the_backup_while_its_node_was_away_stays_deleted() {
    let mut world = world();
    world.must(create(Some("kept"), claude()));
    world.must(create(Some("late"), claude()));
    let (away, when) = (told(&world), world.state.revision);
    world.must(delete("late"));
    let backup = world.state.clone();
    let held = restore(&mut world, backup);
    adopt(&mut world, AdoptSessions { told: when, sessions: away, ..held });
    assert!(told(&world).iter().all(|order| order.name != name("late")), "{:?}", told(&world));
    assert_eq!(told_of(&world, "kept").wish, SessionWish::Run);
}

#[test]
fn what_is_deleted_after_the_restore_before_its_node_comes_stays_deleted() {
    let mut world = world();
    world.must(create(Some("kept"), claude()));
    world.must(create(Some("gone"), claude()));
    let backup = world.state.clone();
    // the node knows more than the backup, and of this one nothing else
    world.must(stop("kept"));
    let held = restore(&mut world, backup);
    assert!(held.sessions.iter().any(|order| order.name == name("gone")));
    world.must(delete("gone"));
    adopt(&mut world, held.clone());
    assert!(told(&world).iter().all(|order| order.name != name("gone")), "{:?}", told(&world));
    assert_eq!(told_of(&world, "kept").wish, SessionWish::Stop, "the rest is taken over");
    // one that takes its name is another one
    world.must(create(Some("gone"), claude()));
    let life = told_of(&world, "gone").life;
    adopt(&mut world, held.clone());
    assert_eq!(told_of(&world, "gone").life, life);
    world.must(delete("gone"));
    adopt(&mut world, held);
    assert!(told(&world).iter().all(|order| order.name != name("gone")), "{:?}", told(&world));
}

#[test]
fn what_was_deleted_after_the_backup_is_deleted_where_its_node_was_told_so() {
    let mut world = world();
    world.must(create(Some("kept"), claude()));
    world.must(create(Some("gone"), claude()));
    world.must(create(Some("again"), claude()));
    let backup = world.state.clone();
    world.must(delete("gone"));
    let held = restore(&mut world, backup);
    // whoever asked for it since the restore wants it
    world.must(restart("again", false));
    let mut without = held;
    without.sessions.retain(|order| order.name != name("again"));
    adopt(&mut world, without);
    assert_eq!(names(&world), ["main", "again", "kept"]);
}

#[test]
fn the_last_session_that_was_deleted_after_the_backup_stays_deleted() {
    let mut world = world();
    world.must(create(Some("gone"), claude()));
    let backup = world.state.clone();
    world.must(delete("gone"));
    let order = node_spec(&world.state, node(1), 1).workspaces.remove(0);
    assert!(order.sessions.is_empty() && order.sessions_told, "none, and that is said");
    let held = restore(&mut world, backup);
    assert_eq!(told_of(&world, "gone").wish, SessionWish::Run);
    adopt(&mut world, held);
    assert!(world.state.sessions.is_empty(), "{:?}", told(&world));
}

#[test]
fn a_life_after_a_restore_comes_after_every_life_before() {
    let mut world = world();
    let backup = world.state.clone();
    let mut lives = Vec::new();
    for _ in 0..20 {
        world.must(create(Some("review"), claude()));
        lives.push(told_of(&world, "review").life);
        world.must(delete("review"));
    }
    world.must(restart("main", false));
    let run = told_of(&world, "main").run;
    let held = restore(&mut world, backup);
    // its revisions are those of before
    world.must(create(Some("review"), claude()));
    let review = told_of(&world, "review");
    assert!(world.state.revision.0 < lives[19], "{lives:?}");
    assert!(lives.iter().all(|life| *life < review.life), "{} {lives:?}", review.life);
    assert_eq!((review.run, review.conversation), (review.life, review.life));
    world.must(restart("main", false));
    assert!(told_of(&world, "main").run > run);
    adopt(&mut world, held);
    assert_eq!(told_of(&world, "review").life, review.life, "somebody asked for it since");

    // and again: what the second life of the cluster gave is before the third's
    let backup = world.state.clone();
    world.must(create(Some("late"), claude()));
    let late = told_of(&world, "late");
    let held = AdoptSessions { told: world.state.revision, ..again(&mut world, backup) };
    assert!(told(&world).iter().all(|order| order.name != name("late")));
    world.must(create(Some("other"), claude()));
    assert!(told_of(&world, "other").life > late.life);
    adopt(&mut world, AdoptSessions { sessions: vec![late.clone()], ..held });
    assert_eq!(told_of(&world, "late"), late, "it was made after the backup");
}

/// Restores once more.
fn again(world: &mut World, backup: ClusterState) -> AdoptSessions {
    let generation = world.workspace(1).generation;
    let told = world.state.revision;
    world.state = backup;
    world.must(begin(9, 10));
    AdoptSessions { workspace: workspace(1), node: node(1), generation, told, sessions: Vec::new() }
}

#[test]
fn what_is_of_a_spec_that_was_replaced_since_the_restore_is_not_taken_over() {
    let mut world = world();
    let backup = world.state.clone();
    let held = restore(&mut world, backup);
    let old = SessionOrder { name: name("old"), ..SessionOrder::of_spec(&main()) };
    adopt(&mut world, AdoptSessions { sessions: vec![old], ..held });
    assert!(world.state.sessions.is_empty(), "{:?}", world.state.sessions);
}

#[test]
fn a_session_that_the_newer_spec_lacks_leaves_no_record_after_a_restore() {
    let mut world = world();
    world.must(stop("main"));
    let backup = world.state.clone();
    // the node was told of another spec after the backup
    let mut order = node_spec(&world.state, node(1), 1).workspaces.remove(0);
    order.spec.sessions.clear();
    order.sessions.clear();
    let revision = Revision(world.state.revision.0 + 5);
    restore(&mut world, backup);
    assert!(world.state.session(workspace(1), &name("main")).is_some());
    let held = HeldOrder { order, started_run: 0 };
    let adopt = AdoptWorkspace { node: node(1), revision, held };
    world.must(Command::AdoptWorkspace(Box::new(adopt)));
    assert!(world.workspace(1).spec.whole().sessions.is_empty(), "the newer one counts");
    assert!(world.state.session(workspace(1), &name("main")).is_none());
}

#[test]
fn a_word_of_an_earlier_incarnation_changes_nothing_that_came_after_it() {
    let mut world = world();
    world.must(create(Some("old"), claude()));
    world.must(create(Some("kept"), claude()));
    let backup = world.state.clone();
    // its node is away until the cluster was restored twice, and was told much before
    for _ in 0..50 {
        world.must(restart("old", false));
    }
    world.must(delete("kept"));
    let word = restore(&mut world, backup);
    world.must(create(Some("second"), claude()));
    world.must(restart("kept", false));
    world.must(restart("main", true));
    let (second, kept) = (told_of(&world, "second"), told_of(&world, "kept"));
    let main = told_of(&world, "main");
    let backup = world.state.clone();
    again(&mut world, backup);
    assert!(word.told > world.state.revision, "the test proves less");
    let mut as_it_was = world.clone();
    adopt_of(&mut world, (7, word.clone()));
    assert_eq!(told_of(&world, "second"), second, "nobody in incarnation 7 knew of it");
    assert_eq!(told_of(&world, "kept"), kept, "somebody wanted it since");
    assert_eq!(told_of(&world, "main"), main, "a later run counts");

    // of the incarnation that it was made in, the same word deletes it
    adopt_of(&mut as_it_was, (8, word));
    assert_eq!(names(&as_it_was), ["main", "old"]);
}

#[test]
fn a_node_brings_no_more_sessions_back_than_people_may_make() {
    let mut world = world();
    let backup = world.state.clone();
    for n in 1..Limits::SESSIONS {
        world.must(create(Some(&format!("before-{n}")), claude()));
    }
    let held = restore(&mut world, backup);
    for n in 1..Limits::SESSIONS {
        world.must(create(Some(&format!("since-{n}")), claude()));
    }
    let record = adopt(&mut world, held.clone()).expect("it is on the record");
    assert_eq!(names(&world).len(), 1 + Limits::SESSIONS, "one of the spec and those of people");
    assert!(names(&world).len() <= Limits::SESSIONS_TOLD, "a node takes its order");
    let first = held.sessions.iter().find(|order| order.life > 0).expect("one");
    assert!(names(&world).contains(&first.name.to_string()));
    let last = held.sessions.last().expect("one").name.to_string();
    assert!(record.detail.contains(&format!("{last} (left out: people may")), "{}", record.detail);
}

#[test]
fn all_that_a_node_can_be_told_is_taken_over() {
    let mut world = world();
    let backup = world.state.clone();
    let held = restore(&mut world, backup);
    // those of the spec come first in a word, also the deleted ones
    let of_spec = SessionOrder { wish: SessionWish::Stop, ..SessionOrder::of_spec(&main()) };
    let deleted = (1..Limits::SESSIONS).map(|n| SessionOrder {
        name: name(&format!("spec-{n}")),
        wish: SessionWish::Delete,
        ..of_spec.clone()
    });
    let life = world.state.revision.0 + 1;
    let made = (1..=Limits::SESSIONS).map(|n| SessionOrder {
        name: name(&format!("made-{n}")),
        life,
        run: life,
        conversation: life,
        wish: SessionWish::Run,
        program: claude(),
    });
    let sessions: Vec<SessionOrder> =
        std::iter::once(of_spec.clone()).chain(deleted).chain(made).collect();
    assert_eq!(sessions.len(), Limits::SESSIONS_TOLD);
    adopt(&mut world, AdoptSessions { told: Revision(life), sessions, ..held });
    assert_eq!(names(&world).len(), 1 + Limits::SESSIONS, "{:?}", names(&world));
}
