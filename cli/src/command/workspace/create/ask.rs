//! Asking a person for what a template needs and nobody gave.

use std::io::{self, IsTerminal as _, Write as _};

use warren_common::status::clean;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api::{self, Api},
    error::Error,
};

/// Asks for the required parameters that the request leaves out, where a person is there to ask;
/// where none is, the coordinator refuses by name.
///
/// # Errors
/// The template cannot be looked at, or the answers end.
pub(super) async fn missing(
    api: &mut Api,
    request: &mut pb::CreateWorkspaceRequest,
) -> Result<(), Error> {
    let (named, version) = request.template.split_once('@').unwrap_or((&request.template, "0"));
    let (named, version) = (named.to_owned(), version.parse().unwrap_or_default());
    let here = io::stdin().is_terminal() && io::stderr().is_terminal();
    if named.is_empty() || !here {
        return Ok(());
    }
    let get = pb::GetTemplateRequest { name: named, version, read: None };
    let answer =
        api.read(async |channel| api::templates(channel).get_template(get.clone()).await).await?;
    for parameter in answer.parameters.into_iter().filter(|one| one.required) {
        if request.parameters.contains_key(&parameter.name) {
            continue;
        }
        let value = answer_to(&parameter)?;
        request.parameters.insert(parameter.name, value);
    }
    Ok(())
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
