//! Asking before something that cannot be taken back.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::error::{Error, Kind};

/// Shows `what` and returns what was typed.
///
/// # Errors
/// Usage, with what to give instead, where there is nobody to ask.
pub(super) fn typed(what: &str, instead: &str) -> Result<String, Error> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::usage("this asks before it acts, and here is nobody to ask")
            .why("stdin is not a terminal")
            .next(instead));
    }
    let failed = |error: io::Error| Error::pipe("asking on the terminal", &error);
    let mut talk = io::stderr().lock();
    talk.write_all(what.as_bytes()).and_then(|()| talk.flush()).map_err(failed)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(answer.trim().to_owned())
}

/// Asks for a yes.
///
/// # Errors
/// As [`typed`]; and where the answer is another.
pub(crate) fn yes(what: &str, instead: &str) -> Result<(), Error> {
    match typed(what, instead)?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::new(Kind::Failed, "NOT_CONFIRMED", "nothing was changed")),
    }
}
