//! Histories that must be taken for right, and such as must not.

use super::{
    super::register::{Change, Labels, Seen},
    *,
};

fn labels(value: &str) -> Labels {
    [("mark".to_owned(), value.to_owned())].into()
}

fn seen(value: &str, revision: u64) -> Option<Seen> {
    Some(Seen { labels: labels(value), revision: Some(revision) })
}

fn change(value: &str, if_revision: Option<u64>) -> Change {
    Change { set: labels(value), remove: Vec::new(), if_revision }
}

fn answered(invoked: u64, returned: u64, act: Act) -> Operation {
    Operation { invoked, returned: Some(returned), certain: true, act }
}

fn lost(invoked: u64, act: Act) -> Operation {
    Operation { invoked, returned: None, certain: false, act }
}

fn made() -> Operation {
    answered(0, 1, Act::Create(labels("a"), seen("a", 5)))
}

fn label(value: &str, if_revision: Option<u64>, revision: u64) -> Act {
    Act::Label(change(value, if_revision), seen(value, revision))
}

fn assert_fails(operations: &[Operation]) {
    assert_eq!(search(operations), Finding::Impossible, "{operations:#?}");
}

fn assert_fits(operations: &[Operation]) {
    assert_eq!(search(operations), Finding::Linearizable, "{operations:#?}");
}

#[test]
fn calls_one_after_the_other_fit() {
    assert_fits(&[]);
    assert_fits(&[
        answered(0, 1, Act::Read(None)),
        answered(2, 3, Act::Create(labels("a"), seen("a", 5))),
        answered(4, 5, Act::RefusedThere),
        answered(6, 7, label("b", Some(5), 6)),
        answered(8, 9, Act::RefusedChanged(5)),
        answered(10, 11, Act::Read(seen("b", 6))),
        answered(12, 13, Act::Delete(Some(6))),
        answered(14, 15, Act::Read(None)),
    ]);
}

#[test]
fn a_stale_read_is_rejected_and_the_slice_that_shows_it_is_short() {
    let mut history: Vec<Operation> =
        (0..40).map(|at| answered(at * 2 + 2, at * 2 + 3, Act::Read(seen("a", 5)))).collect();
    history.insert(0, made());
    history.push(answered(100, 101, label("b", None, 9)));
    history.push(answered(102, 103, Act::Read(seen("a", 5))));
    history.push(answered(104, 105, Act::Read(seen("b", 9))));
    assert_fails(&history);
    let short = shortest(&history);
    assert_eq!(short, [0, 41, 42], "creation, change and stale read");
}

#[test]
fn a_lost_update_is_rejected() {
    // two compare-and-set on one revision, both acknowledged
    assert_fails(&[
        made(),
        answered(2, 9, Act::Label(change("b", Some(5)), None)),
        answered(3, 8, Act::Label(change("c", Some(5)), None)),
    ]);
    // an acknowledged change that nobody sees afterwards
    assert_fails(&[
        made(),
        answered(2, 3, Act::Label(change("b", None), None)),
        answered(4, 5, Act::Read(seen("a", 5))),
    ]);
    // the two without a condition fit in either order
    assert_fits(&[
        made(),
        answered(2, 9, Act::Label(change("b", None), None)),
        answered(3, 8, Act::Label(change("c", None), None)),
        answered(10, 11, Act::Read(Some(Seen { labels: labels("b"), revision: Some(7) }))),
    ]);
}

#[test]
fn an_effect_that_happens_twice_is_rejected() {
    // b, then c, then b again although it was asked once
    assert_fails(&[
        made(),
        answered(2, 3, label("b", None, 6)),
        answered(4, 5, label("c", None, 7)),
        answered(6, 7, Act::Read(seen("b", 8))),
    ]);
    assert_fails(&[made(), answered(2, 3, Act::Create(labels("b"), None))]);
    assert_fails(&[made(), answered(2, 3, Act::Delete(None)), answered(4, 5, Act::Delete(None))]);
}

#[test]
fn calls_side_by_side_may_have_gone_either_way() {
    let write = || answered(2, 10, label("b", None, 6));
    assert_fits(&[made(), write(), answered(3, 4, Act::Read(seen("a", 5)))]);
    assert_fits(&[made(), write(), answered(3, 4, Act::Read(seen("b", 6)))]);
    // but not back again
    assert_fails(&[
        made(),
        write(),
        answered(3, 4, Act::Read(seen("b", 6))),
        answered(5, 6, Act::Read(seen("a", 5))),
    ]);
}

#[test]
fn an_unknown_call_may_take_effect_late_or_never() {
    let unknown = || lost(2, Act::Label(change("b", None), None));
    assert_fits(&[made(), unknown(), answered(4, 5, Act::Read(seen("a", 5)))]);
    assert_fits(&[
        made(),
        unknown(),
        answered(4, 5, Act::Read(seen("a", 5))),
        answered(6, 7, Act::Read(seen("b", 9))),
    ]);
    // once, and not before it was asked
    assert_fails(&[
        made(),
        unknown(),
        answered(4, 5, Act::Read(seen("b", 9))),
        answered(6, 7, label("c", None, 10)),
        answered(8, 9, Act::Read(seen("b", 11))),
    ]);
    assert_fails(&[made(), answered(2, 3, Act::Read(seen("z", 6))), lost(4, label("z", None, 6))]);
    // one that is known to have taken effect must have a place
    let certain = Operation { certain: true, ..lost(2, Act::Create(labels("b"), None)) };
    assert_fails(&[made(), certain]);
}

#[test]
fn revisions_never_go_back() {
    assert_fails(&[made(), answered(2, 3, label("b", None, 4))]);
    assert_fails(&[made(), answered(2, 3, Act::Read(seen("a", 6)))]);
    assert_fails(&[made(), answered(2, 3, Act::RefusedChanged(5))]);
    assert_fits(&[made(), answered(2, 3, Act::RefusedChanged(4))]);
    // a removal takes a revision too
    assert_fails(&[
        made(),
        answered(2, 3, Act::Delete(None)),
        answered(4, 5, Act::Create(labels("b"), seen("b", 6))),
    ]);
}

#[test]
fn a_search_that_grows_too_large_is_undecided_and_says_so() {
    let mut history = vec![made()];
    history.extend((0..24).map(|at| lost(2, label(&format!("u{at}"), None, 6 + at))));
    history.push(answered(50, 51, Act::Read(seen("nobody", 90))));
    assert_eq!(search_within(&history, 10_000), Finding::Undecided);
}

#[test]
fn random_histories_of_a_real_register_fit_and_do_not_once_an_answer_is_swapped() {
    let mut seed = 7_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..200 {
        let mut history = vec![made()];
        let (mut value, mut revision) = ("a".to_owned(), 5);
        for step in 1..60_u64 {
            // the effect is at step * 10; call and answer lie up to 35 around it
            let (from, to) = (step * 10 - random(9).min(step * 10), step * 10 + 1 + random(35));
            let act = if random(2) == 0 {
                (value, revision) = (format!("v{step}"), revision + 1);
                label(&value, None, revision)
            } else {
                Act::Read(seen(&value, revision))
            };
            history.push(answered(from, to, act));
        }
        assert_fits(&history);
        history.push(answered(10_000, 10_001, Act::Read(seen("a", 5))));
        if revision > 5 {
            assert_fails(&history);
        }
    }
}
