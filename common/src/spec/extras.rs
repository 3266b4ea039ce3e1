//! What a workspace is given beside its setup script: tools that are logged in, servers that its
//! coding agents may call (MCP), and what its sessions are beyond a command line.
//!
//! All stand in front of the script, as comments of a shell: a spec is logged and must not change its
//! layout, whoever does not know these lines runs the script as before, and what replaces a script
//! replaces them with it. Secrets stand in it by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use super::{SessionProgram, extra_session as session};
use crate::{Limits, SecretName, SessionName};

/// The first line, where there are any.
const FIRST: &str = "#warren:extras 1";
/// Begins every line.
const MARK: &str = "#warren:";

/// A tool that can be logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tool {
    /// GitHub's.
    Gh,
    /// Azure's: a service principal as `az ad sp create-for-rbac` prints it.
    Az,
    /// Vercel's.
    Vercel,
    /// Netlify's.
    Netlify,
    /// Supabase's.
    Supabase,
    /// Neon's.
    Neon,
    /// The registry of npm and pnpm.
    Npm,
}

impl Tool {
    /// All, by name.
    pub const ALL: [Self; 7] =
        [Self::Az, Self::Gh, Self::Neon, Self::Netlify, Self::Npm, Self::Supabase, Self::Vercel];

    /// Returns the word that templates use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gh => "gh",
            Self::Az => "az",
            Self::Vercel => "vercel",
            Self::Netlify => "netlify",
            Self::Supabase => "supabase",
            Self::Neon => "neon",
            Self::Npm => "npm",
        }
    }

    /// Returns the secret that it is logged in with where no template names another.
    pub const fn usual_secret(self) -> &'static str {
        match self {
            Self::Gh => "github-token",
            Self::Az => "azure-principal",
            Self::Vercel => "vercel-token",
            Self::Netlify => "netlify-token",
            Self::Supabase => "supabase-token",
            Self::Neon => "neon-token",
            Self::Npm => "npm-token",
        }
    }

    /// Whether it can be logged in at another host than its usual one.
    pub const fn takes_host(self) -> bool {
        matches!(self, Self::Gh | Self::Npm)
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl FromStr for Tool {
    type Err = InvalidExtras;
    fn from_str(text: &str) -> Result<Self, InvalidExtras> {
        let found = Self::ALL.into_iter().find(|tool| tool.as_str() == text);
        found.ok_or_else(|| InvalidExtras::Tool(text.chars().take(40).collect()))
    }
}

/// A tool that is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Which one.
    pub tool: Tool,
    /// The secret.
    pub secret: SecretName,
    /// Another host than the tool's usual one, with a path for a registry.
    pub host: Option<String>,
}

/// A server that coding agents may call, started by each of them: MCP over standard streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpServer {
    /// What agents call it.
    pub name: String,
    /// Its program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment, each with the secret whose value it has.
    pub env: BTreeMap<String, SecretName>,
}

/// Why something beside the script is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExtras {
    /// A tool that nobody knows.
    #[error(
        "there is no login for {0:?}; known are az, gh, neon, netlify, npm, supabase and vercel"
    )]
    Tool(String),
    /// A tool that is named twice.
    #[error("{0} is logged in twice")]
    LoginTwice(Tool),
    /// A host where the tool has only one.
    #[error("{0} takes no host")]
    NoHost(Tool),
    /// A host that is none.
    #[error("{0:?} is not a host")]
    Host(String),
    /// A server's name.
    #[error("{0:?} is no name of an MCP server: use letters, digits, '-' and '_', at most 40")]
    Name(String),
    /// A server that is there twice.
    #[error("the MCP server {0} is defined twice")]
    ServerTwice(String),
    /// A session.
    #[error("session {name}: {why}")]
    Session {
        /// Which one.
        name: SessionName,
        /// What is wrong with it.
        why: String,
    },
    /// A text of a server.
    #[error(
        "{what} of the MCP server {name} is empty, has control characters or more than {} bytes",
        Limits::MCP_TEXT_BYTES
    )]
    Text {
        /// Which one.
        name: String,
        /// Which text.
        what: &'static str,
    },
    /// A variable's name.
    #[error("{0:?} is no name of a variable that an MCP server may be given")]
    Variable(String),
    /// More than the bound.
    #[error("{count} {what} are more than the limit of {limit}")]
    TooMany {
        /// The plural noun.
        what: &'static str,
        /// How many.
        count: usize,
        /// The bound, in [`Limits`].
        limit: usize,
    },
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Tools, each at most once.
    pub logins: Vec<Login>,
    /// Servers, each name at most once.
    pub servers: Vec<McpServer>,
    /// Sessions whose command line does not say all that they are, each name at most once. One whose
    /// command line is another by now is no more than that.
    pub sessions: Vec<(SessionName, SessionProgram)>,
}

impl Extras {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.logins.is_empty() && self.servers.is_empty() && self.sessions.is_empty()
    }

    /// Checks names and bounds.
    ///
    /// # Errors
    /// Returns the first thing that is wrong.
    pub fn validate(&self) -> Result<(), InvalidExtras> {
        at_most("logins", self.logins.len(), Limits::LOGINS)?;
        at_most("MCP servers", self.servers.len(), Limits::MCP_SERVERS)?;
        for (at, login) in self.logins.iter().enumerate() {
            if self.logins[..at].iter().any(|earlier| earlier.tool == login.tool) {
                return Err(InvalidExtras::LoginTwice(login.tool));
            }
            match &login.host {
                Some(_) if !login.tool.takes_host() => {
                    return Err(InvalidExtras::NoHost(login.tool));
                }
                Some(host) if !is_host(host) => {
                    return Err(InvalidExtras::Host(host.chars().take(80).collect()));
                }
                Some(_) | None => {}
            }
        }
        for (at, server) in self.servers.iter().enumerate() {
            server.validate()?;
            if self.servers[..at].iter().any(|earlier| earlier.name == server.name) {
                return Err(InvalidExtras::ServerTwice(server.name.clone()));
            }
        }
        session::validate(&self.sessions)
    }

    /// Returns every secret that is named.
    pub fn secrets(&self) -> BTreeSet<&SecretName> {
        let logins = self.logins.iter().map(|login| &login.secret);
        logins.chain(self.servers.iter().flat_map(|server| server.env.values())).collect()
    }

    /// Puts what there is in front of a script.
    pub fn before(&self, script: Option<String>) -> Option<String> {
        if self.is_empty() {
            return script;
        }
        let mut text = format!("{FIRST}\n");
        let mut line = |key: &str, value: &str| {
            text.push_str(&format!("{MARK}{key} {value}\n"));
        };
        for Login { tool, secret, host } in &self.logins {
            let host = host.as_deref().map(|host| format!(" {host}")).unwrap_or_default();
            line("login", &format!("{tool} {secret}{host}"));
        }
        for server in &self.servers {
            line("mcp", &server.name);
            line("command", &server.command);
            server.args.iter().for_each(|arg| line("arg", arg));
            server.env.iter().for_each(|(key, secret)| line("env", &format!("{key} {secret}")));
        }
        session::write(&self.sessions, &mut line);
        text.push_str(&script.unwrap_or_default());
        Some(text)
    }

    /// Takes off what stands in front of a script. Lines that are not understood, as those of a later
    /// version, are left out: they are comments.
    pub fn split(text: &str) -> (Self, &str) {
        let mut extras = Self::default();
        let Some(mut rest) = text.strip_prefix(FIRST).and_then(|rest| rest.strip_prefix('\n'))
        else {
            return (extras, text);
        };
        while rest.starts_with(MARK) {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            extras.take(&line[MARK.len()..]);
            rest = after;
        }
        match extras.validate() {
            Ok(()) => (extras, rest),
            // somebody wrote them by hand
            Err(_) => (Self::default(), rest),
        }
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (key, value) = line.split_once(' ')?;
        match key {
            "login" => {
                let mut words = value.split(' ');
                let (tool, secret) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                let host = words.next().map(str::to_owned);
                self.logins.push(Login { tool, secret, host });
            }
            "mcp" => self.servers.push(McpServer {
                name: value.to_owned(),
                command: String::new(),
                args: Vec::new(),
                env: BTreeMap::new(),
            }),
            "command" => value.clone_into(&mut self.servers.last_mut()?.command),
            "arg" => self.servers.last_mut()?.args.push(value.to_owned()),
            "env" => {
                let (key, secret) = value.split_once(' ')?;
                self.servers.last_mut()?.env.insert(key.to_owned(), secret.parse().ok()?);
            }
            _ => session::take(&mut self.sessions, key, value)?,
        }
        Some(())
    }
}

impl McpServer {
    fn validate(&self) -> Result<(), InvalidExtras> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if self.name.is_empty() || self.name.len() > 40 || !self.name.bytes().all(plain) {
            return Err(InvalidExtras::Name(self.name.chars().take(40).collect()));
        }
        at_most("arguments of an MCP server", self.args.len(), Limits::MCP_ARGUMENTS)?;
        at_most("variables of an MCP server", self.env.len(), Limits::MCP_ARGUMENTS)?;
        let refused = |what| Err(InvalidExtras::Text { name: self.name.clone(), what });
        let long = |text: &str| text.len() > Limits::MCP_TEXT_BYTES;
        let odd = |text: &str| long(text) || text.chars().any(char::is_control);
        if self.command.trim().is_empty() || odd(&self.command) {
            return refused("the command");
        }
        if self.args.iter().any(|arg| odd(arg)) {
            return refused("an argument");
        }
        match self.env.keys().find(|key| !is_variable(key)) {
            Some(key) => Err(InvalidExtras::Variable(key.chars().take(40).collect())),
            None => Ok(()),
        }
    }
}

pub(super) fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), InvalidExtras> {
    if count > limit { Err(InvalidExtras::TooMany { what, count, limit }) } else { Ok(()) }
}

/// A host with an optional port and path: nothing that a URL or an INI file would read otherwise.
fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/".contains(&byte);
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && text.len() <= 200 && !text.contains("//") && text.bytes().all(plain)
}

/// A variable that changes nothing of how programs are found or linked.
fn is_variable(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    let odd = ["PATH", "HOME", "SHELL", "ENV", "BASH_ENV", "NODE_OPTIONS"];
    begins
        && text.len() <= 80
        && text.bytes().all(plain)
        && !text.starts_with("LD_")
        && !odd.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SecretName {
        text.parse().expect("a name")
    }

    fn extras() -> Extras {
        let login = |tool, secret: &str, host: Option<&str>| Login {
            tool,
            secret: name(secret),
            host: host.map(str::to_owned),
        };
        Extras {
            logins: vec![
                login(Tool::Vercel, "deploy", None),
                login(Tool::Npm, "npm-token", Some("npm.example/team/")),
            ],
            servers: vec![McpServer {
                name: "docs".to_owned(),
                command: "npx".to_owned(),
                args: vec!["-y".to_owned(), "a b $(c)".to_owned(), String::new()],
                env: [("DOCS_TOKEN".to_owned(), name("docs-token"))].into(),
            }],
            sessions: Vec::new(),
        }
    }

    #[test]
    fn what_stands_before_a_script_is_read_again_and_the_script_is_as_it_was() {
        for script in [None, Some("#!/bin/sh\necho one\n"), Some("#warren:mcp evil\n")] {
            let text = extras().before(script.map(str::to_owned)).expect("a text");
            assert!(text.lines().take(9).all(|line| line.starts_with('#')), "{text}");
            if script != Some("#warren:mcp evil\n") {
                assert_eq!(Extras::split(&text), (extras(), script.unwrap_or_default()));
            }
        }
        assert_eq!(Extras::default().before(Some("x".to_owned())).as_deref(), Some("x"));
        let plain = "echo\n#warren:extras 1\n#warren:login gh x\n";
        assert_eq!(Extras::split(plain), (Extras::default(), plain), "only in front");
        let later = "#warren:extras 1\n#warren:colour red\n#warren:login gh x\nrest";
        let (read, rest) = Extras::split(later);
        assert_eq!((read.logins.len(), rest), (1, "rest"));
        let odd = "#warren:extras 1\n#warren:mcp a b\n#warren:command x\nrest";
        assert_eq!(Extras::split(odd), (Extras::default(), "rest"));
        assert_eq!(Extras::split("#warren:extras 1\n#warren:arg x").1, "");
    }

    #[test]
    fn what_is_odd_is_refused_with_a_reason() {
        assert_eq!(extras().validate(), Ok(()));
        let named: Vec<&str> = ["deploy", "docs-token", "npm-token"].into();
        let all = extras();
        assert_eq!(all.secrets().iter().map(|one| one.as_str()).collect::<Vec<_>>(), named);
        let changed = |change: &dyn Fn(&mut Extras)| {
            let mut extras = extras();
            change(&mut extras);
            extras.validate().expect_err("refused").to_string()
        };
        assert!(changed(&|all| all.logins[1].tool = Tool::Vercel).contains("twice"));
        assert!(changed(&|all| all.logins[0].host = Some("h".to_owned())).contains("no host"));
        for odd in ["", "a b", "https://h", "-h", "h\n", "h;x"] {
            changed(&|all| all.logins[1].host = Some(odd.to_owned()));
        }
        for odd in ["", "a b", "a.b", "\"", "[x]"] {
            changed(&|all| odd.clone_into(&mut all.servers[0].name));
        }
        for odd in ["", "a\nb", &"x".repeat(Limits::MCP_TEXT_BYTES + 1)] {
            changed(&|all| odd.clone_into(&mut all.servers[0].command));
        }
        for odd in ["", "1A", "A-B", "LD_PRELOAD", "PATH", "A=B"] {
            changed(&|all| drop(all.servers[0].env.insert(odd.to_owned(), name("x"))));
        }
        changed(&|all| all.servers[0].args = vec![String::new(); Limits::MCP_ARGUMENTS + 1]);
        changed(&|all| all.servers.push(all.servers[0].clone()));
        assert!("frob".parse::<Tool>().expect_err("none").to_string().contains("vercel"));
        for tool in Tool::ALL {
            assert_eq!(tool.as_str().parse(), Ok(tool));
            assert!(tool.usual_secret().parse::<SecretName>().is_ok());
        }
    }
}
