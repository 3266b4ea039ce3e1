//! Where a workspace's repository is cloned from.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Limits;

/// An `http`, `https` or `git` URL without credentials, safe to show and to hand to git.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoUrl(String);

/// Why a text is not a repository's URL. Never repeats the URL itself where it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRepo {
    /// Longer than [`Limits::URL_BYTES`].
    #[error("the repository URL has {0} bytes, the limit is {limit}", limit = Limits::URL_BYTES)]
    TooLong(usize),
    /// A user name, password or token before the host.
    #[error(
        "the repository URL holds credentials; they would be readable in the workspace and in logs"
    )]
    Credentials,
    /// A scheme that cannot work or would read the host.
    #[error("the repository URL's scheme is {0:?}; use https://, http:// or git://")]
    Scheme(String),
    /// No host, or characters that no URL has.
    #[error("the repository URL is malformed: {0}")]
    Malformed(&'static str),
}

impl RepoUrl {
    /// Returns the URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the folder a clone goes into: the last part of the path without `.git`, or `repo`.
    pub fn folder(&self) -> String {
        let path = self.0.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let last = path.rsplit('/').next().unwrap_or_default();
        let name = last.strip_suffix(".git").unwrap_or(last);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        match name.starts_with(['.', '-']) || name.is_empty() || !name.chars().all(plain) {
            true => "repo".to_owned(),
            false => name.to_owned(),
        }
    }
}

impl FromStr for RepoUrl {
    type Err = InvalidRepo;
    fn from_str(text: &str) -> Result<Self, InvalidRepo> {
        if text.len() > Limits::URL_BYTES {
            return Err(InvalidRepo::TooLong(text.len()));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(InvalidRepo::Malformed("it holds white space or control characters"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            // `user@host:path` is ssh in its short form
            return Err(match text.split_once('@') {
                Some(_) => InvalidRepo::Scheme("ssh".to_owned()),
                None => InvalidRepo::Malformed("it has no scheme, such as https://"),
            });
        };
        if !["https", "http", "git"].contains(&scheme) {
            return Err(InvalidRepo::Scheme(scheme.chars().take(20).collect()));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let authority = authority.split(['?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(InvalidRepo::Credentials);
        }
        if authority.is_empty() || authority.starts_with([':', '-']) {
            return Err(InvalidRepo::Malformed("it has no host"));
        }
        if path.is_empty() {
            return Err(InvalidRepo::Malformed("it has no path after the host"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for RepoUrl {
    type Error = InvalidRepo;
    fn try_from(text: String) -> Result<Self, InvalidRepo> {
        text.parse()
    }
}

impl From<RepoUrl> for String {
    fn from(url: RepoUrl) -> Self {
        url.0
    }
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_refused_and_never_repeated() {
        for url in
            ["https://user:hunter2@host/x.git", "https://hunter2@host/x", "http://a:hunter2@h/p"]
        {
            let error = url.parse::<RepoUrl>().expect_err("credentials");
            assert_eq!(error, InvalidRepo::Credentials);
            assert!(!error.to_string().contains("hunter2"));
        }
        assert!("https://host/a@b.git".parse::<RepoUrl>().is_ok(), "an @ in the path is none");
    }

    #[test]
    fn schemes_that_read_the_host_or_need_keys_are_refused() {
        for url in
            ["file:///etc", "ext::sh -c id", "ssh://git@host/x", "git@host:x.git", "/tmp/x", "-u"]
        {
            assert!(url.parse::<RepoUrl>().is_err(), "{url:?} passed");
        }
    }

    #[test]
    fn the_folder_is_the_last_part() {
        for (url, folder) in [
            ("https://h/acme/web.git", "web"),
            ("https://h/acme/web/", "web"),
            ("https://h/.git", "repo"),
            ("https://h/a/..", "repo"),
            ("http://h/x.git?y=1", "x"),
        ] {
            assert_eq!(url.parse::<RepoUrl>().expect(url).folder(), folder);
        }
    }
}
