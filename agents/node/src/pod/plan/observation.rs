//! The containers of a pod as the runtime has them, sorted for whoever decides about them.

use std::collections::BTreeMap;

use crate::pod::container::LABEL_SANDBOX;
use crate::runtime::{Observed, State};

/// The containers of one pod as the runtime has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Observation {
    /// Newest first.
    pub(crate) sandboxes: Vec<Observed>,
    /// By name, newest attempt first.
    pub(crate) containers: BTreeMap<String, Vec<Observed>>,
}

impl Observation {
    pub(crate) fn new(all: Vec<Observed>) -> Observation {
        let mut observation = Observation::default();
        for container in all {
            if container.is_sandbox() {
                observation.sandboxes.push(container);
            } else {
                observation
                    .containers
                    .entry(container.identity.container.clone())
                    .or_default()
                    .push(container);
            }
        }
        let newest_first =
            |list: &mut Vec<Observed>| list.sort_by_key(|c| std::cmp::Reverse(c.identity.attempt));
        newest_first(&mut observation.sandboxes);
        observation.containers.values_mut().for_each(newest_first);
        observation
    }

    /// The sandbox that containers may be put into.
    pub(crate) fn sandbox(&self) -> Option<&Observed> {
        self.sandboxes
            .first()
            .filter(|sandbox| sandbox.is_running())
    }

    /// The newest container of that name in any sandbox.
    pub(crate) fn latest(&self, name: &str) -> Option<&Observed> {
        self.containers.get(name)?.first()
    }

    /// The newest container of that name in the running sandbox, if it has ever been started.
    pub(crate) fn current(&self, name: &str) -> Option<&Observed> {
        let sandbox = self.sandbox()?;
        let in_sandbox = |c: &&Observed| c.labels.get(LABEL_SANDBOX) == Some(&sandbox.id);
        self.latest(name)
            .filter(in_sandbox)
            .filter(|container| container.state != State::Created)
    }

    pub(crate) fn all_containers(&self) -> impl Iterator<Item = &Observed> {
        self.containers.values().flatten()
    }
}
