//! An engine that counts the calls to another one.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use warren_common::{WorkspaceId, status::Usage};

use crate::{
    container::{Caps, ContainerPlan, Drift, NetworkPlan},
    engine::{
        Answer, ContainerSeen, Engine, EngineInfo, EventStream, ImageSeen, LogQuery, LogStream,
        NetworkSeen, Progress,
    },
};

/// Times every call of the engine inside and counts its failures; streams are passed through.
pub struct Counted(pub Arc<dyn Engine>);

fn timed<'a, T: Send + 'a>(operation: &'static str, answer: Answer<'a, T>) -> Answer<'a, T> {
    Box::pin(async move {
        let began = Instant::now();
        let outcome = answer.await;
        metrics::histogram!("warren_engine_call_seconds", "operation" => operation)
            .record(began.elapsed().as_secs_f64());
        if let Err(error) = &outcome {
            let code = error.code();
            metrics::counter!(
                "warren_engine_failures_total", "operation" => operation, "code" => code
            )
            .increment(1);
        }
        outcome
    })
}

impl Engine for Counted {
    fn info(&self) -> Answer<'_, EngineInfo> {
        timed("info", self.0.info())
    }

    fn has_image<'a>(&'a self, image: &'a str) -> Answer<'a, bool> {
        timed("has-image", self.0.has_image(image))
    }

    fn ensure_image<'a>(&'a self, image: &'a str, progress: Progress) -> Answer<'a, ()> {
        timed("ensure-image", self.0.ensure_image(image, progress))
    }

    fn images(&self) -> Answer<'_, Vec<ImageSeen>> {
        timed("images", self.0.images())
    }

    fn ensure_network<'a>(&'a self, plan: &'a NetworkPlan) -> Answer<'a, NetworkSeen> {
        timed("ensure-network", self.0.ensure_network(plan))
    }

    fn remove_network<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        timed("remove-network", self.0.remove_network(name))
    }

    fn create<'a>(&'a self, plan: &'a ContainerPlan) -> Answer<'a, String> {
        timed("create", self.0.create(plan))
    }

    fn check<'a>(&'a self, id: &'a str, plan: &'a ContainerPlan) -> Answer<'a, Vec<Drift>> {
        timed("check", self.0.check(id, plan))
    }

    fn list(&self) -> Answer<'_, Vec<ContainerSeen>> {
        timed("list", self.0.list())
    }

    fn workspaces(&self) -> Answer<'_, BTreeSet<WorkspaceId>> {
        timed("workspaces", self.0.workspaces())
    }

    fn list_of(&self, workspace: WorkspaceId) -> Answer<'_, Vec<ContainerSeen>> {
        timed("list-of", self.0.list_of(workspace))
    }

    fn start<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        timed("start", self.0.start(id))
    }

    fn update<'a>(&'a self, id: &'a str, caps: Caps) -> Answer<'a, ()> {
        timed("update", self.0.update(id, caps))
    }

    fn stop<'a>(&'a self, id: &'a str, grace: Duration) -> Answer<'a, ()> {
        timed("stop", self.0.stop(id, grace))
    }

    fn remove<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        timed("remove", self.0.remove(id))
    }

    fn logs<'a>(&'a self, id: &'a str, query: LogQuery) -> LogStream<'a> {
        self.0.logs(id, query)
    }

    fn events(&self) -> EventStream<'_> {
        self.0.events()
    }

    fn usage<'a>(&'a self, container: &'a ContainerSeen) -> Answer<'a, Usage> {
        timed("usage", self.0.usage(container))
    }
}
