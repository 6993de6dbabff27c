use super::*;
use serde_json::json;

#[test]
fn an_address_that_is_asked_for_is_of_the_range_and_free_whichever_field_has_it() {
    let range = OwnRanges::parse("10.96.0.0/28").unwrap();
    let ranges = Ranges::of(range, std::iter::empty());
    let taken = Taken {
        addresses: BTreeSet::from(["10.96.0.3".parse().unwrap()]),
        ports: BTreeSet::new(),
    };
    let settled = |spec: Value| {
        let object = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec});
        let mut service = Object::new(object).unwrap();
        settle_families(&ranges, &mut service, None)?;
        settle_addresses(&ranges, &taken, &mut service, None).map(|()| service)
    };
    let in_one = |address: &str| json!({ "clusterIP": address });
    let in_list = |address: &str| json!({ "clusterIPs": [address] });
    for address in ["8.8.8.8", "10.96.0.3", "10.96.0.16"] {
        assert!(settled(in_one(address)).is_err(), "{address}");
        assert!(settled(in_list(address)).is_err(), "{address}");
    }
    for (asked, address) in [("10.96.0.5", Some("10.96.0.5")), ("None", None)] {
        for spec in [in_one(asked), in_list(asked)] {
            assert_eq!(held(&settled(spec).unwrap()).first().copied(), address);
        }
    }
    let service = settled(json!({})).unwrap();
    let address = held(&service)[0].parse().unwrap();
    assert!(ranges.contain(address) && !taken.addresses.contains(&address));
}

#[test]
fn each_family_has_an_address_in_its_order_and_an_update_adds_what_lacks() {
    let own = OwnRanges::parse("10.96.0.0/28").unwrap();
    let more =
        json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["fd00::/112", "10.96.0.0/28"]}});
    let more = [Object::new(more).unwrap()];
    let ranges = Ranges::of(own, more.iter());
    let taken = Taken {
        addresses: BTreeSet::new(),
        ports: BTreeSet::new(),
    };
    let settle = |service: &mut Object, old: Option<&Object>| {
        settle_families(&ranges, service, old).unwrap();
        assert!(old.is_none_or(|old| !has_all_addresses(service, old)) || held(service).len() == 1);
        settle_addresses(&ranges, &taken, service, old).unwrap();
    };
    let service = |spec: Value| {
        let object = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec});
        Object::new(object).unwrap()
    };
    let mut dual = service(json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}));
    settle(&mut dual, None);
    let found = held(&dual);
    assert!(found[0].starts_with("fd00::") && found[1].starts_with("10.96.0."));
    assert_eq!(dual.get_str(&["spec", "clusterIP"]), Some(found[0]));

    let mut old = service(json!({}));
    settle(&mut old, None);
    let mut new = service(json!({"ipFamilyPolicy": "RequireDualStack"}));
    carry_over(&mut new, &old);
    settle(&mut new, Some(&old));
    assert_eq!(held(&new)[0], held(&old)[0]);
    assert!(held(&new)[1].starts_with("fd00::"));
    let mut single = service(json!({"ipFamilyPolicy": "SingleStack"}));
    carry_over(&mut single, &new);
    settle(&mut single, Some(&new));
    assert_eq!(held(&single), held(&old));
}

#[test]
fn another_first_address_is_left_to_validation() {
    let service = |spec: Value| Object::new(json!({ "spec": spec })).unwrap();
    let listed = |list: &[&str]| service(json!({"clusterIP": list[0], "clusterIPs": list}));
    let external = service(json!({"type": "ExternalName"}));
    for (before, now, expected) in [
        (listed(&["10.0.0.1"]), listed(&["10.0.0.2"]), true),
        (listed(&["10.0.0.1"]), listed(&["None"]), true),
        (listed(&["None"]), listed(&["10.0.0.1"]), true),
        (
            listed(&["10.0.0.1"]),
            listed(&["10.0.0.1", "fd00::1"]),
            false,
        ),
        (listed(&["10.0.0.1"]), external.clone(), false),
        (external, listed(&["10.0.0.1"]), false),
        // Stored before there were lists: validation has nothing to compare.
        (
            service(json!({"clusterIP": "10.0.0.1"})),
            listed(&["10.0.0.2"]),
            false,
        ),
    ] {
        assert_eq!(changes_first(&now, &before), expected, "{before:?} {now:?}");
    }
}

#[test]
fn a_service_holds_one_address_of_each_family() {
    let holds = |spec: Value| {
        let service = Object::new(json!({ "spec": spec })).unwrap();
        held(&service).join(" ")
    };
    let listed = |list: &[&str]| json!({"clusterIP": list[0], "clusterIPs": list});
    assert_eq!(holds(listed(&["10.0.0.1", "fd00::1"])), "10.0.0.1 fd00::1");
    assert_eq!(holds(listed(&["10.0.0.1", "10.0.0.2"])), "10.0.0.1");
    assert_eq!(holds(listed(&["None"])), "");
    assert_eq!(holds(json!({"clusterIP": "10.0.0.1"})), "10.0.0.1");
    let elsewhere = json!({"type": "ExternalName", "clusterIP": "10.0.0.1"});
    assert_eq!(holds(elsewhere), "");
}

#[test]
fn updates_keep_what_they_do_not_mention() {
    let old = Object::new(
        json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30_001}]}}),
    )
    .unwrap();
    let mut new = Object::new(
        json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}}),
    )
    .unwrap();
    carry_over(&mut new, &old);
    assert_eq!(new.get_str(&["spec", "clusterIP"]), Some("10.0.0.9"));
    assert_eq!(named_ports(&new), [(30_001, "TCP".to_owned())]);
    let ports =
        |ports: Value| Object::new(json!({"spec": {"type": "NodePort", "ports": ports}})).unwrap();
    let named = ports(json!([{"name": "a", "port": 80, "nodePort": 30_001},
        {"name": "b", "port": 81, "nodePort": 30_002}]));
    // "a" has another number now, the number of "b" is under another name, and what "b" had is asked for.
    let mut renumbered = ports(
        json!([{"name": "a", "port": 8080}, {"name": "c", "port": 81},
        {"name": "b", "port": 82}, {"name": "d", "port": 83, "nodePort": 30_002}]),
    );
    carry_over(&mut renumbered, &named);
    let kept = renumbered.get_array(&["spec", "ports"]).unwrap().iter();
    let kept: Vec<_> = kept
        .map(|port| port.get("nodePort").and_then(Value::as_u64))
        .collect();
    assert_eq!(kept, [Some(30_001), None, None, Some(30_002)]);
    let mut plain = old.clone();
    plain.set(&["spec", "type"], "ClusterIP");
    carry_over(&mut plain, &old);
    assert!(named_ports(&plain).is_empty());
}

#[test]
fn ports_of_one_number_share_a_port_of_nodes_in_a_new_service() {
    let taken = |ports: &[(u16, &str)]| Taken {
        addresses: BTreeSet::new(),
        ports: ports.iter().map(|(n, p)| (*n, (*p).to_owned())).collect(),
    };
    let settled = |ports: Value, taken: Taken, own: Option<&[(u16, String)]>| {
        let spec = json!({"type": "NodePort", "ports": ports});
        let mut service = Object::new(json!({"spec": spec})).unwrap();
        settle_ports((30_000, 30_009), &taken, own, &mut service).unwrap();
        let ports = named_ports(&service);
        ports.into_iter().map(|port| port.0).collect::<Vec<_>>()
    };
    let dns = || json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "protocol": "TCP"}]);
    let found = settled(dns(), taken(&[]), None);
    assert!(found[0] == found[1] && found[1] != found[2], "{found:?}");
    let found = settled(dns(), taken(&[]), Some(&[]));
    assert_ne!(found[0], found[1], "an update chooses each");

    let named = || json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP", "nodePort": 30_005}]);
    assert_eq!(settled(named(), taken(&[]), None), [30_005, 30_005]);
    let found = settled(named(), taken(&[(30_005, "UDP")]), None);
    assert_ne!(found[0], 30_005, "another service has it");
    let twice = json!([{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "TCP"}]);
    let found = settled(twice, taken(&[]), None);
    assert_ne!(found[0], found[1]);
}
