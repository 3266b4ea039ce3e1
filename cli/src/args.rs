//! The command line as a whole: nouns, and what every command understands.
//!
//! Each noun's verbs stand under `command/<noun>/`; this file only joins them.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::{
    command::{
        audit, browser, client, cluster, context, doctor, image, node, secret, session, template,
        top, user, version, workspace,
    },
    render::Format,
    value,
};

/// Gives coding agents a home: isolated, persistent workspaces on servers you control.
#[derive(Debug, Parser)]
#[command(
    name = "warren",
    version,
    disable_help_subcommand = true,
    after_help = "Examples:
  warren cluster init --name demo
  warren client create acme
  warren workspace create acme/web --repo https://git.example/acme/web.git --session main=claude
  warren session attach acme/web

Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 refused by state, 5 no coordinator or no quorum,
6 timeout of --wait or session wait, 7 not permitted; exec and attach pass the remote code
through."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// How data is printed on stdout.
    #[arg(
        short = 'o',
        long,
        global = true,
        value_enum,
        default_value = "table",
        env = "WARREN_OUTPUT",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub(crate) output: Format,
    /// The stored context to use instead of the current one.
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "WARREN_CONTEXT",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub(crate) context: Option<String>,
    /// How long to try and to wait, such as 90s or 10m [default: 15s for a call, 10m for a wait].
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        value_parser = value::duration,
        env = "WARREN_TIMEOUT",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub(crate) timeout: Option<Duration>,
    /// No colour; NO_COLOR in the environment does the same.
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_color: bool,
    /// Say nothing but data and errors.
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// The cluster as a whole: make it, look at it.
    Cluster {
        #[command(subcommand)]
        verb: cluster::Verb,
    },
    /// Machines that run workspaces.
    #[command(visible_alias = "n")]
    Node {
        #[command(subcommand)]
        verb: node::Verb,
    },
    /// Customer engagements: the isolation unit that owns workspaces.
    #[command(visible_alias = "c")]
    Client {
        #[command(subcommand)]
        verb: client::Verb,
    },
    /// Homes of coding agents: container, home volume and sessions.
    #[command(visible_alias = "ws")]
    Workspace {
        #[command(subcommand)]
        verb: workspace::Verb,
    },
    /// Terminal sessions inside workspaces.
    #[command(visible_alias = "s")]
    Session {
        #[command(subcommand)]
        verb: session::Verb,
    },
    /// Browsers inside workspaces, and what they show.
    #[command(visible_alias = "b")]
    Browser {
        #[command(subcommand)]
        verb: browser::Verb,
    },
    /// What workspaces are made from: parameters, caps, startup script, sessions; in versions.
    #[command(visible_alias = "t")]
    Template {
        #[command(subcommand)]
        verb: template::Verb,
    },
    /// Container images: which workspaces are made of which, and moving them to another.
    #[command(visible_alias = "i")]
    Image {
        #[command(subcommand)]
        verb: image::Verb,
    },
    /// What workspaces need to log in elsewhere: set it, list it, delete it; nothing shows a value.
    Secret {
        #[command(subcommand)]
        verb: secret::Verb,
    },
    /// People and their automation: invite them, list them, put them out.
    #[command(visible_alias = "u")]
    User {
        #[command(subcommand)]
        verb: user::Verb,
    },
    /// Who did what, and whether the records of it are as they were written.
    Audit {
        #[command(subcommand)]
        verb: audit::Verb,
    },
    /// Clusters this machine knows, and which one is current.
    Context {
        #[command(subcommand)]
        verb: context::Verb,
    },
    /// Show what uses the cluster up, the busiest first, until Ctrl-C.
    #[command(
        after_help = "Examples:\n  warren top\n  warren top --sort cpu\n  warren top --once -o json"
    )]
    Top(top::All),
    Doctor(doctor::Doctor),
    /// Print the version of this command and of the coordinator.
    Version(version::Version),
}
