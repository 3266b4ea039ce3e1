//! Why a step could not be taken, as it is reported.

use std::io;

use warren_common::{
    Bytes,
    spec::IsolationTier,
    status::{RunState, reason},
};
use warren_daemon::telemetry::Chain;

use crate::{
    container::Drift,
    engine::EngineError,
    host::{cgroup::inhabited::Inhabited, levels::NotEmpty},
    ledger::LedgerError,
    network::NetworkError,
    volume::VolumeError,
};

/// Codes of the agent's own, beside those of engine and volumes.
const LEDGER_FAILED: &str = "LEDGER_FAILED";
const SECRETS_UNAVAILABLE: &str = "SECRETS_UNAVAILABLE";
const SOCKET_FAILED: &str = "SOCKET_FAILED";
const TIER_MISSING: &str = "TIER_MISSING";
const CAP_BELOW_USE: &str = "CAP_BELOW_USE";
const CGROUP_FAILED: &str = "CGROUP_FAILED";
const STILL_RUNS: &str = "STILL_RUNS";
const DRIFTED: &str = "CONTAINER_DRIFTED";

/// A step that failed: the code for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) retry: bool,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn state(&self) -> RunState {
        RunState::Failed { code: self.code.to_owned(), retry: self.retry }
    }

    /// The engine does not offer what the workspace was placed here for.
    pub(super) fn tier(tier: IsolationTier, why: &str) -> Self {
        let message = reason(&format!("isolation tier {tier} is not to be had here: {why}"));
        Self { code: TIER_MISSING, retry: true, message }
    }

    /// What the workspace is to have is not to be had now.
    pub(super) fn secrets(why: &str) -> Self {
        let message = reason(&format!("its secrets are not to be had: {why}"));
        Self { code: SECRETS_UNAVAILABLE, retry: true, message }
    }

    /// A cap that is less than what cannot be given back.
    pub(super) fn cap(old: Bytes, new: Bytes, held: Bytes) -> Self {
        let message = format!(
            "its memory cap stays at {old}: it holds {held} that it cannot give back, {new} is asked"
        );
        Self { code: CAP_BELOW_USE, retry: true, message }
    }

    pub(super) fn socket(error: &io::Error) -> Self {
        let message = reason(&format!("cannot make the workspace's socket: {error}"));
        Self { code: SOCKET_FAILED, retry: true, message }
    }

    pub(super) fn level(error: &io::Error) -> Self {
        let message = reason(&format!("cannot make the workspace's cgroup: {error}"));
        Self { code: CGROUP_FAILED, retry: true, message }
    }

    /// Nobody can say whether something of the workspace runs.
    fn unseen(error: &io::Error) -> Self {
        let message = reason(&format!(
            "cannot see whether anything of the workspace still runs in its cgroup: {error}"
        ));
        Self { code: CGROUP_FAILED, retry: true, message }
    }

    /// Something runs on the home although the engine lists no container that does.
    fn still_runs(found: &Inhabited) -> Self {
        let (cgroup, count) = (found.folder.display(), found.pids.len());
        let message = reason(&format!(
            "{count} processes run in {cgroup} that the engine does not list, as after another \
             userns-remap or data-root; end them with: warren workspace stop, or change the engine back"
        ));
        Self { code: STILL_RUNS, retry: true, message }
    }

    /// A container that is not what it was made as.
    pub(super) fn drifted(drifts: &[Drift]) -> Self {
        let message = reason(&format!(
            "the container drifted from its specification and was stopped: {}; find who changed \
             it, then start the workspace again",
            Drift::list(drifts)
        ));
        Self { code: DRIFTED, retry: false, message }
    }
}

impl From<NotEmpty> for Failure {
    fn from(not: NotEmpty) -> Self {
        match not {
            NotEmpty::Inhabited(found) => Self::still_runs(&found),
            NotEmpty::Unknown(error) => Self::unseen(&error),
        }
    }
}

impl From<&EngineError> for Failure {
    fn from(error: &EngineError) -> Self {
        let advice = error.next().map(|next| format!("; {next}")).unwrap_or_default();
        let message = reason(&format!("{}{advice}", Chain(error)));
        Self { code: error.code(), retry: error.retry(), message }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::from(&error)
    }
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Self {
        let message = reason(&Chain(&error).to_string());
        Self { code: error.code(), retry: error.retry(), message }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let message = reason(&Chain(&error).to_string());
        Self { code: LEDGER_FAILED, retry: true, message }
    }
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        let message = reason(&Chain(&error).to_string());
        Self { code: error.code(), retry: true, message }
    }
}
