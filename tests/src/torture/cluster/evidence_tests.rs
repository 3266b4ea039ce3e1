//! Small histories, right and wrong in one thing each, and which check says so.

use super::{
    super::{
        history::Refused,
        register::{Labels, Seen},
    },
    *,
};

const CLIENT: &str = "client t0-0";

fn labels(mark: &str) -> Labels {
    [("mark".to_owned(), mark.to_owned())].into()
}

fn seen(mark: &str, revision: u64) -> Option<Seen> {
    Some(Seen { labels: labels(mark), revision: Some(revision) })
}

fn call(request: &str, times: (u64, u64), ask: Ask, outcome: Outcome) -> Call {
    let request = (!request.is_empty()).then(|| request.to_owned());
    let (invoked, returned) = times;
    Call { caller: 0, coordinator: 0, request, ask, invoked, returned, outcome }
}

fn create(mark: &str) -> Ask {
    Ask::Create(CLIENT.to_owned(), labels(mark))
}

fn label(mark: &str) -> Ask {
    let change = Change { set: labels(mark), remove: Vec::new(), if_revision: None };
    Ask::Label(CLIENT.to_owned(), change)
}

fn get(times: (u64, u64), at: u64, found: Option<Seen>) -> Call {
    let found = found.map(|seen| (at, seen));
    call("", times, Ask::Get(CLIENT.to_owned()), Outcome::Found(found))
}

fn list(times: (u64, u64), at: u64, listed: Option<Seen>) -> Call {
    let all = listed.map(|seen| (CLIENT.to_owned(), seen)).into_iter().collect();
    call("", times, Ask::List, Outcome::Listed(at, all))
}

fn effect(revision: u64, request: &str, action: &str) -> Effect {
    Effect { revision, request: request.to_owned(), action: action.to_owned() }
}

fn unknown() -> Outcome {
    Outcome::Unknown("no answer in time".to_owned())
}

/// A client is made, changed by a request that had to be asked twice, read and listed.
fn truth() -> Evidence {
    Evidence {
        calls: vec![
            call("r1", (0, 10), create("a"), Outcome::Done(seen("a", 5))),
            call("r2", (20, 30), label("b"), unknown()),
            get((31, 39), 5, seen("a", 5)),
            call("r2", (40, 50), label("b"), Outcome::Done(seen("b", 7))),
            get((60, 70), 7, seen("b", 7)),
            list((80, 90), 9, seen("b", 7)),
            call("r3", (91, 95), create("c"), Outcome::Refused(Refused::There)),
        ],
        effects: vec![
            effect(5, "r1", "client.create"),
            effect(6, "somebody", "node.facts"),
            effect(7, "r2", "client.update"),
        ],
        before: 4,
    }
}

/// Ensures that exactly these checks find something wrong.
fn noticed_by(evidence: &Evidence, checks: &[Check]) {
    let wrong = |check: &Check| evidence.check(*check, &mut Judged::default()).is_err();
    let found: Vec<Check> = Check::ALL.into_iter().filter(wrong).collect();
    assert_eq!(found, checks, "{evidence:#?}");
}

#[test]
fn a_true_history_is_judged_right() {
    let judged = truth().judge().expect("it is right");
    assert_eq!((judged.objects, judged.reads, judged.requests), (1, 3, 3));
    assert_eq!(judged.open, (0, 0));
}

#[test]
fn stale_reads_and_lists_are_noticed() {
    let mut stale = truth();
    stale.calls[4] = get((60, 70), 5, seen("a", 5));
    noticed_by(&stale, &[Check::Objects, Check::Order]);
    // one that hides its age is noticed all the same
    stale.calls[4] = get((60, 70), 9, seen("a", 5));
    noticed_by(&stale, &[Check::Objects, Check::Order]);
    let mut stale = truth();
    stale.calls[5] = list((80, 90), 6, seen("a", 5));
    noticed_by(&stale, &[Check::Objects, Check::Order]);
    // right for the object, and older than what was listed before
    stale.calls[5] = list((80, 90), 9, seen("b", 7));
    stale.calls.push(list((100, 110), 8, seen("b", 7)));
    noticed_by(&stale, &[Check::Order]);
}

#[test]
fn what_was_acknowledged_and_is_lost_is_noticed() {
    let mut lost = truth();
    lost.effects.remove(2);
    noticed_by(&lost, &[Check::Requests, Check::Order]);
    let mut never = truth();
    never.calls.push(call("r4", (51, 55), label("d"), Outcome::Done(None)));
    noticed_by(&never, &[Check::Requests, Check::Objects]);
}

#[test]
fn an_effect_too_many_is_noticed() {
    let mut twice = truth();
    twice.effects.push(effect(8, "r2", "client.update"));
    noticed_by(&twice, &[Check::Requests, Check::Order]);
    let mut refused = truth();
    refused.effects.push(effect(8, "r3", "client.create"));
    assert!(refused.judge().is_err());
    let mut nobody = truth();
    nobody.effects.push(effect(8, "r9", "client.delete"));
    noticed_by(&nobody, &[Check::Requests]);
    let mut other = truth();
    other.effects[2].action = "client.delete".to_owned();
    noticed_by(&other, &[Check::Requests]);
}

#[test]
fn a_request_is_answered_in_one_way() {
    let mut two = truth();
    two.calls.push(call("r2", (51, 55), label("b"), Outcome::Refused(Refused::Changed)));
    assert!(two.judge().is_err());
    let mut missing = truth();
    missing.calls.push(call("r1", (96, 99), create("a"), Outcome::Refused(Refused::Missing)));
    noticed_by(&missing, &[Check::Requests]);
    // once the object is gone, or another one carries its name, a repeat may say so
    let mut gone = truth();
    gone.calls.push(call("r1", (96, 99), create("a"), Outcome::Done(None)));
    gone.calls.push(call("r2", (96, 99), label("b"), Outcome::Refused(Refused::Reused)));
    assert!(gone.judge().is_ok());
}

#[test]
fn calls_without_an_answer_may_have_taken_effect_or_not() {
    let mut open = truth();
    open.calls[3].outcome = unknown();
    let judged = open.judge().expect("it took effect");
    assert_eq!(judged.open, (1, 1));
    open.calls.push(call("r4", (60, 65), label("never"), unknown()));
    let judged = open.judge().expect("it did not");
    assert_eq!(judged.open, (2, 1));
    // a missing object refuses a call, and an earlier one of the same request may still be under way
    open.calls.push(call("r5", (2, 3), label("late"), Outcome::Refused(Refused::Missing)));
    open.calls.push(call("r5", (0, 1), label("late"), unknown()));
    assert_eq!(open.judge().expect("both may be").open, (3, 1));
}

#[test]
fn an_effect_is_later_than_what_was_answered_before_it() {
    let mut early = truth();
    early.effects[2].revision = 3;
    early.before = 2;
    assert!(early.judge().is_err());
    let mut late = truth();
    late.calls.push(get((100, 110), 20, seen("b", 7)));
    late.calls.push(call("r4", (120, 130), label("d"), Outcome::Done(seen("d", 12))));
    late.effects.push(effect(12, "r4", "client.update"));
    noticed_by(&late, &[Check::Order]);
}
