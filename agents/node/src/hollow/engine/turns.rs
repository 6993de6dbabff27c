//! Whose turn it is: what is to be written is decided, and its write is started.

use std::collections::VecDeque;
use std::time::Duration;

use agent_runtime::EventType;

use super::{Engine, Key, PODS_SHARE, TOGETHER, at_end, lock};
use crate::hollow::life::{self, Event, Note, Write};
use crate::hollow::nodes::{Behaviour, Errand};
use crate::hollow::world::{Decision, Uid, World};
use crate::hollow::writes;
use crate::pod::admission::REJECTED;

/// Between two looks whether those have ended in whose place a pod is taken.
const ROOM_LOOK: Duration = Duration::from_secs(1);

/// For so many the queue of pods keeps its room in any case.
const ROOM_MIN: usize = 4096;

/// Gives back half of the room of a queue that fills little of it: it may have been that of a hundred thousand at once.
fn give_back(queue: &mut VecDeque<Uid>) {
    let room = queue.capacity();
    if room > ROOM_MIN && queue.len() < room / 4 {
        queue.shrink_to(room / 2);
    }
}

impl Engine {
    /// Starts writes while there are places for them.
    pub(super) fn start_writes(&mut self) {
        let most = self.config.writes_max.max(1);
        let urgent_most = most - most / PODS_SHARE;
        while self.writes.len() < most {
            let of_pods = match (self.urgent.is_empty(), self.pods.is_empty()) {
                (true, true) => return,
                (false, true) => false,
                (true, false) => true,
                (false, false) => self.urgent_writes >= urgent_most,
            };
            match of_pods {
                true => {
                    if let Some(uid) = self.pods.pop_front() {
                        self.turn_of_pod(uid);
                    }
                    give_back(&mut self.pods);
                }
                false => match self.urgent.pop_front() {
                    Some(Key::Node(number)) => self.turn_of_node(number),
                    Some(Key::Lease(number)) => self.turn_of_lease(number),
                    _ => {}
                },
            }
        }
    }

    fn turn_of_pod(&mut self, uid: Uid) {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let world = self.world.clone();
        let mut guard = lock(&world);
        if let Some(entry) = guard.pods.get_mut(&uid).filter(|entry| entry.awaits()) {
            // What is seen brings it back.
            entry.queued = false;
            return;
        }
        let decision = guard.decision(&uid, &self.template);
        let resize = guard.resize(&uid, &self.template);
        let World { places, pods } = &mut *guard;
        let Some(entry) = pods.get_mut(&uid) else {
            return;
        };
        entry.queued = false;
        let Some(place) = places.get_mut(usize::try_from(entry.node).unwrap_or(usize::MAX)) else {
            return;
        };
        if entry.writing {
            return;
        }
        let behaviour = place.node.behaviour();
        let mut there = life::Place {
            node: entry.node,
            node_name: &place.node.name,
            host_ip: &self.host_ip,
            slow: match behaviour {
                Behaviour::Slow => self.config.slow_factor.max(1),
                _ => 1,
            },
            stage: self.config.stages.get(entry.stage),
            addresses: &mut place.node.addresses,
            images: &mut place.node.images,
        };
        if entry.removed {
            entry.life.step(Event::Removed, &mut there, now);
            let node = entry.node;
            place.pods.remove(&uid);
            pods.remove(&uid);
            let deferred = guard.deferred(node);
            drop(guard);
            deferred
                .into_iter()
                .for_each(|uid| self.queue(Key::Pod(uid)));
            return;
        }
        if u64::from(entry.listed) > place.pods_listed && entry.is_new() {
            return;
        }
        if behaviour == Behaviour::Silent {
            // As on a node without power: what is seen is looked at when it is back.
            return;
        }
        let refused = match decision {
            Decision::Goes => None,
            Decision::Refused(verdict) => match entry.looks_again(&verdict, elapsed) {
                Some(at) => {
                    drop(guard);
                    return self.schedule(Key::Pod(uid), at);
                }
                None => Some(verdict),
            },
            Decision::Waits => {
                drop(guard);
                return self.schedule(Key::Pod(uid), elapsed + ROOM_LOOK);
            }
            Decision::Ends(victims) => {
                drop(guard);
                return self.end_for(uid, victims, elapsed);
            }
        };
        let resized = match resize {
            None => {
                entry.life.settle();
                Vec::new()
            }
            Some(outcome) => match entry.newest().pod() {
                Ok(pod) => entry.life.resized(&pod, outcome),
                Err(_) => Vec::new(),
            },
        };
        // It may have given back something, and others may wait for that.
        let is_news = !resized.is_empty() && entry.life.is_given();
        let seen = entry.seen.take();
        let event = seen.map_or(Event::Look, |seen| Event::Seen(*seen));
        let note = refused.as_ref().map(|verdict| Note {
            container: None,
            kind: EventType::Warning,
            reason: verdict.reason,
            text: verdict.message.trim_start_matches(REJECTED).to_owned(),
        });
        if let Some(verdict) = refused {
            entry.life.refuse(verdict);
        }
        let step = entry.life.step(event, &mut there, now);
        let writing = step.write.is_some();
        entry.writing = writing;
        let (namespace, name) = (
            entry.life.pod.kind.namespace.clone(),
            entry.life.pod.name.clone(),
        );
        let looked_at = match step.write {
            Some(Write::LookAtClaims) => Some(entry.life.pod.clone()),
            _ => None,
        };
        let deferred = match is_news {
            true => {
                let node = entry.node;
                guard.deferred(node)
            }
            false => Vec::new(),
        };
        drop(guard);
        deferred
            .into_iter()
            .for_each(|uid| self.queue(Key::Pod(uid)));
        for note in note.into_iter().chain(resized).chain(step.notes) {
            self.note(&uid, (&namespace, &name), note, elapsed);
        }
        if let Some(at) = step.wake {
            let at = at_end(self.clock.until(at, elapsed), TOGETHER);
            self.schedule(Key::Pod(uid.clone()), at);
        }
        let client = self.clients[0].clone();
        let key = Key::Pod(uid.clone());
        match step.write {
            None => {}
            Some(Write::Status(patch)) => drop(self.writes.spawn(async move {
                (
                    key,
                    writes::status(&client, &namespace, &name, &uid, patch).await,
                )
            })),
            Some(Write::LookAtClaims) => {
                if let Some(pod) = looked_at {
                    self.writes
                        .spawn(async move { (key, writes::look_at_claims(&client, &pod).await) });
                }
            }
            Some(Write::Delete) => drop(self.writes.spawn(async move {
                (key, writes::delete(&client, &namespace, &name, &uid).await)
            })),
        }
    }

    /// Ends these pods, and looks at the critical one again, in whose place they are.
    fn end_for(&mut self, critical: Uid, victims: Vec<String>, elapsed: Duration) {
        let world = self.world.clone();
        for uid in victims {
            let uid = Uid::from(uid);
            let ended = lock(&world).pods.get_mut(&uid).and_then(|entry| {
                let pod = &entry.life.pod;
                let name = (pod.kind.namespace.clone(), pod.name.clone());
                Some((entry.life.preempt()?, name))
            });
            if let Some((note, (namespace, name))) = ended {
                self.note(&uid, (&namespace, &name), note, elapsed);
                self.schedule(Key::Pod(uid), elapsed);
            }
        }
        self.schedule(Key::Pod(critical), elapsed + ROOM_LOOK);
    }

    fn turn_of_node(&mut self, number: u32) {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let (periods, count) = (self.config.periods, self.config.count);
        let world = self.world.clone();
        let mut guard = lock(&world);
        let Some(place) = guard.place(number) else {
            return;
        };
        place.queued = false;
        if place.writing {
            return;
        }
        let errand = place.node.errand(elapsed, &periods, count);
        let client = self.clients[0].clone();
        let (key, name) = (Key::Node(number), place.node.name.clone());
        let errand = match errand {
            Ok(errand) => errand,
            Err(wake) => {
                drop(guard);
                if let Some(at) = wake {
                    self.schedule(key, at);
                }
                return;
            }
        };
        place.writing = true;
        let (status, ready) = place.node.status(&self.template, (elapsed, now), count);
        let object = place.node.object(&self.template);
        // A node that is just being made has nothing to say of it.
        let metadata = match errand {
            Errand::Register => None,
            Errand::Report => {
                let micros = now.unix_timestamp().saturating_mul(1_000_000);
                place.node.told_pressure(micros)
            }
        };
        drop(guard);
        self.urgent_writes += 1;
        match errand {
            Errand::Register => drop(self.writes.spawn(async move {
                (key, writes::register(&client, object, status, ready).await)
            })),
            Errand::Report => drop(self.writes.spawn(async move {
                let told = writes::report(&client, &name, (status, ready), metadata);
                (key, told.await)
            })),
        }
    }

    fn turn_of_lease(&mut self, number: u32) {
        let now = self.clock.now();
        let world = self.world.clone();
        let mut guard = lock(&world);
        let Some(place) = guard.place(number) else {
            return;
        };
        place.lease.queued = false;
        if place.lease.writing {
            return;
        }
        if place.node.is_silent() || !place.node.is_registered() {
            drop(guard);
            self.wait_for_lease(number);
            return;
        }
        place.lease.writing = true;
        let (name, uid) = (place.node.name.clone(), place.node.uid().to_owned());
        let spec = place.node.lease_spec(now);
        drop(guard);
        self.urgent_writes += 1;
        let client = self.clients[0].clone();
        drop(self.writes.spawn(async move {
            (
                Key::Lease(number),
                writes::renew(&client, &name, &uid, spec).await,
            )
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_was_long_once_does_not_keep_its_room() {
        let mut queue: VecDeque<Uid> = (0..100_000).map(|at| Uid::from(at.to_string())).collect();
        while queue.pop_front().is_some() {
            give_back(&mut queue);
        }
        assert!(queue.capacity() <= 2 * ROOM_MIN);
        queue.push_back("u".into());
        give_back(&mut queue);
        assert_eq!((queue.len(), &*queue[0]), (1, "u"));
    }
}
