//! What an object counts against a ResourceQuota, and which quotas it concerns. Pure: admission charges by it, and a
//! controller that counts what is there has to come to the same.

use std::collections::{BTreeMap, BTreeSet};

use schema::Object;
use schema::quantity::{Format, Quantity};
use schema::selector::LabelSelector;
use serde_json::{Value, json};

use crate::look::{Look, spec, status};
use crate::pod::qos_class;

/// Amounts by the name of what is counted.
pub type Amounts = BTreeMap<String, Quantity>;

/// Resources that a quota can demand of every container.
const DEMANDED: &[&str] = &[
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.memory",
];
/// Kinds that are also counted without the prefix.
const PLAIN_COUNTS: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
/// After the name of a class: how many of its devices.
const DEVICES: &str = ".deviceclass.resource.k8s.io/devices";
/// Before the name of a class: the extended resource that its devices stand for in any case.
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";
/// Of claims that the scheduler has made for extended resources of a pod, which has been charged for these.
const FOR_EXTENDED: &str = "resource.kubernetes.io/extended-resource-claim";
/// A claim can have so many devices.
const DEVICES_MAX: i64 = 32;

/// The amounts in a map of quantities, as in `status.hard`. What is no quantity is left out.
pub fn amounts(map: &Value) -> Amounts {
    let entries = map.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), Quantity::from_json(value).ok()?)))
        .collect()
}

/// `count/deployments.apps`
fn count_name(group: &str, plural: &str) -> String {
    match group {
        "" => format!("count/{plural}"),
        group => format!("count/{plural}.{group}"),
    }
}

fn count(number: usize) -> Quantity {
    Quantity::from_units(number.try_into().unwrap_or(i64::MAX), Format::DecimalSi)
}

/// Everything that the object counts. `now` in unix seconds: a pod whose deletion is overdue counts no more.
pub fn usage(group: &str, plural: &str, object: &Object, now: i64) -> Amounts {
    let mut usage = Amounts::new();
    usage.insert(count_name(group, plural), count(1));
    if group.is_empty() && PLAIN_COUNTS.contains(&plural) {
        usage.insert(plural.to_owned(), count(1));
    }
    match (group, plural) {
        ("", "pods") if is_alive(object, now) => {
            usage.extend(compute(
                &total(spec(object), "requests"),
                &total(spec(object), "limits"),
            ));
        }
        ("", "services") => of_service(spec(object), &mut usage),
        ("", "persistentvolumeclaims") => of_claim(object, &mut usage),
        ("resource.k8s.io", "resourceclaims") => of_device_claim(object, &mut usage),
        _ => {}
    }
    usage
}

fn is_alive(pod: &Object, now: i64) -> bool {
    if matches!(status(pod).text("phase"), "Failed" | "Succeeded") {
        return false;
    }
    let deleted = pod.deletion_timestamp().and_then(schema::time::parse);
    match (deleted, pod.deletion_grace_period_seconds()) {
        (Some(deleted), Some(grace)) => now <= deleted.saturating_add(grace),
        _ => true,
    }
}

/// What requests and limits count as.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::new();
    usage.insert("pods".to_owned(), count(1));
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
    for (name, amount) in requests {
        let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
            || name.starts_with("hugepages-");
        if plain {
            usage.insert(name.clone(), *amount);
        }
        if plain || is_extended(name) {
            usage.insert(format!("requests.{name}"), *amount);
        }
    }
    usage
}

/// A resource that somebody else than Kubernetes defined, or a class of devices by the name of a resource.
fn is_extended(name: &str) -> bool {
    is_foreign(name) || name.starts_with(DEVICE_CLASS)
}

/// A resource that somebody else than Kubernetes defined.
pub(crate) fn is_foreign(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// What a pod counts: what it asks for, and its overhead.
fn total(spec: &Value, field: &str) -> Amounts {
    let mut total = of_pod_spec(spec, field);
    for (name, amount) in amounts(spec.at("overhead")) {
        match total.get_mut(&name) {
            Some(sum) => *sum += amount,
            None if field == "requests" => {
                total.insert(name, amount);
            }
            None => {}
        }
    }
    total
}

/// What the containers of a pod ask for together: those that run side by side, or the largest one that runs before them.
pub(crate) fn of_containers(spec: &Value, field: &str) -> Amounts {
    let of = |container: &Value| amounts(container.at("resources").at(field));
    let mut total = Amounts::new();
    for container in spec.list("containers") {
        add(&mut total, &of(container));
    }
    let (mut beside, mut before) = (Amounts::new(), Amounts::new());
    for container in spec.list("initContainers") {
        let mut needed = of(container);
        if container.text("restartPolicy") == "Always" {
            add(&mut total, &needed);
            add(&mut beside, &needed);
            needed = beside.clone();
        } else {
            add(&mut needed, &beside);
        }
        raise(&mut before, &needed);
    }
    raise(&mut total, &before);
    total
}

/// What a pod's `spec` asks for in `field`, `requests` or `limits`, without its overhead: what is said of the pod as a
/// whole, else what its containers ask for together.
pub fn of_pod_spec(spec: &Value, field: &str) -> Amounts {
    let mut total = of_containers(spec, field);
    total.extend(amounts(spec.at("resources").at(field)));
    total
}

/// Adds amounts to others.
pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total
            .entry(name.clone())
            .or_insert(Quantity::from_units(0, amount.format()));
        *sum += *amount;
    }
}

fn raise(total: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let one = total.entry(name.clone()).or_insert(*amount);
        *one = (*one).max(*amount);
    }
}

fn of_service(spec: &Value, usage: &mut Amounts) {
    let ports = spec.list("ports");
    let explicit = || {
        let has_port = |port: &&Value| port.int("nodePort").unwrap_or(0) != 0;
        ports.iter().filter(has_port).count()
    };
    let unallocated = spec.at("allocateLoadBalancerNodePorts") == &Value::Bool(false);
    let (balancers, node_ports) = match spec.text("type") {
        "NodePort" => (0, ports.len()),
        "LoadBalancer" if unallocated => (1, explicit()),
        "LoadBalancer" => (1, ports.len()),
        _ => (0, 0),
    };
    usage.insert("services.loadbalancers".to_owned(), count(balancers));
    usage.insert("services.nodeports".to_owned(), count(node_ports));
}

fn of_claim(claim: &Object, usage: &mut Amounts) {
    let by_annotation = claim.annotation("volume.beta.kubernetes.io/storage-class");
    let class = by_annotation.unwrap_or(spec(claim).text("storageClassName"));
    let asked = Quantity::from_json(spec(claim).at("resources").at("requests").at("storage"));
    let given = Quantity::from_json(status(claim).at("allocatedResources").at("storage"));
    let size = asked.into_iter().chain(given).max();
    if !class.is_empty() {
        usage.insert(format!("{class}{OF_CLASS}persistentvolumeclaims"), count(1));
    }
    if let Some(size) = size {
        usage.insert("requests.storage".to_owned(), size);
        if !class.is_empty() {
            usage.insert(format!("{class}{OF_CLASS}requests.storage"), size);
        }
    }
}

/// Devices by class, as many as the claim may get: of alternatives, what the largest asks for.
fn of_device_claim(claim: &Object, usage: &mut Amounts) {
    let mut by_class: BTreeMap<&str, i64> = BTreeMap::new();
    for request in spec(claim).at("devices").list("requests") {
        let exactly = Some(request.at("exactly")).filter(|_| request.has("exactly"));
        let mut most: BTreeMap<&str, i64> = BTreeMap::new();
        for ask in request.list("firstAvailable").iter().chain(exactly) {
            let devices = match ask.text("allocationMode") {
                "All" => DEVICES_MAX,
                "" | "ExactCount" => ask.int("count").unwrap_or(1),
                _ => 0,
            };
            let known = most.entry(ask.text("deviceClassName")).or_default();
            *known = devices.max(*known);
        }
        for (class, devices) in most {
            let sum = by_class.entry(class).or_default();
            *sum = sum.saturating_add(devices);
        }
    }
    let for_extended = claim.annotation(FOR_EXTENDED) == Some("true");
    for (class, devices) in by_class {
        let amount = Quantity::from_units(devices, Format::DecimalSi);
        usage.insert(format!("{class}{DEVICES}"), amount);
        if !for_extended {
            usage.insert(format!("requests.{DEVICE_CLASS}{class}"), amount);
        }
    }
}

/// Whether objects of the resource can count as `name`.
fn counts_as(group: &str, plural: &str, name: &str) -> bool {
    if name == count_name(group, plural) {
        return true;
    }
    match (group, plural) {
        ("", "pods") => {
            matches!(name, "pods" | "cpu" | "memory" | "ephemeral-storage")
                || name.starts_with("hugepages-")
                || name.starts_with("limits.")
                || (name.starts_with("requests.") && name != "requests.storage")
        }
        ("", "services") => matches!(
            name,
            "services" | "services.nodeports" | "services.loadbalancers"
        ),
        ("", "persistentvolumeclaims") => {
            matches!(name, "persistentvolumeclaims" | "requests.storage") || name.contains(OF_CLASS)
        }
        ("resource.k8s.io", "resourceclaims") => {
            let requested = name.strip_prefix("requests.");
            name.ends_with(DEVICES) || requested.is_some_and(|name| name.starts_with(DEVICE_CLASS))
        }
        ("", plural) => name == plural && PLAIN_COUNTS.contains(&plural),
        _ => false,
    }
}

/// Those of a quota's hard limits, as its status has them, that objects of the resource can count against; none where the
/// quota does not concern this object.
pub fn concerned(quota: &Object, group: &str, plural: &str, object: &Object) -> Vec<String> {
    let names = counted_names(status(quota), group, plural);
    if names.is_empty() || !in_scopes(spec(quota), group, plural, object) {
        return Vec::new();
    }
    names
}

fn counted_names(limits: &Value, group: &str, plural: &str) -> Vec<String> {
    limits
        .entries("hard")
        .map(|(name, _)| name)
        .filter(|name| counts_as(group, plural, name))
        .map(str::to_owned)
        .collect()
}

/// Whether the quota's spec counts objects of the resource.
pub fn is_counted(quota: &Object, group: &str, plural: &str) -> bool {
    !counted_names(spec(quota), group, plural).is_empty()
}

/// What is used of the quota's spec where there is nothing.
pub fn nothing_used(quota: &Object) -> Amounts {
    spec(quota)
        .entries("hard")
        .map(|(name, _)| (name.to_owned(), count(0)))
        .collect()
}

/// What one object uses of the quota's spec.
pub fn used_by(quota: &Object, group: &str, plural: &str, object: &Object, now: i64) -> Amounts {
    if !in_scopes(spec(quota), group, plural, object) {
        return Amounts::new();
    }
    let mut used = usage(group, plural, object, now);
    used.retain(|name, _| spec(quota).at("hard").has(name) && counts_as(group, plural, name));
    used
}

/// Whether the object is in all scopes of the quota.
fn in_scopes(quota: &Value, group: &str, plural: &str, object: &Object) -> bool {
    let scopes = quota.texts("scopes");
    let terms = quota.at("scopeSelector").list("matchExpressions");
    let plain = scopes.into_iter().map(|scope| (scope, &Value::Null));
    let selected = terms.iter().map(|term| (term.text("scopeName"), term));
    plain
        .chain(selected)
        .all(|(scope, term)| match (group, plural) {
            ("", "pods") => pod_in_scope(scope, term, spec(object)),
            ("", "persistentvolumeclaims") if scope == "VolumeAttributesClass" => {
                let class = spec(object).text("volumeAttributesClassName");
                name_in(term, scope, class)
            }
            _ => false,
        })
}

fn pod_in_scope(scope: &str, term: &Value, pod: &Value) -> bool {
    let ends = pod
        .int("activeDeadlineSeconds")
        .is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => qos_class(pod) == "BestEffort",
        "NotBestEffort" => qos_class(pod) != "BestEffort",
        "PriorityClass" => name_in(term, scope, pod.text("priorityClassName")),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

/// Whether a name satisfies a term about it; without an operator it has to be there.
fn name_in(term: &Value, key: &str, name: &str) -> bool {
    if matches!(term.text("operator"), "" | "Exists") {
        return !name.is_empty();
    }
    let selector = json!({"matchExpressions": [{
        "key": key, "operator": term.at("operator"), "values": term.at("values")
    }]});
    let labels: &[(&str, &str)] = if name.is_empty() { &[] } else { &[(key, name)] };
    LabelSelector::from_object(Some(&selector))
        .is_ok_and(|selector| selector.matches(labels.iter().copied()))
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crosses =
        |term: &Value| !term.list("namespaces").is_empty() || term.has("namespaceSelector");
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let affinity = pod.at("affinity").at(kind);
        let required = affinity.list("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = affinity.list("preferredDuringSchedulingIgnoredDuringExecution");
        required.iter().any(crosses)
            || preferred
                .iter()
                .any(|term| crosses(term.at("podAffinityTerm")))
    })
}

/// Which containers do not say how much of the named resources they want: such pods cannot be counted.
pub fn unspecified(pod: &Object, names: &[String]) -> Option<String> {
    let demanded: BTreeSet<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| DEMANDED.contains(name))
        .collect();
    let of = |resources: &Value| {
        compute(
            &amounts(resources.at("requests")),
            &amounts(resources.at("limits")),
        )
    };
    let by_pod = of(spec(pod).at("resources"));
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for field in ["containers", "initContainers"] {
        for container in spec(pod).list(field) {
            let by_container = of(container.at("resources"));
            for name in &demanded {
                if !by_container.contains_key(*name) && !by_pod.contains_key(*name) {
                    missing
                        .entry(name)
                        .or_default()
                        .insert(container.text("name"));
                }
            }
        }
    }
    let texts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            let containers: Vec<&str> = containers.into_iter().collect();
            format!("{name} for: {}", containers.join(","))
        })
        .collect();
    (!texts.is_empty()).then(|| format!("must specify {}", texts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(amounts: &Amounts) -> String {
        let texts: Vec<String> = amounts
            .iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect();
        texts.join(",")
    }

    fn object(value: Value) -> Object {
        Object::new(value).unwrap()
    }

    #[test]
    fn pods_count_what_they_may_use_at_once() {
        let pod = object(json!({"spec": {
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "1Gi", "example.com/gpu": "1"}, "limits": {"cpu": "1"}}},
                {"name": "b", "resources": {"requests": {"cpu": "200m"}}}],
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"name": "first", "resources": {"requests": {"cpu": "10m", "memory": "2Gi"}}}],
            "overhead": {"cpu": "5m"}}}));
        assert_eq!(
            told(&usage("", "pods", &pod, 0)),
            "count/pods=1,cpu=355m,limits.cpu=1005m,memory=2Gi,pods=1,requests.cpu=355m,requests.example.com/gpu=1,requests.memory=2Gi"
        );
        let ended = object(json!({"spec": {"containers": []}, "status": {"phase": "Succeeded"}}));
        assert_eq!(told(&usage("", "pods", &ended, 0)), "count/pods=1");
        let overdue = object(
            json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:10Z", "deletionGracePeriodSeconds": 5}}),
        );
        assert_eq!(usage("", "pods", &overdue, 15).len(), 2);
        assert_eq!(usage("", "pods", &overdue, 16).len(), 1);
    }

    #[test]
    fn claims_on_devices_count_what_they_may_get_by_class() {
        let of = |annotations: Value, requests: Value| {
            let claim = object(
                json!({"metadata": {"annotations": annotations}, "spec": {"devices": {"requests": requests}}}),
            );
            told(&usage("resource.k8s.io", "resourceclaims", &claim, 0))
        };
        let requests = json!([
            {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
            {"name": "b", "firstAvailable": [
                {"name": "x", "deviceClassName": "gpu", "count": 1}, {"name": "y", "deviceClassName": "gpu", "count": 3},
                {"name": "z", "deviceClassName": "nic", "allocationMode": "All"}]}]);
        assert_eq!(
            of(json!({}), requests),
            "count/resourceclaims.resource.k8s.io=1,gpu.deviceclass.resource.k8s.io/devices=5,nic.deviceclass.resource.k8s.io/devices=32,requests.deviceclass.resource.kubernetes.io/gpu=5,requests.deviceclass.resource.kubernetes.io/nic=32"
        );
        // The pod has been charged for the resource by whose name it asked.
        let one = json!([{"name": "a", "exactly": {"deviceClassName": "gpu", "count": 1}}]);
        assert_eq!(
            of(json!({FOR_EXTENDED: "true"}), one),
            "count/resourceclaims.resource.k8s.io=1,gpu.deviceclass.resource.k8s.io/devices=1"
        );
        let pod = object(json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"deviceclass.resource.kubernetes.io/gpu": "1"}}}]}}));
        assert_eq!(
            told(&usage("", "pods", &pod, 0)),
            "count/pods=1,pods=1,requests.deviceclass.resource.kubernetes.io/gpu=1"
        );
        let quota =
            object(json!({"spec": {"hard": {"gpu.deviceclass.resource.k8s.io/devices": "1"}}}));
        assert!(is_counted(&quota, "resource.k8s.io", "resourceclaims"));
        assert!(!is_counted(&quota, "", "pods"));
    }

    #[test]
    fn other_kinds_count_by_number_ports_and_size() {
        let service =
            |spec: Value| told(&usage("", "services", &object(json!({ "spec": spec })), 0));
        assert_eq!(
            service(json!({"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]})),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2"
        );
        assert_eq!(
            service(
                json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 1, "nodePort": 30000}, {"port": 2}]})
            ),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1"
        );
        let claim = object(
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}),
        );
        assert_eq!(
            told(&usage("", "persistentvolumeclaims", &claim, 0)),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"
        );
        let deployment = object(json!({}));
        assert_eq!(
            told(&usage("apps", "deployments", &deployment, 0)),
            "count/deployments.apps=1"
        );
        assert_eq!(
            told(&usage("", "secrets", &deployment, 0)),
            "count/secrets=1,secrets=1"
        );
    }

    #[test]
    fn quotas_concern_what_is_in_their_scopes() {
        let quota = |spec: Value| {
            object(
                json!({ "spec": spec, "status": {"hard": {"pods": "1", "cpu": "1", "services": "1", "requests.storage": "1"}} }),
            )
        };
        let plain = object(json!({"spec": {"containers": [{"name": "a"}]}}));
        let names = |spec: Value, pod: &Object| concerned(&quota(spec), "", "pods", pod);
        assert_eq!(names(json!({}), &plain), ["cpu", "pods"]);
        assert_eq!(names(json!({"scopes": ["BestEffort"]}), &plain).len(), 2);
        assert!(names(json!({"scopes": ["NotBestEffort"]}), &plain).is_empty());
        assert!(names(json!({"scopes": ["BestEffort", "Terminating"]}), &plain).is_empty());
        let important = object(json!({"spec": {"priorityClassName": "high"}}));
        let scoped = |operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
        assert_eq!(names(scoped("In", json!(["high"])), &important).len(), 2);
        assert!(names(scoped("In", json!(["low"])), &important).is_empty());
        assert!(names(scoped("Exists", json!([])), &plain).is_empty());
        assert_eq!(names(scoped("DoesNotExist", json!([])), &plain).len(), 2);
        // A scope of pods has nothing else in it.
        let scoped = quota(json!({"scopes": ["BestEffort"]}));
        assert!(concerned(&scoped, "", "services", &plain).is_empty());
        assert_eq!(
            concerned(&quota(json!({})), "", "services", &plain),
            ["services"]
        );
    }

    #[test]
    fn what_is_counted_has_to_be_said() {
        let pod = object(json!({"spec": {"containers": [
            {"name": "c1"}, {"name": "c2", "resources": {"requests": {"cpu": "1"}}}]}}));
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            unspecified(&pod, &names(&["cpu", "pods"])).unwrap(),
            "must specify cpu for: c1"
        );
        assert_eq!(
            unspecified(&pod, &names(&["requests.cpu", "limits.memory"])).unwrap(),
            "must specify limits.memory for: c1,c2; requests.cpu for: c1"
        );
        assert_eq!(
            unspecified(&pod, &names(&["pods", "requests.example.com/gpu"])),
            None
        );
    }
}
