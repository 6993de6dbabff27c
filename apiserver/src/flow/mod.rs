//! API priority and fairness: which requests run when there are too many of them.
//!
//! A request belongs to the first flow schema that matches it (`classify`), and so to a priority level, which has a part
//! of the server's seats (`shares`) and of the bytes that answers on their way may have. What does not fit waits in one of
//! the level's queues (`queues`, `deal`), and is refused where it cannot wait. Levels lend each other what they do not
//! use (`demand`, `task`). Everything but this file, `enter`, `answer_bytes`, `level`, `task` and `dump` is pure.
//!
//! A request holds its seats until its answer is ready, and the bytes of the answer until they are sent: a client that
//! reads slowly keeps others from sending much, and not from working.

mod answer_bytes;
mod classify;
mod deal;
mod demand;
mod dump;
mod enter;
mod estimate;
mod level;
mod metrics;
mod present;
mod queues;
mod retry;
mod shares;
mod task;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use auth::User;
use host::watch;
use http::HeaderValue;
use resources::bootstrap::flow::{self as objects, GROUP};
use schema::Object;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cache::Cache;
use crate::request::RequestInfo;
use crate::world::World;
pub(crate) use answer_bytes::{AnswerBytes, Bytes, bytes_of};
use classify::Schema;
pub(crate) use dump::respond;
pub(crate) use enter::{Held, Urgency};
pub(crate) use estimate::{Kind, Stored};
use level::Level;
use metrics::{Metrics, OfSchema};
use queues::{Room, Shape};
use shares::{Bounds, Share};
pub(crate) use task::{enter_status, run};

/// Seats of a server: Kubernetes' 400 for reads and 200 for writes. A request takes a tenth or less of the work that it
/// takes there, so a small machine has room for as many, and levels and alerts mean what they mean elsewhere.
pub(crate) const SEATS: u32 = 600;
/// Bytes of large answers on their way, of all levels together.
pub(crate) const RESPONSE_BYTES: u64 = 512 << 20;
/// One flow has this part of its level's bytes.
const FLOW_PART: u64 = 4;
/// Queues of a level at most; more would only take memory.
const QUEUES_MAX: usize = 1_024;

pub(crate) struct FlowControl {
    /// Seats and bytes to divide.
    total: (u32, u64),
    epoch: Instant,
    sources: Mutex<Sources>,
    rules: RwLock<Arc<Rules>>,
    /// Levels that are not configured any more, while requests of theirs are under way.
    gone: Mutex<Vec<Weak<Level>>>,
    metrics: Metrics,
    poke: Arc<Notify>,
}

/// Where the configuration comes from.
#[derive(Default)]
struct Sources {
    schemas: Option<(Arc<Cache>, watch::Receiver<u64>)>,
    levels: Option<(Arc<Cache>, watch::Receiver<u64>)>,
}

/// The configuration, compiled.
#[derive(Default)]
struct Rules {
    /// In the order in which they are asked.
    flows: Vec<Arc<Flow>>,
    levels: BTreeMap<String, Configured>,
}

/// A level and what is said about it.
struct Configured {
    level: Arc<Level>,
    shape: Shape,
    bounds: Bounds,
}

/// A flow schema with its level.
pub(crate) struct Flow {
    schema: Schema,
    level: Arc<Level>,
    nominal: u32,
    uids: [Option<HeaderValue>; 2],
    metrics: OfSchema,
}

/// A request and what it belongs to.
#[derive(Clone)]
pub(crate) struct Matched {
    flow: Arc<Flow>,
    number: u64,
}

impl FlowControl {
    pub(crate) fn new(world: &World, seats: u32, registry: &prometheus::Registry) -> FlowControl {
        let source = |plural: &str| {
            let cache = world.named(GROUP, plural)?.clone();
            let wake = cache.subscribe();
            Some((cache, wake))
        };
        let sources = Sources {
            schemas: source("flowschemas"),
            levels: source("prioritylevelconfigurations"),
        };
        FlowControl::from_sources(sources, seats, registry)
    }

    fn from_sources(sources: Sources, seats: u32, registry: &prometheus::Registry) -> FlowControl {
        let control = FlowControl {
            total: (seats, RESPONSE_BYTES),
            epoch: Instant::now(),
            sources: Mutex::new(sources),
            rules: RwLock::default(),
            gone: Mutex::default(),
            metrics: Metrics::new(registry),
            poke: Arc::default(),
        };
        control.compile(&[], &[]);
        control
    }

    /// Applies what the caches have learned since the last question.
    fn catch_up(&self) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        let Sources { schemas, levels } = &mut *sources;
        for (_, wake) in [&mut *schemas, &mut *levels].into_iter().flatten() {
            if wake.has_changed().unwrap_or(false) {
                wake.mark_unchanged();
                changed = true;
            }
        }
        if !changed {
            return;
        }
        let read = |source: &Option<(Arc<Cache>, watch::Receiver<u64>)>| -> Vec<Object> {
            let Some((cache, _)) = source else {
                return Vec::new();
            };
            let snapshot = cache.snapshot(0);
            let entries = snapshot.tree.iter_prefix(&cache.prefix);
            entries.map(|entry| entry.object()).collect()
        };
        self.compile(&read(schemas), &read(levels));
    }

    /// Takes these objects, and the mandatory ones where they are missing. Levels that are there already keep their
    /// requests; one that is gone lets go those that it has.
    fn compile(&self, schemas: &[Object], levels: &[Object]) {
        let old = self.rules();
        let levels = with_mandatory(levels, objects::priority_levels());
        let schemas = with_mandatory(schemas, objects::flow_schemas());
        let configs: Vec<(Share, Shape)> = levels.iter().map(level_spec).collect();
        let shares: Vec<Share> = configs.iter().map(|config| config.0).collect();
        let bounds = shares::divide(self.total.0, &shares);
        let mut rules = Rules::default();
        for ((object, (_, shape)), bounds) in levels.iter().zip(configs).zip(bounds) {
            let room = self.room(bounds);
            let name = object.name();
            let level = match old.levels.get(name) {
                Some(old) => {
                    if (old.shape, old.bounds) != (shape, bounds) {
                        old.level.reshape(shape, room);
                    }
                    old.level.clone()
                }
                None => {
                    let (epoch, poke) = (self.epoch, self.poke.clone());
                    Arc::new(Level::new(name, shape, room, epoch, poke))
                }
            };
            self.metrics.bounds(name, bounds);
            let configured = Configured {
                level,
                shape,
                bounds,
            };
            rules.levels.insert(name.to_owned(), configured);
        }
        let uid = |object: Option<&Object>| HeaderValue::from_str(object?.uid()).ok();
        for object in &schemas {
            let schema = Schema::from_object(object);
            let Some(configured) = rules.levels.get(&schema.level) else {
                // It dangles, and matches nothing.
                continue;
            };
            let of_level = levels.iter().find(|level| level.name() == schema.level);
            rules.flows.push(Arc::new(Flow {
                level: configured.level.clone(),
                nominal: configured.bounds.nominal,
                uids: [uid(Some(object)), uid(of_level)],
                metrics: self.metrics.of_schema(&schema.level, &schema.name),
                schema,
            }));
        }
        rules
            .flows
            .sort_by(|a, b| a.schema.order().cmp(&b.schema.order()));
        self.forget(&old, &rules);
        self.leave_behind(&old, &rules);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Metrics of what is gone.
    fn forget(&self, old: &Rules, new: &Rules) {
        let names = |flow: &Arc<Flow>| (flow.schema.level.clone(), flow.schema.name.clone());
        for gone in &old.flows {
            if !new.flows.iter().any(|flow| names(flow) == names(gone)) {
                let (level, schema) = names(gone);
                self.metrics.forget_schema(&level, &schema);
            }
        }
        for name in old.levels.keys() {
            if !new.levels.contains_key(name) {
                self.metrics.forget_level(name);
            }
        }
    }

    /// Keeps an eye on levels that are gone: who waits there still waits for seats.
    fn leave_behind(&self, old: &Rules, new: &Rules) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.retain(|level| level.strong_count() > 0);
        for (name, configured) in &old.levels {
            if !new.levels.contains_key(name) {
                gone.push(Arc::downgrade(&configured.level));
            }
        }
    }

    /// Gives back seats that lingered, at all levels that have requests; when there are more that somebody waits for.
    fn release(&self) -> Option<Instant> {
        let rules = self.rules();
        let configured = rules.levels.values().map(|one| one.level.clone());
        let mut levels: Vec<Arc<Level>> = configured.collect();
        {
            let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
            gone.retain(|level| level.strong_count() > 0);
            levels.extend(gone.iter().filter_map(Weak::upgrade));
        }
        levels.iter().filter_map(|level| level.release()).min()
    }

    /// A level's part: seats by its bounds, bytes by its nominal part of the seats.
    fn room(&self, bounds: Bounds) -> Room {
        let (seats, bytes) = self.total;
        let bytes = bytes / u64::from(seats.max(1)) * u64::from(bounds.nominal);
        Room {
            seats: bounds.nominal,
            bytes,
            flow_bytes: bytes / FLOW_PART,
        }
    }

    fn rules(&self) -> Arc<Rules> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.clone()
    }

    /// What a request belongs to. There is always something: the last schema takes all.
    pub(crate) fn classify(&self, user: &User, info: &RequestInfo) -> Option<Matched> {
        self.catch_up();
        let rules = self.rules();
        let matches = |flow: &&Arc<Flow>| flow.schema.matches(user, info);
        let catch_all = || {
            rules
                .flows
                .iter()
                .find(|flow| flow.schema.name == "catch-all")
        };
        let flow = rules.flows.iter().find(matches).or_else(catch_all)?;
        Some(Matched {
            number: flow.schema.flow(user, info),
            flow: flow.clone(),
        })
    }
}

/// The objects, and those of last resort that are not among them.
fn with_mandatory(present: &[Object], bootstrap: Vec<Object>) -> Vec<Object> {
    let is_missing = |object: &Object| {
        objects::MANDATORY.contains(&object.name())
            && !present.iter().any(|one| one.name() == object.name())
    };
    let missing = bootstrap.into_iter().filter(is_missing);
    present.iter().cloned().chain(missing).collect()
}

fn level_spec(object: &Object) -> (Share, Shape) {
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let is_exempt = spec["type"] == "Exempt";
    let part = match is_exempt {
        true => &spec["exempt"],
        false => &spec["limited"],
    };
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let share = Share {
        shares: number(&part["nominalConcurrencyShares"]).unwrap_or(0),
        lendable_percent: number(&part["lendablePercent"]).unwrap_or(0).min(100),
        borrowing_percent: number(&part["borrowingLimitPercent"]),
    };
    let response = &part["limitResponse"];
    let queuing = |field: &str| number(&response["queuing"][field]).unwrap_or(1) as usize;
    let shape = match (is_exempt, response["type"] == "Queue") {
        (true, _) => Shape::Exempt,
        (false, false) => Shape::Reject,
        (false, true) => Shape::Queue {
            queues: queuing("queues").clamp(1, QUEUES_MAX),
            hand: queuing("handSize").clamp(1, deal::HAND_MAX),
            length_max: queuing("queueLengthLimit").max(1),
        },
    };
    (share, shape)
}
