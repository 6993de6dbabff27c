//! Which changes of pods and nodes wake the services behind which they stand. A thousand pods may come in a second, and most
//! of what happens to them shows in no endpoint.

use super::ZONE;
use crate::world::Caches;
use agent_runtime::kinds::{Labels, Node, Pod, Service};
use agent_runtime::selector::contains_all;
use agent_runtime::{Cache, Change, Key, Queue};
use std::sync::Arc;

/// Enqueues the services that select a pod, before or after a change that can show in endpoints.
pub(crate) fn enqueue_services_of_pods(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let (services, keys) = (caches.services.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        if shows(change) {
            for pod in change.by_labels() {
                enqueue_selecting(&services, pod, &keys);
            }
        }
    });
}

/// Enqueues the services of the pods of a node that comes or goes, or whose zone changes: there are endpoints only on nodes that
/// exist, and an endpoint tells its zone, which is its node's.
pub(super) fn enqueue_services_of_nodes(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let (services, pods, keys) = (caches.services.clone(), caches.pods.clone(), queue.clone());
    caches.nodes.subscribe(move |change| {
        // Two levels: whether it exists, and whether it has a zone.
        let zone = |node: &Option<Arc<Node>>| {
            let labels = node.as_ref().map(|node| &node.metadata.labels);
            labels.map(|labels| labels.get(ZONE).cloned())
        };
        if zone(&change.old) != zone(&change.new) {
            for pod in pods.on_node(&change.latest().metadata.name) {
                enqueue_selecting(&services, &pod, &keys);
            }
        }
    });
}

fn enqueue_selecting(services: &Cache<Service>, pod: &Pod, keys: &Queue<Key>) {
    let meta = &pod.metadata;
    for service in services.might_select(&meta.namespace, &meta.labels) {
        if contains_all(&meta.labels, &service.spec.selector) {
            keys.add(Key::of(&service.metadata));
        }
    }
}

/// Whether a change can show in endpoints, or in the time that stands on them.
fn shows(change: &Change<Pod>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) if visible(old) == visible(new) => false,
        _ => change.sides().any(|pod| has_part(pod)),
    }
}

/// Whether the pod has a part in endpoints: a pod without an address is in none. When it became ready or unready is kept in
/// mind nevertheless, so that it is not taken for news once there is an address.
fn has_part(pod: &Pod) -> bool {
    let mut addresses = pod.status.pod_ips.iter();
    !pod.status.pod_ip.is_empty()
        || addresses.any(|address| !address.ip.is_empty())
        || pod.condition("Ready").is_some()
}

/// What of a pod shows in endpoints.
#[derive(PartialEq)]
struct Visible<'a> {
    labels: &'a Labels,
    addresses: Vec<&'a str>,
    names: [&'a str; 3],
    flags: [bool; 3],
}

fn visible(pod: &Pod) -> Visible<'_> {
    Visible {
        labels: &pod.metadata.labels,
        addresses: pod
            .status
            .pod_ips
            .iter()
            .map(|ip| ip.ip.as_str())
            .chain([pod.status.pod_ip.as_str()])
            .collect(),
        names: [&pod.spec.node_name, &pod.spec.hostname, &pod.spec.subdomain],
        flags: [
            pod.is_ready(),
            pod.metadata.is_deleting(),
            pod.is_finished(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, world};

    fn pod(labels: &str, rest: &str) -> Arc<Pod> {
        let meta = format!("metadata: {{name: p, namespace: a, uid: p, labels: {{{labels}}}}}");
        Arc::new(object(&format!("{{{meta}, {rest}}}")))
    }

    #[test]
    fn only_what_can_be_seen_in_endpoints_counts() {
        let web = |rest: &str| Some(pod("app: web", rest));
        let (made, bound) = ("spec: {}", "spec: {nodeName: n}");
        let starting = "status: {conditions: [{type: Ready, status: 'False'}]}";
        let reached = "status: {podIP: 10.0.0.1}";
        let also = "status: {podIPs: [{ip: 10.0.0.1}]}";
        let ready = "status: {podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}";
        let ended = "status: {podIP: 10.0.0.1, phase: Failed}";
        for (old, new, expected) in [
            (None, web(made), false),
            (web(made), web(bound), false),
            (web(made), None, false),
            (web(made), web(starting), false),
            (None, web(starting), true),
            (web(bound), web(starting), true),
            (web(made), web(reached), true),
            (web(made), web(also), true),
            (web(reached), web(reached), false),
            (web(reached), web(ready), true),
            (web(reached), web(ended), true),
            (web(reached), Some(pod("app: db", reached)), true),
            (web(reached), None, true),
            (None, web(ready), true),
        ] {
            let change = Change { old, new };
            let told = format!("{:?} -> {:?}", change.old, change.new);
            assert_eq!(shows(&change), expected, "{told}");
        }
    }

    #[tokio::test]
    async fn a_pod_wakes_the_services_that_select_it_and_no_others() {
        let service = |name: &str, namespace: &str, selector: &str| {
            format!(
                "---\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{selector: {{{selector}}}}}\n"
            )
        };
        let services = [
            service("one", "a", "app: web"),
            service("two", "a", "app: web, tier: x"),
            service("more", "a", "app: web, zone: z"),
            service("other", "a", "app: db"),
            service("none", "a", ""),
            service("away", "b", "app: web"),
        ];
        let world = world(&services.concat());
        let queue = Arc::new(Queue::new());
        enqueue_services_of_pods(&world.caches, &queue);
        let reached = "status: {podIP: 10.0.0.1}";
        for (labels, expected) in [
            ("app: web, tier: x", vec!["a/one", "a/two"]),
            ("app: db", vec!["a/one", "a/other", "a/two"]),
            ("tier: x", vec!["a/other"]),
        ] {
            let pod = pod(labels, reached);
            world.caches.pods.apply(Pod::clone(&pod));
            let mut woken = Vec::new();
            while !queue.is_empty() {
                let key = queue.next().await.unwrap();
                queue.done(&key);
                woken.push(key.to_string());
            }
            woken.sort();
            assert_eq!(woken, expected, "{labels}");
        }
    }
}
