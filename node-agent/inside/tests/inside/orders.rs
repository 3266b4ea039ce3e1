//! Sessions as they are ordered: worktrees, runs, conversations, prompts, and what ends them. The
//! agent is a script that keeps its arguments and what was typed, and tells through the real reporter.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use warren_proto::pb::inside::v1::{
    Session, SessionStatus, Setup, Status, agent_state::State, to_inside,
};

use crate::{
    agent::Agent,
    workspace::{Workspace, wait_until},
};

/// Keeps a conversation as Claude Code does, leaves a child in a session of its own, and types back.
pub(crate) const CLAUDE: &str = r#"#!/bin/bash
echo "$*" >> ~/argv-$WARREN_SESSION
id=none
while [ $# -gt 0 ]; do case $1 in --session-id|--resume) id=$2; shift ;; esac; shift; done
mkdir -p ~/.claude/projects/x
echo '{}' >> ~/.claude/projects/x/$id.jsonl
setsid -f bash -c 'trap "" TERM HUP; while :; do sleep 4321; done'
sleep ${SLOW:-0}
printf '{"hook_event_name":"SessionStart","source":"startup","session_id":"%s","cwd":"%s"}' \
    "$id" "$PWD" | @INSIDE@ hook claude
while IFS= read -r line; do echo "$line" >> ~/typed-$WARREN_SESSION; done
"#;

/// A home with a checkout of one commit and the agent in its PATH.
pub(crate) fn home() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("run")).expect("a folder");
    let home = folder.path().join("home");
    let checkout = home.join("web");
    for path in [home.join("bin"), checkout.clone()] {
        fs::create_dir_all(path).expect("a folder");
    }
    install(&home, "claude");
    fs::write(home.join(".profile"), "export PATH=$HOME/bin:$PATH\n").expect("a profile");
    fs::write(home.join(".gitconfig"), "[user]\n name = a\n email = a@b\n").expect("a file");
    git(&home, &checkout, &["init", "-q", "-b", "main"]);
    git(&home, &checkout, &["commit", "-q", "--allow-empty", "-m", "first"]);
    folder
}

pub(crate) fn install(home: &Path, name: &str) {
    let path = home.join("bin").join(name);
    let script = CLAUDE.replace("@INSIDE@", env!("CARGO_BIN_EXE_warren-inside"));
    fs::write(&path, script).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
}

pub(crate) fn git(home: &Path, folder: &Path, words: &[&str]) -> String {
    let done = Command::new("git").env("HOME", home).arg("-C").arg(folder).args(words).output();
    let done = done.expect("git");
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

pub(crate) fn order(sessions: Vec<Session>) -> Setup {
    Setup {
        repo: "http://127.0.0.1:1/acme/web.git".to_owned(),
        folder: "web".to_owned(),
        ordered: true,
        sessions,
        ..Setup::default()
    }
}

pub(crate) fn agent_in(name: &str, run: u64) -> Session {
    Session {
        name: name.to_owned(),
        command: "claude".to_owned(),
        agent: "claude".to_owned(),
        life: 5,
        run,
        conversation: 5,
        ..Session::default()
    }
}

pub(crate) fn find<'a>(status: &'a Status, name: &str) -> Option<&'a SessionStatus> {
    status.sessions.iter().find(|session| session.name == name)
}

pub(crate) fn runs(status: &Status, name: &str, run: u64) -> bool {
    find(status, name).is_some_and(|session| session.running && session.run == run)
}

pub(crate) fn is_idle(status: &Status, name: &str) -> bool {
    let agent = find(status, name).and_then(|session| session.agent.as_ref());
    let state = agent.and_then(|agent| agent.state.as_ref()?.state.as_ref());
    matches!(state, Some(State::Idle(_)))
}

pub(crate) fn lines(path: PathBuf) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

pub(crate) async fn tell(agent: &Agent, setup: Setup) {
    agent.order(to_inside::Kind::Setup(setup)).await;
}

#[tokio::test]
async fn two_sessions_commit_apart_on_branches_of_their_own() {
    let commit = "git commit -q --allow-empty -m \"by $WARREN_SESSION\"; exec sleep 1000";
    let session = |name: &str, branch: &str| Session {
        name: name.to_owned(),
        command: commit.to_owned(),
        branch: branch.to_owned(),
        life: 5,
        run: 5,
        ..Session::default()
    };
    let folder = home();
    let (home, checkout) = (folder.path().join("home"), folder.path().join("home/web"));
    git(&home, &checkout, &["branch", "there"]);
    fs::write(checkout.join(".git/index.lock"), "").expect("what a crash left");
    let sessions = vec![session("one", "warren/one"), session("two", "there"), session("main", "")];
    let (workspace, mut agent) = Workspace::start_in(folder, order(sessions));
    let status = agent
        .until("all", |status| ["one", "two", "main"].iter().all(|name| runs(status, name, 5)))
        .await;
    let shown =
        |name: &str| find(&status, name).map(|one| (one.branch.clone(), one.worktree.clone()));
    let path = |name: &str| home.join("web.worktrees").join(name).to_string_lossy().into_owned();
    assert_eq!(shown("one"), Some(("warren/one".to_owned(), path("one"))));
    assert_eq!(shown("two"), Some(("there".to_owned(), path("two"))));
    assert_eq!(shown("main"), Some(("main".to_owned(), String::new())));
    let last = |branch: &str| git(&home, &checkout, &["log", "-1", "--format=%s", branch]);
    for (branch, by) in [("warren/one", "by one"), ("there", "by two"), ("main", "by main")] {
        wait_until(by, || last(branch) == by).await;
    }

    // What another session has checked out cannot be had twice, and that is said.
    let mut twice = session("three", "there");
    twice.life = 6;
    tell(&agent, order(vec![session("one", "warren/one"), session("main", ""), twice])).await;
    let status = agent
        .until("the refusal, and the end of what was not named any more", |status| {
            let refused = find(status, "three").is_some_and(|one| !one.problem.is_empty());
            refused && find(status, "two").is_none()
        })
        .await;
    let three = find(&status, "three").expect("it is told");
    assert!(three.problem.contains("there") && !three.running, "{three:?}");
    assert!(Path::new(&path("two")).exists(), "its worktree stays");
    assert!(runs(&status, "one", 5), "the others run on");
    drop(workspace);
}

#[tokio::test]
async fn a_stop_ends_what_left_its_terminal_and_nothing_of_others() {
    let (workspace, mut agent) =
        Workspace::start_in(home(), order(vec![agent_in("one", 5), agent_in("two", 5)]));
    let both = |status: &Status| is_idle(status, "one") && is_idle(status, "two");
    agent.until("both agents", both).await;
    let children = || workspace.processes("trap").len();
    wait_until("their children", || children() == 2).await;
    let stopped = |name: &str| Session { ..agent_in(name, 5) };
    let setup = Setup { stopped: vec![stopped("one")], ..order(vec![agent_in("two", 5)]) };
    tell(&agent, setup.clone()).await;
    let status = agent.until("the end of it", |status| find(status, "one").is_none()).await;
    assert!(is_idle(&status, "two"));
    wait_until("its processes to be gone", || children() == 1).await;
    assert_eq!(workspace.processes("bin/claude").len(), 1);

    // Stopped it stays, whatever is told again, until a run is asked for.
    tell(&agent, setup).await;
    tell(&agent, order(vec![agent_in("one", 9), agent_in("two", 5)])).await;
    let again = |status: &Status| runs(status, "one", 9) && is_idle(status, "one");
    let status = agent.until("the new run", again).await;
    let argv = lines(workspace.home().join("argv-one"));
    assert_eq!(argv.len(), 2, "{argv:?}, and it is told of {:?}", find(&status, "one"));
    assert_eq!(lines(workspace.home().join("argv-two")).len(), 1, "never touched");
}

#[tokio::test]
async fn an_agent_starts_until_it_is_there_however_long_its_shell_takes() {
    let folder = home();
    let profile = "sleep 9\nexport PATH=$HOME/bin:$PATH\n";
    fs::write(folder.path().join("home/.profile"), profile).expect("a profile");
    let (workspace, mut agent) = Workspace::start_in(folder, order(vec![agent_in("main", 5)]));
    let mut told = Vec::new();
    let idle = |status: &Status| {
        let agent = find(status, "main").and_then(|session| session.agent.clone());
        told.extend(agent.map(|agent| (agent.kind, agent.state.and_then(|state| state.state))));
        is_idle(status, "main")
    };
    agent.until("its first prompt", idle).await;
    let begun = |(kind, state): &(String, Option<State>)| {
        kind == "claude" && matches!(state, Some(State::Starting(_) | State::Idle(_)))
    };
    assert!(told.len() > 1 && told.iter().all(begun), "{told:?}");
    assert_eq!(lines(workspace.home().join("argv-main")).len(), 1);
}

#[tokio::test]
async fn conversations_are_resumed_and_the_prompt_is_typed_once() {
    let prompt = "do this\nand 'that' $HOME";
    let session = |run, conversation| Session {
        prompt: prompt.to_owned(),
        arguments: "--model m".to_owned(),
        conversation,
        ..agent_in("main", run)
    };
    let (workspace, mut agent) = Workspace::start_in(home(), order(vec![session(5, 5)]));
    let typed = |workspace: &Workspace| lines(workspace.home().join("typed-main"));
    let argv = |workspace: &Workspace| lines(workspace.home().join("argv-main"));
    wait_until("the prompt", || typed(&workspace) == ["do this", "and 'that' $HOME"]).await;
    let status = agent.until("it", |status| runs(status, "main", 5)).await;
    let id = find(&status, "main").expect("it").conversation.clone();
    assert!(!find(&status, "main").expect("it").resumed && id.len() == 36, "{id}");
    let flags = "--dangerously-skip-permissions --model m";
    assert_eq!(argv(&workspace), [format!("--session-id {id} {flags}")]);
    assert!(workspace.processes("do this").is_empty(), "no command line holds it");

    // asked for again
    tell(&agent, order(vec![session(7, 5)])).await;
    let status =
        agent.until("run 7", |status| runs(status, "main", 7) && is_idle(status, "main")).await;
    assert!(find(&status, "main").expect("it").resumed);
    wait_until("start 2", || argv(&workspace).len() > 1).await;
    assert_eq!(argv(&workspace)[1], format!("--resume {id} {flags}"));

    // the tmux server dies
    workspace.tmux(&["kill-server"]);
    wait_until("the third start", || argv(&workspace).len() == 3).await;
    assert_eq!(argv(&workspace)[2], format!("--resume {id} {flags}"));

    // another life of the workspace
    let folder = workspace.into_folder().await;
    let (workspace, mut agent) = Workspace::start_in(folder, order(vec![session(7, 5)]));
    let status = agent.until("it again", |status| is_idle(status, "main")).await;
    assert!(find(&status, "main").expect("it").resumed);
    wait_until("start 4", || argv(&workspace).len() > 3).await;
    assert_eq!(argv(&workspace)[3], format!("--resume {id} {flags}"));

    // with a new conversation
    tell(&agent, order(vec![session(9, 9)])).await;
    let status =
        agent.until("run 9", |status| runs(status, "main", 9) && is_idle(status, "main")).await;
    let other = find(&status, "main").expect("it").conversation.clone();
    assert_ne!(other, id);
    wait_until("start 5", || argv(&workspace).len() > 4).await;
    assert_eq!(argv(&workspace)[4], format!("--session-id {other} {flags}"));
    assert_eq!(typed(&workspace).len(), 2, "typed once");
}

#[tokio::test]
async fn an_agent_that_is_missing_is_an_error_that_says_what_to_do() {
    let codex = |run| Session { agent: "codex".to_owned(), ..agent_in("main", run) };
    let (workspace, mut agent) = Workspace::start_in(home(), order(vec![codex(5)]));
    let status = agent
        .until("the problem", |status| {
            find(status, "main").is_some_and(|one| !one.problem.is_empty())
        })
        .await;
    let main = find(&status, "main").expect("it is told");
    assert!(main.problem.contains("codex is not in this workspace's PATH"), "{}", main.problem);
    assert!(!main.running && status.started, "{main:?}");
    let state = main.agent.as_ref().and_then(|agent| agent.state.clone()?.state);
    assert!(matches!(state, Some(State::Error(_))), "{state:?}");

    install(&workspace.home(), "codex");
    tell(&agent, order(vec![codex(6)])).await;
    let status = agent.until("the next run", |status| runs(status, "main", 6)).await;
    assert_eq!(find(&status, "main").map(|one| one.problem.as_str()), Some(""));
}

#[tokio::test]
async fn a_plain_claude_of_the_spec_comes_back_with_its_conversation_too() {
    let plain = Setup {
        sessions: vec![Session {
            name: "main".to_owned(),
            command: "claude --model m".to_owned(),
            ..Session::default()
        }],
        ordered: false,
        ..order(Vec::new())
    };
    let argv = |workspace: &Workspace| lines(workspace.home().join("argv-main"));
    let (workspace, mut agent) = Workspace::start_in(home(), plain.clone());
    agent.until("it", |status| is_idle(status, "main")).await;
    // a program that shows nothing for a while is idle, one that has not begun yet included
    wait_until("its start", || argv(&workspace).len() == 1).await;
    let folder = workspace.into_folder().await;
    let (workspace, mut agent) = Workspace::start_in(folder, plain);
    let status = agent.until("it again", |status| is_idle(status, "main")).await;
    let main = find(&status, "main").expect("it");
    assert_eq!((main.command.as_str(), main.resumed), ("claude --model m", true));
    wait_until("its second start", || argv(&workspace).len() > 1).await;
    let id = &main.conversation;
    assert_eq!(
        argv(&workspace),
        [format!("--session-id {id} --model m"), format!("--resume {id} --model m")]
    );
}
