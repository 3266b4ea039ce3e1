//! A conversation with Codex's daemon: JSON-RPC in a WebSocket, over the control socket in its home.
//!
//! Nothing is subscribed to: it tells of the status of every thread, of nothing that is said in one,
//! and asks for nothing. What it would ask is a person's to answer.

use std::{io, path::Path, time::Duration};

use rustix::process::getuid;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::UnixStream, time::timeout};
use warren_common::{Limits, Timestamp, agent::AppServer};

use crate::websocket::{Held, Socket};

/// Below the home.
const SOCKET: &str = ".codex/app-server-control/app-server-control.sock";
/// By this name the daemon knows those who look after it. Any other would be told to the model's API,
/// in place of who asks it.
const NAME: &str = "codex_app_server_daemon";
/// A longer message is read past.
const MESSAGE_BYTES: usize = 256 * 1024;
/// For an answer.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
/// A folder, at most.
const FOLDER_BYTES: usize = 4096;

/// One conversation.
#[derive(Debug)]
pub(super) struct Client {
    socket: Socket<UnixStream>,
    /// Of the last request.
    id: u64,
}

/// A thread, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Thread {
    pub(super) id: String,
    pub(super) cwd: String,
    /// It makes a title or the like, which no person sees.
    pub(super) ephemeral: bool,
    /// It works for another one.
    #[serde(default)]
    pub(super) parent_thread_id: Option<String>,
    /// Unix time in seconds.
    pub(super) created_at: u64,
    status: Status,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Status {
    Idle,
    Active {
        active_flags: Vec<String>,
    },
    SystemError,
    NotLoaded,
    #[serde(other)]
    Other,
}

/// The newest turn of a thread.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Turn {
    pub(super) id: String,
    pub(super) status: String,
    #[serde(default)]
    error: Option<TurnError>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TurnError {
    message: String,
    #[serde(default)]
    codex_error_info: Value,
}

/// What the daemon says.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// A thread began.
    Began(Thread, Timestamp),
    /// A thread's status changed; none where the status is not known here.
    Changed(String, Option<AppServer>, Timestamp),
    Answer(u64, Value),
    Refusal(u64, String),
    /// Something else.
    Aside,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    method: String,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    emitted_at_ms: u64,
}

#[derive(Deserialize)]
struct Began {
    thread: Thread,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    thread_id: String,
    status: Status,
}

impl Status {
    fn told(&self) -> Option<AppServer> {
        let waits = |flags: &[String], word: &str| flags.iter().any(|flag| flag == word);
        Some(match self {
            Self::Idle => AppServer::Idle,
            Self::Active { active_flags } if waits(active_flags, "waitingOnApproval") => {
                AppServer::WaitingOnApproval
            }
            Self::Active { active_flags } if waits(active_flags, "waitingOnUserInput") => {
                AppServer::WaitingOnUserInput
            }
            Self::Active { .. } => AppServer::Active,
            Self::SystemError => unnamed(),
            Self::NotLoaded => AppServer::NotLoaded,
            Self::Other => return None,
        })
    }
}

impl Thread {
    /// Returns what it does; none where that is not known here.
    pub(super) fn status(&self) -> Option<AppServer> {
        self.status.told()
    }

    /// Returns whether a person sees it.
    pub(super) const fn is_seen(&self) -> bool {
        !self.ephemeral && self.parent_thread_id.is_none()
    }

    fn fits(&self) -> bool {
        self.id.len() <= Limits::AGENT_NAME_BYTES && self.cwd.len() <= FOLDER_BYTES
    }
}

impl Turn {
    /// Returns whether it goes on.
    pub(super) fn runs(&self) -> bool {
        self.status == "inProgress"
    }

    /// Returns the failure it ended with: Codex's word or the API's status, and what it says.
    pub(super) fn failure(self) -> AppServer {
        let Some(error) = self.error else { return unnamed() };
        let status =
            |info: &Value| info.as_object()?.values().next()?.get("httpStatusCode")?.as_u64();
        let about = match (error.codex_error_info.as_str(), status(&error.codex_error_info)) {
            (Some(word), _) => word.to_owned(),
            (None, Some(status)) => status.to_string(),
            (None, None) => String::new(),
        };
        AppServer::SystemError { about, text: error.message }
    }
}

/// A failure of which no more is known.
pub(super) const fn unnamed() -> AppServer {
    AppServer::SystemError { about: String::new(), text: String::new() }
}

/// Reads the ids of a list.
pub(super) fn ids(answer: &Value) -> Vec<String> {
    let ids = answer["data"].as_array().into_iter().flatten().filter_map(Value::as_str);
    ids.filter(|id| id.len() <= Limits::AGENT_NAME_BYTES).map(str::to_owned).collect()
}

/// Reads the thread that was asked for.
pub(super) fn thread(answer: &Value) -> Option<Thread> {
    Began::deserialize(answer).ok().map(|began| began.thread).filter(Thread::fits)
}

/// Reads the newest turn of those that were asked for.
pub(super) fn turn(answer: &Value) -> Option<Turn> {
    Turn::deserialize(answer["data"].get(0)?).ok()
}

fn read(bytes: &[u8]) -> Said {
    let Ok(message) = serde_json::from_slice::<Message>(bytes) else { return Said::Aside };
    let at = Timestamp(message.emitted_at_ms);
    match (message.method.as_str(), message.id.as_u64()) {
        ("thread/started", _) => match thread(&message.params) {
            Some(thread) => Said::Began(thread, at),
            None => Said::Aside,
        },
        ("thread/status/changed", _) => match Changed::deserialize(&message.params) {
            Ok(Changed { thread_id, status }) if thread_id.len() <= Limits::AGENT_NAME_BYTES => {
                Said::Changed(thread_id, status.told(), at)
            }
            _ => Said::Aside,
        },
        ("", Some(id)) if message.error.is_null() => Said::Answer(id, message.result),
        ("", Some(id)) => Said::Refusal(id, message.error["message"].to_string()),
        _ => Said::Aside,
    }
}

impl Client {
    /// Begins a conversation with the daemon of this home.
    ///
    /// # Errors
    /// There is none, it is another user's, or it speaks otherwise.
    pub(super) async fn connect(home: &Path) -> io::Result<Self> {
        let connecting = async {
            let stream = UnixStream::connect(home.join(SOCKET)).await?;
            // the path is a link to wherever its maker likes
            if stream.peer_cred()?.uid() != getuid().as_raw() {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            Ok(stream)
        };
        let place = ("localhost", "/");
        let socket = Socket::over(connecting, place, MESSAGE_BYTES, &Held::default()).await?;
        let mut client = Self { socket, id: 0 };
        let who = json!({"name": NAME, "version": env!("CARGO_PKG_VERSION")});
        client.call("initialize", json!({"clientInfo": who, "capabilities": {}})).await?;
        client.socket.send(&json!({"method": "initialized"}).to_string()).await?;
        Ok(client)
    }

    /// Asks for something and returns the number of the answer to come.
    ///
    /// # Errors
    /// The conversation is over.
    pub(super) async fn ask(&mut self, method: &str, params: Value) -> io::Result<u64> {
        self.id += 1;
        let request = json!({"id": self.id, "method": method, "params": params});
        self.socket.send(&request.to_string()).await?;
        Ok(self.id)
    }

    /// Asks for something and returns the answer; what else is said meanwhile is not heard.
    ///
    /// # Errors
    /// It is refused, or the conversation is over.
    pub(super) async fn call(&mut self, method: &str, params: Value) -> io::Result<Value> {
        let asked = self.ask(method, params).await?;
        let answer = async {
            loop {
                match self.next().await? {
                    Some(Said::Answer(id, result)) if id == asked => return Ok(result),
                    Some(Said::Refusal(id, why)) if id == asked => {
                        return Err(io::Error::other(why));
                    }
                    Some(_) => {}
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        };
        timeout(ANSWER, answer).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Returns what is said next; none at the end. Cancel safe.
    ///
    /// # Errors
    /// The conversation broke off.
    pub(super) async fn next(&mut self) -> io::Result<Option<Said>> {
        Ok(self.socket.next().await?.map(|bytes| read(&bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Codex 0.169 says it.
    const BEGAN: &str = r#"{"method":"thread/started","params":{"thread":{"id":"t","environments":[],
        "parentThreadId":null,"preview":"","ephemeral":false,"createdAt":17,"status":{"type":"idle"},
        "path":null,"cwd":"/w","turns":[]}},"emittedAtMs":18000}"#;

    fn changed(status: &str) -> Option<AppServer> {
        let text = format!(
            r#"{{"method":"thread/status/changed","params":{{"threadId":"t","status":{status}}},"emittedAtMs":9}}"#
        );
        match read(text.as_bytes()) {
            Said::Changed(id, status, at) => {
                assert_eq!((id.as_str(), at), ("t", Timestamp(9)));
                status
            }
            said => panic!("{said:?}"),
        }
    }

    #[test]
    fn what_a_thread_does_is_read() {
        assert_eq!(changed(r#"{"type":"idle"}"#), Some(AppServer::Idle));
        assert_eq!(changed(r#"{"type":"active","activeFlags":[]}"#), Some(AppServer::Active));
        for (flag, status) in [
            ("waitingOnApproval", AppServer::WaitingOnApproval),
            ("waitingOnUserInput", AppServer::WaitingOnUserInput),
            ("dreaming", AppServer::Active),
        ] {
            let told = changed(&format!(r#"{{"type":"active","activeFlags":["{flag}"]}}"#));
            assert_eq!(told, Some(status), "{flag}");
        }
        assert_eq!(changed(r#"{"type":"systemError"}"#), Some(unnamed()));
        assert_eq!(changed(r#"{"type":"notLoaded"}"#), Some(AppServer::NotLoaded));
        assert_eq!(changed(r#"{"type":"paused"}"#), None);
        let Said::Began(thread, at) = read(BEGAN.as_bytes()) else { panic!() };
        assert_eq!((thread.cwd.as_str(), thread.is_seen(), at), ("/w", true, Timestamp(18000)));
        for (is, becomes) in [("\":false", "\":true"), ("Id\":null", "Id\":\"p\"")] {
            let Said::Began(thread, _) = read(BEGAN.replace(is, becomes).as_bytes()) else {
                panic!()
            };
            assert!(!thread.is_seen(), "{becomes}");
        }
    }

    #[test]
    fn how_a_turn_failed_is_read() {
        let failed = |error: &str| {
            let answer = format!(r#"{{"data":[{{"id":"u","status":"failed","error":{error}}}]}}"#);
            turn(&serde_json::from_str(&answer).expect("JSON")).expect("a turn").failure()
        };
        let told = |about: &str, text: &str| AppServer::SystemError {
            about: about.to_owned(),
            text: text.to_owned(),
        };
        let status =
            r#"{"message":"no","codexErrorInfo":{"httpConnectionFailed":{"httpStatusCode":429}}}"#;
        assert_eq!(failed(status), told("429", "no"));
        assert_eq!(
            failed(r#"{"message":"no","codexErrorInfo":"usageLimitExceeded"}"#),
            told("usageLimitExceeded", "no")
        );
        assert_eq!(failed("null"), unnamed());
    }

    #[test]
    fn what_is_not_understood_is_passed_over() {
        for text in ["", "[]", "{}", "\u{0}", r#"{"method":"thread/started","params":{}}"#] {
            assert_eq!(read(text.as_bytes()), Said::Aside, "{text}");
        }
        let asks = r#"{"id":7,"method":"item/commandExecution/requestApproval","params":{}}"#;
        assert_eq!(read(asks.as_bytes()), Said::Aside, "it is for a person");
        let long = BEGAN.replace("\"t\"", &format!("\"{}\"", "t".repeat(65)));
        assert_eq!(read(long.as_bytes()), Said::Aside);
    }
}
