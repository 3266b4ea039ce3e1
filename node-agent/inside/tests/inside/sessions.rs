//! Sessions, who reports them, and what they survive.

use warren_proto::pb::inside::v1::{SessionStatus, Setup, Status, to_inside};

use crate::{
    agent::Agent,
    workspace::{Workspace, session, sessions},
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
