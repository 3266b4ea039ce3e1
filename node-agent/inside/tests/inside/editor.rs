//! The editor: started when its page is asked for, behind a cookie of its own.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use warren_proto::pb::inside::v1::{ServiceState, ViewKind};

use crate::{
    agent::PATIENCE,
    views::{HOST, OTHER, TOKEN, connect, get, kill, service, until, view},
    workspace::{Workspace, sessions},
};

/// Answers as code-server does, as far as a proxy can see: pages, and a WebSocket that repeats.
const EDITOR: &str = r#"#!/usr/bin/env python3
import os, socket, sys, threading
path = sys.argv[sys.argv.index("--socket") + 1]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
def serve(one):
    head = b""
    while b"\r\n\r\n" not in head:
        head += one.recv(4096)
    if b"upgrade: echo" in head.lower():
        one.sendall(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n")
        while (data := one.recv(4096)):
            one.sendall(data)
    else:
        score = open("/proc/self/oom_score_adj").read().strip().encode()
        body = b"<editor score " + score + b">" + head
        one.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    one.close()
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

#[tokio::test]
async fn the_editor_is_started_when_wanted_and_asked_for_nothing_without_its_cookie() {
    let programs = tempfile::tempdir().expect("a folder");
    let editor = programs.path().join("code-server");
    fs::write(&editor, EDITOR).expect("written");
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").expect("a path"));
    let (workspace, mut agent) = Workspace::start_with(sessions(&[]), &[("PATH", path)]);
    let status = agent.until_started().await;
    assert_eq!(service(&status, "editor").0, ServiceState::Idle);
    let view = || view(ViewKind::Editor, TOKEN, Duration::ZERO);
    let host = format!("host: {HOST}");
    let cookie = format!("cookie: other=1; warren-4711={TOKEN}");
    let wrong = format!("cookie: warren-4711={OTHER}");
    for heads in [
        vec![host.as_str()],
        vec![&host, &wrong],
        vec!["host: evil.example", &cookie],
        vec![&host, &cookie, "origin: https://evil.example"],
    ] {
        let refused = get(&mut agent, view(), "/", &heads).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{heads:?}: {refused}");
    }
    assert!(workspace.processes("code-server").is_empty(), "none of them started it");
    let welcome = get(&mut agent, view(), &format!("/?token={TOKEN}"), &[&host]).await;
    let welcome = welcome.to_ascii_lowercase();
    assert!(
        welcome.starts_with("http/1.1 303") && welcome.contains("location: /\r\n"),
        "{welcome}"
    );
    assert!(welcome.contains("httponly; samesite=strict"), "{welcome}");
    assert!(!welcome.contains("domain="), "it is for this host alone: {welcome}");

    let page = get(&mut agent, view(), "/", &[&host, &cookie]).await;
    assert!(page.contains("<editor score 600>"), "the first to be killed: {page}");
    assert!(page.contains("other=1") && !page.contains(TOKEN), "the cookie is ours alone: {page}");
    let mode = fs::metadata(workspace.runtime().join("editor.sock")).expect("a socket");
    assert!(mode.file_type().is_socket());
    until(&mut agent, "editor", ServiceState::Running, 0).await;

    let mut socket = connect(&mut agent, view()).await;
    let ask = format!(
        "GET /ws HTTP/1.1\r\n{host}\r\n{cookie}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
    );
    socket.write_all(ask.as_bytes()).await.expect("open");
    let mut seen = Vec::new();
    let reading = async {
        while !seen.ends_with(b"\r\n\r\n") {
            socket.read_buf(&mut seen).await.expect("open");
        }
    };
    timeout(PATIENCE, reading).await.expect("in time");
    assert!(seen.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&seen));
    socket.write_all(b"keys").await.expect("open");
    let mut keys = [0; 4];
    timeout(PATIENCE, socket.read_exact(&mut keys)).await.expect("in time").expect("open");
    assert_eq!(&keys, b"keys");
    kill(&workspace, "code-server");
    until(&mut agent, "editor", ServiceState::Running, 1).await;
}
