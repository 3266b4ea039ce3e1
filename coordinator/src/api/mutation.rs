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
    raft::{LedError, ProposeError, check_size},
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
        let answer = self.proposed(asked, command).await;
        answer.unwrap_or_else(|error| Err(self.unanswered(error)))
    }

    /// As [`Self::mutate`]; without an answer the error is the outer one.
    async fn proposed(
        &self,
        asked: &Asked,
        command: Command,
    ) -> Result<Result<Applied, ApiError>, ProposeError> {
        self.settled().await;
        let consensus = &self.parts().consensus;
        let name = controller::name(&command);
        match consensus.propose_for(&asked.envelope(command), &asked.serial).await {
            Ok(Ok(applied)) => {
                let revision = applied.revision.0;
                info!(command = name, revision, repeated = applied.repeated, "applied");
                Ok(Ok(applied))
            }
            Ok(Err(refusal)) => {
                info!(command = name, %refusal, "refused");
                Ok(Err(errors::refusal(refusal)))
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses a command that is too long for the log, as [`Self::mutate`] would.
    pub(super) fn fits(&self, asked: &Asked, command: Command) -> Result<Command, ApiError> {
        let envelope = asked.envelope(command);
        check_size(&envelope).map_err(|error| self.unanswered(error))?;
        Ok(envelope.command)
    }

    /// Tells of a command that got no answer.
    fn unanswered(&self, error: ProposeError) -> ApiError {
        self.explain(errors::propose(error, &self.parts().consensus.local()))
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
                    let error = self.unanswered(error);
                    if !lost {
                        return Err(error);
                    }
                    unknown = Some(error);
                }
            }
        }
        // Where the outcome is unknown the same request is made again: it takes effect once.
        let moment = match self.read().await {
            Ok(moment) => moment,
            Err(error) => return Err(unknown.unwrap_or(error)),
        };
        let again = self.proposed(asked, command(&moment.state)?).await;
        after(unknown, again, |error| self.unanswered(error))
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

/// Returns what a caller is told once a command was made again. An answer is one, for both tries:
/// the request takes effect once. Without one, that nothing came of the second try says nothing of
/// a first whose outcome is `unknown`.
fn after(
    unknown: Option<ApiError>,
    again: Result<Result<Applied, ApiError>, ProposeError>,
    unanswered: impl FnOnce(ProposeError) -> ApiError,
) -> Result<Applied, ApiError> {
    match again {
        Ok(answer) => answer,
        Err(error) => Err(unknown.unwrap_or_else(|| unanswered(error))),
    }
}

#[cfg(test)]
mod tests {
    use warren_common::ReplicaId;
    use warren_proto::error::reason;

    use super::*;

    fn told(error: ProposeError) -> ApiError {
        errors::propose(error, &ClusterState::default())
    }

    #[test]
    fn an_unknown_outcome_stays_unknown_until_there_is_an_answer() {
        let unknown = || Some(told(ProposeError::Unknown));
        let ends = [
            (ProposeError::NotLeader { leader: None }, reason::NO_QUORUM),
            (ProposeError::NotLeader { leader: Some(ReplicaId(2)) }, reason::NOT_LEADER),
            (ProposeError::Revoked, reason::CERTIFICATE_REVOKED),
        ];
        for (end, alone) in ends {
            let said = after(None, Err(end.clone()), told).expect_err("no answer");
            assert_eq!(said.reason, alone, "nothing happened, and that is said");
            let said = after(unknown(), Err(end), told).expect_err("no answer");
            assert_eq!(said.reason, reason::OUTCOME_UNKNOWN, "the first try may take effect yet");
        }
        let refusal = ApiError::new(Code::AlreadyExists, reason::NAME_TAKEN, "there is one");
        let said = after(unknown(), Ok(Err(refusal)), told).expect_err("refused");
        assert_eq!(said.reason, reason::NAME_TAKEN, "an answer is one for both tries");
    }
}
