//! What watches and lists have told is taken in: pods and nodes get their turn, or are forgotten.

use agent_runtime::watch::Lean;
use serde_json::Value;

use super::{Engine, Key, RETURN};
use crate::follow::Step;
use crate::hollow::life::Life;
use crate::hollow::nodes::{Names, Shown};
use crate::hollow::slim::Slim;
use crate::hollow::stages::Stages;
use crate::hollow::told::PodTold;
use crate::hollow::world::{Entry, Uid};

/// What a watch or a list has told.
pub(super) enum Seen {
    Pod {
        number: u64,
        node: u32,
        stage: u16,
        pod: Slim,
    },
    PodGone(String),
    /// Of this node, or of all.
    PodsListed {
        number: u64,
        node: Option<u32>,
    },
    Node {
        number: u64,
        node: u32,
        shown: Box<Shown>,
    },
    NodeGone(u32),
    NodesListed(u64),
}

impl Engine {
    pub(super) fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Pod {
                number,
                node,
                stage,
                pod,
            } => self.see_pod(number, (node, stage), pod),
            Seen::PodGone(uid) => self.lose_pod(&Uid::from(uid)),
            Seen::PodsListed { number, node } => {
                let left: Vec<Uid> = {
                    let world = self.world();
                    let all = world.pods.iter().filter(|(_, entry)| {
                        u64::from(entry.listed) < number
                            && node.is_none_or(|node| entry.node == node)
                    });
                    all.map(|(uid, _)| uid.clone()).collect()
                };
                left.iter().for_each(|uid| self.lose_pod(uid));
                let waiting = self.world().pods_listed(number, node);
                waiting
                    .into_iter()
                    .for_each(|uid| self.queue(Key::Pod(uid)));
            }
            Seen::Node {
                number,
                node,
                shown,
            } => self.see_node(number, node, shown),
            Seen::NodeGone(node) => self.lose_node(node),
            Seen::NodesListed(number) => {
                let left: Vec<u32> = {
                    let world = self.world();
                    let all = world.places.iter().filter(|place| {
                        place.listed < number && place.node.is_registered() && !place.writing
                    });
                    all.map(|place| place.node.number).collect()
                };
                // One that was registered after the list is in the watch that follows; it is told once more at worst.
                left.into_iter().for_each(|node| self.lose_node(node));
            }
        }
    }

    fn see_pod(&mut self, number: u64, (node, stage): (u32, u16), mut pod: Slim) {
        let uid = pod.uid.clone();
        let listed = u32::try_from(number).unwrap_or(u32::MAX);
        {
            let mut world = self.world();
            if let Some(entry) = world.pods.get_mut(&uid) {
                entry.listed = listed;
                if pod.version > entry.life.pod.version {
                    entry.stage = stage;
                    // Its key has the same text already.
                    pod.uid = entry.life.pod.uid.clone();
                    entry.seen = Some(Box::new(pod));
                }
            } else {
                let entry = Entry {
                    life: Life::new(pod),
                    node,
                    stage,
                    seen: None,
                    removed: false,
                    listed,
                    queued: false,
                    writing: false,
                    due: None,
                    refused_at: None,
                    failures: 0,
                };
                world.pods.insert(uid.clone(), Box::new(entry));
                if let Some(place) = world.place(node) {
                    place.pods.insert(uid.clone());
                }
            }
        }
        self.queue(Key::Pod(uid));
    }

    fn lose_pod(&mut self, uid: &Uid) {
        if let Some(entry) = self.world().pods.get_mut(uid) {
            entry.removed = true;
        }
        self.queue(Key::Pod(uid.clone()));
    }

    fn see_node(&mut self, number: u64, node: u32, shown: Box<Shown>) {
        {
            let mut world = self.world();
            let Some(place) = world.place(node) else {
                return;
            };
            place.listed = number;
            if place.writing {
                // Which is newer, this or the answer, is known when that is there.
                place.seen = Some(shown);
                return;
            }
        }
        if self.take_in_node(node, *shown) {
            self.queue(Key::Node(node));
            self.queue(Key::Lease(node));
        }
    }

    /// Takes in what a watch has shown of a node, and gives its pods their turn where it behaves otherwise now. True where
    /// the node has something to do because of it.
    pub(super) fn take_in_node(&mut self, node: u32, shown: Shown) -> bool {
        let woken: Vec<Uid> = {
            let mut world = self.world();
            let Some(place) = world.place(node) else {
                return false;
            };
            let before = place.node.behaviour();
            if !place.node.see(shown) {
                return false;
            }
            match before == place.node.behaviour() {
                true => Vec::new(),
                false => place.pods.iter().cloned().collect(),
            }
        };
        woken.into_iter().for_each(|uid| self.queue(Key::Pod(uid)));
        true
    }

    fn lose_node(&mut self, node: u32) {
        if let Some(place) = self.world().place(node) {
            place.node.lose();
            place.seen = None;
            // The answer may tell of the node as it was before.
            place.lost = place.writing;
        }
        let at = self.clock.elapsed() + RETURN;
        self.schedule(Key::Node(node), at);
    }
}

/// What is told of the pods of this node, or of all nodes; of other nodes than these nothing is.
pub(super) fn pod_seen(
    names: &Names,
    stages: &Stages,
    node: Option<u32>,
    step: Step<PodTold>,
) -> Option<Seen> {
    match step {
        Step::Item(number, told) | Step::Changed(number, told) => {
            let node_name = told.object["spec"]["nodeName"].as_str();
            let node = names.number(node_name.unwrap_or_default())?;
            let stage = stages.choose(&told.object);
            let pod = Slim::of_told(told)?;
            Some(Seen::Pod {
                number,
                node,
                stage,
                pod,
            })
        }
        Step::Deleted(told) => {
            let uid = told.object["metadata"]["uid"].as_str()?;
            Some(Seen::PodGone(uid.to_owned()))
        }
        Step::Listed(number) => Some(Seen::PodsListed { number, node }),
    }
}

pub(super) fn node_seen(names: &Names, step: Step<Lean>) -> Option<Seen> {
    let number_of = |object: &Value| {
        let name = object.pointer("/metadata/name").and_then(Value::as_str)?;
        names.number(name)
    };
    match step {
        Step::Item(number, Lean(object)) | Step::Changed(number, Lean(object)) => {
            Some(Seen::Node {
                number,
                node: number_of(&object)?,
                shown: Box::new(Shown::of(&object)),
            })
        }
        Step::Deleted(Lean(object)) => Some(Seen::NodeGone(number_of(&object)?)),
        Step::Listed(number) => Some(Seen::NodesListed(number)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_pods_of_other_nodes_nothing_is_told() {
        let (names, stages) = (Names::new("hollow", 2), Stages::default());
        let pod = |node: &str| json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "7"}, "spec": {"nodeName": node}});
        let told = |step: Step<PodTold>| pod_seen(&names, &stages, None, step);
        for (node, expected) in [
            ("hollow-00001", Some(1)),
            ("hollow-00002", None),
            ("worker", None),
            ("", None),
        ] {
            for step in [
                Step::Item(3, PodTold::from(pod(node))),
                Step::Changed(3, PodTold::from(pod(node))),
            ] {
                let found = match told(step) {
                    Some(Seen::Pod { number, node, .. }) => {
                        assert_eq!(number, 3);
                        Some(node)
                    }
                    _ => None,
                };
                assert_eq!(found, expected, "{node}");
            }
        }
        // That one is gone or a list has ended is told whatever it is of.
        assert!(
            matches!(told(Step::Deleted(PodTold::from(pod("worker")))), Some(Seen::PodGone(uid)) if uid == "u")
        );
        assert!(matches!(
            told(Step::Listed(4)),
            Some(Seen::PodsListed {
                number: 4,
                node: None
            })
        ));
    }
}
