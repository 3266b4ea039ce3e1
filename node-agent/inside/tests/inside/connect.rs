//! Connections to what listens in a workspace.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use warren_common::Limits;
use warren_proto::pb::inside::v1::{
    Connect, Failed, Frame, StdinClosed, View, ViewKind, connect::Target, frame, open,
};

use crate::{
    agent::{Agent, PATIENCE, Stream},
    wire,
    workspace::{Workspace, sessions},
};

async fn connect(agent: &mut Agent, port: u32) -> Stream {
    agent.open(open::What::Connect(Connect { target: Some(Target::Port(port)) })).await
}

async fn listen(address: &str) -> (TcpListener, u32) {
    let listener = TcpListener::bind(address).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port.into())
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    accepted.expect("in time").expect("a connection").0
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[]));
    agent.until_started().await;
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (listener, port) = listen(address).await;
        // the caller ends first
        let mut stream = connect(&mut agent, port).await;
        let mut server = accept(&listener).await;
        stream.opened().await;
        stream.type_text("question").await;
        stream.send(frame::Kind::StdinClosed(StdinClosed {})).await;
        let mut asked = String::new();
        server.read_to_string(&mut asked).await.expect("its end");
        assert_eq!(asked, "question");
        server.write_all(b"answer").await.expect("open");
        drop(server);
        let done = stream.finish().await;
        assert_eq!((done.stdout.as_slice(), done.code()), (&b"answer"[..], 0));

        // the server ends first
        let mut stream = connect(&mut agent, port).await;
        let mut server = accept(&listener).await;
        stream.opened().await;
        server.write_all(b"greeting").await.expect("open");
        server.shutdown().await.expect("open");
        stream.until("greeting").await;
        assert_eq!(stream.next().await, Some(frame::Kind::Stdout(Vec::new().into())));
        stream.type_text("still heard").await;
        stream.send(frame::Kind::StdinClosed(StdinClosed {})).await;
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.expect("its end");
        assert_eq!(heard, "still heard");
        assert_eq!(stream.finish().await.code(), 0);
    }
}

#[tokio::test]
async fn where_nothing_listens_it_says_what_to_do() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[]));
    agent.until_started().await;
    let (listener, port) = listen("127.0.0.1:0").await;
    drop(listener);
    match connect(&mut agent, port).await.finish().await.end {
        Some(frame::Kind::Failed(Failed { reason, message })) => {
            assert_eq!(reason, "PORT_CLOSED");
            assert!(message.contains(&format!("port {port}")), "{message}");
            assert!(message.contains("start the server"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    for odd in [0, 65_536] {
        let end = connect(&mut agent, odd).await.finish().await.end;
        assert!(matches!(end, Some(frame::Kind::Failed(f)) if f.reason == "INVALID_ARGUMENT"));
    }
}

fn page() -> open::What {
    let view = View {
        kind: ViewKind::Display.into(),
        host: "w.localhost:1".to_owned(),
        token: "a-token-of-thirty-two-characters".to_owned(),
        ..View::default()
    };
    open::What::Connect(Connect { target: Some(Target::View(view)) })
}

async fn refused(stream: Stream, words: &str) {
    let Some(frame::Kind::Failed(failed)) = stream.finish().await.end else { panic!("{words}") };
    assert_eq!(failed.reason, "LIMIT_REACHED");
    assert!(failed.message.starts_with(words), "{}", failed.message);
}

#[tokio::test]
async fn many_pass_everything_unchanged_at_once_and_are_bounded() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[]));
    agent.until_started().await;
    let (listener, port) = listen("127.0.0.1:0").await;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let sent: Vec<u8> = (0..200_000_u32).map(|n| (n % 249) as u8).collect();
    let mut talks = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..64 {
        let mut stream = connect(&mut agent, port).await;
        stream.opened().await;
        let mut write = stream.take_write();
        let words = sent.clone();
        talks.push(tokio::spawn(async move {
            let writing = async {
                for piece in words.chunks(Limits::FRAME_BYTES) {
                    let kind = Some(frame::Kind::Stdin(piece.to_vec().into()));
                    wire::send(&mut write, &Frame { kind }).await.expect("PID 1 reads");
                }
                let kind = Some(frame::Kind::StdinClosed(StdinClosed {}));
                wire::send(&mut write, &Frame { kind }).await.expect("PID 1 reads");
            };
            let (done, ()) = tokio::join!(stream.finish(), writing);
            assert!(done.stdout == words, "{} bytes came back", done.stdout.len());
            assert_eq!(done.code(), 0);
        }));
    }
    for talk in talks {
        talk.await.expect("no panic");
    }
    for _ in 0..Limits::PORTS_PER_WORKSPACE {
        let mut stream = connect(&mut agent, port).await;
        stream.opened().await;
        idle.push(stream);
    }
    refused(connect(&mut agent, port).await, "64 connections to ports").await;
    // pages find room beside them, as many as there is
    for _ in Limits::PORTS_PER_WORKSPACE..Limits::CONNECTS_PER_WORKSPACE {
        let mut stream = agent.open(page()).await;
        stream.opened().await;
        idle.push(stream);
    }
    refused(agent.open(page()).await, "96 connections of").await;
    // one that ends makes room for its kind
    drop(idle.swap_remove(0));
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut stream = connect(&mut agent, port).await;
        if matches!(stream.next().await, Some(frame::Kind::Opened(_))) {
            idle.push(stream);
            break;
        }
        assert!(tokio::time::Instant::now() < until, "no room comes back");
    }
    // a terminal finds room beside them
    let exec = warren_proto::pb::inside::v1::Exec { argv: vec!["true".to_owned()], terminal: None };
    assert_eq!(agent.open(open::What::Exec(exec)).await.finish().await.code(), 0);
}

#[tokio::test]
async fn a_server_that_does_not_read_slows_its_caller_and_sees_it_leave() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[]));
    agent.until_started().await;
    let (listener, port) = listen("127.0.0.1:0").await;
    let mut stream = connect(&mut agent, port).await;
    let mut server = accept(&listener).await;
    stream.opened().await;
    let mut write = stream.take_write();
    let kind = Some(frame::Kind::Stdin(vec![0; Limits::FRAME_BYTES].into()));
    let flood = async {
        loop {
            wire::send(&mut write, &Frame { kind: kind.clone() }).await.expect("PID 1 reads");
        }
    };
    let slowed = tokio::time::timeout(Duration::from_secs(2), flood).await;
    assert!(slowed.is_err(), "back-pressure reaches the caller");
    drop((write, stream));
    let mut buffer = vec![0; 1 << 20];
    let gone = async { while matches!(server.read(&mut buffer).await, Ok(1..)) {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("the server sees the end");
}
