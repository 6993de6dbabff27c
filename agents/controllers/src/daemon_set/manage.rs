//! The pods that are missing, and those that must not be there.

use super::placement::{Decision, object_at, pin};
use super::{BURST, Daemons, TEMPLATE_GENERATION_LABEL, Work, event};
use crate::history::{REVISION_LABEL, revision_of};
use crate::pod_control::create_pod;
use agent_runtime::EventType;
use agent_runtime::kinds::Pod;
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::DAEMON_SETS;
use std::sync::Arc;
use std::time::Duration;

/// Before a pod is replaced that failed again and again on the same node.
const LONGEST_DELAY: Duration = Duration::from_secs(15 * 60);

impl Daemons<'_> {
    pub(super) fn manage(&self) -> Work {
        let mut work = Work::default();
        for (node, decision) in &self.nodes {
            let pods = self
                .pods
                .get(&**node)
                .map(Vec::as_slice)
                .unwrap_or_default();
            match decision {
                Decision { runs: true, .. } if pods.is_empty() => {
                    work.create.push((**node).to_owned())
                }
                Decision { stays: true, runs } => self.tend(node, *runs, pods, &mut work),
                Decision { .. } => {
                    let leaving = pods.iter().filter(|pod| !pod.metadata.is_deleting());
                    work.delete.extend(leaving.cloned());
                }
            }
        }
        // A pod that waits for a node that is gone would wait for ever; one that was there is not ours to collect.
        let without_node = self
            .pods
            .iter()
            .filter(|(n, _)| !self.nodes.contains_key(n.as_str()));
        let waiting = without_node
            .flat_map(|(_, pods)| pods)
            .filter(|pod| pod.spec.node_name.is_empty() && !pod.metadata.is_deleting());
        work.delete.extend(waiting.cloned());
        work
    }

    /// Looks after a node that may keep pods: those that ended go, and of the others all but one.
    fn tend(&self, node: &str, runs: bool, pods: &[Arc<Pod>], work: &mut Work) {
        let staying = |pod: &&Arc<Pod>| !pod.metadata.is_deleting();
        let (ended, live): (Vec<_>, Vec<_>) = pods
            .iter()
            .filter(staying)
            .cloned()
            .partition(|pod| pod.is_finished());
        let mut waits = false;
        for pod in ended {
            waits |= !self.clear_away(node, pod, work);
        }
        if !self.surges() {
            work.delete.extend(live.into_iter().skip(1));
        } else if live.is_empty() {
            if runs && !waits {
                work.create.push(node.to_owned());
            }
        } else if live.len() > 1 {
            self.keep_two(live, work);
        }
    }

    /// A pod that ended is deleted, and another one made when it is gone. One that failed may have to wait: a node that
    /// refuses the pod each time would otherwise be asked as fast as it can answer. Whether it goes now.
    fn clear_away(&self, node: &str, pod: Arc<Pod>, work: &mut Work) -> bool {
        if work.delete.len() >= BURST {
            return false;
        }
        let set = &self.set.metadata;
        let path = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
        if pod.status.phase == "Failed" {
            let what = format!("{}/{node}", set.uid);
            if let Err(wait) = self.world.permit(self.key, &what, LONGEST_DELAY) {
                work.again_in = Some(work.again_in.map_or(wait, |sooner| sooner.min(wait)));
                return false;
            }
            let message =
                format!("Found failed daemon pod {path} on node {node}, will try to kill it");
            let kind = EventType::Warning;
            work.events
                .push(event(set, kind, "FailedDaemonPod", message));
        } else {
            let message =
                format!("Found succeeded daemon pod {path} on node {node}, will try to delete it");
            let kind = EventType::Normal;
            work.events
                .push(event(set, kind, "SucceededDaemonPod", message));
        }
        work.delete.push(pod);
        true
    }

    /// While surging an old pod and a new one may be on a node, until the new one is available or the old one fails.
    fn keep_two(&self, live: Vec<Arc<Pod>>, work: &mut Work) {
        let (mut new, mut old): (Option<Arc<Pod>>, Option<Arc<Pod>>) = (None, None);
        for pod in live {
            let place = if revision_of(&pod) == self.hash {
                &mut new
            } else {
                &mut old
            };
            match place {
                None => *place = Some(pod),
                Some(_) => work.delete.push(pod),
            }
        }
        if let (Some(new), Some(old)) = (new, old)
            && (!old.is_ready() || self.is_available(&new))
        {
            work.delete.push(old);
        }
    }

    /// Creates the pod of a node.
    pub(super) fn create_on(&self, node: &str) -> Op {
        let mut template = self.set.spec.template.clone();
        pin(&mut template, node);
        let labels = object_at(&mut template["metadata"], "labels");
        labels.insert(REVISION_LABEL.into(), self.hash.into());
        if let Some(number) = self.template_generation() {
            labels.insert(TEMPLATE_GENERATION_LABEL.into(), number.to_string().into());
        }
        create_pod(self.world, &DAEMON_SETS, &self.set.metadata, &template)
    }
}
