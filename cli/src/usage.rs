//! What clap refuses, in our own form: error, why, next.

use std::{
    env,
    error::Error as _,
    io::{self, Write as _},
};

use clap::error::{ContextKind, ErrorKind};

use crate::error::Error;

/// Prints what clap has to say and returns the exit code.
pub(crate) fn explain(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // a closed pipe is no error of ours
            let _ = error.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            2
        }
        _ => {
            let ours = translate(error);
            let text = if wants_json() { ours.json() } else { ours.text(false) };
            let _ = io::stderr().lock().write_all(text.as_bytes());
            ours.kind.code()
        }
    }
}

/// Takes the message and the tip out of clap's text. A value that its own type refused is not
/// repeated: it may hold a password, or be 10 MB long.
fn translate(error: &clap::Error) -> Error {
    if error.kind() == ErrorKind::ValueValidation
        && let (Some(option), Some(cause)) = (error.get(ContextKind::InvalidArg), error.source())
    {
        return Error::usage(format!("{option}: {cause}"))
            .next("add --help for options and examples");
    }
    let text = error.render().to_string();
    let mut message = Vec::new();
    let mut tips = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            tips.push(tip.to_owned());
        } else if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        } else if !line.is_empty() {
            message.push(line.strip_prefix("error: ").unwrap_or(line).to_owned());
        }
    }
    let ours = Error::usage(redact(&message.join(" ")));
    let ours = match error.get(ContextKind::Usage) {
        Some(usage) => {
            let usage = usage.to_string();
            ours.why(usage.trim().replace("Usage: ", "the form is ").replace("\u{1b}", ""))
        }
        None => ours,
    };
    ours.next(if tips.is_empty() {
        "add --help for options and examples".to_owned()
    } else {
        tips.join("; ")
    })
}

/// Takes credentials out of URLs that stand where clap did not expect them.
fn redact(text: &str) -> String {
    let word = |word: &str| match word.split_once("://") {
        Some((scheme, rest)) if rest.contains('@') => {
            let after = rest.rsplit_once('@').map_or("", |(_, after)| after);
            format!("{scheme}://…@{after}")
        }
        _ => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<String>>().join(" ")
}

/// The arguments were not understood, so the output format is looked for by hand.
fn wants_json() -> bool {
    let arguments: Vec<String> = env::args().skip(1).take_while(|a| a != "--").collect();
    let given =
        arguments.iter().enumerate().rev().find_map(|(index, argument)| match argument.as_str() {
            "-o" | "--output" => arguments.get(index + 1).cloned(),
            other => other
                .strip_prefix("--output=")
                .or_else(|| other.strip_prefix("-o").filter(|_| !other.starts_with("--")))
                .map(|value| value.trim_start_matches('=').to_owned()),
        });
    given.or_else(|| env::var("WARREN_OUTPUT").ok()).is_some_and(|format| format == "json")
}
