//! Whatever happens to devices, their taints, claims and pods, and wherever leaders are behind or cut off: nobody is driven out
//! before his time or without a taint, who may not stay goes as soon as his time is over, and then nothing is written.

use super::*;
use crate::simulation::{Leader, Woken, rest};
use agent_runtime::ControllerOptions;
use proptest::prelude::*;
use serde_json::json;

const PODS: [&str; 3] = ["p0", "p1", "p2"];
/// Each pod uses one of its own, and some use the first as well.
const CLAIMS: [&str; 3] = ["c0", "c1", "c2"];
const POOLS: [&str; 2] = ["n0", "n1"];
const DEVICES: [&str; 2] = ["x", "y"];
/// Keys of the taints.
const TAINTS: [&str; 2] = ["k", "l"];
/// More than there are times at which somebody has to go.
const WAITS_MAX: usize = 100;

/// Tolerations of a claim, and for how many seconds they let a pod stay with each of [`TAINTS`]; none: for ever.
fn tolerations(sort: usize) -> (Value, [Option<u64>; 2]) {
    let k = json!({"key": "k", "operator": "Exists", "tolerationSeconds": 60});
    let l = json!({"key": "l", "operator": "Exists", "effect": "NoExecute"});
    let all = json!({"operator": "Exists"});
    let short = json!({"operator": "Exists", "tolerationSeconds": 20});
    let of_value = json!({"key": "k", "value": "v"});
    let others = json!({"operator": "Exists", "effect": "NoSchedule"});
    match sort % 7 {
        0 => (json!([]), [Some(0), Some(0)]),
        1 => (json!([all]), [None, None]),
        2 => (json!([k]), [Some(60), Some(0)]),
        3 => (json!([k, l]), [Some(60), None]),
        4 => (json!([k, short]), [Some(20), Some(20)]),
        5 => (json!([short, of_value]), [None, Some(20)]),
        _ => (json!([others]), [Some(0), Some(0)]),
    }
}

/// What a device has. Taints with a time are of now.
fn taints_of(sort: usize, now: &str) -> Value {
    let dated =
        |key: &str| json!({"key": key, "value": "v", "effect": "NoExecute", "timeAdded": now});
    let undated = |key: &str| json!({"key": key, "value": "v", "effect": "NoExecute"});
    match sort % 6 {
        0 => json!([]),
        1 => json!([dated("k")]),
        2 => json!([undated("k")]),
        3 => json!([{"key": "k", "value": "v", "effect": "NoSchedule", "timeAdded": now}]),
        4 => json!([dated("l")]),
        _ => json!([dated("k"), undated("l")]),
    }
}

/// A taint that a pod may not bear for ever.
struct Limit {
    /// Since when it has been there; of one without a date: since when it can have been seen at the pod.
    since: u64,
    is_dated: bool,
    /// For how long the pod may stay.
    patience: u64,
}

impl Limit {
    fn may_end(&self, now: u64) -> bool {
        self.since + self.patience <= now
    }

    /// Who has to wait looks again when the last second is over.
    fn has_ended(&self, now: u64) -> bool {
        self.patience == 0 || (self.is_dated && self.since + self.patience < now)
    }
}

/// What somebody sees.
#[derive(Clone, Default)]
struct View {
    pods: Vec<Value>,
    claims: Vec<Value>,
    slices: Vec<Value>,
}

fn word<'a>(object: &'a Value, path: &str) -> &'a str {
    let found = object.pointer(path).and_then(Value::as_str);
    found.unwrap_or_default()
}

/// A number that the test has written into an annotation.
fn note(object: &Value, name: &str) -> u64 {
    let path = format!("/metadata/annotations/{name}");
    word(object, &path).parse().unwrap()
}

fn uid(object: &Value) -> &str {
    word(object, "/metadata/uid")
}

fn is_going(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

fn generation(slice: &Value) -> i64 {
    let number = slice["spec"]["pool"]["generation"].as_i64();
    number.unwrap()
}

/// Whether a pod is at work on a node.
fn works(pod: &Value) -> bool {
    let has_ended = word(pod, "/status/phase") == "Succeeded";
    !has_ended && !is_going(pod) && !pod["spec"]["nodeName"].is_null()
}

impl View {
    /// The slice of the driver's newest generation that has the device.
    fn slice_of(&self, pool: &str, device: &str) -> Option<&Value> {
        let of_pool = |slice: &&Value| {
            let spec = &slice["spec"];
            spec["driver"] == "d" && spec["pool"]["name"] == pool
        };
        let all = || self.slices.iter().filter(of_pool);
        let newest = all().map(generation).max()?;
        let mut newest = all().filter(|slice| generation(slice) == newest);
        newest.find(|slice| slice["spec"]["devices"][0]["name"] == device)
    }

    /// What of the devices that a pod uses it may not bear for ever.
    fn limits(&self, pod: &Value) -> Vec<Limit> {
        let mut limits = Vec::new();
        let used = pod["spec"]["resourceClaims"].as_array().unwrap();
        let is_used = |claim: &&Value| {
            let name = &claim["metadata"]["name"];
            used.iter().any(|entry| entry["resourceClaimName"] == *name)
        };
        for claim in self.claims.iter().filter(is_used) {
            let users = claim["status"]["reservedFor"].as_array();
            let mut users = users.into_iter().flatten();
            if !users.any(|user| word(user, "/uid") == uid(pod)) {
                continue;
            }
            let (_, patience) = tolerations(usize::try_from(note(claim, "sort")).unwrap());
            let place = "/status/allocation/devices/results/0";
            let pool = word(claim, &format!("{place}/pool"));
            let Some(slice) = self.slice_of(pool, word(claim, &format!("{place}/device"))) else {
                continue;
            };
            for taint in slice["spec"]["devices"][0]["taints"].as_array().unwrap() {
                let number = TAINTS.iter().position(|key| taint["key"] == *key).unwrap();
                let is_dated = !taint["timeAdded"].is_null();
                let since = if is_dated { slice } else { pod };
                if let (Some(patience), true) = (patience[number], taint["effect"] == "NoExecute") {
                    limits.push(Limit {
                        since: note(since, "since"),
                        is_dated,
                        patience,
                    });
                }
            }
        }
        limits
    }

    /// Whether somebody who sees this may drive out the pod of this uid.
    fn may_drive_out(&self, uid_of_pod: &str, now: u64) -> bool {
        let mut pods = self.pods.iter();
        let pod = pods.find(|pod| uid(pod) == uid_of_pod);
        let limits = pod.map(|pod| self.limits(pod)).unwrap_or_default();
        pod.is_some_and(works) && limits.iter().any(|limit| limit.may_end(now))
    }
}

struct Model {
    woken: Woken,
    /// What who is behind sees.
    old: View,
}

impl Model {
    fn new() -> Self {
        let mut woken = Woken::new(&CONTROLLER, ControllerOptions::default());
        // Of another driver, whose pool has the same name: nobody here uses its device.
        woken.cluster.put(json!({
            "kind": "ResourceSlice", "metadata": {"name": "foreign", "uid": "foreign"},
            "spec": {
                "driver": "e", "pool": {"name": POOLS[0], "generation": 9},
                "devices": [{"name": "x", "taints": [{"key": "k", "effect": "NoExecute"}]}],
            },
        }));
        let old = View::default();
        let mut model = Self { woken, old };
        model.fall_behind();
        model
    }

    fn view(&self) -> View {
        View {
            pods: self.woken.cluster.all("Pod"),
            claims: self.woken.cluster.all("ResourceClaim"),
            slices: self.woken.cluster.all("ResourceSlice"),
        }
    }

    fn fall_behind(&mut self) {
        self.old = self.view();
        self.woken.fall_behind();
    }

    fn now(&self) -> u64 {
        self.woken.cluster.seconds
    }

    fn since(&self) -> Value {
        json!({"since": self.now().to_string()})
    }

    fn put_pod(&mut self, who: usize, how: usize) {
        let (uid, since) = (self.woken.uid(), self.since());
        let mut claims = vec![CLAIMS[who]];
        if how.is_multiple_of(2) && who > 0 {
            claims.push(CLAIMS[0]);
        }
        let entry = |claim: &&str| json!({"name": claim, "resourceClaimName": claim});
        let claims: Vec<Value> = claims.iter().map(entry).collect();
        let node = (!how.is_multiple_of(5)).then_some("n");
        self.woken.cluster.put(json!({
            "kind": "Pod",
            "metadata": {"name": PODS[who], "namespace": "a", "uid": uid, "annotations": since},
            "spec": {"nodeName": node, "resourceClaims": claims},
            "status": {"phase": if node.is_some() { "Running" } else { "Pending" }},
        }));
    }

    /// A claim as it is allocated, or no longer is, for the pods that use it now.
    fn put_claim(&mut self, who: usize, how: usize) {
        let name = CLAIMS[who];
        let uses = |pod: &Value| {
            let used = pod["spec"]["resourceClaims"].as_array().unwrap();
            used.iter().any(|entry| entry["resourceClaimName"] == name)
        };
        let mut pods = self.woken.cluster.all("Pod");
        pods.retain(uses);
        let user = |pod: &Value| {
            let name = word(pod, "/metadata/name");
            json!({"resource": "pods", "name": name, "uid": uid(pod)})
        };
        let users: Vec<Value> = pods.iter().map(user).collect();
        let (tolerations, _) = tolerations(how);
        let result = json!({
            "driver": "d", "pool": POOLS[how % 2], "device": DEVICES[how / 2 % 2], "tolerations": tolerations,
        });
        let status = match how {
            0 => json!({}),
            _ => json!({"allocation": {"devices": {"results": [result]}}, "reservedFor": users}),
        };
        self.woken.cluster.put(json!({
            "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": "a", "uid": name, "annotations": {"sort": how.to_string()}},
            "status": status,
        }));
    }

    /// A slice of a pool with one device, of one of two generations.
    fn slice_name(who: usize, how: usize) -> String {
        format!("{}-{}-{}", POOLS[who % 2], DEVICES[how % 2], how / 2 % 2)
    }

    fn put_slice(&mut self, who: usize, how: usize) {
        let now = timestamp::time(self.woken.cluster.world().now);
        let (name, since) = (Self::slice_name(who, how), self.since());
        let taints = taints_of(how / 4, &now);
        self.woken.cluster.put(json!({
            "kind": "ResourceSlice", "metadata": {"name": name, "uid": name, "annotations": since},
            "spec": {
                "driver": "d", "pool": {"name": POOLS[who % 2], "generation": how / 2 % 2},
                "devices": [{"name": DEVICES[how % 2], "taints": taints}],
            },
        }));
    }

    /// A pod comes to a node, ends, or is gone.
    fn change_pod(&mut self, name: &str, how: usize) {
        let patch = match how % 4 {
            0 => json!({"status": {"phase": "Succeeded"}}),
            1 => return self.woken.cluster.remove("Pod", name),
            _ => json!({"spec": {"nodeName": "n"}}),
        };
        self.woken.cluster.patch("Pod", name, &patch);
    }

    /// Somebody looks who sees this; whoever is driven out may be.
    fn look(&mut self, view: &View, by: impl FnOnce(&mut Woken)) {
        let mut before = self.woken.cluster.all("Pod");
        before.retain(|pod| !is_going(pod));
        by(&mut self.woken);
        let after = self.woken.cluster.all("Pod");
        for pod in before {
            let mut after = after.iter();
            let stays = after.any(|other| uid(other) == uid(&pod) && !is_going(other));
            let may_go = view.may_drive_out(uid(&pod), self.now());
            assert!(stays || may_go, "{pod} goes");
        }
    }

    /// Whoever leads looks at what was woken: whoever has to go by now goes.
    fn settle(&mut self) {
        let view = self.view();
        self.look(&view, Woken::settle);
        let view = self.view();
        for pod in view.pods.iter().filter(|pod| works(pod)) {
            let limits = view.limits(pod);
            let mut limits = limits.iter();
            let has_to_go = limits.any(|limit| limit.has_ended(self.now()));
            assert!(!has_to_go, "{pod} is not driven out");
        }
    }

    fn lead(&mut self, leader: Leader, name: &str) {
        let view = match leader {
            Leader::Behind => self.old.clone(),
            Leader::CutOff(_) => self.view(),
        };
        self.look(&view, |woken| woken.led_by(leader, &Key::new("a", name)));
    }

    fn act(&mut self, (what, who, how): (u8, usize, usize)) {
        let name = PODS[who];
        let is_there = self.woken.cluster.get("Pod", name).is_some();
        match what {
            0 | 1 if is_there => self.change_pod(name, how),
            0..=2 if !is_there => self.put_pod(who, how),
            // Who goes is gone, and who is pending runs.
            2 => _ = self.woken.cluster.run(name),
            3..=5 => self.put_claim(who, how),
            6 => self.woken.cluster.remove("ResourceClaim", CLAIMS[who]),
            7..=9 => self.put_slice(who, how),
            10 => {
                let name = Self::slice_name(who, how);
                self.woken.cluster.remove("ResourceSlice", &name);
            }
            11 => self.fall_behind(),
            12 => self.lead(Leader::Behind, name),
            13 => self.lead(Leader::CutOff(how as u64 % 3), name),
            14 => self.woken.cluster.seconds += how as u64,
            _ => self.settle(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]
    #[test]
    fn who_may_not_stay_with_his_devices_goes_in_time_and_nobody_else(
        acts in prop::collection::vec((0_u8..19, 0_usize..3, 0_usize..24), 0..80),
    ) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
        }
        rest(&mut model, WAITS_MAX, "devices", |model| {
            model.settle();
            model.woken.wait()
        });
        let view = model.view();
        for pod in view.pods.iter().filter(|pod| works(pod)) {
            prop_assert!(view.limits(pod).is_empty(), "{} stays", pod);
        }
        model.woken.stays(PODS.map(|name| Key::new("a", name)));
    }
}
