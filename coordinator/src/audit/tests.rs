//! Searching and checking records: pages both ways, gaps, and every kind of break found and named.

use std::{fs, path::PathBuf};

use warren_common::{Limits, ReplicaId, RequestId, Revision, Timestamp};
use warren_model::{AuditHead, AuditObject, AuditRecord, Principal};

use super::*;

/// Five segments of four records each: 1-4, 5-8 and so on.
const SEGMENTS: u64 = 5;
const EACH: u64 = 4;
const ALL: u64 = SEGMENTS * EACH;

fn record(head: AuditHead) -> AuditRecord {
    let sequence = head.sequence + 1;
    let mut record = AuditRecord {
        sequence,
        at: Timestamp(sequence * 1000),
        principal: Principal::Coordinator(ReplicaId(sequence % 2)),
        request: RequestId::new(uuid::Uuid::from_u128(u128::from(sequence))),
        revision: Revision(sequence),
        action: "client.create".to_owned(),
        object: AuditObject { address: format!("c{sequence}"), id: String::new() },
        detail: String::new(),
        previous_hash: head.hash,
        hash: [0; 32],
    };
    record.hash = record.seal();
    record
}

/// Writes the segments as a log that rotates every few records would.
fn folder() -> (tempfile::TempDir, AuditHead) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut head = AuditHead::default();
    for _ in 0..SEGMENTS {
        let mut lines = row::header(head).expect("encoded");
        let path = segment::path(folder.path(), head.sequence + 1);
        for _ in 0..EACH {
            let record = record(head);
            row::write(&record, &mut lines).expect("encoded");
            head = AuditHead { sequence: record.sequence, hash: record.hash };
        }
        fs::write(path, lines).expect("written");
    }
    (folder, head)
}

fn segment_at(folder: &tempfile::TempDir, first: u64) -> PathBuf {
    segment::path(folder.path(), first)
}

fn all(ascending: bool, limit: usize) -> Search {
    Search { after: 0, before: ALL + 1, ascending, limit }
}

/// Pages through everything that fits; returns the numbers and how many looks it took.
fn pages(folder: &tempfile::TempDir, mut asked: Search, odd: bool) -> (Vec<u64>, Vec<Gap>, usize) {
    let (mut numbers, mut gaps, mut looks) = (Vec::new(), Vec::new(), 0);
    loop {
        looks += 1;
        assert!(looks < 100, "it does not end");
        let fits = |one: &AuditRecord| match !odd || one.sequence % 2 == 1 {
            true => Fit::Taken,
            false => Fit::Passed,
        };
        let found = search(folder.path(), asked, fits).expect("read");
        assert!(found.records.len() <= asked.limit);
        numbers.extend(found.records.iter().map(|one| one.sequence));
        gaps.extend(found.gaps);
        match (found.next, asked.ascending) {
            (None, _) => return (numbers, gaps, looks),
            (Some(at), true) => asked.after = at,
            (Some(at), false) => asked.before = at,
        }
    }
}

#[test]
fn records_are_found_in_both_orders_and_in_pages_of_any_size() {
    let (folder, _) = folder();
    let forward: Vec<u64> = (1..=ALL).collect();
    for limit in [1, 3, 4, 5, 100] {
        for ascending in [true, false] {
            let mut expected = forward.clone();
            if !ascending {
                expected.reverse();
            }
            let (numbers, gaps, _) = pages(&folder, all(ascending, limit), false);
            assert_eq!((numbers, gaps), (expected.clone(), vec![]), "{limit} {ascending}");
            expected.retain(|number| number % 2 == 1);
            assert_eq!(pages(&folder, all(ascending, limit), true).0, expected);
        }
    }
    let window = Search { after: 6, before: 11, ascending: true, limit: 100 };
    assert_eq!(pages(&folder, window, false).0, [7, 8, 9, 10]);
}

#[test]
fn one_look_goes_through_few_segments_and_ends_where_the_rest_cannot_fit() {
    let (folder, _) = folder();
    let none = |_: &AuditRecord| Fit::Passed;
    let found = search(folder.path(), all(false, 9), none).expect("read");
    assert!(found.records.is_empty());
    let rest = (SEGMENTS - Limits::AUDIT_SCAN_SEGMENTS as u64) * EACH;
    assert_eq!(found.next, Some(rest + 1), "the next look goes on before it");
    let late = |one: &AuditRecord| match one.sequence {
        18.. => Fit::Taken,
        _ => Fit::Over,
    };
    let found = search(folder.path(), all(false, 9), late).expect("read");
    assert_eq!((found.records.len(), found.next), (3, None));
}

#[test]
fn what_is_missing_is_told_where_the_look_meets_it() {
    let (folder, _) = folder();
    fs::remove_file(segment_at(&folder, 9)).expect("removed");
    fs::remove_file(segment_at(&folder, 1)).expect("removed");
    let (first, middle) = (Gap { from: 1, upto: 4 }, Gap { from: 9, upto: 12 });
    for limit in [2, 4, 100] {
        let (numbers, gaps, _) = pages(&folder, all(true, limit), false);
        assert_eq!(numbers, [5, 6, 7, 8, 13, 14, 15, 16, 17, 18, 19, 20]);
        assert_eq!(gaps, [first, middle], "{limit}");
        let (_, gaps, _) = pages(&folder, all(false, limit), false);
        assert_eq!(gaps, [middle, first], "{limit}");
    }
    let window = Search { after: 10, before: 15, ascending: false, limit: 100 };
    let (numbers, gaps, _) = pages(&folder, window, false);
    assert_eq!((numbers, gaps), (vec![14, 13], vec![Gap { from: 11, upto: 12 }]));
}

#[test]
fn a_search_never_passes_over_what_was_changed() {
    let (folder, _) = folder();
    let path = segment_at(&folder, 5);
    let text = fs::read_to_string(&path).expect("read");
    fs::write(&path, text.replace("\"c6\"", "\"c7\"")).expect("written");
    let taken = |_: &AuditRecord| Fit::Taken;
    let error = search(folder.path(), all(false, 100), taken).expect_err("found");
    assert!(matches!(error, AuditError::Broken { .. }), "{error}");
    // what is asked for does not touch it
    let window = Search { after: 8, before: 11, ascending: true, limit: 100 };
    assert_eq!(search(folder.path(), window, taken).expect("read").records.len(), 2);
    // lost at the end although the state has it
    let path = segment_at(&folder, 17);
    let text = fs::read(&path).expect("read");
    fs::write(&path, &text[..text.len() - 5]).expect("written");
    let end = Search { after: 17, before: ALL + 1, ascending: true, limit: 100 };
    let error = search(folder.path(), end, taken).expect_err("found");
    assert!(matches!(error, AuditError::Damaged { line: 5, .. }), "{error}");
    // a line that is being written, and nobody has seen its effect
    let end = Search { before: ALL, ..end };
    assert_eq!(search(folder.path(), end, taken).expect("read").records.len(), 2);
}

#[test]
fn a_whole_chain_says_from_where_to_where_and_what_is_missing() {
    let (folder, head) = folder();
    let verified = verify(folder.path(), Some(head)).expect("read");
    let whole = Verified { first: 1, records: ALL, head, gaps: vec![], segments: 5, broken: None };
    assert_eq!(verified, whole);
    fs::remove_file(segment_at(&folder, 1)).expect("removed");
    let verified = verify(folder.path(), Some(head)).expect("read");
    assert_eq!((verified.first, verified.records, &verified.broken), (5, ALL - EACH, &None));
    assert_eq!(verified.gaps, [Gap { from: 1, upto: 4 }]);
    let empty = tempfile::tempdir().expect("a folder");
    let verified = verify(empty.path(), Some(AuditHead::default())).expect("read");
    assert_eq!(verified, Verified::default());
}

#[test]
fn the_first_break_is_named_by_record_file_and_line() {
    let names = [1, 5, 9, 13, 17].map(|first| format!("audit-{first:020}.jsonl"));
    let broken = |folder: &tempfile::TempDir, head| {
        let verified = verify(folder.path(), Some(head)).expect("read");
        let broken = verified.broken.expect("found");
        (broken.sequence, broken.segment, broken.line, verified.records)
    };
    let change = |folder: &tempfile::TempDir, first, change: &dyn Fn(String) -> String| {
        let path = segment_at(folder, first);
        let text = fs::read_to_string(&path).expect("read");
        let changed = change(text.clone());
        assert_ne!(text, changed);
        fs::write(path, changed).expect("written");
    };
    // a value, a line that is none any more, a line taken out, a header
    let (one, head) = folder();
    change(&one, 9, &|text| text.replace("\"c11\"", "\"c99\""));
    assert_eq!(broken(&one, head), (11, Some(names[2].clone()), 4, 10));
    let (one, head) = folder();
    change(&one, 9, &|text| text.replace("{\"sequence\":10", "<\"sequence\":10"));
    assert_eq!(broken(&one, head), (10, Some(names[2].clone()), 3, 9));
    let (one, head) = folder();
    let without = |text: String| -> String {
        let lines = text.lines().filter(|line| !line.contains("\"c6\""));
        lines.map(|line| format!("{line}\n")).collect()
    };
    change(&one, 5, &without);
    assert_eq!(broken(&one, head), (6, Some(names[1].clone()), 3, 5));
    let (one, head) = folder();
    change(&one, 13, &|text| text.replacen("warren_audit", "warren_avdit", 1));
    assert_eq!(broken(&one, head), (13, Some(names[3].clone()), 1, 12));
    // lost at the end
    let (one, head) = folder();
    fs::remove_file(segment_at(&one, 17)).expect("removed");
    assert_eq!(broken(&one, head), (17, None, 0, 16));
    // another head: the whole chain was sealed again
    let (one, head) = folder();
    let other = AuditHead { hash: [7; 32], ..head };
    assert_eq!(broken(&one, other), (20, Some(names[4].clone()), 5, 16));
    // it goes on behind a gap that swallows the one the state knows
    let (one, head) = folder();
    fs::remove_file(segment_at(&one, 9)).expect("removed");
    let known = AuditHead { sequence: 10, ..head };
    assert_eq!(broken(&one, known), (10, None, 0, ALL - EACH));
    // a chain that begins anew in the middle
    let (one, head) = folder();
    let first = fs::read_to_string(segment_at(&one, 1)).expect("read");
    fs::write(segment_at(&one, 9), first).expect("written");
    let (sequence, segment, line, _) = broken(&one, head);
    assert_eq!((sequence, segment, line), (1, Some(names[2].clone()), 1));
}

#[test]
fn the_newest_record_is_missed_where_file_or_line_is_gone() {
    let trouble = |folder: &tempfile::TempDir, head| newest(folder.path(), head).expect("read");
    let (whole, head) = folder();
    assert_eq!(trouble(&whole, head), None);
    let other = AuditHead { hash: [7; 32], ..head };
    assert!(trouble(&whole, other).expect("found").contains("not the one"));
    let lines = |folder: &tempfile::TempDir, count: usize| {
        let path = segment_at(folder, 17);
        let text = fs::read_to_string(&path).expect("read");
        let kept: String = text.split_inclusive('\n').take(count).collect();
        fs::write(path, kept).expect("written");
    };
    // the last line cut off, all but the header
    for count in [4, 1] {
        let (cut, head) = folder();
        lines(&cut, count);
        let told = trouble(&cut, head).expect("found");
        assert!(told.contains("record 20 is not on disk"), "{told}");
    }
    // a line torn in the middle
    let (torn, head) = folder();
    let path = segment_at(&torn, 17);
    let text = fs::read(&path).expect("read");
    fs::write(&path, &text[..text.len() - 5]).expect("written");
    assert!(trouble(&torn, head).expect("found").contains("line 5"));
    // the newest file, and then all of them
    let (gone, head) = folder();
    fs::remove_file(segment_at(&gone, 17)).expect("removed");
    assert!(trouble(&gone, head).expect("found").contains("ends with record 16"));
    let empty = tempfile::tempdir().expect("a folder");
    assert!(trouble(&empty, head).expect("found").contains("not on disk"));
    assert_eq!(trouble(&empty, AuditHead::default()), None);
    // a checkpoint was taken, and nothing came after it
    fs::write(segment_at(&empty, ALL + 1), row::header(head).expect("encoded")).expect("written");
    assert_eq!(trouble(&empty, head), None);
    assert!(trouble(&empty, other).expect("found").contains("not the one"));
    // one was written since the state was looked at
    let (later, head) = folder();
    let next = AuditHead { sequence: head.sequence - 1, hash: record_hash(&later, 19) };
    assert_eq!(trouble(&later, next), None);
}

fn record_hash(folder: &tempfile::TempDir, sequence: u64) -> [u8; 32] {
    read(folder.path(), sequence, 1).expect("read")[0].hash
}

#[test]
fn a_torn_end_is_no_break_where_the_state_does_not_need_it() {
    let (folder, head) = folder();
    let path = segment_at(&folder, 17);
    let text = fs::read(&path).expect("read");
    let begun = [&text[..], b"{\"sequence\":21,\"at\""].concat();
    fs::write(&path, begun).expect("written");
    assert_eq!(verify(folder.path(), Some(head)).expect("read").broken, None);
    // as a file system may leave it after a power cut: longer, but not written
    fs::write(&path, [&text[..], &[0; 40]].concat()).expect("written");
    assert_eq!(verify(folder.path(), Some(head)).expect("read").broken, None);
    let later = AuditHead { sequence: 21, hash: [1; 32] };
    let broken = verify(folder.path(), Some(later)).expect("read").broken.expect("found");
    assert_eq!((broken.sequence, broken.line), (21, 6));
}

#[test]
fn checking_ends_where_nobody_waits_any_more() {
    let (folder, head) = folder();
    let looks = std::cell::Cell::new(0);
    let waited_for = || {
        looks.set(looks.get() + 1);
        looks.get() <= 2
    };
    let error = verify_while(folder.path(), Some(head), waited_for).expect_err("it gives up");
    assert!(matches!(error, AuditError::Failed(_)), "{error}");
    assert_eq!(looks.get(), 3, "two files were read");
}
