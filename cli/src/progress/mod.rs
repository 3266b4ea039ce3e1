//! Waiting for a workspace, with progress on stderr.
//!
//! What is shown is decided by [`lines::Progress`], what is waited for by [`Goal`]; this file only
//! follows the workspace and redraws. On a terminal the step that runs is a live last line; else
//! each finished step is one line.

mod goal;
mod lines;

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};
use tonic::{Code, Status, Streaming};
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api::{self, Api},
    app::App,
    error::{Error, Kind, Outcome},
    render::{Output, window},
    value::show_duration,
    view::{observed::Step, workspace::Workspace},
};

pub(crate) use goal::Goal;
use goal::Verdict;
use lines::Progress;

/// How often the live line counts on.
const TICK: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(500);

/// One wait.
pub(crate) struct Waiter {
    goal: Goal,
    begun: Instant,
    limit: Duration,
    progress: Progress,
    screen: Screen,
}

/// A wait that ended well.
pub(crate) struct Done {
    goal: Goal,
    /// The workspace as it was last seen.
    workspace: Workspace,
}

/// What ended the wait, beside the goal.
enum Seen {
    Workspace(Box<Workspace>),
    Gone,
    Broken,
    Failed(Error),
    Tick,
}

impl Waiter {
    /// Prepares a wait that began at `begun`.
    pub(crate) fn new(app: &App, goal: Goal, begun: Instant) -> Self {
        Self {
            goal,
            begun,
            limit: app.wait(),
            progress: Progress::default(),
            screen: Screen::new(&app.output),
        }
    }

    /// Shows where a new workspace was placed.
    pub(crate) fn placed(&mut self, summary: &str, took: Duration) {
        if let Some(line) = self.progress.placed(summary, took) {
            self.screen.line(&line);
        }
    }

    /// Follows the workspace until the goal is reached.
    ///
    /// # Errors
    /// The goal cannot be reached, or not in time.
    pub(crate) async fn wait(mut self, api: &mut Api, first: Workspace) -> Result<Done, Error> {
        let until = self.begun + self.limit;
        let mut last = first;
        let mut stream: Option<Streaming<pb::FollowWorkspaceResponse>> = None;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let result = loop {
            if let Some(result) = self.show(&last) {
                break result.map(|()| last);
            }
            let live = if self.screen.live { Some(&mut tick) } else { None };
            match timeout_at(until, next(api, (&last.id, live), &mut stream)).await {
                Ok(Seen::Workspace(workspace)) => last = *workspace,
                Ok(Seen::Gone) if self.goal == Goal::Deleted => break Ok(last),
                Ok(Seen::Gone) => break Err(goal::gone(&last)),
                Ok(Seen::Failed(error)) => break Err(error),
                Ok(Seen::Broken) => {
                    stream = None;
                    let _ = timeout_at(until, tokio::time::sleep(PAUSE)).await;
                }
                Ok(Seen::Tick) => {}
                Err(_) => break Err(self.too_late(&last)),
            }
        };
        self.screen.clear();
        result.map(|workspace| Done { goal: self.goal, workspace })
    }

    /// Shows what is new; returns the end where this is it.
    fn show(&mut self, workspace: &Workspace) -> Option<Result<(), Error>> {
        let took = self.begun.elapsed();
        let lines = match self.goal {
            Goal::Placed | Goal::Running { .. } => self.progress.update(workspace, took),
            Goal::Stopped | Goal::Deleted => self.progress.ending(workspace),
            Goal::Held { .. } => self.progress.holding(workspace),
        };
        for line in lines {
            self.screen.line(&line);
        }
        match self.goal.judge(workspace) {
            Verdict::Reached => Some(Ok(())),
            Verdict::Over(error) => Some(Err(error)),
            Verdict::Going => {
                let line = match self.goal {
                    Goal::Held { .. } => Progress::live_caps(workspace, took),
                    _ => self.progress.live(workspace, took),
                };
                self.screen.show_live(&line);
                None
            }
        }
    }

    fn too_late(&self, last: &Workspace) -> Error {
        let limit = show_duration(self.limit);
        let address = &last.address;
        let message = format!("{address} is not {} after {limit}", self.goal.word());
        let why = match self.goal {
            Goal::Held { .. } => lines::held_back(last).unwrap_or_else(|| {
                let node = last.node.as_deref().unwrap_or("its node");
                let told = last.observed.as_ref().is_some_and(|seen| seen.caps.is_some());
                let old = if told { "" } else { "; an older node agent never does" };
                format!("{node} has not told that it holds them{old}")
            }),
            _ => format!("{}: {}", last.status, last.reason),
        };
        Error::new(Kind::Timeout, "WAIT_TIMEOUT", message)
            .why(why)
            .next(format!("it goes on; warren workspace show {address}"))
    }
}

/// Returns the next thing seen of the workspace, or that the live line is to count on; opens the
/// stream where there is none.
async fn next(
    api: &mut Api,
    (id, tick): (&str, Option<&mut Interval>),
    stream: &mut Option<Streaming<pb::FollowWorkspaceResponse>>,
) -> Seen {
    if stream.is_none() {
        let request = pb::FollowWorkspaceRequest { workspace: id.to_owned() };
        let opened = api
            .read(async |channel| api::workspaces(channel).follow_workspace(request.clone()).await)
            .await;
        match opened {
            Ok(opened) => *stream = Some(opened),
            Err(error) => return not_opened(error),
        }
    }
    let Some(open) = stream.as_mut() else { return Seen::Broken };
    let message = match tick {
        None => open.message().await,
        Some(tick) => tokio::select! {
            message = open.message() => message,
            _ = tick.tick() => return Seen::Tick,
        },
    };
    match message {
        Ok(Some(answer)) => match answer.workspace {
            Some(workspace) => Seen::Workspace(Box::new(Workspace::from(workspace))),
            None => Seen::Broken,
        },
        Ok(None) => Seen::Broken,
        Err(status) => ended(api, &status),
    }
}

fn not_opened(error: Error) -> Seen {
    match error.kind {
        Kind::NotFound => Seen::Gone,
        Kind::Unreachable => Seen::Broken,
        Kind::Failed
        | Kind::Usage
        | Kind::Conflict
        | Kind::Timeout
        | Kind::NotPermitted
        | Kind::BrokenPipe => Seen::Failed(error),
    }
}

fn ended(api: &Api, status: &Status) -> Seen {
    match status.code() {
        Code::NotFound => Seen::Gone,
        Code::PermissionDenied | Code::Unauthenticated => Seen::Failed(api.failed(status)),
        _ => Seen::Broken,
    }
}

/// Prints what a wait came to; a failed startup step is an error of its own.
///
/// # Errors
/// The failed step, with its last output shown before.
pub(crate) fn finish(app: &App, done: Done) -> Outcome {
    let workspace = done.workspace;
    let address = workspace.address.clone();
    match done.goal {
        Goal::Deleted => {
            app.output.talk(&format!("{address} is deleted"));
            return Ok(0);
        }
        Goal::Placed | Goal::Stopped => {
            let node = workspace.node.clone().unwrap_or_default();
            let text = match done.goal {
                Goal::Placed => format!("{address} is placed on {node}\n"),
                _ => format!("{address} is stopped; warren workspace start {address}\n"),
            };
            app.output.object(&workspace, &address, || text)?;
            return Ok(0);
        }
        Goal::Held { .. } => {
            app.output.object(&workspace, &address, || workspace.resized())?;
            return Ok(0);
        }
        Goal::Running { .. } => {}
    }
    let failed = workspace.observed.as_ref().and_then(|seen| seen.failed_step()).cloned();
    if let Some(step) = failed {
        app.output.object(&workspace, &address, String::new)?;
        return Err(step_failed(app, &workspace, &step));
    }
    app.output.object(&workspace, &address, || match app.output.quiet {
        true => format!("{address}\n"),
        false => next_steps(&workspace),
    })?;
    Ok(0)
}

/// Returns the block that ends every start.
fn next_steps(workspace: &Workspace) -> String {
    let address = &workspace.address;
    let session = workspace.spec.sessions.first().map(|session| session.name.clone());
    let seen = workspace.observed.as_ref().and_then(|seen| seen.sessions.first());
    let session = session.or_else(|| seen.map(|s| s.name.clone())).unwrap_or("main".to_owned());
    format!(
        "{address} is running. Next:\n  \
         warren session attach {address}/{session}      (detach with Ctrl-] d; it runs on)\n  \
         warren workspace logs -f {address}\n  \
         warren workspace explain {address}\n"
    )
}

fn step_failed(app: &App, workspace: &Workspace, step: &Step) -> Error {
    let address = &workspace.address;
    let output = step.output.as_deref().unwrap_or_default();
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in &lines[lines.len().saturating_sub(20)..] {
        app.output.talk(&format!("    | {}", warren_common::status::reason(line)));
    }
    let cause = step.message.clone().or_else(|| lines.last().map(|line| (*line).to_owned()));
    let message = format!("{address} runs, but a startup step failed: {}", step.title);
    let error = Error::new(Kind::Failed, "STARTUP_STEP_FAILED", message);
    let error = match cause {
        Some(cause) => error.why(cause),
        None => error,
    };
    error.next(format!(
        "warren session attach {address} to look, warren workspace restart {address} to try again"
    ))
}

/// Where progress is drawn.
struct Screen {
    output: Output,
    /// Stderr is a terminal: the last line is redrawn.
    live: bool,
    drawn: bool,
}

impl Screen {
    fn new(output: &Output) -> Self {
        let live = io::stderr().is_terminal() && !output.quiet;
        Self { output: output.clone(), live, drawn: false }
    }

    /// Prints a line that stays.
    fn line(&mut self, text: &str) {
        self.clear();
        self.output.talk(text);
    }

    /// Redraws the live line.
    fn show_live(&mut self, text: &str) {
        if !self.live {
            return;
        }
        let columns = window(io::stderr()).map_or(80, |(columns, _)| columns);
        let text: String = text.chars().take(usize::from(columns.saturating_sub(1))).collect();
        let mut talk = io::stderr().lock();
        // progress is only talk
        let _ = write!(talk, "\r{text}\x1b[K").and_then(|()| talk.flush());
        self.drawn = true;
    }

    fn clear(&mut self) {
        if self.drawn {
            let mut talk = io::stderr().lock();
            let _ = write!(talk, "\r\x1b[K").and_then(|()| talk.flush());
            self.drawn = false;
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear();
    }
}
