//! Terminals, programs and logs of the fake coordinator.
//!
//! A terminal greets and echoes what is typed; `exit` and Enter end it with code 3, `drop` and Enter break the
//! connection. A program is one of a few words.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, codegen::Bytes};
use warren_proto::{
    Method,
    pb::{
        admin::v1::{
            self as pb, browser_service_server::BrowserService, open_stream_request::Kind,
            session_service_server::SessionService,
        },
        inside::v1::{
            Connect, Exited, Failed, Frame, Opened, Read, Send, Shot, connect, frame, open,
        },
        node::v1 as node,
    },
};

use super::fake::{Fake, REVISION, missing, page};

type Answer = Result<pb::OpenStreamResponse, Status>;

fn one<'a>(sessions: &'a mut [pb::Session], name: &str) -> Result<&'a mut pb::Session, Status> {
    let is_it =
        |one: &&mut pb::Session| one.observed.as_ref().is_some_and(|seen| seen.name == name);
    sessions.iter_mut().find(is_it).ok_or_else(|| missing("session", name))
}

/// How each picture begins, which is all of it here.
pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[tonic::async_trait]
impl BrowserService for Fake {
    async fn list_browsers(
        &self,
        request: Request<pb::ListBrowsersRequest>,
    ) -> Result<Response<pb::ListBrowsersResponse>, Status> {
        let request = request.into_inner();
        self.state().browsed.push(request.clone());
        let (state, freshness) = self.read(Method::BrowserListBrowsers, request.read)?;
        let name = &request.workspace;
        let fits = |browser: &&pb::Browser| {
            let address = format!("{}/{}", browser.client, browser.workspace);
            name.is_empty() || *name == address || *name == browser.workspace
        };
        let browsers: Vec<pb::Browser> = state.browsers.iter().filter(fits).cloned().collect();
        let (browsers, next_page_token) = page(&browsers, state.page, &request.page_token);
        Ok(Response::new(pb::ListBrowsersResponse { freshness, browsers, next_page_token }))
    }
}

#[tonic::async_trait]
impl SessionService for Fake {
    type OpenStreamStream = ReceiverStream<Answer>;

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let request = request.into_inner();
        self.state().listed.push(request.clone());
        let (state, freshness) = self.read(Method::SessionListSessions, request.read)?;
        let name = &request.workspace;
        let fits = |session: &&pb::Session| {
            let address = format!("{}/{}", session.client, session.workspace);
            name.is_empty() || *name == address || *name == session.workspace
        };
        let sessions: Vec<pb::Session> = state.sessions.iter().filter(fits).cloned().collect();
        if sessions.is_empty() && !name.is_empty() {
            return Err(missing("workspace", name));
        }
        let (sessions, next_page_token) = page(&sessions, state.page, &request.page_token);
        Ok(Response::new(pb::ListSessionsResponse { freshness, sessions, next_page_token }))
    }

    async fn create_session(
        &self,
        request: Request<pb::CreateSessionRequest>,
    ) -> Result<Response<pb::CreateSessionResponse>, Status> {
        let mut state = self.enter(Method::SessionCreateSession)?;
        let request = request.into_inner();
        let (client, workspace) = request.workspace.split_once('/').unwrap_or_default();
        let name = match request.name.as_str() {
            "" => request.agent.clone(),
            name => name.to_owned(),
        };
        let asked = pb::SessionAsked {
            run: REVISION,
            agent: request.agent.clone(),
            asks: request.asks,
            branch: request.branch.clone(),
            created_by: "ada".to_owned(),
            created_unix_ms: 1_764_000_000_000,
            revision: REVISION,
            ..Default::default()
        };
        let observed = node::SessionObserved { name, ..Default::default() };
        let session = pb::Session {
            client: client.to_owned(),
            workspace: workspace.to_owned(),
            node: "n2".to_owned(),
            observed: Some(observed),
            observed_live: true,
            asked: Some(asked),
            ..Default::default()
        };
        state.made.push(request);
        let mut seen = session.clone();
        if let Some(observed) = &mut seen.observed {
            (observed.running, observed.run) = (true, REVISION);
            observed.started_unix_ms = 1_764_000_000_000;
        }
        state.sessions.push(seen);
        Ok(Response::new(pb::CreateSessionResponse { session: Some(session), revision: REVISION }))
    }

    async fn stop_session(
        &self,
        request: Request<pb::StopSessionRequest>,
    ) -> Result<Response<pb::StopSessionResponse>, Status> {
        let mut state = self.enter(Method::SessionStopSession)?;
        let session = one(&mut state.sessions, &request.into_inner().session)?;
        session.asked.get_or_insert_default().stopped = true;
        if let Some(observed) = &mut session.observed {
            observed.running = false;
        }
        let session = Some(session.clone());
        Ok(Response::new(pb::StopSessionResponse { session, revision: REVISION }))
    }

    async fn restart_session(
        &self,
        request: Request<pb::RestartSessionRequest>,
    ) -> Result<Response<pb::RestartSessionResponse>, Status> {
        let mut state = self.enter(Method::SessionRestartSession)?;
        let session = one(&mut state.sessions, &request.into_inner().session)?;
        let asked = session.asked.get_or_insert_default();
        (asked.stopped, asked.run) = (false, REVISION + 1);
        if let Some(observed) = &mut session.observed {
            (observed.running, observed.run, observed.resumed) = (true, REVISION + 1, true);
        }
        let session = Some(session.clone());
        Ok(Response::new(pb::RestartSessionResponse { session, revision: REVISION + 1 }))
    }

    async fn delete_session(
        &self,
        request: Request<pb::DeleteSessionRequest>,
    ) -> Result<Response<pb::DeleteSessionResponse>, Status> {
        let mut state = self.enter(Method::SessionDeleteSession)?;
        let name = request.into_inner().session;
        one(&mut state.sessions, &name)?;
        state.sessions.retain(|one| one.observed.as_ref().is_none_or(|seen| seen.name != name));
        Ok(Response::new(pb::DeleteSessionResponse { revision: REVISION }))
    }

    async fn open_stream(
        &self,
        request: Request<Streaming<pb::OpenStreamRequest>>,
    ) -> Result<Response<Self::OpenStreamStream>, Status> {
        drop(self.enter(Method::SessionOpenStream)?);
        let mut up = request.into_inner();
        let Some(Kind::Target(target)) = up.message().await?.and_then(|first| first.kind) else {
            return Err(Status::invalid_argument("the first request names no target"));
        };
        self.state().opened.push(target.clone());
        let (down, stream) = mpsc::channel(16);
        let what = target.open.and_then(|open| open.what);
        let serving = Serving { fake: Arc::new(self.clone()), up, down };
        tokio::spawn(async move {
            match what {
                Some(open::What::Attach(attach)) => serving.terminal(&attach.session).await,
                Some(open::What::Exec(exec)) => serving.program(&exec.argv).await,
                Some(open::What::Logs(_)) => serving.log().await,
                Some(open::What::Send(send)) => serving.typed(&send).await,
                Some(open::What::Read(read)) => serving.screen(&read).await,
                Some(open::What::Explain(_)) => serving.explanation().await,
                Some(open::What::Connect(connect)) => serving.connection(&connect).await,
                Some(open::What::Shot(shot)) => serving.picture(&shot).await,
                None => None,
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

struct Serving {
    fake: Arc<Fake>,
    up: Streaming<pb::OpenStreamRequest>,
    down: mpsc::Sender<Answer>,
}

impl Serving {
    async fn send(&self, kind: frame::Kind) -> Option<()> {
        let frame = Some(Frame { kind: Some(kind) });
        self.down.send(Ok(pb::OpenStreamResponse { frame })).await.ok()
    }

    async fn say(&self, text: impl Into<Vec<u8>>) -> Option<()> {
        self.send(frame::Kind::Stdout(Bytes::from(text.into()))).await
    }

    async fn exit(&self, code: i32) -> Option<()> {
        self.send(frame::Kind::Exited(Exited { code, detached: false })).await
    }

    async fn fail(&self, reason: &str, message: &str) -> Option<()> {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        self.send(frame::Kind::Failed(Failed { reason, message })).await
    }

    /// Returns the next frame; none where the caller went away.
    async fn next(&mut self) -> Option<frame::Kind> {
        match self.up.message().await.ok()??.kind? {
            Kind::Frame(frame) => frame.kind,
            Kind::Target(_) => None,
        }
    }

    async fn terminal(mut self, session: &str) -> Option<()> {
        if session == "missing" {
            return self.fail("SESSION_NOT_FOUND", "no session missing").await;
        }
        self.send(frame::Kind::Opened(Opened {})).await?;
        self.say("\x1b[?1049h\x1b[?1006hwelcome grüße\r\n").await?;
        if std::mem::take(&mut self.fake.state().drop_next) {
            let _ = self.down.send(Err(Status::unavailable("the node went away"))).await;
            return None;
        }
        let mut line = Vec::new();
        loop {
            match self.next().await? {
                frame::Kind::Stdin(bytes) => {
                    self.fake.state().typed.extend_from_slice(&bytes);
                    self.say(bytes.to_vec()).await?;
                    line.extend_from_slice(&bytes);
                    if line.ends_with(b"exit\r") {
                        return self.exit(3).await;
                    }
                    if line.ends_with(b"drop\r") {
                        let _ = self.down.send(Err(Status::unavailable("cut"))).await;
                        return None;
                    }
                }
                frame::Kind::Resize(size) => {
                    self.fake.state().resized.push((size.columns, size.rows));
                    self.say(format!("size {}x{}\r\n", size.columns, size.rows)).await?;
                }
                // a workspace types Ctrl-D then, which ends a shell
                frame::Kind::StdinClosed(_) => self.fake.state().typed.push(4),
                _ => {}
            }
        }
    }

    async fn program(mut self, argv: &[String]) -> Option<()> {
        self.send(frame::Kind::Opened(Opened {})).await?;
        match argv.first().map(String::as_str) {
            Some("echo") => {
                self.say(argv[1..].join(" ") + "\n").await?;
                self.send(frame::Kind::Stderr(Bytes::from_static(b"to stderr\n"))).await?;
                self.exit(7).await
            }
            Some("cat") => loop {
                match self.next().await? {
                    frame::Kind::Stdin(bytes) => self.say(bytes.to_vec()).await?,
                    frame::Kind::StdinClosed(_) => return self.exit(0).await,
                    _ => {}
                }
            },
            Some("wait") => {
                self.say("waiting\n").await?;
                loop {
                    if let frame::Kind::Signal(signal) = self.next().await? {
                        return self.exit(128 + signal.number).await;
                    }
                }
            }
            Some("flood") => loop {
                self.say(vec![b'x'; 1024]).await?;
            },
            Some("drop") => {
                let _ = self.down.send(Err(Status::unavailable("the node went away"))).await;
                None
            }
            _ => self.exit(127).await,
        }
    }

    /// Notes the text and then each key, in brackets.
    async fn typed(self, send: &Send) -> Option<()> {
        if send.session == "missing" {
            return self.fail("SESSION_NOT_FOUND", "no session missing").await;
        }
        let keys: String = send.keys.iter().map(|key| format!("<{key}>")).collect();
        self.fake.state().typed.extend_from_slice(format!("{}{keys}", send.text).as_bytes());
        self.send(frame::Kind::Opened(Opened {})).await?;
        self.exit(0).await
    }

    async fn screen(self, read: &Read) -> Option<()> {
        self.send(frame::Kind::Opened(Opened {})).await?;
        for line in 0..read.history {
            self.say(format!("earlier {line}\n")).await?;
        }
        self.say("$ make   \n\x1b[31mok\x07\n").await?;
        self.say("\n\n\n").await?;
        self.exit(0).await
    }

    async fn explanation(self) -> Option<()> {
        let (answer, size) = self.fake.state().explained.clone();
        self.send(frame::Kind::Opened(Opened {})).await?;
        for part in answer.chunks(size) {
            self.say(part).await?;
        }
        self.exit(0).await
    }

    /// Repeats what it is told and says goodbye where it is told no more; port 9 is closed.
    async fn connection(mut self, connect: &Connect) -> Option<()> {
        if connect.target == Some(connect::Target::Port(9)) {
            return self.fail("PORT_CLOSED", "nothing listens on port 9").await;
        }
        self.send(frame::Kind::Opened(Opened {})).await?;
        loop {
            match self.next().await? {
                frame::Kind::Stdin(bytes) => self.say(bytes.to_vec()).await?,
                frame::Kind::StdinClosed(_) => break,
                _ => {}
            }
        }
        self.say("goodbye").await?;
        self.say("").await?;
        self.exit(0).await
    }

    /// A picture of nothing, in two pieces; of a page named `hidden` none.
    async fn picture(self, shot: &Shot) -> Option<()> {
        if shot.page == "hidden" {
            return self.fail("WRONG_STATE", "the page gave no picture within 5 s").await;
        }
        self.send(frame::Kind::Opened(Opened {})).await?;
        self.say(PNG[..4].to_vec()).await?;
        self.say(PNG[4..].to_vec()).await?;
        self.exit(0).await
    }

    async fn log(self) -> Option<()> {
        self.send(frame::Kind::Opened(Opened {})).await?;
        self.say("first line\nsecond line\n").await?;
        self.exit(0).await
    }
}
