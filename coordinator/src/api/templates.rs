//! `TemplateService`: what workspaces are made from.

use tonic::{Request, Response, Status};
use warren_common::{Limits, TemplateName};
use warren_model::{
    ClusterState, Command, Outcome, Principal,
    command::{
        TemplateCommand,
        template::{ActivateTemplate, DeleteTemplate, PushTemplate},
    },
    state::{Template, TemplateVersion},
};
use warren_proto::{
    ApiError,
    pb::admin::v1::{self as pb, template_service_server::TemplateService},
};

use super::{
    Api, caller,
    due::may_know_people,
    errors,
    mutation::Asked,
    page::Page,
    template::{BASE, document},
};
use crate::authz::Caller;

#[tonic::async_trait]
impl TemplateService for Api {
    async fn push_template(
        &self,
        request: Request<pb::PushTemplateRequest>,
    ) -> Result<Response<pb::PushTemplateResponse>, Status> {
        let principal = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(principal, request.mutation)?;
        let template = document::name(&request.name)?;
        let limit = Limits::REASON_BYTES;
        if request.message.len() > limit {
            return Err(errors::invalid("message", format!("is longer than {limit} bytes")).into());
        }
        document::read(&request.document)?;
        if request.dry_run {
            return Ok(Response::new(pb::PushTemplateResponse::default()));
        }
        let push = TemplateCommand::Push(PushTemplate {
            template: template.clone(),
            text: request.document,
            message: request.message,
            activate: request.activate,
        });
        let applied = self.mutate(&asked, Command::Template(Box::new(push))).await?;
        let Outcome::Template(version) = applied.outcome else {
            return Err(errors::internal("pushing a template", "another outcome").into());
        };
        Ok(Response::new(pb::PushTemplateResponse {
            template: shown(&self.local().state, &template),
            version,
            revision: applied.revision.0,
        }))
    }

    async fn list_templates(
        &self,
        request: Request<pb::ListTemplatesRequest>,
    ) -> Result<Response<pb::ListTemplatesResponse>, Status> {
        let people = may_know_people(Caller::of(&request)?.role());
        let request = request.into_inner();
        let page = Page::read(request.page_size, &request.page_token)?;
        let moment = self.read_for(request.read).await?;
        let pushed = moment.state.templates.iter().map(|(name, one)| (name.to_string(), Some(one)));
        let mut all: Vec<_> = pushed.chain([(BASE.to_owned(), None)]).collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        let keyed = all.into_iter().map(|(name, one)| (name.clone(), (name, one)));
        let paged = page.cut(keyed, |(name, template)| match template {
            Some(template) => show(&moment.state, &name, template, people),
            None => document::base(),
        });
        Ok(Response::new(pb::ListTemplatesResponse {
            freshness: Some(moment.freshness()),
            templates: paged.items,
            next_page_token: paged.next,
        }))
    }

    async fn get_template(
        &self,
        request: Request<pb::GetTemplateRequest>,
    ) -> Result<Response<pb::GetTemplateResponse>, Status> {
        let people = may_know_people(Caller::of(&request)?.role());
        let request = request.into_inner();
        let moment = self.read_for(request.read).await?;
        let freshness = Some(moment.freshness());
        if request.name == BASE && request.version == 0 {
            let base = document::base();
            let answer = pb::GetTemplateResponse {
                freshness,
                parameters: base.parameters.clone(),
                template: Some(base),
                ..Default::default()
            };
            return Ok(Response::new(answer));
        }
        let (name, template) = find(&moment.state, &request.name)?;
        let number = if request.version == 0 { template.active } else { request.version };
        let version = template.version(number);
        let version =
            version.ok_or_else(|| errors::not_found("template", &format!("{name}@{number}")))?;
        Ok(Response::new(pb::GetTemplateResponse {
            freshness,
            template: Some(show(&moment.state, name.as_str(), template, people)),
            version: number,
            parameters: document::parameters(&document::read(&version.text).unwrap_or_default()),
            document: version.text.as_ref().to_owned(),
        }))
    }

    async fn activate_template(
        &self,
        request: Request<pb::ActivateTemplateRequest>,
    ) -> Result<Response<pb::ActivateTemplateResponse>, Status> {
        let principal = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(principal, request.mutation)?;
        let template = document::name(&request.name)?;
        let version = (request.version != 0).then_some(request.version);
        let activate = ActivateTemplate { template: template.clone(), version };
        let command = Command::Template(Box::new(TemplateCommand::Activate(activate)));
        let applied = self.mutate(&asked, command).await?;
        Ok(Response::new(pb::ActivateTemplateResponse {
            template: shown(&self.local().state, &template),
            revision: applied.revision.0,
        }))
    }

    async fn delete_template(
        &self,
        request: Request<pb::DeleteTemplateRequest>,
    ) -> Result<Response<pb::DeleteTemplateResponse>, Status> {
        let principal = caller(&request)?;
        let request = request.into_inner();
        let asked = Asked::read(principal, request.mutation)?;
        let template = document::name(&request.name)?;
        let delete = TemplateCommand::Delete(DeleteTemplate { template });
        let revision = match self.mutate(&asked, Command::Template(Box::new(delete))).await {
            Ok(applied) => applied.revision.0,
            Err(error) if self.is_done(&asked, &error) => self.local().state.revision.0,
            Err(error) => return Err(error.into()),
        };
        Ok(Response::new(pb::DeleteTemplateResponse { revision }))
    }
}

fn find<'a>(state: &'a ClusterState, text: &str) -> Result<(TemplateName, &'a Template), ApiError> {
    let name: TemplateName = text.parse().map_err(|why| errors::invalid("name", why))?;
    match state.templates.get(&name) {
        Some(template) => Ok((name, template)),
        None => Err(errors::not_found("template", text)),
    }
}

fn shown(state: &ClusterState, name: &TemplateName) -> Option<pb::Template> {
    // only admins change templates
    state.templates.get(name).map(|template| show(state, name.as_str(), template, true))
}

/// Shows a template; `people` says whether the caller may know who pushed it.
fn show(state: &ClusterState, name: &str, template: &Template, people: bool) -> pb::Template {
    let active = template.version(template.active);
    // one that an earlier version let in and this one does not understand is shown without
    let document = active.and_then(|active| document::read(&active.text).ok()).unwrap_or_default();
    pb::Template {
        name: name.to_owned(),
        description: warren_common::status::reason(&document.description),
        active: template.active,
        before: template.before.unwrap_or_default(),
        versions: template.versions.iter().map(|one| version(state, one, people)).collect(),
        parameters: document::parameters(&document),
        revision: template.revision.0,
    }
}

fn version(state: &ClusterState, version: &TemplateVersion, people: bool) -> pb::TemplateVersion {
    pb::TemplateVersion {
        number: version.number,
        message: version.message.clone(),
        by: match &version.by {
            _ if !people => String::new(),
            Principal::Person(name) => name.clone(),
            Principal::Node(id) => state.node_label(*id),
            Principal::Coordinator(id) => format!("coordinator {id}"),
        },
        at_unix_ms: version.at.0,
        bytes: version.text.len().try_into().unwrap_or(u32::MAX),
    }
}
