//! What every mutation has in common: an id minted by the caller, the moment minted here, and one
//! way into Raft.

use tonic::Code;
use tracing::info;
use warren_common::{RequestId, Revision, Timestamp};
use warren_daemon::clock;
use warren_model::{Applied, ClusterState, Command, Envelope, Principal};
use warren_proto::{error::ApiError, pb::admin::v1 as pb};

use super::{Api, Who, errors};
use crate::{
    controller,
    raft::{LedError, ProposeError},
};

/// A mutation as its caller asks it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Who asks.
    pub(super) principal: Principal,
    /// Of the caller's certificate: the leader holds it against its own deny-list. Empty where this
    /// coordinator asks for itself.
    pub(super) serial: Vec<u8>,
    /// As which request.
    pub(super) request: RequestId,
    /// Refuse where the object has changed since.
    pub(super) if_revision: Option<Revision>,
    /// When it came.
    pub(super) at: Timestamp,
}

impl Asked {
    /// Reads what a mutation carries.
    ///
    /// # Errors
    /// Refuses a request without an id; which ids are good is the model's to say.
    pub(super) fn read(
        Who { principal, serial }: Who,
        mutation: Option<pb::Mutation>,
    ) -> Result<Self, ApiError> {
        let mutation = mutation.unwrap_or_default();
        if mutation.request_id.is_empty() {
            let message = "the mutation carries no request id";
            return Err(ApiError::new(Code::InvalidArgument, "REQUEST_ID_MISSING", message)
                .next("mint a UUID of version 7 per mutation and repeat it with every retry"));
        }
        let request = mutation.request_id.parse::<RequestId>();
        let request = request.map_err(|why| errors::invalid("mutation.request_id", why))?;
        tracing::Span::current().record("request", tracing::field::display(&request));
        let if_revision = mutation.if_revision.map(Revision);
        Ok(Self { principal, serial, request, if_revision, at: clock::now() })
    }

    pub(super) fn envelope(&self, command: Command) -> Envelope {
        Envelope {
            request: self.request,
            principal: self.principal.clone(),
            at: self.at,
            if_revision: self.if_revision,
            command,
        }
    }
}

impl Api {
    /// Proposes a command and waits until it is applied here; a refusal is an error for the caller.
    pub(super) async fn mutate(
        &self,
        asked: &Asked,
        command: Command,
    ) -> Result<Applied, ApiError> {
        self.settled().await;
        let consensus = &self.parts().consensus;
        let name = controller::name(&command);
        match consensus.propose_for(&asked.envelope(command), &asked.serial).await {
            Ok(Ok(applied)) => {
                let revision = applied.revision.0;
                info!(command = name, revision, repeated = applied.repeated, "applied");
                Ok(applied)
            }
            Ok(Err(refusal)) => {
                info!(command = name, %refusal, "refused");
                Err(errors::refusal(refusal))
            }
            Err(error) => Err(self.explain(errors::propose(error, &consensus.local()))),
        }
    }

    /// Makes a command of a state that holds everything acknowledged before the call, and
    /// proposes it. The leader's own state is such a one while the command is fenced with its
    /// term; everywhere else, and where a name is not found in it, a linearizable read is made.
    pub(super) async fn mutate_named(
        &self,
        asked: &Asked,
        command: impl Fn(&ClusterState) -> Result<Command, ApiError>,
    ) -> Result<Applied, ApiError> {
        let consensus = &self.parts().consensus;
        let mut unknown = None;
        if let Some(led) = consensus.led()
            && let Ok(command) = command(led.state())
        {
            match consensus.propose_led(&led, asked.envelope(command), &asked.serial).await {
                Ok(answer) => return answer.map_err(errors::refusal),
                Err(LedError::Over) => {}
                Err(LedError::Propose(error)) => {
                    let lost = error == ProposeError::Unknown;
                    let error = self.explain(errors::propose(error, &consensus.local()));
                    if !lost {
                        return Err(error);
                    }
                    unknown = Some(error);
                }
            }
        }
        // Where the outcome is unknown the same request is made again: it takes effect once.
        let moment = self.read().await.map_err(|error| unknown.unwrap_or(error))?;
        self.mutate(asked, command(&moment.state)?).await
    }

    /// Whether a repeat of a call that took effect fails because what it named is gone since.
    pub(super) fn is_done(&self, asked: &Asked, error: &ApiError) -> bool {
        error.code == Code::NotFound && self.took_effect(asked)
    }

    /// Whether this very request took effect before: then what it removed is rightly gone.
    pub(super) fn took_effect(&self, asked: &Asked) -> bool {
        let state = self.parts().consensus.local();
        matches!(state.requests.answered(&asked.principal, asked.request), Some(Ok(_)))
    }
}
