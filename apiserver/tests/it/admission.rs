//! What the server adds to, and demands of, new objects.

use std::sync::Arc;
use std::time::Duration;

use kv::mem::MemStore;
use serde_json::{Value, json};

use crate::server::{MAPS, PODS, Server, config_map, pod};

const SERVICES: &str = "/api/v1/namespaces/default/services";

#[tokio::test]
async fn pods_get_account_priority_and_tolerations() {
    let server = Server::start().await;
    server.account("default").await;
    let created = server.post(PODS, pod("p")).await.ok();
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    let volume = &created["spec"]["volumes"][0];
    assert!(
        volume["name"]
            .as_str()
            .unwrap()
            .starts_with("kube-api-access-")
    );
    assert_eq!(
        volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"],
        3607
    );
    let mount = &created["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(
        mount["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert_eq!(created["spec"]["priority"], 0);
    assert_eq!(created["spec"]["tolerations"].as_array().unwrap().len(), 2);
    let mut other = pod("q");
    other["spec"]["serviceAccountName"] = "none".into();
    let refused = server.post(PODS, other).await;
    assert_eq!(
        refused.refused(),
        (
            403,
            "Forbidden",
            "pods \"q\" is forbidden: error looking up service account default/none: serviceaccount \"none\" not found"
        )
    );
    let mut classless = pod("r");
    classless["spec"]["priorityClassName"] = "urgent".into();
    assert!(
        server
            .post(PODS, classless)
            .await
            .refused()
            .2
            .ends_with("no PriorityClass with name urgent was found")
    );
}

fn service(name: &str, extra: Value) -> Value {
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    for (key, value) in extra.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

async fn with_blocks(store: &Arc<MemStore>, cidrs: &str) -> Server {
    let server = Server::told(store.clone(), store.clone(), "CA".to_owned(), |config| {
        cidrs.clone_into(&mut config.service_cidr);
    });
    let ready = tokio::time::timeout(Duration::from_secs(30), server.api.ready());
    ready.await.expect("the server gets ready");
    server
}

#[tokio::test]
async fn of_two_blocks_the_first_is_that_of_services_that_ask_for_none() {
    let store = MemStore::new();
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    let kubernetes = format!("{ranges}/kubernetes");
    let single = with_blocks(&store, "fd00:96::/112").await;
    assert_eq!(
        single.get(&kubernetes).await.ok()["spec"]["cidrs"],
        json!(["fd00:96::/112"])
    );
    drop(single);
    // The cluster gets its second family.
    let server = with_blocks(&store, "fd00:96::/112,10.96.0.0/16").await;
    assert_eq!(
        server.get(&kubernetes).await.ok()["spec"]["cidrs"],
        json!(["fd00:96::/112", "10.96.0.0/16"])
    );
    let own = "/api/v1/namespaces/default/services/kubernetes";
    let own = server.get(own).await.ok();
    assert_eq!(own["spec"]["clusterIPs"], json!(["fd00:96::1"]));
    // A list is of a cache that has heard of it.
    server.get(ranges).await.ok();
    for (name, asked, families) in [
        ("plain", json!({}), json!(["IPv6"])),
        (
            "both",
            json!({"ipFamilyPolicy": "PreferDualStack"}),
            json!(["IPv6", "IPv4"]),
        ),
        (
            "turned",
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4"]}),
            json!(["IPv4", "IPv6"]),
        ),
    ] {
        let made = server.post(SERVICES, service(name, asked)).await.ok();
        assert_eq!(made["spec"]["ipFamilies"], families, "{name}");
    }
}

#[tokio::test]
async fn services_have_the_families_of_the_cluster() {
    let server = Server::start().await;
    let dual = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]});
    let refused = server.post(SERVICES, service("a", dual)).await;
    assert_eq!(
        refused.refused(),
        (
            422,
            "Invalid",
            "Service \"a\" is invalid: [spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services, spec.ipFamilies[1]: Invalid value: \"IPv6\": not configured on this cluster]"
        )
    );
    let prefers = json!({"ipFamilyPolicy": "PreferDualStack"});
    server.post(SERVICES, service("a", prefers)).await.ok();
    // Its endpoints are made by hand.
    let by_hand = json!({"clusterIP": "None", "selector": null});
    let made = server.post(SERVICES, service("b", by_hand)).await.ok();
    assert_eq!(made["spec"]["ipFamilyPolicy"], "RequireDualStack");
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));

    let range = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "six"},
        "spec": {"cidrs": ["fd00:96::/64"]}});
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    server.post(ranges, range).await.ok();
    // A list is of a cache that has heard of it.
    server.get(ranges).await.ok();
    let dual = json!({"ipFamilyPolicy": "RequireDualStack"});
    let mut made = server.post(SERVICES, service("c", dual)).await.ok();
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    let second = made["spec"]["clusterIPs"][1].as_str().unwrap().to_owned();
    let of_second = format!("/apis/networking.k8s.io/v1/ipaddresses/{second}");
    let told = server.get(&of_second).await.ok();
    assert_eq!(
        told["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"],
        "IPv6"
    );
    let again = json!({"clusterIP": second, "ipFamilies": ["IPv6"]});
    let taken = server.post(SERVICES, service("d", again)).await;
    assert!(
        taken
            .refused()
            .2
            .contains("provided IP is already allocated")
    );
    // Back to one family: the second address is everybody's again.
    made["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    let single = server.put(&format!("{SERVICES}/c"), made).await.ok();
    assert_eq!(single["spec"]["clusterIPs"].as_array().unwrap().len(), 1);
    assert_eq!(server.get(&of_second).await.refused().0, 404);
}

#[tokio::test]
async fn a_port_of_nodes_is_one_services_for_each_protocol() {
    let server = Server::start().await;
    let port =
        |protocol: &str| json!({"name": protocol.to_lowercase(), "port": 53, "protocol": protocol});
    let dns = json!({"type": "NodePort", "ports": [port("TCP"), port("UDP")]});
    let made = server.post(SERVICES, service("dns", dns)).await.ok();
    let shared = made["spec"]["ports"][0]["nodePort"].clone();
    assert_eq!(made["spec"]["ports"][1]["nodePort"], shared, "{made}");

    let asking = |protocol: &str| {
        let mut port = port(protocol);
        port["nodePort"] = shared.clone();
        json!({"type": "NodePort", "ports": [port]})
    };
    let other = server.post(SERVICES, service("sctp", asking("SCTP"))).await;
    assert_eq!(other.ok()["spec"]["ports"][0]["nodePort"], shared);
    for protocol in ["TCP", "UDP", "SCTP"] {
        let taken = server
            .post(SERVICES, service("late", asking(protocol)))
            .await;
        let text = taken.refused().2;
        assert!(
            text.contains("provided port is already allocated"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn service_addresses_are_unique_and_come_back() {
    let server = Server::start().await;
    // So many at once that some certainly draw the same port and have to draw again.
    const COUNT: usize = 150;
    let makes = (0..COUNT).map(|index| {
        let server = &server;
        async move {
            server
                .post(
                    SERVICES,
                    service(&format!("s{index}"), json!({"type": "NodePort"})),
                )
                .await
                .ok()
        }
    });
    let made = futures::future::join_all(makes).await;
    let mut addresses: Vec<&str> = made
        .iter()
        .map(|service| service["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    let mut ports: Vec<i64> = made
        .iter()
        .map(|service| service["spec"]["ports"][0]["nodePort"].as_i64().unwrap())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!((addresses.len(), ports.len()), (COUNT, COUNT));
    let wanted = json!({"clusterIP": addresses[0]});
    let taken = server.post(SERVICES, service("copy", wanted.clone())).await;
    assert_eq!(taken.refused().0, 422);
    assert!(
        taken
            .refused()
            .2
            .contains("provided IP is already allocated")
    );
    let owner = made
        .iter()
        .find(|service| service["spec"]["clusterIP"] == addresses[0])
        .unwrap();
    server
        .delete(
            &format!("{SERVICES}/{}", owner["metadata"]["name"].as_str().unwrap()),
            json!(null),
        )
        .await
        .ok();
    server.post(SERVICES, service("copy", wanted)).await.ok();
    let headless = server
        .post(SERVICES, service("headless", json!({"clusterIP": "None"})))
        .await
        .ok();
    assert_eq!(headless["spec"]["clusterIP"], "None");
    let external = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ext"}, "spec": {"type": "ExternalName", "externalName": "example.com"}});
    assert!(
        server.post(SERVICES, external).await.ok()["spec"]
            .get("clusterIP")
            .is_none_or(|ip| ip == "")
    );
    let outside = server
        .post(
            SERVICES,
            service("outside", json!({"clusterIP": "192.168.7.7"})),
        )
        .await;
    assert_eq!(outside.refused().0, 422);
    // An address that is there stays, and that is said whether another can be had or not.
    let taken = addresses[1];
    for (name, address) in [
        ("copy", "192.168.7.7"),
        ("copy", taken),
        ("headless", taken),
    ] {
        let patch = json!({"spec": {"clusterIP": address}});
        let uri = format!("{SERVICES}/{name}");
        let refused = server.patch(&uri, "merge-patch+json", patch).await;
        let expected = format!(
            "Service \"{name}\" is invalid: spec.clusterIPs[0]: Invalid value: [\"{address}\"]: may not change once set"
        );
        assert_eq!(refused.refused(), (422, "Invalid", &*expected));
    }
}

#[tokio::test]
async fn limit_ranges_fill_in_and_bound() {
    let server = Server::start().await;
    server.account("default").await;
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}]}});
    server
        .post("/api/v1/namespaces/default/limitranges", range)
        .await
        .ok();
    server
        .get("/api/v1/namespaces/default/limitranges")
        .await
        .ok();
    let created = server.post(PODS, pod("p")).await.ok();
    let resources = &created["spec"]["containers"][0]["resources"];
    assert_eq!(
        (&resources["limits"]["cpu"], &resources["requests"]["cpu"]),
        (&json!("500m"), &json!("100m"))
    );
    let mut greedy = pod("q");
    greedy["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    let refused = server.post(PODS, greedy).await;
    assert_eq!(
        refused.refused().2,
        "pods \"q\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
    // Nor is there a way around it afterwards.
    let limits =
        json!({"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "2"}}}]}});
    let resize = format!("{PODS}/p/resize");
    let refused = server
        .patch(&resize, "strategic-merge-patch+json", limits)
        .await;
    assert_eq!(
        refused.refused().2,
        "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}

#[tokio::test]
async fn limit_ranges_bound_claims() {
    let server = Server::start().await;
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "PersistentVolumeClaim", "max": {"storage": "5Gi"}}]}});
    let ranges = "/api/v1/namespaces/default/limitranges";
    server.post(ranges, range).await.ok();
    server.get(ranges).await.ok();
    let claim = |name: &str, size: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
    };
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    server.post(claims, claim("a", "5Gi")).await.ok();
    let refused = server.post(claims, claim("b", "6Gi")).await;
    assert_eq!(
        refused.refused().2,
        "persistentvolumeclaims \"b\" is forbidden: maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"
    );
}

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// Makes a quota, and waits until the server has counted what is used.
async fn quota(server: &Server, hard: Value, scopes: Value) {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard, "scopes": scopes}});
    server.post(QUOTAS, quota).await.ok();
    used(server, |used| used.is_object()).await;
}

/// Waits until so much is used.
async fn used(server: &Server, enough: impl Fn(&Value) -> bool) {
    let mut watch = server.watch(&format!("{QUOTAS}?watch=1")).await;
    loop {
        let event = watch.next().await.expect("an event");
        if enough(&event["object"]["status"]["used"]) {
            return;
        }
    }
}

#[tokio::test]
async fn quotas_are_charged_and_never_exceeded() {
    let server = Server::start().await;
    server.account("default").await;
    let hard = json!({"pods": "3", "services.nodeports": "1"});
    quota(&server, hard, json!([])).await;
    let dry = server.post(&format!("{PODS}?dryRun=All"), pod("dry")).await;
    dry.ok();
    // All at once: three of them get through, whoever they are.
    let names: Vec<String> = (0..8).map(|index| format!("p{index}")).collect();
    let made = names.iter().map(|name| server.post(PODS, pod(name)));
    let made = futures::future::join_all(made).await;
    let refused: Vec<_> = made
        .iter()
        .filter(|answer| !answer.code.is_success())
        .collect();
    assert_eq!(made.len() - refused.len(), 3);
    for answer in refused {
        let (code, reason, text) = answer.refused();
        assert_eq!((code, reason), (403, "Forbidden"));
        let wanted =
            "is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3";
        assert!(text.ends_with(wanted), "{text}");
    }
    let status = server.get(&format!("{QUOTAS}/q")).await.ok()["status"].clone();
    assert_eq!(status["used"]["pods"], "3");
    // Others are not counted as pods; an update is charged by what it adds.
    let made = server.post(SERVICES, service("s", json!({}))).await.ok();
    let mut open = made.clone();
    open["spec"]["type"] = "NodePort".into();
    server.put(&format!("{SERVICES}/s"), open).await.ok();
    let more = server
        .post(SERVICES, service("t", json!({"type": "NodePort"})))
        .await;
    assert!(
        more.refused()
            .2
            .contains("used: services.nodeports=1, limited: services.nodeports=1")
    );
}

#[tokio::test]
async fn a_crowd_under_a_quota_takes_turns() {
    let server = Server::start().await;
    quota(&server, json!({"configmaps": "1000"}), json!([])).await;
    let names: Vec<String> = (0..200).map(|index| format!("m{index}")).collect();
    let made = names
        .iter()
        .map(|name| server.post(MAPS, config_map(name, "1")));
    for answer in futures::future::join_all(made).await {
        answer.ok();
    }
}

#[tokio::test]
async fn quotas_of_resources_want_them_said() {
    let server = Server::start().await;
    server.account("default").await;
    quota(&server, json!({"cpu": "1"}), json!([])).await;
    let refused = server.post(PODS, pod("p")).await;
    assert_eq!(
        refused.refused().2,
        "pods \"p\" is forbidden: failed quota: q: must specify cpu for: main"
    );
    let mut asking = pod("p");
    asking["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "600m"}});
    server.post(PODS, asking.clone()).await.ok();
    asking["metadata"]["name"] = "r".into();
    assert!(
        server
            .post(PODS, asking)
            .await
            .refused()
            .2
            .ends_with("exceeded quota: q, requested: cpu=600m, used: cpu=600m, limited: cpu=1")
    );
}

#[tokio::test]
async fn quotas_are_given_back() {
    let server = Server::start().await;
    server.account("default").await;
    server.post(PODS, pod("early")).await.ok();
    let mut ending = pod("ending");
    ending["spec"]["activeDeadlineSeconds"] = 60.into();
    server.post(PODS, ending).await.ok();
    let hard = json!({"pods": "5", "count/pods": "5"});
    quota(&server, hard, json!(["NotTerminating"])).await;
    used(&server, |used| {
        *used == json!({"pods": "1", "count/pods": "1"})
    })
    .await;
    server.post(PODS, pod("late")).await.ok();
    used(&server, |used| used["pods"] == "2").await;
    server
        .delete(&format!("{PODS}/early"), json!(null))
        .await
        .ok();
    used(&server, |used| {
        *used == json!({"pods": "1", "count/pods": "1"})
    })
    .await;
    // Other limits are taken over.
    let body = json!({"spec": {"hard": {"pods": "7", "count/pods": null, "count/secrets": "1"}}});
    server
        .patch(&format!("{QUOTAS}/q"), "merge-patch+json", body)
        .await
        .ok();
    used(&server, |used| {
        *used == json!({"pods": "1", "count/secrets": "0"})
    })
    .await;
}

#[tokio::test]
async fn quotas_capture_the_life_of_every_kind() {
    let server = Server::start().await;
    server.account("default").await;
    const KINDS: &[(&str, &str, &str)] = &[
        ("/api/v1", "v1", "ConfigMap"),
        ("/api/v1", "v1", "Secret"),
        ("/api/v1", "v1", "PersistentVolumeClaim"),
        ("/api/v1", "v1", "ReplicationController"),
        ("/apis/apps/v1", "apps/v1", "ReplicaSet"),
        ("/apis/batch/v1", "batch/v1", "Job"),
    ];
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Always"}});
    let spec = |kind: &str| match kind {
        "ReplicationController" => {
            json!({"replicas": 0, "selector": {"a": "b"}, "template": template})
        }
        "ReplicaSet" => {
            json!({"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template})
        }
        "Job" => {
            json!({"template": {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}})
        }
        "PersistentVolumeClaim" => {
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})
        }
        _ => Value::Null,
    };
    let names = [
        "configmaps",
        "secrets",
        "persistentvolumeclaims",
        "replicationcontrollers",
        "count/replicasets.apps",
        "count/jobs.batch",
    ];
    let all = |amount: &str, storage: &str| {
        let mut map = serde_json::Map::new();
        for name in names {
            map.insert(name.to_owned(), amount.into());
        }
        map.insert("requests.storage".to_owned(), storage.into());
        Value::Object(map)
    };
    quota(&server, all("2", "1Gi"), json!([])).await;
    let path =
        |kind: &str, root: &str| format!("{root}/namespaces/default/{}s", kind.to_lowercase());
    for (root, version, kind) in KINDS {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}});
        if !spec(kind).is_null() {
            object["spec"] = spec(kind);
        }
        server.post(&path(kind, root), object).await.ok();
    }
    let charged = server.get(&format!("{QUOTAS}/q")).await.ok();
    assert_eq!(charged["status"]["used"], all("1", "1Gi"));
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "y"}, "spec": spec("PersistentVolumeClaim")});
    let more = server
        .post(&path("PersistentVolumeClaim", "/api/v1"), claim)
        .await;
    assert!(more.refused().2.ends_with(
        "requested: requests.storage=1Gi, used: requests.storage=1Gi, limited: requests.storage=1Gi"
    ));
    for (root, _, kind) in KINDS {
        let uri = format!("{}/x", path(kind, root));
        let background = json!({"propagationPolicy": "Background"});
        server.delete(&uri, background).await.ok();
        if *kind == "PersistentVolumeClaim" {
            // Nobody uses it: what a controller does.
            let free = json!({"metadata": {"finalizers": null}});
            server.patch(&uri, "merge-patch+json", free).await.ok();
        }
    }
    used(&server, |used| *used == all("0", "0")).await;
}

#[tokio::test]
async fn pod_security_refuses_and_warns() {
    let server = Server::start().await;
    server.account("default").await;
    let label = |mode: &str, level: &str| json!({"metadata": {"labels": {format!("pod-security.kubernetes.io/{mode}"): level}}});
    let namespace = "/api/v1/namespaces/default";
    let wrong = server
        .patch(namespace, "merge-patch+json", label("enforce", "strict"))
        .await;
    assert_eq!(
        wrong.refused(),
        (
            422,
            "Invalid",
            "Namespace \"default\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted"
        )
    );
    let mut host = pod("host");
    host["spec"]["hostNetwork"] = true.into();
    server.post(PODS, host.clone()).await.ok();
    server.get(PODS).await.ok();
    let stricter = server
        .patch(namespace, "merge-patch+json", label("enforce", "baseline"))
        .await;
    let warnings: Vec<_> = stricter.headers.get_all("warning").iter().collect();
    assert_eq!(
        warnings,
        [
            "299 - \"existing pods in namespace \\\"default\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"host: host namespaces\""
        ]
    );
    let labels = label("warn", "restricted");
    server
        .patch(namespace, "merge-patch+json", labels)
        .await
        .ok();
    server.get("/api/v1/namespaces").await.ok();
    host["metadata"]["name"] = "other".into();
    assert_eq!(
        server.post(PODS, host).await.refused(),
        (
            403,
            "Forbidden",
            "pods \"other\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
        )
    );
    let warned = server.post(PODS, pod("p")).await;
    let warning = warned.headers["warning"].to_str().unwrap().to_owned();
    warned.ok();
    assert!(
        warning.starts_with("299 - \"would violate PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false (container \\\"main\\\" must set"),
        "{warning}"
    );
    // Makers of pods are warned and not refused.
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]}}}});
    let warned = server
        .post("/apis/apps/v1/namespaces/default/deployments", deployment)
        .await;
    assert!(
        warned.headers["warning"]
            .to_str()
            .unwrap()
            .contains("host namespaces (hostNetwork=true)")
    );
    warned.ok();
    // Labels of a pod are no reason to judge it again.
    let labels = json!({"metadata": {"labels": {"x": "y"}}});
    server
        .patch(&format!("{PODS}/host"), "merge-patch+json", labels)
        .await
        .ok();
}

#[tokio::test]
async fn runtime_classes_are_looked_up() {
    let server = Server::start().await;
    server.account("default").await;
    let mut wanting = pod("p");
    wanting["spec"]["runtimeClassName"] = "gvisor".into();
    let refused = server.post(PODS, wanting.clone()).await;
    assert_eq!(
        refused.refused(),
        (
            403,
            "Forbidden",
            "pods \"p\" is forbidden: pod rejected: RuntimeClass \"gvisor\" not found"
        )
    );
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "runsc",
        "overhead": {"podFixed": {"cpu": "100m"}}, "scheduling": {"nodeSelector": {"sandbox": "yes"}}});
    server
        .post("/apis/node.k8s.io/v1/runtimeclasses", class)
        .await
        .ok();
    let made = server.post(PODS, wanting).await.ok();
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "100m"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"sandbox": "yes"}));
    let mut costly = pod("q");
    costly["spec"]["overhead"] = json!({"cpu": "1"});
    assert!(server.post(PODS, costly).await.refused().2.ends_with(
        "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
    ));
}

#[tokio::test]
async fn system_priority_classes_stay() {
    let server = Server::start().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "mine"}, "value": 1});
    server.post(classes, class).await.ok();
    let mine = format!("{classes}/mine");
    server.delete(&mine, json!(null)).await.ok();
    let system = format!("{classes}/system-node-critical");
    let refused = server.delete(&system, json!(null)).await;
    assert_eq!(
        refused.refused().2,
        "priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and cannot be deleted"
    );
    server.get(&system).await.ok();
}

#[tokio::test]
async fn an_ingress_gets_the_default_class() {
    let server = Server::start().await;
    let class = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "spec": {"controller": "example.com/c"},
        "metadata": {"name": "main", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}});
    let classes = "/apis/networking.k8s.io/v1/ingressclasses";
    server.post(classes, class).await.ok();
    server.get(classes).await.ok();
    let ingress = |name: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name},
        "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}})
    };
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let made = server.post(ingresses, ingress("a")).await.ok();
    assert_eq!(made["spec"]["ingressClassName"], "main");
    let mut named = ingress("b");
    named["spec"]["ingressClassName"] = "other".into();
    let made = server.post(ingresses, named).await.ok();
    assert_eq!(made["spec"]["ingressClassName"], "other");
}

#[tokio::test]
async fn a_bound_pod_gets_the_labels_of_its_zone() {
    let server = Server::start().await;
    server.account("default").await;
    let labels = json!({"topology.kubernetes.io/zone": "a", "disk": "ssd"});
    let node =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": labels}});
    server.post("/api/v1/nodes", node).await.ok();
    server.post(PODS, pod("p")).await.ok();
    server.get("/api/v1/nodes").await.ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    server
        .post(&format!("{PODS}/p/binding"), binding)
        .await
        .ok();
    let bound = server.get(&format!("{PODS}/p")).await.ok();
    let labels = json!({"app": "web", "topology.kubernetes.io/zone": "a"});
    assert_eq!(bound["metadata"]["labels"], labels);
    let mut placed = pod("q");
    placed["spec"]["nodeName"] = "n".into();
    let made = server.post(PODS, placed).await.ok();
    assert_eq!(made["metadata"]["labels"], labels);
}

#[tokio::test]
async fn approving_needs_a_right_on_the_signer() {
    let server = Server::start().await;
    let role = |name: &str, rules: Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    let binding = |name: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]})
    };
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
    let grant = async |name: &str, rules: Value| {
        server
            .post(&format!("{RBAC}/clusterroles"), role(name, rules))
            .await
            .ok();
        server
            .post(&format!("{RBAC}/clusterrolebindings"), binding(name))
            .await
            .ok();
        server
            .get(&format!("{RBAC}/clusterrolebindings"))
            .await
            .ok();
    };
    let doors = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"], "verbs": ["update"]}]);
    grant("doors", doors).await;

    let request = |organization: &str| {
        let mut params = rcgen::CertificateParams::default();
        let name = &mut params.distinguished_name;
        name.push(rcgen::DnType::OrganizationName, organization);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(pem)
    };
    let csr = |name: &str, signer: &str, organization: &str| {
        json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"signerName": signer, "request": request(organization), "usages": ["client auth"]}})
    };
    const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let masters = csr("m", "kubernetes.io/kube-apiserver-client", "system:masters");
    assert_eq!(
        server.post(REQUESTS, masters).await.refused(),
        (
            403,
            "Forbidden",
            "certificatesigningrequests.certificates.k8s.io \"m\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
        )
    );
    let made = server
        .post(REQUESTS, csr("a", "example.com/s", "dev"))
        .await
        .ok();
    let as_jane = async |door: &str, status: Value| {
        let mut changed = made.clone();
        changed["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        changed["status"] = status;
        let request = http::Request::put(format!("{REQUESTS}/a/{door}"))
            .header("authorization", "Bearer jane-token")
            .header("content-type", "application/json")
            .body(axum::body::Body::from(changed.to_string()))
            .unwrap();
        server.read(request).await
    };
    let approved = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]});
    let failed = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "r", "message": "m"}]});
    for (door, status, verb) in [
        ("approval", &approved, "approve"),
        ("status", &failed, "sign"),
    ] {
        let refused = as_jane(door, status.clone()).await;
        let text = format!(
            "certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not permitted to {verb} requests with signerName \"example.com/s\""
        );
        assert_eq!(refused.refused(), (403, "Forbidden", text.as_str()));
    }
    let signers = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.com/*"], "verbs": ["approve", "sign"]}]);
    grant("signers", signers).await;
    as_jane("approval", approved).await.ok();
}

#[tokio::test]
async fn a_pod_is_not_resized_beyond_its_node() {
    let server = Server::start().await;
    server.account("default").await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}},
        "status": {"allocatable": {"cpu": "1", "memory": "1Gi"}}});
    server.post("/api/v1/nodes", node).await.ok();
    let mut resizable = pod("p");
    resizable["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "4"}});
    server.post(PODS, resizable).await.ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    server
        .post(&format!("{PODS}/p/binding"), binding)
        .await
        .ok();
    server.get("/api/v1/nodes").await.ok();
    let resize = async |cpu: &str| {
        let body = json!({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": cpu}}}]}});
        server
            .patch(
                &format!("{PODS}/p/resize"),
                "strategic-merge-patch+json",
                body,
            )
            .await
    };
    resize("500m").await.ok();
    let refused = resize("2").await;
    assert_eq!(
        refused.refused().2,
        "pods \"p\" is forbidden: Node didn't have enough allocatable resources: cpu, requested: 2000, allocatable: 1000"
    );
    assert_eq!(
        refused.body["details"]["causes"],
        json!([{"reason": "NodeCapacity"}])
    );
}
