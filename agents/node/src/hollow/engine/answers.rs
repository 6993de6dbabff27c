//! Writes that have ended: what their answers show is taken in, and what failed waits for its next turn.

use std::time::Duration;

use rand::RngExt;

use super::{Engine, Key, RETRY_MAX, RETRY_MIN, RETURN};
use crate::hollow::world::Uid;
use crate::hollow::writes::Answer;

impl Engine {
    /// Takes in the end of a write.
    pub(super) fn finish(&mut self, done: Result<(Key, Answer), tokio::task::JoinError>) {
        let Ok((key, answer)) = done else { return };
        match key {
            Key::Pod(uid) => self.finish_pod(uid, answer),
            Key::Node(number) => {
                self.urgent_writes = self.urgent_writes.saturating_sub(1);
                self.finish_node(number, answer);
            }
            Key::Lease(number) => {
                self.urgent_writes = self.urgent_writes.saturating_sub(1);
                self.finish_lease(number, &answer);
            }
        }
    }

    fn finish_pod(&mut self, uid: Uid, answer: Answer) {
        let elapsed = self.clock.elapsed();
        let mut note = None;
        let later = {
            let mut world = self.world();
            let Some(entry) = world.pods.get_mut(&uid) else {
                return;
            };
            entry.writing = false;
            match answer {
                Answer::Unclear(text) => {
                    let pod = &entry.life.pod;
                    let place = (pod.kind.namespace.clone(), pod.name.clone());
                    note = entry.life.unclear(text).map(|note| (place, note));
                    entry.failures = entry.failures.saturating_add(1);
                    Some(elapsed + pause(u32::from(entry.failures), None))
                }
                Answer::Failed(wait) => {
                    entry.failures = entry.failures.saturating_add(1);
                    Some(elapsed + pause(u32::from(entry.failures), wait))
                }
                answer => {
                    entry.failures = 0;
                    match answer {
                        Answer::Clear => entry.life.clear(),
                        Answer::Taken(version) => entry.life.taken(version),
                        // Gone, refused, or deleted: only another version brings more to do.
                        _ => entry.life.rest(),
                    }
                    None
                }
            }
        };
        if let Some(((namespace, name), note)) = note {
            self.note(&uid, (&namespace, &name), note, elapsed);
        }
        match later {
            Some(at) => self.schedule(Key::Pod(uid), at),
            None => self.queue(Key::Pod(uid)),
        }
    }

    fn finish_node(&mut self, number: u32, answer: Answer) {
        let elapsed = self.clock.elapsed();
        let (mut is_new, mut later) = (false, None);
        let (mut news, mut shown) = (Vec::new(), None);
        {
            let mut world = self.world();
            let Some(place) = world.place(number) else {
                return;
            };
            place.writing = false;
            let seen = place.seen.take();
            match answer {
                Answer::Node(told) if !place.lost => {
                    place.failures = 0;
                    is_new = !place.node.is_registered();
                    if let Some((status, _)) = &told.told {
                        news = place.node.news(status);
                    }
                    place.node.see(told.shown);
                    if let Some((status, ready)) = told.told {
                        place.node.reported(&status, ready, elapsed);
                    }
                    shown = seen;
                }
                Answer::Node(_) | Answer::Missing => {
                    place.node.lose();
                    later = Some(elapsed + RETURN);
                }
                Answer::Failed(wait) => {
                    place.failures = place.failures.saturating_add(1);
                    later = Some(elapsed + pause(place.failures, wait));
                    shown = seen;
                }
                _ => later = Some(elapsed + RETRY_MAX),
            }
            place.lost = false;
        }
        // A watch may have shown more than the answer knows.
        if shown.is_some_and(|shown| self.take_in_node(number, *shown)) {
            self.queue(Key::Lease(number));
        }
        match later {
            Some(at) => self.schedule(Key::Node(number), at),
            None => self.queue(Key::Node(number)),
        }
        for reason in news {
            self.note_news(number, reason, elapsed);
        }
        if is_new {
            self.note_hollow(number, elapsed);
        }
    }

    fn finish_lease(&mut self, number: u32, answer: &Answer) {
        let later = {
            let mut world = self.world();
            let Some(place) = world.place(number) else {
                return;
            };
            place.lease.writing = false;
            match answer {
                Answer::Failed(wait) => {
                    place.lease.failures = place.lease.failures.saturating_add(1);
                    Some(pause(place.lease.failures, *wait).min(self.config.periods.lease))
                }
                _ => {
                    place.lease.failures = 0;
                    None
                }
            }
        };
        match later {
            Some(wait) => {
                let at = self.clock.elapsed() + wait;
                self.schedule(Key::Lease(number), at);
            }
            None => self.wait_for_lease(number),
        }
    }
}

/// The pause after so many failures in a row, or the one that the server wants.
fn pause(failures: u32, wanted: Option<Duration>) -> Duration {
    let doubled = RETRY_MIN.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    let jitter = rand::rng().random_range(0.5..1.5);
    doubled
        .min(RETRY_MAX)
        .mul_f64(jitter)
        .max(wanted.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use agent_runtime::{Body, BoxError, Client, InProcessService};
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::hollow::engine::Clock;
    use crate::hollow::engine::seen::Seen;
    use crate::hollow::nodes::{BEHAVIOUR, Behaviour, Names, Node, Periods, Shown, Template};
    use crate::hollow::world::World;
    use crate::hollow::writes::Told;
    use crate::hollow::{HollowNodes, config};

    /// An engine of one node that something is just being written of, and that never hears an answer of the API.
    fn engine() -> Engine {
        let nodes = HollowNodes::new(1);
        let names = Names::new(&nodes.prefix, 1);
        let node = Node::new(0, names.of(0), Behaviour::Steady);
        let mut world = World::new(std::iter::once(node));
        world.places[0].writing = true;
        let template = Template {
            config: config(&nodes, false),
            zones: 0,
            periods: Periods::default(),
            port: 0,
        };
        let service = tower::service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, BoxError>>()
        });
        let clients = vec![Client::in_process(InProcessService::new(service))];
        let world = Arc::new(Mutex::new(world));
        let stop = CancellationToken::new();
        Engine::new(
            nodes,
            names,
            template,
            world,
            clients,
            Clock::start(),
            &stop,
        )
    }

    fn shown(version: u64, behaviour: Option<&str>) -> Shown {
        Shown::of(&json!({"metadata": {
            "uid": "u",
            "resourceVersion": version.to_string(),
            "annotations": {(BEHAVIOUR): behaviour},
        }}))
    }

    fn answer(version: u64) -> Answer {
        Answer::Node(Box::new(Told {
            shown: shown(version, None),
            told: None,
        }))
    }

    #[tokio::test]
    async fn what_a_watch_has_shown_during_a_write_counts_where_it_is_newer_than_the_answer() {
        for (answered, is_silent) in [(5, true), (7, false)] {
            let mut engine = engine();
            engine.see(Seen::Node {
                number: 1,
                node: 0,
                shown: Box::new(shown(6, Some("silent"))),
            });
            engine.finish_node(0, answer(answered));
            let found = engine.world().places[0].node.is_silent();
            assert_eq!(found, is_silent, "{answered}");
        }
    }

    #[tokio::test]
    async fn a_node_that_went_during_a_write_is_made_again() {
        let mut engine = engine();
        engine.see(Seen::NodeGone(0));
        engine.finish_node(0, answer(5));
        {
            let world = engine.world();
            let place = &world.places[0];
            assert!(!place.node.is_registered() && place.due.is_some());
            assert!(!place.writing && !place.lost);
        }
        engine.finish_node(0, answer(6));
        assert!(engine.world().places[0].node.is_registered());
    }
}
