//! Templates as they are printed.

use std::fmt::Write as _;

use serde::Serialize;
use warren_common::{Timestamp, status::clean};
use warren_proto::pb::admin::v1 as pb;

use super::{Moment, fields, filled, moment};
use crate::render::{Tabular, time};

/// One template.
#[derive(Debug, Serialize)]
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) description: String,
    /// None for the one that is built in.
    pub(crate) active: Option<u32>,
    /// The version that was active before.
    pub(crate) before: Option<u32>,
    pub(crate) versions: Vec<Version>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) revision: u64,
}

/// One version of a template.
#[derive(Debug, Serialize)]
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) message: Option<String>,
    pub(crate) by: String,
    pub(crate) at: Option<Moment>,
    pub(crate) bytes: u32,
}

/// One parameter of a template.
#[derive(Debug, Serialize)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) description: Option<String>,
    pub(crate) default: Option<String>,
    pub(crate) required: bool,
    pub(crate) options: Vec<String>,
    pub(crate) min: Option<i64>,
    pub(crate) max: Option<i64>,
}

impl From<pb::Template> for Template {
    fn from(template: pb::Template) -> Self {
        let some = |number: u32| (number != 0).then_some(number);
        Self {
            name: template.name,
            description: template.description,
            active: some(template.active),
            before: some(template.before),
            versions: template.versions.into_iter().map(Version::from).collect(),
            parameters: template.parameters.into_iter().map(Parameter::from).collect(),
            revision: template.revision,
        }
    }
}

impl From<pb::TemplateVersion> for Version {
    fn from(version: pb::TemplateVersion) -> Self {
        Self {
            number: version.number,
            message: filled(&version.message),
            by: version.by,
            at: moment(version.at_unix_ms),
            bytes: version.bytes,
        }
    }
}

impl From<pb::TemplateParameter> for Parameter {
    fn from(parameter: pb::TemplateParameter) -> Self {
        Self {
            name: parameter.name,
            kind: parameter.r#type,
            description: filled(&parameter.description),
            default: parameter.default,
            required: parameter.required,
            options: parameter.options,
            min: parameter.min,
            max: parameter.max,
        }
    }
}

impl Template {
    /// Returns the page that `template show` prints.
    pub(crate) fn text(&self, now: Timestamp) -> String {
        let mut text = fields(&[
            ("name", self.name.clone()),
            ("description", self.description.clone()),
            ("active", self.active_text()),
            ("before", self.before.map_or_else(|| "-".to_owned(), |number| number.to_string())),
        ]);
        text.push_str("\nparameters:\n");
        for parameter in &self.parameters {
            // writing to a String cannot fail
            let _ = writeln!(text, "  {}", parameter.line());
        }
        if self.parameters.is_empty() {
            text.push_str("  none\n");
        }
        if !self.versions.is_empty() {
            text.push_str("\nversions:\n");
        }
        for version in self.versions.iter().rev() {
            let mark = if Some(version.number) == self.active { "*" } else { " " };
            let ago = version.at.map_or_else(String::new, |at| time::age(at.0, now));
            let message = version.message.as_deref().unwrap_or("-");
            let (number, by) = (version.number, &version.by);
            let _ = writeln!(text, "{mark} {number}  {ago} ago by {by}: {message}");
        }
        text
    }

    fn active_text(&self) -> String {
        self.active.map_or_else(|| "built in".to_owned(), |number| format!("version {number}"))
    }
}

impl Parameter {
    fn line(&self) -> String {
        let mut kind = self.kind.clone();
        if !self.options.is_empty() {
            kind = format!("{kind} of {}", self.options.join(", "));
        }
        match (self.min, self.max) {
            (Some(min), Some(max)) => kind = format!("{kind} {min} to {max}"),
            (Some(min), None) => kind = format!("{kind} from {min}"),
            (None, Some(max)) => kind = format!("{kind} up to {max}"),
            (None, None) => {}
        }
        let given = match (&self.default, self.required) {
            (Some(default), _) => format!(", default {default:?}"),
            (None, true) => ", required".to_owned(),
            (None, false) => String::new(),
        };
        let meaning = self.description.as_deref().map(|text| format!(": {text}"));
        let line = format!("{} ({kind}{given}){}", self.name, meaning.unwrap_or_default());
        clean(&line, 500).replace(['\n', '\t'], " ")
    }
}

impl Tabular for Template {
    const HEADER: &'static [&'static str] =
        &["TEMPLATE", "ACTIVE", "VERSIONS", "CHANGED", "PARAMETERS", "DESCRIPTION"];
    const FLEXIBLE: usize = 5;

    fn row(&self, now: Timestamp) -> Vec<String> {
        let changed = self.versions.last().and_then(|version| version.at);
        let names: Vec<&str> = self.parameters.iter().map(|one| one.name.as_str()).collect();
        vec![
            self.name.clone(),
            self.active.map_or_else(|| "built in".to_owned(), |number| number.to_string()),
            self.versions.len().to_string(),
            changed.map_or_else(|| "-".to_owned(), |at| time::age(at.0, now)),
            names.join(", "),
            self.description.clone(),
        ]
    }

    fn address(&self) -> String {
        self.name.clone()
    }
}
