//! Images: here is fine, else they are pulled, else the error says what to do.

use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

use bollard::{
    Docker,
    models::{CreateImageInfo, ImageSummary},
    query_parameters::{CreateImageOptionsBuilder, ListImagesOptions},
};
use futures_util::StreamExt as _;
use warren_common::{Limits, status::clean};

use super::DockerEngine;
use crate::engine::{EngineError, ImageSeen, Progress};

/// Attempts at a pull whose failure may pass, and the pause before each but the first.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes that are kept of what a registry says.
const DETAIL: usize = 200;

impl DockerEngine {
    pub(super) async fn holds(&self, image: &str) -> Result<bool, EngineError> {
        let api = self.api().await?;
        let inspect = api.inspect_image(image);
        match self.call("look for the image", Limits::CALL_TIMEOUT, inspect).await {
            Ok(_) => Ok(true),
            Err(EngineError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn all_images(&self) -> Result<Vec<ImageSeen>, EngineError> {
        let api = self.api().await?;
        let list = api.list_images(None::<ListImagesOptions>);
        Ok(named(self.call("list the images", Limits::ENGINE_TIMEOUT, list).await?))
    }

    pub(super) async fn image(&self, image: &str, progress: Progress) -> Result<(), EngineError> {
        if self.holds(image).await? {
            return Ok(());
        }
        let api = self.api().await?;
        let mut attempt = 1;
        loop {
            progress(format!("pulling {image}"));
            let error = match self.pull(&api, image, &progress).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let detail = match error {
                // the registry's refusal arrives as any of these
                EngineError::NotFound { detail, .. } | EngineError::Refused { detail, .. } => {
                    detail
                }
                EngineError::Failed { detail, .. } if attempt == ATTEMPTS || definite(&detail) => {
                    detail
                }
                EngineError::Failed { .. } => {
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                    continue;
                }
                other => return Err(other),
            };
            // what to do about it follows, and a reason is cut
            let detail = clean(&detail, DETAIL);
            return Err(EngineError::ImageMissing { image: image.to_owned(), detail });
        }
    }

    /// Pulls as long as something moves: each message has the deadline of a call.
    async fn pull(
        &self,
        api: &Docker,
        image: &str,
        progress: &Progress,
    ) -> Result<(), EngineError> {
        let operation = "pull the image";
        let options = CreateImageOptionsBuilder::default().from_image(&tagged(image)).build();
        let mut messages = Box::pin(api.create_image(Some(options), None, None));
        let mut layers = Layers::default();
        while let Some(message) = tokio::time::timeout(Limits::ENGINE_TIMEOUT, messages.next())
            .await
            .map_err(|_| EngineError::Timeout { operation, after: Limits::ENGINE_TIMEOUT })?
        {
            let message =
                message.map_err(|error| super::fault::explain(operation, &self.address, error))?;
            if let Some(line) = layers.take(&message) {
                progress(format!("pulling {image} ({line})"));
            }
        }
        Ok(())
    }
}

/// Returns images by each of their names: the newest first, and digests last.
fn named(mut images: Vec<ImageSummary>) -> Vec<ImageSeen> {
    images.sort_by_key(|image| Reverse(image.created));
    let tags =
        images.iter().flat_map(|image| image.repo_tags.iter().map(move |name| (image, name)));
    let digests =
        images.iter().flat_map(|image| image.repo_digests.iter().map(move |name| (image, name)));
    // Docker names so what has no name
    let named = tags.chain(digests).filter(|(_, name)| !name.starts_with("<none>"));
    named.map(|(image, name)| ImageSeen { name: name.clone(), id: image.id.clone() }).collect()
}

/// Whether the registry's answer will be the same next time.
fn definite(detail: &str) -> bool {
    ["not found", "denied", "unauthorized", "manifest unknown", "does not exist"]
        .iter()
        .any(|word| detail.contains(word))
}

/// Returns the image with a tag: without one, Docker would pull every tag there is.
fn tagged(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// Layers of a pull, told only when one more of them is done.
#[derive(Default)]
struct Layers {
    all: BTreeSet<String>,
    done: BTreeSet<String>,
}

impl Layers {
    fn take(&mut self, message: &CreateImageInfo) -> Option<String> {
        let (id, status) = (message.id.as_ref()?, message.status.as_ref()?);
        match status.as_str() {
            "Pulling fs layer" | "Waiting" | "Downloading" => {
                self.all.insert(id.clone());
                None
            }
            "Pull complete" | "Already exists" => {
                self.all.insert(id.clone());
                let new = self.done.insert(id.clone());
                new.then(|| format!("{} of {} layers", self.done.len(), self.all.len()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_never_pulled_in_all_its_tags() {
        assert_eq!(tagged("debian"), "debian:latest");
        assert_eq!(tagged("host:5000/debian"), "host:5000/debian:latest");
        assert_eq!(tagged("host:5000/debian:12"), "host:5000/debian:12");
        assert_eq!(tagged("a/b@sha256:00"), "a/b@sha256:00");
    }

    #[test]
    fn images_are_named_by_tags_and_digests_and_the_nameless_are_not() {
        let image = |id: &str, created: i64, tags: &[&str], digests: &[&str]| ImageSummary {
            id: id.to_owned(),
            created,
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            repo_digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
            ..ImageSummary::default()
        };
        let listed = named(vec![
            image("old", 1, &["agents:1"], &["agents@sha256:1"]),
            image("none", 2, &["<none>:<none>"], &["<none>@<none>"]),
            image("new", 3, &["agents:2", "agents:latest"], &[]),
        ]);
        let listed: Vec<(&str, &str)> =
            listed.iter().map(|one| (one.name.as_str(), one.id.as_str())).collect();
        let expected = [
            ("agents:2", "new"),
            ("agents:latest", "new"),
            ("agents:1", "old"),
            ("agents@sha256:1", "old"),
        ];
        assert_eq!(listed, expected);
    }

    #[test]
    fn progress_counts_layers() {
        let mut layers = Layers::default();
        let mut say = |id: &str, status: &str| {
            layers.take(&CreateImageInfo {
                id: Some(id.to_owned()),
                status: Some(status.to_owned()),
                ..CreateImageInfo::default()
            })
        };
        assert_eq!(say("a", "Pulling fs layer"), None);
        assert_eq!(say("b", "Pulling fs layer"), None);
        assert_eq!(say("a", "Pull complete").as_deref(), Some("1 of 2 layers"));
        assert_eq!(say("a", "Pull complete"), None);
    }
}
