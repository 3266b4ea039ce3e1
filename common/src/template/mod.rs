//! Templates: what an operator writes once so that a workspace takes a few parameters.
//!
//! A template is a document with typed parameters and a body whose texts name them in double
//! braces. [`Template::check`] is asked when it is pushed, so that what workspaces are made from is
//! sound; [`Template::fill`] puts a request's parameters into the body. What a filled body leaves
//! out is the cluster's default, and the whole is a spec that is checked like any other.
//!
//! Nothing here reads a file: the document is parsed by whoever has it.

mod fill;
mod parameter;
mod session;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

pub use fill::{Filled, FilledSession};
pub use parameter::{Kind, Parameter, Value};
pub use session::Session;

use crate::{
    Limits, SessionName,
    spec::{InvalidExtras, Labels, Tool},
};

/// A template as its author wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// What workspaces made from it are for, in a line.
    #[serde(default)]
    pub description: String,
    /// What a request may set, in the order in which people are asked.
    #[serde(default, rename = "parameter")]
    pub parameters: Vec<Parameter>,
    /// What workspaces made from it are.
    #[serde(default)]
    pub workspace: Body,
    /// The sessions of each start, in this order; `main` with a shell where there are none.
    #[serde(default, rename = "session")]
    pub sessions: Vec<Session>,
    /// Tools that are logged in with a secret.
    #[serde(default, rename = "login")]
    pub logins: Vec<ToolLogin>,
    /// Servers that its coding agents may call.
    #[serde(default, rename = "mcp")]
    pub servers: Vec<Server>,
}

/// A tool of a template that is logged in; left out where its secret is one parameter without a
/// value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolLogin {
    /// One of [`Tool::ALL`].
    pub tool: String,
    /// Name of the secret.
    pub secret: String,
    /// Another host than the tool's usual one.
    pub host: Option<String>,
}

/// A server of a template that coding agents may call (MCP).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// What agents call it.
    pub name: String,
    /// Its program.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Variables of its environment, each with the name of the secret whose value it has.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// What a workspace is. Every text may name parameters: `{{repo}}`. One that names a single
/// parameter and nothing else is left out where that has no value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// The container image.
    pub image: Option<String>,
    /// The repository cloned into the home.
    pub repo: Option<String>,
    /// The branch to check out.
    pub branch: Option<String>,
    /// Shell script run in the checkout after the clone; values are quoted for the shell.
    pub setup: Option<String>,
    /// `user.name` of git inside.
    pub git_name: Option<String>,
    /// `user.email` of git inside.
    pub git_email: Option<String>,
    /// Name of the secret that git gives as its password to the repository; `git-token` without it.
    pub git_token: Option<String>,
    /// Hard memory cap, such as `4G`.
    pub memory: Option<String>,
    /// Swap beyond it.
    pub swap: Option<String>,
    /// Memory that placement sets aside.
    pub reserve: Option<String>,
    /// Size of the home.
    pub disk: Option<String>,
    /// Hard processor cap in cores.
    pub cpus: Option<String>,
    /// Share of the processor under contention.
    pub cpu_weight: Option<String>,
    /// Processes and threads, at most.
    pub pids: Option<String>,
    /// Name of the node to run on and no other.
    pub pin: Option<String>,
    /// How strong its walls are at least: `container`, `userns`, `gvisor` or `dedicated`.
    pub isolation: Option<String>,
    /// What happens when its node dies: `auto` or `manual`.
    pub failover: Option<String>,
    /// Labels that its node must carry.
    #[serde(default)]
    pub require_labels: Labels,
    /// Whether browsers get the namespaces of their own sandbox: `true` or `false`.
    #[serde(default, deserialize_with = "flag")]
    pub browser_sandbox: Option<String>,
    /// Labels of the workspace.
    #[serde(default)]
    pub labels: Labels,
}

/// Reads `true`, `false`, or a text that a parameter stands in.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "true, false or \"{{NAME}}\" is taken here")]
    enum Flag {
        Set(bool),
        Text(String),
    }
    Ok(Some(match Flag::deserialize(deserializer)? {
        Flag::Set(set) => set.to_string(),
        Flag::Text(text) => text,
    }))
}

/// Why a document is no template, or why parameters do not fit it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// A parameter's name.
    #[error("{0:?} is no name of a parameter: use a-z, 0-9 and _, with a letter first")]
    Name(String),
    /// A parameter that is there twice.
    #[error("parameter {0} is defined twice")]
    Twice(String),
    /// More than the bound.
    #[error("there are {count} parameters, the limit is {limit}")]
    TooMany {
        /// How many.
        count: usize,
        /// The bound, in [`Limits`].
        limit: usize,
    },
    /// Something about a parameter's definition.
    #[error("parameter {name} {why}")]
    Definition {
        /// Which one.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A text that names a parameter which is not defined.
    #[error("{field} names parameter {name}, which is not defined")]
    Undefined {
        /// Where it stands.
        field: String,
        /// What it names.
        name: String,
    },
    /// A parameter that stands inside quotes of a script or a command.
    #[error("{field} names parameter {name} inside quotes, which those around its value would end")]
    Quoted {
        /// Where it stands.
        field: String,
        /// What it names.
        name: String,
    },
    /// A text that would be longer than the bound with its values.
    #[error("a text of the template with its values has more than {0} bytes")]
    TooLong(usize),
    /// A parameter that no text names.
    #[error("parameter {0} is named nowhere in the template")]
    Unused(String),
    /// A parameter that must be given.
    #[error("parameter {name} is not given{}", meaning(.description))]
    Missing {
        /// Which one.
        name: String,
        /// What it is.
        description: String,
    },
    /// A session.
    #[error("session {name} {why}")]
    Session {
        /// Which one.
        name: SessionName,
        /// What is wrong with it.
        why: String,
    },
    /// A login, a server, or what sessions are together.
    #[error(transparent)]
    Extras(#[from] InvalidExtras),
    /// A text that is to be a secret's name.
    #[error("{field} is {text:?}, which is no name of a secret")]
    Secret {
        /// Where it stands.
        field: String,
        /// What stands there.
        text: String,
    },
    /// A parameter that the template does not have.
    #[error("the template has no parameter {0:?}")]
    Unknown(String),
    /// A value that its parameter does not take.
    #[error("parameter {name} {why}")]
    Value {
        /// Which one.
        name: String,
        /// What it takes.
        why: String,
    },
}

fn meaning(description: &str) -> String {
    if description.is_empty() { String::new() } else { format!(": {description}") }
}

impl Template {
    /// Checks that the template is sound whatever values it is given.
    ///
    /// # Errors
    /// Returns the first thing that is wrong with it.
    pub fn check(&self) -> Result<(), InvalidTemplate> {
        let (count, limit) = (self.parameters.len(), Limits::TEMPLATE_PARAMETERS);
        if count > limit {
            return Err(InvalidTemplate::TooMany { count, limit });
        }
        let mut known = BTreeSet::new();
        for parameter in &self.parameters {
            parameter.check()?;
            if !known.insert(parameter.name.as_str()) {
                return Err(InvalidTemplate::Twice(parameter.name.clone()));
            }
        }
        let mut used = BTreeSet::new();
        for (field, text) in self.texts() {
            for name in fill::names(text) {
                if !known.contains(name) {
                    let name = name.to_owned();
                    return Err(InvalidTemplate::Undefined { field, name });
                }
                used.insert(name);
            }
        }
        self.check_quotes()?;
        self.check_extras()?;
        match known.difference(&used).next() {
            Some(unused) => Err(InvalidTemplate::Unused((*unused).to_owned())),
            None => Ok(()),
        }
    }

    /// What is fixed of sessions, logins and servers must be good; what parameters say is looked at
    /// with their values.
    fn check_extras(&self) -> Result<(), InvalidTemplate> {
        for login in &self.logins {
            login.tool.parse::<Tool>()?;
        }
        let fixed = |text: &str, other: &str| match fill::names(text).next() {
            Some(_) => other.to_owned(),
            None => text.to_owned(),
        };
        let login = |login: &ToolLogin| ToolLogin {
            tool: login.tool.clone(),
            secret: fixed(&login.secret, "x"),
            host: login.host.as_deref().map(|host| fixed(host, "h")),
        };
        let server = |server: &Server| Server {
            name: server.name.clone(),
            command: fixed(&server.command, "x"),
            args: server.args.iter().map(|arg| fixed(arg, "x")).collect(),
            env: server.env.iter().map(|(key, text)| (key.clone(), fixed(text, "x"))).collect(),
        };
        self.sessions.iter().try_for_each(Session::check)?;
        let plain = Self {
            sessions: self.sessions.iter().map(Session::fixed).collect(),
            logins: self.logins.iter().map(login).collect(),
            servers: self.servers.iter().map(server).collect(),
            ..Self::default()
        };
        plain.fill(&BTreeMap::new()).map(drop)
    }

    /// Values stand in shell texts with quotes of their own.
    fn check_quotes(&self) -> Result<(), InvalidTemplate> {
        let setup =
            self.workspace.setup.as_deref().map(|text| ("workspace.setup".to_owned(), text));
        let commands = self.sessions.iter().filter_map(|session| {
            let field = format!("command of session {}", session.name);
            Some((field, session.command.as_deref()?))
        });
        let raw = |name: &str| self.parameters.iter().any(|one| one.raw && one.name == name);
        for (field, text) in setup.into_iter().chain(commands) {
            if let Some(name) = fill::in_quotes(text).filter(|name| !raw(name)) {
                return Err(InvalidTemplate::Quoted { field, name: name.to_owned() });
            }
        }
        Ok(())
    }

    /// Every text that may name parameters, with where it stands.
    fn texts(&self) -> impl Iterator<Item = (String, &str)> {
        let body = &self.workspace;
        let fields = [
            ("workspace.image", &body.image),
            ("workspace.repo", &body.repo),
            ("workspace.branch", &body.branch),
            ("workspace.setup", &body.setup),
            ("workspace.git_name", &body.git_name),
            ("workspace.git_email", &body.git_email),
            ("workspace.git_token", &body.git_token),
            ("workspace.memory", &body.memory),
            ("workspace.swap", &body.swap),
            ("workspace.reserve", &body.reserve),
            ("workspace.disk", &body.disk),
            ("workspace.cpus", &body.cpus),
            ("workspace.cpu_weight", &body.cpu_weight),
            ("workspace.pids", &body.pids),
            ("workspace.pin", &body.pin),
            ("workspace.isolation", &body.isolation),
            ("workspace.failover", &body.failover),
            ("workspace.browser_sandbox", &body.browser_sandbox),
        ];
        let fields = fields.into_iter().map(|(field, text)| (field.to_owned(), text.as_deref()));
        let labels = body.labels.iter();
        let labels =
            labels.map(|(key, text)| (format!("workspace.labels.{key}"), Some(text.as_str())));
        let required = body.require_labels.iter();
        let required = required
            .map(|(key, text)| (format!("workspace.require_labels.{key}"), Some(text.as_str())));
        let labels = labels.chain(required);
        let sessions = self.sessions.iter().flat_map(Session::texts);
        let logins = self.logins.iter().flat_map(|login| {
            let field = |what: &str| format!("{what} of login {}", login.tool);
            let secret = (field("secret"), Some(login.secret.as_str()));
            [secret, (field("host"), login.host.as_deref())]
        });
        let servers = self.servers.iter().flat_map(|server| {
            let field = move |what: &str| format!("{what} of mcp {}", server.name);
            let command = [(field("command"), Some(server.command.as_str()))].into_iter();
            let args = server.args.iter().map(move |arg| (field("args"), Some(arg.as_str())));
            let env = server.env.iter();
            let env =
                env.map(move |(key, text)| (field(&format!("env {key}")), Some(text.as_str())));
            command.chain(args).chain(env)
        });
        let all = fields.chain(labels).chain(sessions).chain(logins).chain(servers);
        all.filter_map(|(field, text)| Some((field, text?)))
    }
}
