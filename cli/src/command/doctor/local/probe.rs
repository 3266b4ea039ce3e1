//! The few ways in which this machine is asked: a port, a page over HTTP, a program. Each has a
//! deadline and a bound.

use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    process::Command,
    time::timeout,
};

/// How long each may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest page that is read.
const PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// Connects to a port of this machine.
pub(super) async fn port(address: &str) -> Result<TcpStream, String> {
    // who listens everywhere listens here too
    let address = address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
    match timeout(ANSWER, TcpStream::connect(&address)).await {
        Ok(connected) => connected.map_err(|why| why.to_string()),
        Err(_) => Err(late()),
    }
}

/// Reads a page of a port; returns status and text.
pub(super) async fn page(address: &str, path: &str) -> Result<(u16, String), String> {
    http(port(address).await?, path).await
}

/// Reads a page of a unix socket.
pub(super) async fn page_of_socket(socket: &Path, path: &str) -> Result<(u16, String), String> {
    match timeout(ANSWER, UnixStream::connect(socket)).await {
        Ok(connected) => http(connected.map_err(|why| why.to_string())?, path).await,
        Err(_) => Err(late()),
    }
}

/// HTTP/1.0, so that the answer ends with the connection and comes in one piece.
async fn http(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
) -> Result<(u16, String), String> {
    let exchange = async {
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(PAGE_BYTES).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(ANSWER, exchange).await.map_err(|_| late())?;
    let answer = answer.map_err(|why| why.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("it does not speak HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or("it does not speak HTTP")?, body.to_owned()))
}

/// Runs a program; returns whether it ended well, and what it wrote.
pub(super) async fn program<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: &[A],
) -> Result<(bool, String), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(ANSWER, command.output()).await.map_err(|_| late())?;
    let output = output.map_err(|why| why.to_string())?;
    let text = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    Ok((output.status.success(), String::from_utf8_lossy(text).trim().to_owned()))
}

fn late() -> String {
    format!("no answer within {} s", ANSWER.as_secs())
}
