//! `session create`, `stop`, `restart`, `delete`, `show`: what is asked, and what is waited for.

use std::fs;

use warren_proto::Method;

use crate::support::{Bench, data::idle};

#[test]
fn a_session_is_asked_for_with_all_that_was_said_and_waited_for() {
    let bench = Bench::new();
    let file = bench.config().with_file_name("task.md");
    fs::write(&file, "first\nsecond\n").expect("a file");
    let prompt = format!("@{}", file.display());
    let create = ["session", "create", "acme/web/review", "--agent", "codex", "--branch", "b"];
    let more = ["--permissions", "ask", "--prompt", &prompt, "--", "--model", "a b"];
    let run = bench.warren(&[&create[..], &more].concat());
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.starts_with("acme/web/review\n  status        running\n"), "{run:?}");
    assert!(run.stdout.contains("  permissions   ask\n  branch        b\n"), "{run:?}");
    let state = bench.fake.state();
    let asked = &state.made[0];
    assert_eq!((asked.workspace.as_str(), asked.name.as_str()), ("acme/web", "review"));
    assert_eq!((asked.agent.as_str(), asked.prompt.as_str()), ("codex", "first\nsecond"));
    assert_eq!(
        (asked.arguments.as_slice(), asked.asks),
        (&["--model".into(), "a b".into()][..], true)
    );
    assert!(state.calls[&Method::SessionListSessions] >= 1, "it waits until it is seen");
}

#[test]
fn stop_restart_and_delete_wait_for_what_they_asked() {
    let bench = Bench::new();
    bench.warren(&["session", "create", "acme/web/x", "--agent", "claude"]);
    let stopped = bench.warren(&["session", "stop", "acme/web/x", "-o", "json"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert!(stopped.stdout.contains("\"state\": \"stopped\""), "{stopped:?}");
    let listed = bench.warren(&["session", "list", "acme/web", "--sort", "name"]);
    assert!(
        listed.stdout.lines().any(|line| line.contains("acme/web/x") && line.contains("stopped")),
        "{listed:?}"
    );
    let again = bench.warren(&["session", "restart", "acme/web/x"]);
    assert!(again.code == 0 && again.stdout.contains("status        running"), "{again:?}");
    let gone = bench.warren(&["session", "delete", "acme/web/x"]);
    assert_eq!((gone.code, gone.stderr.as_str()), (0, "session acme/web/x is deleted\n"));
    assert_eq!(bench.warren(&["session", "show", "acme/web/x"]).code, 3);
}

#[test]
fn a_session_that_could_not_be_begun_is_no_success() {
    let bench = Bench::new();
    let mut failed = idle("web", 3);
    let observed = failed.observed.get_or_insert_default();
    observed.problem = "codex is not in this workspace's PATH".to_owned();
    (observed.running, observed.exit_code, observed.run) = (false, 127, 99);
    failed.asked = Some(Default::default());
    bench.fake.state().sessions = vec![failed];
    let run = bench.warren(&["session", "restart", "acme/web/main"]);
    assert_eq!(run.code, 0, "the fake runs it: {run:?}");
    let mut state = bench.fake.state();
    let observed = state.sessions[0].observed.get_or_insert_default();
    (observed.running, observed.exit_code) = (false, 127);
    drop(state);
    let shown = bench.warren(&["session", "show", "acme/web/main"]);
    assert!(shown.stdout.contains("problem       codex is not in"), "{shown:?}");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_asked() {
    let bench = Bench::new();
    let long = "x".repeat(16 * 1024 + 2);
    for (words, said) in [
        (vec!["session", "create", "acme/web/A_b"], "is not a session name"),
        (vec!["session", "create", "acme/web", "--prompt", ""], "the prompt is empty"),
        (vec!["session", "create", "acme/web", "--prompt", "@/no/such"], "cannot be read"),
        (vec!["session", "delete", "acme/web/x", "--force"], "--worktree"),
    ] {
        let run = bench.warren(&words);
        assert!(run.code == 2 && run.stderr.contains(said), "{words:?}: {run:?}");
    }
    let run =
        bench.warren_with(&["session", "create", "acme/web", "--prompt", "-"], long.as_bytes());
    assert!(run.code == 2 && run.stderr.contains("more than 16384 bytes"), "{run:?}");
    assert!(bench.fake.state().made.is_empty());
}
