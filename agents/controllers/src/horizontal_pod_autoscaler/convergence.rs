//! Whatever the load, the pods, the bounds and the users do, and wherever leaders are cut off: a target is never out of
//! its bounds after a look, nothing is done upon figures that are absent, and once the load stays the same the target
//! gets the size that the formula gives, the status says so, and nothing is written.

use super::{Known, look};
use crate::api::{Api, Serves, runtime};
use crate::manager::TaskContext;
use crate::simulation::Dice;
use agent_runtime::Key;
use agent_runtime::kinds::{HorizontalPodAutoscaler, Pod};
use agent_runtime::resource_ref::{DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

const AUTOSCALERS: &str = "horizontalpodautoscalers";
const FIGURES: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/a/pods";
/// Percent of what a pod requests, which is one processor.
const TARGET: u64 = 50;
/// There are never more pods.
const PODS_MAX: u64 = 12;
/// Nobody is asked for them here.
const VERBS: &[&str] = &[];
const PERIOD: Duration = Duration::from_secs(15);

struct Run {
    api: Api,
    context: TaskContext,
    dice: Dice,
    /// What who leads remembers, and whether that is nothing yet.
    known: Known,
    is_fresh: bool,
    /// The autoscaler as the cache has it.
    seen: HorizontalPodAutoscaler,
    running: u64,
    pending: u64,
    /// In thousandths of a processor, of all pods together.
    load: u64,
    fails: bool,
}

fn key() -> Key {
    Key::new("a", "web")
}

/// Rules by which every size can be reached.
fn behaviors() -> [Value; 3] {
    [
        Value::Null,
        json!({"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}}),
        json!({
            "scaleUp": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Percent", "value": 50, "periodSeconds": 30}]},
            "scaleDown": {"policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}]},
        }),
    ]
}

fn pod(number: u64, runs: bool) -> Pod {
    let long_ago = "2020-01-01T00:00:00Z";
    let mut pod = json!({
        "metadata": {"name": format!("p{number}"), "namespace": "a", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": "Pending"},
    });
    if runs {
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": long_ago});
        pod["status"] = json!({"phase": "Running", "startTime": long_ago, "conditions": [ready]});
    }
    serde_json::from_value(pod).unwrap()
}

impl Run {
    fn new() -> Self {
        let serves: [Serves; 2] = [(DEPLOYMENTS, VERBS), (HORIZONTAL_POD_AUTOSCALERS, VERBS)];
        let api = Api::new(&serves);
        api.put(
            "deployments",
            json!({
                "kind": "Deployment", "metadata": {"name": "web", "namespace": "a", "uid": "d"},
                "spec": {"replicas": 2}, "status": {"replicas": 0},
            }),
        );
        let target = json!({"type": "Utilization", "averageUtilization": TARGET});
        api.put(AUTOSCALERS, json!({
            "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": "a", "uid": "h"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 10,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            },
        }));
        let mut run = Self {
            context: api.context(),
            api,
            dice: Dice(0),
            known: Known::default(),
            is_fresh: true,
            seen: HorizontalPodAutoscaler::default(),
            running: 0,
            pending: 0,
            load: 1000,
            fails: false,
        };
        run.catch_up();
        run
    }

    fn autoscaler(&self) -> Value {
        self.api.get(AUTOSCALERS, "a", "web").unwrap()
    }

    /// How many pods the target is to have.
    fn replicas(&self) -> u64 {
        let target = self.api.get("deployments", "a", "web").unwrap();
        target["spec"]["replicas"].as_u64().unwrap()
    }

    fn bounds(&self) -> (u64, u64) {
        let spec = &self.seen.spec;
        let (min, max) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
        (u64::try_from(min).unwrap(), u64::try_from(max).unwrap())
    }

    /// The cache has the autoscaler as it is.
    fn catch_up(&mut self) {
        self.seen = serde_json::from_value(self.autoscaler()).unwrap();
    }

    /// The target has as many pods as it should; new ones run, or are to run.
    fn follow(&mut self, all_run: bool) {
        let wanted = self.replicas();
        self.running = match all_run {
            true => wanted,
            false => self.running.min(wanted),
        };
        self.pending = wanted - self.running;
        let pods = &self.context.caches.pods;
        for number in 0..PODS_MAX {
            if number < wanted {
                pods.apply(pod(number, number < self.running));
            } else {
                pods.remove(&Key::new("a", &format!("p{number}")));
            }
        }
        let status = json!({"status": {"replicas": wanted}});
        self.api.patch("deployments", "a", "web", &status);
    }

    /// What each pod that runs uses: its share of the load.
    fn used(&self) -> u64 {
        self.load / self.running.max(1)
    }

    /// The figures are as the pods and the load are.
    fn measure(&self) {
        let usage = json!({"cpu": format!("{}m", self.used())});
        let item = |number: u64| {
            json!({
                "metadata": {"name": format!("p{number}"), "namespace": "a"}, "timestamp": "2026-01-01T10:00:00Z",
                "window": "30s", "containers": [{"name": "c", "usage": usage}],
            })
        };
        let items: Vec<Value> = (0..self.running).map(item).collect();
        let answer = if self.fails {
            Err((500, "InternalError"))
        } else {
            Ok(json!({"items": items}))
        };
        self.api.answer_at(FIGURES, Some(answer));
    }

    /// Somebody looks, perhaps one who is cut off after so many writes.
    async fn look(&mut self, writes: Option<u64>) {
        self.measure();
        let (before, (min, max)) = (self.replicas(), self.bounds());
        self.api.cut_off(writes);
        let (context, key) = (&self.context, key());
        let looked = look(context, &self.known, &context.recorder, &key, &self.seen).await;
        self.api.cut_off(None);
        if writes.is_none() {
            looked.unwrap();
        }
        let after = self.replicas();
        let told = format!("{before} to {after} within {min} and {max}");
        if before == 0 || writes == Some(0) {
            assert_eq!(after, before, "{told}");
        } else if before < min || before > max {
            assert_eq!(after, before.clamp(min, max), "{told}");
        } else {
            assert!((min..=max).contains(&after), "{told}");
            self.is_careful(before, after, &told);
        }
        self.is_fresh = false;
    }

    /// Nothing is done without figures, and not too much at a time.
    fn is_careful(&self, before: u64, after: u64, told: &str) {
        if self.fails || self.running == 0 {
            assert_eq!(after, before, "{told}, without figures");
        }
        if self.seen.spec.behavior.is_none() {
            assert!(after <= (2 * before).max(4), "{told}, at once");
            assert!(!self.is_fresh || after >= before, "{told}, at first sight");
        }
    }

    fn take_over(&mut self) {
        self.known = Known::default();
        self.is_fresh = true;
    }

    fn want(&mut self, spec: &Value) {
        let patch = json!({"spec": spec});
        self.api.patch(AUTOSCALERS, "a", "web", &patch);
    }

    async fn disturb(&mut self, seed: u64) {
        self.dice = Dice(seed);
        match self.dice.roll(16) {
            0 | 1 => self.load = self.dice.roll(6000),
            2 => {
                let replicas = json!({"spec": {"replicas": self.dice.roll(PODS_MAX)}});
                self.api.patch("deployments", "a", "web", &replicas);
            }
            3 => {
                let min = 1 + self.dice.roll(3);
                let max = min + self.dice.roll(8);
                self.want(&json!({"minReplicas": min, "maxReplicas": max}));
            }
            4 => {
                let at = usize::try_from(self.dice.roll(3)).unwrap();
                // Rules that are there would be merged.
                self.want(&json!({"behavior": null}));
                self.want(&json!({"behavior": behaviors()[at]}));
            }
            5 => self.fails = self.dice.roll(2) == 0,
            6 | 7 => self.follow(true),
            8 => self.follow(false),
            9 => self.catch_up(),
            10 => {
                let writes = self.dice.roll(3);
                self.look(Some(writes)).await;
                self.take_over();
            }
            // Upon what the cache has, which may be old.
            11 => self.look(None).await,
            _ => {
                self.catch_up();
                self.look(None).await;
            }
        }
        tokio::time::advance(Duration::from_secs(self.dice.roll(30))).await;
    }

    /// With the same load for longer than anything is remembered.
    async fn settle(&mut self) {
        self.fails = false;
        for _ in 0..120 {
            self.follow(true);
            self.catch_up();
            self.look(None).await;
            tokio::time::advance(PERIOD).await;
        }
        let version = self.api.version();
        for _ in 0..3 {
            self.follow(true);
            self.catch_up();
            self.look(None).await;
            tokio::time::advance(PERIOD).await;
        }
        assert_eq!(self.api.version(), version, "it does not come to rest");
    }

    fn has_arrived(&self) {
        let (replicas, (min, max)) = (self.replicas(), self.bounds());
        let status = &self.autoscaler()["status"];
        let says = |kind: &str| {
            let mut all = status["conditions"].as_array().unwrap().iter();
            let found = all.find(|one| one["type"] == kind).unwrap();
            (found["status"] == "True", found["reason"].clone())
        };
        assert!(says("AbleToScale").0, "{status}");
        if replicas == 0 {
            assert_eq!(says("ScalingActive"), (false, json!("ScalingDisabled")));
            return;
        }
        assert_eq!(says("ScalingActive"), (true, json!("ValidMetricFound")));
        let percent = self.used() * 100 / 1000;
        let wanted = wanted(replicas, percent);
        assert_eq!(replicas, wanted.clamp(min, max), "{status}");
        assert_eq!(says("ScalingLimited").0, wanted != replicas, "{status}");
        assert_eq!(status["currentReplicas"], replicas);
        assert_eq!(status["desiredReplicas"], replicas);
        let current = &status["currentMetrics"][0]["resource"]["current"];
        assert_eq!(current["averageUtilization"], percent);
    }
}

/// The formula of the documentation: within a tenth of the target nothing is done.
fn wanted(replicas: u64, percent: u64) -> u64 {
    if (TARGET * 9..=TARGET * 11).contains(&(percent * 10)) {
        return replicas;
    }
    // Both are rounded as the controller rounds them.
    let ratio = percent as f64 / TARGET as f64;
    (ratio * replicas as f64).ceil() as u64
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    #[test]
    fn the_target_gets_the_size_that_its_load_asks_for(turns in prop::collection::vec(any::<u64>(), 1..60)) {
        runtime().block_on(async move {
            let mut run = Run::new();
            for seed in turns {
                run.disturb(seed).await;
            }
            run.settle().await;
            run.has_arrived();
        });
    }
}
