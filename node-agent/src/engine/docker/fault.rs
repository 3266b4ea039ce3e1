//! From Docker's errors to ours: what it was, whether to try again, and in whose words.

use std::{future::Future, time::Duration};

use bollard::errors::Error;

use crate::engine::EngineError;

/// Runs one call with a deadline and explains its failure.
pub(super) async fn call<T>(
    operation: &'static str,
    address: &str,
    deadline: Duration,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(deadline, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(explain(operation, address, error)),
        Err(_) => Err(EngineError::Timeout { operation, after: deadline }),
    }
}

/// Explains one error of Docker.
pub(super) fn explain(operation: &'static str, address: &str, error: Error) -> EngineError {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            answered(operation, status_code, one_line(&message))
        }
        Error::DockerStreamError { error } => answered(operation, 500, one_line(&error)),
        Error::RequestTimeoutError => {
            EngineError::Timeout { operation, after: warren_common::Limits::ENGINE_TIMEOUT }
        }
        Error::SocketNotFoundError(_)
        | Error::HyperLegacyError { .. }
        | Error::HyperResponseError { .. }
        | Error::IOError { .. } => {
            EngineError::Unreachable { address: address.to_owned(), source: Box::new(error) }
        }
        other => EngineError::Failed { operation, detail: one_line(&other.to_string()) },
    }
}

fn answered(operation: &'static str, status: u16, detail: String) -> EngineError {
    if detail.contains("no space left on device") {
        return EngineError::DiskFull { operation };
    }
    match status {
        404 => EngineError::NotFound { operation, detail },
        409 => EngineError::Conflict { operation, detail },
        400..=499 => EngineError::Refused { operation, detail },
        _ => EngineError::Failed { operation, detail },
    }
}

/// Docker's messages are sentences of programs: one line, and never endless.
fn one_line(message: &str) -> String {
    warren_common::status::reason(message.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(status_code: u16, message: &str) -> EngineError {
        let message = message.to_owned();
        explain("create", "unix:///x", Error::DockerResponseServerError { status_code, message })
    }

    #[test]
    fn what_helps_by_waiting_is_told_from_what_does_not() {
        assert!(!server(400, "invalid reference format").retry());
        assert!(server(500, "oops").retry());
        assert!(server(409, "name in use").retry());
        assert_eq!(server(500, "write /x: no space left on device").code(), "DISK_FULL");
        assert_eq!(server(404, "no such container").code(), "ENGINE_NOT_FOUND");
    }

    #[test]
    fn no_socket_is_an_engine_that_does_not_answer() {
        let error = explain("info", "unix:///x", Error::SocketNotFoundError("/x".to_owned()));
        assert_eq!(error.code(), "ENGINE_UNREACHABLE");
        assert_eq!(error.to_string(), "the container engine does not answer on unix:///x");
    }

    #[test]
    fn messages_are_one_short_line() {
        let EngineError::Failed { detail, .. } = server(500, &"a\nb\x1b[0m ".repeat(1000)) else {
            panic!("not a failure");
        };
        assert!(detail.len() <= 512 && !detail.contains(['\n', '\x1b']));
    }
}
