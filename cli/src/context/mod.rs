//! Contexts: the clusters this machine knows, with a person's key and certificate for each.
//!
//! `config.toml` names them; each identity lies in a folder of its own below `contexts/`. A new
//! identity is written completely into a new folder first, and the rename of `config.toml` makes
//! it the one in use, so a crash leaves the old or the new one, never half of each.

mod store;

use std::{collections::BTreeMap, env, path::PathBuf};

use serde::{Deserialize, Serialize};

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
    pub(crate) cluster_id: String,
    /// host:port of each coordinator, tried in this order.
    pub(crate) coordinators: Vec<String>,
    /// The name in our certificate.
    pub(crate) person: String,
    /// Folder of key, certificate and trust, below the configuration folder.
    pub(crate) identity: PathBuf,
    /// The socket over which the cluster was made from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<PathBuf>,
}

/// Key, certificate and trust as PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) key: String,
    pub(crate) certificate: String,
    pub(crate) trust: String,
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

    /// Returns the named context, or the current one, with its name.
    ///
    /// # Errors
    /// Not found, with what to do, where there is none of this name or none at all.
    pub(crate) fn choose(&self, name: Option<&str>) -> Result<(String, Context), Error> {
        let mut config = self.load()?;
        let current = config.current.take();
        let Some(name) = name.map(str::to_owned).or(current) else {
            return Err(Error::new(Kind::NotFound, "NO_CONTEXT", "no cluster is known here")
                .why(format!("{} names none", self.file().display()))
                .next(
                    "warren cluster init --name NAME on the coordinator's machine, \
                     or warren context use NAME",
                ));
        };
        match config.contexts.remove(&name) {
            Some(context) => Ok((name, context)),
            None => Err(Error::new(
                Kind::NotFound,
                "NO_CONTEXT",
                format!("no context is named {name:?}"),
            )
            .why(match config.contexts.is_empty() {
                true => "there are none".to_owned(),
                false => format!(
                    "there are: {}",
                    config.contexts.keys().cloned().collect::<Vec<_>>().join(", ")
                ),
            })
            .next("warren context list")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_that_is_not_there_says_which_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::at(folder.path());
        assert_eq!(store.choose(None).expect_err("none").kind, Kind::NotFound);
        let context = Context {
            cluster: "demo".to_owned(),
            cluster_id: "x".to_owned(),
            coordinators: vec!["127.0.0.1:7400".to_owned()],
            person: "ann".to_owned(),
            identity: PathBuf::from("contexts/demo/1"),
            socket: None,
        };
        let contexts = BTreeMap::from([("demo".to_owned(), context.clone())]);
        store.save(&Config { current: Some("demo".to_owned()), contexts }).expect("saved");
        assert_eq!(store.choose(None).expect("current"), ("demo".to_owned(), context));
        let error = store.choose(Some("prod")).expect_err("none of this name");
        assert_eq!(error.why.as_deref(), Some("there are: demo"));
    }
}
