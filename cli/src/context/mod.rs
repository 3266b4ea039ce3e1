//! Contexts: the clusters this machine knows, with a person's key and certificate for each.
//!
//! `config.toml` names them; the identity of each lies in `contexts/<name>/`, kept by
//! [`warren_daemon::identity::Folder`]. All of it is private (0600 in 0700) and replaced whole.

use std::{collections::BTreeMap, env, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use warren_daemon::{
    files,
    identity::{Folder, Identity},
};

use crate::error::{Error, Kind};

/// Everything in `config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The context used where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One cluster and who we are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// The cluster's own name.
    pub(crate) cluster: String,
    /// Its id.
    pub(crate) cluster_id: String,
    /// host:port of each coordinator, tried in this order.
    pub(crate) coordinators: Vec<String>,
    /// The name in our certificate.
    pub(crate) person: String,
    /// The socket over which the cluster was made from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<PathBuf>,
    /// The id of the invitation that it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) invitation: Option<String>,
}

impl Context {
    /// Names what is known of a cluster before it has answered, for errors.
    pub(crate) fn unanswered(cluster: &str, person: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            cluster_id: String::new(),
            coordinators: Vec::new(),
            person: person.to_owned(),
            socket: None,
            invitation: None,
        }
    }
}

/// Where contexts are kept.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    /// Finds the folder: `WARREN_CONFIG_DIR`, else `warren` below `XDG_CONFIG_HOME` or
    /// `~/.config`. It need not exist.
    ///
    /// # Errors
    /// Usage where none of the variables is set.
    pub(crate) fn locate() -> Result<Self, Error> {
        let variable = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = variable("WARREN_CONFIG_DIR")
            .or_else(|| variable("XDG_CONFIG_HOME").map(|root| root.join("warren")))
            .or_else(|| variable("HOME").map(|home| home.join(".config/warren")));
        root.map(|root| Self { root }).ok_or_else(|| {
            Error::usage("there is no folder for contexts")
                .why("neither WARREN_CONFIG_DIR nor HOME is set")
                .next("set WARREN_CONFIG_DIR to a folder of your own")
        })
    }

    #[cfg(test)]
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

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
        let text = files::read_private(&path).map_err(|error| local(&error))?;
        toml::from_str(&text.unwrap_or_default()).map_err(|error| {
            let message = format!("{} cannot be understood", path.display());
            Error::new(Kind::Failed, "INVALID_CONFIG", message)
                .why(error.message().to_owned())
                .next("mend the file, or move it away and run warren cluster init again")
        })
    }

    /// Replaces `config.toml` in one step.
    ///
    /// # Errors
    /// Where it cannot be written; the old one is then still there.
    pub(crate) fn save(&self, config: &Config) -> Result<(), Error> {
        let text = toml::to_string(config).map_err(|error| {
            Error::new(Kind::Failed, "INVALID_CONFIG", "the contexts cannot be encoded")
                .why(error.to_string())
        })?;
        files::private_folder(&self.root)
            .and_then(|()| files::write_atomic(&self.file(), text.as_bytes(), 0o600))
            .map_err(|error| local(&error))
    }

    /// Stores a context under this name and makes it the current one.
    ///
    /// # Errors
    /// Where `config.toml` cannot be read or written.
    pub(crate) fn adopt(&self, name: &str, context: &Context) -> Result<(), Error> {
        let mut config = self.load()?;
        config.contexts.insert(name.to_owned(), context.clone());
        config.current = Some(name.to_owned());
        self.save(&config)
    }

    /// Returns the named context, or the current one, with its name.
    ///
    /// # Errors
    /// Not found, with what to do, where there is none of this name or none at all.
    pub(crate) fn choose(&self, name: Option<&str>) -> Result<(String, Context), Error> {
        let mut config = self.load()?;
        let current = config.current.take();
        let missing = |message| Error::new(Kind::NotFound, "NO_CONTEXT", message);
        let Some(name) = name.map(str::to_owned).or(current) else {
            return Err(missing("no cluster is known here".to_owned())
                .why(format!("{} names none", self.file().display()))
                .next("run warren cluster init --name NAME on the coordinator's machine"));
        };
        if let Some(context) = config.contexts.remove(&name) {
            return Ok((name, context));
        }
        let names: Vec<String> = config.contexts.into_keys().collect();
        let why = match names.is_empty() {
            true => "there are none".to_owned(),
            false => format!("there are: {}", names.join(", ")),
        };
        Err(missing(format!("no context is named {name:?}")).why(why).next("warren context list"))
    }

    /// Returns the folder of a context's identity, made where it is missing. The name is safe as
    /// a folder's: it is checked like every other name before it gets here.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(crate) fn folder(&self, name: &str) -> Result<Folder, Error> {
        Folder::open(self.root.join("contexts").join(name)).map_err(|error| local(&error))
    }

    /// Removes the folder of an identity that is not needed any more.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub(crate) fn forget(&self, name: &str) -> Result<(), Error> {
        let path = self.root.join("contexts").join(name);
        match fs::remove_dir_all(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                Err(local(&files::FileError::Io { action: "remove", path, source: error }))
            }
        }
    }

    /// Reads the identity of a context.
    ///
    /// # Errors
    /// Where it is missing or damaged.
    pub(crate) fn identity(&self, name: &str, context: &Context) -> Result<Identity, Error> {
        let next = format!(
            "warren cluster init --name {} on the coordinator's machine makes a fresh one",
            context.cluster
        );
        let loaded = self.folder(name)?.load();
        loaded.map_err(|error| local(&error).next(next.clone()))?.ok_or_else(|| {
            let message = format!("the certificate of context {name} is missing");
            Error::new(Kind::NotFound, "NO_IDENTITY", message).next(next)
        })
    }
}

/// Makes an error of a local file or identity, with its causes.
pub(crate) fn local(error: &(dyn std::error::Error + 'static)) -> Error {
    let message = error.to_string();
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    let error = Error::new(Kind::Failed, "LOCAL_IO", message);
    if causes.is_empty() { error } else { error.why(causes.join(": ")) }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn context() -> Context {
        Context {
            cluster: "demo".to_owned(),
            cluster_id: "x".to_owned(),
            coordinators: vec!["127.0.0.1:7400".to_owned()],
            person: "ann".to_owned(),
            socket: None,
            invitation: None,
        }
    }

    #[test]
    fn a_context_that_is_not_there_says_which_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::at(folder.path().join("new"));
        assert_eq!(store.load().expect("nothing known"), Config::default());
        assert_eq!(store.choose(None).expect_err("none").kind, Kind::NotFound);
        let contexts = BTreeMap::from([("demo".to_owned(), context())]);
        store.save(&Config { current: Some("demo".to_owned()), contexts }).expect("saved");
        let mode = fs::metadata(store.file()).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(store.choose(None).expect("current"), ("demo".to_owned(), context()));
        let error = store.choose(Some("prod")).expect_err("none of this name");
        assert_eq!(error.why.as_deref(), Some("there are: demo"));
        let error = store.identity("demo", &context()).err().expect("no identity");
        assert_eq!(error.reason, "NO_IDENTITY");
    }

    #[test]
    fn a_file_of_others_is_refused_with_its_cause() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::at(root.path());
        files::write_atomic(&store.file(), b"current = 3", 0o600).expect("written");
        assert_eq!(store.load().expect_err("no text").reason, "INVALID_CONFIG");
    }
}
