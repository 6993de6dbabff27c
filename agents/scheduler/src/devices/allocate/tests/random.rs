//! The search against trying everything, on random pools and claims.

use super::*;
use proptest::prelude::*;

fn any_ask() -> impl Strategy<Value = Value> {
    let memory = prop::option::of(1..8i64);
    (any::<bool>(), 1..3i64, 0..6u8, memory).prop_map(|(big, count, kind, memory)| {
        let class = if big { "big" } else { "any" };
        let mut ask = asking(class, count);
        if let Some(memory) = memory {
            ask["capacity"] = json!({"requests": {"memory": memory.to_string()}});
        }
        if kind == 0 {
            ask["adminAccess"] = json!(true);
        }
        if kind == 1 {
            ask["tolerations"] = json!([{"operator": "Exists"}]);
        }
        ask
    })
}

fn any_request(name: &'static str) -> impl Strategy<Value = Value> {
    prop_oneof![
        any_ask().prop_map(move |ask| request(name, ask)),
        (any_ask(), any_ask()).prop_map(move |(mut first, mut second)| {
            first["name"] = json!("one");
            second["name"] = json!("two");
            json!({"name": name, "firstAvailable": [first, second]})
        }),
    ]
}

fn any_claim() -> impl Strategy<Value = Value> {
    let rules = prop_oneof![
        Just(json!([])),
        Just(json!([{"matchAttribute": "d/size"}])),
        Just(json!([{"distinctAttribute": "d/size", "requests": ["x"]}])),
        Just(json!([{"matchAttribute": "d/kind", "requests": ["x/one", "y"]}])),
    ];
    let all = (any::<bool>(), any::<bool>()).prop_map(|(big, only)| {
        let class = if big { "big" } else { "any" };
        let mut all = vec![request(
            "x",
            json!({"deviceClassName": class, "allocationMode": "All"}),
        )];
        if !only {
            all.push(request("y", asking("any", 1)));
        }
        requests(&all)
    });
    let counted =
        (any_request("x"), prop::option::of(any_request("y")), rules).prop_map(|(x, y, rules)| {
            let all: Vec<Value> = [Some(x), y].into_iter().flatten().collect();
            json!({"requests": all, "constraints": rules})
        });
    prop_oneof![1 => all, 5 => counted]
}

/// A device and its place: one of two slices of a pool, or another pool.
fn any_device() -> impl Strategy<Value = (usize, Value)> {
    let size = (1..4i64, prop::option::of(0..2i64));
    let memory = (prop::option::of(1..9i64), any::<bool>());
    let more = (0..6u8, 0..6u8, prop::option::of(1..4i64), 0..3usize);
    (size, memory, more).prop_map(
        |((size, kind), (memory, shared), (taint, conditional, power, place))| {
            let mut device = json!({"attributes": {"size": {"int": size}}});
            if let Some(kind) = kind {
                device["attributes"]["kind"] = json!({"int": kind});
            }
            if let Some(memory) = memory {
                device["capacity"] = json!({"memory": {"value": memory.to_string()}});
            }
            if shared {
                device["allowMultipleAllocations"] = json!(true);
            }
            if shared && memory.is_some() {
                device["capacity"]["memory"]["requestPolicy"] =
                    json!({"default": "2", "validRange": {"min": "2", "max": "6", "step": "2"}});
            }
            if taint == 0 {
                device["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
            }
            if conditional == 0 {
                device["bindingConditions"] = json!(["ready"]);
                device["bindingFailureConditions"] = json!(["failed"]);
            }
            if let Some(power) = power.filter(|_| place != 2) {
                device["consumesCounters"] = json!([
                    {"counterSet": "c", "counters": {"power": {"value": power.to_string()}}}]);
            }
            (place, device)
        },
    )
}

/// The slices with the devices, which get their names.
fn placed(devices: &[(usize, Value)]) -> Vec<Value> {
    let mut slices = [("s", "p", 2), ("t", "p", 2), ("u", "q", 1)].map(|(name, pool, count)| {
        let mut slice = slice(json!([]));
        slice["metadata"]["name"] = json!(name);
        slice["spec"]["pool"]["name"] = json!(pool);
        slice["spec"]["pool"]["resourceSliceCount"] = json!(count);
        slice
    });
    slices[0]["spec"]["sharedCounters"] =
        json!([{"name": "c", "counters": {"power": {"value": "4"}}}]);
    for (at, (place, device)) in devices.iter().enumerate() {
        let mut device = device.clone();
        device["name"] = json!(format!("d{at}"));
        let devices = slices[*place]["spec"]["devices"].as_array_mut();
        devices.unwrap().push(device);
    }
    slices.to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_search_finds_what_trying_everything_finds(
        devices in prop::collection::vec(any_device(), 0..5),
        in_use in prop::collection::btree_set(0..5usize, 0..2),
        shares in prop::collection::vec((0..5usize, 0..5i128), 0..4),
        claims in prop::collection::vec(any_claim(), 1..3),
    ) {
        let in_use: Vec<String> = in_use.iter().map(|at| format!("d{at}")).collect();
        let in_use: Vec<&str> = in_use.iter().map(String::as_str).collect();
        let mut cluster = Cluster::new(&placed(&devices)).using(&in_use);
        for (at, memory) in shares {
            if let Some((place, _)) = devices.get(at) {
                let pool = if *place == 2 { "q" } else { "p" };
                cluster = cluster.sharing(pool, &format!("d{at}"), memory);
            }
        }
        let compiled: Vec<DeviceClaim> = claims.iter().map(claim).collect();
        let compiled: Vec<&DeviceClaim> = compiled.iter().collect();
        let expected = cluster.with_offer(|offer| exhaustive::allocate(&compiled, offer));
        let expected = expected.map(|claims| {
            let pair = |(request, device): (String, String)| format!("{request}={device}");
            let of = |claim: Vec<(String, String)>| claim.into_iter().map(pair).collect::<Vec<_>>();
            claims.into_iter().map(of).collect::<Vec<_>>()
        });
        match cluster.give_within(&claims, 10_000_000) {
            Ok(all) => prop_assert_eq!(Some(names(&all)), expected),
            Err(Refusal::NoneFit) => prop_assert_eq!(None, expected),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }
}
