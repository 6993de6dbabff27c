//! LimitRanges of a namespace: default requests and limits of containers, their bounds, and those of claims.

use std::collections::BTreeSet;
use std::sync::Arc;

use resources::quota;
use schema::Object;
use schema::quantity::Quantity;
use serde_json::{Map, Value};

use crate::admission::{Admission, Operation};
use crate::status::ApiResult;

/// The `spec.limits` items of a LimitRange, with their types.
type Range = Arc<Vec<Value>>;

/// Which resources of which containers a LimitRange has given.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Those of all LimitRanges of the request's namespace.
fn limits(admission: &Admission<'_>) -> Vec<Range> {
    let context = admission.context;
    let (world, facts) = (&context.server.world, &context.server.facts);
    let ranges = world.list("", "limitranges", &context.info.namespace);
    ranges.iter().map(|entry| facts.limits.of(entry)).collect()
}

fn of_type<'a>(limits: &'a [Range], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    limits
        .iter()
        .flat_map(|range| range.iter())
        .filter(move |item| item.get("type").and_then(Value::as_str) == Some(kind))
}

/// The containers of a pod, each with what its annotation calls it.
fn containers(pod: &mut Object) -> impl Iterator<Item = (&'static str, &mut Value)> {
    let spec = pod.get_mut(&["spec"]).and_then(Value::as_object_mut);
    spec.into_iter()
        .flat_map(|spec| spec.iter_mut())
        .filter_map(|(name, list)| match name.as_str() {
            "containers" => Some(("container", list)),
            "initContainers" => Some(("init container", list)),
            _ => None,
        })
        .flat_map(|(word, list)| {
            let list = list.as_array_mut().into_iter().flatten();
            list.map(move |container| (word, container))
        })
}

pub(super) fn mutate(admission: &Admission<'_>, pod: &mut Object) -> ApiResult<()> {
    if !admission.creates("", "pods") {
        return Ok(());
    }
    fill_in(&limits(admission), pod);
    Ok(())
}

/// Gives containers the defaults of the ranges, and the pod the annotation that says which, as Kubernetes' plugin does.
fn fill_in(limits: &[Range], pod: &mut Object) {
    let mut set = Vec::new();
    for (word, container) in containers(pod) {
        let (mut requests, mut caps) = (BTreeSet::<String>::new(), BTreeSet::<String>::new());
        for item in of_type(limits, "Container") {
            caps.extend(fill(container, "limits", item.get("default")));
            requests.extend(fill(container, "requests", item.get("defaultRequest")));
            // A limit without a request is the request, as defaulting does before this plugin can add limits.
            let filled = container.pointer("/resources/limits").cloned();
            requests.extend(fill(container, "requests", filled.as_ref()));
        }
        let name = container.get("name").and_then(Value::as_str);
        let name = name.unwrap_or_default();
        for (names, field) in [(requests, "request"), (caps, "limit")] {
            if !names.is_empty() {
                let names: Vec<String> = names.into_iter().collect();
                set.push(format!("{} {field} for {word} {name}", names.join(", ")));
            }
        }
    }
    if !set.is_empty() {
        let text = format!("LimitRanger plugin set: {}", set.join("; "));
        pod.set(&["metadata", "annotations", ANNOTATION], text);
    }
}

/// Adds those resources to `container.resources.<field>` that it does not name, and says which.
fn fill(container: &mut Value, field: &str, defaults: Option<&Value>) -> Vec<String> {
    let (Some(defaults), Some(container)) = (
        defaults.and_then(Value::as_object),
        container.as_object_mut(),
    ) else {
        return Vec::new();
    };
    if defaults.is_empty() {
        return Vec::new();
    }
    let resources = container
        .entry("resources")
        .or_insert_with(|| Value::Object(Map::new()));
    let Some(resources) = resources.as_object_mut() else {
        return Vec::new();
    };
    let target = resources
        .entry(field)
        .or_insert_with(|| Value::Object(Map::new()));
    let Some(target) = target.as_object_mut() else {
        return Vec::new();
    };
    let mut added = Vec::new();
    for (name, value) in defaults {
        if !target.contains_key(name) {
            target.insert(name.clone(), value.clone());
            added.push(name.clone());
        }
    }
    added
}

pub(super) fn validate(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    let Some(object) = object.filter(|_| concerns(admission)) else {
        return Ok(());
    };
    let limits = limits(admission);
    if limits.is_empty() {
        return Ok(());
    }
    let problems = match admission.is("", "pods") {
        true => of_pod(&limits, object),
        false => of_claim(&limits, object),
    };
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(admission.forbid(object, one)),
        several => Err(admission.forbid(object, &format!("[{}]", several.join(", ")))),
    }
}

/// Whether the write can change what the bounds are about. What is on its way out may always be written.
fn concerns(admission: &Admission<'_>) -> bool {
    let is_leaving = |old: &Object| old.deletion_timestamp().is_some();
    if admission.old.is_some_and(is_leaving) {
        return false;
    }
    let claims = admission.is("", "persistentvolumeclaims");
    match (admission.operation, admission.subresource) {
        (Operation::Create, "") => claims || admission.is("", "pods"),
        (Operation::Update, "") => claims,
        (Operation::Update, "resize") => admission.is("", "pods"),
        _ => false,
    }
}

fn of_claim(limits: &[Range], claim: &Object) -> Vec<String> {
    const KIND: &str = "PersistentVolumeClaim";
    // Limits of claims mean nothing.
    let get = |field: &'static str, name: &str| match field {
        "requests" => parse(claim.get(&["spec", "resources", field, name])?),
        _ => None,
    };
    of_type(limits, KIND)
        .flat_map(|item| bounds(KIND, item, "requests", &get))
        .collect()
}

fn of_pod(limits: &[Range], pod: &Object) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    let lists = ["containers", "initContainers"].into_iter();
    let lists = lists.filter_map(|list| pod.get_array(&["spec", list]));
    for container in lists.flatten() {
        for item in of_type(limits, "Container") {
            let get = |field: &'static str, name: &str| quantity(container, field, name);
            problems.extend(bounds("Container", item, "limits", &get));
            problems.extend(ratios("Container", item, &get));
        }
    }
    let spec = pod.get(&["spec"]).unwrap_or(&Value::Null);
    let requests = quota::of_pod_spec(spec, "requests");
    let caps = quota::of_pod_spec(spec, "limits");
    for item in of_type(limits, "Pod") {
        let get = |field: &'static str, name: &str| match field {
            "requests" => requests.get(name).copied(),
            _ => caps.get(name).copied(),
        };
        problems.extend(bounds("Pod", item, "limits", &get));
        problems.extend(ratios("Pod", item, &get));
    }
    problems
}

fn quantity(container: &Value, field: &str, name: &str) -> Option<Quantity> {
    let value = container.get("resources")?.get(field)?.get(name)?;
    parse(value)
}

fn parse(value: &Value) -> Option<Quantity> {
    Quantity::from_json(value).ok()
}

/// What is asked for in `requests` or `limits` of a resource.
type Asked<'a> = &'a dyn Fn(&'static str, &str) -> Option<Quantity>;

/// The amounts of an item's field, such as `min`.
fn amounts_of(item: &Value, field: &str) -> quota::Amounts {
    item.get(field).map(quota::amounts).unwrap_or_default()
}

/// The texts for every bound of one item that is broken. `capped` is the field that a maximum is about.
fn bounds(kind: &str, item: &Value, capped: &'static str, get: Asked<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, min) in amounts_of(item, "min") {
        let bound = format!("minimum {name} usage per {kind} is {min}");
        match (get("requests", &name), get("limits", &name)) {
            (None, _) => problems.push(format!("{bound}.  No request is specified")),
            (Some(request), _) if request < min => {
                problems.push(format!("{bound}, but request is {request}"));
            }
            (_, Some(limit)) if limit < min => {
                problems.push(format!("{bound}, but limit is {limit}"));
            }
            _ => {}
        }
    }
    let word = capped.trim_end_matches('s');
    for (name, max) in amounts_of(item, "max") {
        let bound = format!("maximum {name} usage per {kind} is {max}");
        match (get(capped, &name), get("requests", &name)) {
            (None, _) => problems.push(format!("{bound}.  No {word} is specified")),
            (Some(most), _) if most > max => {
                problems.push(format!("{bound}, but {word} is {most}"));
            }
            (_, Some(request)) if request > max => {
                problems.push(format!("{bound}, but request is {request}"));
            }
            _ => {}
        }
    }
    problems
}

/// The texts for every resource of which the limit is more times the request than the item allows.
fn ratios(kind: &str, item: &Value, get: Asked<'_>) -> Vec<String> {
    let some =
        |field: &'static str, name: &str| get(field, name).filter(|amount| !amount.is_zero());
    let mut problems = Vec::new();
    for (name, most) in amounts_of(item, "maxLimitRequestRatio") {
        let bound = format!("{name} max limit to request ratio per {kind} is {most}");
        match (some("requests", &name), some("limits", &name)) {
            (None, _) => {
                problems.push(format!(
                    "{bound}, but no request is specified or request is 0"
                ));
            }
            (_, None) => {
                problems.push(format!("{bound}, but no limit is specified or limit is 0"));
            }
            (Some(request), Some(limit)) => {
                let ratio = limit.as_f64() / request.as_f64();
                if ratio > most.as_f64() {
                    problems.push(format!("{bound}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_are_bounded_by_what_they_request() {
        let limits = vec![Arc::new(vec![
            json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}}),
        ])];
        let problems = |requests: Value| {
            let claim = json!({"spec": {"resources": {"requests": requests}}});
            of_claim(&limits, &Object::new(claim).unwrap())
        };
        assert_eq!(problems(json!({"storage": "5Gi"})), [""; 0]);
        assert_eq!(
            problems(json!({"storage": "6Gi"})),
            ["maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"]
        );
        assert_eq!(
            problems(json!({"storage": "1Mi"})),
            ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]
        );
        assert_eq!(
            problems(json!({})),
            [
                "minimum storage usage per PersistentVolumeClaim is 1Gi.  No request is specified",
                "maximum storage usage per PersistentVolumeClaim is 5Gi.  No request is specified"
            ]
        );
    }

    fn of_containers(item: Value, spec: &Value) -> Vec<String> {
        let pod = Object::new(json!({"spec": spec})).unwrap();
        of_pod(&[Arc::new(vec![item])], &pod)
    }

    #[test]
    fn a_limit_is_at_most_so_many_times_the_request() {
        let problems = |resources: Value| {
            let item = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2500m"}});
            of_containers(item, &json!({"containers": [{"resources": resources}]}))
        };
        assert_eq!(
            problems(json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "250m"}})),
            [""; 0]
        );
        assert_eq!(
            problems(json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "300m"}})),
            [
                "cpu max limit to request ratio per Container is 2500m, but provided ratio is 3.000000"
            ]
        );
        assert_eq!(
            problems(json!({"limits": {"cpu": "300m"}})),
            [
                "cpu max limit to request ratio per Container is 2500m, but no request is specified or request is 0"
            ]
        );
        assert_eq!(
            problems(json!({"requests": {"cpu": "1"}})),
            [
                "cpu max limit to request ratio per Container is 2500m, but no limit is specified or limit is 0"
            ]
        );
    }

    #[test]
    fn init_containers_of_a_pod_are_not_added_to_those_that_run_after_them() {
        let container =
            json!({"resources": {"requests": {"memory": "200Mi"}, "limits": {"memory": "200Mi"}}});
        let item = json!({"type": "Pod", "max": {"memory": "300Mi"}});
        let one = json!({"containers": [container], "initContainers": [container]});
        assert_eq!(of_containers(item.clone(), &one), [""; 0]);
        let two = json!({"containers": [container, container]});
        assert_eq!(
            of_containers(item, &two),
            ["maximum memory usage per Pod is 300Mi, but limit is 400Mi"]
        );
    }

    #[test]
    fn what_was_filled_in_is_told() {
        let item = json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "1"}});
        let mut pod = Object::new(json!({"spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            "initContainers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}}}]}}))
        .unwrap();
        fill_in(&[Arc::new(vec![item])], &mut pod);
        assert_eq!(
            pod.get_str(&["metadata", "annotations", ANNOTATION]),
            Some(
                "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a; \
                 cpu, memory limit for container b; memory request for init container c"
            )
        );
        let told = pod.clone();
        fill_in(&[], &mut pod);
        assert_eq!(pod, told);
    }
}
