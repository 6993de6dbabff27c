//! What hardly ever is so of a pod, out of the way: there are a hundred thousand of them that have nothing of it.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::obstacles::Obstacle;
use super::resizing::Course;
use super::{Life, Verdict};
use crate::pod::backoff::Backoffs;

#[derive(Debug, Clone, Default)]
pub(super) struct Trouble {
    pub(super) backoffs: Backoffs,
    /// Why it shall fail.
    pub(super) verdict: Option<Verdict>,
    /// The version of which nothing more is written.
    pub(super) rests: Option<u64>,
    /// What is in the way of containers that were to begin.
    pub(super) obstacles: BTreeMap<Box<str>, Obstacle>,
    /// Why the claims on devices did not let the pod begin, as it was told last.
    pub(super) unclear: Box<str>,
    /// What has become of other amounts that it asks for.
    pub(super) course: Option<Course>,
    /// Since when it is being ended because it was deleted.
    pub(super) leaves: Option<OffsetDateTime>,
}

impl Life {
    /// To note something in it.
    pub(super) fn troubled(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    pub(super) fn verdict(&self) -> Option<&Verdict> {
        self.trouble.as_deref()?.verdict.as_ref()
    }

    pub(super) fn course(&self) -> Option<&Course> {
        self.trouble.as_deref()?.course.as_ref()
    }

    pub(super) fn obstacle(&self, container: &str) -> Option<&Obstacle> {
        self.trouble.as_deref()?.obstacles.get(container)
    }

    pub(super) fn obstacles(&self) -> impl Iterator<Item = (&str, &Obstacle)> {
        let all = self.trouble.iter().flat_map(|trouble| &trouble.obstacles);
        all.map(|(container, obstacle)| (&**container, obstacle))
    }
}
