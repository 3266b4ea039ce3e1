//! `SessionService`: what runs in workspaces, and the streams of people looking at it.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::Instrument as _;
use warren_common::{Limits, NodeId};
use warren_daemon::identity::Role;
use warren_model::{
    Command,
    command::NoteView,
    state::{PhaseKind, Workspace},
};
use warren_proto::{
    error::{ApiError, reason},
    pb::{
        admin::v1::{
            self as pb, SessionOrder, open_stream_request::Kind,
            session_service_server::SessionService,
        },
        inside::v1::{Connect, Open, connect, frame, open::What},
        node::v1 as node_pb,
    },
};

use super::{
    Api, Moment, Who, caller, errors,
    mutation::Asked,
    page::Page,
    place, resolve,
    session_change::{Ask, Change},
    sessions::Wanted,
    workspace::by_address,
};
use crate::{
    authz::{self, Caller, may_open},
    hub::tunnel::{End, Frames, relay},
};

#[tonic::async_trait]
impl SessionService for Api {
    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(request.page_size, &request.page_token)?;
        let moment = self.read_for(request.read).await?;
        let view = moment.view();
        let wanted = Wanted::read(&moment, &request)?;
        let workspaces = by_address(&moment).map(|(_, one)| one);
        let workspaces = workspaces.filter(|one| wanted.place.may_hold(one));
        let sessions = workspaces.flat_map(|one| view.sessions(one));
        let sessions = sessions.filter(|session| wanted.holds(session));
        let key = |session: &pb::Session| wanted.key(session);
        let paged = match wanted.order {
            // they come so
            SessionOrder::Unspecified => {
                page.cut(sessions.map(|session| (key(&session), session)), |session| session)
            }
            SessionOrder::Attention => page.cut(place::keyed(sessions, key), |session| session),
        };
        Ok(Response::new(pb::ListSessionsResponse {
            freshness: Some(moment.freshness()),
            sessions: paged.items,
            next_page_token: paged.next,
        }))
    }

    type OpenStreamStream =
        Pin<Box<dyn Stream<Item = Result<pb::OpenStreamResponse, Status>> + Send>>;

    async fn open_stream(
        &self,
        request: Request<Streaming<pb::OpenStreamRequest>>,
    ) -> Result<Response<Self::OpenStreamStream>, Status> {
        let caller = Caller::of(&request)?.clone();
        let who = super::caller(&request)?;
        let mut requests = request.into_inner();
        let Target { workspace, what, last } = target(&mut requests).await?;
        may_open(&caller, &what)?;
        let moment = self.read().await?;
        let workspace = Arc::clone(resolve::workspace(&moment.state, &workspace)?);
        let node = reachable(&moment, &workspace, &what)?;
        let hub = &self.parts().hub;
        let slot = hub.tunnels.slot(workspace.id).ok_or_else(too_many)?;
        let patience = patience(moment.state.replicas.len(), last);
        if let What::Connect(connect) = &what {
            self.note(who, &workspace, connect).await?;
        }
        let looks = looks(caller.role(), &what);
        let node_end = self.ask_node((node, patience), &workspace, what).await?;
        let (sender, receiver) = mpsc::channel(Limits::STREAM_QUEUE);
        let viewer = End { frames: frames(requests, looks), sender };
        let shutdown = self.parts().shutdown.clone();
        let relaying = async move {
            relay(viewer, node_end, shutdown).await;
            drop(slot);
        };
        self.parts().shutdown.spawn(relaying.in_current_span());
        let answers = ReceiverStream::new(receiver);
        let answers = answers.map(|frame| Ok(pb::OpenStreamResponse { frame: Some(frame) }));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn create_session(
        &self,
        request: Request<pb::CreateSessionRequest>,
    ) -> Result<Response<pb::CreateSessionResponse>, Status> {
        let who = caller(&request)?;
        Ok(Response::new(self.make_session(who, request.into_inner()).await?))
    }

    async fn stop_session(
        &self,
        request: Request<pb::StopSessionRequest>,
    ) -> Result<Response<pb::StopSessionResponse>, Status> {
        let who = caller(&request)?;
        let pb::StopSessionRequest { mutation, workspace, session } = request.into_inner();
        let ask = Ask { mutation, workspace, session, change: Change::Stop };
        let (session, revision) = self.change_session(who, ask).await?;
        Ok(Response::new(pb::StopSessionResponse { session, revision }))
    }

    async fn restart_session(
        &self,
        request: Request<pb::RestartSessionRequest>,
    ) -> Result<Response<pb::RestartSessionResponse>, Status> {
        let who = caller(&request)?;
        let pb::RestartSessionRequest { mutation, workspace, session, fresh } =
            request.into_inner();
        let ask = Ask { mutation, workspace, session, change: Change::Restart { fresh } };
        let (session, revision) = self.change_session(who, ask).await?;
        Ok(Response::new(pb::RestartSessionResponse { session, revision }))
    }

    async fn delete_session(
        &self,
        request: Request<pb::DeleteSessionRequest>,
    ) -> Result<Response<pb::DeleteSessionResponse>, Status> {
        let who = caller(&request)?;
        let pb::DeleteSessionRequest { mutation, workspace, session } = request.into_inner();
        let ask = Ask { mutation, workspace, session, change: Change::Delete };
        let (_, revision) = self.change_session(who, ask).await?;
        Ok(Response::new(pb::DeleteSessionResponse { revision }))
    }
}

impl Api {
    /// Puts on record that somebody connects to something in a workspace, before a byte passes.
    async fn note(
        &self,
        who: Who,
        workspace: &Workspace,
        connect: &Connect,
    ) -> Result<(), ApiError> {
        let target = authz::target(connect);
        let target =
            target.ok_or_else(|| errors::invalid("target.open.connect", "names nothing"))?;
        let look = (who.principal.clone(), workspace.id, target);
        let record = Box::pin(async {
            let request_id = uuid::Uuid::now_v7().to_string();
            let asked = Asked::read(who, Some(pb::Mutation { request_id, if_revision: None }))?;
            let note = NoteView { workspace: workspace.id, target };
            self.mutate(&asked, Command::NoteView(Box::new(note))).await.map(drop)
        });
        self.parts().hub.noted.once((look, tokio::time::Instant::now()), record).await
    }

    /// Has the node dial back for one stream. One that did not dial back in time has opened nothing.
    async fn ask_node(
        &self,
        (node, (limit, reason)): (NodeId, Patience),
        workspace: &Workspace,
        what: What,
    ) -> Result<End, ApiError> {
        let hub = &self.parts().hub;
        let request = hub.tunnels.request(node);
        let request = request.map_err(|why| errors::internal("minting a tunnel's id", why))?;
        let order = node_pb::OpenTunnel {
            tunnel_id: request.id().to_vec().into(),
            workspace_id: workspace.id.to_string(),
            generation: workspace.generation.0,
            open: Some(Open { what: Some(what) }),
        };
        let asked = hub.open_tunnel(node, order);
        asked.map_err(|why| node_silent(reason::NODE_ELSEWHERE, &why.to_string()))?;
        request.answered(limit).await.ok_or_else(|| {
            let why = format!("it did not open the stream within {} s", limit.as_secs());
            node_silent(reason, &why)
        })
    }
}

/// How long a node may take to dial back, and what is told of one that did not.
type Patience = (Duration, &'static str);

/// A node is sooner given up where the caller can have another coordinator ask it.
const fn patience(replicas: usize, last: bool) -> Patience {
    match replicas > 1 && !last {
        true => (Limits::TUNNEL_TAKEN, reason::NODE_ELSEWHERE),
        false => (Limits::TUNNEL_TIMEOUT, reason::NODE_UNREACHABLE),
    }
}

/// What a stream is opened to.
struct Target {
    workspace: String,
    what: What,
    /// Its caller has no other coordinator to ask.
    last: bool,
}

/// What names one stream, at most: it travels to the node and on to PID 1 in one message each.
const OPEN_BYTES: usize = Limits::INSIDE_MESSAGE_BYTES / 2;

/// Reads the first request, which says what to open where.
async fn target(requests: &mut Streaming<pb::OpenStreamRequest>) -> Result<Target, Status> {
    let first = tokio::time::timeout(Limits::CALL_TIMEOUT, requests.message()).await;
    let first = first.map_err(|_| errors::invalid("target", "it did not come in time"))??;
    let Some(Kind::Target(target)) = first.and_then(|first| first.kind) else {
        return Err(errors::invalid("target", "the first request must name it").into());
    };
    let what = opened(target.open.unwrap_or_default())?;
    Ok(Target { workspace: target.workspace, what, last: target.last })
}

/// Checks what is to be opened.
fn opened(open: Open) -> Result<What, ApiError> {
    let bytes = open.encoded_len();
    let Some(what) = open.what else {
        return Err(errors::invalid("target.open", "is not set"));
    };
    if let What::Exec(exec) = &what {
        let bytes: usize = exec.argv.iter().map(String::len).sum();
        if exec.argv.is_empty() {
            return Err(errors::invalid("target.open.exec.argv", "is empty"));
        }
        if bytes > Limits::EXEC_BYTES {
            let why = format!("has {bytes} bytes, the limit is {}", Limits::EXEC_BYTES);
            return Err(errors::invalid("target.open.exec.argv", why));
        }
    }
    if let What::Connect(connect) = &what {
        connected(connect)?;
    }
    if bytes > OPEN_BYTES {
        let why = format!("has {bytes} bytes, the limit is {OPEN_BYTES}");
        return Err(errors::invalid("target.open", why));
    }
    Ok(what)
}

/// Checks what is to be connected to.
fn connected(connect: &Connect) -> Result<(), ApiError> {
    match &connect.target {
        Some(connect::Target::Port(port)) if !(1..=65_535).contains(port) => {
            let why = format!("{port} is not a TCP port; ports are 1 to 65535");
            Err(errors::invalid("target.open.connect.port", why))
        }
        Some(connect::Target::View(view)) => {
            let long = view.token.len() > Limits::VIEW_TOKEN_BYTES
                || view.host.len() > Limits::VIEW_HOST_BYTES;
            let control = Duration::from_millis(view.control_ms.into());
            if long {
                Err(errors::invalid("target.open.connect.view", "token or host is too long"))
            } else if control > Limits::CONTROL {
                let most = Limits::CONTROL.as_secs() / 60;
                let why = format!("control is given for at most {most} minutes at a time");
                Err(errors::invalid("target.open.connect.view.control_ms", why))
            } else {
                Ok(())
            }
        }
        Some(connect::Target::Port(_)) | None => Ok(()),
    }
}

/// Whether nothing of this caller may reach a program. A browser asks for what it shows: of a view
/// PID 1 itself takes the requests.
fn looks(role: Option<Role>, what: &What) -> bool {
    !matches!(role, Some(Role::Admin | Role::Operator)) && !matches!(what, What::Connect(_))
}

/// Returns the frames that follow the target. A viewer's window may change, and nothing else of a
/// viewer reaches the workspace.
fn frames(requests: Streaming<pb::OpenStreamRequest>, looks: bool) -> Frames {
    Box::pin(requests.filter_map(move |request| {
        let passed = match request.map(|request| request.kind) {
            Ok(Some(Kind::Frame(frame))) => {
                let harmless = matches!(frame.kind, Some(frame::Kind::Resize(_)));
                (!looks || harmless).then_some(Ok(frame))
            }
            Ok(Some(Kind::Target(_)) | None) => {
                Some(Err(Status::invalid_argument("only frames may follow the target")))
            }
            Err(status) => Some(Err(status)),
        };
        std::future::ready(passed)
    }))
}

/// Returns the node to ask; a log may be read of a workspace that does not run.
fn reachable(moment: &Moment, workspace: &Workspace, what: &What) -> Result<NodeId, ApiError> {
    let label = moment.state.workspace_label(workspace.id);
    let log = matches!(what, What::Logs(_));
    let runs = matches!(workspace.phase.kind, PhaseKind::Active | PhaseKind::StartPermitted);
    match &workspace.assignment {
        Some(assignment) if runs || log => Ok(assignment.node),
        Some(_) | None => {
            let message = format!("workspace {label} does not run");
            let error = ApiError::new(Code::FailedPrecondition, reason::NOT_RUNNING, message);
            let error = error.why(&workspace.phase.reason);
            Err(error.next(format!("warren workspace explain {label}")))
        }
    }
}

fn too_many() -> ApiError {
    let limit = Limits::STREAMS_PER_WORKSPACE;
    let message = format!("{limit} streams are open in the workspace, the limit");
    ApiError::new(Code::ResourceExhausted, reason::LIMIT_REACHED, message)
        .next("close another terminal, exec or log of it")
}

fn node_silent(reason: &'static str, why: &str) -> ApiError {
    let message = "the workspace's node cannot be reached";
    ApiError::new(Code::Unavailable, reason, message)
        .why(why)
        .next("warren node list; what runs in the workspace runs on")
}

#[cfg(test)]
mod tests {
    use warren_proto::pb::inside::v1::{Attach, Exec};

    use super::*;

    fn check(what: What) -> Result<What, ApiError> {
        opened(Open { what: Some(what) })
    }

    #[test]
    fn only_who_can_ask_another_coordinator_is_sent_there_early() {
        let short = (Limits::TUNNEL_TAKEN, reason::NODE_ELSEWHERE);
        let whole = (Limits::TUNNEL_TIMEOUT, reason::NODE_UNREACHABLE);
        assert_eq!(patience(3, false), short);
        assert_eq!(patience(3, true), whole);
        assert_eq!(patience(1, false), whole);
        assert_eq!(patience(1, true), whole);
    }

    #[test]
    fn what_is_opened_has_a_bound_in_every_field() {
        let exec = |argv: Vec<String>| What::Exec(Exec { argv, terminal: None });
        assert!(check(exec(vec!["x".repeat(Limits::EXEC_BYTES)])).is_ok(), "at the limit");
        let long = check(exec(vec!["x".repeat(Limits::EXEC_BYTES + 1)])).expect_err("past it");
        assert!(long.message.contains("argv"), "{long}");
        assert!(check(exec(Vec::new())).is_err(), "nothing to run");
        let many = check(exec(vec![String::new(); OPEN_BYTES])).expect_err("empty, but too many");
        assert!(many.message.contains("the limit is"), "{many}");
        let attach =
            |session: String| What::Attach(Attach { session, terminal: None, read_only: true });
        assert!(check(attach("main".to_owned())).is_ok());
        assert!(check(attach("x".repeat(OPEN_BYTES))).is_err(), "a name is no name that long");
        assert!(opened(Open::default()).is_err());
    }
}
