//! Orders of sessions that meet what an earlier life, a full disk, or another session left in their
//! way.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use warren_common::Limits;
use warren_proto::pb::inside::v1::{Session, Status};

use crate::{
    orders::{agent_in, find, git, home, is_idle, lines, order, runs, tell},
    workspace::{Workspace, wait_until},
};

/// A client of Codex, which starts the daemon of all where its arguments say so.
const CODEX: &str = r#"#!/bin/bash
case "$*" in
*marked*) setsid -f bash -c 'exec -a /x/codex bash -c "while :; do sleep 1; done" app-server' ;;
*own*) env -u WARREN_SESSION setsid -f bash -c 'exec -a /x/codex bash -c "while :; do sleep 1; done" app-server' ;;
esac
exec -a /x/codex bash -c 'while read -r line; do :; done' tui
"#;

fn on_branch(name: &str, branch: &str, run: u64) -> Session {
    Session {
        name: name.to_owned(),
        command: "exec sleep 1000".to_owned(),
        branch: branch.to_owned(),
        life: 5,
        run,
        ..Session::default()
    }
}

/// Has whoever checks out the file `big` wait for ever.
fn hold_checkouts(home: &Path, checkout: &Path) {
    fs::write(checkout.join(".gitattributes"), "big filter=slow\n").expect("a file");
    fs::write(checkout.join("big"), "all of it\n").expect("a file");
    git(home, checkout, &["add", "."]);
    git(home, checkout, &["commit", "-q", "-m", "slow"]);
    git(home, checkout, &["config", "filter.slow.smudge", "sleep 1000"]);
}

fn free_checkouts(home: &Path, checkout: &Path) {
    git(home, checkout, &["config", "filter.slow.smudge", "cat"]);
}

/// Begins a worktree as git does, and dies in the middle.
async fn half(home: &Path, checkout: &Path, path: &Path, branch: &str) {
    let mut begun = Command::new("git")
        .env("HOME", home)
        .arg("-C")
        .arg(checkout)
        .args(["worktree", "add", "-q", "-b", branch])
        .arg(path)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("git");
    let own = checkout.join(".git/worktrees").join(path.file_name().expect("a name"));
    wait_until("the checkout to begin", || own.join("index.lock").exists()).await;
    let group = Pid::from_raw(begun.id().try_into().expect("a pid")).expect("a pid");
    kill_process_group(group, Signal::KILL).expect("it runs");
    begun.wait().expect("it ended");
    assert!(
        path.join(".git").exists() && own.join("locked").exists() && !own.join("index").exists()
    );
}

#[tokio::test]
async fn a_worktree_that_git_left_half_made_is_made_anew_and_those_of_people_are_not_touched() {
    let folder = home();
    let (home, checkout) = (folder.path().join("home"), folder.path().join("home/web"));
    let trees = home.join("web.worktrees");
    fs::create_dir(&trees).expect("a folder");
    hold_checkouts(&home, &checkout);
    half(&home, &checkout, &trees.join("half"), "warren/half").await;
    free_checkouts(&home, &checkout);
    let add = |name: &str, more: &[&str]| {
        let path = trees.join(name).to_string_lossy().into_owned();
        let branch = format!("people/{name}");
        let words = [&["worktree", "add", "-q"], more, &["-b", &branch, &path]].concat();
        git(&home, &checkout, &words);
    };
    add("locked", &["--lock", "--reason", "initializing the lab"]);
    add("bare", &["--no-checkout"]);
    add("whole", &["--lock", "--reason", "initializing"]);
    let lock = checkout.join(".git/worktrees/whole/locked");
    assert_eq!(fs::read_to_string(&lock).expect("it is locked").trim(), "initializing");
    fs::write(trees.join("whole/notes"), "mine").expect("a file");
    let theirs = [trees.join("locked/notes"), trees.join("bare/notes")];
    for path in &theirs {
        fs::write(path, "mine").expect("a file");
    }

    let sessions = ["half", "locked", "bare"].map(|n| on_branch(n, &format!("warren/{n}"), 5));
    let whole = on_branch("whole", "people/whole", 5);
    let wanted = [&sessions[..], &[whole]].concat();
    let (workspace, mut agent) = Workspace::start_in(folder, order(wanted));
    let status = agent
        .until("all three", |status| {
            let told = |name| find(status, name).is_some_and(|one| !one.problem.is_empty());
            let both = runs(status, "half", 5) && runs(status, "whole", 5);
            both && told("locked") && told("bare")
        })
        .await;
    assert_eq!(find(&status, "half").map(|one| one.branch.as_str()), Some("warren/half"));
    let whole = fs::read_to_string(trees.join("half/big")).expect("it is checked out");
    assert_eq!(whole, "all of it\n");
    assert_eq!(git(&home, &trees.join("half"), &["status", "--porcelain"]), "");
    assert!(workspace.log().contains("half made"));
    assert!(!lock.exists() && trees.join("whole/big").exists(), "it is free and as it was");
    assert_eq!(fs::read_to_string(trees.join("whole/notes")).expect("it is there"), "mine");
    for path in &theirs {
        assert_eq!(fs::read_to_string(path).expect("it is there"), "mine");
    }
}

#[tokio::test]
async fn a_list_of_worktrees_that_fails_is_asked_for_again_and_then_said() {
    let folder = home();
    let home = folder.path().join("home");
    let bin = tempfile::tempdir().expect("a folder");
    let path = std::env::var("PATH").expect("a PATH");
    let script = format!(
        "#!/bin/bash\nPATH={path}\ncase \" $* \" in *' worktree list '*) echo >> ~/lists\n\
         [ -e ~/hangs ] && exec sleep 600\n\
         if [ -e ~/broken ] || [ $(wc -l < ~/lists) = 1 ]; then\n\
         echo 'fatal: the list is torn' >&2; exit 128; fi ;; esac\nexec git \"$@\"\n"
    );
    let git = bin.path().join("git");
    fs::write(&git, script).expect("a script");
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).expect("it may run");
    let first = on_branch("first", "warren/first", 5);
    let path = ("PATH", format!("{}:{path}", bin.path().display()));
    let (_workspace, mut agent) =
        Workspace::start_in_with(folder, order(vec![first.clone()]), &[path]);
    agent.until("the first, later", |status| runs(status, "first", 5)).await;
    let asked = || fs::read_to_string(home.join("lists")).expect("asked").lines().count();
    assert_eq!(asked(), 2);

    fs::write(home.join("broken"), "").expect("a file");
    let second = |run| on_branch("second", "warren/second", run);
    tell(&agent, order(vec![first.clone(), second(6)])).await;
    let problem = |status: &Status| find(status, "second").map(|one| one.problem.clone());
    let told = |status: &Status| problem(status).is_some_and(|why| !why.is_empty());
    let status = agent.until("why there is none", told).await;
    let why = problem(&status).expect("it is told");
    assert!(why.contains("the list is torn") && why.contains("run the session again"), "{why}");
    assert_eq!(asked(), 2 + Limits::WORKTREE_LISTS as usize);
    assert!(
        !home.join("web.worktrees/second").exists(),
        "nothing is made beside what may be there"
    );
    fs::remove_file(home.join("broken")).expect("it was there");
    tell(&agent, order(vec![first.clone(), second(7)])).await;
    agent.until("the second", |status| runs(status, "second", 7)).await;

    // one that hangs costs no more than all of them may take
    fs::write(home.join("hangs"), "").expect("a file");
    let began = Instant::now();
    tell(&agent, order(vec![first, second(7), on_branch("third", "warren/third", 8)])).await;
    let problem = |status: &Status| find(status, "third").map(|one| one.problem.clone());
    let told = |status: &Status| problem(status).is_some_and(|why| !why.is_empty());
    let status = agent.until("why there is none", told).await;
    assert!(began.elapsed() >= Limits::WORKTREE_LIST);
    let why = problem(&status).expect("it is told");
    assert!(why.contains("git worktree list: git took longer than 10"), "{why}");
}

/// Tells of itself, and shows what is typed a second after it was: its Enter is to come after that.
const SHOWS_LATE: &str = r#"#!/bin/bash
stty -echo
printf '{"hook_event_name":"SessionStart","source":"startup","session_id":"s","cwd":"%s"}' "$PWD" \
    | @INSIDE@ hook claude
IFS= read -rN 7 text
sleep 1
together=apart
IFS= read -rt 0 && together=together
echo "> $text"
IFS= read -r end
echo "$text, $together" >> ~/typed-$WARREN_SESSION
sleep 1000
"#;

#[tokio::test]
async fn a_prompt_is_sent_once_its_agent_shows_it() {
    let folder = home();
    let script = SHOWS_LATE.replace("@INSIDE@", env!("CARGO_BIN_EXE_warren-inside"));
    fs::write(folder.path().join("home/bin/claude"), script).expect("a script");
    let session = Session { prompt: "do this".to_owned(), ..agent_in("main", 5) };
    let (workspace, _agent) = Workspace::start_in(folder, order(vec![session]));
    let typed = || lines(workspace.home().join("typed-main"));
    wait_until("the prompt", || !typed().is_empty()).await;
    assert_eq!(typed(), ["do this, apart"]);
}

/// Calls itself ready before it reads keys, and loses what is typed until then, as Gemini CLI does on a
/// busy machine.
const READY_EARLY: &str = r#"#!/bin/bash
printf '\033]0;\xe2\x97\x87  Ready (web)\007'
sleep 3
while read -r -t 0.1 -n 1; do :; done
stty -icanon
touch ~/reads
while read -r line; do echo "$line" >> ~/typed-$WARREN_SESSION; done
"#;

#[tokio::test]
async fn a_prompt_is_typed_once_its_agent_takes_keys() {
    let folder = home();
    let path = folder.path().join("home/bin/gemini");
    fs::write(&path, READY_EARLY).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    let session = Session {
        command: "gemini".to_owned(),
        agent: "gemini".to_owned(),
        prompt: "do this".to_owned(),
        ..agent_in("main", 5)
    };
    let (workspace, mut agent) = Workspace::start_in(folder, order(vec![session]));
    agent.until("its title", |status| is_idle(status, "main")).await;
    assert!(workspace.home().join("reads").exists(), "and whoever waits for that may type, too");
    let typed = || lines(workspace.home().join("typed-main"));
    wait_until("the prompt", || !typed().is_empty()).await;
    assert_eq!(typed(), ["do this"]);
}

#[tokio::test]
async fn a_stop_waits_for_no_other_session_and_not_for_what_its_own_is_at() {
    let folder = home();
    let (home, checkout) = (folder.path().join("home"), folder.path().join("home/web"));
    hold_checkouts(&home, &checkout);
    let slow = |run| on_branch("slow", "warren/slow", run);
    let (workspace, mut agent) =
        Workspace::start_in(folder, order(vec![slow(5), agent_in("quick", 5)]));
    agent.until("the quick one", |status| is_idle(status, "quick")).await;
    let adding = || !workspace.processes("worktree add").is_empty();
    wait_until("git to be at it", adding).await;

    let quick = Session { ..agent_in("quick", 5) };
    let mut setup = order(vec![slow(5)]);
    setup.stopped = vec![quick.clone()];
    let asked = Instant::now();
    tell(&agent, setup.clone()).await;
    agent.until("the end of it", |status| find(status, "quick").is_none()).await;
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(adding(), "the other is still at it");

    // its own is broken off, and what git left of it is in nobody's way
    setup.sessions.clear();
    setup.stopped = vec![quick.clone(), slow(5)];
    tell(&agent, setup).await;
    wait_until("git to be gone", || !adding()).await;
    free_checkouts(&home, &checkout);
    let mut setup = order(vec![slow(6)]);
    setup.stopped = vec![quick];
    tell(&agent, setup).await;
    let status = agent.until("the next run", |status| runs(status, "slow", 6)).await;
    assert!(status.started, "a step that was overtaken has ended");
    assert!(home.join("web.worktrees/slow/big").exists());
}

fn book(workspace: &Workspace) -> PathBuf {
    workspace.home().join(".local/state/warren/sessions.json")
}

#[tokio::test]
async fn a_prompt_is_not_typed_before_that_can_be_noted() {
    let folder = home();
    let state = folder.path().join("home/.local/state/warren");
    // as on a full disk: nothing new can be written there
    fs::create_dir_all(state.join("sessions.new/in-the-way")).expect("a folder");
    let session = Session { prompt: "do this".to_owned(), ..agent_in("main", 5) };
    let (workspace, mut agent) = Workspace::start_in(folder, order(vec![session]));
    let status = agent
        .until("the reason", |status| {
            find(status, "main").is_some_and(|one| one.problem.contains("cannot be noted"))
        })
        .await;
    let problem = &find(&status, "main").expect("it").problem;
    assert!(problem.contains("make room") && is_idle(&status, "main"), "{problem}");
    let typed = || lines(workspace.home().join("typed-main"));
    assert!(typed().is_empty());
    fs::remove_dir_all(state.join("sessions.new")).expect("it is there");
    wait_until("the prompt", || typed() == ["do this"]).await;
    agent
        .until("no reason", |status| find(status, "main").is_some_and(|s| s.problem.is_empty()))
        .await;
    assert!(fs::read_to_string(book(&workspace)).expect("a book").contains("\"prompted\": true"));
}

#[tokio::test]
async fn what_is_deleted_while_it_is_stopped_is_forgotten_but_for_its_prompt() {
    let session = |name| Session { prompt: "do this".to_owned(), ..agent_in(name, 5) };
    let both = vec![session("one"), session("two")];
    let (workspace, mut agent) = Workspace::start_in(home(), order(both));
    let typed = |name: &str| lines(workspace.home().join(format!("typed-{name}")));
    wait_until("the prompts", || typed("one").len() + typed("two").len() == 2).await;
    let mut setup = order(vec![session("two")]);
    setup.stopped = vec![session("one")];
    tell(&agent, setup).await;
    let status = agent.until("the end of it", |status| find(status, "one").is_none()).await;
    assert!(find(&status, "two").is_some());
    let id = |workspace: &Workspace| {
        let text = fs::read_to_string(book(workspace)).expect("a book");
        let book: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        book["pages"]["one"]["conversation"].as_str().map(str::to_owned)
    };
    let before = id(&workspace).expect("a stopped one may be run again");
    tell(&agent, order(vec![session("two")])).await;
    wait_until("its page to go", || id(&workspace).is_none()).await;

    // a restored cluster may not know that it was deleted
    tell(&agent, order(vec![session("one"), session("two")])).await;
    agent.until("it again", |status| is_idle(status, "one")).await;
    let again = id(&workspace).expect("a conversation");
    assert_ne!(again, before);
    // what was typed would have been by the time that a later prompt is
    let later = Session { prompt: "and that".to_owned(), ..agent_in("three", 5) };
    tell(&agent, order(vec![session("one"), session("two"), later])).await;
    wait_until("the later prompt", || typed("three") == ["and that"]).await;
    assert_eq!(typed("one"), ["do this"]);
}

#[tokio::test]
async fn one_that_ends_runs_until_all_of_it_has_ended_though_its_terminals_are_gone() {
    let stubborn =
        "setsid -f bash -c 'trap \"\" TERM HUP; while :; do sleep 1; done' stubborn; cat";
    let session =
        Session { command: stubborn.to_owned(), agent: String::new(), ..agent_in("one", 5) };
    let other = Session { command: "cat".to_owned(), agent: String::new(), ..agent_in("two", 5) };
    let (workspace, mut agent) = Workspace::start_in(home(), order(vec![session, other.clone()]));
    let left = || workspace.processes("stubborn").len();
    agent.until("both", |status| runs(status, "one", 5) && runs(status, "two", 5)).await;
    wait_until("what it started", || left() > 0).await;
    let mut setup = order(vec![other.clone()]);
    setup.stopped = vec![agent_in("one", 5)];
    tell(&agent, setup).await;
    let asked = || workspace.log().contains("session one ends as asked");
    wait_until("its end to begin", asked).await;
    // the other one's too: the server starts again with it alone
    workspace.tmux(&["kill-server"]);
    agent
        .until("the other one, again", |status| {
            if find(status, "one").is_none() {
                assert_eq!(left(), 0, "it was told as gone before all of it was");
            }
            runs(status, "two", 5)
        })
        .await;
    agent.until("the end of it", |status| find(status, "one").is_none()).await;
    assert_eq!(left(), 0, "it was told as gone before all of it was");
}

#[tokio::test]
async fn codex_daemon_ends_with_the_last_of_its_sessions_and_no_sooner() {
    let folder = home();
    let path = folder.path().join("home/bin/codex");
    fs::write(&path, CODEX).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    let codex = |name: &str, run, arguments: &str| Session {
        agent: "codex".to_owned(),
        arguments: arguments.to_owned(),
        ..agent_in(name, run)
    };
    let (workspace, mut agent) =
        Workspace::start_in(folder, order(vec![codex("one", 5, "marked")]));
    let daemons = || workspace.processes("app-server").len();
    let clients = || workspace.processes("tui").len();
    wait_until("the daemon", || daemons() == 1 && clients() == 1).await;
    // a process may be seen before its session is told, and what was not told has no end
    agent.until("one", |status| runs(status, "one", 5)).await;
    // a person's own, which has turns in the same daemon
    workspace.tmux(&["new-session", "-d", "-s", "mine", "bash -lc codex"]);
    wait_until("the other", || clients() == 2).await;
    tell(&agent, order(Vec::new())).await;
    agent.until("the end of one", |status| find(status, "one").is_none()).await;
    // longer than its end takes
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((daemons(), clients()), (1, 1), "a person's turns run there");

    tell(&agent, order(vec![codex("two", 5, "")])).await;
    wait_until("two", || clients() == 2).await;
    agent.until("two", |status| runs(status, "two", 5)).await;
    workspace.tmux(&["kill-session", "-t", "=mine"]);
    wait_until("mine to go", || clients() == 1).await;
    tell(&agent, order(Vec::new())).await;
    agent.until("the end of two", |status| find(status, "two").is_none()).await;
    assert_eq!(daemons(), 0, "it was told as gone before all of it was");

    // one that no session started is not theirs to end
    tell(&agent, order(vec![codex("three", 9, "own")])).await;
    wait_until("a person's daemon", || daemons() == 1 && clients() == 1).await;
    agent.until("three", |status| runs(status, "three", 9)).await;
    tell(&agent, order(Vec::new())).await;
    agent.until("the end of three", |status| find(status, "three").is_none()).await;
    wait_until("its client to go", || clients() == 0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(daemons(), 1);
}
