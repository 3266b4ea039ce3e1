//! Which images this node's engine holds, as the cluster is told.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::debug;
use warren_common::{Limits, image::shown};
use warren_daemon::telemetry::Chain;
use warren_proto::pb::node::v1::{NodeImage, NodeImages};

use crate::{
    engine::{Engine, ImageSeen},
    ledger::Ledger,
};

/// The engine is asked again this often.
const LOOK: Duration = Duration::from_secs(30);

/// Keeps `held` as it is, for ever; unset while the engine does not answer.
pub(crate) async fn keep(
    engine: &Arc<dyn Engine>,
    ledger: &Ledger,
    held: &watch::Sender<Option<NodeImages>>,
) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let seen = match engine.images().await {
            Ok(seen) => seen,
            Err(failed) => {
                debug!(error = %Chain(&failed), "the engine does not list its images");
                held.send_replace(None);
                continue;
            }
        };
        let wanted =
            ledger.memory().orders.values().map(|order| shown(&order.spec.image)).collect();
        held.send_replace(Some(told(seen, &wanted)));
    }
}

/// Returns as many as are told: those that are `wanted` first, then in their order.
fn told(seen: Vec<ImageSeen>, wanted: &BTreeSet<String>) -> NodeImages {
    let all = seen.len();
    let fits = |one: &ImageSeen| one.name.len().max(one.id.len()) <= Limits::LABEL_BYTES;
    let mut seen: Vec<ImageSeen> = seen.into_iter().filter(fits).collect();
    seen.sort_by_key(|one| !(wanted.contains(&one.name) || wanted.contains(&one.id)));
    seen.truncate(Limits::NODE_IMAGES);
    let more = u32::try_from(all - seen.len()).unwrap_or(u32::MAX);
    let images = seen.into_iter().map(|ImageSeen { name, id }| NodeImage { name, id }).collect();
    NodeImages { images, more }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workspaces_are_made_of_is_told_before_what_is_only_there() {
        let image = |name: String| ImageSeen { name, id: "sha256:00".to_owned() };
        let mut seen: Vec<ImageSeen> =
            (0..Limits::NODE_IMAGES).map(|number| image(format!("a{number}:1"))).collect();
        seen.push(image("x".repeat(Limits::LABEL_BYTES + 1)));
        seen.push(image("agents:1".to_owned()));
        let told = told(seen, &["agents:1".to_owned(), "away:1".to_owned()].into());
        assert_eq!((told.images.len(), told.more), (Limits::NODE_IMAGES, 2));
        let names: Vec<&str> = told.images.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names[..3], ["agents:1", "a0:1", "a1:1"]);
    }
}
