//! The image of a container: there already, pulled, or in the way of its start.

use std::collections::BTreeMap;
use std::time::Instant;

use agent_runtime::EventType;
use serde_json::Value;

use super::image_name::{self, is_image_name, pull_policy};
use super::login::login;
use super::{Failure, HOLD, Obstacle, PULL_HOLD};
use crate::clock;
use crate::pod::durations::go_millis;
use crate::pod::worker::Worker;
use crate::runtime::{Image, RegistryLogin, RuntimeError};
use crate::spec::{Container, Pod, Role};

/// The container that an event is about.
type Who<'a> = Option<(Role, &'a str)>;

impl Worker {
    /// Makes sure that the image is there, according to the pull policy.
    pub(super) async fn ensure_image(
        &mut self,
        pod: &Pod,
        role: Role,
        container: &Container,
        secrets: &BTreeMap<String, Option<Value>>,
    ) -> Result<Image, Failure> {
        let image = container.image.as_str();
        let who = Some((role, container.name.as_str()));
        if !is_image_name(image) {
            return Err(self.misnamed(who, image));
        }
        let runtime = self.agent.runtime.clone();
        let present = runtime.image(image).await?;
        match (pull_policy(container), present) {
            ("Never", None) => return Err(self.never_pulled(who, image)),
            ("Never" | "IfNotPresent", Some(present)) => {
                let text = format!(
                    "Container image {image:?} already present on machine and can be accessed by the pod"
                );
                self.event(who, EventType::Normal, "Pulled", text);
                return Ok(present);
            }
            _ => {}
        }
        if let Some(failure) = self.backs_off(who, image) {
            return Err(failure);
        }
        let login = login(pod, image, secrets);
        self.pull(who, image, login.as_ref()).await
    }

    fn misnamed(&self, who: Who<'_>, image: &str) -> Failure {
        let message = image_name::misnamed(image);
        self.event(who, EventType::Warning, "InspectFailed", message.clone());
        self.image_error(who, "InvalidImageName");
        obstacle("InvalidImageName", message, HOLD)
    }

    fn never_pulled(&self, who: Who<'_>, image: &str) -> Failure {
        let message = image_name::never_pulled(image);
        self.event(
            who,
            EventType::Warning,
            "ErrImageNeverPull",
            message.clone(),
        );
        self.image_error(who, "ErrImageNeverPull");
        obstacle("ErrImageNeverPull", message, HOLD)
    }

    /// Whether a pull that has failed is left alone for now.
    fn backs_off(&self, who: Who<'_>, image: &str) -> Option<Failure> {
        let now = clock::now();
        let (failed_at, text) = self.image_failures.get(image)?;
        let (until, _) = self.image_backoffs.waiting(image, *failed_at, now)?;
        let message = format!("Back-off pulling image {image:?}: ErrImagePull: {text}");
        self.event(
            who,
            EventType::Normal,
            "BackOff",
            format!("Back-off pulling image {image:?}"),
        );
        self.image_error(who, "ImagePullBackOff");
        Some(Failure::Obstacle(Obstacle {
            reason: "ImagePullBackOff",
            message,
            retry_at: until,
        }))
    }

    async fn pull(
        &mut self,
        who: Who<'_>,
        image: &str,
        login: Option<&RegistryLogin>,
    ) -> Result<Image, Failure> {
        self.event(
            who,
            EventType::Normal,
            "Pulling",
            format!("Pulling image {image:?}"),
        );
        let runtime = self.agent.runtime.clone();
        let started = Instant::now();
        let pulled = match runtime.pull(image, login).await {
            Ok(()) => runtime
                .image(image)
                .await?
                .ok_or_else(|| format!("no such image after pulling: {image}")),
            Err(RuntimeError::Unavailable(text)) => {
                return Err(RuntimeError::Unavailable(text).into());
            }
            Err(error) => Err(error.to_string()),
        };
        match pulled {
            Ok(present) => {
                let took = go_millis(started.elapsed());
                let text = format!(
                    "Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {} bytes.",
                    present.size_bytes
                );
                self.event(who, EventType::Normal, "Pulled", text);
                self.image_failures.remove(image);
                self.image_backoffs.reset(image);
                Ok(present)
            }
            Err(text) => {
                let now = clock::now();
                self.image_backoffs.next(image, now, now);
                self.image_failures
                    .insert(image.to_owned(), (now, text.clone()));
                self.event(
                    who,
                    EventType::Warning,
                    "Failed",
                    format!("Failed to pull image {image:?}: {text}"),
                );
                self.image_error(who, "ErrImagePull");
                Err(obstacle("ErrImagePull", text, PULL_HOLD))
            }
        }
    }

    fn image_error(&self, who: Who<'_>, reason: &str) {
        let text = format!("Error: {reason}");
        self.event(who, EventType::Warning, "Failed", text);
    }
}

fn obstacle(reason: &'static str, message: String, hold: time::Duration) -> Failure {
    Failure::Obstacle(Obstacle {
        reason,
        message,
        retry_at: clock::now() + hold,
    })
}
