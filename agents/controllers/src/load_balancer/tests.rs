use super::*;
use crate::testing::{documents, world_of};
use agent_runtime::ControllerOptions;
use futures::FutureExt;
use proptest::prelude::*;

fn options() -> Arc<ControllerOptions> {
    Arc::new(ControllerOptions {
        local_cloud: true,
        ..ControllerOptions::default()
    })
}

fn look(objects: &[Value], name: &str) -> Plan {
    let world = world_of(objects).with_options(options());
    reconcile(&Key::new("a", name), &world)
}

fn lines(text: &str) -> Vec<String> {
    look(&documents(text), "web").lines()
}

const NODES: &str = "---
kind: Node
metadata: {name: n1}
status: {conditions: [{type: Ready, status: 'True'}], addresses: [{type: InternalIP, address: 10.0.0.1}, {type: InternalIP, address: 'fd00::1'}, {type: Hostname, address: n1}]}
---
kind: Node
metadata: {name: n2}
status: {conditions: [{type: Ready, status: 'True'}], addresses: [{type: InternalIP, address: 10.0.0.2}, {type: ExternalIP, address: 203.0.113.2}]}
";

/// A Service with the finalizer, and `more` of its spec and `ingress` of its status.
fn service(name: &str, more: &str, ingress: &str) -> String {
    let ingress: Vec<String> = ingress
        .split_whitespace()
        .map(|ip| format!("{{ip: '{ip}', ipMode: VIP}}"))
        .collect();
    let ingress = ingress.join(", ");
    format!(
        "---\nkind: Service\nmetadata: {{name: {name}, namespace: a, uid: {name}, creationTimestamp: '2026-01-01T09:00:00Z', finalizers: [{FINALIZER}]}}\nspec: {{type: LoadBalancer, ports: [{{port: 80, protocol: TCP}}], {more}}}\nstatus: {{loadBalancer: {{ingress: [{ingress}]}}}}\n"
    )
}

fn patch(ips: &[&str]) -> String {
    let ingress: Vec<Value> = ips
        .iter()
        .map(|ip| json!({"ip": ip, "ipMode": "VIP"}))
        .collect();
    let ingress = if ingress.is_empty() {
        Value::Null
    } else {
        ingress.into()
    };
    let body = json!({"status": {"loadBalancer": {"ingress": ingress}}});
    format!("patch services/status a/web {body}")
}

fn said(kind: &str, reason: &str, text: &str) -> String {
    format!("event {kind} a/web {reason}: {text}")
}

#[test]
fn a_service_gets_the_finalizer_and_then_the_addresses_of_nodes() {
    let wanted = service("web", "ipFamilies: [IPv4]", "");
    let bare = wanted.replace(FINALIZER, "x/y");
    assert_eq!(
        lines(&[NODES, &bare].concat()),
        [
            said("Normal", "EnsuringLoadBalancer", "Ensuring load balancer"),
            format!(
                r#"patch services a/web {{"metadata":{{"finalizers":["x/y","{FINALIZER}"]}}}}"#
            ),
        ]
    );
    let ensured = said("Normal", "EnsuredLoadBalancer", "Ensured load balancer");
    assert_eq!(
        lines(&[NODES, &wanted].concat()),
        [patch(&["10.0.0.1", "203.0.113.2"]), ensured.clone()]
    );
    let dual = service("web", "ipFamilies: [IPv6, IPv4]", "");
    let all = patch(&["fd00::1", "10.0.0.1", "203.0.113.2"]);
    assert_eq!(lines(&[NODES, &dual].concat()), [all, ensured]);
    let done = service("web", "ipFamilies: [IPv4]", "10.0.0.1 203.0.113.2");
    assert!(lines(&[NODES, &done].concat()).is_empty());
    let changed = service("web", "ipFamilies: [IPv4]", "10.0.0.9");
    let updated = said(
        "Normal",
        "UpdatedLoadBalancer",
        "Updated load balancer with new hosts",
    );
    assert_eq!(lines(&[NODES, &changed].concat())[1], updated);
}

#[test]
fn others_classes_types_and_clusters_without_a_cloud_are_left_alone() {
    for text in [
        service("web", "loadBalancerClass: example.com/other", ""),
        service("web", "", "")
            .replace("LoadBalancer, ports", "ClusterIP, ports")
            .replace(FINALIZER, "x/y"),
        service("web", "loadBalancerClass: example.com/other", "").replace(
            "uid: web,",
            "uid: web, deletionTimestamp: '2026-01-01T09:00:00Z',",
        ),
    ] {
        assert!(lines(&[NODES, &text].concat()).is_empty(), "{text}");
    }
    let world = world_of(&documents(&[NODES, &service("web", "", "")].concat()));
    assert!(reconcile(&Key::new("a", "web"), &world).lines().is_empty());
}

#[test]
fn nodes_that_take_no_traffic_do_not_count() {
    let wanted = service("web", "ipFamilies: [IPv4]", "10.0.0.1 203.0.113.2");
    let one = patch(&["10.0.0.1"]);
    for change in [
        NODES.replace("{name: n2}", "{name: n2, labels: {node.kubernetes.io/exclude-from-external-load-balancers: ''}}"),
        NODES.replace("{name: n2}", "{name: n2}\nspec: {taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}"),
        NODES.replace("{name: n2}\nstatus: {conditions: [{type: Ready, status: 'True'}]", "{name: n2}\nstatus: {conditions: [{type: Ready, status: Unknown}]"),
    ] {
        assert_eq!(lines(&[change.as_str(), wanted.as_str()].concat())[0], one, "{change}");
    }
    let unavailable = said(
        "Warning",
        "UnAvailableLoadBalancer",
        "There are no available nodes for LoadBalancer",
    );
    assert_eq!(lines(&wanted), [patch(&[]), unavailable.clone()]);
    assert_eq!(lines(&service("web", "", "")), [unavailable]);
}

#[test]
fn a_local_service_is_reached_where_it_has_endpoints_that_are_ready() {
    let wanted = service(
        "web",
        "ipFamilies: [IPv4], externalTrafficPolicy: Local",
        "",
    );
    let slice = |ready: &str, service: &str| {
        format!(
            "---\nkind: EndpointSlice\nmetadata: {{name: s, namespace: a, labels: {{kubernetes.io/service-name: {service}}}}}\nendpoints: [{{nodeName: n2, conditions: {{{ready}}}}}]\n"
        )
    };
    let with = |slice: &str| lines(&[NODES, &wanted, slice].concat());
    let one = patch(&["203.0.113.2"]);
    assert_eq!(with(&slice("ready: true", "web"))[0], one);
    assert_eq!(with(&slice("", "web"))[0], one, "who does not say is ready");
    assert!(with(&slice("ready: false", "web")).is_empty());
    assert!(with(&slice("ready: true", "other")).is_empty());
    assert!(with("").is_empty());
}

#[test]
fn a_port_of_an_address_has_one_service() {
    let both = "ipFamilies: [IPv4]";
    let refused = |why: &str| {
        said(
            "Warning",
            "SyncLoadBalancerFailed",
            &format!("Error syncing load balancer: failed to ensure load balancer: {why}"),
        )
    };
    let why = "port 80/TCP of all its addresses is in use by Service a/first";
    let first = service("first", both, "10.0.0.1 203.0.113.2");
    let wanted = service("web", both, "");
    assert_eq!(lines(&[NODES, &first, &wanted].concat()), [refused(why)]);
    // Another protocol, another port, and what is left over.
    for other in [
        first.replace("TCP", "UDP"),
        first.replace("port: 80", "port: 81"),
    ] {
        assert_eq!(
            lines(&[NODES, &other, &wanted].concat())[0],
            patch(&["10.0.0.1", "203.0.113.2"])
        );
    }
    let part = service("first", both, "10.0.0.1");
    assert_eq!(
        lines(&[NODES, &part, &wanted].concat())[0],
        patch(&["203.0.113.2"])
    );
    // One that goes, or is another's, holds nothing.
    let going = first.replace(
        "uid: first,",
        "uid: first, deletionTimestamp: '2026-01-01T09:00:00Z',",
    );
    assert_eq!(lines(&[NODES, &going, &wanted].concat()).len(), 2);
    // Two that have the same were given it at once: the older one keeps it.
    let mine = service("web", both, "10.0.0.1 203.0.113.2");
    let older = first.replace("09:00:00", "08:00:00");
    assert_eq!(
        lines(&[NODES, &older, &mine].concat()),
        [patch(&[]), refused(why)]
    );
    let younger = first.replace("09:00:00", "09:30:00");
    assert!(lines(&[NODES, &younger, &mine].concat()).is_empty());
}

#[test]
fn a_node_port_of_another_is_a_port_of_every_address() {
    let wanted = service("web", "ipFamilies: [IPv4]", "").replace("port: 80", "port: 30080");
    let other = |ports: &str, day: &str| {
        format!(
            "---\nkind: Service\nmetadata: {{name: other, namespace: a, uid: other, creationTimestamp: '2026-01-01T{day}:00:00Z'}}\nspec: {{type: NodePort, {ports}}}\n"
        )
    };
    let look = |other: &str, wanted: &str| lines(&[NODES, other, wanted].concat());
    let refused = "Error syncing load balancer: failed to ensure load balancer: port 30080/TCP of all its addresses is a node port of Service a/other";
    let refused = said("Warning", "SyncLoadBalancerFailed", refused);
    let free = patch(&["10.0.0.1", "203.0.113.2"]);
    let taken = other("ports: [{port: 1, nodePort: 30080}]", "08");
    assert_eq!(look(&taken, &wanted), std::slice::from_ref(&refused));
    let healthy = other("healthCheckNodePort: 30080, ports: [{port: 1}]", "08");
    assert_eq!(look(&healthy, &wanted), std::slice::from_ref(&refused));
    for harmless in [
        other("ports: [{port: 30080, nodePort: 30081}]", "08"),
        other("ports: [{port: 1, nodePort: 30080, protocol: UDP}]", "08"),
        taken.replace("NodePort,", "ClusterIP,"),
    ] {
        assert_eq!(look(&harmless, &wanted)[0], free, "{harmless}");
    }
    // What is there already is taken away by nobody who comes later.
    let given = "10.0.0.1 203.0.113.2";
    let mine = service("web", "ipFamilies: [IPv4]", given).replace("port: 80", "port: 30080");
    assert_eq!(look(&taken, &mine), [patch(&[]), refused]);
    let later = other("ports: [{port: 1, nodePort: 30080}]", "09").replace("09:00", "09:30");
    assert!(look(&later, &mine).is_empty());
    // Its own node port of the same entry leads to the same place, that of another entry does not.
    let own = wanted.replace("port: 30080,", "port: 30080, nodePort: 30080,");
    assert_eq!(look("", &own)[0], free);
    let crossed = wanted.replace(
        "{port: 30080,",
        "{port: 1, protocol: TCP, nodePort: 30080}, {port: 30080,",
    );
    assert!(look("", &crossed)[0].contains("is a node port of the same Service a/web"));
}

/// Names of those that are to be looked at, and then no more.
fn woken(queue: &Queue<Key>) -> String {
    let mut names = Vec::new();
    while let Some(Some(key)) = queue.next().now_or_never() {
        queue.done(&key);
        names.push(key.name.to_string());
    }
    names.sort();
    names.join(" ")
}

#[test]
fn who_changes_is_looked_at_with_those_that_have_a_port_of_it() {
    let other = service("other", "", "").replace("port: 80", "port: 81");
    let world = world_of(&documents(&[service("web", "", ""), other].concat()));
    let (services, queue) = (&world.caches.services, Arc::new(Queue::new()));
    wire(&world.caches, &queue);
    assert_eq!(woken(&queue), "other web");
    let put = |text: &str| {
        let document = documents(text).remove(0);
        services.apply(serde_json::from_value(document).unwrap());
    };
    put(&service("next", "", ""));
    assert_eq!(woken(&queue), "next web");
    put(&service("next", "", "10.0.0.1"));
    assert_eq!(woken(&queue), "next web");
    put(&service("next", "", "10.0.0.1").replace("port: 80", "port: 81"));
    assert_eq!(
        woken(&queue),
        "next other web",
        "it had the one and has the other"
    );
    services.remove(&Key::new("a", "next"));
    assert_eq!(woken(&queue), "next other");
    let on_nodes = |kind: &str, number: i32| {
        let ports = format!("[{{port: 1, nodePort: {number}}}]");
        put(&format!(
            "kind: Service\nmetadata: {{name: n, namespace: a, uid: n}}\nspec: {{type: {kind}, ports: {ports}}}\n"
        ));
        woken(&queue)
    };
    assert_eq!(on_nodes("NodePort", 80), "web");
    assert_eq!(on_nodes("NodePort", 90), "web");
    assert_eq!(on_nodes("NodePort", 81), "other");
    assert_eq!(on_nodes("ClusterIP", 81), "other");
}

#[test]
fn an_address_can_be_wished_for() {
    let wished =
        |ip: &str| lines(&[NODES, &service("web", &format!("loadBalancerIP: {ip}"), "")].concat());
    assert_eq!(wished("203.0.113.2")[0], patch(&["203.0.113.2"]));
    let refused = wished("192.0.2.1");
    assert!(
        refused.len() == 1 && refused[0].contains("192.0.2.1 is not the address of a node"),
        "{refused:?}"
    );
}

#[test]
fn what_is_wanted_no_more_is_given_back_before_the_finalizer_goes() {
    let going = said("Normal", "DeletingLoadBalancer", "Deleting load balancer");
    let gone = said("Normal", "DeletedLoadBalancer", "Deleted load balancer");
    let unmarked = r#"patch services a/web {"metadata":{"finalizers":[]}}"#.to_owned();
    let changed = service("web", "", "10.0.0.1").replace("LoadBalancer, ports", "ClusterIP, ports");
    assert_eq!(lines(&changed), [going.clone(), patch(&[])]);
    let next = service("web", "", "").replace("LoadBalancer, ports", "ClusterIP, ports");
    assert_eq!(lines(&next), [unmarked.clone(), gone.clone()]);
    let deleted = service("web", "", "10.0.0.1").replace(
        "uid: web,",
        "uid: web, deletionTimestamp: '2026-01-01T09:00:00Z',",
    );
    assert_eq!(lines(&deleted), [going, unmarked, gone]);
}

/// Performs a plan on objects as the API would.
fn perform(objects: &mut [Value], plan: &Plan) {
    for op in &plan.ops {
        let Op::Patch {
            name,
            subresource,
            body,
            ..
        } = op
        else {
            continue;
        };
        let object = objects
            .iter_mut()
            .find(|object| object["metadata"]["name"] == *name.as_str());
        let object = object.expect("what is patched is there");
        match subresource {
            Some(_) => object["status"] = body["status"].clone(),
            None => object["metadata"]["finalizers"] = body["metadata"]["finalizers"].clone(),
        }
    }
}

proptest! {
    /// Whatever Services want and nodes do, in whatever order they are looked at: after some rounds nothing is left to do, and
    /// no port of an address has two.
    #[test]
    fn it_comes_to_rest_and_no_port_has_two(
        services in prop::collection::vec((0_u8..3, any::<bool>(), any::<bool>()), 1..6),
        nodes in prop::collection::vec(any::<bool>(), 1..4),
        order in prop::collection::vec(0_usize..6, 0..30),
    ) {
        let mut objects: Vec<Value> = Vec::new();
        for (at, (port, is_udp, is_given)) in services.iter().enumerate() {
            let ingress: &str = if *is_given { "10.0.0.0 10.0.0.1" } else { "" };
            let text = service(&format!("s{at}"), "ipFamilies: [IPv4]", ingress).replace("port: 80", &format!("port: {port}"));
            let text = if *is_udp { text.replace("TCP", "UDP") } else { text };
            objects.extend(documents(&text));
        }
        for (at, is_ready) in nodes.iter().enumerate() {
            let status = if *is_ready { "True" } else { "False" };
            objects.extend(documents(&format!("kind: Node\nmetadata: {{name: n{at}}}\nstatus: {{conditions: [{{type: Ready, status: '{status}'}}], addresses: [{{type: InternalIP, address: 10.0.0.{at}}}]}}\n")));
        }
        let rounds = (0..services.len()).cycle().take(4 * services.len());
        for at in order.iter().map(|at| at % services.len()).chain(rounds) {
            let plan = look(&objects, &format!("s{at}"));
            perform(&mut objects, &plan);
        }
        let mut taken = std::collections::BTreeSet::new();
        for (at, (port, is_udp, _)) in services.iter().enumerate() {
            let plan = look(&objects, &format!("s{at}"));
            prop_assert!(plan.ops.iter().all(|op| !matches!(op, Op::Patch { .. })), "{:?}", plan.lines());
            let ingress = objects[at]["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
            for place in ingress {
                let ip = place["ip"].as_str().unwrap_or_default().to_owned();
                let index: usize = ip.rsplit('.').next().unwrap().parse().unwrap();
                prop_assert!(nodes.get(index) == Some(&true), "{ip} takes no traffic");
                prop_assert!(taken.insert((ip, *port, *is_udp)), "{:?}", objects);
            }
        }
    }
}
