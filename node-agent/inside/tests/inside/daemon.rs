//! The daemon of Codex, played: what it says is told of the sessions, and a turn ends with its own.

use std::{
    fs,
    os::unix,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::broadcast,
    task::JoinHandle,
};
use tokio_tungstenite::tungstenite::Message;
use warren_proto::pb::inside::v1::{
    AgentErrorKind, AgentSource, AgentWaitKind, agent_state::State,
};

use crate::{
    agents::{explain_until, idle, order, start, starting, until, working},
    orders,
    workspace::{Workspace, wait_until},
};

/// Threads by id; what it was asked for.
#[derive(Default)]
struct Inner {
    threads: Vec<Value>,
    /// What is said of the newest turn of any thread.
    turn: Value,
    asked: Vec<Value>,
}

struct Daemon {
    inner: Arc<Mutex<Inner>>,
    says: broadcast::Sender<String>,
    task: JoinHandle<()>,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    since.as_millis().try_into().expect("a time")
}

fn status(word: &str, flags: &[&str]) -> Value {
    match word {
        "active" => json!({"type": word, "activeFlags": flags}),
        _ => json!({"type": word}),
    }
}

impl Daemon {
    /// Listens where the other one did, whose threads it has.
    fn start(workspace: &Workspace, inner: Arc<Mutex<Inner>>) -> Self {
        let folder = workspace.home().join(".codex/app-server-control");
        fs::create_dir_all(&folder).expect("a folder");
        let (link, socket) =
            (folder.join("app-server-control.sock"), workspace.runtime().join("d"));
        for path in [&link, &socket] {
            let _ = fs::remove_file(path);
        }
        let listener = UnixListener::bind(&socket).expect("a socket");
        unix::fs::symlink(&socket, link).expect("a link");
        let (says, _) = broadcast::channel(64);
        let task = tokio::spawn(serve(listener, Arc::clone(&inner), says.clone()));
        Self { inner, says, task }
    }

    fn thread(&self, id: &str, folder: PathBuf, more: Value) -> Value {
        let mut thread = json!({
            "id": id, "cwd": folder, "ephemeral": false, "parentThreadId": null,
            "createdAt": now() / 1000, "status": status("idle", &[]), "turns": [],
        });
        for (key, value) in more.as_object().expect("an object") {
            thread[key] = value.clone();
        }
        self.inner.lock().expect("no panic").threads.push(thread.clone());
        thread
    }

    fn say(&self, method: &str, params: Value) {
        let said = json!({"method": method, "params": params, "emittedAtMs": now()});
        // nobody may listen yet
        let _ = self.says.send(said.to_string());
    }

    fn change(&self, id: &str, word: &str, flags: &[&str]) {
        let status = status(word, flags);
        for thread in &mut self.inner.lock().expect("no panic").threads {
            if thread["id"] == id {
                thread["status"] = status.clone();
            }
        }
        self.say("thread/status/changed", json!({"threadId": id, "status": status}));
    }

    fn asked(&self, method: &str) -> Vec<Value> {
        let asked = self.inner.lock().expect("no panic").asked.clone();
        let of_method = asked.into_iter().filter(|one| one["method"] == method);
        of_method.map(|one| one["params"].clone()).collect()
    }

    /// Ends it with its conversations, and begins another with its threads.
    async fn again(self, workspace: &Workspace) -> Self {
        self.task.abort();
        drop(self.says);
        assert!(self.task.await.is_err(), "it was ended");
        Self::start(workspace, self.inner)
    }
}

async fn serve(listener: UnixListener, inner: Arc<Mutex<Inner>>, says: broadcast::Sender<String>) {
    let mut conversations = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("a caller");
        conversations.spawn(talk(stream, Arc::clone(&inner), says.subscribe()));
    }
}

async fn talk(stream: UnixStream, inner: Arc<Mutex<Inner>>, mut said: broadcast::Receiver<String>) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    loop {
        let text = tokio::select! {
            Ok(text) = said.recv() => text,
            Some(Ok(Message::Text(text))) = socket.next() => {
                let request: Value = serde_json::from_str(&text).expect("a request");
                let Some(answer) = answer(&mut inner.lock().expect("no panic"), &request) else {
                    continue;
                };
                answer.to_string()
            }
            else => return,
        };
        if socket.send(Message::text(text)).await.is_err() {
            return;
        }
    }
}

/// Answers as Codex 0.169 does; none where nothing is asked for.
fn answer(inner: &mut Inner, request: &Value) -> Option<Value> {
    inner.asked.push(request.clone());
    let id = request.get("id")?;
    let params = &request["params"];
    let result = match request["method"].as_str().expect("a method") {
        "thread/loaded/list" => {
            let ids: Vec<&Value> = inner.threads.iter().map(|thread| &thread["id"]).collect();
            json!({"data": ids, "nextCursor": null})
        }
        "thread/read" => {
            let thread = inner.threads.iter().find(|thread| thread["id"] == params["threadId"]);
            json!({"thread": thread.expect("a thread")})
        }
        "thread/turns/list" => json!({"data": [inner.turn]}),
        "turn/interrupt" => {
            inner.turn["status"] = "interrupted".into();
            json!({})
        }
        _ => json!({}),
    };
    Some(json!({"id": id, "result": result}))
}

#[tokio::test]
async fn codex_daemon_tells_what_its_threads_do() {
    let players = [("one", "cd ~/a && exec ~/bin/codex"), ("two", "cd ~/b && exec ~/bin/codex")];
    let (workspace, mut agent) = start(&players, &[]);
    for session in ["one", "two"] {
        until(&mut agent, session, "codex", starting).await;
    }
    let daemon = Daemon::start(&workspace, Arc::default());
    wait_until("somebody to listen", || !daemon.asked("thread/loaded/list").is_empty()).await;
    let (a, b) = (workspace.home().join("a"), workspace.home().join("b"));

    // what a person does not see says nothing of the session
    for (id, more) in [("h", json!({"ephemeral": true})), ("s", json!({"parentThreadId": "t1"}))] {
        let helper = daemon.thread(id, b.clone(), more);
        daemon.say("thread/started", json!({"thread": helper}));
        daemon.change(id, "active", &[]);
    }
    let began = daemon.thread("t1", a, json!({}));
    daemon.say("thread/started", json!({"thread": began}));
    let told = until(&mut agent, "one", "codex", idle).await;
    assert_eq!((told.source(), told.derived), (AgentSource::AppServer, false));
    daemon.change("t1", "active", &[]);
    until(&mut agent, "one", "codex", working).await;
    until(&mut agent, "two", "codex", starting).await;
    daemon.change("t1", "active", &["waitingOnApproval"]);
    until(
        &mut agent,
        "one",
        "codex",
        |state| matches!(state, State::Waiting(wait) if wait.kind() == AgentWaitKind::Permission),
    )
    .await;
    let info = json!({"responseTooManyFailedAttempts": {"httpStatusCode": 429}});
    daemon.inner.lock().expect("no panic").turn = json!({
        "id": "u", "status": "failed", "error": {"message": "slow down", "codexErrorInfo": info},
    });
    daemon.change("t1", "systemError", &[]);
    until(&mut agent, "one", "codex", |state| {
        matches!(state, State::Error(error)
            if error.kind() == AgentErrorKind::RateLimit && error.text == "slow down")
    })
    .await;

    // one that is loaded again is only said to change; and the hooks' word of a thread is the last
    daemon.thread("t2", b.clone(), json!({"createdAt": 17}));
    daemon.change("t2", "active", &[]);
    until(&mut agent, "two", "codex", working).await;
    order(&workspace, "two", "THREAD=t3; tell codex UserPromptSubmit").await;
    explain_until(&mut agent, "two", "UserPromptSubmit").await;
    daemon.thread("t3", b, json!({}));
    daemon.change("t3", "active", &["waitingOnUserInput"]);
    until(&mut agent, "two", "codex", |state| matches!(state, State::Waiting(_))).await;
    daemon.change("t2", "idle", &[]);
    daemon.change("t1", "active", &[]);
    until(&mut agent, "one", "codex", working).await;
    until(&mut agent, "two", "codex", |state| matches!(state, State::Waiting(_))).await;

    // what changes while nobody listens is asked for
    let inner = Arc::clone(&daemon.inner);
    for thread in &mut inner.lock().expect("no panic").threads {
        thread["status"] = status("idle", &[]);
    }
    let _daemon = daemon.again(&workspace).await;
    for session in ["one", "two"] {
        until(&mut agent, session, "codex", idle).await;
    }
    assert!(!workspace.log().contains("panicked"));
}

#[tokio::test]
async fn a_turn_in_codex_daemon_ends_with_its_session() {
    let folder = orders::home();
    let home = folder.path().join("home");
    let script = format!(
        "#!/bin/bash\nprintf '{{\"hook_event_name\":\"UserPromptSubmit\",\"session_id\":\"t1\",\"cwd\":\"%s\"}}' \
         \"$PWD\" | {} hook codex\nexec -a /x/codex bash -c 'while read -r line; do :; done' tui\n",
        env!("CARGO_BIN_EXE_warren-inside")
    );
    orders::install(&home, "codex");
    fs::write(home.join("bin/codex"), script).expect("a script");
    let codex = |run| warren_proto::pb::inside::v1::Session {
        agent: "codex".to_owned(),
        command: "codex".to_owned(),
        ..orders::agent_in("one", run)
    };
    let (workspace, mut agent) = Workspace::start_in(folder, orders::order(vec![codex(5)]));
    until(&mut agent, "one", "codex", working).await;
    let daemon = Daemon::start(&workspace, Arc::default());
    daemon.inner.lock().expect("no panic").turn = json!({"id": "u1", "status": "inProgress"});
    daemon.thread("other", workspace.home(), json!({}));
    daemon.thread("t1", workspace.home(), json!({}));
    orders::tell(&agent, orders::order(Vec::new())).await;
    agent.until("the end of one", |status| orders::find(status, "one").is_none()).await;
    wait_until("the end of its turn", || !daemon.asked("turn/interrupt").is_empty()).await;
    let ended = json!({"threadId": "t1", "turnId": "u1"});
    assert_eq!(daemon.asked("turn/interrupt"), [ended], "and of nobody else's");
}
