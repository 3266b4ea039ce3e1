//! What a person types and nobody is to see.

use std::io::{self, BufRead as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use warren_daemon::Secret;

use crate::error::Error;

/// Echo is off while this lives.
struct Unseen(rustix::termios::Termios);

impl Drop for Unseen {
    fn drop(&mut self) {
        // nobody is left to be told
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Asks a person, and does not show what they type.
///
/// # Errors
/// The terminal cannot be read.
pub(crate) fn ask(what: &str) -> Result<Secret<String>, Error> {
    let failed = |error: io::Error| Error::pipe("reading from the terminal", &error);
    let before = tcgetattr(io::stdin()).map_err(|error| failed(error.into()))?;
    let mut unseen = before.clone();
    unseen.local_modes.remove(LocalModes::ECHO);
    unseen.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(io::stdin(), OptionalActions::Flush, &unseen)
        .map_err(|error| failed(error.into()))?;
    let _restored = Unseen(before);
    let mut talk = io::stderr().lock();
    talk.write_all(what.as_bytes()).and_then(|()| talk.flush()).map_err(failed)?;
    let mut line = zeroize::Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(Secret::new(line.trim_end_matches(['\n', '\r']).to_owned()))
}
