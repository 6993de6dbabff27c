use super::*;
use crate::testing::world;
use serde_json::Value;

const SERVICE: &str = "kind: Service\nmetadata: {name: db, namespace: a, uid: s}\nspec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}\n";

fn endpoints(more: &str, subsets: &str) -> String {
    format!(
        "---\nkind: Endpoints\nmetadata: {{name: db, namespace: a, uid: e{more}}}\nsubsets: {subsets}\n"
    )
}

fn plan(text: &str) -> Plan {
    reconcile(&Key::new("a", "db"), &world(text))
}

fn bodies(plan: &Plan) -> Vec<Value> {
    let body = |op: &Op| match op {
        Op::Create { body, .. } | Op::Patch { body, .. } => Some(body.clone()),
        _ => None,
    };
    plan.ops.iter().filter_map(body).collect()
}

/// What creates make, put back into the world as YAML.
fn stored(plan: &Plan) -> String {
    let stored = bodies(plan).into_iter().enumerate().map(|(at, mut body)| {
        body["metadata"]["uid"] = format!("slice{at}").into();
        format!("---\n{body}\n")
    });
    stored.collect()
}

/// `IPv4 10.1.0.1+ 10.1.0.2- at 80`: addresses, whether ready, and ports.
fn told(plan: &Plan) -> Vec<String> {
    let told = |slice: &Value| {
        let of = |field: &str| slice[field].as_array().cloned().unwrap_or_default();
        let addresses = of("endpoints").into_iter().map(|endpoint| {
            let sign = if endpoint["conditions"]["ready"] == true {
                "+"
            } else {
                "-"
            };
            format!("{}{sign}", endpoint["addresses"][0].as_str().unwrap())
        });
        let ports = of("ports").into_iter().map(|port| port["port"].to_string());
        format!(
            "{} {} at {}",
            slice["addressType"].as_str().unwrap_or("patch"),
            addresses.collect::<Vec<_>>().join(" "),
            ports.collect::<Vec<_>>().join(" ")
        )
    };
    bodies(plan).iter().map(told).collect()
}

const ONE: &str = "[{addresses: [{ip: 10.1.0.1}], ports: [{name: http, port: 80}]}]";

#[test]
fn custom_endpoints_are_mirrored_with_their_labels_and_nothing_is_written_twice() {
    let more = ", labels: {team: x}, annotations: {note: y, kubectl.kubernetes.io/last-applied-configuration: '{}', endpoints.kubernetes.io/last-change-trigger-time: z}";
    let subsets = "[{addresses: [{ip: 10.1.0.1, hostname: h, nodeName: n, targetRef: {kind: Pod, name: p}}], notReadyAddresses: [{ip: 10.1.0.2}], ports: [{name: http, port: 80, appProtocol: kubernetes.io/ws}]}]";
    let text = [SERVICE, &endpoints(more, subsets)].concat();
    let made = plan(&text);
    assert_eq!(told(&made), ["IPv4 10.1.0.1+ 10.1.0.2- at 80"]);
    let slice = &bodies(&made)[0];
    let meta = &slice["metadata"];
    assert_eq!(
        meta["labels"].to_string(),
        r#"{"endpointslice.kubernetes.io/managed-by":"endpointslicemirroring-controller.k8s.io","kubernetes.io/service-name":"db","team":"x"}"#
    );
    assert_eq!(meta["annotations"].to_string(), r#"{"note":"y"}"#);
    assert_eq!(meta["ownerReferences"][0]["kind"], "Endpoints");
    assert_eq!(meta["ownerReferences"][0]["uid"], "e");
    let endpoint = &slice["endpoints"][0];
    assert_eq!(
        [
            &endpoint["hostname"],
            &endpoint["nodeName"],
            &endpoint["targetRef"]["name"]
        ],
        ["h", "n", "p"]
    );
    assert_eq!(
        slice["ports"].to_string(),
        r#"[{"appProtocol":"kubernetes.io/ws","name":"http","port":80,"protocol":"TCP"}]"#
    );
    assert_eq!(plan(&[text, stored(&made)].concat()), Plan::none());
}

#[test]
fn a_change_is_a_patch_of_the_same_slice() {
    let slice = stored(&plan(&[SERVICE, &endpoints("", ONE)].concat()));
    let moved = ONE.replace("10.1.0.1", "10.1.0.9").replace("80", "81");
    let lines = plan(&[SERVICE, &endpoints("", &moved), &slice].concat()).lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].starts_with("patch endpointslices")
            && lines[0].contains("10.1.0.9")
            && lines[0].contains("81"),
        "{lines:#?}"
    );
    let labelled = plan(&[SERVICE, &endpoints(", labels: {team: x}", ONE), &slice].concat());
    assert_eq!(bodies(&labelled)[0]["metadata"]["labels"]["team"], "x");
    // The same name, made anew: the slice must not go with the old owner.
    let anew = endpoints("", ONE).replace("uid: e", "uid: e2");
    let owner = bodies(&plan(&[SERVICE, &anew, &slice].concat()));
    assert_eq!(owner[0]["metadata"]["ownerReferences"][0]["uid"], "e2");
}

#[test]
fn what_must_not_be_mirrored_has_no_slices_left() {
    let slice = stored(&plan(&[SERVICE, &endpoints("", ONE)].concat()));
    let gone = |service: &str, endpoints: &str| {
        let lines = plan(&[service, endpoints, &slice].concat()).lines();
        lines.len() == 1 && lines[0].starts_with("delete endpointslices")
    };
    let skipping = endpoints(
        ", labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}",
        ONE,
    );
    let not_skipping = skipping.replace("'true'", "'false'");
    let record = endpoints(
        ", annotations: {control-plane.alpha.kubernetes.io/leader: x}",
        ONE,
    );
    let selecting = SERVICE.replace("spec: {", "spec: {selector: {app: x}, ");
    assert!(gone(SERVICE, ""));
    assert!(gone("", &endpoints("", ONE)));
    assert!(gone(SERVICE, &skipping));
    assert!(!gone(SERVICE, &not_skipping));
    assert!(gone(SERVICE, &record));
    assert!(gone(&selecting, &endpoints("", ONE)));
    assert!(gone(SERVICE, &endpoints("", "[]")));
    // Those of others are left alone.
    let foreign = slice.replace(MANAGER, "someone.example");
    assert_eq!(plan(&[SERVICE, &foreign].concat()), Plan::none());
}

#[test]
fn each_family_has_slices_of_its_own_and_names_are_none() {
    let subsets = "[{addresses: [{ip: 10.1.0.1}, {ip: 'fd00::1'}, {ip: db.example}, {ip: '::ffff:10.1.0.1'}], ports: [{port: 80}]}]";
    let made = plan(&[SERVICE, &endpoints("", subsets)].concat());
    let mut told = told(&made);
    told.sort();
    assert_eq!(told, ["IPv4 10.1.0.1+ at 80", "IPv6 fd00::1+ at 80"]);
    assert!(
        made.lines().contains(&"event Warning a/db InvalidIPAddress: Skipped 2 invalid IP addresses when mirroring to EndpointSlices".to_owned()),
        "{made:#?}"
    );
}

#[test]
fn subsets_are_repacked() {
    let same = "[{addresses: [{ip: 10.1.0.1}], ports: [{name: a, port: 1}]}, {addresses: [{ip: 10.1.0.1}], ports: [{name: b, port: 2}]}, {notReadyAddresses: [{ip: 10.1.0.1}], ports: [{name: c, port: 3}]}]";
    assert_eq!(
        told(&plan(&[SERVICE, &endpoints("", same)].concat())),
        ["IPv4 10.1.0.1+ at 1 2", "IPv4 10.1.0.1- at 3"]
    );
    let both =
        "[{addresses: [{ip: 10.1.0.1}], notReadyAddresses: [{ip: 10.1.0.1}], ports: [{port: 1}]}]";
    assert_eq!(
        told(&plan(&[SERVICE, &endpoints("", both)].concat())),
        ["IPv4 10.1.0.1- at 1"]
    );
    let portless =
        "[{addresses: [{ip: 10.1.0.1}]}, {addresses: [{ip: 10.1.0.1}], ports: [{port: 1}]}]";
    assert_eq!(
        told(&plan(&[SERVICE, &endpoints("", portless)].concat())),
        ["IPv4 10.1.0.1+ at ", "IPv4 10.1.0.1+ at 1"]
    );
}

#[test]
fn a_subset_has_a_thousand_addresses_and_the_ready_come_first() {
    let ips = |from: usize, to: usize| -> String {
        let ips = (from..to).map(|i| format!("{{ip: 10.1.{}.{}}}", i / 250, i % 250));
        ips.collect::<Vec<_>>().join(", ")
    };
    let subsets = format!(
        "[{{notReadyAddresses: [{}], addresses: [{}], ports: [{{port: 1}}]}}]",
        ips(0, 900),
        ips(900, 1101)
    );
    let made = plan(&[SERVICE, &endpoints("", &subsets)].concat());
    let slice = &bodies(&made)[0];
    let ready = slice["endpoints"].as_array().unwrap().iter();
    let ready: Vec<bool> = ready.map(|e| e["conditions"]["ready"] == true).collect();
    assert_eq!(
        (ready.len(), ready.iter().filter(|r| **r).count()),
        (1000, 201)
    );
    assert!(
        made.lines().contains(&"event Warning a/db TooManyAddressesToMirror: A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 101 addresses were skipped".to_owned())
    );
}

#[test]
fn endpoints_that_go_get_no_new_slices() {
    let going = endpoints(", deletionTimestamp: '2026-01-01T00:00:00Z'", ONE);
    assert_eq!(plan(&[SERVICE, &going].concat()), Plan::none());
}

#[test]
fn a_service_wakes_its_endpoints_when_it_begins_or_ends_to_select() {
    let world = world(&[SERVICE, &endpoints("", ONE)].concat());
    let queue = Arc::new(Queue::new());
    wire(&world.caches, &queue);
    let drain = || {
        let woken = queue.len();
        while let Some(Some(key)) = futures::FutureExt::now_or_never(queue.next()) {
            queue.done(&key);
        }
        woken
    };
    assert_eq!(drain(), 1, "the service and its endpoints have one key");
    let service = |spec: &str| {
        crate::testing::object(&format!(
            "{{metadata: {{name: db, namespace: a, uid: s}}, spec: {{{spec}}}}}"
        ))
    };
    world.caches.services.apply(service("clusterIP: 10.0.0.2"));
    assert_eq!(drain(), 0);
    world.caches.services.apply(service("selector: {app: x}"));
    assert_eq!(drain(), 1);
}
