//! `workspace open`: a port of this machine as the near end of streams.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use warren_proto::{
    Method,
    pb::inside::v1::{ViewKind, connect::Target, open::What},
};

use crate::support::Bench;

/// Begins `workspace open` and returns it with the line that it prints.
fn open(bench: &Bench, arguments: &[&str]) -> (Child, Value) {
    let arguments = [&["ws", "open", "acme/web", "-o", "json"], arguments].concat();
    let mut command = bench.command(&arguments);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("it starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("a line");
    (child, serde_json::from_str(&line).expect("JSON"))
}

fn end(mut child: Child) -> Option<i32> {
    let pid = Pid::from_raw(child.id().try_into().expect("a pid")).expect("not zero");
    kill_process(pid, Signal::INT).expect("sent");
    child.wait().expect("it ends").code()
}

/// Says `words` and nothing more, and returns the answer.
fn talk(address: &str, words: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.write_all(words).expect("it reads");
    socket.shutdown(Shutdown::Write).expect("open");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("an answer");
    answer
}

#[test]
fn each_connection_is_a_stream_whose_directions_end_alone() {
    let bench = Bench::new();
    let (child, opened) = open(&bench, &["8080"]);
    assert_eq!(opened["workspace"], "acme/web");
    assert_eq!((&opened["target"], &opened["port"]), (&"port".into(), &8080.into()));
    let address = opened["address"].as_str().expect("an address").to_owned();
    assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{address}");
    let words: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    std::thread::scope(|scope| {
        let talks: Vec<_> = (0..8).map(|_| scope.spawn(|| talk(&address, &words))).collect();
        for talked in talks {
            let answer = talked.join().expect("no panic");
            assert_eq!(answer.len(), words.len() + "goodbye".len());
            assert!(answer.starts_with(&words) && answer.ends_with(b"goodbye"));
        }
    });
    assert_eq!(bench.fake.calls(Method::SessionOpenStream), 9, "one of them to look first");
    assert_eq!(end(child), Some(0));
    assert!(TcpStream::connect(&address).is_err(), "nobody listens any more");
}

#[test]
fn what_does_not_listen_yet_is_said_and_may_come() {
    let bench = Bench::new();
    let (mut child, opened) = open(&bench, &["9"]);
    let address = opened["address"].as_str().expect("an address");
    assert_eq!(talk(address, b""), b"");
    let mut stderr = child.stderr.take().expect("piped");
    assert_eq!(end(child), Some(0));
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("text");
    assert!(said.starts_with("warning: nothing listens on port 9\n"), "{said}");
    assert!(said.contains("a connection ended: nothing listens on port 9\n"), "{said}");
}

#[test]
fn a_page_has_a_token_in_its_address_and_asks_for_control_only_when_told() {
    let bench = Bench::new();
    let mut names = BTreeSet::new();
    for (arguments, kind, control) in [
        (&["playwright"][..], ViewKind::Display, 0),
        (&["playwright", "--view-only"], ViewKind::Display, 0),
        (&["playwright", "--control"], ViewKind::Display, 15 * 60_000),
        (&["playwright", "--control", "2"], ViewKind::Display, 2 * 60_000),
        (&["terminal", "--session", "aux"], ViewKind::Terminal, 0),
        (&["vscode"], ViewKind::Editor, 0),
    ] {
        let (child, opened) = open(&bench, arguments);
        end(child);
        let last = bench.fake.state().opened.last().cloned().expect("opened");
        let what = last.open.and_then(|open| open.what);
        let Some(What::Connect(connect)) = what else { panic!("{what:?}") };
        let Some(Target::View(view)) = connect.target else { panic!("{connect:?}") };
        assert_eq!((view.kind(), view.control_ms), (kind, control), "{arguments:?}");
        let port = opened["address"].as_str().and_then(|near| near.strip_prefix("127.0.0.1:"));
        let (name, far) = view.host.split_once(".localhost:").expect("a name of its own");
        assert_eq!(Some(far), port, "{arguments:?}");
        assert!(name.len() > 32 && name.bytes().all(|b| b.is_ascii_alphanumeric()), "{name}");
        assert!(names.insert(name.to_owned()), "each command has another");
        assert!(view.token.len() >= 32, "{view:?}");
        let url = opened["url"].as_str().expect("a URL");
        assert!(url.starts_with(&format!("http://{}/", view.host)), "{url}");
        assert!(url.ends_with(&view.token), "{url}");
        assert_eq!(view.session, if kind == ViewKind::Terminal { "aux" } else { "" });
    }
}

#[test]
fn a_port_has_a_name_of_its_own_too_and_the_address_of_old_may_be_asked_for() {
    let bench = Bench::new();
    let (child, opened) = open(&bench, &["8080"]);
    let url = opened["url"].as_str().expect("a URL").to_owned();
    let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    assert!(host.contains(".localhost:"), "{url}");
    // the system's resolver may not know such names; browsers do
    let address = opened["address"].as_str().expect("an address").to_owned();
    assert_eq!(talk(&address, b"words"), b"wordsgoodbye");
    end(child);
    for target in [&["8080"][..], &["terminal"]] {
        let (child, opened) = open(&bench, &[target, &["--host", "127.0.0.1"]].concat());
        end(child);
        let address = opened["address"].as_str().expect("an address");
        let url = opened["url"].as_str().expect("a URL");
        assert!(url.starts_with(&format!("http://{address}/")), "{url}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_opened() {
    let bench = Bench::new();
    for arguments in [
        &["8080", "--control"][..],
        &["terminal", "--view-only"],
        &["playwright", "--session", "main"],
        &["playwright", "--control", "0"],
        &["playwright", "--control", "241"],
        &["playwright", "--control", "--view-only"],
        &["0"],
        &["70000"],
        &["camera"],
        &["terminal", "--host", "example.com"],
    ] {
        let run = bench.warren(&[&["ws", "open", "acme/web"], arguments].concat());
        assert_eq!(run.code, 2, "{run:?}");
    }
    assert_eq!(bench.fake.calls(Method::SessionOpenStream), 0);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let run = bench.warren(&["ws", "open", "acme/web", "80", "--local", &port]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("another --local PORT"), "{run:?}");
}
