//! Devices that allocations share, and devices that have to be made ready first.

use super::*;

/// A device with ten of memory, which is given in steps of two.
fn shared(name: &str) -> Value {
    json!({"name": name, "allowMultipleAllocations": true, "capacity": {"memory": {"value": "10",
        "requestPolicy": {"default": "2", "validRange": {"min": "2", "max": "8", "step": "2"}}}}})
}

fn memory(amount: &str) -> Value {
    let mut ask = asking("any", 1);
    ask["capacity"] = json!({"requests": {"memory": amount}});
    ask
}

fn two() -> Cluster {
    Cluster::new(&[slice(json!([shared("a"), shared("b")]))])
}

#[test]
fn requests_share_a_device_as_long_as_it_has_enough() {
    let requests = |amounts: &[&str]| {
        let each = amounts.iter().enumerate();
        let each = each.map(|(at, amount)| request(&format!("r{at}"), memory(amount)));
        requests(&each.collect::<Vec<_>>())
    };
    assert_eq!(two().told(&[requests(&["4", "5"])]), "r0=a r1=a");
    assert_eq!(two().told(&[requests(&["7", "3"])]), "r0=a r1=b");
    assert_eq!(
        two().told(&[requests(&["8", "8", "2", "2"])]),
        "r0=a r1=b r2=a r3=b"
    );
    let too_much = "cannot allocate all claims";
    assert_eq!(two().told(&[requests(&["8", "8", "4"])]), too_much);
    assert_eq!(two().told(&[requests(&["9"])]), too_much);
    let claims = [requests(&["6"]), requests(&["4"]), requests(&["1"])];
    assert_eq!(
        two().told(&claims),
        "r0=a r0=a r0=b",
        "also of several claims"
    );
}

#[test]
fn what_others_have_of_a_device_is_not_there() {
    let used = two().sharing("p", "a", 4).sharing("p", "a", 3);
    assert_eq!(used.told(&[one(memory("2"))]), "r=a");
    assert_eq!(used.told(&[one(memory("3"))]), "r=b");
    assert_eq!(used.told(&[one(asking("any", 2))]), "r=a r=b");
    let alone = two().using(&["a"]);
    assert_eq!(alone.told(&[one(memory("2"))]), "r=b");
    // A device that is not shared any more goes to nobody before those who share it are gone.
    let plain = Cluster::new(&[slice(sized(&[("a", 1), ("b", 1)]))]);
    let plain = plain.sharing("p", "a", 1);
    assert_eq!(plain.told(&[one(asking("any", 1))]), "r=b");
}

#[test]
fn a_request_for_several_devices_gets_each_once() {
    assert_eq!(two().told(&[one(asking("any", 2))]), "r=a r=b");
    assert_eq!(
        two().told(&[one(asking("any", 3))]),
        "cannot allocate all claims"
    );
}

#[test]
fn all_devices_are_those_with_room() {
    let all = one(json!({"deviceClassName": "any", "allocationMode": "All"}));
    assert_eq!(two().told(std::slice::from_ref(&all)), "r=a r=b");
    let full = two().sharing("p", "a", 9);
    assert_eq!(full.told(&[all]), "r=b");
}

#[test]
fn the_result_says_what_is_consumed_and_each_share_has_an_identity() {
    let both = requests(&[request("x", memory("3")), request("y", asking("any", 1))]);
    let got = two().give(&[both]).unwrap().remove(0);
    let consumed = |json: &Value, at: usize| {
        let result = &json["devices"]["results"][at];
        result["consumedCapacity"]["memory"].clone()
    };
    let mut chance = 0;
    let (json, allocation) = got.with_shares(|| {
        chance += 1;
        chance
    });
    assert_eq!(
        (consumed(&json, 0), consumed(&json, 1)),
        (json!("4"), json!("2"))
    );
    let shares = allocation
        .devices
        .iter()
        .map(|had| had.share.as_ref().unwrap());
    let shares: Vec<(&str, i128)> = shares.map(|s| (&*s.id, s.consumed["memory"])).collect();
    let (first, second) = (shares[0], shares[1]);
    assert_eq!((first.1, second.1), (4_000, 2_000));
    assert_eq!(first.0, "00000000-0000-4000-8000-000000000001");
    assert_ne!(first.0, second.0);
    let plain = three().give(&[one(asking("any", 1))]).unwrap().remove(0);
    let (json, _) = plain.with_shares(|| unreachable!("nobody shares it"));
    let result = &json["devices"]["results"][0];
    assert!(result.get("shareID").is_none() && result.get("consumedCapacity").is_none());
}

#[test]
fn expressions_tell_shared_devices_and_each_may_have_to_be_another() {
    let plain = json!({"name": "a"});
    let cluster = Cluster::new(&[slice(json!([plain, shared("b")]))]);
    let mut ask = asking("any", 1);
    ask["selectors"] = json!([{"cel": {"expression": "device.allowMultipleAllocations"}}]);
    assert_eq!(cluster.told(&[one(ask)]), "r=b");
    let (mut a, mut b) = (shared("a"), shared("b"));
    a["attributes"] = json!({"card": {"int": 1}});
    b["attributes"] = json!({"card": {"int": 2}});
    let cluster = Cluster::new(&[slice(json!([a, b]))]);
    let mut claim = requests(&[request("x", memory("2")), request("y", memory("2"))]);
    assert_eq!(cluster.told(std::slice::from_ref(&claim)), "x=a y=a");
    claim["constraints"] = json!([{"distinctAttribute": "d/card"}]);
    assert_eq!(cluster.told(&[claim]), "x=a y=b");
}

#[test]
fn a_shared_device_counts_once_however_many_share_it() {
    let part = |name: &str| {
        let mut part = shared(name);
        part["consumesCounters"] =
            json!([{"counterSet": "card", "counters": {"power": {"value": "3"}}}]);
        part
    };
    let mut card = slice(json!([part("a"), part("b")]));
    card["spec"]["sharedCounters"] =
        json!([{"name": "card", "counters": {"power": {"value": "5"}}}]);
    let cluster = || Cluster::new(std::slice::from_ref(&card));
    let two = requests(&[request("x", memory("6")), request("y", memory("4"))]);
    assert_eq!(cluster().told(&[two]), "x=a y=a");
    let used = cluster().sharing("p", "b", 8);
    assert_eq!(used.told(&[one(memory("2"))]), "r=b");
    assert_eq!(
        used.told(&[one(memory("4"))]),
        "cannot allocate all claims",
        "nothing is left for the other one"
    );
}

#[test]
fn devices_that_are_ready_come_first_and_others_say_what_to_wait_for() {
    let mut waits = json!({"name": "a", "bindsToNode": true});
    waits["bindingConditions"] = json!(["attached"]);
    waits["bindingFailureConditions"] = json!(["lost"]);
    let mut fabric = slice(json!([waits]));
    fabric["metadata"]["name"] = json!("fabric");
    fabric["spec"]["pool"]["name"] = json!("fabric");
    let spec = fabric["spec"].as_object_mut().unwrap();
    spec.remove("nodeName");
    spec.insert("allNodes".into(), json!(true));
    let cluster = Cluster::new(&[fabric, slice(json!([{"name": "b"}]))]);
    assert_eq!(cluster.told(&[one(asking("any", 1))]), "r=b");
    let got = cluster
        .using(&["b"])
        .give(&[one(asking("any", 1))])
        .unwrap();
    let result = &got[0].json["devices"]["results"][0];
    assert_eq!(result["bindingConditions"], json!(["attached"]));
    assert_eq!(result["bindingFailureConditions"], json!(["lost"]));
    assert!(got[0].allocation.waits());
    // It can be reached from everywhere, but not once it is attached to the node.
    let here = json!([{"key": "metadata.name", "operator": "In", "values": ["n"]}]);
    let terms = &got[0].json["nodeSelector"]["nodeSelectorTerms"];
    assert_eq!(terms[0]["matchFields"], here);
}
