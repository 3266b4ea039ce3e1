//! `warren workspace open`.

use std::{str::FromStr, time::Duration};

use clap::Args;
use serde::Serialize;
use uuid::Uuid;
use warren_common::Limits;
use warren_proto::pb::inside::v1::{Connect, View, ViewKind, connect::Target as Kind};

use super::look::get;
use crate::{
    app::App,
    command::present,
    error::{Error, Outcome},
    render::Format,
    terminal::forward::{self, Far, Signals},
};

/// How long control of a display lasts where nothing was said, in minutes.
const CONTROL: u32 = 15;

/// Arguments of `workspace open`.
#[derive(Debug, Args)]
pub(crate) struct Open {
    /// client/workspace, a bare name that fits one, or an id.
    workspace: String,
    /// terminal, vscode, playwright, or a TCP port that something in the workspace listens on.
    target: Target,
    /// Listen on this port here; any free one by default.
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    local: u16,
    /// The name in the printed address, where a name below localhost leads nowhere on this machine:
    /// pages then share cookies with other servers on it.
    #[arg(long, value_name = "HOST", value_parser = ["127.0.0.1"])]
    host: Option<String>,
    /// Only look, as without --control (playwright).
    #[arg(long, conflicts_with = "control")]
    view_only: bool,
    /// Take keyboard and mouse for this many minutes, 15 by default (playwright).
    #[arg(long, value_name = "MINUTES", num_args = 0..=1, default_missing_value = "15")]
    control: Option<u32>,
    /// The session to show; the first one by default (terminal).
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
}

/// What to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Terminal,
    Editor,
    Display,
    Port(u16),
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "terminal" => Ok(Self::Terminal),
            "vscode" | "editor" => Ok(Self::Editor),
            "playwright" | "display" => Ok(Self::Display),
            _ => match text.parse() {
                Ok(port) if port > 0 => Ok(Self::Port(port)),
                _ => Err("it is terminal, vscode, playwright or a port from 1 to 65535".to_owned()),
            },
        }
    }
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Editor => "vscode",
            Self::Display => "playwright",
            Self::Port(_) => "port",
        }
    }
}

/// What is open, as it is printed.
#[derive(Debug, Serialize)]
struct Opened {
    workspace: String,
    target: &'static str,
    /// None where it is no port.
    port: Option<u16>,
    /// What to connect to here.
    address: String,
    /// What to open in a browser; the token in it is good while this command runs.
    url: String,
}

pub(crate) async fn run(app: &App, open: &Open) -> Outcome {
    check(open)?;
    let mut api = app.api()?;
    let workspace = present(get(&mut api, &open.workspace).await?.workspace)?;
    let address = format!("{}/{}", workspace.client, workspace.name);
    let (listener, port) = forward::listen(open.local).await?;
    let name = open.host.clone().unwrap_or_else(own_name);
    let host = format!("{name}:{port}");
    let token = Uuid::new_v4().simple().to_string();
    let url = match open.target {
        Target::Port(_) => format!("http://{host}/"),
        // a fragment is never sent: it stands in no log and no referrer
        Target::Terminal | Target::Display => format!("http://{host}/#{token}"),
        Target::Editor => format!("http://{host}/?token={token}"),
    };
    let connect = Connect { target: Some(target(open, token, host.clone())) };
    let output = app.output.clone();
    let far = Far::new(workspace.id, connect, output.clone());
    far.probe(&mut api).await?;
    let signals = Signals::catch()?;
    let named = match open.target {
        Target::Port(port) => Some(port),
        Target::Terminal | Target::Editor | Target::Display => None,
    };
    let near = format!("127.0.0.1:{port}");
    let opened =
        Opened { workspace: address, target: open.target.name(), port: named, address: near, url };
    match output.format {
        // one line, so that a script need not wait for the end of it
        Format::Json => output.data(&format!("{}\n", json(&opened)?))?,
        Format::Table | Format::Yaml | Format::Name => {
            output.object(&opened, &opened.url, || opened.text())?;
        }
    }
    output.talk("Ctrl-C ends it; what runs in the workspace runs on");
    far.serve(api, (listener, signals)).await?;
    Ok(0)
}

/// Returns a name of this machine's loopback that no other command has: what a page keeps in the
/// browser is its own then. Two ids, since one is a few bits short of 128.
fn own_name() -> String {
    let (one, other) = (Uuid::new_v4().simple().to_string(), Uuid::new_v4().simple().to_string());
    format!("w{one}{}.localhost", &other[..8])
}

fn json(opened: &Opened) -> Result<String, Error> {
    serde_json::to_string(opened)
        .map_err(|error| Error::pipe("writing the answer", &std::io::Error::other(error)))
}

/// Refuses options that would have no effect.
fn check(open: &Open) -> Result<(), Error> {
    let display = open.target == Target::Display;
    if !display && (open.view_only || open.control.is_some()) {
        return Err(Error::usage("--view-only and --control are for playwright")
            .next(format!("warren workspace open {} playwright --control", open.workspace)));
    }
    if open.target != Target::Terminal && open.session.is_some() {
        return Err(Error::usage("--session is for terminal")
            .next(format!("warren workspace open {} terminal --session NAME", open.workspace)));
    }
    let most = Limits::CONTROL.as_secs() / 60;
    match open.control {
        Some(minutes) if minutes == 0 || u64::from(minutes) > most => {
            Err(Error::usage(format!("control is given for 1 to {most} minutes at a time"))
                .next(format!("--control {CONTROL}, and the same again when it has ended")))
        }
        Some(_) | None => Ok(()),
    }
}

fn target(open: &Open, token: String, host: String) -> Kind {
    let view = |kind: ViewKind| {
        let control = Duration::from_secs(u64::from(open.control.unwrap_or_default()) * 60);
        let control_ms = u32::try_from(control.as_millis()).unwrap_or(u32::MAX);
        let session = open.session.clone().unwrap_or_default();
        Kind::View(View { kind: kind.into(), token, host, control_ms, session })
    };
    match open.target {
        Target::Port(port) => Kind::Port(port.into()),
        Target::Terminal => view(ViewKind::Terminal),
        Target::Editor => view(ViewKind::Editor),
        Target::Display => view(ViewKind::Display),
    }
}

impl Opened {
    fn text(&self) -> String {
        match self.port {
            Some(port) => {
                format!("{} port {port} is at {}\n{}\n", self.workspace, self.address, self.url)
            }
            None => format!("{} {}: {}\n", self.workspace, self.target, self.url),
        }
    }
}
