//! Why a step could not be taken, as it is reported.

use std::io;

use warren_common::status::{RunState, reason};
use warren_daemon::telemetry::Chain;

use crate::{engine::EngineError, ledger::LedgerError, network::NetworkError, volume::VolumeError};

/// Codes of the agent's own, beside those of engine and volumes.
const LEDGER_FAILED: &str = "LEDGER_FAILED";
const SOCKET_FAILED: &str = "SOCKET_FAILED";

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

    pub(super) fn socket(error: &io::Error) -> Self {
        let message = reason(&format!("cannot make the workspace's socket: {error}"));
        Self { code: SOCKET_FAILED, retry: true, message }
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
