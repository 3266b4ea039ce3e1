//! Putting values into a template's texts.

use std::collections::{BTreeMap, BTreeSet};

use super::{Body, InvalidTemplate, Kind, Parameter, Template, Value, parameter::is_name};
use crate::{
    Limits, SecretName, SessionName,
    spec::{Extras, Labels, Login, McpServer, SECRETS_FOLDER, SessionProgram},
};

/// A template's body with values in it; what is none is the cluster's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filled {
    /// The body; no text names a parameter any more.
    pub body: Body,
    /// The sessions.
    pub sessions: Vec<FilledSession>,
    /// The secrets that parameters name.
    pub secrets: BTreeSet<String>,
    /// Logins, servers, and what sessions are beside their command lines.
    pub extras: Extras,
}

/// One session with values in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilledSession {
    /// Its name.
    pub name: SessionName,
    /// Its whole command line; none for a shell.
    pub command: Option<String>,
}

impl FilledSession {
    /// Returns a session as its spec has it.
    fn of(name: &SessionName, program: &SessionProgram) -> Self {
        let command = Some(program.line()).filter(|line| !line.is_empty());
        Self { name: name.clone(), command }
    }
}

/// How a value stands in a text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    /// As it is.
    Plain,
    /// As one word of a shell, whatever it holds; a list as one word each.
    Shell,
    /// As it is, and a secret by its name.
    Name,
}

/// How far behind the opening braces the closing ones are looked for.
const NEAR: usize = Limits::NAME_BYTES + 16;

pub(super) type Values<'a> = BTreeMap<&'a str, (&'a Parameter, Value)>;

impl Template {
    /// Puts the values of a request into the body.
    ///
    /// # Errors
    /// Names the parameter that is unknown or missing, or that does not take its value.
    pub fn fill(&self, given: &BTreeMap<String, String>) -> Result<Filled, InvalidTemplate> {
        let known = |name: &String| self.parameters.iter().any(|one| one.name == *name);
        if let Some(unknown) = given.keys().find(|name| !known(name)) {
            return Err(InvalidTemplate::Unknown(unknown.chars().take(40).collect()));
        }
        let mut values = Values::new();
        for parameter in &self.parameters {
            let value = match given.get(&parameter.name) {
                Some(text) => Some(parameter.read(text)?),
                None => parameter.default.clone(),
            };
            match value {
                Some(value) => drop(values.insert(&parameter.name, (parameter, value))),
                None if parameter.optional => {}
                None => {
                    let (name, description) =
                        (parameter.name.clone(), parameter.description.clone());
                    return Err(InvalidTemplate::Missing { name, description });
                }
            }
        }
        let programs = self.sessions.iter().map(|one| Ok((one.name.clone(), one.fill(&values)?)));
        let programs = programs.collect::<Result<Vec<_>, InvalidTemplate>>()?;
        let sessions = programs.iter().map(|(name, one)| FilledSession::of(name, one)).collect();
        let named = values.values().filter_map(|(parameter, value)| match value {
            Value::Text(name) if parameter.kind == Kind::Secret => Some(name.clone()),
            _ => None,
        });
        let secrets = named.collect();
        let (body, extras) = (self.workspace.filled(&values)?, self.extras(&values, programs)?);
        Ok(Filled { body, sessions, secrets, extras })
    }

    fn extras(
        &self,
        values: &Values<'_>,
        programs: Vec<(SessionName, SessionProgram)>,
    ) -> Result<Extras, InvalidTemplate> {
        let secret = |field: String, text: &str| -> Result<_, InvalidTemplate> {
            let Some(text) = put(Some(text), values, Style::Name)? else { return Ok(None) };
            let name = text.parse::<SecretName>().map(Some);
            let text = || text.chars().take(80).collect();
            name.map_err(|_| InvalidTemplate::Secret { field, text: text() })
        };
        let plain = |text: &str| put(Some(text), values, Style::Plain);
        // a command line says all that it is
        let more = |program: &SessionProgram| program.agent.is_some() || program.branch.is_some();
        let sessions = programs.into_iter().filter(|(_, program)| more(program)).collect();
        let mut extras = Extras { sessions, ..Extras::default() };
        for login in &self.logins {
            let field = format!("secret of login {}", login.tool);
            let Some(secret) = secret(field, &login.secret)? else { continue };
            let host = put(login.host.as_deref(), values, Style::Plain)?;
            extras.logins.push(Login { tool: login.tool.parse()?, secret, host });
        }
        for server in &self.servers {
            let Some(command) = plain(&server.command)? else { continue };
            let args = server.args.iter().filter_map(|arg| plain(arg).transpose());
            let mut env = BTreeMap::new();
            for (key, text) in &server.env {
                let field = format!("env {key} of mcp {}", server.name);
                if let Some(secret) = secret(field, text)? {
                    env.insert(key.clone(), secret);
                }
            }
            let args = args.collect::<Result<_, InvalidTemplate>>()?;
            extras.servers.push(McpServer { name: server.name.clone(), command, args, env });
        }
        extras.validate()?;
        Ok(extras)
    }
}

impl Body {
    fn filled(&self, values: &Values<'_>) -> Result<Self, InvalidTemplate> {
        let plain = |text: &Option<String>| put(text.as_deref(), values, Style::Plain);
        let labels = |labels: &Labels| {
            let label = |(key, text): (&String, &String)| {
                let value = put(Some(text), values, Style::Plain).transpose()?;
                Some(value.map(|value| (key.clone(), value)))
            };
            labels.iter().filter_map(label).collect::<Result<Labels, InvalidTemplate>>()
        };
        Ok(Self {
            image: plain(&self.image)?,
            repo: plain(&self.repo)?,
            branch: plain(&self.branch)?,
            setup: put(self.setup.as_deref(), values, Style::Shell)?,
            git_name: plain(&self.git_name)?,
            git_email: plain(&self.git_email)?,
            git_token: put(self.git_token.as_deref(), values, Style::Name)?,
            memory: plain(&self.memory)?,
            swap: plain(&self.swap)?,
            reserve: plain(&self.reserve)?,
            disk: plain(&self.disk)?,
            cpus: plain(&self.cpus)?,
            cpu_weight: plain(&self.cpu_weight)?,
            pids: plain(&self.pids)?,
            pin: plain(&self.pin)?,
            isolation: plain(&self.isolation)?,
            failover: plain(&self.failover)?,
            require_labels: labels(&self.require_labels)?,
            labels: labels(&self.labels)?,
            browser_sandbox: plain(&self.browser_sandbox)?,
        })
    }
}

/// One piece of a text.
enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// Takes a text apart. Braces around anything but a name are text: `docker ps --format {{.ID}}`.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(open) = rest[from..].find("{{").map(|at| from + at) {
            let inner = &rest[open + 2..];
            // no further than a name with blanks around it: a text may be one long row of braces
            let near = inner.as_bytes().iter().take(NEAR).position(|byte| *byte == b'}');
            let close = near.filter(|close| inner[*close..].starts_with("}}"));
            let name = close.map(|close| (inner[..close].trim(), open + close + 4));
            match name.filter(|(name, _)| is_name(name)) {
                Some((name, end)) if open == 0 => {
                    rest = &rest[end..];
                    return Some(Piece::Name(name));
                }
                Some(_) => {
                    let (before, after) = rest.split_at(open);
                    rest = after;
                    return Some(Piece::Text(before));
                }
                None => from = open + 1,
            }
        }
        Some(Piece::Text(std::mem::take(&mut rest)))
    })
}

/// Returns the parameters that a text names.
pub(super) fn names(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).filter_map(|piece| match piece {
        Piece::Name(name) => Some(name),
        Piece::Text(_) => None,
    })
}

/// None where the text is a single name without a value.
pub(super) fn put(
    text: Option<&str>,
    values: &Values<'_>,
    style: Style,
) -> Result<Option<String>, InvalidTemplate> {
    let Some(text) = text else { return Ok(None) };
    let mut begin = pieces(text);
    if let (Some(Piece::Name(name)), None) = (begin.next(), begin.next())
        && !values.contains_key(name)
    {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Name(name) => {
                let Some((parameter, value)) = values.get(name) else { continue };
                let style = if parameter.raw { Style::Plain } else { style };
                match (parameter.kind, style) {
                    (Kind::Secret, Style::Plain | Style::Shell) => {
                        out.push_str(&format!("{SECRETS_FOLDER}/{}", shown(value, Style::Plain)));
                    }
                    _ => out.push_str(&shown(value, style)),
                }
            }
        }
        if out.len() > Limits::TEMPLATE_BYTES {
            return Err(InvalidTemplate::TooLong(Limits::TEMPLATE_BYTES));
        }
    }
    Ok(Some(out))
}

/// Returns what a text that is one word comes to: one that names a single list and nothing else is a
/// word for each of its items.
pub(super) fn words(text: &str, values: &Values<'_>) -> Result<Vec<String>, InvalidTemplate> {
    let mut begin = pieces(text);
    if let (Some(Piece::Name(name)), None) = (begin.next(), begin.next())
        && let Some((_, Value::List(items))) = values.get(name)
    {
        return Ok(items.clone());
    }
    Ok(put(Some(text), values, Style::Plain)?.into_iter().collect())
}

/// Returns the first parameter that stands inside quotes of a shell text, where the quotes around
/// its value would end them. A text with a here-document is not looked at: quotes mean nothing in
/// one.
pub(super) fn in_quotes(text: &str) -> Option<&str> {
    if text.contains("<<") {
        return None;
    }
    let (mut quote, mut escaped, mut comment, mut last) = (None, false, false, '\n');
    for piece in pieces(text) {
        let words = match piece {
            Piece::Name(name) if quote.is_some() => return Some(name),
            Piece::Name(_) => {
                last = 'x';
                continue;
            }
            Piece::Text(words) => words,
        };
        for character in words.chars() {
            let begins = last.is_whitespace() || last == ';';
            last = character;
            match character {
                '\n' if comment => comment = false,
                _ if comment => {}
                _ if escaped => escaped = false,
                '\\' if quote != Some('\'') => escaped = true,
                '#' if quote.is_none() && begins => comment = true,
                '\'' | '"' if quote == Some(character) => quote = None,
                '\'' | '"' if quote.is_none() => quote = Some(character),
                _ => {}
            }
        }
    }
    None
}

fn shown(value: &Value, style: Style) -> String {
    let word = |text: &str| match style {
        Style::Plain | Style::Name => text.to_owned(),
        Style::Shell => quoted(text),
    };
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => word(text),
        Value::List(items) => {
            let between = match style {
                Style::Plain | Style::Name => ",",
                Style::Shell => " ",
            };
            items.iter().map(|item| word(item)).collect::<Vec<_>>().join(between)
        }
    }
}

/// Returns a text as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
