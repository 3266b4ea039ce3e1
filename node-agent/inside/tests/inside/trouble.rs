//! What goes wrong with sessions and their agents, and that what is told of it is true. The agents
//! are scripts; tmux, git, the reporter of hooks and the binary are real.
//!
//! | trouble | state that is told | test |
//! |---|---|---|
//! | agent binary missing | `error`, with what to do | `orders::an_agent_that_is_missing_is_an_error_that_says_what_to_do` |
//! | logged out | `error` of kind auth; a login dialog is `waiting`, setup | `a_lost_login_is_an_error_of_that_kind`, `agents::the_title_of_gemini_…` |
//! | crash loop | `exited`, how often and why; started again after a growing pause | `an_agent_that_crashes_…`, `tmux::crash` |
//! | broken hook script | as the agent's own record says | `hooks_that_fail_hang_or_babble_…` |
//! | escape-sequence flood | the others' as they are, in time | `a_flood_of_escape_sequences_…`, `sessions::a_title_without_end_hides_nothing_else` |
//! | hooks flood, odd texts | as it was told, cleaned | `agents::hostile_texts_and_a_flood_do_no_harm` |
//! | 100 browsers, hung browser, odd titles | bounded, `hung`, cleaned | `rogues`, `devtools`, `browsers/drivers.rs` |
//! | tmux server killed | running again, with their conversations | `orders::conversations_are_resumed_…`, `sessions::a_tmux_server_that_dies_…` |
//! | display killed | mended and said | `views::the_vnc_servers_end_costs_no_window_and_the_displays_end_is_mended_and_said` |
//! | PID 1 takes no hook | kept, bounded, taken in order | `agents::what_nobody_took_is_kept_and_taken_in_its_order`, `agent::spool` |
//! | node agent away for an hour's events | the newest of each, since when it is so; bounded | `a_node_agent_that_was_away_long_…` |
//! | shell of a session killed | `exited` by that signal; the others run on | `a_shell_that_is_killed_…`, `sessions::how_a_session_ended_is_kept_and_reported` |

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use warren_common::Limits;
use warren_proto::pb::inside::v1::{
    AgentErrorKind, AgentSource, AgentStatus, Status, agent_state::State,
};

use crate::{
    agent::Agent,
    agents::explain,
    orders::{CLAUDE, agent_in, find, home, is_idle, lines, order, runs, tell},
    workspace::{Workspace, sessions, wait_until},
};

/// An agent that waits for nobody runs a tool every 5 s, and two hooks tell of each: 1440 in an hour.
const TOOLS_OF_AN_HOUR: usize = 3600 / 5;

/// Ends badly as often as a file says; before [`CLAUDE`].
const CRASHES: &str = r#"#!/bin/bash
echo start >> ~/starts-$WARREN_SESSION
if [ $(wc -l < ~/starts-$WARREN_SESSION) -le $(cat ~/crashes-$WARREN_SESSION) ]; then
    echo "model m is not there"
    exit 3
fi
"#;

/// Does what stands in a file that a test writes, again and again.
const PLAYED: &str = r#"#!/bin/bash
tell() { printf '{"hook_event_name":"%s","session_id":"s","cwd":"%s"%s}' "$1" "$PWD" "$2" \
    | @INSIDE@ hook claude; }
record() { printf '{"pid":%s,"procStart":"%s","status":"%s","statusUpdatedAt":%s}' "$$" \
    "$(cut -d ' ' -f 22 /proc/$$/stat)" "$1" "$(date +%s%3N)" > ~/.claude/sessions/$$.json; }
while :; do
    [ -e ~/play-$WARREN_SESSION ] && { . ~/play-$WARREN_SESSION; rm ~/play-$WARREN_SESSION; }
    sleep 0.05
done
"#;

fn program(home: &Path, name: &str, text: &str) {
    let path = home.join("bin").join(name);
    fs::write(&path, text.replace("@INSIDE@", env!("CARGO_BIN_EXE_warren-inside")))
        .expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
}

/// A home whose Claude does what it is told.
fn played() -> TempDir {
    let folder = home();
    let home = folder.path().join("home");
    fs::create_dir_all(home.join(".claude/sessions")).expect("a folder");
    program(&home, "claude", PLAYED);
    folder
}

/// Has the agent of a session do something, and waits until it did.
async fn play(workspace: &Workspace, session: &str, text: &str) {
    let path = workspace.home().join(format!("play-{session}"));
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).expect("a file");
    fs::rename(&fresh, &path).expect("a file");
    wait_until("the agent to have done it", || !path.exists()).await;
}

fn agent_of<'a>(status: &'a Status, session: &str) -> Option<&'a AgentStatus> {
    find(status, session)?.agent.as_ref()
}

fn state_of<'a>(status: &'a Status, session: &str) -> Option<&'a State> {
    agent_of(status, session)?.state.as_ref()?.state.as_ref()
}

async fn until(
    agent: &mut Agent,
    session: &str,
    what: &str,
    fits: impl Fn(&State) -> bool,
) -> AgentStatus {
    let what = format!("{session} {what}");
    let status = agent.until(&what, |status| state_of(status, session).is_some_and(&fits)).await;
    agent_of(&status, session).expect("it is there").clone()
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    now.as_millis().try_into().expect("it fits")
}

#[tokio::test]
async fn an_agent_that_crashes_comes_back_after_a_pause_and_says_how_often_and_why() {
    let folder = home();
    let home = folder.path().join("home");
    program(&home, "claude", &format!("{CRASHES}{CLAUDE}"));
    for (name, crashes) in [("main", "2"), ("other", "99")] {
        fs::write(home.join(format!("crashes-{name}")), crashes).expect("a file");
    }
    let both = vec![agent_in("main", 5), agent_in("other", 5)];
    let (workspace, mut agent) = Workspace::start_in(folder, order(both));
    let starts = |name: &str| lines(workspace.home().join(format!("starts-{name}"))).len();
    let status = agent
        .until("its first crash", |status| {
            find(status, "main").is_some_and(|one| one.problem.contains("it crashed with exit"))
        })
        .await;
    let main = find(&status, "main").expect("it");
    assert!(main.problem.contains("exit code 3: model m is not there"), "{}", main.problem);
    assert!(!main.running && main.exit_code == 3);
    until(
        &mut agent,
        "main",
        "told as ended",
        |state| matches!(state, State::Exited(exit) if exit.code == Some(3)),
    )
    .await;
    // a look at processes may find it before the look at sessions that started it has been told
    agent
        .until("it to be back", |status| {
            let problem = find(status, "main").map_or("", |one| one.problem.as_str());
            let told =
                problem.contains("2 times in a row") && problem.contains("was started again");
            is_idle(status, "main") && told
        })
        .await;
    assert_eq!(starts("main"), 3);

    // the other goes on crashing; stopped, it is not started again
    wait_until("its third start", || starts("other") >= 3).await;
    let mut setup = order(vec![agent_in("main", 5)]);
    setup.stopped = vec![agent_in("other", 5)];
    tell(&agent, setup).await;
    agent.until("the end of it", |status| find(status, "other").is_none()).await;
    let before = starts("other");
    assert!(before <= 4, "there is a pause: {before}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(starts("other"), before);
}

#[tokio::test]
async fn an_agent_that_tells_of_itself_while_it_is_started_again_is_there() {
    let folder = home();
    let home = folder.path().join("home");
    let told = CLAUDE.replace("while IFS=", "echo > ~/told\nwhile IFS=");
    assert_ne!(told, CLAUDE);
    program(&home, "claude", &format!("{CRASHES}{told}"));
    fs::write(home.join("crashes-main"), "1").expect("a file");
    // on a busy machine tmux says late that it did so
    let bin = tempfile::tempdir().expect("a folder");
    let path = std::env::var("PATH").expect("a PATH");
    let script = format!(
        "#!/bin/bash\nPATH={path}\ncase \" $* \" in *' respawn-pane '*) tmux \"$@\"; code=$?\n\
         for ((look = 0; look < 400; look++)); do [ -e ~/told ] && break; sleep .05; done\n\
         sleep .5; exit $code ;; esac\nexec tmux \"$@\"\n"
    );
    let tmux = bin.path().join("tmux");
    fs::write(&tmux, script).expect("a script");
    fs::set_permissions(&tmux, fs::Permissions::from_mode(0o755)).expect("it may run");
    let path = ("PATH", format!("{}:{path}", bin.path().display()));
    let (_workspace, mut agent) =
        Workspace::start_in_with(folder, order(vec![agent_in("main", 5)]), &[path]);
    agent
        .until("it to be back", |status| {
            let problem = find(status, "main").map_or("", |one| one.problem.as_str());
            problem.contains("was started again") && is_idle(status, "main")
        })
        .await;
}

#[tokio::test]
async fn an_agent_that_is_ended_on_purpose_stays_so() {
    let (workspace, mut agent) =
        Workspace::start_in(home(), order(vec![agent_in("quit", 5), agent_in("killed", 5)]));
    agent.until("both", |status| is_idle(status, "quit") && is_idle(status, "killed")).await;
    // the end of its input, as a person ends it
    workspace.tmux(&["send-keys", "-t", "=quit:", "C-d"]);
    let pid = workspace.tmux(&["display-message", "-p", "-t", "=killed:", "#{pane_pid}"]);
    let pid = Pid::from_raw(pid.parse().expect("a pid")).expect("a pid");
    kill_process(pid, Signal::TERM).expect("it runs");
    let ended = |status: &Status, name: &str| find(status, name).is_some_and(|one| !one.running);
    agent.until("both ends", |status| ended(status, "quit") && ended(status, "killed")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for name in ["quit", "killed"] {
        assert_eq!(lines(workspace.home().join(format!("argv-{name}"))).len(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_lost_login_is_an_error_of_that_kind() {
    let (workspace, mut agent) = Workspace::start_in(played(), order(vec![agent_in("main", 5)]));
    agent.until("it", |status| runs(status, "main", 5)).await;
    let said = "Invalid API key · Please run /login";
    let failure =
        format!(r#",\"error\":\"authentication_failed\",\"last_assistant_message\":\"{said}\""#);
    play(&workspace, "main", &format!("tell UserPromptSubmit; tell StopFailure \"{failure}\""))
        .await;
    let told =
        until(&mut agent, "main", "logged out", |state| matches!(state, State::Error(_))).await;
    let Some(State::Error(error)) = told.state.and_then(|state| state.state) else { panic!() };
    assert_eq!((error.kind(), error.text.as_str()), (AgentErrorKind::Auth, said));
    assert!(told.unseen, "a person must look");
    play(&workspace, "main", "tell UserPromptSubmit").await;
    until(&mut agent, "main", "working", |state| matches!(state, State::Working(_))).await;
}

#[tokio::test]
async fn hooks_that_fail_hang_or_babble_leave_what_the_agent_itself_records() {
    let hooks = [
        ("fails", "exit 1"),
        ("hangs", "exec sleep 1000"),
        ("babbles", "head -c 300000 /dev/urandom | tee /dev/stderr | @INSIDE@ hook claude; exit 0"),
    ];
    let folder = played();
    let home = folder.path().join("home");
    for (name, body) in hooks {
        program(&home, &format!("hook-{name}"), &format!("#!/bin/bash\n{body}\n"));
    }
    let names = hooks.map(|(name, _)| name);
    let all = names.map(|name| agent_in(name, 5)).to_vec();
    let (workspace, mut agent) = Workspace::start_in(folder, order(all));
    for name in names {
        agent.until(name, |status| runs(status, name, 5)).await;
        // an agent gives up a hook that does not end; what it writes is the agent's
        let hook = "timeout 1 ~/bin/hook-$WARREN_SESSION > /dev/null 2>&1; record busy";
        play(&workspace, name, hook).await;
        let told =
            until(&mut agent, name, "busy", |state| matches!(state, State::Working(_))).await;
        assert_eq!(told.source(), AgentSource::Registry, "{name}");
        play(
            &workspace,
            name,
            "~/bin/hook-$WARREN_SESSION < /dev/null > /dev/null 2>&1 & record idle",
        )
        .await;
        let told = until(&mut agent, name, "idle", |state| matches!(state, State::Idle(_))).await;
        assert_eq!(told.source(), AgentSource::Registry, "{name}");
    }
    // and the reporter says nothing to an agent, whatever it reads
    let noise = fs::File::open("/dev/urandom").expect("noise");
    let done = Command::new("timeout")
        .args(["10", env!("CARGO_BIN_EXE_warren-inside"), "hook", "claude"])
        .env("WARREN_RUNTIME_DIR", workspace.runtime())
        .stdin(Stdio::from(noise))
        .output();
    let done = done.expect("the reporter");
    assert!(done.status.success() && done.stdout.is_empty() && done.stderr.is_empty(), "{done:?}");
}

#[tokio::test]
async fn a_flood_of_escape_sequences_delays_no_other_session() {
    let folder = played();
    let pieces = [
        "\u{1b}]2;a title\u{7}",
        "\u{1b}[2J\u{1b}[H",
        "\u{1b}[?1049h",
        "\u{1b}P+q544e\u{1b}\\",
        "\u{1b}[6n",
        "\u{1b}]52;c;YQ==\u{7}",
        "\u{1b}[38;5;9mx\u{1b}[0m",
        "\u{1b}k name\u{1b}\\",
        "\u{1b}[999;999H",
        "\u{1b}[?1000h",
        "\u{1b}#8",
        "\u{7}",
        "\u{1b}[?1049l",
        "\u{1b}c",
    ];
    let text: String = pieces.iter().cycle().take(20_000).copied().collect();
    fs::write(folder.path().join("home/flood"), text).expect("a file");
    let flood = warren_proto::pb::inside::v1::Session {
        name: "flood".to_owned(),
        command: "while :; do cat ~/flood; done".to_owned(),
        life: 5,
        run: 5,
        ..Default::default()
    };
    let both = vec![flood.clone(), agent_in("main", 5)];
    let (workspace, mut agent) = Workspace::start_in(folder, order(both));
    agent.until("both", |status| runs(status, "main", 5) && runs(status, "flood", 5)).await;
    for round in 0..3 {
        let asked = Instant::now();
        play(&workspace, "main", "tell UserPromptSubmit").await;
        until(&mut agent, "main", "working", |state| matches!(state, State::Working(_))).await;
        play(&workspace, "main", "tell Stop").await;
        let status = agent.until("idle", |status| is_idle(status, "main")).await;
        assert!(asked.elapsed() < Duration::from_secs(10), "{round}: {:?}", asked.elapsed());
        assert!(runs(&status, "flood", 5), "it is told too");
    }
    let names: Vec<String> = workspace
        .tmux(&["list-sessions", "-F", "#{session_name}"])
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(names, ["flood", "main"]);
    let mut setup = order(vec![agent_in("main", 5)]);
    setup.stopped = vec![flood];
    tell(&agent, setup).await;
    let status = agent.until("its end", |status| find(status, "flood").is_none()).await;
    assert!(is_idle(&status, "main"));
}

#[tokio::test]
async fn a_node_agent_that_was_away_long_hears_the_newest_and_since_when() {
    let (workspace, mut agent) = Workspace::start_in(played(), order(vec![agent_in("main", 5)]));
    agent.until("it", |status| runs(status, "main", 5)).await;
    let socket = agent.crash().await;
    // then a question
    let tool = r#"',"tool_name":"Bash","tool_input":{"command":"cargo test '$n'"}'"#;
    let script = format!(
        "for n in $(seq {TOOLS_OF_AN_HOUR}); do tell PreToolUse {tool}; tell PostToolUse {tool}; done\n\
         tell PermissionRequest {tool}"
    );
    let began = now_ms();
    let path = workspace.home().join("play-main");
    fs::write(&path, script).expect("a file");
    let patience = Instant::now() + Duration::from_secs(240);
    while path.exists() {
        assert!(Instant::now() < patience, "the agent is still at it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked = now_ms();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut agent = Agent::listen(&socket, order(vec![agent_in("main", 5)]));
    let told =
        until(&mut agent, "main", "waiting", |state| matches!(state, State::Waiting(_))).await;
    assert!((began..=asked).contains(&told.since_unix_ms), "not when it came back: {told:?}");
    assert!(told.unseen && told.source() == AgentSource::Hook);
    let explained = explain(&mut agent, "main").await;
    let hooks = explained.evidence.iter().filter(|one| one.source() == AgentSource::Hook);
    let said: Vec<&str> = hooks.map(|one| one.said.as_str()).collect();
    assert_eq!(said.len(), Limits::AGENT_EVIDENCE, "{said:?}");
    assert!(said.last().is_some_and(|last| last.starts_with("PermissionRequest")), "{said:?}");
    let status = fs::read_to_string(format!("/proc/{}/status", workspace.pid())).expect("it runs");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 20 * 1024, "{kib} KiB resident");
}

#[tokio::test]
async fn a_shell_that_is_killed_is_told_and_costs_no_other_session() {
    let (workspace, mut agent) =
        Workspace::start(sessions(&[("shell", ""), ("other", "exec sleep 1000")]));
    agent.until("both", |status| runs(status, "shell", 0) && runs(status, "other", 0)).await;
    workspace.tmux(&["send-keys", "-t", "=shell:", "sleep 4322", "Enter"]);
    wait_until("its child", || !workspace.processes("sleep 4322").is_empty()).await;
    let pid = workspace.tmux(&["display-message", "-p", "-t", "=shell:", "#{pane_pid}"]);
    let pid = Pid::from_raw(pid.parse().expect("a pid")).expect("a pid");
    kill_process(pid, Signal::KILL).expect("it runs");
    let status = agent
        .until("its end", |status| find(status, "shell").is_some_and(|one| !one.running))
        .await;
    assert_eq!(find(&status, "shell").map(|one| one.exit_code), Some(137));
    assert!(runs(&status, "other", 0));
    wait_until("its child to be hung up", || workspace.processes("sleep 4322").is_empty()).await;
}
