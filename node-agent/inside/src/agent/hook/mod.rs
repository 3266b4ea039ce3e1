//! The reporter: what an agent's hook runs, as `warren-inside hook claude|codex|gemini|custom`.
//!
//! It reads what the agent tells on standard input, keeps what a status needs and hands it to PID 1.
//! It prints nothing, ends well whatever happens, and never holds the agent up: where PID 1 takes no
//! message in time, the message is left in a folder for it. Prompts and answers are not passed
//! on: they may hold secrets. In what is passed on, the plain ones are hidden: see [`warren_common::mask`].
//!
//! One file per agent says what its fields mean.

mod claude;
mod codex;
mod custom;
mod gemini;
mod line;
mod meter;
mod payload;
mod send;

use std::{
    env,
    ffi::OsString,
    iter,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use warren_common::{
    Timestamp,
    agent::{Hook, Meter},
};

use self::payload::Payload;
use super::{
    detect,
    message::{Message, Teller},
};
use crate::clock;

/// What is read of a hook's input; the rest is taken and dropped.
const INPUT_BYTES: usize = 1024 * 1024;
/// How long the input may take.
const INPUT_TIME: Duration = Duration::from_secs(2);

pub(crate) use self::line::show as status_line;

/// Reports one hook; `arguments` are those after `hook`.
pub(crate) fn report(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let at = Timestamp(clock::now_ms());
    let teller = arguments.next().and_then(|word| Teller::named(word.to_str()?));
    let given = arguments.next().map(|text| text.to_string_lossy().into_owned().into_bytes());
    let input = given.unwrap_or_else(input);
    if let Some(teller) = teller
        && let Some(message) = message(teller, at, &Payload::read(&input))
        && let Ok(bytes) = serde_json::to_vec(&message)
    {
        send::deliver(&runtime(), message.at, &bytes);
    }
    ExitCode::SUCCESS
}

fn message(teller: Teller, at: Timestamp, payload: &Payload) -> Option<Message> {
    let hook = hook(teller, payload)?;
    told((teller, hook, meter::of_hook(teller, payload)), at, payload)
}

fn told(
    (teller, hook, meter): (Teller, Hook, Meter),
    at: Timestamp,
    payload: &Payload,
) -> Option<Message> {
    let folder = match payload.text("cwd") {
        "" => env::current_dir().ok()?.to_string_lossy().into_owned(),
        told => told.to_owned(),
    };
    // Codex's hooks run below a daemon, which is everybody's
    let process = teller.kind().filter(|_| teller != Teller::Codex);
    let message = Message {
        teller,
        at,
        session: variable("WARREN_SESSION"),
        pane: pane(&variable("TMUX"), &variable("TMUX_PANE"), &runtime()).to_owned(),
        folder,
        thread: payload.text("session_id").to_owned(),
        process: process.and_then(|kind| detect::above(std::process::id(), &kind)),
        hook,
        meter,
    };
    Some(message.bounded())
}

/// Returns what a payload says; none where it names no event.
fn hook(teller: Teller, payload: &Payload) -> Option<Hook> {
    let mut hook = match teller {
        Teller::Claude => claude::hook(payload),
        Teller::Codex => codex::hook(payload),
        Teller::Gemini => gemini::hook(payload),
        Teller::Custom => custom::hook(payload),
    };
    let asks =
        hook.ask.iter_mut().flat_map(|ask| iter::once(&mut ask.text).chain(&mut ask.options));
    let lists = hook.tasks.iter_mut().chain(&mut hook.wakeups);
    for text in iter::once(&mut hook.text).chain(asks).chain(lists) {
        *text = warren_common::mask::mask(text);
    }
    (!hook.event.is_empty()).then_some(hook)
}

/// Returns the pane; a person's own tmux server has others of the same names.
fn pane<'a>(server: &str, pane: &'a str, runtime: &Path) -> &'a str {
    if Path::new(server).starts_with(runtime) { pane } else { "" }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn runtime() -> PathBuf {
    match env::var_os("WARREN_RUNTIME_DIR") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => PathBuf::from(crate::config::RUNTIME),
    }
}

/// Reads standard input to its end or its time's, whichever comes first.
fn input() -> Vec<u8> {
    let deadline = Instant::now() + INPUT_TIME;
    let stdin = rustix::stdio::stdin();
    let mut input = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !ready(left) {
            return input;
        }
        match rustix::io::read(stdin, &mut buffer[..]) {
            Ok(0) => return input,
            Ok(count) => {
                let room = INPUT_BYTES.saturating_sub(input.len()).min(count);
                input.extend_from_slice(&buffer[..room]);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return input,
        }
    }
}

fn ready(limit: Duration) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN)];
    let limit = Timespec::try_from(limit).ok();
    // an interruption means to try again
    !matches!(poll(&mut polled, limit.as_ref()), Ok(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_of_other_servers_are_none_of_ours() {
        let runtime = Path::new("/run/warren");
        assert_eq!(pane("/run/warren/tmux-1000/default,12,0", "%3", runtime), "%3");
        for server in ["", "/tmp/tmux-1000/default,12,0", "/run/warren-2/x,1,0"] {
            assert_eq!(pane(server, "%3", runtime), "", "{server}");
        }
    }

    #[test]
    fn no_plain_secret_is_passed_on() {
        let told = br#"{"hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"TOKEN=abc make"}}"#;
        for teller in [Teller::Claude, Teller::Codex] {
            let told = hook(teller, &Payload::read(told)).expect("a hook");
            assert_eq!(told.text, "TOKEN=*** make");
        }
        let stop =
            br#"{"hook_event_name":"Stop","background_tasks":[{"command":"x --token abc"}]}"#;
        let told = hook(Teller::Claude, &Payload::read(stop)).expect("a hook");
        assert_eq!(told.tasks, ["x --token ***"]);
    }

    #[test]
    fn what_names_no_event_is_no_hook() {
        for teller in [Teller::Claude, Teller::Codex, Teller::Gemini, Teller::Custom] {
            for input in ["", "{}", "[1]", "{\"hook_event_name\":7,\"state\":null}"] {
                assert_eq!(hook(teller, &Payload::read(input.as_bytes())), None, "{input}");
            }
        }
        let told = hook(Teller::Custom, &Payload::read(b"{\"state\":\"idle\",\"text\":\"t\"}"));
        let told = told.expect("a hook");
        assert_eq!((told.event.as_str(), told.text.as_str()), ("idle", "t"));
    }
}
