//! What the image starts browsers with.

use std::process::Command;

/// Settings of Debian's launcher of Chromium.
const SETTINGS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../deploy/workspace-image/root-browsers/etc/chromium.d/warren"
);

fn said(command: &mut Command, sandbox: bool) -> Vec<String> {
    command.env_remove("WARREN_BROWSER_SANDBOX");
    if sandbox {
        command.env("WARREN_BROWSER_SANDBOX", "1");
    }
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let words = String::from_utf8(output.stdout).expect("text");
    words.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_browser_started_by_hand_has_its_sandbox_where_the_workspace_has_it() {
    let flags = |sandbox, words: &str| {
        let line =
            format!("set -- {words}; CHROMIUM_FLAGS=--a; . {SETTINGS}; echo $CHROMIUM_FLAGS");
        said(Command::new("sh").args(["-ec", &line]), sandbox)
    };
    assert_eq!(flags(false, "x"), ["--a", "--remote-debugging-port=0", "--no-sandbox"]);
    assert_eq!(flags(true, "x"), ["--a", "--remote-debugging-port=0"]);
    assert_eq!(flags(true, "--remote-debugging-port=1"), ["--a"]);
}

#[test]
fn a_browser_that_is_driven_keeps_its_sandbox_where_the_workspace_has_it() {
    let words = |sandbox, words: &str| {
        let script = format!(
            "require('child_process').spawn('echo', '{words}'.split(' '), {{stdio: 'inherit'}})"
        );
        let mut node = Command::new("node");
        said(node.args(["--require", crate::stand::PRELOAD, "-e", &script]), sandbox)
    };
    let (pipe, port) = ("--remote-debugging-pipe", "--remote-debugging-port=0");
    let driven = format!("--no-sandbox {pipe} x");
    assert_eq!(words(false, &driven), [port, "--no-sandbox", pipe, "x"]);
    assert_eq!(words(true, &driven), [port, pipe, "x"]);
    assert_eq!(words(true, &format!("{port} --no-sandbox")), [port]);
    assert_eq!(words(true, "--no-sandbox x"), ["--no-sandbox", "x"], "another program's");
}
