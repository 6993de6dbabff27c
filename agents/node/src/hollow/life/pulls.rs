//! Images that cannot be pulled: tried again and again as on a real node, after pauses that grow to five minutes.

use time::OffsetDateTime;

use super::obstacles::{Obstacle, note};
use super::{Life, Step};
use crate::pod::launch::PULL_HOLD;
use crate::pod::plan::Waiting;
use crate::runtime::hollow::{is_missing, not_found};
use crate::spec::{Container, Role};

/// What a container waits for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pull {
    image: Box<str>,
    failed_at: OffsetDateTime,
    /// It is told of the pause and not of the failure any more.
    pauses: bool,
}

impl Pull {
    /// What is told of it, unless the container has got another image that can be pulled.
    pub(super) fn told(&self, image: &str) -> Option<Waiting> {
        if !is_missing(image) {
            return None;
        }
        let text = not_found(image);
        let (reason, message) = match self.pauses {
            false => ("ErrImagePull", text),
            true => (
                "ImagePullBackOff",
                format!("Back-off pulling image {image:?}: ErrImagePull: {text}"),
            ),
        };
        Some(Waiting {
            reason: reason.to_owned(),
            message,
        })
    }
}

/// The back-off's key: no container has a name like that.
fn key(image: &str) -> String {
    format!("image/{image}")
}

impl Life {
    /// Tries to pull an image that nobody has, unless it was tried a short time ago.
    pub(super) fn pull(&mut self, of: (Role, &Container), now: OffsetDateTime, step: &mut Step) {
        let image = of.1.image.as_str();
        let tries = self.obstacles().filter_map(|(_, obstacle)| obstacle.pull());
        let tries = tries.filter(|pull| *pull.image == *image);
        let last = tries.map(|pull| pull.failed_at).max();
        let waiting = last.and_then(|at| {
            let backoffs = &self.trouble.as_deref()?.backoffs;
            Some((at, backoffs.waiting(&key(image), at, now)?.0))
        });
        let Some((failed_at, until)) = waiting else {
            self.troubled().backoffs.next(&key(image), now, now);
            self.note_pull(of, now, false);
            step.wake(now + PULL_HOLD);
            let failed = format!("Failed to pull image {image:?}: {}", not_found(image));
            step.notes.extend([
                note(of, "Pulling", format!("Pulling image {image:?}")),
                note(of, "Failed", failed),
                note(of, "Failed", "Error: ErrImagePull".to_owned()),
            ]);
            return;
        };
        let mine = self.obstacle(of.1.name.as_str());
        let mine = mine.and_then(Obstacle::pull);
        let mine = mine.filter(|pull| *pull.image == *image && pull.failed_at == failed_at);
        let shown_until = failed_at + PULL_HOLD;
        match mine {
            Some(pull) if !pull.pauses && now < shown_until => step.wake(shown_until),
            Some(pull) if pull.pauses => step.wake(until),
            _ => {
                self.note_pull(of, failed_at, true);
                step.wake(until);
                step.notes.extend([
                    note(of, "BackOff", format!("Back-off pulling image {image:?}")),
                    note(of, "Failed", "Error: ImagePullBackOff".to_owned()),
                ]);
            }
        }
    }

    fn note_pull(&mut self, of: (Role, &Container), failed_at: OffsetDateTime, pauses: bool) {
        let pull = Pull {
            image: of.1.image.as_str().into(),
            failed_at,
            pauses,
        };
        let name = of.1.name.as_str().into();
        self.troubled().obstacles.insert(name, Obstacle::Pull(pull));
    }
}
