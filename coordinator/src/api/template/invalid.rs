//! Why a request makes no workspace, and what to do about it.

use std::fmt::Write as _;

use warren_common::{
    SessionName,
    spec::{InvalidRepo, InvalidSpec},
    template::InvalidTemplate,
};

use super::{BASE, PARAMETERS};

/// Why a request makes no workspace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// No template of this name.
    #[error("there is no template {name:?}")]
    Template {
        /// What was named, cut.
        name: String,
        /// Some that there are, beside [`BASE`].
        known: Vec<String>,
    },
    /// A template that an earlier version let in and this one does not understand.
    #[error("template {reference} cannot be read: {why}")]
    Document {
        /// Its name and version.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
    /// Parameters that do not fit a template.
    #[error("template {reference}: {why}")]
    Filled {
        /// Its name and version.
        reference: String,
        /// What does not fit.
        #[source]
        why: InvalidTemplate,
        /// Its parameters.
        known: Vec<String>,
    },
    /// A node that a template pins to and that is not there.
    #[error("the template pins to node {name:?}, and there is none of this name")]
    Pin {
        /// What was named, cut.
        name: String,
    },
    /// A session with a branch, without a repository to take it from.
    #[error("session {0} has a branch, and there is no repository to take it from")]
    SessionBranch(SessionName),
    /// A cap of a template that is no amount.
    #[error("{field} of the template: {why}")]
    Amount {
        /// The field of the document.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A parameter the template does not have.
    #[error("template {BASE} has no parameter {name:?}{}", nearest_text(*nearest))]
    Parameter {
        /// What was given, cut.
        name: String,
        /// The known one that is spelt most alike.
        nearest: Option<&'static str>,
    },
    /// A parameter without a value.
    #[error("parameter {0} is empty")]
    Empty(&'static str),
    /// A repository that cannot or may not be cloned.
    #[error(transparent)]
    Repo(#[from] InvalidRepo),
    /// Only one half of the git identity.
    #[error("parameters git_name and git_email go together, {0} is missing")]
    Identity(&'static str),
    /// Something that needs a repository, without one.
    #[error("parameter branch needs parameter repo")]
    BranchWithoutRepo,
    /// A parameter names a secret that the workspace would not find.
    #[error("a parameter names no secret of the client's vault or the shared one")]
    Secret,
    /// The template's `git_token`.
    #[error("git_token of the template takes the name of a secret")]
    GitToken,
    /// The template's `browser_sandbox`, or the label it becomes.
    #[error("the browser sandbox is not on or off: browser_sandbox takes true or false")]
    BrowserSandbox,
    /// The whole breaks a rule.
    #[error(transparent)]
    Spec(#[from] InvalidSpec),
}

fn nearest_text(nearest: Option<&'static str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

impl InvalidRequest {
    /// Returns the stable reason of the API.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Template { .. } => "UNKNOWN_TEMPLATE",
            Self::Document { .. } => "INVALID_TEMPLATE",
            Self::Filled { why: InvalidTemplate::Unknown(_), .. } => "UNKNOWN_PARAMETER",
            Self::Filled { .. } | Self::Amount { .. } | Self::Pin { .. } => "INVALID_PARAMETER",
            Self::SessionBranch(_) => "INVALID_PARAMETER",
            Self::Parameter { .. } => "UNKNOWN_PARAMETER",
            Self::Repo(InvalidRepo::Credentials) => "REPO_CREDENTIALS",
            Self::Repo(
                InvalidRepo::TooLong(_) | InvalidRepo::Scheme(_) | InvalidRepo::Malformed(_),
            ) => "INVALID_REPO",
            Self::Empty(_)
            | Self::Identity(_)
            | Self::BranchWithoutRepo
            | Self::GitToken
            | Self::BrowserSandbox => "INVALID_PARAMETER",
            Self::Secret => "UNKNOWN_SECRET",
            Self::Spec(InvalidSpec::Resources(_)) => "INVALID_RESOURCES",
            Self::Spec(
                InvalidSpec::TooLong { .. }
                | InvalidSpec::TooMany { .. }
                | InvalidSpec::Empty { .. }
                | InvalidSpec::Control { .. }
                | InvalidSpec::Branch(_)
                | InvalidSpec::DuplicateSession(_)
                | InvalidSpec::NoAgent,
            ) => "INVALID_SPEC",
        }
    }

    /// Returns what to do about it, where more can be said than the sentence does.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Template { known, .. } if known.is_empty() => Some(format!(
                "leave --template out, or write --template {BASE}; warren template push adds others"
            )),
            Self::Template { known, .. } => {
                Some(format!("there are {BASE}, {}; warren template list", known.join(", ")))
            }
            Self::Document { .. } => Some("push a version that this one understands".to_owned()),
            Self::Filled { why, known, .. } => Self::known_of(why, known),
            Self::Parameter { .. } => Some(known_parameters()),
            Self::Repo(InvalidRepo::Credentials) => Some(
                "give the URL without user and password, and the password as a secret: warren secret \
                 set CLIENT git-token"
                    .to_owned(),
            ),
            Self::Repo(InvalidRepo::Scheme(_)) => Some(
                "give the repository's https:// URL, such as https://git.example/acme/web.git"
                    .to_owned(),
            ),
            Self::Secret => Some(
                "set it first: warren secret set CLIENT NAME; or give the value where nobody sees it: \
                 --param NAME=@FILE, NAME=@- or NAME=env:VARIABLE"
                    .to_owned(),
            ),
            Self::Pin { .. } => Some("name one of warren node list".to_owned()),
            Self::Identity(missing) => Some(format!("add --param {missing}=…")),
            Self::Empty(name) => Some(format!("leave --param {name} out, or give it a value")),
            Self::Repo(InvalidRepo::TooLong(_) | InvalidRepo::Malformed(_))
            | Self::BranchWithoutRepo
            | Self::GitToken
            | Self::SessionBranch(_)
            | Self::BrowserSandbox
            | Self::Amount { .. }
            | Self::Spec(_) => None,
        }
    }
}

fn known_parameters() -> String {
    let mut text = String::from("the parameters are ");
    for (index, (name, meaning)) in PARAMETERS.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        // writing to a String cannot fail
        let _ = write!(text, "{comma}{name} ({meaning})");
    }
    text
}
