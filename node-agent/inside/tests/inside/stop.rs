//! The end of a workspace, and what PID 1 owes the processes it inherits.

use std::{fs, time::Instant};

use rustix::process::Signal;
use warren_proto::pb::inside::v1::{Exec, open};

use crate::workspace::{Workspace, sessions, wait_until};

#[tokio::test]
async fn sigterm_ends_every_program_and_then_pid_1() {
    let command =
        "trap 'echo ended > ~/ended; exit' TERM; echo > ~/up; while :; do sleep 0.1; done";
    let (mut workspace, mut agent) = Workspace::start(sessions(&[("main", command), ("sh", "")]));
    agent.until_started().await;
    let up = workspace.home().join("up");
    wait_until("the program", || up.exists()).await;
    workspace.signal(Signal::TERM);
    assert_eq!(workspace.ended().await, Some(0));
    assert_eq!(workspace.processes(""), Vec::<i32>::new());
    assert!(workspace.home().join("ended").exists(), "it could tidy up");
}

#[tokio::test]
async fn a_program_that_will_not_end_is_killed_after_the_grace() {
    let command = "trap '' TERM HUP; echo > ~/up; while :; do sleep 0.1; done";
    let (mut workspace, mut agent) = Workspace::start(sessions(&[("main", command)]));
    agent.until_started().await;
    let up = workspace.home().join("up");
    wait_until("the program", || up.exists()).await;
    let asked = Instant::now();
    agent.shutdown(500).await;
    assert_eq!(workspace.ended().await, Some(0));
    assert!(asked.elapsed().as_millis() >= 500, "it had its grace");
    assert_eq!(workspace.processes(""), Vec::<i32>::new());
}

#[tokio::test]
async fn orphans_are_adopted_and_reaped() {
    let (workspace, mut agent) = Workspace::start(sessions(&[]));
    agent.until_started().await;
    let script = "(sh -c 'echo $$ > ~/orphan; read x < ~/go' &) ; true";
    let argv = ["bash", "-c", &format!("mkfifo ~/go; {script}")].map(str::to_owned).to_vec();
    let stream = agent.open(open::What::Exec(Exec { argv, terminal: None })).await;
    assert_eq!(stream.finish().await.code(), 0);
    let path = workspace.home().join("orphan");
    let pid = || fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
    wait_until("the orphan", || !pid().is_empty()).await;
    let stat = || fs::read_to_string(format!("/proc/{}/stat", pid())).unwrap_or_default();
    let parent = workspace.pid().to_string();
    wait_until("its adoption", || stat().split(' ').nth(3) == Some(parent.as_str())).await;
    fs::write(workspace.home().join("go"), "go\n").expect("a reader");
    wait_until("its end without a trace", || stat().is_empty()).await;
}
