//! Logs of a process: to stderr, as text for people or JSON for machines.

use std::{fmt, io::IsTerminal, str::FromStr};

use tracing_subscriber::{EnvFilter, fmt as format};

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text each, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

impl FromStr for LogFormat {
    type Err = TelemetryError;
    fn from_str(text: &str) -> Result<Self, TelemetryError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(TelemetryError::Format(other.chars().take(40).collect())),
        }
    }
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Not a format.
    #[error("{0:?} is not a log format: text or json")]
    Format(String),
    /// Not a filter.
    #[error("{filter:?} is not a log filter, such as info,warren_coordinator=debug")]
    Filter {
        /// What was given.
        filter: String,
        /// What the parser said.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else logs already, or counts already.
    #[error("{0} is set up already")]
    Twice(&'static str),
    /// A histogram without buckets: a fault of ours.
    #[error("the histogram {0} has no buckets")]
    Buckets(&'static str),
}

/// Starts logging. The environment's `WARREN_LOG` outweighs `filter`.
///
/// # Errors
/// The filter is none, or logging was started before.
pub fn start(log: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = std::env::var("WARREN_LOG").unwrap_or_else(|_| filter.to_owned());
    let parsed =
        EnvFilter::try_new(&filter).map_err(|source| TelemetryError::Filter { filter, source })?;
    let builder = format().with_env_filter(parsed).with_writer(std::io::stderr);
    let started = match log {
        LogFormat::Text => {
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| TelemetryError::Twice("logging"))
}

/// An error with everything below it, for one log field or one line: `a: b: c`. Causes whose text
/// their parent repeats are left out.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            let text = error.to_string();
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_filters_are_checked() {
        assert_eq!("json".parse::<LogFormat>().ok(), Some(LogFormat::Json));
        assert!("xml".parse::<LogFormat>().is_err());
        let error = start(LogFormat::Text, "info,=,=x").expect_err("no filter");
        let shown = Chain(&error).to_string();
        assert!(shown.contains("is not a log filter") && shown.contains(": "), "{shown}");
    }
}
