//! What a Service gets: its endpoints, soon, and none where nothing matches.

use crate::cluster::Cluster;
use agent_runtime::kinds::{EndpointSlice, Endpoints, Event, IpAddress, ServiceCidr};
use agent_runtime::resource_ref::{
    ENDPOINTS, IP_ADDRESSES, NODES, REPLICATION_CONTROLLERS, SERVICE_CIDRS, SERVICES,
};
use agent_runtime::{Cache, DeleteParams, PatchType};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn service(name: &str, app: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80}]}})
}

fn slices_of(slices: &Cache<EndpointSlice>, service: &str) -> Vec<Arc<EndpointSlice>> {
    let labels = [("kubernetes.io/service-name".to_owned(), service.to_owned())].into();
    slices.with_labels("default", &labels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_matches_nothing_has_empty_endpoints() {
    let cluster = Cluster::start().await;
    let endpoints = cluster.hub.cache::<Endpoints>();
    let made = cluster
        .client
        .create(&SERVICES, "default", &service("none", "nothing"))
        .await;
    made.unwrap();
    let found = cluster.until("the endpoints", &endpoints, |all| {
        all.get("default", "none")
    });
    assert!(found.await.subsets.is_empty());
    let slice = cluster.until("the slice", &cluster.slices, |slices| {
        let of = slices_of(slices, "none");
        (of.len() == 1).then(|| of[0].clone())
    });
    let slice = slice.await;
    assert!(slice.endpoints.is_empty());
    assert_eq!(slice.metadata.controller().unwrap().name, "none");

    let deleted = cluster
        .client
        .delete(&SERVICES, "default", "none", &DeleteParams::default())
        .await;
    deleted.unwrap();
    let gone = cluster.until("the endpoints to go", &endpoints, |all| {
        all.get("default", "none").is_none().then_some(())
    });
    gone.await;
    let gone = cluster.until("the slice to go", &cluster.slices, |slices| {
        slices_of(slices, "none").is_empty().then_some(())
    });
    gone.await;
}

/// The bounds are those of the conformance suite, and so is the number of Services; its clients make 15 at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_many_services_soon() {
    const SERVICES_MADE: usize = 200;
    const AT_ONCE: usize = 15;
    let cluster = Cluster::start().await;
    let labels = json!({"app": "served"});
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "served", "namespace": "default"},
        "spec": {"replicas": 1, "selector": labels,
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "pause"}]}}}});
    let client = &cluster.client;
    let made = client
        .create(&REPLICATION_CONTROLLERS, "default", &controller)
        .await;
    made.unwrap();
    let ready = cluster.until("the pod", &cluster.pods, |pods| {
        pods.list().into_iter().find(|pod| pod.is_ready())
    });
    ready.await;

    let endpoints = cluster.hub.cache::<Endpoints>();
    let found = Arc::new(Mutex::new(HashMap::<String, Instant>::new()));
    let finding = found.clone();
    endpoints.subscribe(move |change| {
        let object = change.latest();
        let ours = object.metadata.name.starts_with("s-");
        if ours && object.subsets.iter().any(|s| !s.addresses.is_empty()) {
            let mut found = finding.lock().unwrap();
            let name = object.metadata.name.clone();
            found.entry(name).or_insert_with(Instant::now);
        }
    });
    let names: Vec<String> = (0..SERVICES_MADE).map(|n| format!("s-{n}")).collect();
    let mut asked = HashMap::new();
    for names in names.chunks(AT_ONCE) {
        let mut requests = tokio::task::JoinSet::new();
        for name in names {
            asked.insert(name.clone(), Instant::now());
            let (client, body) = (client.clone(), service(name, "served"));
            requests.spawn(async move { client.create(&SERVICES, "default", &body).await });
        }
        while let Some(made) = requests.join_next().await {
            made.unwrap().unwrap();
        }
    }
    let all = cluster.until("endpoints for all", &endpoints, |_| {
        let found = found.lock().unwrap();
        (found.len() == SERVICES_MADE).then_some(())
    });
    all.await;
    let found = found.lock().unwrap();
    let mut waits: Vec<Duration> = names.iter().map(|n| found[n] - asked[n]).collect();
    waits.sort();
    let [median, most] = [SERVICES_MADE / 2, SERVICES_MADE * 99 / 100].map(|at| waits[at]);
    assert!(median <= Duration::from_secs(20), "median {median:?}");
    assert!(most <= Duration::from_secs(50), "99 of 100 {most:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_made_by_hand_are_mirrored() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "default"},
        "spec": {"ports": [{"name": "example", "port": 80}]}});
    client.create(&SERVICES, "default", &service).await.unwrap();
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "db", "namespace": "default", "labels": {"team": "x"}},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"name": "example", "port": 80}]}]});
    let made = client.create(&ENDPOINTS, "default", &endpoints).await;
    made.unwrap();
    let mirrored = async |what: &str, address: &str, port: i32| {
        let slice = cluster.until(what, &cluster.slices, |slices| {
            let of = slices_of(slices, "db");
            let is = |slice: &EndpointSlice| {
                let endpoints = slice.endpoints.iter().flat_map(|e| &e.addresses);
                endpoints.collect::<Vec<_>>() == [address] && slice.ports[0].port == Some(port)
            };
            (of.len() == 1 && is(&of[0])).then(|| of[0].clone())
        });
        slice.await
    };
    let slice = mirrored("the mirror", "10.1.2.3", 80).await;
    let labels = &slice.metadata.labels;
    assert_eq!(
        labels["endpointslice.kubernetes.io/managed-by"],
        "endpointslicemirroring-controller.k8s.io"
    );
    assert_eq!(labels["team"], "x");
    assert_eq!(slice.address_type, "IPv4");
    let owner = slice.metadata.controller().unwrap();
    assert_eq!([&*owner.kind, &*owner.name], ["Endpoints", "db"]);

    let moved = json!({"subsets": [{"addresses": [{"ip": "10.2.3.4"}], "ports": [{"name": "example", "port": 8080}]}]});
    let form = PatchType::Merge;
    let patched = client
        .patch(&ENDPOINTS, "default", "db", form, &moved)
        .await;
    patched.unwrap();
    let same = mirrored("the change", "10.2.3.4", 8080).await;
    assert_eq!(same.metadata.uid, slice.metadata.uid);

    let all = DeleteParams::default();
    let deleted = client.delete(&ENDPOINTS, "default", "db", &all).await;
    deleted.unwrap();
    let gone = cluster.until("the mirror to go", &cluster.slices, |slices| {
        slices_of(slices, "db").is_empty().then_some(())
    });
    gone.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_in_slices_while_its_node_exists() {
    /// Orphaned pods are removed 40 seconds after their node at the earliest, and go from slices in any case then.
    const BEFORE_REMOVAL: Duration = Duration::from_secs(30);
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "labels": {"app": "early"}},
        "spec": {"nodeName": "late", "containers": [{"name": "c", "image": "i"}]}});
    cluster.create_pod(&pod).await;
    let early = service("early", "early");
    client.create(&SERVICES, "default", &early).await.unwrap();
    let endpoints = cluster.hub.cache::<Endpoints>();
    let listed = cluster.until("the older form", &endpoints, |all| {
        let found = all.get("default", "early")?;
        (!found.subsets.is_empty()).then_some(())
    });
    listed.await;
    let sliced = async |what: &str, expected: usize| {
        let is_so = |slices: &Cache<EndpointSlice>| {
            let of = slices_of(slices, "early");
            let count = of.iter().map(|slice| slice.endpoints.len()).sum::<usize>();
            (!of.is_empty() && count == expected).then_some(())
        };
        let arrived = cluster.until_within(BEFORE_REMOVAL, what, &cluster.slices, is_so);
        arrived.await;
    };
    sliced("a slice without the pod", 0).await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late"}});
    client.create(&NODES, "", &node).await.unwrap();
    sliced("the pod in it", 1).await;
    let all = DeleteParams::default();
    client.delete(&NODES, "", "late", &all).await.unwrap();
    sliced("the slice without the pod again", 0).await;
}

/// The zones that the endpoints of a service are for, if all are for one.
fn zones_of(slices: &Cache<EndpointSlice>, service: &str) -> Option<Vec<String>> {
    let slices = slices_of(slices, service);
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let zone = |hints: &Value| Some(hints["forZones"][0]["name"].as_str()?.to_owned());
    let zones = endpoints.map(|endpoint| endpoint.hints.as_ref().and_then(zone));
    let mut zones: Vec<String> = zones.collect::<Option<_>>()?;
    zones.sort();
    Some(zones)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_have_their_part_of_a_service_that_asks_for_it() {
    let cluster = Cluster::with_nodes(&["n1", "n2"]).await;
    let client = &cluster.client;
    let to_zone = async |node: &str, zone: &str| {
        let labels = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
        client
            .patch(&NODES, "", node, PatchType::Merge, &labels)
            .await
            .unwrap();
    };
    to_zone("n1", "a").await;
    to_zone("n2", "b").await;
    for (name, node) in [("p1", "n1"), ("p2", "n1"), ("p3", "n2"), ("p4", "n2")] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "near"}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        cluster.create_pod(&pod).await;
    }
    let mut asks = service("near", "near");
    asks["metadata"]["annotations"] = json!({"service.kubernetes.io/topology-mode": "Auto"});
    client.create(&SERVICES, "default", &asks).await.unwrap();
    let shared_out = |slices: &Cache<EndpointSlice>| {
        let zones = zones_of(slices, "near")?;
        (zones == ["a", "a", "b", "b"]).then_some(())
    };
    let hinted = cluster.until("hints for both zones", &cluster.slices, shared_out);
    hinted.await;

    // Nothing but a label of a node changes.
    to_zone("n2", "a").await;
    let withheld = cluster.until("the hints to go", &cluster.slices, |slices| {
        let slices = slices_of(slices, "near");
        let mut endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        endpoints.all(|e| e.hints.is_none()).then_some(())
    });
    withheld.await;
    let events = cluster.hub.cache::<Event>();
    let told = cluster.until("the events", &events, |events| {
        let events = events.in_namespace("default").into_iter();
        let about = events.filter(|event| event.involved_object.name == "near");
        let reasons: BTreeSet<String> = about.map(|event| event.reason.clone()).collect();
        let expected = ["TopologyAwareHintsDisabled", "TopologyAwareHintsEnabled"];
        expected.iter().all(|r| reasons.contains(*r)).then_some(())
    });
    told.await;
    to_zone("n2", "b").await;
    let again = cluster.until("hints again", &cluster.slices, shared_out);
    again.await;
}

fn ready(range: &ServiceCidr) -> Option<(&str, &str)> {
    let conditions = range.status.conditions.iter();
    let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
    let condition = ready.next()?;
    Some((condition["status"].as_str()?, condition["reason"].as_str()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_gives_addresses_and_stays_until_they_are_given_back() {
    let cluster = Cluster::start().await;
    let (client, all) = (&cluster.client, DeleteParams::default());
    let ranges = cluster.hub.cache::<ServiceCidr>();
    let addresses = cluster.hub.cache::<IpAddress>();
    let range = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/28"]}});
    let mut chosen = service("chosen", "nothing");
    chosen["spec"]["clusterIP"] = "10.200.0.5".into();
    let early = client.create(&SERVICES, "default", &chosen).await;
    let early = early.unwrap_err();
    assert!(
        early.message.contains("does not match the current range"),
        "{early:?}"
    );

    client.create(&SERVICE_CIDRS, "", &range).await.unwrap();
    let told = cluster.until("the range to be ready", &ranges, |ranges| {
        let range = ranges.get("", "more")?;
        (ready(&range) == Some(("True", ""))).then_some(range)
    });
    let told = told.await;
    assert_eq!(
        told.metadata.finalizers,
        ["networking.k8s.io/service-cidr-finalizer"]
    );
    client.create(&SERVICES, "default", &chosen).await.unwrap();
    let address = client.get(&IP_ADDRESSES, "", "10.200.0.5").await.unwrap();
    let parent = json!({"resource": "services", "namespace": "default", "name": "chosen"});
    assert_eq!(address["spec"]["parentRef"], parent);
    let labels = &address["metadata"]["labels"];
    assert_eq!(
        labels["ipaddress.kubernetes.io/managed-by"],
        "ipallocator.k8s.io"
    );
    let mut twice = service("twice", "nothing");
    twice["spec"]["clusterIP"] = "10.200.0.5".into();
    let refused = client.create(&SERVICES, "default", &twice).await;
    assert!(refused.unwrap_err().message.contains("already allocated"));

    client
        .delete(&SERVICE_CIDRS, "", "more", &all)
        .await
        .unwrap();
    let stays = cluster.until("why the range stays", &ranges, |ranges| {
        let range = ranges.get("", "more")?;
        (ready(&range) == Some(("False", "Terminating"))).then_some(())
    });
    stays.await;
    let gone = client.delete(&SERVICES, "default", "chosen", &all).await;
    gone.unwrap();
    let given_back = cluster.until("the address to go", &addresses, |addresses| {
        addresses.get("", "10.200.0.5").is_none().then_some(())
    });
    given_back.await;
    let gone = cluster.until("the range to go", &ranges, |ranges| {
        ranges.get("", "more").is_none().then_some(())
    });
    gone.await;
    let kubernetes = client.get(&SERVICE_CIDRS, "", "kubernetes").await.unwrap();
    assert_eq!(kubernetes["spec"]["cidrs"], json!(["10.96.0.0/12"]));
}
