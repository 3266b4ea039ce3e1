//! `git-credential`: git's question for a password, answered for one repository alone.
//!
//! Which one stands in a file that the node agent wrote and nobody inside can change; the password
//! is one of the workspace's secrets. Whatever else git asks about gets nothing and a line that says
//! why. Nothing is ever stored, and nobody is asked.

use std::{
    env,
    ffi::OsString,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use warren_common::{Limits, SecretName, spec::SECRETS_FOLDER};

use crate::files;

/// Where secrets are (`WARREN_SECRETS_DIR` where a test says so).
pub(crate) const SECRETS: &str = SECRETS_FOLDER;
/// What the node agent wrote: a line with the URL, one with the secret's name.
const REPOSITORY: &str = "/warren/run/repository";
/// The secret that names the user where the server wants another than [`USER`].
const USERNAME: &str = "git-username";
/// What servers take as the user of a token.
const USER: &str = "x-access-token";
/// Longest question and longest password.
const MOST: usize = 16 * 1024;

/// Answers git on the standard streams.
pub(crate) fn answer(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match arguments.next().as_deref().and_then(|word| word.to_str()) {
        Some("get") => {}
        // nothing is kept: the node agent knows what is good
        Some("store" | "erase") => return ExitCode::SUCCESS,
        Some(_) | None => {
            say("git-credential takes get, store or erase; git calls it by itself");
            return ExitCode::from(2);
        }
    }
    let mut question = Vec::new();
    let read = io::stdin().lock().take(MOST as u64).read_to_end(&mut question);
    let question = String::from_utf8(question).unwrap_or_default();
    let given = match read {
        Ok(_) => Place::from_environment().give(&question),
        Err(error) => Err(format!("its question cannot be read: {error}")),
    };
    match given {
        Ok(text) => match io::stdout().lock().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(why) => {
            say(&format!("no password for git: {why}"));
            ExitCode::SUCCESS
        }
    }
}

fn say(text: &str) {
    // git hands it on to whoever looks; where nobody does it is lost
    let _ = writeln!(io::stderr().lock(), "warren: {text}");
}

/// Returns where secrets are.
pub(crate) fn secrets() -> PathBuf {
    env::var_os("WARREN_SECRETS_DIR").map_or_else(|| SECRETS.into(), PathBuf::from)
}

/// Returns where a secret is.
///
/// # Errors
/// Says that it is not there.
pub(crate) fn file(folder: &Path, name: &str) -> Result<PathBuf, String> {
    // a name of ours is no path
    let name: SecretName = name.parse().map_err(|why| format!("{name:?}: {why}"))?;
    let path = folder.join(name.as_str());
    if path.is_file() { Ok(path) } else { Err(missing(name.as_str())) }
}

/// Returns a secret that is one line of text.
///
/// # Errors
/// Says that it is not there, or is none.
pub(crate) fn line(folder: &Path, name: &str) -> Result<String, String> {
    // a name of ours is no path
    let name: SecretName = name.parse().map_err(|why| format!("{name:?}: {why}"))?;
    let bytes =
        files::read(&folder.join(name.as_str()), MOST).ok_or_else(|| missing(name.as_str()))?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let text = text.trim_end_matches(['\n', '\r']);
    match text.is_empty() || text.chars().any(char::is_control) {
        true => Err(format!("the secret {name} is not one line of text")),
        false => Ok(text.to_owned()),
    }
}

/// Says that a secret is not there, and how it comes to be.
pub(crate) fn missing(name: &str) -> String {
    format!("there is no secret {name} here; set it with: warren secret set CLIENT {name}")
}

/// Where the answer is looked up.
struct Place {
    repository: PathBuf,
    secrets: PathBuf,
}

impl Place {
    fn from_environment() -> Self {
        Self { repository: REPOSITORY.into(), secrets: secrets() }
    }

    fn give(&self, question: &str) -> Result<String, String> {
        let asked = Asked::read(question)?;
        let told = files::read(&self.repository, 2 * Limits::URL_BYTES);
        let told = String::from_utf8(told.unwrap_or_default()).unwrap_or_default();
        let (url, token) = told.split_once('\n').unwrap_or_default();
        if url.is_empty() {
            return Err("the workspace was made without a repository".to_owned());
        }
        let own = Own::read(url).ok_or("the workspace's repository has no address of the web")?;
        own.covers(&asked)?;
        let password = line(&self.secrets, token.trim_end())?;
        let user = match self.secrets.join(USERNAME).exists() {
            true => line(&self.secrets, USERNAME)?,
            false => USER.to_owned(),
        };
        Ok(format!("username={user}\npassword={password}\n"))
    }
}

/// What git asks about.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    protocol: String,
    host: String,
    path: String,
}

impl Asked {
    fn read(question: &str) -> Result<Self, String> {
        let mut asked = Self::default();
        for line in question.lines().take_while(|line| !line.is_empty()) {
            let Some((key, value)) = line.split_once('=') else {
                return Err("its question is not of the form key=value".to_owned());
            };
            let field = match key {
                "protocol" => &mut asked.protocol,
                "host" => &mut asked.host,
                "path" => &mut asked.path,
                _ => continue,
            };
            // what a hostile address smuggles in: a second host, an end of line
            if !field.is_empty() || value.chars().any(char::is_control) {
                return Err(format!("its question has an odd {key}"));
            }
            value.clone_into(field);
        }
        Ok(asked)
    }
}

/// The workspace's repository.
struct Own<'a> {
    protocol: &'a str,
    host: &'a str,
    /// Without slashes around it and without `.git`.
    path: String,
}

impl<'a> Own<'a> {
    fn read(url: &'a str) -> Option<Self> {
        let (protocol, rest) = url.split_once("://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let path = decoded(path);
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path).to_owned();
        matches!(protocol, "http" | "https").then_some(Self { protocol, host, path })
    }

    /// Refuses whatever is not this very repository.
    fn covers(&self, asked: &Asked) -> Result<(), String> {
        let port = if self.protocol == "https" { ":443" } else { ":80" };
        let plain = |host: &str| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
        if asked.protocol != self.protocol || plain(&asked.host) != plain(self.host) {
            return Err(format!(
                "{}://{} is not the workspace's own server {}://{}",
                asked.protocol, asked.host, self.protocol, self.host
            ));
        }
        let path = asked.path.trim_matches('/');
        let rest = path.strip_prefix(self.path.as_str());
        let rest = rest.map(|rest| rest.strip_prefix(".git").unwrap_or(rest));
        let own = rest.is_some_and(|rest| {
            // large files have an address below the repository's
            let lfs = rest.strip_prefix("/info/lfs");
            rest.is_empty()
                || lfs.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                    && !path.split('/').any(|part| part == "..")
        });
        match own && !self.path.is_empty() {
            true => Ok(()),
            false => Err(format!("{path:?} is not the workspace's repository {:?}", self.path)),
        }
    }
}

/// Takes `%41` for `A`, as git does before it asks.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = escaped.filter(|_| *first == b'%');
        match escaped.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn place(folder: &Path, repository: &str) -> Place {
        fs::write(folder.join("repository"), repository).expect("written");
        fs::write(folder.join("git-token"), "canary\n").expect("written");
        Place { repository: folder.join("repository"), secrets: folder.to_owned() }
    }

    fn question(protocol: &str, host: &str, path: &str) -> String {
        format!("capability[]=authtype\nprotocol={protocol}\nhost={host}\npath={path}\n\n")
    }

    #[test]
    fn only_the_workspaces_own_repository_gets_its_password() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path(), "https://Git.example/acme/we%62.git\ngit-token\n");
        let gives = |protocol, host, path| place.give(&question(protocol, host, path));
        for (host, path) in [
            ("git.example", "acme/web.git"),
            ("git.example:443", "acme/web"),
            ("GIT.example", "/acme/web.git/"),
            ("git.example", "acme/web.git/info/lfs"),
            ("git.example", "acme/web/info/lfs/objects/batch"),
        ] {
            let given = gives("https", host, path).expect("its own");
            assert_eq!(given, "username=x-access-token\npassword=canary\n", "{host} {path}");
        }
        for (protocol, host, path) in [
            ("http", "git.example", "acme/web.git"),
            ("https", "git.example:8443", "acme/web.git"),
            ("https", "git.example.evil", "acme/web.git"),
            ("https", "evil", "acme/web.git"),
            ("https", "git.example", ""),
            ("https", "git.example", "acme"),
            ("https", "git.example", "acme/web2.git"),
            ("https", "git.example", "acme/web/other.git"),
            ("https", "git.example", "acme/web.git/../other.git"),
            ("https", "git.example", "acme/web.git/info/lfs/../../../other"),
            ("https", "git.example", "acme/web.git/info/lfsx"),
        ] {
            let refused = gives(protocol, host, path).expect_err("refused");
            assert!(!refused.contains("canary"), "{refused}");
        }
    }

    #[test]
    fn what_is_smuggled_into_the_question_gets_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(folder.path(), "https://git.example/acme/web.git\ngit-token\n");
        for odd in [
            "protocol=https\nhost=evil\nhost=git.example\npath=acme/web.git\n",
            "protocol=https\nhost=git.example\r\npath=acme/web.git\n\x00",
            "protocol=https\nhost=git.example\x00\npath=acme/web.git\n",
            "host\n",
            "",
        ] {
            assert!(place.give(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn why_nothing_is_given_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let asks = |repository: &str| {
            place(folder.path(), repository).give(&question("https", "h", "r.git"))
        };
        let missing = asks("https://h/r.git\nother-token\n").expect_err("no such secret");
        assert!(missing.contains("warren secret set CLIENT other-token"), "{missing}");
        assert!(asks("https://h/r.git\n../git-token\n").is_err(), "no path");
        assert!(asks("\ngit-token\n").expect_err("none").contains("without a repository"));
        assert!(asks("").is_err());
        fs::write(folder.path().join("git-username"), "ann").expect("written");
        let given = asks("https://h/r.git\ngit-token\n").expect("given");
        assert_eq!(given, "username=ann\npassword=canary\n");
        fs::write(folder.path().join("git-token"), "two\nlines").expect("written");
        let place = Place {
            repository: folder.path().join("repository"),
            secrets: folder.path().to_owned(),
        };
        assert!(place.give(&question("https", "h", "r.git")).is_err());
    }
}
