use serde_json::json;

use super::*;

fn site() -> Site {
    Site::of(&json!({
        "metadata": {"name": "n", "labels": {"zone": "a"}},
        "spec": {"taints": [{"key": "k", "effect": "NoExecute"}, {"key": "l", "effect": "NoSchedule"}]},
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "10Gi", "pods": "3",
                                   "hugepages-2Mi": "0", "example.com/known": "1"}},
    }))
}

/// A pod on the node that tolerates its taint, changed by a merge patch of spec.
fn pod(more: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "uid": "u"},
        "spec": {"nodeName": "n", "tolerations": [{"key": "k", "operator": "Exists"}],
                 "containers": [{"name": "c", "image": "i"}]}});
    for (field, value) in more.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn asking(requests: Value) -> Value {
    pod(json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}))
}

fn on_port(port: Value) -> Value {
    pod(
        json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}, port]}]}),
    )
}

fn beside(there: &[Value], pod: &Value) -> Option<(&'static str, String)> {
    let mut used = Used::default();
    there.iter().for_each(|one| used.add(&Share::of(one)));
    let verdict = refusal(&site(), &used, pod, &Share::of(pod))?;
    let message = verdict.message.strip_prefix(REJECTED).unwrap().to_owned();
    Some((verdict.reason, message))
}

fn reason(pod: &Value) -> Option<&'static str> {
    beside(&[], pod).map(|(reason, _)| reason)
}

#[test]
fn who_asks_for_more_than_is_left_is_told_of_what() {
    let there = [asking(json!({"cpu": "1500m", "example.com/known": "1"}))];
    let why = |requests: Value| beside(&there, &asking(requests));
    let (reason, message) = why(json!({"cpu": "600m", "memory": "2Gi"})).unwrap();
    assert_eq!(reason, "OutOfcpu");
    assert_eq!(
        message,
        "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"
    );
    assert_eq!(why(json!({"cpu": "500m", "memory": "1Gi"})), None);
    let reason = |requests: Value| why(requests).map(|(reason, _)| reason);
    assert_eq!(reason(json!({"memory": "2Gi"})), Some("OutOfmemory"));
    assert_eq!(
        reason(json!({"ephemeral-storage": "1Ti"})),
        Some("OutOfephemeral-storage")
    );
    assert_eq!(
        reason(json!({"hugepages-2Mi": "2Mi"})),
        Some("OutOfhugepages-2Mi")
    );
    assert_eq!(
        reason(json!({"example.com/known": "1"})),
        Some("OutOfexample.com/known")
    );
    assert_eq!(reason(json!({"example.com/unknown": "1"})), None);
    assert_eq!(reason(json!({"cpu": "0", "hugepages-1Gi": "0"})), None);
    let three = [asking(json!({})), asking(json!({})), asking(json!({}))];
    let (reason, message) = beside(&three, &asking(json!({}))).unwrap();
    assert_eq!(reason, "OutOfpods");
    assert!(message.ends_with("pods, requested: 1, used: 3, capacity: 3"));
}

#[test]
fn a_critical_pod_is_taken_without_room_but_not_against_its_own_words() {
    let mut critical = asking(json!({"cpu": "8"}));
    assert_eq!(reason(&critical), Some("OutOfcpu"));
    critical["spec"]["priority"] = json!(CRITICAL_PRIORITY);
    assert_eq!(reason(&critical), None);
    critical["spec"]["nodeSelector"] = json!({"zone": "b"});
    assert_eq!(reason(&critical), Some("NodeAffinity"));
    // No pod here is made by the node itself, and anybody can say so of his.
    let mut mirror = asking(json!({"cpu": "8"}));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(reason(&mirror), Some("OutOfcpu"));
}

#[test]
fn the_nodes_labels_name_and_taints_are_asked_as_the_scheduler_asks() {
    let required = |zone: &str| {
        let term =
            json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
        let selector = json!({"nodeSelectorTerms": [term]});
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}})
    };
    assert_eq!(reason(&pod(json!({"affinity": required("a")}))), None);
    let (_, message) = beside(&[], &pod(json!({"affinity": required("b")}))).unwrap();
    assert_eq!(
        message,
        "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    );
    assert_eq!(reason(&pod(json!({"nodeName": "other"}))), Some("NodeName"));
    let (reason, message) = beside(&[], &pod(json!({"tolerations": []}))).unwrap();
    assert_eq!(
        (reason, message.as_str()),
        (
            "TaintToleration",
            "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
        )
    );
}

#[test]
fn a_node_that_is_short_takes_only_whom_it_must_or_who_does_not_mind() {
    let short_of = |kinds: &[&'static str], pod: &Value| {
        let mut site = site();
        site.pressures = kinds.to_vec();
        let verdict = refusal(&site, &Used::default(), pod, &Share::of(pod))?;
        Some((verdict.reason, verdict.message))
    };
    let of_class = |class: &str| {
        let mut pod = pod(json!({}));
        pod["status"] = json!({"qosClass": class});
        pod
    };
    let (careless, careful) = (of_class("BestEffort"), of_class("Burstable"));
    let (reason, message) = short_of(&[MEMORY], &careless).unwrap();
    assert_eq!(reason, "Evicted");
    assert_eq!(
        message,
        "Pod was rejected: The node had condition: [MemoryPressure]. "
    );
    assert_eq!(short_of(&[MEMORY], &careful), None);
    let mut content = careless.clone();
    content["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    assert_eq!(short_of(&[MEMORY], &content), None);
    assert!(short_of(&[MEMORY, "DiskPressure"], &content).is_some());
    assert!(short_of(&["DiskPressure"], &careful).is_some());
    let mut critical = careless.clone();
    critical["spec"]["priority"] = json!(CRITICAL_PRIORITY);
    assert_eq!(short_of(&["DiskPressure"], &critical), None);
    assert_eq!(short_of(&[], &careless), None);
}

#[test]
fn what_the_node_cannot_be_comes_before_what_it_lacks() {
    let with = |more: Value| {
        let mut asking = pod(more);
        asking["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "8"}});
        asking
    };
    let reason_of = |more: Value| reason(&with(more));
    assert_eq!(
        reason_of(json!({"os": {"name": "windows"}})),
        Some("PodOSNotSupported")
    );
    assert_eq!(
        reason_of(json!({"os": {"name": "linux"}})),
        Some("OutOfcpu")
    );
    let strict = json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}});
    assert_eq!(
        reason_of(strict),
        Some("SupplementalGroupsPolicyNotSupported")
    );
    let mut labelled = with(json!({}));
    labelled["metadata"]["labels"] = json!({OS_LABEL: "windows"});
    assert_eq!(
        reason(&labelled),
        Some("PodOSSelectorNodeLabelDoesNotMatch")
    );
}

#[test]
fn a_pod_is_not_taken_beside_one_that_has_its_port() {
    let there = [on_port(
        json!({"containerPort": 80, "hostPort": 21017, "hostIP": "10.0.0.1"}),
    )];
    let refused = |port: Value| beside(&there, &on_port(port)).map(|(reason, _)| reason);
    let same = json!({"containerPort": 1, "hostPort": 21017, "protocol": "TCP"});
    assert_eq!(refused(same), Some("NodePorts"));
    assert_eq!(refused(json!({"hostPort": 21017, "protocol": "UDP"})), None);
    assert_eq!(refused(json!({"hostPort": 21018})), None);
    assert_eq!(
        refused(json!({"hostPort": 21017, "hostIP": "10.0.0.2"})),
        None
    );
    assert_eq!(refused(json!({"containerPort": 21017})), None);
}

#[test]
fn of_two_that_come_at_once_the_first_is_taken_and_keeps_its_port_until_it_is_gone() {
    let asking = |uid: &str, status: Value| {
        let mut pod = on_port(json!({"hostPort": 21017}));
        pod["metadata"]["uid"] = uid.into();
        pod["status"] = status;
        Arc::new(pod)
    };
    let new = |uid: &str| asking(uid, json!({}));
    let both = [new("a"), new("b")];
    let site = site();
    let takes = |admitted: &mut Admitted, uid: &str, present: &[Arc<Value>]| {
        admitted.take(&site, &new(uid), present) == Admission::Taken
    };
    let mut admitted = Admitted::default();
    assert!(takes(&mut admitted, "b", &both));
    assert!(!takes(&mut admitted, "a", &both));
    assert!(admitted.has("b") && !admitted.has("a"));
    let ended = [new("a"), asking("b", json!({"phase": "Failed"}))];
    assert!(takes(&mut admitted, "c", &ended));
    admitted.forget("b");
    admitted.forget("c");
    assert!(takes(&mut admitted, "a", &both));
    let begun = [asking("d", json!({"startTime": "2026-01-01T00:00:00Z"}))];
    let mut admitted = Admitted::default();
    assert!(!takes(&mut admitted, "a", &begun));
    admitted.keep("a");
    assert!(admitted.has("a"), "what has begun is not asked again");
}

#[test]
fn who_was_taken_before_comes_first() {
    let pod = |uid: &str, made: &str, started: Option<&str>| {
        json!({"metadata": {"uid": uid, "creationTimestamp": format!("2026-01-01T00:00:{made}Z")},
               "status": {"startTime": started}})
    };
    let mut pods = [
        pod("younger", "02", None),
        pod("older", "01", None),
        pod("begun", "03", Some("2026-01-01T00:00:04Z")),
    ];
    in_order(&mut pods);
    let uids = pods.each_ref().map(|pod| pod["metadata"]["uid"].as_str());
    assert_eq!(uids, [Some("begun"), Some("older"), Some("younger")]);
}

#[test]
fn a_critical_pod_has_the_place_of_those_that_end_for_it_before_they_have_ended() {
    let of = |uid: &str, cpu: &str, priority: i64, status: Value| {
        let mut pod = asking(json!({"cpu": cpu}));
        pod["metadata"]["uid"] = uid.into();
        pod["spec"]["priority"] = priority.into();
        pod["status"] = status;
        Arc::new(pod)
    };
    let begun = json!({"startTime": "2026-01-01T00:00:00Z", "qosClass": "Burstable"});
    let present = [
        of("a", "1", 0, begun.clone()),
        of("b", "500m", 0, begun.clone()),
    ];
    let mut admitted = Admitted::default();
    let mut site = site();
    site.pods = 9;
    let critical = |uid: &str, cpu: &str| of(uid, cpu, CRITICAL_PRIORITY, json!({}));
    let first = critical("first", "1");
    let victims = Admission::InPlaceOf(vec!["b".to_owned()]);
    assert_eq!(admitted.take(&site, &first, &present), victims);
    assert!(!admitted.has("first"), "it is only asked so far");
    admitted.replace("first", &["b".to_owned()]);
    let mut present = present.to_vec();
    present.push(first);
    // What is free beside the first one is 0 cores; others do not find what is still being left.
    let another = of("other", "250m", 0, json!({}));
    let refused = admitted.take(&site, &another, &present);
    assert!(matches!(refused, Admission::Refused(verdict) if verdict.reason == "OutOfcpu"));
    let second = critical("second", "500m");
    let victims = Admission::InPlaceOf(vec!["a".to_owned()]);
    assert_eq!(admitted.take(&site, &second, &present), victims);
    let Admission::Refused(verdict) = admitted.take(&site, &critical("third", "2"), &present)
    else {
        panic!()
    };
    assert_eq!(verdict.reason, "UnexpectedAdmissionError");
    assert!(
        verdict.message.ends_with("[(res: cpu, q: 1000), ]"),
        "{}",
        verdict.message
    );
}
