//! `session send` and `session read`.

use tonic::Status;
use warren_proto::Method;

use crate::support::Bench;

#[test]
fn a_text_is_typed_with_enter_or_the_keys_that_were_named() {
    let bench = Bench::new();
    let typed = || String::from_utf8(std::mem::take(&mut bench.fake.state().typed)).expect("text");
    let run = bench.warren(&["session", "send", "acme/web/main", "fix it"]);
    assert_eq!((run.code, typed().as_str()), (0, "fix it<Enter>"), "{run:?}");
    assert_eq!(run.stderr, "typed into acme/web/main\n");
    let run = bench.warren(&["session", "send", "acme/web/main", "2", "--no-enter"]);
    assert_eq!((run.code, typed().as_str()), (0, "2"), "{run:?}");
    let run = bench.warren(&["session", "send", "acme/web", "--key", "Escape", "--key", "C-c"]);
    assert_eq!((run.code, typed().as_str()), (0, "<Escape><C-c>"), "{run:?}");
    let run = bench.warren_with(&["session", "send", "acme/web", "-"], b"- two\n- lines\n");
    assert_eq!((run.code, typed().as_str()), (0, "- two\n- lines<Enter>"), "{run:?}");
}

#[test]
fn what_cannot_be_typed_says_why() {
    let bench = Bench::new();
    let run = bench.warren(&["session", "send", "acme/web"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("error: there is nothing to type\n"), "{run:?}");
    let run = bench.warren_with(&["session", "send", "acme/web", "-"], &[b'x'; 70_000]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("65536 bytes"), "{run:?}");
    let run = bench.warren(&["session", "send", "acme/web/missing", "x"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("no session missing"), "{run:?}");
    assert!(bench.fake.state().typed.is_empty());
}

#[test]
fn a_text_is_never_typed_twice() {
    let bench = Bench::new();
    bench.fake.fail(Method::SessionOpenStream, Status::unavailable("cut"));
    let run = bench.warren(&["session", "send", "acme/web/main", "x"]);
    assert_eq!((run.code, bench.fake.calls(Method::SessionOpenStream)), (5, 1), "{run:?}");
}

#[test]
fn a_screen_is_printed_clean_and_without_its_empty_end() {
    let bench = Bench::new();
    let run = bench.warren(&["session", "read", "acme/web/main"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "$ make\n[31mok\n"), "{run:?}");
    let run = bench.warren(&["session", "read", "acme/web/main", "--history", "2", "-o", "json"]);
    let screen: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(screen["address"], "acme/web/main");
    assert_eq!(screen["lines"][1], "earlier 1");
    assert_eq!(screen["lines"].as_array().map(Vec::len), Some(4));
    let run = bench.warren(&["session", "read", "acme/web/main", "--history", "9999"]);
    assert_eq!(run.code, 2, "{run:?}");
}
