//! Whatever users do to classes, and wherever leaders are behind or cut off: whoever begins to lead makes the class once where
//! there is none, as the default where he sees no other, what is there stays as it is, and then nothing is written.

use super::*;
use crate::simulation::{Leader, Woken};
use agent_runtime::ControllerOptions;
use proptest::prelude::*;
use serde_json::Value;

const CLASS: &str = "StorageClass";
/// The one that the controller makes, and those of users.
const NAMES: [&str; 3] = ["local-path", "fast", "slow"];
const SAYS_DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

fn key() -> Key {
    Key::new("", NAMES[0])
}

/// What users write about a class being the default.
fn notes(how: usize) -> Value {
    let said = ["true", "false", "yes"][how / 3 % 3];
    match how % 3 {
        0 => json!({}),
        number => json!({SAYS_DEFAULT[number - 1]: said}),
    }
}

fn is_default(class: &Value) -> bool {
    let notes = &class["metadata"]["annotations"];
    SAYS_DEFAULT.iter().any(|name| notes[*name] == "true")
}

/// What somebody makes who sees these classes; nothing where one of this name is there.
fn wanted(seen: &[Value]) -> Option<Value> {
    if seen
        .iter()
        .any(|class| class["metadata"]["name"] == NAMES[0])
    {
        return None;
    }
    let text = if seen.iter().any(is_default) {
        "false"
    } else {
        "true"
    };
    Some(json!({
        "apiVersion": "storage.k8s.io/v1", "kind": CLASS,
        "metadata": {"name": "local-path", "annotations": {SAYS_DEFAULT[0]: text}},
        "provisioner": "kontiki.io/local-path", "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
    }))
}

/// A class without what the server writes into all that is made.
fn bare(mut class: Value) -> Value {
    let metadata = class["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| field == "name" || field == "annotations");
    class
}

struct Model {
    woken: Woken,
    /// What who is behind sees.
    old: Vec<Value>,
    /// Whether who leads has not looked yet.
    is_new: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            woken: Woken::new(&CONTROLLER, ControllerOptions::default()),
            old: Vec::new(),
            is_new: true,
        }
    }

    fn classes(&self) -> Vec<Value> {
        self.woken.cluster.all(CLASS)
    }

    /// A user makes a class, changes it, or deletes it.
    fn meddle(&mut self, name: &str, how: usize) {
        if self.woken.cluster.get(CLASS, name).is_none() {
            let uid = self.woken.uid();
            let metadata = json!({"name": name, "uid": uid, "annotations": notes(how)});
            let class =
                json!({"kind": CLASS, "metadata": metadata, "provisioner": "example.com/x"});
            self.woken.cluster.put(class);
        } else if how.is_multiple_of(2) {
            self.woken.cluster.remove(CLASS, name);
        } else {
            let patch = json!({"metadata": {"annotations": notes(how)}});
            self.woken.cluster.patch(CLASS, name, &patch);
        }
    }

    /// Somebody looks who sees this, if he is to look: he makes the class where it is missing, and does nothing else.
    fn look(&mut self, seen: Option<&[Value]>, by: impl FnOnce(&mut Woken)) {
        let before = self.classes();
        by(&mut self.woken);
        let after = self.classes();
        let is_there = |class: &&Value| before.iter().any(|other| other == *class);
        let stay = before.iter().filter(|class| after.contains(class));
        assert_eq!(stay.count(), before.len(), "what is there stays as it is");
        let made: Vec<Value> = after
            .iter()
            .filter(|class| !is_there(class))
            .map(|class| bare(class.clone()))
            .collect();
        let is_free = wanted(&before).is_some();
        let due = seen.and_then(wanted).filter(|_| is_free);
        let due: Vec<Value> = due.into_iter().collect();
        assert_eq!(made, due, "{before:#?}");
    }

    fn settle(&mut self) {
        let seen = self.classes();
        let seen = self.is_new.then_some(&*seen);
        self.look(seen, Woken::settle);
        self.is_new = false;
    }

    fn lead(&mut self, leader: Leader) {
        let (old, now) = (self.old.clone(), self.classes());
        let seen = match leader {
            Leader::Behind => Some(&*old),
            Leader::CutOff(0) => None,
            Leader::CutOff(_) => Some(&*now),
        };
        self.look(seen, |woken| woken.led_by(leader, &key()));
        self.is_new = true;
    }

    fn act(&mut self, (what, who, how): (u8, usize, usize)) {
        match what {
            0..=3 => self.meddle(NAMES[who], how),
            4 => {
                self.old = self.classes();
                self.woken.fall_behind();
            }
            5 => self.lead(Leader::Behind),
            6 => self.lead(Leader::CutOff(how as u64 % 2)),
            7 => self.woken.cluster.seconds += 1,
            _ => self.settle(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]
    #[test]
    fn whoever_begins_to_lead_makes_the_class_where_there_is_none(
        acts in prop::collection::vec((0_u8..11, 0_usize..3, 0_usize..9), 0..60),
    ) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
        }
        // The last one who leads begins now.
        model.woken.take_over();
        model.is_new = true;
        model.settle();
        let classes = model.classes();
        prop_assert!(wanted(&classes).is_none(), "{:#?}", classes);
        prop_assert!(!model.woken.wait(), "nobody is to look again");
        // Whoever leads after that has nothing to do.
        model.woken.take_over();
        model.woken.come_to_rest();
        model.woken.stays([key()]);
        prop_assert_eq!(model.classes(), classes);
    }
}
