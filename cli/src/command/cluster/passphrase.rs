//! The passphrase of a backup: from a file, or typed unseen.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use warren_daemon::{
    Secret,
    backup::{BackupError, BackupKey, Kdf, PASSPHRASE_LEAST},
};

use crate::{
    app::App,
    error::{Error, Kind},
    terminal::unseen::ask,
};

/// More than anybody types; a file that is longer is another one.
const LONGEST: u64 = 4096;

/// Where the passphrase comes from.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// The file with the passphrase on its first line; asked for on the terminal without it.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Source {
    /// Returns the passphrase; a new one is typed twice.
    ///
    /// # Errors
    /// Usage where it is missing or too short.
    pub(super) fn read(&self, app: &App, new: bool) -> Result<Secret<String>, Error> {
        let passphrase = match &self.passphrase_file {
            Some(path) => from_file(app, path)?,
            None => typed(new)?,
        };
        if passphrase.expose().trim().chars().count() < PASSPHRASE_LEAST {
            let message = match passphrase.expose().trim().is_empty() {
                true => "the passphrase is empty".to_owned(),
                false => format!("the passphrase is shorter than {PASSPHRASE_LEAST} characters"),
            };
            return Err(Error::usage(message).next("use four or more random words"));
        }
        Ok(passphrase)
    }
}

/// Makes the key where it does not hold up anything else.
///
/// # Errors
/// The parameters are out of bounds.
pub(super) async fn derive(kdf: Kdf, passphrase: Secret<String>) -> Result<BackupKey, BackupError> {
    let deriving = tokio::task::spawn_blocking(move || kdf.derive(&passphrase));
    deriving.await.unwrap_or(Err(BackupError::Seal))
}

fn from_file(app: &App, path: &Path) -> Result<Secret<String>, Error> {
    let failed = |error: io::Error| {
        let message = format!("the passphrase file {} cannot be read", path.display());
        Error::new(Kind::Failed, "LOCAL_IO", message)
            .why(error.to_string())
            .next("give --passphrase-file a file of text that this user may read")
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.display();
        app.output.talk(&format!(
            "warning: {path} is readable by others (mode {mode:03o}), run: chmod go= {path}"
        ));
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LONGEST {
        return Err(Error::usage(format!("{} is no passphrase file", path.display()))
            .why(format!("it holds more than {LONGEST} bytes"))
            .next("give the file with the passphrase on its first line"));
    }
    Ok(Secret::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn typed(new: bool) -> Result<Secret<String>, Error> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::usage("there is no passphrase, and nobody to ask for it")
            .next("give --passphrase-file FILE"));
    }
    let first = ask("passphrase: ")?;
    if new && ask("again: ")?.expose() != first.expose() {
        return Err(Error::usage("the two passphrases differ").next("run the command again"));
    }
    Ok(first)
}
