//! The files of contexts: private, written whole or not at all.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{Config, Context, Identity, Store};
use crate::error::{Error, Kind};

const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
const TRUST: &str = "trust.pem";

impl Store {
    /// Returns the path of `config.toml`.
    pub(crate) fn file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Reads `config.toml`; nothing known where there is no such file.
    ///
    /// # Errors
    /// Where it cannot be read or is not ours.
    pub(crate) fn load(&self) -> Result<Config, Error> {
        let path = self.file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Config::default()),
            Err(error) => return Err(Error::file("read", &path, &error)),
        };
        toml::from_str(&text).map_err(|error| {
            Error::new(
                Kind::Failed,
                "INVALID_CONFIG",
                format!("{} cannot be understood", path.display()),
            )
            .why(error.message().to_owned())
            .next("mend the file, or move it away and run warren cluster init again")
        })
    }

    /// Replaces `config.toml` in one step.
    ///
    /// # Errors
    /// Where it cannot be written; the old one is then still there.
    pub(crate) fn save(&self, config: &Config) -> Result<(), Error> {
        let path = self.file();
        let text = toml::to_string(config).map_err(|error| {
            Error::new(Kind::Failed, "INVALID_CONFIG", "the contexts cannot be encoded")
                .why(error.to_string())
        })?;
        let written = private_folder(&self.root).and_then(|()| replace(&path, &text));
        written.map_err(|error| Error::file("write", &path, &error))
    }

    /// Writes an identity into a new folder and returns it, relative to the store. It is in use
    /// once [`Self::save`] has named it.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub(crate) fn write_identity(
        &self,
        context: &str,
        identity: &Identity,
    ) -> Result<PathBuf, Error> {
        let relative =
            Path::new("contexts").join(context).join(Uuid::now_v7().simple().to_string());
        let folder = self.root.join(&relative);
        let write = || -> io::Result<()> {
            private_folder(&folder)?;
            replace(&folder.join(KEY), &identity.key)?;
            replace(&folder.join(CERTIFICATE), &identity.certificate)?;
            replace(&folder.join(TRUST), &identity.trust)
        };
        write().map_err(|error| Error::file("write", &folder, &error))?;
        Ok(relative)
    }

    /// Reads the identity of a context.
    ///
    /// # Errors
    /// Where a file is missing, naming it.
    pub(crate) fn read_identity(&self, context: &Context) -> Result<Identity, Error> {
        let read = |name: &str| {
            let path = self.root.join(&context.identity).join(name);
            fs::read_to_string(&path).map_err(|error| {
                Error::file("read", &path, &error)
                    .next("warren cluster init on the coordinator's machine makes a new identity")
            })
        };
        Ok(Identity { key: read(KEY)?, certificate: read(CERTIFICATE)?, trust: read(TRUST)? })
    }

    /// Removes the folder of an identity that is no longer in use. What stays is harmless, so a
    /// failure is not told.
    pub(crate) fn forget_identity(&self, identity: &Path) {
        let ours = identity.starts_with("contexts") && identity.components().count() == 3;
        if ours && !identity.is_absolute() {
            let _ = fs::remove_dir_all(self.root.join(identity));
        }
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a private file beside `path`, syncs it, renames it over `path` and syncs the folder.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = folder.join(format!(".{}.new", Uuid::now_v7().simple()));
    let write = || -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(folder)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn identities_are_private_and_replaced_whole() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::at(root.path().join("new"));
        let identity = Identity {
            key: "key".to_owned(),
            certificate: "certificate".to_owned(),
            trust: "trust".to_owned(),
        };
        let first = store.write_identity("demo", &identity).expect("written");
        let second = store.write_identity("demo", &identity).expect("written again");
        assert_ne!(first, second);
        let mode = |path: PathBuf| {
            fs::metadata(path).expect("it is there").permissions().mode() & 0o777
        };
        assert_eq!(mode(root.path().join("new").join(&first).join(KEY)), 0o600);
        assert_eq!(mode(root.path().join("new").join(&first)), 0o700);
        store.forget_identity(&first);
        assert!(!root.path().join("new").join(&first).exists());
        store.forget_identity(Path::new("contexts"));
        assert!(root.path().join("new").join(&second).exists(), "only folders of identities go");
    }

    #[test]
    fn a_file_of_others_is_refused_with_its_line() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::at(root.path());
        fs::write(store.file(), "current = 3").expect("written");
        assert_eq!(store.load().expect_err("no text").reason, "INVALID_CONFIG");
        assert_eq!(Store::at("/nonexistent/x").load().expect("empty"), Config::default());
    }
}
