//! Whatever comes and goes, with two servers that count by caches of any age: no quota ever says less than what is there, in
//! the end it says just that, and then nothing is written.

use super::*;
use proptest::prelude::*;
use serde_json::json;

/// What is there at some time.
#[derive(Clone)]
struct View {
    quota: Object,
    /// Plural, and the revision of each object, by key.
    objects: BTreeMap<String, (&'static str, i64, Object)>,
}

struct Model {
    store: View,
    /// What a server sees to which no news come.
    old: View,
    revision: i64,
    counters: [Seen; 2],
    began: Instant,
    /// Since the beginning.
    seconds: i64,
    writes: usize,
}

/// The first two names are in all of them.
fn hard(number: usize) -> Value {
    match number % 3 {
        0 => json!({"pods": "5", "requests.cpu": "1"}),
        1 => json!({"pods": "3", "requests.cpu": "2", "services": "2"}),
        _ => json!({"pods": "5", "requests.cpu": "1", "services": "9"}),
    }
}

fn pod(how: usize) -> Object {
    let requests = json!({"cpu": format!("{}m", 100 + how)});
    let container = json!({"name": "c", "resources": {"requests": requests}});
    let pod = json!({"metadata": {}, "spec": {"containers": [container]}, "status": {"phase": "Running"}});
    Object::new(pod).unwrap()
}

fn service() -> Object {
    Object::new(json!({"metadata": {}, "spec": {"type": "ClusterIP"}})).unwrap()
}

fn sum(view: &View, seconds: i64) -> Amounts {
    let mut all = quota::nothing_used(&view.quota);
    for (plural, _, object) in view.objects.values() {
        let one = quota::used_by(&view.quota, "", plural, object, unix(seconds));
        quota::add(&mut all, &one);
    }
    all
}

fn text(seconds: i64) -> String {
    let (hours, minutes) = (10 + seconds / 3600, seconds / 60 % 60);
    format!("2026-01-01T{hours:02}:{minutes:02}:{:02}Z", seconds % 60)
}

fn unix(seconds: i64) -> i64 {
    schema::time::parse(&text(seconds)).unwrap()
}

impl Model {
    fn new() -> Model {
        let used = json!({"pods": "0", "requests.cpu": "0"});
        let status = json!({"hard": hard(0), "used": used});
        let quota = json!({"metadata": {"resourceVersion": "1"}, "spec": {"hard": hard(0)}, "status": status});
        let store = View {
            quota: Object::new(quota).unwrap(),
            objects: BTreeMap::new(),
        };
        Model {
            old: store.clone(),
            store,
            revision: 1,
            counters: [Seen::new(), Seen::new()],
            began: Instant::now(),
            seconds: 0,
            writes: 0,
        }
    }

    fn put(&mut self, key: &str, plural: &'static str, object: Object) {
        self.revision += 1;
        let object = (plural, self.revision, object);
        self.store.objects.insert(key.to_owned(), object);
    }

    fn put_quota(&mut self, mut quota: Object) {
        self.revision += 1;
        quota.set_resource_version(&self.revision.to_string());
        self.store.quota = quota;
    }

    /// As admission does it: what comes is charged in the same transaction.
    fn come(&mut self, key: &str, plural: &'static str, object: Object) {
        let quota = &self.store.quota;
        let mut used = amounts(quota, "status", "used");
        let mut more = quota::used_by(quota, "", plural, &object, unix(self.seconds));
        more.retain(|name, _| used.contains_key(name));
        if !more.is_empty() {
            quota::add(&mut used, &more);
            let used = used.iter();
            let used = used.map(|(name, amount)| (name.clone(), amount.to_string().into()));
            let used = Value::Object(used.collect());
            let mut quota = quota.clone();
            quota.set(&["status", "used"], used);
            self.put_quota(quota);
        }
        self.put(key, plural, object);
    }

    /// A server counts by what it sees.
    fn look(&mut self, who: usize, view: &View) {
        let counter = &mut self.counters[who];
        counter.notice(view.quota.resource_version().parse().unwrap());
        let of = |wanted: &str| {
            let objects = view.objects.values();
            let revisions: Vec<i64> = objects
                .filter(|(plural, ..)| *plural == wanted)
                .map(|(_, revision, _)| *revision)
                .collect();
            (
                revisions.len(),
                revisions.iter().copied().max().unwrap_or(0),
            )
        };
        let mark = vec![of("pods"), of("services")];
        let now = self.began + Duration::from_secs(self.seconds.unsigned_abs());
        let unix = unix(self.seconds);
        let counted = counter.decide(&view.quota, mark, now, |memo| {
            let mut used = quota::nothing_used(&view.quota);
            for (key, (plural, revision, object)) in &view.objects {
                memo.add(&mut used, (key.as_str(), *revision), || {
                    quota::used_by(&view.quota, "", plural, object, unix)
                });
            }
            used
        });
        let is_same = self.store.quota.resource_version() == view.quota.resource_version();
        if let Some(counted) = counted.filter(|_| is_same) {
            self.put_quota(counted);
            self.writes += 1;
        }
    }

    fn act(&mut self, (what, who, how): (u8, usize, usize)) {
        let key = format!("pods/p{who}");
        let present = self
            .store
            .objects
            .get(&key)
            .map(|(.., object)| object.clone());
        match (what, present) {
            (0 | 1, None) => self.come(&key, "pods", pod(how)),
            (0, Some(_)) => {
                self.store.objects.remove(&key);
            }
            (1, Some(mut pod)) => {
                let phase = ["Running", "Succeeded", "Failed"][how % 3];
                // Who has ended does not begin again.
                if pod.get(&["status", "phase"]) == Some(&json!("Running")) {
                    pod.set(&["status", "phase"], phase);
                    self.put(&key, "pods", pod);
                }
            }
            (2, Some(mut pod)) if pod.get(&["metadata", "deletionTimestamp"]).is_none() => {
                pod.set(&["metadata", "deletionTimestamp"], text(self.seconds));
                pod.set(&["metadata", "deletionGracePeriodSeconds"], 30);
                self.put(&key, "pods", pod);
            }
            (3, _) => {
                let key = format!("services/s{who}");
                if self.store.objects.remove(&key).is_none() {
                    self.come(&key, "services", service());
                }
            }
            (4, _) => {
                let mut quota = self.store.quota.clone();
                quota.set(&["spec", "hard"], hard(how));
                self.put_quota(quota);
            }
            (5, _) => self.old = self.store.clone(),
            (6, _) => {
                let view = self.old.clone();
                self.look(who % 2, &view);
            }
            (7, _) => self.seconds += i64::try_from(how).unwrap(),
            (8, _) => self.counters[who % 2] = Seen::new(),
            _ => {
                let view = self.store.clone();
                self.look(who % 2, &view);
            }
        }
        self.check();
    }

    /// Nobody gets more than the quota grants, since it never says less than what is used.
    fn check(&self) {
        let told = amounts(&self.store.quota, "status", "used");
        let used = sum(&self.store, self.seconds);
        for name in ["pods", "requests.cpu"] {
            assert!(told[name] >= used[name], "{name}: {told:?}, {used:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_quota_says_in_the_end_what_is_used_and_never_less(
        acts in prop::collection::vec((0_u8..11, 0_usize..5, 0_usize..40), 0..80),
    ) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
        }
        // Pods that are overdue by now are noticed, though nothing tells of them.
        model.seconds += 61;
        for who in [0, 1, 0, 1] {
            let view = model.store.clone();
            model.look(who, &view);
        }
        let quota = &model.store.quota;
        prop_assert!(grants_as_told(quota));
        prop_assert_eq!(amounts(quota, "status", "used"), sum(&model.store, model.seconds));
        let writes = model.writes;
        for seconds in [0, 30, 61] {
            model.seconds += seconds;
            let view = model.store.clone();
            model.look(0, &view);
            model.look(1, &view);
        }
        prop_assert_eq!(model.writes, writes, "it does not come to rest");
    }
}
