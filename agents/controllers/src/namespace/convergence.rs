//! Whatever is in a namespace, whatever cannot be deleted or found for a while and wherever leaders are cut off: pods
//! go first, finalizers are respected, the conditions say what is left, a namespace goes when it is empty and not
//! before, its neighbour stays as it is, and then nothing is written.

use super::{FINALIZER, finalize, sync};
use crate::api::{Api, Serves, finalizers, is_deleting, runtime};
use crate::manager::TaskContext;
use crate::simulation::Dice;
use agent_runtime::ResourceRef;
use agent_runtime::resource_ref::{CONFIG_MAPS, NAMESPACES, PODS};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A finalizer of somebody else.
const FOREIGN: &str = "example.com/keep";
const PLURALS: [&str; 3] = ["pods", "configmaps", "widgets"];
const KINDS: [&str; 3] = ["Pod", "ConfigMap", "Widget"];
const ONE_BY_ONE: &[&str] = &["list", "delete"];
const ALL: &[&str] = &["list", "delete", "deletecollection"];
/// What the server says of the core group, and of the other.
const GROUPS: [&str; 2] = ["/api/v1", "/apis/example.com/v1"];

struct Run {
    api: Api,
    context: TaskContext,
    dice: Dice,
    made: u64,
    /// Which of [`GROUPS`] do not answer.
    failing: [bool; 2],
    /// Which of [`PLURALS`] cannot be deleted.
    refused: [bool; 3],
    /// Of the incarnation before.
    former: String,
}

fn in_namespace(api: &Api, plural: &str, namespace: &str) -> Vec<Value> {
    let mut all = api.all(plural);
    all.retain(|object| object["metadata"]["namespace"] == namespace);
    all
}

fn content(api: &Api, namespace: &str) -> [Vec<Value>; 3] {
    PLURALS.map(|plural| in_namespace(api, plural, namespace))
}

fn is_empty(content: &[Vec<Value>; 3]) -> bool {
    content.iter().all(Vec::is_empty)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Whether it is this controller's to remove.
fn is_ours(namespace: Option<&Value>) -> bool {
    let own = namespace.and_then(|one| one["spec"]["finalizers"].as_array());
    own.is_some_and(|own| own.iter().any(|one| one == FINALIZER))
}

impl Run {
    fn new() -> Self {
        let widgets = ResourceRef::new("example.com", "v1", "widgets", "Widget", true);
        let serves: [Serves; 4] = [
            (NAMESPACES, ONE_BY_ONE),
            (CONFIG_MAPS, ALL),
            (PODS, ALL),
            (widgets, ONE_BY_ONE),
        ];
        let api = Api::new(&serves);
        let mut run = Self {
            context: api.context(),
            api,
            dice: Dice(0),
            made: 0,
            failing: [false; 2],
            refused: [false; 3],
            former: String::new(),
        };
        run.put_namespace("a");
        run.put_namespace("b");
        run
    }

    fn put_namespace(&mut self, name: &str) {
        self.made += 1;
        let own = match self.dice.roll(3) {
            0 => json!([FINALIZER, FOREIGN]),
            _ => json!([FINALIZER]),
        };
        let metadata = json!({"name": name, "uid": format!("u{}", self.made)});
        let namespace = json!({"kind": "Namespace", "metadata": metadata, "spec": {"finalizers": own}, "status": {"phase": "Active"}});
        self.api.put("namespaces", namespace);
    }

    fn namespace(&self) -> Option<Value> {
        self.api.get("namespaces", "", "a")
    }

    /// Somebody makes an object, in what is not being deleted.
    fn make(&mut self) {
        let namespace = ["b", "a"][usize::from(self.dice.roll(5) > 0)];
        let home = self.api.get("namespaces", "", namespace);
        if home.is_none_or(|home| is_deleting(&home)) {
            return;
        }
        self.made += 1;
        let at = usize::try_from(self.dice.roll(3)).unwrap();
        let held = if self.dice.roll(4) == 0 {
            json!([FOREIGN])
        } else {
            json!([])
        };
        let phase = ["Pending", "Running"][usize::from(self.dice.roll(2) > 0)];
        let metadata = json!({"name": format!("o{}", self.made), "namespace": namespace, "uid": format!("u{}", self.made), "finalizers": held});
        let object = json!({"kind": KINDS[at], "metadata": metadata, "status": {"phase": phase}});
        self.api.put(PLURALS[at], object);
    }

    /// Those who run pods have ended one that goes.
    fn end_pod(&mut self) {
        let mut going = in_namespace(&self.api, "pods", "a");
        going.retain(|pod| is_deleting(pod) && finalizers(pod).is_empty());
        if let Some(pod) = going.first() {
            self.api.remove("pods", "a", name(pod));
        }
    }

    /// Somebody takes a finalizer away.
    fn free(&mut self) {
        for (plural, objects) in PLURALS.iter().zip(content(&self.api, "a")) {
            let mut held = objects.iter().filter(|one| !finalizers(one).is_empty());
            if let Some(object) = held.next() {
                let free = json!({"metadata": {"finalizers": []}});
                return self.api.patch(plural, "a", name(object), &free);
            }
        }
    }

    fn delete_namespace(&mut self) {
        if let Some(namespace) = self.namespace() {
            self.former = namespace["metadata"]["uid"].as_str().unwrap().to_owned();
            self.api.delete("namespaces", "", "a", "Background");
        }
    }

    /// Others do not hold the namespace any more.
    fn let_go(&mut self) {
        if let Some(namespace) = self.namespace() {
            let own = namespace["spec"]["finalizers"].as_array().unwrap();
            let own: Vec<&Value> = own.iter().filter(|one| *one == FINALIZER).collect();
            let patch = json!({"spec": {"finalizers": own}});
            self.api.patch("namespaces", "", "a", &patch);
        }
    }

    fn fail(&mut self, group: usize, fails: bool) {
        self.failing[group] = fails;
        let answer = fails.then_some(Err((500, "InternalError")));
        self.api.answer_at(GROUPS[group], answer);
    }

    fn refuse(&mut self, plural: usize, refused: bool) {
        self.refused[plural] = refused;
        self.api.refuse_deletions(PLURALS[plural], refused);
    }

    /// Which of [`PLURALS`] are found.
    fn found(&self) -> [bool; 3] {
        let [core, other] = self.failing;
        [!core, !core, !core && !other]
    }

    /// Somebody looks at the namespace, perhaps one who is cut off after so many writes.
    async fn look(&mut self, writes: Option<u64>) {
        let (before, neighbour) = (content(&self.api, "a"), content(&self.api, "b"));
        let (was, version) = (self.namespace(), self.api.version());
        self.api.cut_off(writes);
        let looked = sync(&self.context, "a").await;
        self.api.cut_off(None);
        let (after, now) = (content(&self.api, "a"), self.namespace());
        assert_eq!(content(&self.api, "b"), neighbour);
        if !is_ours(was.as_ref()) || was.as_ref().is_some_and(|one| !is_deleting(one)) {
            assert_eq!(
                self.api.version(),
                version,
                "{was:?} is none of its business"
            );
            return;
        }
        if !after[0].is_empty() || self.failing[0] {
            assert_eq!(after[1..], before[1..], "pods first");
        }
        for (left, there) in after.iter().zip(&before) {
            let mut held = there.iter().filter(|one| !finalizers(one).is_empty());
            let stays = |one: &Value| left.iter().any(|other| name(other) == name(one));
            assert!(held.all(stays), "what is held has gone: {there:?}");
        }
        if !is_ours(now.as_ref()) {
            assert!(is_empty(&after) && self.failing == [false; 2], "{after:?}");
        }
        if writes.is_none() {
            let is_done = looked.unwrap().is_none();
            assert_eq!(
                is_done,
                !is_ours(now.as_ref()),
                "it comes back while it has to"
            );
            self.tells_the_truth(&before, &after, now.as_ref());
        }
    }

    /// The conditions are about what a look has found.
    fn tells_the_truth(
        &self,
        before: &[Vec<Value>; 3],
        after: &[Vec<Value>; 3],
        namespace: Option<&Value>,
    ) {
        let Some(status) = namespace.map(|one| &one["status"]) else {
            return;
        };
        assert_eq!(status["phase"], "Terminating");
        let all = status["conditions"].as_array().unwrap();
        assert_eq!(all.len(), 5, "{all:?}");
        let says = |kind: &str| {
            let mut all = all.iter();
            all.find(|one| one["type"] == kind).unwrap()["status"] == "True"
        };
        let [core, other] = self.failing;
        assert_eq!(says("NamespaceDeletionDiscoveryFailure"), core || other);
        assert!(!says("NamespaceDeletionGroupVersionParsingFailure"));
        // Nobody goes on while there are pods.
        let found = self.found();
        let reached = |at: usize| found[at] && (at == 0 || after[0].is_empty());
        let refused = |at: usize| reached(at) && self.refused[at] && !before[at].is_empty();
        let is_refused = (0..3).any(refused);
        assert_eq!(says("NamespaceDeletionContentFailure"), is_refused);
        if is_refused {
            return;
        }
        let left: Vec<&Value> = (0..3)
            .filter(|at| reached(*at))
            .flat_map(|at| &after[at])
            .collect();
        assert_eq!(says("NamespaceContentRemaining"), !left.is_empty());
        let is_held = left.iter().any(|one| !finalizers(one).is_empty());
        assert_eq!(says("NamespaceFinalizersRemaining"), is_held);
    }

    async fn disturb(&mut self, seed: u64) {
        self.dice = Dice(seed);
        match self.dice.roll(20) {
            0..=4 => self.make(),
            5 => self.delete_namespace(),
            6 | 7 => self.end_pod(),
            8 | 9 => self.free(),
            10 => self.let_go(),
            11 => {
                let group = usize::try_from(self.dice.roll(2)).unwrap();
                let fails = self.dice.roll(2) == 0;
                self.fail(group, fails);
            }
            12 => {
                let plural = usize::try_from(self.dice.roll(3)).unwrap();
                let refused = self.dice.roll(2) == 0;
                self.refuse(plural, refused);
            }
            13 if self.namespace().is_none() => self.put_namespace("a"),
            14 => self.come_late().await,
            15 => {
                let writes = self.dice.roll(5);
                self.look(Some(writes)).await;
            }
            _ => self.look(None).await,
        }
    }

    /// One who led before goes on where it stopped: the namespace was empty.
    async fn come_late(&mut self) {
        let namespace = self.namespace();
        if namespace.is_some_and(|one| one["metadata"]["uid"] != self.former.as_str()) {
            let version = self.api.version();
            finalize(&self.context, "a", &self.former).await.unwrap();
            assert_eq!(self.api.version(), version, "a successor was touched");
        }
    }

    /// With nobody else about it comes to rest, be the namespace empty or not.
    async fn rests(&mut self) {
        for _ in 0..3 {
            self.look(None).await;
        }
        let version = self.api.version();
        self.look(None).await;
        assert_eq!(self.api.version(), version, "it does not come to rest");
    }

    /// Nothing is in the way any more.
    async fn ends(&mut self) {
        (0..2).for_each(|group| self.fail(group, false));
        (0..3).for_each(|plural| self.refuse(plural, false));
        self.delete_namespace();
        self.let_go();
        let count: usize = content(&self.api, "a").iter().map(Vec::len).sum();
        for _ in 0..count + 2 {
            self.look(None).await;
            self.free();
            self.end_pod();
        }
        assert_eq!(self.namespace(), None);
        assert!(is_empty(&content(&self.api, "a")));
        assert!(self.api.get("namespaces", "", "b").is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn a_namespace_goes_once_it_is_empty_pods_first(turns in prop::collection::vec(any::<u64>(), 1..60)) {
        runtime().block_on(async move {
            let mut run = Run::new();
            for seed in turns {
                run.disturb(seed).await;
            }
            run.rests().await;
            run.ends().await;
            run.rests().await;
        });
    }
}
