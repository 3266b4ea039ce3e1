//! The resolver on each open bridge's gateway: passes questions on to the host's resolvers.
//!
//! A forwarder and no more: it looks at a message's header and its one question ([`message`]),
//! passes the message on under an id and a port of its own (`upstream`), and gives the answer
//! back. It caches nothing and trusts no answer: where a name leads is the table's business. What
//! is malformed gets no answer.

pub mod message;
mod upstream;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::counter;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};
use warren_common::Limits;
use warren_daemon::Shutdown;

use message::{Code, Judged, judge, refusal};
use upstream::Upstream;

/// Between attempts to listen on a gateway.
const RETRY: Duration = Duration::from_secs(1);

/// The resolver of one node.
pub struct Resolver {
    port: u16,
    upstream: Arc<Upstream>,
    listening: Mutex<BTreeMap<String, (Ipv4Addr, CancellationToken)>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    trouble: Arc<Mutex<BTreeMap<Ipv4Addr, String>>>,
}

impl Resolver {
    /// Makes a resolver that asks these, or those in the host's `/etc/resolv.conf` where none are
    /// given; it listens nowhere yet.
    pub fn new(port: u16, resolvers: &[IpAddr], shutdown: &Shutdown) -> Self {
        Self {
            port,
            upstream: Arc::new(Upstream::new(resolvers)),
            listening: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: shutdown.child_token(),
            trouble: Arc::default(),
        }
    }

    /// Listens on exactly these gateways, by bridge.
    pub fn listen(&self, gateways: &BTreeMap<String, Ipv4Addr>) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.retain(|bridge, (address, stop)| {
            let kept = gateways.get(bridge) == Some(address);
            if !kept {
                stop.cancel();
            }
            kept
        });
        for (bridge, address) in gateways {
            listening.entry(bridge.clone()).or_insert_with(|| {
                let stop = self.stop.child_token();
                let gateway = Gateway {
                    address: SocketAddr::V4(SocketAddrV4::new(*address, self.port)),
                    upstream: Arc::clone(&self.upstream),
                    questions: Arc::new(Semaphore::new(Limits::DNS_QUERIES)),
                    connections: Arc::new(Semaphore::new(Limits::DNS_CONNECTIONS)),
                    tasks: self.tasks.clone(),
                    stop: stop.clone(),
                };
                let (trouble, address) = (Arc::clone(&self.trouble), *address);
                self.tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
                    gateway.serve(|why| note(&trouble, address, why)).await;
                }));
                (address, stop)
            });
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.retain(|address, _| gateways.values().any(|gateway| gateway == address));
    }

    /// Returns why questions cannot be answered; none where they can.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let first = trouble.iter().next();
        let listening = first.map(|(address, why)| format!("cannot listen on {address}: {why}"));
        listening.or_else(|| self.upstream.trouble())
    }
}

fn note(trouble: &Mutex<BTreeMap<Ipv4Addr, String>>, address: Ipv4Addr, why: Option<&io::Error>) {
    let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
    match why {
        Some(why) => drop(trouble.insert(address, why.to_string())),
        None => drop(trouble.remove(&address)),
    }
}

/// One bridge's resolver. Its bounds are its own, so that a flood of questions hurts its workspace
/// alone.
#[derive(Clone)]
struct Gateway {
    address: SocketAddr,
    upstream: Arc<Upstream>,
    questions: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Gateway {
    /// Listens, and listens again where that ends; tells why it cannot.
    async fn serve(&self, tell: impl Fn(Option<&io::Error>)) {
        let mut told = false;
        loop {
            let listening = async {
                let udp = UdpSocket::bind(self.address).await?;
                let tcp = TcpListener::bind(self.address).await?;
                Ok::<_, io::Error>((Arc::new(udp), tcp))
            };
            match listening.await {
                Ok((udp, tcp)) => {
                    tell(None);
                    info!(address = %self.address, "questions for names are answered");
                    told = false;
                    tokio::join!(self.datagrams(udp), self.streams(tcp));
                }
                Err(error) => {
                    tell(Some(&error));
                    if !told {
                        warn!(address = %self.address, %error, "cannot answer questions for names");
                        told = true;
                    }
                }
            }
            sleep(RETRY).await;
        }
    }

    async fn datagrams(&self, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; Limits::DNS_BYTES];
        loop {
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    debug!(%error, "a question was not received");
                    sleep(RETRY).await;
                    continue;
                }
            };
            // one too many is dropped: whoever asked asks again
            let Ok(turn) = Arc::clone(&self.questions).try_acquire_owned() else {
                count("crowded");
                continue;
            };
            let question = buffer[..length].to_vec();
            let (socket, upstream) = (Arc::clone(&socket), Arc::clone(&self.upstream));
            let answering = async move {
                let _turn = turn;
                if let Some(answer) = answer(&upstream, question, false).await
                    && let Err(error) = socket.send_to(&answer, from).await
                {
                    debug!(%error, "an answer was not sent");
                }
            };
            self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(answering));
        }
    }

    async fn streams(&self, listener: TcpListener) {
        loop {
            let connection = match listener.accept().await {
                Ok((connection, _)) => connection,
                Err(error) => {
                    debug!(%error, "a connection was not taken");
                    sleep(RETRY).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.connections).try_acquire_owned() else {
                count("crowded");
                continue;
            };
            let gateway = self.clone();
            let serving = async move {
                let _place = place;
                if let Err(error) = gateway.stream(connection).await {
                    debug!(%error, "a connection for questions ended");
                }
            };
            self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(serving));
        }
    }

    /// One question after the other, each with its length before it.
    async fn stream(&self, mut connection: TcpStream) -> io::Result<()> {
        let idle = |_| io::Error::new(io::ErrorKind::TimedOut, "nothing was asked");
        loop {
            let asked = timeout(Limits::DNS_IDLE, read(&mut connection)).await.map_err(idle)??;
            let Some(question) = asked else { return Ok(()) };
            let turn = self.questions.acquire().await;
            let Some(answer) = answer(&self.upstream, question, true).await else { return Ok(()) };
            drop(turn);
            let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
            let message = [&length.to_be_bytes()[..], &answer].concat();
            timeout(Limits::DNS_IDLE, connection.write_all(&message)).await.map_err(idle)??;
        }
    }
}

/// Reads one message; none at the end, or where it is longer than a question may be.
async fn read(connection: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match connection.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > Limits::DNS_BYTES {
        return Ok(None);
    }
    let mut message = vec![0; length];
    connection.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Answers one question; none where it is no question.
async fn answer(upstream: &Upstream, question: Vec<u8>, stream: bool) -> Option<Vec<u8>> {
    match judge(&question) {
        Judged::Malformed => {
            count("malformed");
            None
        }
        Judged::Refused(code) => {
            count("refused");
            refusal(&question, code)
        }
        Judged::Question => match upstream.ask(&question, stream).await {
            Ok(answer) => {
                count("answered");
                Some(answer)
            }
            Err(error) => {
                debug!(%error, "no resolver answered");
                count("unanswered");
                refusal(&question, Code::ServerFailure)
            }
        },
    }
}

fn count(result: &'static str) {
    counter!("warren_node_dns_questions_total", "result" => result).increment(1);
}
