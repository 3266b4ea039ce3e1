//! Typing into sessions and reading them, with no terminal of the caller's own.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use warren_common::Limits;
use warren_proto::pb::inside::v1::{Failed, Read, Send, frame, open};

use crate::{
    agent::{Agent, PATIENCE},
    workspace::{Workspace, sessions},
};

/// Says what it gets, each line and each paste by itself, and how long Enter came after the paste.
const TAKER: &str = r#"exec perl -MTime::HiRes=time -e '
    $| = 1; system "stty", "raw", "-echo"; print "\e[?2004hready\r\n"; my ($seen, $pasted) = ("", 0);
    while (sysread STDIN, my $piece, 65536) { $seen .= $piece;
        if ($seen =~ s/\e\[200~(.*?)\e\[201~//s) { my $text = $1; $text =~ s/\r/|/g;
            $pasted = time; printf "paste of %d: %s\r\n", length $text, substr $text, 0, 40 }
        if ($seen =~ s/^\r//) { printf "enter, %s\r\n", time - $pasted > 0.1 ? "later" : "at once" }
        elsif ($seen =~ s/^([^\e].*)//s) { printf "keys %s\r\n", join ".", map ord, split //, $1 } }'"#;

async fn send(agent: &mut Agent, session: &str, text: &str, keys: &[&str]) -> Option<frame::Kind> {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    let send = Send { session: session.to_owned(), text: text.to_owned(), keys };
    agent.open(open::What::Send(send)).await.finish().await.end
}

async fn read(agent: &mut Agent, history: u32) -> String {
    let read = Read { session: "main".to_owned(), history };
    let done = agent.open(open::What::Read(read)).await.finish().await;
    assert_eq!(done.code(), 0);
    String::from_utf8(done.stdout).expect("text")
}

async fn until(agent: &mut Agent, wanted: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let screen = read(agent, 0).await;
        if screen.contains(wanted) {
            return screen;
        }
        assert!(Instant::now() < end, "no {wanted:?} in {screen}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn is_done(end: &Option<frame::Kind>) -> bool {
    matches!(end, Some(frame::Kind::Exited(exited)) if exited.code == 0)
}

fn refusal(end: Option<frame::Kind>) -> (String, String) {
    match end {
        Some(frame::Kind::Failed(Failed { reason, message })) => (reason, message),
        other => panic!("{other:?} is no refusal"),
    }
}

#[tokio::test]
async fn a_text_is_one_paste_and_its_keys_come_later() {
    let (workspace, mut agent) = Workspace::start(sessions(&[("main", TAKER)]));
    agent.until_started().await;
    until(&mut agent, "ready").await;
    let text = format!("two\nlines of ünïcödé{}", "x".repeat(Limits::SEND_BYTES - 30));
    assert!(is_done(&send(&mut agent, "main", &text, &["Enter"]).await));
    let screen = until(&mut agent, "enter").await;
    assert!(screen.contains(&format!("paste of {}: two|lines of", text.len())), "{screen}");
    assert!(screen.contains("enter, later"), "{screen}");
    // a viewer who scrolled back does not get the keys
    workspace.tmux(&["copy-mode", "-t", "=main:"]);
    assert!(is_done(&send(&mut agent, "main", "", &["C-c", "y", "Escape"]).await));
    until(&mut agent, "keys 3.121").await;
    let there = std::fs::read_dir(workspace.runtime()).expect("a folder");
    let left = there.filter_map(Result::ok).any(|file| file.file_name() == "paste");
    assert!(!left, "the text stays in no file");
}

#[tokio::test]
async fn a_semicolon_is_a_key_like_others() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[("main", TAKER)]));
    agent.until_started().await;
    until(&mut agent, "ready").await;
    assert!(is_done(&send(&mut agent, "main", "", &["a", ";", "b", ";"]).await));
    until(&mut agent, "98").await;
    let screen = read(&mut agent, 0).await;
    let keys: String = screen.lines().filter_map(|line| line.strip_prefix("keys ")).collect();
    assert_eq!(keys.replace('.', ""), "97599859", "{screen}");
}

#[tokio::test]
async fn texts_of_many_callers_do_not_mix() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[("main", "cat -A")]));
    agent.until_started().await;
    let mut open = Vec::new();
    for caller in 0..5 {
        let (text, keys) = (format!("caller-{caller}"), vec!["Enter".to_owned()]);
        let send = Send { session: "main".to_owned(), text, keys };
        open.push(agent.open(open::What::Send(send)).await);
    }
    for stream in open {
        assert_eq!(stream.finish().await.code(), 0);
    }
    for caller in 0..5 {
        until(&mut agent, &format!("caller-{caller}$\n")).await;
    }
}

#[tokio::test]
async fn what_a_session_showed_before_can_be_read() {
    let line = "seq -f 'line %g of what was written' 1 3000; sleep 1000";
    let (_workspace, mut agent) = Workspace::start(sessions(&[("main", line)]));
    agent.until_started().await;
    let screen = until(&mut agent, "line 3000 of").await;
    assert!(!screen.contains("line 2000 of"), "only the screen: {screen}");
    let more = read(&mut agent, 1500).await;
    assert!(more.contains("line 2000 of") && !more.contains("line 1000 of"), "{more}");
    let all = read(&mut agent, Limits::READ_LINES).await;
    assert!(all.contains("line 1 of") && all.contains("line 3000 of"));
}

#[tokio::test]
async fn what_cannot_be_typed_or_read_is_refused() {
    let (_workspace, mut agent) = Workspace::start(sessions(&[("main", ""), ("over", "exit 3")]));
    agent.until("an end", |status| status.sessions.iter().any(|one| !one.running)).await;
    let (reason, message) = refusal(send(&mut agent, "nope", "x", &[]).await);
    assert_eq!(reason, "SESSION_NOT_FOUND");
    assert!(message.ends_with("there are: main, over"), "{message}");
    for odd in ["main:0.0", "=main", ""] {
        assert_eq!(refusal(send(&mut agent, odd, "x", &[]).await).0, "SESSION_NOT_FOUND");
    }
    let (reason, message) = refusal(send(&mut agent, "over", "x", &[]).await);
    assert_eq!((reason.as_str(), message.contains("has ended")), ("WRONG_STATE", true));
    assert_eq!(refusal(send(&mut agent, "main", "", &[]).await).0, "INVALID_ARGUMENT");
    assert_eq!(refusal(send(&mut agent, "main", "\u{1b}c", &[]).await).0, "INVALID_ARGUMENT");
    assert_eq!(refusal(send(&mut agent, "main", "", &["rm -rf"]).await).0, "INVALID_ARGUMENT");
    let read = Read { session: "main".to_owned(), history: Limits::READ_LINES + 1 };
    let end = agent.open(open::What::Read(read)).await.finish().await.end;
    assert_eq!(refusal(end).0, "INVALID_ARGUMENT");
}
