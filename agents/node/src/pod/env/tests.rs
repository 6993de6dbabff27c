use serde_json::json;

use super::*;

fn pod() -> Pod {
    Pod::decode(&json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "web", "tier": "a\"b"}},
        "spec": {"nodeName": "n1", "containers": [{
            "name": "c",
            "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}},
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "no", "optional": true}}],
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)-$(P_k)-$(NOPE)-$$(A)-$"},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "TIER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
                {"name": "MAXCPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
                {"name": "KH", "value": "$(KUBERNETES_SERVICE_HOST)"},
            ],
        }]},
    }))
    .unwrap()
}

fn sources() -> Sources {
    Sources {
        config_maps: [("cm".to_owned(), Some(json!({"data": {"k": "v"}})))].into(),
        secrets: [
            ("sec".to_owned(), Some(json!({"data": {"pw": "aHVudGVy"}}))),
            ("no".to_owned(), None),
        ]
        .into(),
        services: vec![
            json!({"metadata": {"namespace": "default", "name": "kubernetes"},
                   "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}}),
            json!({"metadata": {"namespace": "shop", "name": "my-db"}, "spec": {"clusterIP": "10.0.0.2", "ports": [{"port": 5}]}}),
            json!({"metadata": {"namespace": "shop", "name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 5}]}}),
            json!({"metadata": {"namespace": "other", "name": "x"}, "spec": {"clusterIP": "10.0.0.3", "ports": [{"port": 5}]}}),
        ],
        allocatable_cpu_milli: 2000,
        ..Sources::default()
    }
}

#[test]
fn every_kind_of_source() {
    let pod = pod();
    let env: BTreeMap<_, _> = build(&pod, &pod.spec.containers[0], &sources())
        .unwrap()
        .into_iter()
        .collect();
    let expected = [
        ("A", "1"),
        ("P_k", "v"),
        ("B", "1-v-$(NOPE)-$(A)-$"),
        ("NODE", "n1"),
        ("TIER", "a\"b"),
        ("MEM", "64"),
        ("CPU", "1"),
        ("MAXCPU", "2000"),
        ("S", "hunter"),
        ("KH", "10.0.0.1"),
        ("KUBERNETES_PORT", "tcp://10.0.0.1:443"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
        ("KUBERNETES_PORT_443_TCP_ADDR", "10.0.0.1"),
        ("MY_DB_SERVICE_HOST", "10.0.0.2"),
    ];
    for (name, value) in expected {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!env.contains_key("HEADLESS_SERVICE_HOST") && !env.contains_key("X_SERVICE_HOST"));
}

#[test]
fn service_links_can_be_off() {
    let mut pod = pod();
    pod.spec.enable_service_links = Some(false);
    let env: BTreeMap<_, _> = build(&pod, &pod.spec.containers[0], &sources())
        .unwrap()
        .into_iter()
        .collect();
    assert!(env.contains_key("KUBERNETES_SERVICE_HOST"));
    assert!(!env.contains_key("MY_DB_SERVICE_HOST"));
}

#[test]
fn absent_objects_and_keys_have_the_texts_of_a_kubelet() {
    let pod = pod();
    let mut broken = sources();
    broken.config_maps.insert("cm".to_owned(), None);
    assert_eq!(
        build(&pod, &pod.spec.containers[0], &broken).unwrap_err(),
        "configmap \"cm\" not found"
    );
    let mut broken = sources();
    broken.secrets.insert("sec".to_owned(), Some(json!({})));
    assert_eq!(
        build(&pod, &pod.spec.containers[0], &broken).unwrap_err(),
        "couldn't find key pw in Secret shop/sec"
    );
}

#[test]
fn expansion_syntax() {
    let lookup = |name: &str| (name == "A").then(|| "x".to_owned());
    let cases = [
        ("$(A)", "x"),
        ("$$(A)", "$(A)"),
        ("$(B)", "$(B)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("a$$b$", "a$b$"),
    ];
    for (text, expected) in cases {
        assert_eq!(expand(text, &lookup), expected, "{text}");
    }
}

#[test]
fn maps_are_written_as_quoted_lines() {
    let value = field_value(
        &pod(),
        &FieldRef {
            field_path: "metadata.labels".into(),
        },
        &Sources::default(),
    );
    assert_eq!(value.unwrap(), "app=\"web\"\ntier=\"a\\\"b\"");
}
