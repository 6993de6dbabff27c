//! One table for each thing that a claim can say and a pool can be, and the search against trying everything.

mod random;
mod sharing;

use super::*;
use crate::devices::pool::Pools;
use crate::devices::slice::{Amounts, Slice};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What there is, with the names of devices in use, and with the shares that somebody has.
struct Cluster {
    pools: Pools,
    classes: BTreeMap<String, Arc<DeviceClass>>,
    in_use: BTreeSet<String>,
    shares: Shares,
}

impl Cluster {
    fn new(slices: &[Value]) -> Cluster {
        let mut pools = Pools::default();
        for slice in slices {
            pools.set(None, Some(&Arc::new(Slice::compile(slice))));
        }
        let class = |name: &str, expression: &str| {
            let class = DeviceClass::compile(&json!({"metadata": {"name": name}, "spec": {
                "selectors": [{"cel": {"expression": expression}}],
                "config": [{"opaque": {"driver": "d", "parameters": {"of": name}}}]}}));
            (name.to_owned(), Arc::new(class))
        };
        Cluster {
            pools,
            classes: [
                class("any", "true"),
                class("big", "device.attributes['d'].size > 1"),
            ]
            .into(),
            in_use: BTreeSet::new(),
            shares: Shares::default(),
        }
    }

    fn using(mut self, devices: &[&str]) -> Cluster {
        self.in_use = devices.iter().map(ToString::to_string).collect();
        self
    }

    /// Somebody has a share of a device, with so much of its memory.
    fn sharing(mut self, pool: &str, device: &str, memory: i128) -> Cluster {
        let id = DeviceId::compile(&json!({"driver": "d", "pool": pool, "device": device}));
        let consumed = Amounts::from([("memory".to_owned(), memory * 1000)]);
        self.shares.add(&id, &consumed);
        self
    }

    fn with_offer<T>(&self, look: impl FnOnce(&Offer<'_>) -> T) -> T {
        let labels: Labels = [("zone".to_owned(), "a".to_owned())].into();
        let in_use = |id: &DeviceId| self.in_use.contains(&*id.device);
        look(&Offer {
            node: "n",
            labels: &labels,
            pools: self.pools.at("n", &labels),
            classes: &self.classes,
            in_use: &in_use,
            shares: &self.shares,
        })
    }

    fn give_within(&self, claims: &[Value], steps: u64) -> Result<Vec<Allotted>, Refusal> {
        let claims: Vec<DeviceClaim> = claims.iter().map(claim).collect();
        let claims: Vec<&DeviceClaim> = claims.iter().collect();
        self.with_offer(|offer| allocate(&claims, offer, &Work::new(steps)))
    }

    fn give(&self, claims: &[Value]) -> Result<Vec<Allotted>, Refusal> {
        self.give_within(claims, 100_000)
    }

    /// `request=device` for all claims in a row, or the words of the refusal.
    fn told(&self, claims: &[Value]) -> String {
        match self.give(claims) {
            Err(refusal) => refusal.words(),
            Ok(all) => names(&all).concat().join(" "),
        }
    }
}

fn names(all: &[Allotted]) -> Vec<Vec<String>> {
    let of = |allotted: &Allotted| {
        let devices = allotted.allocation.devices.iter();
        devices
            .map(|had| format!("{}={}", had.request, had.id.device))
            .collect()
    };
    all.iter().map(of).collect()
}

fn claim(devices: &Value) -> DeviceClaim {
    DeviceClaim::compile(&json!({
        "metadata": {"name": "c", "namespace": "ns"}, "spec": {"devices": devices}}))
}

/// A slice of the pool `p` that is all of it, with these devices.
fn slice(devices: Value) -> Value {
    json!({"metadata": {"name": "s"}, "spec": {"driver": "d", "nodeName": "n",
        "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": devices}})
}

/// Devices that are told apart by their sizes.
fn sized(sizes: &[(&str, i64)]) -> Value {
    let device =
        |(name, size): &(&str, i64)| json!({"name": name, "attributes": {"size": {"int": size}}});
    sizes.iter().map(device).collect()
}

fn three() -> Cluster {
    Cluster::new(&[slice(sized(&[("a", 1), ("b", 2), ("c", 2)]))])
}

fn asking(class: &str, count: i64) -> Value {
    json!({"deviceClassName": class, "allocationMode": "ExactCount", "count": count})
}

fn request(name: &str, exactly: Value) -> Value {
    json!({"name": name, "exactly": exactly})
}

fn requests(all: &[Value]) -> Value {
    json!({"requests": all})
}

fn one(exactly: Value) -> Value {
    requests(&[request("r", exactly)])
}

#[test]
fn the_first_devices_that_are_free_and_selected() {
    assert_eq!(three().told(&[one(asking("any", 1))]), "r=a");
    assert_eq!(three().told(&[one(asking("big", 1))]), "r=b");
    assert_eq!(three().told(&[one(asking("big", 2))]), "r=b r=c");
    assert_eq!(
        three().told(&[one(asking("big", 3))]),
        "cannot allocate all claims"
    );
    let in_use = three().using(&["b"]);
    assert_eq!(in_use.told(&[one(asking("big", 1))]), "r=c");
    let mut picky = asking("any", 1);
    picky["selectors"] = json!([{"cel": {"expression": "device.attributes['d'].size == 2"}}]);
    assert_eq!(three().told(&[one(picky)]), "r=b");
    assert_eq!(three().told(&[json!({})]), "");
}

#[test]
fn what_an_earlier_request_took_is_given_back_when_a_later_one_needs_it() {
    let cluster = Cluster::new(&[slice(sized(&[("a", 2), ("b", 1)]))]);
    let both = requests(&[
        request("x", asking("any", 1)),
        request("y", asking("big", 1)),
    ]);
    assert_eq!(cluster.told(&[both]), "x=b y=a");
    let apart = [one(asking("any", 1)), one(asking("big", 1))];
    assert_eq!(cluster.told(&apart), "r=b r=a", "also another claim's");
}

#[test]
fn all_devices_or_none() {
    let all = |class: &str| one(json!({"deviceClassName": class, "allocationMode": "All"}));
    assert_eq!(three().told(&[all("big")]), "r=b r=c");
    let in_use = three().using(&["c"]);
    assert_eq!(in_use.told(&[all("big")]), "cannot allocate all claims");
    let none = Cluster::new(&[slice(sized(&[("a", 1)]))]);
    assert_eq!(none.told(&[all("big")]), "cannot allocate all claims");
    let mut part = slice(sized(&[("a", 1)]));
    part["spec"]["pool"]["resourceSliceCount"] = json!(2);
    assert_eq!(
        Cluster::new(std::slice::from_ref(&part)).told(&[all("any")]),
        "claim ns/c, request r: asks for all devices, but resource pool d/p is currently being updated"
    );
    assert_eq!(
        Cluster::new(&[part]).told(&[one(asking("any", 1))]),
        "cannot allocate all claims"
    );
    let twins = slice(sized(&[("a", 1), ("a", 1)]));
    assert_eq!(
        Cluster::new(std::slice::from_ref(&twins)).told(&[all("any")]),
        "claim ns/c, request r: asks for all devices, but resource pool d/p is currently invalid"
    );
    assert_eq!(
        Cluster::new(&[twins]).told(&[one(asking("any", 1))]),
        "invalid resource pools were encountered"
    );
}

#[test]
fn an_alternative_is_taken_when_those_before_it_cannot_be_had() {
    let mut claim = json!({"requests": [{"name": "r", "firstAvailable": [asking("big", 2), asking("any", 1)]}]});
    claim["requests"][0]["firstAvailable"][0]["name"] = json!("large");
    claim["requests"][0]["firstAvailable"][1]["name"] = json!("small");
    let first = three().give(std::slice::from_ref(&claim)).unwrap();
    assert_eq!(names(&first), [["r/large=b", "r/large=c"]]);
    let second = three()
        .using(&["b"])
        .give(std::slice::from_ref(&claim))
        .unwrap();
    assert_eq!(names(&second), [["r/small=a"]]);
    assert_eq!((first[0].score, second[0].score), (8, 7));
    // The class of the alternative that was chosen, and what is for it.
    claim["config"] = json!([
        {"requests": ["r/large"], "opaque": {"driver": "d", "parameters": {"n": 1}}},
        {"requests": ["r/small"], "opaque": {"driver": "d", "parameters": {"n": 2}}},
    ]);
    let second = three().using(&["b"]).give(&[claim]).unwrap();
    let config = &second[0].json["devices"]["config"];
    assert_eq!(config[0]["opaque"]["parameters"], json!({"of": "any"}));
    assert_eq!(config[1]["opaque"]["parameters"], json!({"n": 2}));
    assert_eq!(config.as_array().unwrap().len(), 2);
}

#[test]
fn devices_have_a_value_in_common_or_each_its_own() {
    let pair = |rule: &str, names: Value| {
        let mut claim = requests(&[
            request("x", asking("any", 1)),
            request("y", asking("any", 1)),
        ]);
        claim["constraints"] = json!([{"requests": names, rule: "d/size"}]);
        claim
    };
    assert_eq!(
        three().told(&[pair("matchAttribute", json!([]))]),
        "x=b y=c"
    );
    assert_eq!(
        three().told(&[pair("distinctAttribute", json!([]))]),
        "x=a y=b"
    );
    assert_eq!(
        three().told(&[pair("matchAttribute", json!(["x"]))]),
        "x=a y=b",
        "one alone has all in common"
    );
    let none = |rule: &str| {
        let mut claim = pair(rule, json!([]));
        claim["constraints"][0][rule] = json!("d/color");
        claim
    };
    assert_eq!(
        three().told(&[none("matchAttribute")]),
        "cannot allocate all claims"
    );
    let mut all = one(json!({"deviceClassName": "any", "allocationMode": "All"}));
    all["constraints"] = json!([{"matchAttribute": "d/size"}]);
    assert_eq!(
        three().told(&[all]),
        "claim ns/c, request r: cannot add device d/p/b because a claim constraint would not be satisfied"
    );
    let mut empty = one(asking("any", 1));
    empty["constraints"] = json!([{}]);
    assert_eq!(
        three().told(&[empty]),
        "claim ns/c, constraint #0: empty constraint (unsupported constraint type?)"
    );
}

#[test]
fn upkeep_sees_devices_in_use_and_takes_none_away() {
    let mut admin = asking("any", 1);
    admin["adminAccess"] = json!(true);
    let cluster = three().using(&["a", "b", "c"]);
    let got = cluster.give(&[one(admin.clone())]).unwrap();
    assert_eq!(names(&got), [["r=a"]]);
    assert_eq!(got[0].json["devices"]["results"][0]["adminAccess"], true);
    assert_eq!(got[0].allocation.taken().count(), 0);
    let twice = requests(&[request("x", admin.clone()), request("y", admin)]);
    assert_eq!(cluster.told(&[twice]), "x=a y=b", "in one claim each once");
}

#[test]
fn taints_of_devices_keep_away_those_that_do_not_tolerate_them() {
    let mut devices = sized(&[("a", 1)]);
    devices[0]["taints"] = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]);
    let cluster = Cluster::new(&[slice(devices.clone())]);
    let mut ask = asking("any", 1);
    assert_eq!(
        cluster.told(&[one(ask.clone())]),
        "cannot allocate all claims"
    );
    ask["tolerations"] =
        json!([{"key": "k", "operator": "Equal", "value": "v", "tolerationSeconds": 5}]);
    let got = cluster.give(&[one(ask.clone())]).unwrap();
    assert_eq!(
        got[0].json["devices"]["results"][0]["tolerations"],
        ask["tolerations"]
    );
    devices[0]["taints"][0]["effect"] = json!("None");
    let harmless = Cluster::new(&[slice(devices)]);
    assert_eq!(harmless.told(&[one(asking("any", 1))]), "r=a");
}

#[test]
fn parts_of_a_card_share_its_counters() {
    let part = |name: &str, memory: &str| json!({"name": name, "consumesCounters": [{"counterSet": "card", "counters": {"memory": {"value": memory}}}]});
    let mut of_card = slice(json!([
        part("half1", "20Gi"),
        part("half2", "20Gi"),
        part("whole", "40Gi")
    ]));
    of_card["spec"]["sharedCounters"] =
        json!([{"name": "card", "counters": {"memory": {"value": "40Gi"}}}]);
    let cluster = || Cluster::new(std::slice::from_ref(&of_card));
    assert_eq!(cluster().told(&[one(asking("any", 2))]), "r=half1 r=half2");
    assert_eq!(
        cluster().told(&[one(asking("any", 3))]),
        "cannot allocate all claims"
    );
    let used = cluster().using(&["half1"]);
    assert_eq!(used.told(&[one(asking("any", 1))]), "r=half2");
    let used = cluster().using(&["whole"]);
    assert_eq!(
        used.told(&[one(asking("any", 1))]),
        "cannot allocate all claims"
    );
}

#[test]
fn capacity_that_is_asked_for_has_to_be_there() {
    let device =
        |name: &str, memory: &str| json!({"name": name, "capacity": {"memory": {"value": memory}}});
    let cluster = Cluster::new(&[slice(json!([device("a", "10Gi"), device("b", "20Gi")]))]);
    let mut ask = asking("any", 1);
    ask["capacity"] = json!({"requests": {"memory": "15Gi"}});
    assert_eq!(cluster.told(&[one(ask.clone())]), "r=b");
    ask["capacity"] = json!({"requests": {"cores": "1"}});
    assert_eq!(cluster.told(&[one(ask)]), "cannot allocate all claims");
}

#[test]
fn the_allocation_is_for_the_nodes_from_which_all_of_it_can_be_reached() {
    let selector = |keys: &[&str]| {
        let expressions: Vec<Value> = keys
            .iter()
            .map(|key| json!({"key": key, "operator": "Exists"}))
            .collect();
        json!({"nodeSelectorTerms": [{"matchExpressions": expressions}]})
    };
    let placed = |name: &str, field: &str, value: Value| {
        let mut slice = slice(sized(&[(name, 1)]));
        let spec = slice["spec"].as_object_mut().unwrap();
        spec.remove("nodeName");
        spec.insert(field.into(), value);
        spec["pool"]["name"] = json!(name);
        slice["metadata"]["name"] = json!(name);
        slice
    };
    let got = |slices: &[Value], count: i64| {
        let got = Cluster::new(slices)
            .give(&[one(asking("any", count))])
            .unwrap();
        got[0].json.get("nodeSelector").cloned()
    };
    let everywhere = placed("a", "allNodes", json!(true));
    let zone = placed("b", "nodeSelector", selector(&["zone"]));
    let zone_too = placed("c", "nodeSelector", selector(&["zone"]));
    let here = placed("d", "nodeName", json!("n"));
    assert_eq!(got(std::slice::from_ref(&everywhere), 1), None);
    assert_eq!(
        got(&[everywhere.clone(), zone.clone(), zone_too.clone()], 3),
        Some(selector(&["zone"]))
    );
    let named = json!({"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": ["n"]}]}]});
    assert_eq!(
        got(&[everywhere, zone, zone_too, here], 4),
        Some(named.clone())
    );
    let one_by_one = json!([{"name": "x", "nodeName": "m"}, {"name": "y", "nodeName": "n"}]);
    let mut mixed = placed("e", "perDeviceNodeSelection", json!(true));
    mixed["spec"]["devices"] = one_by_one;
    assert_eq!(
        Cluster::new(std::slice::from_ref(&mixed)).told(&[one(asking("any", 1))]),
        "r=y"
    );
    assert_eq!(got(&[mixed], 1), Some(named));
}

#[test]
fn parameters_come_from_the_class_once_and_from_the_claim() {
    let mut claim = requests(&[
        request("x", asking("any", 1)),
        request("y", asking("any", 1)),
        request("z", asking("big", 1)),
    ]);
    claim["config"] = json!([
        {"opaque": {"driver": "d", "parameters": {"n": 1}}},
        {"requests": ["x", "y", "z"], "opaque": {"driver": "d", "parameters": {"n": 2}}},
    ]);
    let cluster = Cluster::new(&[slice(sized(&[("a", 1), ("b", 1), ("c", 2)]))]);
    let got = cluster.give(&[claim]).unwrap();
    let of = |source: &str, parameters: Value| json!({"source": source, "opaque": {"driver": "d", "parameters": parameters}});
    let mut any = of("FromClass", json!({"of": "any"}));
    any["requests"] = json!(["x", "y"]);
    let mut big = of("FromClass", json!({"of": "big"}));
    big["requests"] = json!(["z"]);
    let one = of("FromClaim", json!({"n": 1}));
    // One that is for all requests is there for each of them.
    let two = of("FromClaim", json!({"n": 2}));
    assert_eq!(
        got[0].json["devices"]["config"],
        json!([any, big, one, two, two, two])
    );
}

#[test]
fn what_is_wrong_with_a_claim_is_told() {
    let words = |exactly: Value| three().told(&[one(exactly)]);
    assert_eq!(
        words(asking("none", 1)),
        "claim ns/c, request r: could not retrieve device class none: deviceclass.resource.k8s.io \"none\" not found"
    );
    assert_eq!(
        words(asking("any", 33)),
        "claim ns/c: number of requested devices 33 exceeds the claim limit of 32"
    );
    let mut odd = asking("any", 1);
    odd["allocationMode"] = json!("Some");
    assert_eq!(
        words(odd),
        "claim ns/c, request r: unsupported count mode Some"
    );
    let mut future = asking("any", 1);
    future["selectors"] = json!([{}]);
    assert_eq!(
        words(future),
        "claim ns/c, request r, selector #0: CEL expression empty (unsupported selector type?)"
    );
    let mut failing = asking("any", 1);
    failing["selectors"] =
        json!([{"cel": {"expression": "device.attributes['d'].color == 'red'"}}]);
    assert_eq!(
        words(failing),
        "claim ns/c: selector #0 on device d/p/a: CEL runtime error: no such key: color. \
         Consider using CEL optional chaining (?), has() macro, or orValue() for optional fields"
    );
    let unknown = json!({"requests": [{"name": "r"}]});
    assert_eq!(
        three().told(&[unknown]),
        "resource claim ns/c, request r: unknown request type"
    );
}

#[test]
fn alternatives_with_fewer_devices_save_a_claim_from_having_too_many() {
    let names: Vec<String> = (0..40).map(|n| format!("d{n:02}")).collect();
    let devices: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let cluster = Cluster::new(&[slice(sized(&devices))]);
    let choice = |name: &str, counts: [i64; 2]| {
        let asks = counts.map(|count| {
            let mut ask = asking("any", count);
            ask["name"] = json!(format!("n{count}"));
            ask
        });
        json!({"name": name, "firstAvailable": asks})
    };
    let claim = requests(&[choice("x", [20, 10]), choice("y", [30, 15])]);
    let got = cluster.give(&[claim]).unwrap();
    // 20 and 30 are too many, and so are 20 and 15.
    let of = |name: &str| {
        let devices = got[0].allocation.devices.iter();
        devices.filter(|had| had.request == name).count()
    };
    assert_eq!((of("x/n10"), of("y/n15")), (10, 15));
}

#[test]
fn a_search_that_would_take_for_ever_gives_up() {
    // No two of them are alike, so that every half of a pair is tried in vain.
    let names: Vec<String> = (0..60).map(|n| format!("d{n:02}")).collect();
    let devices: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(n, name)| json!({"name": name, "attributes": {"group": {"int": n / 15}}}))
        .collect();
    let cluster = Cluster::new(&[slice(json!(devices))]);
    let mut claim = one(asking("any", 16));
    claim["constraints"] = json!([{"matchAttribute": "d/group"}]);
    let refused = cluster.give_within(&[claim], 50_000).unwrap_err();
    assert_eq!(refused, Refusal::TooLong);
    assert_eq!(refused.words(), "timed out trying to allocate devices");
}

#[test]
fn many_claims_do_not_overflow_the_stack() {
    let names: Vec<String> = (0..10_000).map(|n| format!("d{n}")).collect();
    let devices: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let cluster = Cluster::new(&[slice(sized(&devices))]);
    let claims = vec![one(asking("any", 2)); 300];
    let got = cluster.give_within(&claims, 10_000_000).unwrap();
    assert_eq!(got.len(), 300);
}
