//! Whatever happens to accounts and to Secrets with their tokens, and wherever leaders are behind or cut off: a Secret of an
//! account that lives is kept and carries the authority, one of an account that is gone goes, and then nothing is written.

use super::*;
use crate::simulation::{Leader, Simulation, Woken};
use agent_runtime::ControllerOptions;
use proptest::prelude::*;
use serde_json::Value;

const ACCOUNTS: [&str; 2] = ["a0", "a1"];
const NAMES: [&str; 3] = ["s0", "s1", "s2"];

struct Model {
    woken: Woken,
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
        Self {
            woken: Woken::new(&CONTROLLER, ControllerOptions::default()),
        }
    }

    fn put_account(&mut self, name: &str) {
        let uid = self.woken.uid();
        let metadata = json!({"name": name, "namespace": "ns", "uid": uid});
        self.woken
            .cluster
            .put(json!({"kind": "ServiceAccount", "metadata": metadata}));
    }

    fn put_secret(&mut self, name: &str, how: usize) {
        let uid = self.woken.uid();
        let notes = json!({ACCOUNT: ACCOUNTS[how % 2]});
        let metadata = json!({"name": name, "namespace": "ns", "uid": uid, "annotations": notes});
        // The server puts in the token.
        self.woken.cluster.put(json!({
            "kind": "Secret", "metadata": metadata, "type": TYPE, "data": {"token": "eA=="},
        }));
    }

    /// Somebody looks who is behind or cut off: he deletes nothing that is for an account that is there.
    fn look(&mut self, name: &str, leader: Leader) {
        let before = self.woken.cluster.get("Secret", name);
        self.woken.led_by(leader, &Key::new("ns", name));
        if let Some(before) = before.filter(|_| self.woken.cluster.get("Secret", name).is_none()) {
            assert!(!is_due(&self.woken.cluster, &before), "{before}");
        }
    }

    fn act(&mut self, (what, who, how): (u8, usize, usize)) {
        let (name, account) = (NAMES[who], ACCOUNTS[how % 2]);
        match what {
            0 => self.woken.cluster.remove("ServiceAccount", account),
            1 | 2 if self.woken.cluster.get("ServiceAccount", account).is_none() => {
                self.put_account(account)
            }
            3 | 4 if self.woken.cluster.get("Secret", name).is_none() => self.put_secret(name, how),
            5 => self.woken.cluster.remove("Secret", name),
            6 => self.woken.fall_behind(),
            7 => self.look(name, Leader::Behind),
            8 => self.look(name, Leader::CutOff(0)),
            9 if self.woken.cluster.get("Secret", name).is_some() => {
                let other = ["eA==", ""][how % 2];
                let patch = json!({"data": {"ca.crt": other}});
                self.woken.cluster.patch("Secret", name, &patch);
            }
            _ => self.woken.settle(),
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
        model.woken.come_to_rest();
        let ca = STANDARD.encode("CA");
        for secret in &model.woken.cluster.all("Secret") {
            prop_assert!(is_due(&model.woken.cluster, secret), "{}", secret);
            prop_assert_eq!(secret["data"]["ca.crt"].as_str(), Some(ca.as_str()));
            prop_assert!(!secret["metadata"]["annotations"][ACCOUNT_UID].is_null());
        }
        model.woken.stays(NAMES.map(|name| Key::new("ns", name)));
    }
}
