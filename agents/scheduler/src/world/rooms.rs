//! Room that is kept for pods whose victims leave. It keeps others out, who are to hear when it is kept no more.

use super::World;
use crate::object::Pod;
use crate::plugins::Change;
use crate::queue::Queued;
use crate::snapshot::Millis;
use std::sync::Arc;

/// Pods for which room is kept, each with the node.
pub(crate) type Rooms = Vec<(Arc<Pod>, String)>;

impl World {
    /// Room that was made for a group is not kept when too few of it are left.
    pub(super) fn give_up_rooms(&mut self, gone: &Pod, now: Millis) {
        let Some(key) = self.queue.gang_of(gone) else {
            return;
        };
        let members = self.queue.members();
        if !members.is_complete(&key) {
            let left: Vec<String> = members.of(&key).map(|(uid, _)| uid.to_string()).collect();
            for uid in left {
                self.give_up_room(&uid, now);
            }
        }
    }

    /// Room is kept for the pod no more. Those that were refused for its sake may have it: to them it is as if the pod had left.
    pub(crate) fn give_up_room(&mut self, uid: &str, now: Millis) {
        if let Some(pod) = self.snapshot.take_nomination(uid) {
            self.queue.wake(&Change::PodGone(pod), now);
        }
    }

    /// Room is kept on this node for a pod whose victims leave, and nowhere else any more.
    pub(crate) fn keep_room(&mut self, pod: Arc<Pod>, node: &str, now: Millis) {
        let kept = self.snapshot.nominated_node(&pod.uid);
        if kept.is_some_and(|kept| kept != node) {
            self.give_up_room(&pod.uid, now);
        }
        self.snapshot.nominate(pod, node);
    }

    /// The room that is kept for these.
    pub(crate) fn rooms_of(&self, waiting: &[Queued]) -> Rooms {
        let rooms = waiting.iter().filter_map(|queued| {
            let node = self.snapshot.nominated_node(&queued.pod.uid)?;
            Some((queued.pod.clone(), node.to_owned()))
        });
        rooms.collect()
    }

    /// Wakes those who may have what was kept for these pods, and is now neither kept for them nor taken by them.
    pub(crate) fn tell_of_rooms(&mut self, were: Rooms, now: Millis) {
        for (pod, node) in were {
            let kept = self.snapshot.nominated_node(&pod.uid);
            let taken = self.snapshot.assumed_node(&pod.uid);
            if ![kept, taken].contains(&Some(&*node)) {
                self.queue.wake(&Change::PodGone(pod), now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn pod(name: &str) -> Arc<Pod> {
        Arc::new(Pod::compile(
            &json!({"metadata": {"name": name, "namespace": "a", "uid": name}, "spec": {}}),
        ))
    }

    #[test]
    fn who_was_refused_hears_only_of_room_that_nobody_has() {
        type Step = fn(&mut World);
        let steps: [(Step, bool); 4] = [
            (|_| {}, false),
            (|world| world.snapshot.assume(pod("p"), "n"), false),
            (|world| world.snapshot.nominate(pod("p"), "m"), true),
            (|world| world.snapshot.withdraw_nomination("p"), true),
        ];
        for (step, is_free) in steps {
            let mut world = World::new(Arc::new(Config::default()));
            for name in ["p", "q"] {
                world.set_pod(("a".into(), name.into()), Some(pod(name)), 0);
            }
            let waiting = [world.queue.pop(0).unwrap()];
            let refused = world.queue.pop(0).unwrap();
            assert_eq!((&*waiting[0].pod.uid, &*refused.pod.uid), ("p", "q"));
            let refused_by = BTreeSet::from(["NodeResourcesFit"]);
            world.queue.park(refused, refused_by, 0);
            world.snapshot.nominate(pod("p"), "n");
            let rooms = world.rooms_of(&waiting);
            step(&mut world);
            world.tell_of_rooms(rooms, 20_000);
            assert_eq!(world.queue.pop(20_000).is_some(), is_free);
        }
    }
}
