//! `warren image rollout|rollback`: many workspaces to another image, none while its agents work.
//!
//! Nothing is remembered of a rollout but the workspaces themselves: who is of the new image is
//! done. So it can be broken off at any moment, and the same command goes on.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use warren_proto::{
    error::reason,
    pb::admin::v1::{self as pb, update_workspace_request as request},
};

use crate::{
    api::{self, Api},
    app::App,
    command::{cluster::confirm, present, workspace},
    error::{Error, Kind, Outcome},
    progress::{Goal, Waiter},
    value::{self, show_duration},
    view::workspace::Workspace,
};

/// How long a rollout waits for busy agents where nothing was said.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Between two looks at workspaces whose agents are busy.
const LOOK: Duration = Duration::from_secs(2);

/// Arguments of `image rollout`.
#[derive(Debug, Args)]
pub(crate) struct Rollout {
    /// The image they are moved to.
    image: String,
    /// The image they are made of now.
    #[arg(long, value_name = "IMAGE")]
    from: String,
    /// Move one first and the others only where it runs well: the one that is named, or the first
    /// whose agents are idle.
    #[arg(long, value_name = "WORKSPACE", num_args = 0..=1, default_missing_value = "")]
    canary: Option<String>,
    /// How long the first one must run before the others follow.
    #[arg(long, value_name = "DURATION", value_parser = value::duration, default_value = "30s", requires = "canary")]
    watch: Duration,
    #[command(flatten)]
    which: Which,
}

/// Arguments of `image rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The image they are moved away from.
    image: String,
    #[command(flatten)]
    which: Which,
}

/// Which workspaces, and how.
#[derive(Debug, Args)]
struct Which {
    /// Only workspaces of this client.
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Do not wait for agents that are busy.
    #[arg(long)]
    now: bool,
    /// Only say which ones it would be.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

/// What has become of each.
#[derive(Debug, Default, Serialize)]
struct Moves {
    /// Of the new image and up.
    moved: Vec<String>,
    /// Of the old image, with why.
    left: BTreeMap<String, String>,
}

/// One rollout under way.
struct Moving<'a> {
    app: &'a App,
    api: Api,
    to: request::Update,
    now: bool,
    until: Instant,
    /// The image that they have while they are to be moved.
    from: String,
    moves: Moves,
    /// The one under way goes back where it does not come up, and is the last.
    canary: bool,
    /// What was last said of those that wait.
    said: BTreeMap<String, String>,
}

pub(super) async fn out(app: &App, rollout: &Rollout) -> Outcome {
    let Rollout { image, from, .. } = rollout;
    if image == from {
        return Err(Error::usage("--from names the image that they are moved to"));
    }
    let mut api = app.api()?;
    let mut picked = pick(&mut api, &rollout.which, |one| one.spec.image == *from).await?;
    let named = rollout.canary.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = named {
        let at = picked.iter().position(|one| one.address == name || one.id == name);
        let at = at.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                reason::NOT_FOUND,
                format!("no workspace {name} is of {from}"),
            )
            .next("warren image list")
        })?;
        let canary = picked.remove(at);
        picked.insert(0, canary);
    }
    let to = request::Update::Image(image.clone());
    let Some(mut moving) = begin(app, api, (&rollout.which, to, from), &picked)? else {
        return Ok(0);
    };
    let moved = moving.roll(rollout, (picked, named)).await;
    moving.end(&format!("warren image rollback {image}"), moved)
}

/// Returns those that the first one is taken from, and the others.
///
/// # Errors
/// None of them runs, or the one that is named does not: it would show nothing of the image.
fn canaries(
    picked: Vec<Workspace>,
    named: Option<&str>,
) -> Result<(Vec<Workspace>, Vec<Workspace>), Error> {
    let (mut up, others): (Vec<Workspace>, Vec<Workspace>) =
        picked.into_iter().partition(|one| one.run == "running" && one.node.is_some());
    let is_named = |one: &Workspace| named.is_none_or(|name| one.address == name || one.id == name);
    if !up.first().is_some_and(is_named) {
        let error = Error::usage("the first one must be a workspace that runs");
        return Err(error.next("warren workspace list, then --canary WORKSPACE"));
    }
    // a named one stands first, and no other goes instead of it
    let others = match named {
        Some(_) => up.split_off(1).into_iter().chain(others).collect(),
        None => others,
    };
    Ok((up, others))
}

pub(super) async fn back(app: &App, rollback: &Rollback) -> Outcome {
    let mut api = app.api()?;
    let fits = |one: &Workspace| one.spec.image == rollback.image && one.image_before.is_some();
    let picked = pick(&mut api, &rollback.which, fits).await?;
    let to = request::Update::ImageBefore(pb::ImageBefore {});
    let image = &rollback.image;
    let Some(mut moving) = begin(app, api, (&rollback.which, to, image), &picked)? else {
        return Ok(0);
    };
    let moved = moving.all(picked).await;
    moving.end("warren image list", moved)
}

/// Returns the workspaces to be moved, node by node.
async fn pick(
    api: &mut Api,
    which: &Which,
    fits: impl Fn(&Workspace) -> bool,
) -> Result<Vec<Workspace>, Error> {
    let client = which.client.as_deref().unwrap_or_default();
    let listed = workspace::all(api, client, None).await?;
    let mut picked: Vec<Workspace> =
        listed.items.into_iter().filter(|one| one.run != "deleted" && fits(one)).collect();
    picked.sort_by(|one, other| (&one.node, &one.address).cmp(&(&other.node, &other.address)));
    Ok(picked)
}

/// Shows what would be moved and asks; none where nothing is to be done.
fn begin<'a>(
    app: &'a App,
    api: Api,
    (which, to, from): (&Which, request::Update, &str),
    picked: &[Workspace],
) -> Result<Option<Moving<'a>>, Error> {
    let node = |one: &Workspace| one.node.clone().unwrap_or_else(|| "no node".to_owned());
    for one in picked {
        let to = match &to {
            request::Update::Image(image) => Some(image),
            request::Update::ImageBefore(_) => one.image_before.as_ref(),
            request::Update::Template(_) => None,
        };
        let (address, node) = (&one.address, node(one));
        let to = to.map_or("-", String::as_str);
        app.output.talk(&format!("{address} on {node}, {}: {from} to {to}", one.status));
    }
    let left = picked.iter().map(|one| (one.address.clone(), "its turn has not come".to_owned()));
    let moves = Moves { moved: Vec::new(), left: left.collect() };
    if picked.is_empty() || which.dry_run {
        let count = picked.len();
        app.output.object(&moves, "", || format!("{count} workspaces would be moved\n"))?;
        return Ok(None);
    }
    if !which.yes {
        let question = format!("Move {} workspaces, one after the other? [y/N] ", picked.len());
        confirm::yes(&question, "the same command with --yes")?;
    }
    let until = Instant::now() + app.timeout().unwrap_or(PATIENCE);
    let (from, now, said) = (from.to_owned(), which.now, BTreeMap::new());
    Ok(Some(Moving { app, api, to, now, until, from, moves, canary: false, said }))
}

impl Moving<'_> {
    /// Moves one that is watched first, where that is asked for, then the others.
    async fn roll(
        &mut self,
        rollout: &Rollout,
        (picked, named): (Vec<Workspace>, Option<&str>),
    ) -> Result<(), Error> {
        if rollout.canary.is_none() || picked.is_empty() {
            return self.all(picked).await;
        }
        let (up, others) = canaries(picked, named)?;
        self.canary = true;
        let (first, mut rest) = self.first(up).await?;
        let Some(first) = first else { return Ok(()) };
        self.watch(&first, rollout.watch).await?;
        self.canary = false;
        rest.extend(others);
        self.all(rest).await
    }

    /// Moves all of them, those of one node before those of the next.
    async fn all(&mut self, mut rest: Vec<Workspace>) -> Result<(), Error> {
        while let Some(next) = rest.first() {
            let node = next.node.clone();
            let (here, others) = rest.into_iter().partition(|one| one.node == node);
            rest = others;
            let mut here: Vec<Workspace> = here;
            while !here.is_empty() {
                let (moved, left) = self.first(here).await?;
                here = left;
                if moved.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Moves the first of them whose agents are idle, once one is; returns it and the others.
    async fn first(
        &mut self,
        mut from: Vec<Workspace>,
    ) -> Result<(Option<Workspace>, Vec<Workspace>), Error> {
        loop {
            for at in 0..from.len() {
                if self.one(&from[at]).await? {
                    return Ok((Some(from.remove(at)), from));
                }
            }
            if Instant::now() + LOOK >= self.until {
                return Ok((None, from));
            }
            sleep(LOOK).await;
        }
    }

    /// Moves one and waits until it is up; false where its agents are busy.
    async fn one(&mut self, workspace: &Workspace) -> Result<bool, Error> {
        let address = &workspace.address;
        let begun = Instant::now();
        // it may be long since it was picked
        let now = match workspace::get(&mut self.api, &workspace.id).await {
            Ok(found) => Workspace::from(present(found.workspace)?),
            Err(error) if error.kind == Kind::NotFound => return Ok(self.passed(address, "gone")),
            Err(error) => return Err(error),
        };
        if now.spec.image != self.from {
            return Ok(self.passed(address, &format!("of {} by now", now.spec.image)));
        }
        let to = self.to.clone();
        let moved = match self.update(workspace, to, (!self.now, Some(now.revision))).await {
            Ok(moved) => moved,
            Err(error) if error.reason == reason::WORKSPACE_BUSY => {
                let why = error.why.unwrap_or(error.message);
                if self.said.insert(address.clone(), why.clone()).as_ref() != Some(&why) {
                    self.app.output.talk(&format!("{address} is not moved yet: {why}"));
                }
                self.moves.left.insert(address.clone(), why);
                return Ok(false);
            }
            Err(error) if error.reason == reason::REVISION_MISMATCH => return Ok(false),
            Err(error) => return Err(error),
        };
        self.app.output.talk(&format!("{address}: image {}", moved.spec.image));
        if moved.run == "running" && moved.node.is_some() {
            let goal = Goal::Running { run_serial: moved.run_serial };
            let waited = Waiter::new(self.app, goal, begun).wait(&mut self.api, moved).await;
            match waited {
                Err(error) if self.canary => {
                    let why = error.why.unwrap_or(error.message);
                    return Err(self.back(workspace, why).await?);
                }
                Err(error) => {
                    let why = error.why.as_ref().unwrap_or(&error.message);
                    let why = format!("of the new image, and not up: {why}");
                    self.moves.left.insert(address.clone(), why);
                    return Err(error.next(format!("warren workspace update {address} --rollback")));
                }
                Ok(_) => {}
            }
        }
        self.moves.left.remove(address);
        self.moves.moved.push(address.clone());
        Ok(true)
    }

    /// Leaves one out, which is as good as moved.
    fn passed(&mut self, address: &str, why: &str) -> bool {
        self.app.output.talk(&format!("{address} is {why}"));
        self.moves.left.remove(address);
        true
    }

    async fn update(
        &mut self,
        workspace: &Workspace,
        to: request::Update,
        (when_idle, if_revision): (bool, Option<u64>),
    ) -> Result<Workspace, Error> {
        let mutation = pb::Mutation { if_revision, ..api::mutation(&api::request_id()) };
        let request = pb::UpdateWorkspaceRequest {
            mutation: Some(mutation),
            workspace: workspace.id.clone(),
            update: Some(to),
            when_idle,
            plan: false,
        };
        let api = &mut self.api;
        let answer = api
            .write(async |channel| api::workspaces(channel).update_workspace(request.clone()).await)
            .await?;
        Ok(Workspace::from(present(answer.workspace)?))
    }

    /// Has the first one go back, and says why nothing else moves.
    async fn back(&mut self, first: &Workspace, why: String) -> Result<Error, Error> {
        let back = request::Update::ImageBefore(pb::ImageBefore {});
        let address = &first.address;
        self.moves.moved.retain(|moved| moved != address);
        self.moves.left.insert(address.clone(), format!("it did not run well: {why}"));
        self.update(first, back, (false, None)).await?;
        let message = format!("{address} did not run well and goes back; no other was moved");
        let error = Error::new(Kind::Failed, "CANARY_FAILED", message).why(why);
        Ok(error.next(format!("warren workspace show {address}")))
    }

    /// Sees that the first one runs on.
    async fn watch(&mut self, first: &Workspace, lasts: Duration) -> Result<(), Error> {
        let address = &first.address;
        self.app.output.talk(&format!("{address} is watched for {}", show_duration(lasts)));
        let begun = Instant::now();
        let mut run = None;
        loop {
            let found = present(workspace::get(&mut self.api, &first.id).await?.workspace)?;
            let now = Workspace::from(found);
            let this = *run.get_or_insert(now.run_serial);
            let step = now.observed.as_ref().and_then(|seen| seen.failed_step());
            let well = now.run != "running" || (now.phase == "active" && now.run_serial == this);
            if !well || step.is_some() {
                let why = step.map_or(now.reason.clone(), |step| format!("{} failed", step.title));
                return Err(self.back(first, why).await?);
            }
            if begun.elapsed() >= lasts {
                return Ok(());
            }
            sleep(LOOK.min(lasts)).await;
        }
    }

    /// Says how it ended: what was moved, whatever ended it.
    fn end(self, undo: &str, ended: Result<(), Error>) -> Outcome {
        let Moves { moved, left } = &self.moves;
        let text = format!("{} moved, {} left; to undo: {undo}\n", moved.len(), left.len());
        self.app.output.object(&self.moves, &moved.join("\n"), || text)?;
        ended?;
        if let Some((address, why)) = left.iter().next() {
            let message = format!("{} workspaces were not moved in time", left.len());
            return Err(Error::new(Kind::Timeout, "WAIT_TIMEOUT", message)
                .why(format!("{address}: {why}"))
                .next("the same command goes on; with --now it does not wait for agents"));
        }
        Ok(0)
    }
}
