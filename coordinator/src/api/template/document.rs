//! A template's document: TOML, as its author wrote it.

use std::collections::BTreeMap;

use tonic::Code;
use warren_common::{
    Bytes, Limits, MilliCpus, NodeId, TemplateName,
    spec::{Failover, IsolationTier, PlacementRules, SessionSpec},
    template::{Body, Filled, InvalidTemplate, Template, Value},
};
use warren_model::{ClusterState, state::Recipe};
use warren_proto::{error::ApiError, pb::admin::v1 as pb};

use super::{BASE, InvalidRequest, PARAMETERS, ResourceRequest};
use crate::api::{errors, resolve};

/// Reads and checks a document.
///
/// # Errors
/// Says where it is wrong and how.
pub fn read(text: &str) -> Result<Template, ApiError> {
    let (bytes, limit) = (text.len(), Limits::TEMPLATE_BYTES);
    if bytes > limit {
        return Err(invalid(format!("it has {bytes} bytes, the limit is {limit}")));
    }
    let template: Template = toml::from_str(text).map_err(|why| invalid(placed(text, &why)))?;
    template.check().map_err(|why| invalid(why.to_string()))?;
    // what is fixed must be good; what parameters say is looked at with their values
    let amounts = Body { labels: BTreeMap::new(), ..template.workspace.clone() };
    let fixed = without_names(amounts);
    let whole = resources(&fixed).and_then(|_| browser_sandbox(fixed.browser_sandbox.as_deref()));
    whole.map_err(|why| invalid(why.to_string()))?;
    rules(&fixed, &|_| Ok(None)).map_err(|why| invalid(why.to_string()))?;
    Ok(template)
}

fn invalid(why: String) -> ApiError {
    ApiError::new(Code::InvalidArgument, "INVALID_TEMPLATE", "the document is no template")
        .why(why)
        .next(
            "mend it and push it again; warren template push --dry-run checks and changes nothing",
        )
}

/// Names the line beside what is wrong in it.
fn placed(text: &str, why: &toml::de::Error) -> String {
    let message = why.message().trim().replace('\n', " ");
    match why.span() {
        Some(span) => {
            let before = &text.as_bytes()[..span.start.min(text.len())];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("line {line}: {message}")
        }
        None => message,
    }
}

/// Leaves out what has braces in it.
fn without_names(body: Body) -> Body {
    let fixed = |text: Option<String>| text.filter(|text| !text.contains("{{"));
    Body {
        memory: fixed(body.memory),
        swap: fixed(body.swap),
        reserve: fixed(body.reserve),
        disk: fixed(body.disk),
        cpus: fixed(body.cpus),
        cpu_weight: fixed(body.cpu_weight),
        pids: fixed(body.pids),
        isolation: fixed(body.isolation),
        failover: fixed(body.failover),
        browser_sandbox: fixed(body.browser_sandbox),
        ..Body::default()
    }
}

/// What a request's template comes to.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// How the workspace will name it: `agent@3`, or [`BASE`].
    pub reference: String,
    /// The body with the request's parameters in it.
    pub filled: Filled,
    /// What the body says of where it may run, and of what happens when its node dies; none where it
    /// says nothing.
    pub rules: Rules,
}

/// What a body says of placement and failover.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Where it may run.
    pub placement: PlacementRules,
    /// What happens when its node dies.
    pub failover: Option<Failover>,
}

/// Finds the template that a request names and fills it; none for the one that is built in.
///
/// # Errors
/// No such template or version, or parameters that do not fit it.
pub fn choose(
    state: &ClusterState,
    named: &str,
    parameters: &BTreeMap<String, String>,
) -> Result<Option<Chosen>, InvalidRequest> {
    let Some((reference, document)) = find(state, named)? else { return Ok(None) };
    let filled = document.fill(parameters).map_err(|why| InvalidRequest::Filled {
        reference: reference.clone(),
        why,
        known: document.parameters.iter().map(|one| one.name.clone()).collect(),
    })?;
    let pinned = |name: &str| match resolve::node(state, name) {
        Ok(node) => Ok(Some(node.id)),
        Err(_) => Err(InvalidRequest::Pin { name: name.chars().take(80).collect() }),
    };
    let rules = rules(&filled.body, &pinned)?;
    Ok(Some(Chosen { reference, filled, rules }))
}

/// Reads what a filled body says of placement and failover; `pinned` finds a node by its name.
///
/// # Errors
/// Names the field that takes no such word, or the node that is not there.
fn rules(
    body: &Body,
    pinned: &dyn Fn(&str) -> Result<Option<NodeId>, InvalidRequest>,
) -> Result<Rules, InvalidRequest> {
    let tier: Option<IsolationTier> = amount("isolation", &body.isolation)?;
    let pin = body.pin.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let placement = PlacementRules {
        pin: pin.map(pinned).transpose()?.flatten(),
        required_labels: body.require_labels.clone(),
        tier: tier.unwrap_or_default(),
    };
    Ok(Rules { placement, failover: amount("failover", &body.failover)? })
}

/// Finds the template that a request names, with how a workspace names it; none for the one that is
/// built in.
///
/// # Errors
/// No such template or version, or one that cannot be read any more.
pub fn find(
    state: &ClusterState,
    named: &str,
) -> Result<Option<(String, Template)>, InvalidRequest> {
    let unknown = || InvalidRequest::Template {
        name: named.chars().take(40).collect(),
        known: state.templates.keys().take(20).map(ToString::to_string).collect(),
    };
    if named.is_empty() || named == BASE {
        return Ok(None);
    }
    let (name, version) = match named.split_once('@') {
        Some((name, version)) => (name, Some(version.parse::<u32>().map_err(|_| unknown())?)),
        None => (named, None),
    };
    let name: TemplateName = name.parse().map_err(|_| unknown())?;
    let template = state.templates.get(&name).ok_or_else(unknown)?;
    let number = version.unwrap_or(template.active);
    let version = template.version(number).ok_or_else(unknown)?;
    let reference = format!("{name}@{number}");
    let document = read(&version.text).map_err(|error| InvalidRequest::Document {
        reference: reference.clone(),
        why: error.why.unwrap_or(error.message).to_string(),
    })?;
    Ok(Some((reference, document)))
}

/// Returns what is remembered of a workspace made from `reference`; none of one that is built in.
pub fn recipe(reference: &str, parameters: &BTreeMap<String, String>) -> Option<Recipe> {
    let (name, version) = reference.split_once('@')?;
    let (template, version) = (name.parse().ok()?, version.parse().ok()?);
    Some(Recipe { template, version, parameters: parameters.clone() })
}

/// Reads the caps of a filled body.
///
/// # Errors
/// Names the one that is no amount.
pub(super) fn resources(body: &Body) -> Result<ResourceRequest, InvalidRequest> {
    let bytes = |field, text: &Option<String>| {
        amount::<Bytes>(field, text).map(|amount| amount.map(|bytes| bytes.0))
    };
    Ok(ResourceRequest {
        memory: bytes("memory", &body.memory)?,
        swap: bytes("swap", &body.swap)?,
        reserve: bytes("reserve", &body.reserve)?,
        cpu_weight: amount("cpu_weight", &body.cpu_weight)?,
        milli_cpus: amount::<MilliCpus>("cpus", &body.cpus)?.map(|cpus| cpus.0),
        disk: bytes("disk", &body.disk)?,
        pids: amount("pids", &body.pids)?,
    })
}

/// Reads `browser_sandbox` of a filled body; false without it.
///
/// # Errors
/// It is neither `true` nor `false`.
pub(super) fn browser_sandbox(text: Option<&str>) -> Result<bool, InvalidRequest> {
    match text.map(str::trim) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(InvalidRequest::BrowserSandbox),
    }
}

fn amount<T>(field: &'static str, text: &Option<String>) -> Result<Option<T>, InvalidRequest>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let Some(text) = text else { return Ok(None) };
    let read = text
        .trim()
        .parse()
        .map_err(|why: T::Err| InvalidRequest::Amount { field, why: why.to_string() });
    read.map(Some)
}

/// Returns the sessions of a filled body as a spec has them.
pub(super) fn sessions(filled: &Filled) -> Vec<SessionSpec> {
    let spec = |one: &warren_common::template::FilledSession| SessionSpec {
        name: one.name.clone(),
        command: one.command.clone(),
    };
    filled.sessions.iter().map(spec).collect()
}

/// Returns the template that is built in, as lists show it.
pub fn base() -> pb::Template {
    let parameter = |(name, meaning): (&str, &str)| pb::TemplateParameter {
        name: name.to_owned(),
        r#type: "string".to_owned(),
        description: meaning.to_owned(),
        ..Default::default()
    };
    pb::Template {
        name: BASE.to_owned(),
        description: "a shell, or one command, in the default image".to_owned(),
        parameters: PARAMETERS.into_iter().map(parameter).collect(),
        ..Default::default()
    }
}

/// Returns a document's parameters as lists show them.
pub fn parameters(template: &Template) -> Vec<pb::TemplateParameter> {
    let parameter = |one: &warren_common::template::Parameter| pb::TemplateParameter {
        name: one.name.clone(),
        r#type: one.kind.as_str().to_owned(),
        description: one.description.clone(),
        default: one.default.as_ref().map(written),
        required: one.default.is_none() && !one.optional,
        options: one.options.clone(),
        min: one.min,
        max: one.max,
    };
    template.parameters.iter().map(parameter).collect()
}

/// Returns a value as a request would give it.
fn written(value: &Value) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::List(items) => items.join(","),
    }
}

/// Refuses a name that may not be pushed.
///
/// # Errors
/// It is no name, or the one of the template that is built in.
pub fn name(text: &str) -> Result<TemplateName, ApiError> {
    let name: TemplateName = text.parse().map_err(|why| errors::invalid("name", why))?;
    if name.as_str() == BASE {
        let why = format!("{BASE} is built in");
        return Err(errors::invalid("name", why).next("choose another name"));
    }
    Ok(name)
}

impl InvalidRequest {
    /// Says which parameters there are, where one was unknown.
    pub(super) fn known_of(why: &InvalidTemplate, known: &[String]) -> Option<String> {
        match why {
            InvalidTemplate::Unknown(_) if known.is_empty() => {
                Some("it takes no parameters".to_owned())
            }
            InvalidTemplate::Unknown(_) => Some(format!("it takes {}", known.join(", "))),
            InvalidTemplate::Missing { name, .. } => Some(format!("add --param {name}=…")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = r#"
description = "a coding agent in a repository"

[[parameter]]
name = "repo"
type = "string"
description = "https URL of the repository"

[[parameter]]
name = "memory"
type = "number"
default = 4
min = 1

[workspace]
repo = "{{repo}}"
memory = "{{memory}}G"
disk = "30G"

[[session]]
name = "main"
command = "claude"
"#;

    fn why(text: &str) -> String {
        read(text).expect_err("refused").why.unwrap_or_default().to_string()
    }

    #[test]
    fn a_document_is_read_with_its_parameters_in_their_order() {
        let template = read(AGENT).expect("a template");
        let shown = parameters(&template);
        let names: Vec<(&str, bool)> =
            shown.iter().map(|one| (one.name.as_str(), one.required)).collect();
        assert_eq!(names, [("repo", true), ("memory", false)]);
        assert_eq!(shown[1].default.as_deref(), Some("4"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert!(why("[workspace]\nimgae = \"x\"").starts_with("line 2: unknown field `imgae`"));
        assert!(why("a = = b").starts_with("line 1: "));
        let kind = AGENT.replace("\"number\"", "\"integer\"");
        assert!(why(&kind).contains("unknown variant `integer`"), "{}", why(&kind));
        let amount = AGENT.replace("\"30G\"", "\"30 parsecs\"");
        assert!(why(&amount).contains("disk"), "{}", why(&amount));
        let sandbox = AGENT.replace("disk =", "browser_sandbox = \"maybe\"\ndisk =");
        assert!(why(&sandbox).contains("browser_sandbox takes true or false"), "{}", why(&sandbox));
        let sandbox = AGENT.replace("disk =", "browser_sandbox = 1\ndisk =");
        assert!(why(&sandbox).starts_with("line 18: true, false or "), "{}", why(&sandbox));
        read(&AGENT.replace("disk =", "browser_sandbox = true\ndisk =")).expect("a template");
        let unused = AGENT.replace("{{memory}}G", "4G");
        assert_eq!(why(&unused), "parameter memory is named nowhere in the template");
        let long = format!("{AGENT}#{}", "x".repeat(Limits::TEMPLATE_BYTES));
        assert!(why(&long).contains("the limit is"));
    }
}
