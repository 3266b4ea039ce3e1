//! What a template asks for: its parameters and their types.

use serde::{Deserialize, Serialize};

use super::InvalidTemplate;
use crate::{Limits, SecretName};

/// One parameter of a template.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its name: `a-z`, `0-9` and `_`, with a letter first.
    pub name: String,
    /// What values it takes.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What it is, for whoever is asked.
    #[serde(default)]
    pub description: String,
    /// Its value where none is given.
    pub default: Option<Value>,
    /// It may stay without a value; one that may not and has no default must be given.
    #[serde(default)]
    pub optional: bool,
    /// Its value stands in shell text as it is, not as one word: a whole command line, a script.
    #[serde(default)]
    pub raw: bool,
    /// What a choice is made of.
    #[serde(default)]
    pub options: Vec<String>,
    /// The least number.
    pub min: Option<i64>,
    /// The greatest number.
    pub max: Option<i64>,
}

/// The types of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Any text without control characters.
    String,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Bool,
    /// One of its options.
    Choice,
    /// Texts with commas between them.
    List,
    /// The name of a secret of the client's vault or the shared one; a text has the path of its
    /// file, never its value.
    Secret,
}

impl Kind {
    /// Returns the word of the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Choice => "choice",
            Self::List => "list",
            Self::Secret => "secret",
        }
    }
}

/// A value, as a document's default or from a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Number`].
    Number(i64),
    /// Of [`Kind::String`] and [`Kind::Choice`].
    Text(String),
    /// Of [`Kind::List`].
    List(Vec<String>),
}

impl Parameter {
    /// Checks the definition.
    pub(super) fn check(&self) -> Result<(), InvalidTemplate> {
        if !is_name(&self.name) {
            let name = self.name.chars().take(Limits::NAME_BYTES).collect();
            return Err(InvalidTemplate::Name(name));
        }
        let wrong = |why: &str| {
            Err(InvalidTemplate::Definition { name: self.name.clone(), why: why.to_owned() })
        };
        if self.kind == Kind::Choice && self.options.is_empty() {
            return wrong("is a choice without options");
        }
        if self.kind != Kind::Choice && !self.options.is_empty() {
            return wrong("has options and is no choice");
        }
        if self.kind != Kind::Number && (self.min.is_some() || self.max.is_some()) {
            return wrong("has a min or max and is no number");
        }
        if self.min.zip(self.max).is_some_and(|(min, max)| min > max) {
            return wrong("has a min above its max");
        }
        if self.kind == Kind::Secret && self.raw {
            return wrong("is a secret, and its file's path needs no raw");
        }
        match &self.default {
            Some(default) => self.takes(default),
            None => Ok(()),
        }
    }

    /// Reads a value from the text of a request.
    ///
    /// # Errors
    /// Says what the parameter takes.
    pub fn read(&self, text: &str) -> Result<Value, InvalidTemplate> {
        let value = match self.kind {
            Kind::String | Kind::Choice | Kind::Secret => Value::Text(text.to_owned()),
            Kind::Number => Value::Number(
                text.trim().parse().map_err(|_| self.refuse("takes a whole number", text))?,
            ),
            Kind::Bool => match text.trim() {
                "true" | "yes" => Value::Bool(true),
                "false" | "no" => Value::Bool(false),
                _ => return Err(self.refuse("takes true or false", text)),
            },
            Kind::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::List(items.map(str::to_owned).collect())
            }
        };
        self.takes(&value)?;
        Ok(value)
    }

    /// Checks a value.
    fn takes(&self, value: &Value) -> Result<(), InvalidTemplate> {
        match (self.kind, value) {
            (Kind::String, Value::Text(text)) => self.is_plain(text),
            (Kind::Choice, Value::Text(text)) if self.options.contains(text) => Ok(()),
            (Kind::Choice, Value::Text(text)) => {
                Err(self.refuse(&format!("takes one of {}", self.options.join(", ")), text))
            }
            // what was given may be the secret itself: it is not said again
            (Kind::Secret, Value::Text(text)) => match text.parse::<SecretName>() {
                Ok(_) => Ok(()),
                Err(_) => Err(self.refuse("takes the name of a secret, not the secret itself", "")),
            },
            (Kind::Bool, Value::Bool(_)) => Ok(()),
            (Kind::Number, Value::Number(number)) => {
                let low = self.min.is_some_and(|min| *number < min);
                let high = self.max.is_some_and(|max| *number > max);
                if low || high {
                    return Err(self.refuse(&self.range(), &number.to_string()));
                }
                Ok(())
            }
            (Kind::List, Value::List(items)) if items.len() > Limits::TEMPLATE_LIST => {
                let most = format!("takes at most {} items", Limits::TEMPLATE_LIST);
                Err(self.refuse(&most, &items.len().to_string()))
            }
            (Kind::List, Value::List(items)) => items.iter().try_for_each(|one| self.is_plain(one)),
            (kind, other) => {
                let why = format!("is a {} and has the default {other:?}", kind.as_str());
                Err(InvalidTemplate::Definition { name: self.name.clone(), why })
            }
        }
    }

    fn range(&self) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("takes {min} to {max}"),
            (Some(min), None) => format!("takes {min} or more"),
            (None, Some(max)) => format!("takes {max} or less"),
            (None, None) => "takes a whole number".to_owned(),
        }
    }

    /// A value of several lines is a script; it goes through no parameter but `setup`, and none
    /// may hold what a terminal would act on.
    fn is_plain(&self, text: &str) -> Result<(), InvalidTemplate> {
        let limit = Limits::SETUP_BYTES;
        if text.len() > limit {
            return Err(self.refuse(&format!("takes at most {limit} bytes"), ""));
        }
        match text.chars().any(|one| one.is_control() && one != '\n' && one != '\t') {
            true => Err(self.refuse("takes no control characters", "")),
            false => Ok(()),
        }
    }

    fn refuse(&self, takes: &str, given: &str) -> InvalidTemplate {
        let given: String = given.chars().take(Limits::NAME_BYTES).collect();
        let why = match given.is_empty() {
            true => takes.to_owned(),
            false => format!("{takes}, not {given:?}"),
        };
        InvalidTemplate::Value { name: self.name.clone(), why }
    }
}

/// Returns whether a text can be a parameter's name.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    first && text.len() <= Limits::NAME_BYTES && text.bytes().all(plain)
}
