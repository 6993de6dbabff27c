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
                    let place = (pod.namespace.clone(), pod.name.clone());
                    note = entry.life.unclear(text).map(|note| (place, note));
                    entry.failures = entry.failures.saturating_add(1);
                    Some(elapsed + pause(entry.failures, None))
                }
                Answer::Failed(wait) => {
                    entry.failures = entry.failures.saturating_add(1);
                    Some(elapsed + pause(entry.failures, wait))
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
        let mut news = Vec::new();
        {
            let mut world = self.world();
            let Some(place) = world.place(number) else {
                return;
            };
            place.writing = false;
            let seen = place.seen.take();
            match answer {
                Answer::Node(told) => {
                    place.failures = 0;
                    is_new = !place.node.is_registered();
                    if let Some((status, _)) = &told.told {
                        news = place.node.news(status);
                    }
                    place.node.see(told.shown);
                    if let Some((status, ready)) = told.told {
                        place.node.reported(&status, ready, elapsed);
                    }
                }
                Answer::Missing => {
                    place.node.lose();
                    later = Some(elapsed + RETURN);
                }
                Answer::Failed(wait) => {
                    place.failures = place.failures.saturating_add(1);
                    later = Some(elapsed + pause(place.failures, wait));
                    if let Some(seen) = seen {
                        place.node.see(seen);
                    }
                }
                _ => later = Some(elapsed + RETRY_MAX),
            }
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
