//! Whatever happens to tokens, to what is published and to the authority, and wherever leaders are behind or cut off: each token
//! that may sign has signed what is published, nobody else has, tokens go when they end and not before, and then nothing is
//! written.

use super::*;
use crate::simulation::Simulation;
use crate::token_cleaner;
use crate::world::{Caches, World};
use agent_runtime::plan::{Op, Plan};
use proptest::prelude::*;

const IDS: [&str; 3] = ["aaaaaa", "bbbbbb", "cccccc"];
const URL: &str = "https://10.0.0.1:6443";

struct Model {
    cluster: Simulation,
    /// Caches of somebody to whom no news come.
    old: Arc<Caches>,
    authority: &'static str,
    count: usize,
}

fn name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

fn field(secret: &Value, name: &str) -> Option<String> {
    let text = STANDARD.decode(secret["data"][name].as_str()?).ok()?;
    String::from_utf8(text).ok()
}

impl Model {
    fn now(&self) -> Micros {
        self.cluster.world().now
    }

    /// A time so many minutes from now.
    fn end(&self, minutes: i64) -> String {
        timestamp::time(self.now() + timestamp::seconds(60 * minutes))
    }

    fn put_token(&mut self, id: &str, how: u64) {
        self.count += 1;
        let mut data = Map::new();
        let mut set = |key: &str, text: &str| data.insert(key.into(), STANDARD.encode(text).into());
        set("token-id", id);
        set("token-secret", &format!("{:016}", self.count));
        set(
            "usage-bootstrap-signing",
            if how.is_multiple_of(5) {
                "false"
            } else {
                "true"
            },
        );
        match how % 4 {
            0 => {}
            1 if how == 1 => _ = set("expiration", "tomorrow"),
            minutes => _ = set("expiration", &self.end(i64::try_from(minutes).unwrap())),
        }
        let uid = format!("u{}", self.count);
        self.cluster.put(json!({
            "kind": "Secret", "metadata": {"name": name(id), "namespace": SECRETS_NAMESPACE, "uid": uid},
            "type": TOKEN, "data": data,
        }));
    }

    /// Somebody gives a token more time.
    fn extend(&mut self, id: &str, minutes: u64) {
        if self.cluster.get("Secret", &name(id)).is_some() {
            let end = STANDARD.encode(self.end(i64::try_from(minutes).unwrap()));
            let patch = json!({"data": {"expiration": end}});
            self.cluster.patch("Secret", &name(id), &patch);
        }
    }

    fn meddle(&mut self, how: u64) {
        if self.cluster.get("ConfigMap", NAME).is_none() {
            return;
        }
        let signature = format!("{SIGNATURE}{}", IDS[0]);
        let data = match how % 5 {
            0 => return self.cluster.remove("ConfigMap", NAME),
            1 => json!({signature: "forged"}),
            2 => json!({signature: null}),
            3 => json!({"mine": "x"}),
            _ => json!({ CONTENT: "kind: Config\n" }),
        };
        self.cluster
            .patch("ConfigMap", NAME, &json!({ "data": data }));
    }

    /// The signer looks, as its task does it.
    fn sign(&mut self, world: &World, writes: Option<u64>) -> bool {
        let tokens = world
            .caches
            .bootstrap_tokens
            .in_namespace(SECRETS_NAMESPACE);
        let Some(map) = world.caches.cluster_infos.get(NAMESPACE, NAME) else {
            let mut left = writes.unwrap_or(3);
            for (resource, body) in published(&kubeconfig(URL, self.authority)) {
                // What is there already is no hindrance.
                let create = Op::create(&resource, NAMESPACE, body);
                self.cluster
                    .attempt(Plan::of(vec![create]), Some(left.min(1)));
                left = left.saturating_sub(1);
            }
            return true;
        };
        match patch(&map, &tokens, self.authority, world.now) {
            Some(body) => {
                let write = Op::merge(&CONFIG_MAPS, &map.metadata, body);
                self.cluster.attempt(Plan::of(vec![write]), writes);
                true
            }
            None => false,
        }
    }

    /// The cleaner looks at a token: it takes none that may still be used.
    fn clean(&mut self, id: &str, world: &World) {
        let before = self.cluster.get("Secret", &name(id));
        let plan = token_cleaner::reconcile(&Key::new(SECRETS_NAMESPACE, &name(id)), world);
        self.cluster.attempt(plan, None);
        if let Some(secret) = before.filter(|_| self.cluster.get("Secret", &name(id)).is_none()) {
            let end = field(&secret, "expiration").expect("it never ends");
            let end = timestamp::parse(&end);
            assert!(end.is_none_or(|end| end <= self.now()), "{secret}");
        }
    }

    fn act(&mut self, (what, who, how): (u8, usize, u64)) {
        let id = IDS[who];
        match what {
            0 | 1 => self.put_token(id, how),
            2 => self.extend(id, how % 6),
            3 => self.cluster.remove("Secret", &name(id)),
            4 => self.meddle(how),
            5 => self.authority = ["CA", "NEW"][usize::from(how.is_multiple_of(2))],
            6 => self.old = self.cluster.frozen(),
            7 => {
                let world = self.cluster.world_by(self.old.clone());
                self.sign(&world, None);
                self.clean(id, &world);
            }
            8 => {
                let world = self.cluster.world();
                self.sign(&world, Some(how % 3));
            }
            9 => self.cluster.seconds += 20 * how,
            10 => {
                let world = self.cluster.world();
                self.clean(id, &world);
            }
            _ => {
                let world = self.cluster.world();
                self.sign(&world, None);
            }
        }
    }

    /// Everybody looks; whether the signer had anything to do.
    fn pass(&mut self) -> bool {
        for id in IDS {
            let world = self.cluster.world();
            self.clean(id, &world);
        }
        let world = self.cluster.world();
        self.sign(&world, None)
    }

    fn check(&self) {
        for kind in ["Role", "RoleBinding"] {
            assert!(self.cluster.get(kind, ROLE).is_some(), "{kind}");
        }
        let map = self.cluster.get("ConfigMap", NAME).unwrap();
        let data = map["data"].as_object().unwrap();
        let content = data[CONTENT].as_str().unwrap();
        let is_ours = content.contains(AUTHORITY);
        let ours = kubeconfig(URL, self.authority);
        assert_eq!(content, if is_ours { &*ours } else { "kind: Config\n" });
        let mut signed: Vec<&str> = data
            .keys()
            .filter_map(|key| key.strip_prefix(SIGNATURE))
            .collect();
        signed.sort_unstable();
        let mut wanted = Vec::new();
        for id in IDS {
            let Some(secret) = self.cluster.get("Secret", &name(id)) else {
                continue;
            };
            let end = field(&secret, "expiration");
            let end = end.map(|text| timestamp::parse(&text).expect("who cannot be read is gone"));
            assert!(end.is_none_or(|end| end > self.now()), "{secret}");
            if field(&secret, "usage-bootstrap-signing").as_deref() != Some("true") {
                continue;
            }
            wanted.push(id);
            let signer = Signer {
                id: id.to_owned(),
                secret: field(&secret, "token-secret").unwrap(),
                end: None,
            };
            let signature = data.get(&format!("{SIGNATURE}{id}"));
            assert_eq!(signature, Some(&signer.sign(content).into()), "{id}");
        }
        assert_eq!(signed, wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]
    #[test]
    fn who_may_sign_has_signed_and_nobody_else(
        acts in prop::collection::vec((0_u8..14, 0_usize..3, 0_u64..12), 0..80),
    ) {
        let cluster = Simulation::new("");
        let mut model = Model { old: cluster.frozen(), cluster, authority: "CA", count: 0 };
        for act in acts {
            model.act(act);
        }
        model.pass();
        model.pass();
        model.check();
        prop_assert!(!model.pass(), "it does not come to rest");
        // The next look is not later than the first end.
        for _ in 0..IDS.len() {
            let world = model.cluster.world();
            let tokens = world.caches.bootstrap_tokens.in_namespace(SECRETS_NAMESPACE);
            let Some(again) = next_end(&tokens, world.now) else {
                break;
            };
            let first = tokens.iter().filter_map(|secret| Signer::of(secret, world.now)?.end).min();
            prop_assert_eq!(first.map(|end| end - world.now), i64::try_from(again.as_micros()).ok());
            model.cluster.seconds += again.as_secs();
            model.pass();
            model.check();
            prop_assert!(!model.pass());
        }
    }
}
