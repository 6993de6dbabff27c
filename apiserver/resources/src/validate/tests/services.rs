//! Services, beyond what every kind is asked.

use super::*;
use crate::look::Look;

fn balanced(extra: Value) -> Value {
    let mut spec = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    service(spec)
}

#[test]
fn parts_of_services_are_refused_in_words() {
    let plain = |extra: Value| {
        let mut object = balanced(extra);
        object["spec"]["type"] = "ClusterIP".into();
        object
    };
    let only_balanced = "Forbidden: may only be used when `type` is 'LoadBalancer'";
    for (object, expected) in [
        (
            service(json!({"type": "ExternalName", "externalName": "a.b", "ipFamilyPolicy": "SingleStack"})),
            vec!["spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services".to_owned()],
        ),
        (
            plain(json!({"ports": [{"port": 80, "appProtocol": "-x"}]})),
            vec![
                "spec.ports[0].appProtocol: Invalid value: \"-x\": name part must consist of alphanumeric characters, '-', \
                 '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                 '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
                    .to_owned(),
            ],
        ),
        (
            plain(json!({"externalIPs": ["127.0.0.1"]})),
            vec![
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
                    .to_owned(),
            ],
        ),
        (
            plain(json!({"loadBalancerSourceRanges": ["10.0.0.0/8"], "loadBalancerClass": "a.b/c"})),
            vec![
                format!("spec.LoadBalancerSourceRanges: {only_balanced}"),
                format!("spec.loadBalancerClass: {only_balanced}"),
            ],
        ),
        (
            plain(json!({"trafficDistribution": "Near"})),
            vec![
                "spec.trafficDistribution: Unsupported value: \"Near\": supported values: \"PreferClose\", \
                 \"PreferSameZone\", \"PreferSameNode\""
                    .to_owned(),
            ],
        ),
        (
            plain(json!({"ipFamilies": ["IPv4", "IPv4"]})),
            vec!["spec.ipFamilies[1]: Duplicate value: \"IPv4\"".to_owned()],
        ),
        (
            plain(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}})),
            vec![
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less \
                 than 86400"
                    .to_owned(),
            ],
        ),
    ] {
        assert_eq!(errors(object.clone()), expected, "{object}");
    }
    for spec in [
        json!({"trafficDistribution": "PreferSameNode"}),
        json!({"loadBalancerClass": "example.com/one", "loadBalancerSourceRanges": [" 10.0.0.0/8 "]}),
    ] {
        assert_eq!(errors(balanced(spec.clone())), none(), "{spec}");
    }
    let mut annotated = balanced(json!({}));
    annotated["metadata"]["annotations"] = json!({"service.kubernetes.io/topology-mode": "Auto",
        "service.kubernetes.io/topology-aware-hints": "auto"});
    assert_eq!(
        errors(annotated),
        [
            "metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: \"Auto\": must match \
             annotations[service.kubernetes.io/topology-aware-hints] when both are specified"
        ]
    );
}

#[test]
fn updates_keep_and_drop_what_kubernetes_keeps_and_drops() {
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
        "allocateLoadBalancerNodePorts": true, "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "ports": [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]});
    let updated = |change: &dyn Fn(&mut Value)| {
        let old = created(service(local.clone()));
        let mut new = old.clone();
        change(&mut new.value_mut()["spec"]);
        let services = resource(&new);
        services.default(&mut new);
        services.prepare_update(&mut new, &old);
        new.into_value()["spec"].take()
    };
    let spec = updated(&|spec| spec["externalTrafficPolicy"] = "Cluster".into());
    assert!(!spec.has("healthCheckNodePort"), "{spec}");
    let spec = updated(&|spec| {
        spec["ports"] = json!([{"name": "c", "port": 80}, {"name": "a", "port": 8080}]);
    });
    assert_eq!(
        [&spec["ports"][0]["nodePort"], &spec["ports"][1]["nodePort"]],
        [&Value::Null, &json!(30_001)],
        "a port is known by its name"
    );
    let spec = updated(&|spec| spec["type"] = "ClusterIP".into());
    for field in [
        "allocateLoadBalancerNodePorts",
        "externalTrafficPolicy",
        "healthCheckNodePort",
    ] {
        assert!(!spec.has(field), "{field}: {spec}");
    }
    assert!(!spec["ports"][0].has("nodePort"), "{spec}");
}

#[test]
fn only_balanced_services_have_a_way_in() {
    let status = |kind: &str, ingress: Value| {
        let mut object = created(service(json!({"type": kind, "ports": [{"port": 80}]})));
        object.set_resource_version("1");
        let mut new = object.clone();
        new.set(&["status", "loadBalancer"], json!({"ingress": ingress}));
        let errors = resource(&new).validate_subresource_update("status", &new, &object);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        status("NodePort", json!([{"ip": "10.0.0.1"}])),
        [
            "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
        ]
    );
    assert_eq!(
        status(
            "LoadBalancer",
            json!([{"ip": "10.0.0.1", "ipMode": "x"}, {"hostname": "10.0.0.1"}, {"ipMode": "VIP"}])
        ),
        [
            "status.loadBalancer.ingress[0].ipMode: Unsupported value: \"x\": supported values: \"Proxy\", \"VIP\"",
            "status.loadBalancer.ingress[1].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            "status.loadBalancer.ingress[2].ipMode: Forbidden: may not be specified when `ip` is not set"
        ]
    );
}

#[test]
fn services() {
    let object = created(service(
        json!({"selector": {"a": "b"}, "ports": [{"port": 80}]}),
    ));
    assert_eq!(
        object.get(&["spec"]),
        Some(
            &json!({"selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"})
        )
    );
    assert_eq!(object.get(&["status"]), Some(&json!({"loadBalancer": {}})));
    let cases = [
        (json!({}), "spec.ports: Required value"),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"type": "Magic", "ports": [{"port": 80}]}),
            "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}),
            "spec.ports[1].name: Duplicate value: \"a\"",
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}),
            "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            json!({"type": "ExternalName"}),
            "spec.externalName: Required value",
        ),
        (
            json!({"clusterIP": "x", "ports": [{"port": 80}]}),
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None", "ports": [{"port": 80}]}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
    ];
    for (spec, error) in cases {
        let found = errors(service(spec.clone()));
        assert!(found.iter().any(|text| text == error), "{spec}: {found:?}");
    }
    for spec in [
        json!({"clusterIP": "None"}),
        json!({"type": "LoadBalancer", "ports": [{"port": 80, "targetPort": "http"}], "sessionAffinity": "ClientIP"}),
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}], "externalTrafficPolicy": "Local"}),
        json!({"type": "ExternalName", "externalName": "example.com"}),
    ] {
        assert_eq!(errors(service(spec.clone())), none(), "{spec}");
    }
    let allocated = || {
        service(
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}]}),
        )
    };
    assert_eq!(
        update_errors(allocated(), |new| {
            new.set(&["spec", "clusterIP"], "10.0.0.2");
            new.set(&["spec", "clusterIPs"], json!(["10.0.0.2"]));
        }),
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
    assert_eq!(
        update_errors(allocated(), |new| {
            new.remove(&["spec", "clusterIP"]);
            new.remove(&["spec", "clusterIPs"]);
        }),
        none()
    );
    assert_eq!(
        update_errors(allocated(), |new| new.set(&["spec", "type"], "NodePort")),
        none()
    );
}
