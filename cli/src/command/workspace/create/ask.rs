//! Asking a person for what a template needs and nobody gave.

use std::io::{self, IsTerminal as _, Write as _};

use warren_common::{SecretName, spec::Tool, status::clean};
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api::{self, Api},
    app::App,
    command::secret::{self, value},
    error::Error,
};

/// The type of parameters that name secrets.
const SECRET: &str = "secret";

/// Completes a request's parameters: asks for the required ones that it leaves out, where a person
/// is there to ask (where none is, the coordinator refuses by name), and sets those of type secret
/// whose value is given, so that the request names them.
///
/// # Errors
/// The template cannot be looked at, a secret cannot be read or set, or the answers end.
pub(super) async fn complete(
    app: &App,
    api: &mut Api,
    request: &mut pb::CreateWorkspaceRequest,
) -> Result<(), Error> {
    let (named, version) = request.template.split_once('@').unwrap_or((&request.template, "0"));
    let (named, version) = (named.to_owned(), version.parse().unwrap_or_default());
    let here = io::stdin().is_terminal() && io::stderr().is_terminal();
    let placed = request.parameters.values().any(|value| value::is_place(value));
    if named.is_empty() || !(here || placed) {
        return Ok(());
    }
    let get = pb::GetTemplateRequest { name: named, version, read: None };
    let answer =
        api.read(async |channel| api::templates(channel).get_template(get.clone()).await).await?;
    for parameter in answer.parameters {
        let given = request.parameters.get(&parameter.name).cloned();
        let asks = here && parameter.required && given.is_none();
        let taken = match (parameter.r#type.as_str(), given) {
            (SECRET, Some(place)) if value::is_place(&place) => {
                Some(keep(app, api, request, (&parameter, Some(&place))).await?)
            }
            (SECRET, None) if asks => Some(keep(app, api, request, (&parameter, None)).await?),
            (_, None) if asks => Some(answer_to(&parameter)?),
            (_, Some(_) | None) => None,
        };
        if let Some(taken) = taken {
            request.parameters.insert(parameter.name, taken);
        }
    }
    Ok(())
}

/// Sets a secret of the workspace's own, and returns its name.
async fn keep(
    app: &App,
    api: &mut Api,
    request: &pb::CreateWorkspaceRequest,
    (parameter, place): (&pb::TemplateParameter, Option<&str>),
) -> Result<String, Error> {
    let name = format!("{}-{}", request.name, parameter.name.replace('_', "-"));
    let meant = ["git-token", "git-username", "anthropic-api-key"];
    let mut usual = Tool::ALL.iter().map(|tool| tool.usual_secret());
    if meant.contains(&name.as_str()) || usual.any(|one| one == name) {
        return Err(Error::usage(format!("{name} is what every workspace of the client uses"))
            .next(format!(
                "warren secret set {} ANOTHER-NAME, then --param {}=ANOTHER-NAME",
                request.client, parameter.name
            )));
    }
    let name: SecretName = name.trim_end_matches('-').parse().map_err(|_| {
        Error::usage(format!("{name} is too long for the name of a secret")).next(format!(
            "warren secret set {} NAME, then --param {}=NAME",
            request.client, parameter.name
        ))
    })?;
    // what is there may be another workspace's, or what tools log in with
    let held = secret::of_client(api, &request.client).await?;
    if held.iter().any(|one| one.name == name.as_str()) {
        let known = format!("{}/{name}", request.client);
        return Err(Error::usage(format!("there is a secret {known} already")).next(format!(
            "--param {}={name} to use it as it is, or warren secret set {} {name} to change it",
            parameter.name, request.client
        )));
    }
    let value = value::read(app, &format!("parameter {}", parameter.name), place)?;
    // another request than the one that makes the workspace
    let id = uuid::Uuid::now_v7().to_string();
    secret::put(api, (&request.client, &name, &request.name), &value, &id).await?;
    app.output.talk(&format!(
        "secret {}/{name} is set; it goes with workspace {}",
        request.client, request.name
    ));
    Ok(name.to_string())
}

fn answer_to(parameter: &pb::TemplateParameter) -> Result<String, Error> {
    let failed = |error: io::Error| Error::pipe("asking for a parameter", &error);
    let options = match parameter.options.is_empty() {
        true => String::new(),
        false => format!(" [{}]", parameter.options.join(", ")),
    };
    let meaning = match parameter.description.is_empty() {
        true => String::new(),
        false => format!(" ({})", parameter.description),
    };
    loop {
        let mut err = io::stderr().lock();
        let question = clean(&format!("{}{meaning}{options}", parameter.name), 500);
        write!(err, "{}: ", question.replace(['\n', '\t'], " ")).map_err(failed)?;
        err.flush().map_err(failed)?;
        let mut line = String::new();
        if io::stdin().lines().next().transpose().map_err(failed)?.map(|one| line = one).is_none() {
            return Err(Error::usage(format!("parameter {} is not given", parameter.name))
                .next(format!("add --param {}=…", parameter.name)));
        }
        let line = line.trim();
        let known = parameter.options.is_empty() || parameter.options.iter().any(|one| one == line);
        if !line.is_empty() && known {
            return Ok(line.to_owned());
        }
    }
}
