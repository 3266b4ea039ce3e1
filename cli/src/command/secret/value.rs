//! Where a secret's value comes from: never from the command line itself, which everybody on this
//! machine may read.

use std::{
    env,
    fs::File,
    io::{self, IsTerminal as _, Read},
    os::unix::fs::PermissionsExt as _,
};

use warren_common::Limits;
use warren_daemon::Secret;

use crate::{app::App, error::Error, terminal::unseen};

/// Returns whether a text names a place, and is no value or name itself.
pub(crate) fn is_place(text: &str) -> bool {
    text.starts_with('@') || text.starts_with("env:")
}

/// Reads `@FILE`, `@-` or `env:VARIABLE`; asks a person where nothing is given. The end of a single
/// line is left off.
///
/// # Errors
/// Usage: it cannot be read, is empty or too long, or the value itself was given.
pub(crate) fn read(app: &App, what: &str, place: Option<&str>) -> Result<Secret<Vec<u8>>, Error> {
    let bytes = match place {
        None => asked(what)?,
        Some("@-") => taken(what, "stdin", io::stdin().lock())?,
        Some(place) => match (place.strip_prefix('@'), place.strip_prefix("env:")) {
            (Some(path), _) => {
                let unreadable = |error: io::Error| unreadable(what, path, &error);
                let file = File::open(path).map_err(unreadable)?;
                warn_of(app, path, &file);
                taken(what, path, file)?
            }
            (None, Some(variable)) => {
                let found = env::var_os(variable).ok_or_else(|| {
                    Error::usage(format!("{what}: there is no variable {variable}"))
                })?;
                Secret::new(std::os::unix::ffi::OsStringExt::into_vec(found))
            }
            // it may be the secret: it is not said again
            (None, None) => {
                return Err(Error::usage(format!("{what} takes no value on the command line"))
                    .why("whoever lists processes on this machine would read it")
                    .next("give @FILE, @- for stdin or env:VARIABLE, or nothing to be asked"));
            }
        },
    };
    let bytes = without_end(bytes);
    let (length, limit) = (bytes.expose().len(), Limits::SECRET_BYTES);
    match length {
        0 => Err(Error::usage(format!("{what} is empty"))
            .next("warren secret delete takes a secret away")),
        _ if length > limit => {
            Err(Error::usage(format!("{what} has more than {limit} bytes, which is the limit")))
        }
        _ => Ok(bytes),
    }
}

fn asked(what: &str) -> Result<Secret<Vec<u8>>, Error> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::usage(format!("{what} is not given, and nobody is there to be asked"))
            .next("give @FILE, @- for stdin or env:VARIABLE"));
    }
    let typed = unseen::ask(&format!("{what}: "))?;
    Ok(Secret::new(typed.expose().as_bytes().to_vec()))
}

fn taken(what: &str, place: &str, from: impl Read) -> Result<Secret<Vec<u8>>, Error> {
    // all the room there may be from the beginning: a buffer that grows leaves copies behind
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(Limits::SECRET_BYTES + 32));
    let most = u64::try_from(Limits::SECRET_BYTES).unwrap_or(u64::MAX) + 3;
    let read = from.take(most).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(what, place, &error))?;
    Ok(Secret::new(std::mem::take(&mut *bytes)))
}

fn unreadable(what: &str, place: &str, error: &io::Error) -> Error {
    Error::usage(format!("{what}: {place} cannot be read")).why(error.to_string())
}

fn warn_of(app: &App, path: &str, file: &File) {
    let mode = file.metadata().map(|facts| facts.permissions().mode() & 0o777).unwrap_or_default();
    if mode & 0o077 != 0 {
        app.output.talk(&format!(
            "warning: {path} is readable by others (mode {mode:03o}), run: chmod go= {path}"
        ));
    }
}

/// Editors and `echo` end a line that is none of the secret; what has several lines is left as it is.
fn without_end(bytes: Secret<Vec<u8>>) -> Secret<Vec<u8>> {
    let all = bytes.expose();
    let line = all.strip_suffix(b"\n").filter(|line| !line.contains(&b'\n'));
    match line {
        Some(line) => Secret::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec()),
        None => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_single_line_is_left_off() {
        for (given, kept) in [
            ("token\n", "token"),
            ("token\r\n", "token"),
            ("token", "token"),
            ("two\nlines\n", "two\nlines\n"),
            ("\n", ""),
        ] {
            let kept_of = without_end(Secret::new(given.as_bytes().to_vec()));
            assert_eq!(kept_of.expose(), kept.as_bytes(), "{given:?}");
        }
        assert!(is_place("@x") && is_place("env:X") && !is_place("token"));
    }
}
