//! Whatever happens to accounts and to Secrets with their tokens, and wherever leaders are behind or cut off: a Secret of an
//! account that lives is kept and carries the authority, one of an account that is gone goes, and then nothing is written.

use super::*;
use crate::simulation::Simulation;
use proptest::prelude::*;
use serde_json::Value;

const ACCOUNTS: [&str; 2] = ["a0", "a1"];
const NAMES: [&str; 3] = ["s0", "s1", "s2"];

struct Model {
    cluster: Simulation,
    queue: Arc<Queue<Key>>,
    /// Caches of somebody to whom no news come.
    old: Arc<Caches>,
    count: usize,
}

/// Whether there is the account that the Secret is for.
fn is_due(cluster: &Simulation, secret: &Value) -> bool {
    let notes = &secret["metadata"]["annotations"];
    let account = cluster.get("ServiceAccount", notes[ACCOUNT].as_str().unwrap());
    let uid = &notes[ACCOUNT_UID];
    account.is_some_and(|account| uid.is_null() || *uid == account["metadata"]["uid"])
}

impl Model {
    fn new() -> Self {
        let cluster = Simulation::new("");
        let queue = Arc::new(Queue::new());
        wire(&cluster.world().caches, &queue);
        Self {
            old: cluster.frozen(),
            cluster,
            queue,
            count: 0,
        }
    }

    fn put_account(&mut self, name: &str) {
        self.count += 1;
        let uid = format!("u{}", self.count);
        let metadata = json!({"name": name, "namespace": "ns", "uid": uid});
        self.cluster
            .put(json!({"kind": "ServiceAccount", "metadata": metadata}));
    }

    fn put_secret(&mut self, name: &str, how: usize) {
        self.count += 1;
        let uid = format!("u{}", self.count);
        let notes = json!({ACCOUNT: ACCOUNTS[how % 2]});
        let metadata = json!({"name": name, "namespace": "ns", "uid": uid, "annotations": notes});
        // The server puts in the token.
        self.cluster.put(json!({
            "kind": "Secret", "metadata": metadata, "type": TYPE, "data": {"token": "eA=="},
        }));
    }

    /// Somebody looks who is behind or cut off: he deletes nothing that is for an account that is there.
    fn look(&mut self, name: &str, view: Arc<Caches>, writes: Option<u64>) {
        let before = self.cluster.get("Secret", name);
        let plan = reconcile(&Key::new("ns", name), &self.cluster.world_by(view));
        self.cluster.attempt(plan, writes);
        if let Some(before) = before.filter(|_| self.cluster.get("Secret", name).is_none()) {
            assert!(!is_due(&self.cluster, &before), "{before}");
        }
        self.queue = Arc::new(Queue::new());
        wire(&self.cluster.world().caches, &self.queue);
    }

    fn act(&mut self, (what, who, how): (u8, usize, usize)) {
        let (name, account) = (NAMES[who], ACCOUNTS[how % 2]);
        match what {
            0 => self.cluster.remove("ServiceAccount", account),
            1 | 2 if self.cluster.get("ServiceAccount", account).is_none() => {
                self.put_account(account)
            }
            3 | 4 if self.cluster.get("Secret", name).is_none() => self.put_secret(name, how),
            5 => self.cluster.remove("Secret", name),
            6 => self.old = self.cluster.frozen(),
            7 => self.look(name, self.old.clone(), None),
            8 => self.look(name, self.cluster.frozen(), Some(0)),
            9 if self.cluster.get("Secret", name).is_some() => {
                let other = ["eA==", ""][how % 2];
                let patch = json!({"data": {"ca.crt": other}});
                self.cluster.patch("Secret", name, &patch);
            }
            _ => self.cluster.settle(&self.queue, reconcile),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]
    #[test]
    fn a_secret_lives_as_long_as_its_account(
        acts in prop::collection::vec((0_u8..12, 0_usize..3, 0_usize..4), 0..60),
    ) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
        }
        model.cluster.settle(&model.queue, reconcile);
        let (before, ca) = (model.cluster.all("Secret"), STANDARD.encode("CA"));
        for secret in &before {
            prop_assert!(is_due(&model.cluster, secret), "{}", secret);
            prop_assert_eq!(secret["data"]["ca.crt"].as_str(), Some(ca.as_str()));
            prop_assert!(!secret["metadata"]["annotations"][ACCOUNT_UID].is_null());
        }
        for name in NAMES {
            model.cluster.step(&Key::new("ns", name), reconcile);
        }
        prop_assert_eq!(model.cluster.all("Secret"), before, "it does not come to rest");
    }
}
