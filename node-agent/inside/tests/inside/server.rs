//! Git servers: one that works, and the ways one can fail.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// How a server treats its callers.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// Serves files below a folder.
    Files(PathBuf),
    /// Speaks git's own protocol for the repositories below a folder.
    Git(PathBuf),
    /// Takes connections and says nothing.
    Silent,
    /// Answers everything with this status line.
    Status(&'static str),
    /// Closes the first connections, then serves files.
    Flaky(usize, PathBuf),
}

/// A server on a port of its own, gone with this value.
pub(crate) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            let mut manner = manner;
            loop {
                let (socket, _) = listener.accept().await.expect("a caller");
                match &mut manner {
                    Manner::Silent => silent.push(socket),
                    Manner::Git(root) => git(socket, root),
                    Manner::Status(line) => drop(tokio::spawn(status(socket, line))),
                    Manner::Flaky(left, _) if *left > 0 => *left -= 1,
                    Manner::Files(root) | Manner::Flaky(_, root) => {
                        drop(tokio::spawn(file(socket, root.clone())));
                    }
                }
            }
        });
        Self { address, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn git_url(&self, path: &str) -> String {
        format!("git://{}/{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands the connection to a `git daemon`, as inetd would.
fn git(socket: TcpStream, root: &Path) {
    let socket = socket.into_std().expect("a socket");
    socket.set_nonblocking(false).expect("a socket");
    let output = socket.try_clone().expect("a descriptor");
    let mut daemon = Command::new("git");
    daemon
        .args(["daemon", "--inetd", "--export-all"])
        .arg(format!("--base-path={}", root.display()));
    let started = daemon
        .stdin(OwnedFd::from(socket))
        .stdout(OwnedFd::from(output))
        .env("GIT_CONFIG_COUNT", "1")
        .envs([("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")])
        .spawn();
    let mut started = started.expect("git");
    // Collected when its caller hangs up; nobody waits for it.
    std::thread::spawn(move || started.wait());
}

async fn request(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let path = text.split(' ').nth(1).unwrap_or_default();
    path.split('?').next().unwrap_or_default().to_owned()
}

async fn answer(socket: &mut TcpStream, status: &str, body: &[u8]) {
    let realm = if status.starts_with("401") { "WWW-Authenticate: Basic realm=x\r\n" } else { "" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{realm}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let _ = socket.write_all(head.as_bytes()).await;
    let _ = socket.write_all(body).await;
}

async fn status(mut socket: TcpStream, line: &'static str) {
    request(&mut socket).await;
    answer(&mut socket, line, b"").await;
}

async fn file(mut socket: TcpStream, root: PathBuf) {
    let path = request(&mut socket).await;
    match std::fs::read(root.join(path.trim_start_matches('/'))) {
        Ok(body) => answer(&mut socket, "200 OK", &body).await,
        Err(_) => answer(&mut socket, "404 Not Found", b"").await,
    }
}

/// Makes `root/acme/web.git` with a few commits, fit for a server that only serves files.
pub(crate) fn make_repo(root: &Path) {
    let script = "set -e; umask 022; mkdir -p acme; git init -q -b main work; cd work
        for n in 1 2 3; do echo $n > file$n; git add .; git commit -qm \"commit $n\"; done
        git branch feature; cd ..; git clone -q --bare work acme/web.git
        cd acme/web.git; git repack -qad; git update-server-info";
    let status = Command::new("bash")
        .args(["-c", script])
        .current_dir(root)
        .env("HOME", root)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b")])
        .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@b")])
        .status();
    assert!(status.expect("bash").success());
}
