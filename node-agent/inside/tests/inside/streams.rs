//! Viewers and programs: what they show, how they end, and that nothing of them stays.

use std::fs;

use warren_common::Limits;
use warren_proto::pb::inside::v1::{
    Attach, Exec, Failed, Frame, Resize, Signal, StdinClosed, Terminal, frame, open,
};

use crate::{
    agent::{Agent, Stream},
    wire,
    workspace::{Workspace, sessions, wait_until},
};

fn terminal(columns: u32, rows: u32) -> Terminal {
    Terminal { term: "no-such-terminal".to_owned(), columns, rows }
}

async fn attach(agent: &mut Agent, session: &str, read_only: bool) -> Stream {
    let terminal = Some(terminal(100, 30));
    let attach = Attach { session: session.to_owned(), terminal, read_only };
    agent.open(open::What::Attach(attach)).await
}

async fn exec(agent: &mut Agent, argv: &[&str]) -> Stream {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    agent.open(open::What::Exec(Exec { argv, terminal: None })).await
}

async fn bash(agent: &mut Agent, script: &str) -> Stream {
    exec(agent, &["bash", "-c", script]).await
}

const COUNTER: &str =
    "n=0; while :; do n=$((n+1)); echo \"count=$n ünïcödé\"; echo $n > ~/count; sleep 0.1; done";

fn count(workspace: &Workspace) -> u64 {
    let text = fs::read_to_string(workspace.home().join("count")).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

#[tokio::test]
async fn a_viewer_that_is_cut_off_leaves_nothing_and_the_program_goes_on() {
    let (workspace, mut agent) = Workspace::start(sessions(&[("main", COUNTER)]));
    agent.until_started().await;
    let mut viewer = attach(&mut agent, "main", false).await;
    viewer.opened().await;
    viewer.until("ünïcödé").await;
    let viewers = |n| {
        move |s: &warren_proto::pb::inside::v1::Status| {
            s.sessions.first().is_some_and(|session| session.viewers == n)
        }
    };
    agent.until("one viewer", viewers(1)).await;
    assert_eq!(workspace.processes("attach-session").len(), 1);
    let seen = count(&workspace);
    drop(viewer);
    wait_until("the viewer's process to be gone", || {
        workspace.processes("attach-session").is_empty()
    })
    .await;
    agent.until("no viewer", viewers(0)).await;
    assert_eq!(workspace.tmux(&["list-clients"]), "");
    wait_until("the counter to go on", || count(&workspace) > seen + 3).await;
    let mut again = attach(&mut agent, "main", false).await;
    again.opened().await;
    again.until("count=").await;
}

#[tokio::test]
async fn a_viewer_types_resizes_and_detaches() {
    let (workspace, mut agent) = Workspace::start(sessions(&[("main", "")]));
    agent.until_started().await;
    let mut viewer = attach(&mut agent, "main", false).await;
    viewer.opened().await;
    viewer.type_text("echo $((40+2)):$(tput colors)\r").await;
    viewer.until("42:256").await;
    viewer.send(frame::Kind::Resize(Resize { columns: 77, rows: 21 })).await;
    let size = || workspace.tmux(&["display-message", "-p", "-t", "=main:", "#{window_width}"]);
    wait_until("the new size", || size() == "77").await;

    let mut watcher = attach(&mut agent, "main", true).await;
    watcher.opened().await;
    watcher.until("42:256").await;
    watcher.type_text("echo read-only-typed\r").await;
    viewer.type_text("echo fin$((1+1))\r").await;
    let shown = watcher.until("fin2").await;
    assert!(!shown.contains("read-only-typed"), "{shown}");
    drop(watcher);

    viewer.type_text("\x1dd").await;
    match viewer.finish().await.end {
        Some(frame::Kind::Exited(exited)) => assert!(exited.detached && exited.code == 0),
        other => panic!("{other:?}"),
    }
    let mut viewer = attach(&mut agent, "main", false).await;
    viewer.opened().await;
    viewer.until("fin2").await;
    workspace.tmux(&["kill-session", "-t", "=main"]);
    match viewer.finish().await.end {
        Some(frame::Kind::Exited(exited)) => assert!(!exited.detached),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn keys_that_come_at_once_are_keys() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[("main", "")]));
    agent.until_started().await;
    let mut viewer = attach(&mut agent, "main", false).await;
    viewer.opened().await;
    viewer.type_text("echo $((40+2))\r").await;
    viewer.until("42").await;
    // a script or a slow line: what was typed over seconds arrives in one piece
    viewer.type_text("echo more\r\x1dd").await;
    match viewer.finish().await.end {
        Some(frame::Kind::Exited(exited)) => assert!(exited.detached, "it detaches"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_that_is_not_there_is_refused_with_those_that_are() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[("main", ""), ("aux", "")]));
    agent.until_started().await;
    for odd in ["nope", "main:0.0", "=main", "", "ma", "$0"] {
        match attach(&mut agent, odd, false).await.finish().await.end {
            Some(frame::Kind::Failed(Failed { reason, message })) => {
                assert_eq!(reason, "SESSION_NOT_FOUND", "{odd:?}");
                assert!(message.ends_with("there are: aux, main"), "{message}");
            }
            other => panic!("{odd:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn programs_return_their_codes_and_keep_their_outputs_apart() {
    let (workspace, mut agent) = Workspace::start(sessions(&[]));
    agent.until_started().await;
    for (script, code) in [("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("", 0)] {
        assert_eq!(bash(&mut agent, script).await.finish().await.code(), code, "{script}");
    }
    let done = bash(&mut agent, "pwd; echo oops >&2").await.finish().await;
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), workspace.home().to_string_lossy());
    assert_eq!(done.stderr, b"oops\n");
    let done = exec(&mut agent, &["no-such-program-here"]).await.finish().await;
    assert_eq!(done.code(), 127);
    assert_eq!(done.stderr, b"warren: no-such-program-here: command not found\n");
    let done = bash(&mut agent, "head -c 3000000 /dev/zero; exit 5").await.finish().await;
    assert_eq!((done.stdout.len(), done.code()), (3_000_000, 5));
    // Something left running does not hold the stream.
    let done = bash(&mut agent, "sleep 1000 & echo up").await.finish().await;
    assert_eq!((done.stdout.as_slice(), done.code()), (&b"up\n"[..], 0));
    let done = agent.open(open::What::Exec(Exec::default())).await.finish().await;
    assert!(matches!(done.end, Some(frame::Kind::Failed(f)) if f.reason == "INVALID_ARGUMENT"));
}

#[tokio::test]
async fn input_goes_through_unchanged_and_ends_when_it_is_closed() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[]));
    agent.until_started().await;
    let mut stream = exec(&mut agent, &["cat"]).await;
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut write = stream.take_write();
    let chunks = sent.clone();
    let writer = tokio::spawn(async move {
        for chunk in chunks.chunks(Limits::FRAME_BYTES) {
            let kind = Some(frame::Kind::Stdin(chunk.to_vec().into()));
            wire::send(&mut write, &Frame { kind }).await.expect("PID 1 reads");
        }
        let kind = Some(frame::Kind::StdinClosed(StdinClosed {}));
        wire::send(&mut write, &Frame { kind }).await.expect("PID 1 reads");
        write
    });
    let done = stream.finish().await;
    drop(writer.await);
    assert_eq!(done.code(), 0);
    assert!(done.stdout == sent, "{} bytes of {} came back", done.stdout.len(), sent.len());
}

#[tokio::test]
async fn a_program_gets_signals_and_a_terminal_of_its_own() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[]));
    agent.until_started().await;
    let mut stream =
        bash(&mut agent, "trap 'exit 9' INT; echo up; while :; do sleep 0.1; done").await;
    stream.opened().await;
    stream.until("up").await;
    stream.send(frame::Kind::Signal(Signal { number: 2 })).await;
    assert_eq!(stream.finish().await.code(), 9);

    let script = "stty size; echo $TERM; read line; echo got $line; tty >&2; cat; exit 4";
    let argv = ["bash", "-c", script].map(str::to_owned).to_vec();
    let with_terminal = Exec { argv, terminal: Some(terminal(90, 25)) };
    let mut stream = agent.open(open::What::Exec(with_terminal)).await;
    stream.opened().await;
    stream.until("25 90\r\nxterm-256color").await;
    stream.type_text("hé\r").await;
    stream.until("got hé\r\n/dev/pts/").await;
    stream.send(frame::Kind::StdinClosed(StdinClosed {})).await;
    assert_eq!(stream.finish().await.code(), 4);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_program_along() {
    let (workspace, mut agent) = Workspace::start(sessions(&[]));
    agent.until_started().await;
    let mut stream = bash(&mut agent, "trap '' HUP TERM; echo up; sleep 4242; sleep 4242").await;
    stream.opened().await;
    stream.until("up").await;
    drop(stream);
    wait_until("the program to be gone", || workspace.processes("4242").is_empty()).await;

    // Also while it takes no input and its caller's frames wait.
    let mut stream = bash(&mut agent, "echo up; sleep 4343").await;
    stream.opened().await;
    stream.until("up").await;
    let mut write = stream.take_write();
    let kind = Some(frame::Kind::Stdin(vec![0; Limits::FRAME_BYTES].into()));
    let full = async {
        loop {
            wire::send(&mut write, &Frame { kind: kind.clone() }).await.expect("PID 1 reads");
        }
    };
    let stuck = tokio::time::timeout(std::time::Duration::from_millis(500), full).await;
    assert!(stuck.is_err(), "back-pressure reaches the caller");
    drop((write, stream));
    wait_until("the program to be gone", || workspace.processes("4343").is_empty()).await;
}

#[tokio::test]
async fn no_more_streams_than_the_limit() {
    let (workspace, mut agent) = Workspace::start(sessions(&[]));
    agent.until_started().await;
    let mut open = Vec::new();
    for _ in 0..Limits::STREAMS_PER_WORKSPACE {
        let mut stream = exec(&mut agent, &["cat"]).await;
        stream.opened().await;
        open.push(stream);
    }
    let refused = exec(&mut agent, &["true"]).await.finish().await;
    assert!(matches!(refused.end, Some(frame::Kind::Failed(f)) if f.reason == "LIMIT_REACHED"));
    drop(open);
    wait_until("the programs to be gone", || workspace.processes("cat").is_empty()).await;
    assert_eq!(exec(&mut agent, &["true"]).await.finish().await.code(), 0);
}
