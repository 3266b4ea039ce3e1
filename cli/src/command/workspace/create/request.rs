//! From the command line to the request: every rule of the vocabulary is checked here, before any
//! call, with the words of the vocabulary.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use warren_common::{
    Bytes, Limits,
    spec::{
        BROWSER_SANDBOX_LABEL, Failover, GitIdentity, Labels, OFF, ON, PlacementRules, Resources,
        WorkspaceSpec,
    },
};
use warren_proto::pb::{admin::v1 as pb, node::v1 as node};

use super::{Create, Failover as FailoverArg, Isolation, ResourceArgs};
use crate::{api, command::refused, error::Error, value};

/// The options that are parameters of the template `base`.
const OPTIONS: [(&str, &str); 6] = [
    ("repo", "--repo"),
    ("branch", "--branch"),
    ("setup", "--setup"),
    ("image", "--image"),
    ("git_name", "--git-name"),
    ("git_email", "--git-email"),
];

/// Returns the request that the command line means.
///
/// # Errors
/// Usage, naming the option and the bound.
pub(super) fn build(
    create: &Create,
    request_id: &str,
) -> Result<pb::CreateWorkspaceRequest, Error> {
    let setup = create.setup.as_deref().map(setup).transpose()?;
    let mut labels = value::labels("--label", &create.labels).map_err(Error::usage)?;
    if let Some(on) = create.browser_sandbox {
        let value = if on { ON } else { OFF };
        labels.insert(BROWSER_SANDBOX_LABEL.to_owned(), value.to_owned());
    }
    let required =
        value::labels("--require-label", &create.placement.require_labels).map_err(Error::usage)?;
    check(create, setup.as_deref(), &labels, &required)?;
    let resources = &create.resources;
    let failover = match create.placement.failover {
        None => node::Failover::Unspecified,
        Some(FailoverArg::Auto) => node::Failover::Auto,
        Some(FailoverArg::Manual) => node::Failover::Manual,
    };
    let session = |session: &warren_common::spec::SessionSpec| node::SessionSpec {
        name: session.name.to_string(),
        command: session.command.clone(),
    };
    Ok(pb::CreateWorkspaceRequest {
        mutation: Some(api::mutation(request_id)),
        client: create.address.client.to_string(),
        name: create.address.workspace.to_string(),
        template: create.template.clone().unwrap_or_default(),
        parameters: parameters(create, setup)?.into_iter().collect(),
        resources: Some(pb::ResourceRequest {
            memory_bytes: resources.memory.map(|bytes| bytes.0),
            swap_bytes: resources.swap.map(|bytes| bytes.0),
            reserve_bytes: resources.reserve.map(|bytes| bytes.0),
            cpu_weight: resources.cpu_weight,
            milli_cpus: resources.cpus.map(|cpus| cpus.0),
            disk_bytes: resources.disk.map(|bytes| bytes.0),
            pids: resources.pids,
        }),
        placement: Some(node::Placement {
            pin_node_id: None,
            required_labels: required.into_iter().collect(),
            tier: tier(create.placement.isolation).into(),
        }),
        failover: failover.into(),
        labels: labels.into_iter().collect(),
        sessions: create.sessions.iter().map(session).collect(),
        pin_node: create.placement.pin.as_ref().map(ToString::to_string).unwrap_or_default(),
        no_queue: create.placement.no_queue,
    })
}

const fn tier(isolation: Option<Isolation>) -> node::IsolationTier {
    let Some(isolation) = isolation else { return node::IsolationTier::Unspecified };
    match isolation {
        Isolation::Container => node::IsolationTier::Container,
        Isolation::Userns => node::IsolationTier::UserNamespace,
        Isolation::Gvisor => node::IsolationTier::Gvisor,
        Isolation::Dedicated => node::IsolationTier::Dedicated,
    }
}

/// Checks what was given, with defaults in place of what was not.
fn check(
    create: &Create,
    setup: Option<&str>,
    labels: &Labels,
    required: &Labels,
) -> Result<(), Error> {
    let identity = create.git_name.clone().zip(create.git_email.clone());
    let spec = WorkspaceSpec {
        template: create.template.clone().unwrap_or_else(|| "base".to_owned()),
        image: create.image.clone().unwrap_or_else(|| "image".to_owned()),
        repo: create.repo.clone(),
        branch: create.branch.clone(),
        setup: setup.map(str::to_owned),
        git_identity: identity.map(|(name, email)| GitIdentity { name, email }),
        sessions: create.sessions.clone(),
        resources: resources(&create.resources),
        placement: PlacementRules { required_labels: required.clone(), ..Default::default() },
        failover: Failover::Auto,
        labels: labels.clone(),
    };
    spec.validate().map_err(refused)
}

/// Fills in what was left out so that what was given can be checked: without a cap of its own a
/// reserve is only checked by the coordinator, which knows the template's.
fn resources(args: &ResourceArgs) -> Resources {
    let memory = args.memory.unwrap_or(args.reserve.unwrap_or(Bytes::gib(4)).max(Bytes::gib(4)));
    let defaults = Resources::with_memory(memory);
    Resources {
        memory,
        swap: args.swap.unwrap_or(defaults.swap),
        reserve: args.reserve.unwrap_or(defaults.reserve),
        cpu_weight: args.cpu_weight.unwrap_or(defaults.cpu_weight),
        cpus: args.cpus,
        disk: args.disk.unwrap_or(defaults.disk),
        pids: args.pids.unwrap_or(defaults.pids),
    }
}

/// Joins options and `--param`; a parameter that an option sets too is refused.
fn parameters(create: &Create, setup: Option<String>) -> Result<Labels, Error> {
    let mut parameters = match &create.param_file {
        Some(path) => from_file(path)?,
        None => Labels::new(),
    };
    parameters.extend(value::labels("--param", &create.params).map_err(Error::usage)?);
    let given = [
        create.repo.as_ref().map(ToString::to_string),
        create.branch.clone(),
        setup,
        create.image.clone(),
        create.git_name.clone(),
        create.git_email.clone(),
    ];
    for ((name, option), value) in OPTIONS.into_iter().zip(given) {
        let Some(value) = value else { continue };
        if parameters.insert(name.to_owned(), value).is_some() {
            return Err(Error::usage(format!("{option} and --param {name} were both given"))
                .next(format!("leave one of them out; {option} is the shorter one")));
        }
    }
    Ok(parameters)
}

/// Reads parameters from a TOML file: texts, numbers, `true` and `false`, and lists of texts.
fn from_file(path: &Path) -> Result<Labels, Error> {
    let wrong = |why: String| Error::usage(format!("--param-file {}", path.display())).why(why);
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        wrong(error.message().to_owned()).next("write one NAME = \"VALUE\" a line")
    })?;
    let value = |name: &str, value: toml::Value| match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        toml::Value::Array(items) => {
            // commas are what stands between items
            let text = |item: &'_ toml::Value| -> Option<String> {
                let text = item.as_str().filter(|text| !text.contains(','))?;
                Some(text.to_owned())
            };
            let texts = items.iter().map(text).collect::<Option<Vec<_>>>();
            texts.map(|texts| texts.join(",")).ok_or_else(|| name.to_owned())
        }
        _ => Err(name.to_owned()),
    };
    let pairs = table.into_iter().map(|(name, one)| Ok((name.clone(), value(&name, one)?)));
    pairs.collect::<Result<_, String>>().map_err(|name| {
        wrong(format!("{name} is no text, number, true or false, or list of texts without commas"))
    })
}

/// Reads `@file` or `@-`; one byte more than the limit is enough to refuse it.
fn setup(text: &str) -> Result<String, Error> {
    let Some(path) = text.strip_prefix('@') else {
        return Err(Error::usage("--setup takes @file, or @- for stdin")
            .why("a script on the command line would be readable in the process list")
            .next("write the script to a file and give --setup @FILE"));
    };
    let limit = u64::try_from(Limits::SETUP_BYTES).unwrap_or(u64::MAX) + 1;
    let mut script = Vec::new();
    let read = match path {
        "-" => io::stdin().lock().take(limit).read_to_end(&mut script),
        path => fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut script)),
    };
    read.map_err(|error| {
        Error::usage(format!("--setup cannot read {path}")).why(error.to_string())
    })?;
    if script.len() > Limits::SETUP_BYTES {
        return Err(Error::usage(format!(
            "--setup has more than {} bytes, which is the limit",
            Limits::SETUP_BYTES
        )));
    }
    String::from_utf8(script).map_err(|_| Error::usage("--setup is not UTF-8 text"))
}
