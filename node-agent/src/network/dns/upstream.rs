//! The host's resolvers, asked one after the other.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use warren_common::Limits;

use super::message::{answers, id, set_id};

/// Where a host says whom it asks.
const FILE: &str = "/etc/resolv.conf";
/// How long the file is taken to be as it was.
const FRESH: Duration = Duration::from_secs(5);
/// Resolvers asked for one question, as a host's own resolver does.
const MOST: usize = 3;
/// The port of resolvers.
const PORT: u16 = 53;

/// Whom to ask.
#[derive(Debug)]
pub(super) struct Upstream {
    configured: Vec<IpAddr>,
    read: Mutex<Option<(Instant, Vec<IpAddr>)>>,
}

impl Upstream {
    pub(super) fn new(configured: &[IpAddr]) -> Self {
        let configured = configured.iter().take(MOST).copied().collect();
        Self { configured, read: Mutex::default() }
    }

    /// Returns why nobody can be asked.
    pub(super) fn trouble(&self) -> Option<String> {
        self.servers().is_empty().then(|| format!("no resolver is known: {FILE} names none"))
    }

    fn servers(&self) -> Vec<IpAddr> {
        if !self.configured.is_empty() {
            return self.configured.clone();
        }
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((at, servers)) if at.elapsed() < FRESH => servers.clone(),
            Some(_) | None => {
                let servers = parse(&fs::read_to_string(FILE).unwrap_or_default());
                *read = Some((Instant::now(), servers.clone()));
                servers
            }
        }
    }

    /// Passes a question on and returns its answer under the question's own id.
    pub(super) async fn ask(&self, question: &[u8], stream: bool) -> io::Result<Vec<u8>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no resolver is known");
        for server in self.servers() {
            let server = SocketAddr::new(server, PORT);
            let mut asked = question.to_vec();
            set_id(&mut asked, fresh_id());
            let asking = async {
                match stream {
                    true => by_stream(server, &asked).await,
                    false => by_datagram(server, &asked).await,
                }
            };
            match timeout(Limits::DNS_TIMEOUT, asking).await {
                Ok(Ok(mut answer)) => {
                    set_id(&mut answer, id(question));
                    return Ok(answer);
                }
                Ok(Err(error)) => last = error,
                Err(_) => {
                    last = io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time")
                }
            }
        }
        Err(last)
    }
}

/// A socket of its own per question: a port that cannot be guessed.
async fn by_datagram(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; Limits::DNS_BYTES];
    loop {
        let length = socket.recv(&mut answer).await?;
        // what does not answer it is somebody else's guess
        if answers(question, &answer[..length]) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).unwrap_or(u16::MAX);
    connection.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let length = usize::from(connection.read_u16().await?);
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer).await?;
    match answers(question, &answer) {
        true => Ok(answer),
        false => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question"))
        }
    }
}

fn fresh_id() -> u16 {
    let random = uuid::Uuid::new_v4();
    let bytes = random.as_bytes();
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// Reads `nameserver` lines; zones of addresses are for links, which a resolver's is not.
fn parse(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        words.next()?.parse::<IpAddr>().ok()
    };
    text.lines().filter_map(server).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_resolvers_are_read_as_its_own_resolver_reads_them() {
        let text = "# nameserver 192.0.2.9\nsearch example\nnameserver 127.0.0.53\n\
                    nameserver  2001:db8::1\nnameserver odd\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n";
        let found: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53", "2001:db8::1", "192.0.2.1"]);
        assert!(parse("").is_empty());
    }
}
