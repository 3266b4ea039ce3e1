//! Sessions, who reports them, and what they survive.

use warren_proto::pb::inside::v1::{SessionStatus, Setup, Status, to_inside};

use crate::{
    agent::Agent,
    workspace::{Workspace, session, sessions, wait_until},
};

fn find<'a>(status: &'a Status, name: &str) -> Option<&'a SessionStatus> {
    status.sessions.iter().find(|session| session.name == name)
}

fn runs(status: &Status, name: &str) -> bool {
    find(status, name).is_some_and(|session| session.running)
}

#[tokio::test]
async fn how_a_session_ended_is_kept_and_reported() {
    let (workspace, mut agent) = Workspace::start(sessions(&[
        ("fails", "exit 7"),
        ("killed", "kill -9 $$"),
        ("shell", ""),
        ("lost", "no-such-program-here"),
    ]));
    let status = agent
        .until("three ends", |status| status.sessions.iter().filter(|s| !s.running).count() == 3)
        .await;
    let code = |name| find(&status, name).map(|session| session.exit_code);
    assert_eq!(code("fails"), Some(7));
    assert_eq!(code("killed"), Some(137));
    assert_eq!(code("lost"), Some(127));
    assert!(runs(&status, "shell"));
    assert_eq!(find(&status, "shell").map(|s| s.command.as_str()), Some("bash"));
    assert!(find(&status, "fails").is_some_and(|s| s.started_unix_ms > 1_600_000_000_000));

    // What a person makes or closes by hand shows too.
    workspace.tmux(&["new-session", "-d", "-s", "mine", "sleep 1000"]);
    workspace.tmux(&["kill-session", "-t", "=shell"]);
    agent
        .until("the change", |status| {
            find(status, "mine").is_some_and(|s| s.running && s.command == "sleep")
                && find(status, "shell").is_none()
        })
        .await;
}

#[tokio::test]
async fn a_title_without_end_hides_nothing_else() {
    let title = r"printf '\033]2;%0400000d\007' 7; touch ~/titled; sleep 1000";
    let (workspace, mut agent) = Workspace::start(sessions(&[("long", title)]));
    agent.until("the session", |status| runs(status, "long")).await;
    wait_until("the title", || workspace.home().join("titled").exists()).await;
    workspace.tmux(&["new-session", "-d", "-s", "short", "sleep 1000"]);
    let shown = |status: &Status| find(status, "short").is_some_and(|s| s.command == "sleep");
    agent.until("the other session with its command", shown).await;
}

#[tokio::test]
async fn a_command_may_end_in_a_semicolon() {
    let command = r"find ~ -maxdepth 0 -exec touch ~/found \;";
    let (workspace, _agent) = Workspace::start(sessions(&[("main", command)]));
    wait_until("the command to run", || workspace.home().join("found").exists()).await;
}

#[tokio::test]
async fn a_node_agent_that_comes_back_finds_everything_as_it_was() {
    let setup = sessions(&[("main", "echo $$ > ~/pid; sleep 1000")]);
    let (workspace, mut agent) = Workspace::start(setup.clone());
    agent.until("the session", |status| runs(status, "main")).await;
    let pane = workspace.tmux(&["display-message", "-p", "-t", "=main:", "#{pane_pid}"]);

    let socket = agent.crash().await;
    let mut more = setup.clone();
    more.sessions.push(session("later", "sleep 1000"));
    let mut agent = Agent::listen(&socket, more);
    // a session runs some moments before its step has ended
    let both = |status: &Status| runs(status, "main") && runs(status, "later") && status.started;
    agent.until("both sessions and their steps ended", both).await;
    let still = workspace.tmux(&["display-message", "-p", "-t", "=main:", "#{pane_pid}"]);
    assert_eq!(pane, still, "nothing was restarted");
    assert_eq!(workspace.log().matches("session main: ").count(), 2, "begun and done once");

    // The first setup counts for everything but sessions.
    let mut other = Setup { setup_script: "touch ~/wrong".to_owned(), ..setup };
    other.sessions.push(session("last", "sleep 1000"));
    agent.order(to_inside::Kind::Setup(other)).await;
    agent.until("all three", |status| both(status) && runs(status, "last")).await;
    assert!(!workspace.home().join("wrong").exists());
}

#[tokio::test]
async fn a_tmux_server_that_dies_is_started_again_and_told_of() {
    let (workspace, mut agent) = Workspace::start(sessions(&[("main", "sleep 1000")]));
    agent.until("the session", |status| runs(status, "main")).await;
    workspace.tmux(&["kill-server"]);
    agent
        .until("the restart", |status| {
            runs(status, "main")
                && status.started
                && status.steps.iter().any(|s| s.title.contains("was started again"))
        })
        .await;
}

#[tokio::test]
async fn programs_inside_reach_the_same_server_and_not_the_agents_socket() {
    let command = "tmux rename-window -t main: seen; env > ~/env; sleep 1000";
    let (workspace, mut agent) = Workspace::start(sessions(&[("main", command)]));
    agent.until("the session", |status| runs(status, "main")).await;
    let window = || workspace.tmux(&["display-message", "-p", "-t", "=main:", "#{window_name}"]);
    crate::workspace::wait_until("the new name", || window() == "seen").await;
    let path = workspace.home().join("env");
    let environment = || std::fs::read_to_string(&path).unwrap_or_default();
    crate::workspace::wait_until("the environment", || {
        environment().contains("WARREN_SESSION=main")
    })
    .await;
    assert!(!environment().contains("WARREN_SOCKET"), "{}", environment());
}

/// Where a process stands when memory runs out.
fn score(pid: &str) -> Option<i32> {
    std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse().ok()
}

fn variable(pid: &str, name: &str) -> Option<String> {
    let all = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap_or_default();
    let start = format!("{name}=");
    all.split('\0').find_map(|pair| pair.strip_prefix(&start)).map(str::to_owned)
}

fn command_line(pid: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

#[tokio::test]
async fn whatever_tmux_runs_is_killed_before_tmux() {
    let (workspace, mut agent) =
        Workspace::start(sessions(&[("main", ""), ("asked", "exec sleep 4000")]));
    agent.until("the sessions", |status| runs(status, "main") && runs(status, "asked")).await;
    let own = score(&workspace.pid().to_string()).expect("PID 1's");
    let marked = (own + 200).min(1000);
    // a shell looks at the machine's first process, which is not this workspace's here
    let begun = once_marked(own);
    let server = workspace.tmux(&["display-message", "-p", "-t", "=main:", "#{pid}"]);
    let new = |arguments: &[&str]| {
        let (command, rest) = arguments.split_first().expect("a command");
        let mut words = vec![*command, "-d", "-t", "=main:", "-P", "-F", "#{pane_pid}"];
        words.extend(rest);
        workspace.tmux(&words)
    };
    let first = |session: &str| {
        workspace.tmux(&["display-message", "-p", "-t", &format!("={session}:"), "#{pane_pid}"])
    };
    let through_a_shell = [
        (first("main"), "bash -l "),
        (first("asked"), "sleep 4000 "),
        (new(&["new-window"]), "-bash "),
        (new(&["new-window", "exec sleep 4001"]), "sleep 4001 "),
        (new(&["split-window", "exec sleep 4002"]), "sleep 4002 "),
    ];
    for (pid, command) in &through_a_shell {
        crate::workspace::wait_until(command, || command_line(pid) == *command).await;
        let score = score(pid).expect("it runs");
        assert!((begun..=marked).contains(&score), "{command}, from its beginning: {score}");
        assert_eq!(variable(pid, "SHELL").as_deref(), Some("/bin/bash"), "{command}");
        assert_eq!(variable(pid, "TERM"), variable(&through_a_shell[0].0, "TERM"), "{command}");
    }

    // No shell is between, and the hint of a hook leads to the mark; so does a look for the others.
    let direct = new(&["new-window", "bash", "-c", "sleep 4003 & sleep 4004; true"]);
    workspace.tmux(&["set-option", "-g", "default-shell", "/bin/sh"]);
    let theirs = new(&["split-window", "exec sleep 4005"]);
    workspace.tmux(&["run-shell", "-b", "sleep 4006; true"]);
    let seen = |words: &str| {
        let found = workspace.processes(words);
        !found.is_empty() && found.iter().all(|pid| score(&pid.to_string()) == Some(marked))
    };
    for words in ["sleep 4003", "sleep 4004", "sleep 4005", "sleep 4006"] {
        crate::workspace::wait_until(words, || seen(words)).await;
    }
    assert_eq!(score(&direct), Some(marked));
    assert_eq!(variable(&theirs, "SHELL").as_deref(), Some("/bin/sh"), "theirs wins");

    assert_eq!(score(&server), Some(own), "tmux stays");
    assert_eq!(score(&workspace.pid().to_string()), Some(own), "PID 1 stays");
}

/// Where a shell stands that something at `now` started.
fn once_marked(now: i32) -> i32 {
    let first = score("1").expect("the first process's");
    (now + 200).min(first + 200).min(1000).max(now)
}

#[tokio::test]
async fn what_an_unmarked_program_leaves_behind_is_killed_before_tmux_too() {
    let (workspace, mut agent) = Workspace::start(sessions(&[("main", "")]));
    agent.until("the session", |status| runs(status, "main")).await;
    let own = score(&workspace.pid().to_string()).expect("PID 1's");
    let server = workspace.tmux(&["display-message", "-p", "-t", "=main:", "#{pid}"]);
    let window = ["new-window", "-d", "-t", "=main:", "env", "--ignore-signal=HUP"];
    workspace.tmux(&[&window[..], &["setsid", "-f", "sleep", "4007"]].concat());
    workspace.tmux(&["run-shell", "-b", "sh -c 'sleep 4009; true' & sleep 4008 &"]);
    let seen = |words: &str| {
        let found = workspace.processes(words);
        let marked = |pid: &_| score(&format!("{pid}")) == Some((own + 200).min(1000));
        !found.is_empty() && found.iter().all(marked)
    };
    for words in ["sleep 4007", "sleep 4008", "sleep 4009"] {
        crate::workspace::wait_until(words, || seen(words)).await;
    }
    assert_eq!(score(&server), Some(own), "tmux stays");
    workspace.tmux(&["kill-server"]);
    agent
        .until("the restart", |status| {
            runs(status, "main")
                && status.steps.iter().any(|s| s.title.contains("was started again"))
        })
        .await;
    let server = workspace.tmux(&["display-message", "-p", "-t", "=main:", "#{pid}"]);
    assert_eq!(score(&server), Some(own), "and the next one");
}

#[tokio::test]
async fn the_link_is_the_shell_in_all_but_its_score() {
    let (workspace, mut agent) = Workspace::start(sessions(&[("main", "")]));
    agent.until("the session", |status| runs(status, "main")).await;
    let ask = |target: &str, format: &str| {
        workspace.tmux(&["display-message", "-p", "-t", target, format])
    };
    let new = |command: &str| {
        workspace.tmux(&["new-window", "-d", "-t", "=main:", "-P", "-F", "#{pane_id}", command])
    };
    let ended = new("shopt -q login_shell && exit 3; printf %s \"$0\" > ~/name; exit 7");
    crate::workspace::wait_until("its end", || ask(&ended, "#{pane_dead_status}") == "7").await;
    let name = std::fs::read_to_string(workspace.home().join("name")).expect("a file");
    assert_eq!(name, "bash");
    let killed = new("kill -9 $$");
    crate::workspace::wait_until("the kill", || ask(&killed, "#{pane_dead_signal}") == "9").await;

    let bare = workspace.tmux(&["new-window", "-d", "-t", "=main:", "-P", "-F", "#{pane_id}"]);
    assert_eq!(ask(&bare, "#{window_name}"), "bash");
    let shell = || ask(&bare, "#{pane_current_command}") == "bash";
    crate::workspace::wait_until("the shell", shell).await;
    let script = "shopt -q login_shell && echo $SHELL > ~/login; exit 5";
    workspace.tmux(&["send-keys", "-t", &bare, script, "Enter"]);
    crate::workspace::wait_until("its end", || ask(&bare, "#{pane_dead_status}") == "5").await;
    let login = std::fs::read_to_string(workspace.home().join("login")).expect("a login shell");
    assert_eq!(login.trim(), "/bin/bash");

    // A program that tmux started without a shell is told of the link.
    let link = workspace.tmux(&["show-options", "-gv", "default-shell"]);
    let output = std::process::Command::new(&link)
        .args(["-c", "echo $SHELL; cat; exit 9"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!((output.status.code(), output.stdout), (Some(9), b"/bin/bash\n".to_vec()));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));

    // A shell that a shell started is as likely a victim as that one, not a likelier one.
    let inner = format!("{link} -c 'cat /proc/self/oom_score_adj; true'; true");
    let output = std::process::Command::new(&link).args(["-c", &inner]).output().expect("it runs");
    let own = score("self").expect("this process's");
    let told: i32 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
    assert_eq!(told, once_marked(own));
}
