//! One session as its node is to have it, and as its workspace is told.

use warren_common::spec::{AgentProgram, Permissions, SessionOrder, SessionProgram, SessionWish};

use super::InvalidMessage;
use crate::pb::inside::v1 as inside;

/// Reads an agent's word; none where it is empty.
///
/// # Errors
/// There is no such agent.
pub fn agent_program(word: &str) -> Result<Option<AgentProgram>, InvalidMessage> {
    if word.is_empty() {
        return Ok(None);
    }
    let known = AgentProgram::ALL.into_iter().find(|agent| agent.as_str() == word);
    let why = || InvalidMessage::new("agent", format!("there is no agent {word:?}"));
    known.map(Some).ok_or_else(why)
}

/// Tells a workspace's PID 1 what its sessions are to be; one that knows no orders starts the
/// sessions that are to run.
pub fn tell_sessions(setup: &mut inside::Setup, orders: &[SessionOrder]) {
    let of =
        |wish| orders.iter().filter(move |order| order.wish == wish).map(inside::Session::from);
    setup.ordered = true;
    setup.sessions = of(SessionWish::Run).collect();
    setup.stopped = of(SessionWish::Stop).collect();
}

impl From<&SessionOrder> for inside::Session {
    fn from(order: &SessionOrder) -> Self {
        let SessionOrder { name, life, run, conversation, wish: _, program } = order;
        let SessionProgram { agent, permissions, command, branch, prompt } = program;
        let asks = *permissions == Permissions::Ask;
        Self {
            name: name.to_string(),
            command: program.line(),
            agent: agent.map(|agent| agent.to_string()).unwrap_or_default(),
            asks,
            arguments: agent.map(|_| command.clone()).unwrap_or_default(),
            branch: branch.clone().unwrap_or_default(),
            prompt: prompt.clone(),
            life: *life,
            run: *run,
            conversation: *conversation,
        }
    }
}

#[cfg(feature = "grpc")]
mod node {
    use warren_common::spec::{Permissions, SessionOrder, SessionProgram, SessionWish};

    use super::agent_program;
    use crate::{
        convert::{InvalidMessage, enumeration, parse, unspecified},
        pb::node::v1 as pb,
    };

    impl From<SessionOrder> for pb::SessionOrder {
        fn from(order: SessionOrder) -> Self {
            let wish = match order.wish {
                SessionWish::Run => pb::SessionWish::Run,
                SessionWish::Stop => pb::SessionWish::Stop,
                SessionWish::Delete => pb::SessionWish::Delete,
            };
            let SessionProgram { agent, permissions, command, branch, prompt } = order.program;
            Self {
                name: order.name.into(),
                life: order.life,
                run: order.run,
                conversation: order.conversation,
                wish: wish.into(),
                agent: agent.map(|agent| agent.to_string()).unwrap_or_default(),
                asks: permissions == Permissions::Ask,
                command,
                branch: branch.unwrap_or_default(),
                prompt,
            }
        }
    }

    impl TryFrom<pb::SessionOrder> for SessionOrder {
        type Error = InvalidMessage;
        fn try_from(order: pb::SessionOrder) -> Result<Self, InvalidMessage> {
            let wish = match enumeration("wish", order.wish)? {
                pb::SessionWish::Unspecified => return Err(unspecified("wish")),
                pb::SessionWish::Run => SessionWish::Run,
                pb::SessionWish::Stop => SessionWish::Stop,
                pb::SessionWish::Delete => SessionWish::Delete,
            };
            Ok(Self {
                name: parse("name", &order.name)?,
                life: order.life,
                run: order.run,
                conversation: order.conversation,
                wish,
                program: SessionProgram {
                    agent: agent_program(&order.agent)?,
                    permissions: match order.asks {
                        true => Permissions::Ask,
                        false => Permissions::Bypass,
                    },
                    command: order.command,
                    branch: Some(order.branch).filter(|branch| !branch.is_empty()),
                    prompt: order.prompt,
                },
            })
        }
    }
}
