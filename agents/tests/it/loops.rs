//! Loops that need a choice of the operator: signing, addresses of nodes, and Services on nodes.

use crate::cluster::Cluster;
use crate::machines;
use agent_runtime::kinds::{CertificateSigningRequest, Event, Node, Service};
use agent_runtime::pod_routes;
use agent_runtime::resource_ref::{CERTIFICATE_SIGNING_REQUESTS, NODES, ROLES, SECRETS, SERVICES};
use agent_runtime::{ControllerOptions, DeleteParams, NodeRanges, PatchType, Signing, SigningPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A cluster whose operator has chosen this.
async fn cluster(options: ControllerOptions) -> Cluster {
    let (cluster, mut context) = Cluster::without_controllers().await;
    context.controllers = Arc::new(options);
    tokio::spawn(controllers::run_without_election(context));
    cluster
}

fn authority() -> SigningPair {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    SigningPair {
        certificate_pem: params.self_signed(&key).unwrap().pem(),
        key_pem: key.serialize_pem(),
    }
}

fn request(name: &str, signer: &str, common_name: &str, organization: &str) -> Value {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let names = &mut params.distinguished_name;
    names.push(DnType::CommonName, common_name);
    names.push(DnType::OrganizationName, organization);
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"signerName": signer, "request": STANDARD.encode(pem), "usages": ["digital signature", "client auth"]},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approved_requests_are_signed_and_those_of_nodes_approve_themselves() {
    let signing = Signing::default();
    let cluster = cluster(ControllerOptions {
        signing: signing.clone(),
        ..ControllerOptions::default()
    })
    .await;
    let requests = cluster.hub.cache::<CertificateSigningRequest>();
    let api_client = "kubernetes.io/kube-apiserver-client";
    let create = async |body: Value| {
        let resource = &CERTIFICATE_SIGNING_REQUESTS;
        cluster.client.create(resource, "", &body).await.unwrap();
    };
    let approve = async |name: &str| {
        let condition =
            json!({"type": "Approved", "status": "True", "reason": "Test", "message": "yes"});
        let body = json!({"status": {"conditions": [condition]}});
        let resource = &CERTIFICATE_SIGNING_REQUESTS;
        let form = PatchType::Merge;
        let done = cluster
            .client
            .patch_sub(resource, "", name, "approval", form, &body);
        done.await.unwrap();
    };
    signing.replace(authority());
    create(request("jane", api_client, "jane", "dev")).await;
    create(request(
        "wrong",
        "kubernetes.io/kubelet-serving",
        "jane",
        "dev",
    ))
    .await;
    let of_node = request(
        "node",
        "kubernetes.io/kube-apiserver-client-kubelet",
        "system:node:n1",
        "system:nodes",
    );
    create(of_node).await;
    approve("jane").await;
    approve("wrong").await;
    for (name, reason) in [("jane", "Test"), ("node", "AutoApproved")] {
        let signed = cluster
            .until("a certificate", &requests, |requests| {
                let request = requests.get("", name)?;
                (!request.status.certificate.is_empty()).then_some(request)
            })
            .await;
        let pem = STANDARD.decode(&signed.status.certificate).unwrap();
        assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----"));
        assert_eq!(signed.status.conditions[0].reason, reason);
    }
    let failed = cluster
        .until("a failure", &requests, |requests| {
            let request = requests.get("", "wrong")?;
            let failed = request
                .status
                .conditions
                .iter()
                .find(|c| c.kind == "Failed")?;
            Some(failed.clone())
        })
        .await;
    assert_eq!(failed.reason, "SignerValidationFailure");
    assert_eq!(failed.message, "subject organization is not system:nodes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_get_ranges_of_their_own_and_one_that_waited_gets_a_freed_one() {
    let range = "10.1.0.0/23".parse().unwrap();
    let cluster = cluster(ControllerOptions {
        node_ranges: Some(NodeRanges::new(&[range], (24, 64), vec![]).unwrap()),
        ..ControllerOptions::default()
    })
    .await;
    let nodes = cluster.hub.cache::<Node>();
    let create = async |name: &str| {
        let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        cluster.client.create(&NODES, "", &body).await.unwrap();
    };
    let range_of = async |name: &str| {
        cluster
            .until("a range", &nodes, |nodes| {
                let node = nodes.get("", name)?;
                assert!(node.spec.pod_cidrs.len() <= 1);
                node.spec.pod_cidrs.first().cloned()
            })
            .await
    };
    create("a").await;
    create("b").await;
    let both = BTreeSet::from([range_of("a").await, range_of("b").await]);
    assert_eq!(
        both,
        BTreeSet::from(["10.1.0.0/24".to_owned(), "10.1.1.0/24".to_owned()])
    );
    create("c").await;
    event(&cluster, "CIDRNotAvailable").await;
    let freed = range_of("a").await;
    cluster
        .client
        .delete(&NODES, "", "a", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(range_of("c").await, freed);
    // The time that they may keep what they read is told by another loop.
    cluster
        .until("the annotation", &nodes, |nodes| {
            let node = nodes.get("", "c")?;
            let told = node
                .metadata
                .annotations
                .get("node.alpha.kubernetes.io/ttl")?;
            (told == "0").then_some(())
        })
        .await;
}

/// Waits for an event with this reason; its text.
async fn event(cluster: &Cluster, reason: &str) -> String {
    let events = cluster.hub.cache::<Event>();
    cluster
        .until(reason, &events, |events| {
            let all = events.list();
            let event = all.iter().find(|event| event.reason == reason)?;
            Some(event.message.clone())
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_get_addresses_of_nodes_and_give_them_back() {
    let cluster = cluster(ControllerOptions {
        local_cloud: true,
        ..ControllerOptions::default()
    })
    .await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    cluster.client.create(&NODES, "", &node).await.unwrap();
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "10.9.0.1"}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "m"}],
    }});
    let form = PatchType::Strategic;
    cluster
        .client
        .patch_status(&NODES, "", "n", form, &status)
        .await
        .unwrap();
    let services = cluster.hub.cache::<Service>();
    let create = async |name: &str| {
        let body = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "LoadBalancer", "selector": {"app": name}, "ports": [{"port": 8080}]},
        });
        cluster
            .client
            .create(&SERVICES, "default", &body)
            .await
            .unwrap();
    };
    let given = async |name: &str| {
        cluster
            .until("an address", &services, |services| {
                let service = services.get("default", name)?;
                let ingress = &service.status.load_balancer.ingress;
                ingress.first().map(|place| place.ip.clone())
            })
            .await
    };
    create("first").await;
    assert_eq!(given("first").await, "10.9.0.1");
    create("second").await;
    let refused = event(&cluster, "SyncLoadBalancerFailed").await;
    assert!(
        refused.contains("in use by Service default/first"),
        "{refused}"
    );
    let second = services.get("default", "second");
    assert!(second.is_none_or(|service| service.status.load_balancer.ingress.is_empty()));
    let options = DeleteParams::default();
    let resource = &SERVICES;
    let gone = cluster
        .client
        .delete(resource, "default", "first", &options);
    gone.await.unwrap();
    assert_eq!(given("second").await, "10.9.0.1");
    cluster
        .until("the end of the first", &services, |services| {
            services.get("default", "first").is_none().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_needs_to_join_is_published_and_signed() {
    let cluster = cluster(ControllerOptions {
        api_url: "https://192.0.2.1:6443".into(),
        ..ControllerOptions::default()
    })
    .await;
    let encode = |text: &str| STANDARD.encode(text);
    let data = json!({
        "token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"), "usage-bootstrap-signing": encode("true"),
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token", "data": data,
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
    });
    cluster
        .client
        .create(&SECRETS, "kube-system", &secret)
        .await
        .unwrap();
    let look = async |wanted: bool| {
        cluster
            .until("the ConfigMap", &cluster.config_maps, |maps| {
                let map = maps.get("kube-public", "cluster-info")?;
                (map.data.contains_key("jws-kubeconfig-abcdef") == wanted).then_some(map)
            })
            .await
    };
    let map = look(true).await;
    let content = &map.data["kubeconfig"];
    assert!(
        content.contains("server: https://192.0.2.1:6443"),
        "{content}"
    );
    let name = "bootstrap-token-abcdef";
    let (resource, options) = (&SECRETS, DeleteParams::default());
    let gone = cluster
        .client
        .delete(resource, "kube-system", name, &options);
    gone.await.unwrap();
    look(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_route_to_each_other_are_available_and_others_say_why_not() {
    let range = "10.1.0.0/16".parse().unwrap();
    let cluster = cluster(ControllerOptions {
        local_cloud: true,
        node_ranges: Some(NodeRanges::new(&[range], (24, 64), vec![]).unwrap()),
        ..ControllerOptions::default()
    })
    .await;
    let nodes = cluster.hub.cache::<Node>();
    let _machines = machines::with_pod_routes(&cluster.client, "routes");
    let said = async |name: &str, reason: &str| {
        cluster
            .until(reason, &nodes, |nodes| {
                let node = nodes.get("", name)?;
                let condition = node.condition("NetworkUnavailable")?;
                (condition.reason == reason).then(|| (node.clone(), condition.status.clone()))
            })
            .await
    };
    let (node, status) = said("routes", "RouteCreated").await;
    assert_eq!(status, "False");
    let entry = format!("{}={}", node.spec.pod_cidrs[0], machines::NODE_IP);
    let entered = async |name: &str, wanted: bool| {
        cluster
            .until("the table", &cluster.config_maps, |maps| {
                let table = maps.get(pod_routes::NAMESPACE, pod_routes::TABLE)?;
                (table.data.contains_key(name) == wanted).then_some(table)
            })
            .await
    };
    assert_eq!(entered("routes", true).await.data["routes"], entry);

    // The right to read the table is there, and comes back.
    let named = format!("metadata.name={}", pod_routes::ROLE);
    let roles = cluster.hub.metadata_where(&ROLES, &named);
    let role = async |other: &str| {
        cluster
            .until("the right to read the table", &roles, |roles| {
                let role = roles.get(pod_routes::NAMESPACE, pod_routes::ROLE)?;
                (role.metadata.uid != other).then(|| role.metadata.uid.clone())
            })
            .await
    };
    let first = role("").await;
    let (resource, options) = (&ROLES, DeleteParams::default());
    let place = pod_routes::NAMESPACE;
    let gone = cluster
        .client
        .delete(resource, place, pod_routes::ROLE, &options);
    gone.await.unwrap();
    assert_ne!(role(&first).await, first);

    let body = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "broken", "annotations": {pod_routes::REPORT: "failed: no such device"}}});
    cluster.client.create(&NODES, "", &body).await.unwrap();
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.1"}]}});
    let form = PatchType::Strategic;
    cluster
        .client
        .patch_status(&NODES, "", "broken", form, &status)
        .await
        .unwrap();
    let (_, status) = said("broken", "NoRouteCreated").await;
    assert_eq!(status, "True");
    let why = event(&cluster, "FailedToCreateRoute").await;
    assert!(why.contains("for node broken: no such device"), "{why}");
    entered("broken", true).await;
    let (resource, options) = (&NODES, DeleteParams::default());
    let gone = cluster.client.delete(resource, "", "broken", &options);
    gone.await.unwrap();
    entered("broken", false).await;
}
