//! Where a secret's value may come from, and that it goes nowhere else.

use crate::support::Bench;

#[test]
fn a_value_comes_from_a_file_from_stdin_or_from_a_variable_and_is_never_said() {
    let bench = Bench::new();
    let file = bench.folder.path().join("token");
    std::fs::write(&file, "hunter2-file\n").expect("written");
    let place = format!("@{}", file.display());
    let set = bench.warren(&["secret", "set", "acme", "one", &place]);
    assert_eq!(set.code, 0, "{set:?}");
    assert!(set.stderr.contains("readable by others"), "{set:?}");
    let set_in = bench.warren_with(&["secret", "set", "acme", "two", "@-"], b"hunter2\nlines\n");
    assert_eq!(set_in.code, 0, "{set_in:?}");
    let mut command = bench.command(&["secret", "set", "--shared", "three", "env:TOKEN"]);
    let from = command.env("TOKEN", "hunter2-variable").output().expect("it runs");
    assert!(from.status.success(), "{from:?}");
    let values = bench.fake.state().values.clone();
    let wanted = [&b"hunter2-file"[..], b"hunter2\nlines\n", b"hunter2-variable"];
    assert_eq!(values, wanted, "the end of a single line is left off");
    let said = format!("{set:?}{set_in:?}{from:?}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_value_on_the_command_line_is_refused_and_not_repeated() {
    let bench = Bench::new();
    for arguments in [
        &["secret", "set", "acme", "one", "hunter2"][..],
        &["secret", "set", "acme", "one", "@/nowhere/hunter3"],
        &["secret", "set", "acme", "one", "env:NOT_SET_ANYWHERE"],
        &["secret", "set", "acme", "one"],
        &["secret", "set", "acme", "@-"],
        &["secret", "set", "acme"],
        &["secret", "set", "acme", "Not a name", "@-"],
        &["secret", "set", "--shared", "one", "@-", "more"],
    ] {
        let run = bench.warren(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {run:?}");
        assert!(!run.stderr.contains("hunter2"), "{run:?}");
    }
    let empty = bench.warren_with(&["secret", "set", "acme", "one", "@-"], b"\n");
    assert!(empty.code == 2 && empty.stderr.contains("is empty"), "{empty:?}");
    let long = vec![b'x'; 64 * 1024 + 1];
    let long = bench.warren_with(&["secret", "set", "acme", "one", "@-"], &long);
    assert!(long.code == 2 && long.stderr.contains("65536 bytes"), "{long:?}");
    let most = bench.warren_with(&["secret", "set", "acme", "one", "@-"], &[b'x'; 64 * 1024]);
    assert_eq!(most.code, 0, "{most:?}");
    assert_eq!(bench.fake.state().values.len(), 1);
}

#[test]
fn a_client_whose_name_is_empty_is_not_every_client() {
    let bench = Bench::new();
    for verb in [&["set", "", "git-token", "@-"][..], &["delete", "", "git-token"]] {
        let run = bench.warren(&[&["secret"][..], verb].concat());
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.stderr.contains("the client's name is empty"), "{run:?}");
    }
    assert!(bench.fake.state().values.is_empty());
}
