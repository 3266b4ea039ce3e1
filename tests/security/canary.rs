//! Listeners that note what reaches them.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use warren_tests::Host;

/// What every canary of a field heard, oldest first: `udp/9999 text`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Returns whether a line holds this text.
    pub(crate) fn holds(&self, text: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|line| line.contains(text))
    }

    /// Returns how many lines hold this text.
    pub(crate) fn count(&self, text: &str) -> usize {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.contains(text)).count()
    }

    fn note(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// Ends every listener of its field when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often a listener looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Makes a thread in a host's network and waits until it listens.
fn listen<S: Send + 'static>(
    host: &Arc<Host>,
    bind: impl FnOnce() -> std::io::Result<S> + Send + 'static,
    serve: impl FnOnce(S) + Send + 'static,
) -> Result<()> {
    let (told, ready) = mpsc::channel();
    let host = Arc::clone(host);
    thread::spawn(move || {
        let bound = host.enter().and_then(|()| Ok(bind()?));
        match bound {
            Ok(socket) => {
                told.send(Ok(())).ok();
                serve(socket);
            }
            Err(error) => drop(told.send(Err(error))),
        }
    });
    ready.recv().context("the listener's thread ended")?
}

/// Greets every connection and gives back what it is sent.
pub(crate) fn tcp(host: &Arc<Host>, port: u16, log: &Log, stop: &Stop) -> Result<()> {
    let (log, stop) = (log.clone(), Arc::clone(&stop.0));
    let bind = move || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen(host, bind, move |listener| {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((connection, _)) => {
                    let log = log.clone();
                    thread::spawn(move || echo(connection, port, &log));
                }
                Err(_) => thread::sleep(LOOK / 10),
            }
        }
    })
}

fn echo(mut connection: TcpStream, port: u16, log: &Log) {
    log.note(format!("tcp/{port} connected"));
    connection.set_nonblocking(false).ok();
    connection.set_read_timeout(Some(Duration::from_secs(60))).ok();
    connection.write_all(b"canary\n").ok();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = connection.read(&mut buffer) {
        log.note(format!("tcp/{port} {}", String::from_utf8_lossy(&buffer[..length])));
        if connection.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Notes every datagram.
pub(crate) fn udp(host: &Arc<Host>, port: u16, log: &Log, stop: &Stop) -> Result<()> {
    answer((host, port), log, stop, |_| None)
}

/// A resolver that answers every question with the address that `find` gives for its name, and
/// notes it.
pub(crate) fn resolver(
    host: &Arc<Host>,
    log: &Log,
    stop: &Stop,
    find: fn(&str) -> Ipv4Addr,
) -> Result<()> {
    answer((host, 53), log, stop, move |question| dns_answer(question, find))?;
    let (log, stop) = (log.clone(), Arc::clone(&stop.0));
    let bind = || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 53))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen(host, bind, move |listener| {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((connection, _)) => drop(answer_stream(connection, &log, find)),
                Err(_) => thread::sleep(LOOK / 10),
            }
        }
    })
}

/// One question with its length before it.
fn answer_stream(
    mut connection: TcpStream,
    log: &Log,
    find: fn(&str) -> Ipv4Addr,
) -> std::io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut length = [0; 2];
    connection.read_exact(&mut length)?;
    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
    connection.read_exact(&mut question)?;
    log.note(format!("tcp/53 {}", name(&question).unwrap_or_default()));
    if let Some(answer) = dns_answer(&question, find) {
        let length = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes();
        connection.write_all(&[&length[..], &answer].concat())?;
    }
    Ok(())
}

fn answer(
    (host, port): (&Arc<Host>, u16),
    log: &Log,
    stop: &Stop,
    answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
) -> Result<()> {
    let (log, stop) = (log.clone(), Arc::clone(&stop.0));
    let bind = move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        socket.set_read_timeout(Some(LOOK))?;
        Ok(socket)
    };
    listen(host, bind, move |socket| {
        let mut buffer = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            let message = &buffer[..length];
            let shown = if port == 53 { name(message) } else { None };
            let text = String::from_utf8_lossy(message).into_owned();
            log.note(format!("udp/{port} {}", shown.unwrap_or(text)));
            if let Some(answer) = answer(message) {
                socket.send_to(&answer, from).ok();
            }
        }
    })
}

/// Returns the name of a question.
fn name(question: &[u8]) -> Option<String> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*question.get(at)?);
        if length == 0 {
            return Some(labels.join("."));
        }
        labels.push(String::from_utf8_lossy(question.get(at + 1..at + 1 + length)?).into_owned());
        at += 1 + length;
    }
}

/// One A record, or none for other types.
fn dns_answer(question: &[u8], find: fn(&str) -> Ipv4Addr) -> Option<Vec<u8>> {
    let name = name(question)?;
    let end = 12 + name.len() + 2 + 4;
    let of_addresses = question.get(end - 4..end - 2)? == [0, 1];
    let mut answer = question.get(..end)?.to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[6..12].copy_from_slice(&[0, u8::from(of_addresses), 0, 0, 0, 0]);
    if of_addresses {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(find(&name).octets());
    }
    Some(answer)
}
