//! Whatever users do to owners and dependents, in whatever order it is heard of and wherever leaders are cut off:
//! nothing goes that an owner keeps, owners that wait go after those they wait for, orphans live on, and in the end
//! nothing is left that has lost its owners, nothing waits in vain, and nothing is written.

mod users;

use super::graph::Work;
use super::{Collector, FOREGROUND, ORPHAN};
use crate::api::{Api, News, Serves, finalizers, is_deleting, runtime};
use crate::simulation::Dice;
use agent_runtime::kinds::ObjectMeta;
use agent_runtime::resource_ref::{CONFIG_MAPS, PODS, REPLICA_SETS};
use agent_runtime::worker::Next;
use agent_runtime::{Queue, ResourceRef};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, RwLock};

/// A finalizer of somebody else.
const FOREIGN: &str = "example.com/keep";

/// Nobody is asked for them here.
const VERBS: &[&str] = &[];

/// By uid.
type Objects = BTreeMap<String, Value>;

fn kinds() -> [ResourceRef; 3] {
    [PODS, REPLICA_SETS, CONFIG_MAPS]
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

fn owners(object: &Value) -> Vec<String> {
    let all = object["metadata"]["ownerReferences"].as_array();
    let uids = all
        .into_iter()
        .flatten()
        .filter_map(|one| one["uid"].as_str());
    uids.map(str::to_owned).collect()
}

/// Whether it is kept until its dependents have gone.
fn waits(object: &Value) -> bool {
    is_deleting(object) && finalizers(object).contains(&FOREGROUND)
}

/// Whether the owner is there, and lets its dependents be.
fn is_solid(objects: &Objects, dependent: &Value, owner: &str) -> bool {
    let is_beside = |owner: &&Value| text(owner, "namespace") == text(dependent, "namespace");
    let owner = objects.get(owner).filter(is_beside);
    owner.is_some_and(|owner| !waits(owner))
}

/// Whether the dependent keeps an owner that waits.
fn blocks(dependent: &Value, owner: &str) -> bool {
    let all = dependent["metadata"]["ownerReferences"].as_array();
    let mut all = all.into_iter().flatten();
    all.any(|one| one["uid"] == owner && one["blockOwnerDeletion"] == true)
}

struct Run {
    api: Api,
    dice: Dice,
    collector: Collector,
    /// What the collector has not heard yet. The changes of one kind come in their order.
    news: BTreeMap<String, VecDeque<News>>,
    /// What it has to try again.
    later: Vec<Work>,
    /// References to all that was ever made.
    made: Vec<Value>,
    /// Dependents that an owner's deletion is to leave, and the owner.
    orphans: BTreeSet<(String, String)>,
}

impl Run {
    fn new() -> Self {
        let serves: Vec<Serves> = kinds().into_iter().map(|kind| (kind, VERBS)).collect();
        let api = Api::new(&serves);
        Self {
            collector: collector(&api),
            api,
            dice: Dice(0),
            news: BTreeMap::new(),
            later: Vec::new(),
            made: Vec::new(),
            orphans: BTreeSet::new(),
        }
    }

    fn objects(&self) -> Objects {
        let all = kinds()
            .into_iter()
            .flat_map(|kind| self.api.all(&kind.plural));
        all.map(|object| (text(&object, "uid").to_owned(), object))
            .collect()
    }

    fn up_to(&mut self, count: usize) -> usize {
        let sides = u64::try_from(count).unwrap();
        usize::try_from(self.dice.roll(sides)).unwrap()
    }

    /// Takes down what happened.
    fn hear(&mut self) {
        for one in self.api.take_news() {
            let of_kind = self.news.entry(one.plural.clone()).or_default();
            of_kind.push_back(one);
        }
    }

    /// The collector hears of the oldest change of a kind.
    fn tell(&mut self, kind: &ResourceRef) -> bool {
        let of_kind = self.news.get_mut(&*kind.plural);
        let Some(one) = of_kind.and_then(VecDeque::pop_front) else {
            return false;
        };
        self.show(kind, &one.object, one.is_gone);
        true
    }

    fn show(&self, kind: &ResourceRef, object: &Value, is_gone: bool) {
        let meta: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap();
        let work = if is_gone {
            self.collector.graph().remove(&meta.uid)
        } else {
            self.collector.graph().observe(kind, &meta)
        };
        let queue = &self.collector.queue;
        work.into_iter().for_each(|work| queue.add(work));
    }

    fn tell_all(&mut self) {
        self.hear();
        for kind in kinds() {
            while self.tell(&kind) {}
        }
    }

    /// Somebody else leads, and lists all kinds, one before the other.
    fn take_over(&mut self) {
        self.collector = collector(&self.api);
        self.hear();
        self.news.clear();
        self.later.clear();
        let mut kinds = kinds();
        let first = self.up_to(kinds.len());
        kinds.rotate_left(first);
        for kind in kinds {
            for object in self.api.all(&kind.plural) {
                self.show(&kind, &object, false);
            }
        }
    }

    /// One thing is looked at, if there is any to look at.
    async fn step(&mut self) {
        let queue = self.collector.queue.clone();
        if queue.is_empty() {
            return;
        }
        self.hear();
        let all_is_known = self.news.values().all(VecDeque::is_empty);
        let before = self.objects();
        let work = queue.next().await.unwrap();
        let next = self.collector.work(work.clone()).await;
        queue.done(&work);
        self.judge(&before, all_is_known, &work);
        if next == Next::Backoff {
            self.later.push(work);
        }
    }

    /// Whether what was done could be done.
    fn judge(&self, before: &Objects, all_is_known: bool, work: &Work) {
        let after = self.objects();
        for (uid, was) in before {
            let now = after.get(uid);
            if !is_deleting(was) && now.is_none_or(is_deleting) {
                let lost = owners(was);
                let is_kept = lost.iter().any(|owner| is_solid(before, was, owner));
                assert!(!lost.is_empty() && !is_kept, "{work} takes {was}");
                let is_left = |owner: &String| self.orphans.contains(&(uid.clone(), owner.clone()));
                assert!(!lost.iter().any(is_left), "{work} takes the orphan {was}");
                let in_foreground = lost.iter().any(|owner| {
                    before.get(owner).is_some_and(|owner| {
                        waits(owner) && text(owner, "namespace") == text(was, "namespace")
                    })
                });
                let has_dependents = dependents(before, was).next().is_some();
                if all_is_known && in_foreground && has_dependents {
                    assert!(now.is_some_and(waits), "{work}: it has to wait: {was}");
                }
            }
            if all_is_known && waits(was) && !now.is_some_and(waits) {
                let blocking = dependents(before, was).find(|one| blocks(one, uid));
                assert!(blocking.is_none(), "{work}: {was} goes before {blocking:?}");
            }
        }
    }

    async fn disturb(&mut self, seed: u64) {
        self.dice = Dice(seed);
        let one = self.any();
        match (self.dice.roll(22), one) {
            (0..=4, _) => self.make(),
            (5 | 6, Some((plural, object))) => {
                let propagation = ["Background", "Foreground", "Orphan"][self.up_to(3)];
                self.delete(&plural, &object, propagation);
            }
            (7, Some((plural, object))) => {
                let reference = self.reference();
                self.adopt(&plural, &object, reference);
            }
            (8, Some((plural, object))) => {
                self.patch(&plural, &object, &json!({"ownerReferences": null}));
            }
            (9, Some((plural, object))) => {
                let mut kept = finalizers(&object);
                kept.retain(|one| *one != FOREIGN);
                self.patch(&plural, &object, &json!({"finalizers": kept}));
            }
            (10..=12, _) => {
                self.hear();
                let kind = kinds()[self.up_to(3)].clone();
                for _ in 0..=self.dice.roll(3) {
                    self.tell(&kind);
                }
                if self.dice.roll(3) == 0 {
                    self.tell_all();
                }
            }
            (20 | 21, _) => self.entangle(),
            (13, _) => {
                self.api.cut_off(Some(self.dice.roll(2)));
                self.step().await;
                self.api.cut_off(None);
                self.take_over();
            }
            (14, _) => {
                let again = std::mem::take(&mut self.later);
                again
                    .into_iter()
                    .for_each(|work| self.collector.queue.add(work));
            }
            _ => {
                for _ in 0..=self.dice.roll(3) {
                    self.step().await;
                }
            }
        }
    }

    async fn settle(&mut self) {
        for _ in 0..50 {
            let before = self.api.version();
            self.tell_all();
            let again = std::mem::take(&mut self.later);
            again
                .into_iter()
                .for_each(|work| self.collector.queue.add(work));
            for _ in 0..10_000 {
                self.step().await;
                self.tell_all();
                if self.collector.queue.is_empty() {
                    break;
                }
            }
            let is_idle = self.collector.queue.is_empty() && self.later.is_empty();
            if is_idle && self.api.version() == before {
                return;
            }
        }
        panic!(
            "it does not come to rest: {:?} {:#?}",
            self.later,
            self.objects()
        );
    }

    fn has_arrived(&self) {
        let objects = self.objects();
        for (uid, object) in &objects {
            if is_deleting(object) {
                assert!(!finalizers(object).contains(&ORPHAN), "{object}");
                assert!(is_held(&objects, uid), "it waits in vain: {object}");
                continue;
            }
            let owners = owners(object);
            let mut lost = owners
                .iter()
                .filter(|owner| !is_solid(&objects, object, owner));
            assert_eq!(lost.next(), None, "{object}");
        }
    }
}

/// The dependents that name an object of their own namespace. One that owns itself does not wait for itself.
fn dependents<'a>(objects: &'a Objects, of: &'a Value) -> impl Iterator<Item = &'a Value> {
    let (uid, namespace) = (text(of, "uid"), text(of, "namespace"));
    let others = objects.values().filter(move |one| text(one, "uid") != uid);
    others.filter(move |one| {
        text(one, "namespace") == namespace && owners(one).iter().any(|owner| owner == uid)
    })
}

/// Whether somebody's finalizer holds what is being deleted, or something that it has to wait for.
fn is_held(objects: &Objects, uid: &str) -> bool {
    let mut seen = BTreeSet::from([uid.to_owned()]);
    let mut ahead = vec![uid.to_owned()];
    while let Some(uid) = ahead.pop() {
        let object = &objects[&uid];
        if !is_deleting(object) {
            continue;
        }
        if finalizers(object).contains(&FOREIGN) {
            return true;
        }
        for (other, dependent) in objects {
            if waits(object) && blocks(dependent, &uid) && seen.insert(other.clone()) {
                ahead.push(other.clone());
            }
        }
    }
    false
}

fn collector(api: &Api) -> Collector {
    let kinds = kinds().into_iter();
    let kinds = kinds.map(|kind| ((kind.group.to_string(), kind.kind.to_string()), kind));
    Collector {
        context: api.context(),
        graph: Mutex::default(),
        queue: Arc::new(Queue::new()),
        kinds: RwLock::new(kinds.collect()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]
    #[test]
    fn what_has_lost_its_owners_goes_and_nothing_else(turns in prop::collection::vec(any::<u64>(), 1..80)) {
        runtime().block_on(async move {
            let mut run = Run::new();
            for seed in turns {
                run.disturb(seed).await;
            }
            run.settle().await;
            run.has_arrived();
            let before = run.api.version();
            run.take_over();
            run.settle().await;
            assert_eq!(run.api.version(), before, "who takes over finds something to do");
        });
    }
}
