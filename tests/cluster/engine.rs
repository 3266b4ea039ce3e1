//! A Docker that cannot be used is a finding with its code and a way out, and takes no workspace.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::Arc,
    thread,
};

use anyhow::Result;
use warren_tests::{Cluster, Stage, wait_until};

/// Answers every request as a Docker of another age would; ends with the process.
fn old_docker(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(&stream));
        }
    });
    Ok(())
}

fn answer(stream: &UnixStream) -> std::io::Result<()> {
    let body = r#"{"Version":"19.03.15","ApiVersion":"1.40","MinAPIVersion":"1.12"}"#;
    let head = "HTTP/1.1 200 OK\r\nApi-Version: 1.40\r\nContent-Type: application/json\r\n";
    let mut lines = BufReader::new(stream).lines();
    // none of the requests that ask a version has a body
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            write!(&mut &*stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
        }
    }
    Ok(())
}

fn blocked(prepare: impl FnOnce(&Path) -> Result<()>, code: &str, word: &str) -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    let socket = stage.root().join("d.sock");
    prepare(&socket)?;
    let engine = format!("kind = \"docker\"\nsocket = \"{}\"\n", socket.display());
    cluster.add_node("n1", None, &engine)?;
    wait_until(&format!("{code} is shown"), std::time::Duration::from_secs(30), || {
        let shown = cluster.warren(&["node", "show", "n1"])?.stdout;
        let line = shown.lines().find(|line| line.contains(code));
        let said = line.is_some_and(|line| line.contains(word)) && shown.contains("fix:");
        anyhow::ensure!(said, "it shows {shown}");
        Ok(())
    })?;
    cluster.warren(&["client", "create", "acme"])?;
    let create = ["workspace", "create", "acme/web", "--memory", "64M", "--no-queue"];
    cluster.refuses(&create, 4, &["no node can hold workspace acme/web", "why:", "next:"])?;
    Ok(())
}

#[test]
fn a_docker_that_is_too_old_is_named_and_takes_nothing() -> Result<()> {
    blocked(old_docker, "E1002", "19.03.15")
}

#[test]
fn a_docker_that_is_down_is_named_and_takes_nothing() -> Result<()> {
    blocked(|_| Ok(()), "E1001", "does not answer")
}
