//! `warren context`: which clusters this machine knows.

mod join;

use clap::{Args, Subcommand};
use serde::Serialize;
use warren_common::Timestamp;
use warren_daemon::clock;

use crate::{
    app::App,
    context::{Context, Store},
    error::Outcome,
    render::Tabular,
    view,
};

/// Verbs on contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the clusters this machine knows.
    #[command(visible_alias = "ls", after_help = "Example:\n  warren context list")]
    List,
    /// Make a context the current one.
    #[command(after_help = "Example:\n  warren context use demo")]
    Use(Use),
    /// Show one context, the current one by default.
    #[command(after_help = "Example:\n  warren context show -o json")]
    Show(Show),
    /// Spend an invitation: make a key here and store the certificate as a context.
    #[command(
        after_help = "Examples:\n  warren context join wrn1_…\n  warren context join - < token    (no token in the shell's history)"
    )]
    Join(join::Join),
}

/// Arguments of `context use`.
#[derive(Debug, Args)]
pub(crate) struct Use {
    /// The context.
    name: String,
}

/// Arguments of `context show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The context; the current one without it.
    name: Option<String>,
}

#[derive(Debug, Serialize)]
struct View {
    name: String,
    current: bool,
    cluster: String,
    cluster_id: String,
    coordinators: Vec<String>,
    person: String,
}

impl View {
    fn new(name: String, context: Context, current: Option<&str>) -> Self {
        Self {
            current: current == Some(name.as_str()),
            name,
            cluster: context.cluster,
            cluster_id: context.cluster_id,
            coordinators: context.coordinators,
            person: context.person,
        }
    }
}

impl Tabular for View {
    const HEADER: &'static [&'static str] =
        &["CURRENT", "CONTEXT", "CLUSTER", "PERSON", "COORDINATORS"];
    const FLEXIBLE: usize = 4;

    fn row(&self, _now: Timestamp) -> Vec<String> {
        vec![
            if self.current { "*" } else { "" }.to_owned(),
            self.name.clone(),
            self.cluster.clone(),
            self.person.clone(),
            self.coordinators.join(", "),
        ]
    }

    fn address(&self) -> String {
        self.name.clone()
    }
}

pub(crate) async fn run(app: &App, verb: Verb) -> Outcome {
    let store = Store::locate()?;
    match verb {
        Verb::Join(join) => return join::run(app, &join).await,
        Verb::List => {
            let config = store.load()?;
            let current = config.current.as_deref();
            let views = config.contexts.into_iter().map(|(n, c)| View::new(n, c, current));
            let views: Vec<View> = views.collect();
            app.output.list(&views, clock::now(), "no cluster is known here")?;
        }
        Verb::Use(Use { name }) => {
            let (name, _) = store.choose(Some(&name))?;
            let mut config = store.load()?;
            config.current = Some(name.clone());
            store.save(&config)?;
            app.output.talk(&format!("context {name} is current"));
        }
        Verb::Show(Show { name }) => {
            let current = store.load()?.current;
            let name = name.as_deref().or(app.named_context());
            let (name, context) = store.choose(name)?;
            let view = View::new(name, context, current.as_deref());
            app.output.object(&view, &view.name, || {
                view::fields(&[
                    ("context", view.name.clone()),
                    ("current", if view.current { "yes" } else { "no" }.to_owned()),
                    ("cluster", format!("{} ({})", view.cluster, view.cluster_id)),
                    ("person", view.person.clone()),
                    ("coordinators", view.coordinators.join(", ")),
                ])
            })?;
        }
    }
    Ok(0)
}
