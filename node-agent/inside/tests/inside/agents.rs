//! What agents do, as people are told: played by scripts that call the real reporter.

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use warren_proto::pb::inside::v1::{
    AgentExplanation, AgentSource, AgentStatus, AgentWaitKind, Explain, Status, agent_state::State,
    frame, open,
};

use crate::{
    agent::{Agent, PATIENCE},
    workspace::{Workspace, sessions, wait_until},
};

/// Reads orders from a pipe and does them, so that a test leads it.
const PLAYER: &str = r#"#!/bin/bash
tell() { printf '{"hook_event_name":"%s","session_id":"%s","cwd":"%s","transcript_path":%s%s}' \
    "$2" "$THREAD" "$PWD" "${TRANSCRIPT:-\"/t\"}" "$3" | @INSIDE@ hook "$1"; }
own() { @INSIDE@ hook custom "$1"; }
record() { printf '{"pid":%s,"procStart":"%s","status":"%s","statusUpdatedAt":%s,"waitingFor":"%s"}' \
    "$$" "${START:-$(cut -d ' ' -f 22 /proc/$$/stat)}" "$1" "$(date +%s%3N)" "$2" > ~/.claude/sessions/$$.json; }
nested() { bash -c "~/nested/claude $1; true"; }
[ $# = 0 ] || { tell claude "$1"; exit; }
exec 7<> ~/"orders-$WARREN_SESSION"
while IFS= read -r -u 7 order; do eval "$order"; done
"#;

/// A workspace whose sessions run players under these names.
pub(crate) fn start(players: &[(&str, &str)], more: &[(&str, &str)]) -> (Workspace, Agent) {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    fs::create_dir(folder.path().join("run")).expect("a folder");
    for name in ["bin", "nested", ".claude/sessions", "a", "b"] {
        fs::create_dir_all(home.join(name)).expect("a folder");
    }
    let player = PLAYER.replace("@INSIDE@", env!("CARGO_BIN_EXE_warren-inside"));
    for name in ["bin/claude", "nested/claude", "bin/codex", "bin/gemini", "bin/agent.sh"] {
        let path = home.join(name);
        fs::write(&path, &player).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    }
    let mut wanted = more.to_vec();
    for (session, command) in players {
        let pipe = orders(&home, session);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).expect("a pipe");
        wanted.push((session, command));
    }
    Workspace::start_in(folder, sessions(&wanted))
}

fn orders(home: &Path, session: &str) -> PathBuf {
    home.join(format!("orders-{session}"))
}

/// Lets the player of a session do something.
pub(crate) async fn order(workspace: &Workspace, session: &str, text: &str) {
    let path = orders(&workspace.home(), session);
    let text = format!("{text}\n");
    // opening waits for the player to listen
    let written = tokio::task::spawn_blocking(move || fs::write(path, text));
    written.await.expect("no panic").expect("an order");
}

fn agent_of<'a>(status: &'a Status, session: &str) -> Option<&'a AgentStatus> {
    status.sessions.iter().find(|one| one.name == session)?.agent.as_ref()
}

fn state_of<'a>(status: &'a Status, session: &str) -> Option<&'a State> {
    agent_of(status, session)?.state.as_ref()?.state.as_ref()
}

/// Waits for an agent whose kind and state fit.
pub(crate) async fn until(
    agent: &mut Agent,
    session: &str,
    kind: &str,
    fits: impl Fn(&State) -> bool,
) -> AgentStatus {
    let status = agent
        .until(&format!("{session}: {kind} in the state wanted"), |status| {
            agent_of(status, session).is_some_and(|agent| agent.kind == kind)
                && state_of(status, session).is_some_and(&fits)
        })
        .await;
    agent_of(&status, session).expect("it is there").clone()
}

pub(crate) const fn starting(state: &State) -> bool {
    matches!(state, State::Starting(_))
}

pub(crate) const fn working(state: &State) -> bool {
    matches!(state, State::Working(_))
}

pub(crate) const fn idle(state: &State) -> bool {
    matches!(state, State::Idle(_))
}

fn waiting_for(state: &State, text: &str) -> bool {
    matches!(state, State::Waiting(wait) if wait.text == text)
}

fn pane_of(workspace: &Workspace, session: &str) -> i32 {
    let pid =
        workspace.tmux(&["display-message", "-p", "-t", &format!("={session}:"), "#{pane_pid}"]);
    pid.parse().expect("a pid")
}

pub(crate) async fn explain(agent: &mut Agent, session: &str) -> AgentExplanation {
    let open = open::What::Explain(Explain { session: session.to_owned() });
    let done = agent.open(open).await.finish().await;
    assert_eq!(done.code(), 0);
    AgentExplanation::decode(&done.stdout[..]).expect("an explanation")
}

/// Asks until something was said.
pub(crate) async fn explain_until(
    agent: &mut Agent,
    session: &str,
    said: &str,
) -> AgentExplanation {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let explained = explain(agent, session).await;
        if explained.evidence.iter().any(|one| one.said == said) {
            return explained;
        }
        assert!(std::time::Instant::now() < deadline, "no {said} in {explained:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_turn_of_claude_is_told_as_it_goes_and_its_end_by_a_signal() {
    let (workspace, mut agent) = start(&[("main", "exec ~/bin/claude")], &[]);
    until(&mut agent, "main", "claude", starting).await;
    order(&workspace, "main", r#"tell claude SessionStart ',"source":"startup"'"#).await;
    let told = until(&mut agent, "main", "claude", idle).await;
    assert_eq!((told.source(), told.derived), (AgentSource::Hook, false));
    order(
        &workspace,
        "main",
        "tell claude UserPromptSubmit ',\"prompt\":\"my key is canary-one\"'",
    )
    .await;
    until(&mut agent, "main", "claude", working).await;
    let tool = r#"',"tool_name":"Bash","tool_input":{"command":"rm -rf build"}'"#;
    order(&workspace, "main", &format!("tell claude PreToolUse {tool}")).await;
    until(&mut agent, "main", "claude", |state| {
        matches!(state, State::Working(work) if work.tool.as_ref().is_some_and(|t| t.name == "Bash"))
    })
    .await;
    order(&workspace, "main", &format!("tell claude PermissionRequest {tool}")).await;
    let told =
        until(&mut agent, "main", "claude", |state| waiting_for(state, "Bash: rm -rf build")).await;
    assert!(told.unseen, "nobody looked");

    // Esc at the prompt fires no hook: the record tells.
    order(&workspace, "main", "record idle").await;
    let told = until(&mut agent, "main", "claude", idle).await;
    assert_eq!(told.source(), AgentSource::Registry);
    order(&workspace, "main", "tell claude UserPromptSubmit").await;
    until(&mut agent, "main", "claude", working).await;
    // A record of another process with the same id, and the hooks of agents that run as tools.
    order(&workspace, "main", "START=1 record idle; nested Stop; tell codex Stop").await;
    order(&workspace, "main", "tell claude Notification").await;
    let explained = explain_until(&mut agent, "main", "Notification").await;
    let said: Vec<&str> = explained.evidence.iter().map(|one| one.said.as_str()).collect();
    assert!(!said.contains(&"Stop"), "{said:?}");
    assert!(!said.concat().contains("canary"), "a prompt is not passed on: {said:?}");
    let decides: Vec<_> = explained.evidence.iter().filter(|one| one.decides).collect();
    assert_eq!(decides.len(), 1);
    assert_eq!(
        (decides[0].said.as_str(), decides[0].verdict.as_str()),
        ("UserPromptSubmit", "set working")
    );

    kill_process(Pid::from_raw(pane_of(&workspace, "main")).expect("a pid"), Signal::KILL)
        .expect("it runs");
    let told = until(&mut agent, "main", "claude", |state| matches!(state, State::Exited(_))).await;
    assert_eq!(told.source(), AgentSource::Tmux);
    let Some(State::Exited(exit)) = told.state.and_then(|state| state.state) else { panic!() };
    assert_eq!((exit.code, exit.signal, exit.oom), (None, Some(9), false));

    workspace.tmux(&["respawn-pane", "-t", "=main:"]);
    let told = until(&mut agent, "main", "claude", starting).await;
    assert!(!told.unseen);
}

#[tokio::test]
async fn an_agent_that_a_person_starts_in_a_shell_comes_and_goes() {
    let (workspace, mut agent) = start(&[], &[("main", "")]);
    let pipe = orders(&workspace.home(), "main");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).expect("a pipe");
    until(&mut agent, "main", "shell", idle).await;
    let run = ["send-keys", "-t", "=main:", "~/bin/claude", "Enter"];
    for _ in 0..2 {
        workspace.tmux(&run);
        until(&mut agent, "main", "claude", starting).await;
        order(&workspace, "main", r#"tell claude SessionStart ',"source":"startup"'"#).await;
        until(&mut agent, "main", "claude", idle).await;
        order(&workspace, "main", "exit 0").await;
        until(&mut agent, "main", "claude", |state| matches!(state, State::Exited(_))).await;
    }
    workspace.tmux(&["send-keys", "-t", "=main:", "sleep 1000", "Enter"]);
    until(&mut agent, "main", "sleep", |_| true).await;
}

#[tokio::test]
async fn an_agent_of_ones_own_tells_its_state_and_a_program_that_asks_shows_it() {
    let (workspace, mut agent) = start(
        &[("own", "exec ~/bin/agent.sh")],
        &[
            ("asks", "read -p 'Your name? ' name; sleep 1000; true"),
            ("busy", "while :; do :; done"),
        ],
    );
    until(&mut agent, "own", "agent", |_| true).await;
    order(&workspace, "own", r#"own '{"state":"waiting","text":"Deploy?"}'"#).await;
    until(&mut agent, "own", "agent", |state| waiting_for(state, "Deploy?")).await;
    order(&workspace, "own", r#"own '{"state":"working"}'"#).await;
    let told = until(&mut agent, "own", "agent", working).await;
    assert_eq!((told.source(), told.derived), (AgentSource::Hook, false));
    order(&workspace, "own", r#"own '{"state":"error","text":"no net"}'"#).await;
    until(&mut agent, "own", "agent", |s| matches!(s, State::Error(e) if e.text == "no net")).await;
    order(&workspace, "own", r#"own '{"state":"idle"}'; own nonsense; own '{"state":"dreaming"}'"#)
        .await;
    until(&mut agent, "own", "agent", idle).await;

    let told = until(&mut agent, "asks", "shell", |s| waiting_for(s, "Your name?")).await;
    assert_eq!((told.source(), told.derived), (AgentSource::Process, true));
    workspace.tmux(&["send-keys", "-t", "=asks:", "me", "Enter"]);
    until(&mut agent, "asks", "shell", |state| !matches!(state, State::Waiting(_))).await;
    until(&mut agent, "busy", "shell", working).await;
}

#[tokio::test]
async fn the_title_of_gemini_and_the_screen_of_claude_tell_where_hooks_do_not() {
    let (workspace, mut agent) = start(
        &[("g", "exec ~/bin/gemini"), ("c", "echo 'Do you trust this folder?'; exec ~/bin/claude")],
        &[],
    );
    until(&mut agent, "g", "gemini", starting).await;
    order(&workspace, "g", r#"tell gemini SessionStart ',"source":"startup"'"#).await;
    until(&mut agent, "g", "gemini", idle).await;
    order(&workspace, "g", "tell gemini BeforeAgent").await;
    until(&mut agent, "g", "gemini", working).await;
    let asks = r#"',"notification_type":"ToolPermission","message":"Confirm"'"#;
    order(&workspace, "g", &format!("tell gemini Notification {asks}")).await;
    until(&mut agent, "g", "gemini", |state| waiting_for(state, "Confirm")).await;
    // A prompt that is dismissed fires no hook, and the title is there at once.
    order(&workspace, "g", r"printf '\033]2;◇  Ready (a)\007'").await;
    let told = until(&mut agent, "g", "gemini", idle).await;
    assert_eq!((told.source(), told.derived), (AgentSource::Title, true));

    // A dialog of the first start fires none either.
    let dialog = "Do you trust this folder?";
    let told = until(&mut agent, "c", "claude", |state| waiting_for(state, dialog)).await;
    let Some(State::Waiting(wait)) = told.state.and_then(|state| state.state) else { panic!() };
    assert_eq!(wait.kind(), AgentWaitKind::Setup);
    order(&workspace, "c", "tell claude UserPromptSubmit").await;
    until(&mut agent, "c", "claude", working).await;
    order(&workspace, "c", "echo '* 529 mock · retrying in 9s · attempt 5/10'").await;
    until(
        &mut agent,
        "c",
        "claude",
        |state| matches!(state, State::Working(work) if work.phase == 4),
    )
    .await;
}

#[tokio::test]
async fn hooks_of_codex_find_their_session_by_folder_and_thread() {
    let codex = [
        ("one", "cd ~/a && THREAD=t1 exec ~/bin/codex"),
        ("two", "cd ~/b && THREAD=t2 exec ~/bin/codex"),
    ];
    let (workspace, mut agent) = start(&codex, &[]);
    for session in ["one", "two"] {
        until(&mut agent, session, "codex", starting).await;
    }
    // Their daemon has the environment of the first, and so have all their hooks.
    order(&workspace, "one", "(cd ~/b; THREAD=t2; tell codex UserPromptSubmit)").await;
    until(&mut agent, "two", "codex", working).await;
    until(&mut agent, "one", "codex", starting).await;
    // The thread is known by now, wherever it is; a helper's is nobody's.
    order(&workspace, "one", "(cd ~/b; THREAD=t9; TRANSCRIPT=null; tell codex Stop)").await;
    order(&workspace, "one", "(cd /; THREAD=t2; tell codex Interrupt)").await;
    until(&mut agent, "two", "codex", idle).await;
    let said = explain_until(&mut agent, "two", "Interrupt").await;
    assert!(!said.evidence.iter().any(|one| one.said == "Stop"), "{said:?}");
}

#[tokio::test]
async fn what_nobody_took_is_kept_and_taken_in_its_order() {
    let (workspace, mut agent) = start(&[("main", "exec ~/bin/claude")], &[]);
    until(&mut agent, "main", "claude", starting).await;
    let socket = workspace.runtime().join("status.sock");
    wait_until("the socket", || socket.exists()).await;
    fs::remove_file(&socket).expect("it is there");
    let events = "for event in SessionStart UserPromptSubmit PreToolUse PostToolUse Stop; do tell claude $event; done";
    order(&workspace, "main", events).await;
    let explained = explain_until(&mut agent, "main", "Stop").await;
    let hooks = explained.evidence.iter().filter(|one| one.source() == AgentSource::Hook);
    let said: Vec<&str> = hooks.map(|one| one.said.as_str()).collect();
    assert_eq!(said, ["SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop"]);
    let left = || fs::read_dir(workspace.runtime().join("spool")).expect("a folder").count();
    wait_until("an empty spool", || left() == 0).await;
    wait_until("the socket again", || socket.exists()).await;
    order(&workspace, "main", "tell claude UserPromptSubmit").await;
    until(&mut agent, "main", "claude", working).await;
    assert_eq!(left(), 0);
}

#[tokio::test]
async fn hostile_texts_and_a_flood_do_no_harm() {
    let (workspace, mut agent) = start(&[("main", "exec ~/bin/claude")], &[]);
    until(&mut agent, "main", "claude", starting).await;
    let socket = workspace.runtime().join("status.sock");
    wait_until("the socket", || socket.exists()).await;
    let long = "x".repeat(70_000);
    let slow: Vec<UnixStream> = (0..64).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    let flood = tokio::task::spawn_blocking({
        let socket = socket.clone();
        move || {
            for number in 0..2000 {
                let Ok(mut to) = UnixStream::connect(&socket) else { continue };
                let text = match number % 4 {
                    0 => long.as_str(),
                    1 => {
                        "{\"teller\":\"claude\",\"at\":99999999999999,\"session\":\"main\",\"hook\":{}}"
                    }
                    2 => "\u{0}\u{1b}[2J",
                    _ => "{\"teller\":\"claude\",\"at\":1,\"session\":\"none\",\"hook\":{}}",
                };
                let _ = to.write_all(text.as_bytes());
            }
        }
    });
    flood.await.expect("no panic");
    drop(slow);
    let text = r#"'\u001b]0;evil\u0007 \u202e<b>rm</b>\nnext'"#;
    order(&workspace, "main", &format!("tell claude PreToolUse ',\"tool_name\":\"B\\u001b[2Jash\",\"tool_input\":{{\"command\":\"'{text}'\"}}'")).await;
    let told = until(
        &mut agent,
        "main",
        "claude",
        |state| matches!(state, State::Working(work) if work.tool.is_some()),
    )
    .await;
    let Some(State::Working(work)) = told.state.and_then(|state| state.state) else { panic!() };
    let tool = work.tool.expect("a tool");
    assert_eq!(tool.name, "B[2Jash");
    assert!(!tool.summary.chars().any(warren_common::status::hides), "{:?}", tool.summary);

    // The reporter is not held up by input that never ends, and says nothing of what it cannot read.
    let mut reporter = Command::new(env!("CARGO_BIN_EXE_warren-inside"))
        .args(["hook", "claude"])
        .env("WARREN_RUNTIME_DIR", workspace.runtime())
        .env("WARREN_SESSION", "main")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the reporter");
    let mut stdin = reporter.stdin.take().expect("a pipe");
    stdin.write_all(b"{\"hook_event_name\":\"Stop\",\"x\":[").expect("it reads");
    let output = tokio::task::spawn_blocking(move || reporter.wait_with_output());
    let output = output.await.expect("no panic").expect("it ended");
    drop(stdin);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
    until(&mut agent, "main", "claude", idle).await;
    let status = fs::read_to_string(format!("/proc/{}/status", workspace.pid())).expect("it runs");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    // a build without optimisation is larger than the one that ships
    assert!(kib < 20 * 1024, "{kib} KiB resident");
}

#[tokio::test]
async fn why_is_answered_for_sessions_that_are_there() {
    let (_workspace, mut agent) = start(&[("main", "exec ~/bin/claude")], &[]);
    until(&mut agent, "main", "claude", starting).await;
    let explained = explain(&mut agent, "main").await;
    assert_eq!(explained.status.map(|status| status.kind).as_deref(), Some("claude"));
    assert!(explained.evidence[0].said.starts_with("process "), "{:?}", explained.evidence);
    for name in ["none", "../main", ""] {
        let open = open::What::Explain(Explain { session: name.to_owned() });
        let done = agent.open(open).await.finish().await;
        assert!(
            matches!(&done.end, Some(frame::Kind::Failed(f)) if f.reason == "SESSION_NOT_FOUND"),
            "{name}: {:?}",
            done.end
        );
    }
}
