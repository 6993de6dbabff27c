//! Pods that have nothing to say to the word of their own last status. Most have that and no other after they have begun to run, and
//! there are as many of these words as pods.

use std::num::NonZeroU64;

use time::OffsetDateTime;

use super::{Life, Step, Write};
use crate::hollow::slim::Slim;
use crate::spec::{Container, Pod};

impl Life {
    /// Whether this is the pod as the last status made it and as it was looked at for that, so that another look would find
    /// nothing: only where nothing comes with time.
    pub(in crate::hollow) fn is_as_left(&self, seen: &Slim) -> bool {
        self.is_calm
            && self.trouble.is_none()
            && self.made.is_some()
            && self.made == NonZeroU64::new(seen.version)
            && self.pod.shape == seen.shape
    }

    /// Whether nothing more follows once the API has taken what this step writes, until somebody else changes the pod: all of it runs,
    /// no end is known of anything, nothing is asked again and again, and no condition that others set counts.
    pub(super) fn will_be_calm(&self, pod: &Pod, step: &Step, now: OffsetDateTime) -> bool {
        let spec = &pod.spec;
        let lasts = |run: &super::Run| run.is_running(now) && run.ends.is_none();
        matches!(step.write, Some(Write::Status(_)))
            && step.wake.is_none()
            && self.trouble.is_none()
            && pod.metadata.generation > 0
            && pod.metadata.deletion_timestamp.is_none()
            && spec.readiness_gates.is_empty()
            && spec.init_containers.is_empty()
            && spec.ephemeral_containers.is_empty()
            && self.runs.len() == spec.containers.len()
            && self.runs.iter().all(lasts)
            && !spec.containers.iter().any(is_probed)
    }
}

fn is_probed(container: &Container) -> bool {
    container.startup_probe.is_some()
        || container.liveness_probe.is_some()
        || container.readiness_probe.is_some()
}
