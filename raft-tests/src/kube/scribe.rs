//! Writes down what clients ask and are told, and follows the store from its beginning.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kv::{EventKind, Store, WatchItem, WatchRequest};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::history::{Ask, Call, History, Informer, Step, Stepped, Told, Truth};
use crate::recording::RestFate;
use crate::sim::world::World;

/// See the module head.
pub struct Scribe {
    start: Instant,
    history: Mutex<History>,
}

impl Scribe {
    pub fn new(start: Instant) -> Scribe {
        Scribe {
            start,
            history: Mutex::default(),
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A request as it is sent now; answers its place.
    pub fn asked(&self, ask: Ask) -> usize {
        let called = self.now();
        let asks = &mut self.history().asks;
        asks.push(Ask { called, ..ask });
        asks.len() - 1
    }

    pub fn answered(&self, place: usize, fate: RestFate, answer: String) {
        let now = self.now();
        if let Some(ask) = self.history().asks.get_mut(place) {
            ask.returned = Some(now);
            (ask.fate, ask.answer) = (fate, answer);
        }
    }

    /// A request that is sent now; answers its id.
    pub fn called(&self, call: Call) -> u64 {
        let called = self.now();
        let calls = &mut self.history().calls;
        let id = calls.len() as u64;
        calls.push(Call { id, called, ..call });
        id
    }

    pub fn returned(&self, id: u64, told: Told) {
        let now = self.now();
        if let Some(call) = self.history().calls.get_mut(id as usize) {
            call.returned = Some(now);
            call.told = told;
        }
    }

    /// A new informer; answers its place.
    pub fn informer(&self, client: u32, prefix: String) -> usize {
        let informers = &mut self.history().informers;
        informers.push(Informer {
            client,
            prefix,
            steps: Vec::new(),
            settled: None,
        });
        informers.len() - 1
    }

    pub fn step(&self, informer: usize, step: Step) {
        let at = self.now();
        if let Some(informer) = self.history().informers.get_mut(informer) {
            informer.steps.push(Stepped { at, step });
        }
    }

    /// Changes what was written down.
    pub fn change<T>(&self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.history())
    }

    /// The revision up to which the store was followed.
    pub fn followed(&self) -> i64 {
        self.history().truth.last()
    }

    /// Follows all changes of the store, on one member after the other, for ever.
    pub async fn follow(self: Arc<Self>, world: Arc<World>, mut rng: SmallRng) {
        loop {
            let running = world.running();
            let pause = Duration::from_millis(rng.random_range(1..20));
            if !running.is_empty() {
                let (member, _) = running[rng.random_range(0..running.len())];
                self.follow_one(&world, member).await;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn follow_one(&self, world: &World, member: u64) {
        let all = || bytes::Bytes::from_static(b"\0");
        let request = WatchRequest {
            key: all(),
            range_end: all(),
            start_revision: self.followed() + 1,
        };
        // It may be one that is cut off, and then others know more.
        let stay = Duration::from_secs(2);
        let following = world.ask(member, stay, |node| async move {
            let Ok(mut stream) = node.watch(request).await else {
                return;
            };
            while let Some(item) = stream.next().await {
                match item {
                    WatchItem::Events { revision, events } => self.learn(revision, events.iter()),
                    WatchItem::Progress { revision } => self.history().truth.reach(revision),
                    WatchItem::Compacted { .. } => return,
                }
            }
        });
        // However it ends, it goes on elsewhere.
        let _ended = following.await;
    }

    /// Takes in what a watch tells of one revision, unless it is known.
    pub fn learn<'a>(&self, revision: i64, events: impl IntoIterator<Item = &'a kv::Event>) {
        let truth: &mut Truth = &mut self.history().truth;
        if revision <= truth.last() {
            return;
        }
        for event in events {
            let key = String::from_utf8_lossy(&event.kv.key);
            let Some(key) = key.strip_prefix("/registry/") else {
                continue;
            };
            let object = match event.kind == EventKind::Delete as i32 {
                true => None,
                false => serde_json::from_slice(&event.kv.value).ok(),
            };
            truth.put(revision, key, object);
        }
        truth.reach(revision);
    }
}
