//! What was asked for: the spec of a workspace, and the document that tells a node what to run.
//!
//! A spec is complete and validated before it enters the model; defaults are filled in at the API
//! edge from the template. What was *decided* lives in the model, what was *seen* in
//! [`crate::status`].

mod destination;
mod extra_session;
mod extras;
mod order;
mod policy;
mod repo;
mod resources;
mod session;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

pub use destination::{Destination, InvalidDestination, NEVER, Transport};
pub use extras::{Extras, InvalidExtras, Login, McpServer, Tool};
pub use order::{HeldOrder, NodeSpec, Permit, Run, WorkspaceOrder};
pub use policy::NotOneOf;
pub use repo::{InvalidRepo, RepoUrl};
pub use resources::{InvalidResources, Resources};
pub use session::{
    AgentProgram, Permissions, SessionOrder, SessionProgram, SessionWish, shell_line,
};

use crate::{Limits, NodeId, SecretName, SessionName};

/// Labels of an object: key to value, both at most [`Limits::LABEL_BYTES`], in key order.
pub type Labels = BTreeMap<String, String>;

/// The whole of what was asked for one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceSpec {
    /// The template the spec was made from, with its version: `agent@3`; `base` is built in.
    pub template: String,
    /// The container image, by tag or digest, present on or pullable by the node.
    pub image: String,
    /// The repository cloned into the home, inside the workspace.
    pub repo: Option<RepoUrl>,
    /// The branch to check out; the repository's default without it.
    pub branch: Option<String>,
    /// A shell script run in the checkout after the clone, as the workspace's user.
    pub setup: Option<String>,
    /// Who commits are by.
    pub git_identity: Option<GitIdentity>,
    /// The sessions made at each start, in this order; names are unique.
    pub sessions: Vec<SessionSpec>,
    /// Caps and weights.
    pub resources: Resources,
    /// Where it may run.
    pub placement: PlacementRules,
    /// What happens when its node dies.
    pub failover: Failover,
    /// The operator's own labels.
    pub labels: Labels,
}

/// The label that names the secret which git gives as its password, where it is another than
/// [`GIT_TOKEN`].
pub const GIT_TOKEN_LABEL: &str = "warren.git-token";
/// The secret that git gives as its password to the workspace's repository.
pub const GIT_TOKEN: &str = "git-token";
/// The label that says whether browsers get the namespaces of their own sandbox: [`ON`] or [`OFF`]. It
/// is a label since the layout of a spec is that of every log, and off where it is not there.
pub const BROWSER_SANDBOX_LABEL: &str = "warren.browser-sandbox";
/// The value of a label for yes.
pub const ON: &str = "on";
/// The value of a label for no.
pub const OFF: &str = "off";
/// Where a workspace finds the files of its secrets.
pub const SECRETS_FOLDER: &str = "/run/secrets";

/// `user.name` and `user.email` of git inside the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitIdentity {
    /// `user.name`.
    pub name: String,
    /// `user.email`.
    pub email: String,
}

/// One session as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// Its name, `main` for the first by default.
    pub name: SessionName,
    /// The command line run by a login shell; the shell itself without it.
    pub command: Option<String>,
}

/// Where a workspace may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlacementRules {
    /// This node and no other.
    pub pin: Option<NodeId>,
    /// Labels the node must carry, with these values.
    pub required_labels: Labels,
    /// How strong its walls must be.
    pub tier: IsolationTier,
}

/// How strong the walls around a workspace are, weakest first.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum IsolationTier {
    /// A hardened container.
    #[default]
    Container,
    /// The same on a node whose engine remaps user ids.
    UserNamespace,
    /// The gVisor runtime.
    Gvisor,
    /// A node of the client's own.
    Dedicated,
}

impl IsolationTier {
    /// Returns the word used on the command line and the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::UserNamespace => "userns",
            Self::Gvisor => "gvisor",
            Self::Dedicated => "dedicated",
        }
    }
}

impl fmt::Display for IsolationTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// What was asked to happen when the node dies. Until a fence exists every workspace is
/// effectively `Manual`, and says so.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Failover {
    /// Freeze on lost lease, come back elsewhere.
    #[default]
    Auto,
    /// Keep running; move only when a person confirms the node dead.
    Manual,
}

/// Why a spec is refused: one sentence naming the field, the value and the bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// A field is longer than its bound.
    #[error("{field} has {size} bytes, the limit is {limit}")]
    TooLong {
        /// The field's name on the command line.
        field: &'static str,
        /// Its size.
        size: usize,
        /// The bound, in [`Limits`].
        limit: usize,
    },
    /// More items than the bound.
    #[error("{count} {field} are more than the limit of {limit}")]
    TooMany {
        /// The plural noun.
        field: &'static str,
        /// How many there were.
        count: usize,
        /// The bound, in [`Limits`].
        limit: usize,
    },
    /// A field that must not be empty.
    #[error("{field} is empty")]
    Empty {
        /// The field's name on the command line.
        field: &'static str,
    },
    /// A character that would not survive a command line or a terminal.
    #[error("{field} holds a control character")]
    Control {
        /// The field's name on the command line.
        field: &'static str,
    },
    /// A branch that git would read as an option or refuse.
    #[error("{0:?} is not a branch name")]
    Branch(String),
    /// Two sessions of one name.
    #[error("session {0} is named twice")]
    DuplicateSession(SessionName),
    /// A prompt without an agent to type it into.
    #[error("--prompt is for agents, and a command is none")]
    NoAgent,
    /// The caps do not fit together.
    #[error(transparent)]
    Resources(#[from] InvalidResources),
}

impl WorkspaceSpec {
    /// Returns the name of the secret that git gives as its password to the repository.
    pub fn git_token(&self) -> &str {
        self.labels.get(GIT_TOKEN_LABEL).map_or(GIT_TOKEN, String::as_str)
    }

    /// Returns every session as it is before anybody asks otherwise, with what its command line does
    /// not say.
    pub fn orders(&self) -> Vec<SessionOrder> {
        let extras = Extras::split(self.setup.as_deref().unwrap_or_default()).0;
        let order = |one: &SessionSpec| SessionOrder {
            program: SessionProgram::of(one, &extras),
            ..SessionOrder::of_spec(one)
        };
        self.sessions.iter().map(order).collect()
    }

    /// Whether browsers may keep their pages in by a sandbox of their own, which is made of namespaces.
    pub fn browser_sandbox(&self) -> bool {
        self.labels.get(BROWSER_SANDBOX_LABEL).is_some_and(|value| value == ON)
    }

    /// Whether the spec names a secret: for git, for a tool's login, for a server of its agents, or by
    /// the path of its file.
    pub fn names_secret(&self, name: &SecretName) -> bool {
        // a server's arguments name files, too
        let setup = self.setup.as_deref().unwrap_or_default();
        let (extras, _) = Extras::split(setup);
        let in_text = |text: &str| names_file(text, name);
        let mut commands = self.sessions.iter().filter_map(|one| one.command.as_deref());
        self.git_token() == name.as_str()
            || extras.secrets().contains(name)
            || in_text(setup)
            || commands.any(in_text)
    }

    /// Checks every field against its bound; the repository and the names checked themselves when
    /// they were read.
    ///
    /// # Errors
    /// Returns the first field that breaks its rule.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        plain("--template", &self.template, Limits::TEMPLATE_REFERENCE_BYTES)?;
        plain("--image", &self.image, Limits::LABEL_BYTES)?;
        if let Some(branch) = &self.branch {
            validate_branch(branch)?;
        }
        if let Some(setup) = &self.setup {
            bounded("--setup", setup.len(), Limits::SETUP_BYTES)?;
        }
        if let Some(identity) = &self.git_identity {
            plain("--git-name", &identity.name, Limits::LABEL_BYTES)?;
            plain("--git-email", &identity.email, Limits::LABEL_BYTES)?;
        }
        validate_sessions(&self.sessions)?;
        validate_labels("labels", &self.labels)?;
        validate_labels("required labels", &self.placement.required_labels)?;
        self.resources.validate()?;
        Ok(())
    }
}

/// Whether a text names a secret by the path of its file.
pub fn names_file(text: &str, name: &SecretName) -> bool {
    let file = format!("{SECRETS_FOLDER}/{name}");
    let goes_on = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = text.match_indices(&file).map(|(at, _)| at + file.len());
    let mut whole = ends.map(|end| text.as_bytes().get(end).copied());
    whole.any(|next| !next.is_some_and(goes_on))
}

/// Checks the number and the sizes of labels.
///
/// # Errors
/// Returns the first label that breaks a bound.
pub fn validate_labels(field: &'static str, labels: &Labels) -> Result<(), InvalidSpec> {
    if labels.len() > Limits::LABELS {
        return Err(InvalidSpec::TooMany { field, count: labels.len(), limit: Limits::LABELS });
    }
    for (key, value) in labels {
        plain("a label's key", key, Limits::LABEL_BYTES)?;
        bounded("a label's value", value.len(), Limits::LABEL_BYTES)?;
        if value.chars().any(char::is_control) {
            return Err(InvalidSpec::Control { field: "a label's value" });
        }
    }
    Ok(())
}

fn validate_sessions(sessions: &[SessionSpec]) -> Result<(), InvalidSpec> {
    if sessions.len() > Limits::SESSIONS {
        let count = sessions.len();
        return Err(InvalidSpec::TooMany { field: "sessions", count, limit: Limits::SESSIONS });
    }
    for (index, session) in sessions.iter().enumerate() {
        if sessions[..index].iter().any(|earlier| earlier.name == session.name) {
            return Err(InvalidSpec::DuplicateSession(session.name.clone()));
        }
        if let Some(command) = &session.command {
            plain("a session's command", command, Limits::SESSION_COMMAND_BYTES)?;
        }
    }
    Ok(())
}

fn validate_branch(branch: &str) -> Result<(), InvalidSpec> {
    plain("--branch", branch, Limits::LABEL_BYTES)?;
    let odd = |c: char| c.is_whitespace() || "~^:?*[\\".contains(c);
    if branch.starts_with('-') || branch.contains("..") || branch.chars().any(odd) {
        return Err(InvalidSpec::Branch(branch.to_owned()));
    }
    Ok(())
}

fn bounded(field: &'static str, size: usize, limit: usize) -> Result<(), InvalidSpec> {
    if size > limit { Err(InvalidSpec::TooLong { field, size, limit }) } else { Ok(()) }
}

fn plain(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidSpec> {
    bounded(field, text.len(), limit)?;
    if text.trim().is_empty() {
        return Err(InvalidSpec::Empty { field });
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidSpec::Control { field });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bytes;

    fn spec() -> WorkspaceSpec {
        WorkspaceSpec {
            template: "base".to_owned(),
            image: "warren-workspace:latest".to_owned(),
            repo: None,
            branch: None,
            setup: None,
            git_identity: None,
            sessions: Vec::new(),
            resources: Resources::with_memory(Bytes::gib(1)),
            placement: PlacementRules::default(),
            failover: Failover::Auto,
            labels: Labels::new(),
        }
    }

    #[test]
    fn a_spec_names_a_secret_where_it_needs_it() {
        let name = |text: &str| text.parse::<SecretName>().expect("a name");
        let mut spec = spec();
        assert!(spec.names_secret(&name("git-token")) && !spec.names_secret(&name("web")));
        spec.setup = Some("cat /run/secrets/web-token /run/secrets/web".to_owned());
        assert!(spec.names_secret(&name("web")) && spec.names_secret(&name("web-token")));
        assert!(!spec.names_secret(&name("we")) && !spec.names_secret(&name("web-t")));
        let (tool, secret) = (Tool::Npm, name("deploy"));
        let server = McpServer {
            name: "docs".to_owned(),
            command: "docs".to_owned(),
            args: vec!["--token-file=/run/secrets/docs".to_owned()],
            env: BTreeMap::new(),
        };
        let extras = Extras {
            logins: vec![Login { tool, secret: secret.clone(), host: None }],
            servers: vec![server],
            sessions: Vec::new(),
        };
        spec.setup = extras.before(None);
        assert!(spec.names_secret(&secret) && !spec.names_secret(&name("web")));
        assert!(spec.names_secret(&name("docs")) && !spec.names_secret(&name("doc")));
        spec.labels.insert(GIT_TOKEN_LABEL.to_owned(), "other".to_owned());
        assert!(spec.names_secret(&name("other")) && !spec.names_secret(&name("git-token")));
    }

    #[test]
    fn a_browser_has_its_sandbox_where_that_is_on_and_nowhere_else() {
        let mut spec = spec();
        assert!(!spec.browser_sandbox());
        for (value, on) in [(ON, true), (OFF, false), ("", false), ("true", false)] {
            spec.labels.insert(BROWSER_SANDBOX_LABEL.to_owned(), value.to_owned());
            assert_eq!(spec.browser_sandbox(), on, "{value:?}");
        }
    }

    #[test]
    fn setup_at_the_limit_and_one_past_it() {
        let mut spec = spec();
        spec.setup = Some("x".repeat(Limits::SETUP_BYTES));
        assert_eq!(spec.validate(), Ok(()));
        spec.setup = Some("x".repeat(Limits::SETUP_BYTES + 1));
        assert!(matches!(spec.validate(), Err(InvalidSpec::TooLong { field: "--setup", .. })));
    }

    #[test]
    fn labels_at_the_limit_and_one_past_it() {
        let mut spec = spec();
        spec.labels = [("k".repeat(256), "v".repeat(256))].into();
        assert_eq!(spec.validate(), Ok(()));
        spec.labels = [("k".to_owned(), "v".repeat(257))].into();
        assert!(matches!(spec.validate(), Err(InvalidSpec::TooLong { size: 257, limit: 256, .. })));
        spec.labels = (0..32).map(|n| (n.to_string(), String::new())).collect();
        assert_eq!(spec.validate(), Ok(()));
        spec.labels = (0..33).map(|n| (n.to_string(), String::new())).collect();
        assert!(matches!(spec.validate(), Err(InvalidSpec::TooMany { count: 33, .. })));
    }

    #[test]
    fn a_session_is_named_once() {
        let mut spec = spec();
        let main = SessionSpec { name: "main".parse().expect("a name"), command: None };
        spec.sessions = vec![main.clone(), main];
        assert!(matches!(spec.validate(), Err(InvalidSpec::DuplicateSession(_))));
    }

    #[test]
    fn branches_that_git_would_misread_are_refused() {
        let mut spec = spec();
        for odd in ["-f", "a..b", "a b", "a:b", "", "a\nb"] {
            spec.branch = Some(odd.to_owned());
            assert!(spec.validate().is_err(), "{odd:?} passed");
        }
        spec.branch = Some("feature/x-1".to_owned());
        assert_eq!(spec.validate(), Ok(()));
    }
}
