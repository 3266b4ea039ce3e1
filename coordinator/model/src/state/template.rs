//! Templates: documents with versions, one of them active.
//!
//! What a document says is nothing to the model: it was checked where it came in, and a workspace
//! is made from it before it comes here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use warren_common::{Limits, Revision, TemplateName, Timestamp, status::reason_applied};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{
        Principal, TemplateCommand,
        template::{ActivateTemplate, DeleteTemplate, PushTemplate},
    },
    state::ClusterState,
};

/// One template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Its versions that are kept, the oldest first; never empty.
    pub versions: Vec<TemplateVersion>,
    /// The version that new workspaces are made from.
    pub active: u32,
    /// The one that was active before; none where there was none, or where that is the one it went
    /// back to: who goes back twice does not end where he began.
    pub before: Option<u32>,
    /// The mutation that last changed it.
    pub revision: Revision,
}

/// One version of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateVersion {
    /// Counts from 1 and never repeats while the template is there.
    pub number: u32,
    /// The document.
    pub text: Arc<str>,
    /// What changed, as whoever pushed it said.
    pub message: String,
    /// Who pushed it.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
}

impl Template {
    /// Returns a version that is kept.
    pub fn version(&self, number: u32) -> Option<&TemplateVersion> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// Drops the oldest versions that nobody needs until few enough are left.
    fn sweep(&mut self) {
        while self.versions.len() > Limits::TEMPLATE_VERSIONS {
            let newest = self.versions.len() - 1;
            let mut spare = self.versions.iter().take(newest);
            let spare =
                spare.position(|one| one.number != self.active && Some(one.number) != self.before);
            let Some(spare) = spare else { return };
            self.versions.remove(spare);
        }
    }
}

pub(crate) fn command(
    state: &mut ClusterState,
    context: &Context,
    (command, by): (&TemplateCommand, &Principal),
) -> Result<Change, Refusal> {
    match command {
        TemplateCommand::Push(push) => self::push(state, context, (push, by)),
        TemplateCommand::Activate(activate) => self::activate(state, context, activate),
        TemplateCommand::Delete(delete) => self::delete(state, context, delete),
    }
}

fn push(
    state: &mut ClusterState,
    context: &Context,
    (command, by): (&PushTemplate, &Principal),
) -> Result<Change, Refusal> {
    let PushTemplate { template: name, text, message, activate } = command;
    let (bytes, limit) = (text.len(), Limits::TEMPLATE_BYTES);
    if bytes > limit {
        let message = format!("template {name} has {bytes} bytes, the limit is {limit}");
        return Err(Refusal::new(RefusalCode::InvalidSpec, message));
    }
    let known = state.templates.get(name);
    if let Some(known) = known {
        context.unchanged_since(known.revision, || format!("template {name}"))?;
        let newest = known.versions.last();
        if let Some(same) = newest.filter(|newest| newest.text.as_ref() == text.as_str()) {
            let number = same.number;
            return match *activate && known.active != number {
                true => switch(state, context, (name, number)),
                false => Ok(Change::none(Outcome::Template(number))),
            };
        }
    } else if state.templates.len() >= Limits::TEMPLATES {
        let message = format!("the cluster holds {} templates, the limit", Limits::TEMPLATES);
        return Err(Refusal::new(RefusalCode::LimitReached, message));
    }
    let last = known.and_then(|known| known.versions.last()).map_or(0, |last| last.number);
    let number = last.saturating_add(1);
    let version = TemplateVersion {
        number,
        text: text.as_str().into(),
        message: reason_applied(message),
        by: by.clone(),
        at: context.at,
    };
    let mut template = known.map(|known| known.as_ref().clone()).unwrap_or_else(|| Template {
        versions: Vec::new(),
        active: number,
        before: None,
        revision: context.revision,
    });
    template.versions.push(version);
    template.revision = context.revision;
    if *activate && template.active != number {
        template.before = Some(template.active);
        template.active = number;
    }
    template.sweep();
    let state_of_it = if template.active == number { ", active" } else { "" };
    state.templates.insert(name.clone(), Arc::new(template));
    Ok(Change::new("template.push", Outcome::Template(number))
        .object(name, &number)
        .detail(format!("version {number}{state_of_it}: {}", reason_applied(message))))
}

fn activate(
    state: &mut ClusterState,
    context: &Context,
    command: &ActivateTemplate,
) -> Result<Change, Refusal> {
    let ActivateTemplate { template: name, version } = command;
    let template = state.templates.get(name).ok_or_else(|| missing(name))?;
    context.unchanged_since(template.revision, || format!("template {name}"))?;
    let Some(number) = version.or(template.before) else {
        let active = template.active;
        let message = format!("template {name} had no version active before {active}");
        return Err(Refusal::new(RefusalCode::WrongState, message));
    };
    if template.version(number).is_none() {
        let kept: Vec<String> =
            template.versions.iter().map(|one| one.number.to_string()).collect();
        let message =
            format!("template {name} has no version {number}; there are {}", kept.join(", "));
        return Err(Refusal::new(RefusalCode::NotFound, message));
    }
    if template.active == number {
        return Ok(Change::none(Outcome::Template(number)));
    }
    switch(state, context, (name, number))
}

fn switch(
    state: &mut ClusterState,
    context: &Context,
    (name, number): (&TemplateName, u32),
) -> Result<Change, Refusal> {
    let template = state.templates.get_mut(name).ok_or_else(|| missing(name))?;
    let template = Arc::make_mut(template);
    let before = template.active;
    template.before = if template.before == Some(number) { None } else { Some(before) };
    template.active = number;
    template.revision = context.revision;
    Ok(Change::new("template.activate", Outcome::Template(number))
        .object(name, &number)
        .detail(format!("version {before} to {number}")))
}

fn delete(
    state: &mut ClusterState,
    context: &Context,
    command: &DeleteTemplate,
) -> Result<Change, Refusal> {
    let name = &command.template;
    let template = state.templates.get(name).ok_or_else(|| missing(name))?;
    context.unchanged_since(template.revision, || format!("template {name}"))?;
    let active = template.active;
    state.templates.remove(name);
    Ok(Change::new("template.delete", Outcome::Template(active)).object(name, &active))
}

fn missing(name: &TemplateName) -> Refusal {
    Refusal::new(RefusalCode::NotFound, format!("there is no template {name}"))
}
