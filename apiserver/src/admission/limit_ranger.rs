//! LimitRanges of a namespace: default requests and limits of containers, their bounds, and those of claims.

use std::collections::BTreeMap;
use std::sync::Arc;

use schema::Object;
use schema::quantity::Quantity;
use serde_json::{Map, Value};

use crate::admission::{Admission, Operation};
use crate::status::ApiResult;

/// The `spec.limits` items of a LimitRange, with their types.
type Range = Arc<Vec<Value>>;

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

fn containers(pod: &mut Object) -> impl Iterator<Item = &mut Value> {
    let spec = pod.get_mut(&["spec"]).and_then(Value::as_object_mut);
    spec.into_iter()
        .flat_map(|spec| spec.iter_mut())
        .filter(|(name, _)| matches!(name.as_str(), "containers" | "initContainers"))
        .flat_map(|(_, list)| list.as_array_mut().into_iter().flatten())
}

pub(super) fn mutate(admission: &Admission<'_>, pod: &mut Object) -> ApiResult<()> {
    if !admission.creates("", "pods") {
        return Ok(());
    }
    let limits = limits(admission);
    for item in of_type(&limits, "Container") {
        for container in containers(pod) {
            fill(container, "limits", item.get("default"));
            fill(container, "requests", item.get("defaultRequest"));
            // A limit without a request is the request, as defaulting does before this plugin can add limits.
            let filled = container.pointer("/resources/limits").cloned();
            fill(container, "requests", filled.as_ref());
        }
    }
    Ok(())
}

/// Adds those resources to `container.resources.<field>` that it does not name.
fn fill(container: &mut Value, field: &str, defaults: Option<&Value>) {
    let (Some(defaults), Some(container)) = (
        defaults.and_then(Value::as_object),
        container.as_object_mut(),
    ) else {
        return;
    };
    if defaults.is_empty() {
        return;
    }
    let resources = container
        .entry("resources")
        .or_insert_with(|| Value::Object(Map::new()));
    let Some(resources) = resources.as_object_mut() else {
        return;
    };
    let target = resources
        .entry(field)
        .or_insert_with(|| Value::Object(Map::new()));
    let Some(target) = target.as_object_mut() else {
        return;
    };
    for (name, value) in defaults {
        target.entry(name.clone()).or_insert_with(|| value.clone());
    }
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
    let get = |field: &str, name: &str| {
        let value = claim.get(&["spec", "resources", field, name])?;
        parse(value)
    };
    of_type(limits, KIND)
        .flat_map(|item| bounds(KIND, item, "requests", &get))
        .collect()
}

fn of_pod(limits: &[Range], pod: &Object) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    let mut totals: BTreeMap<(&'static str, String), Quantity> = BTreeMap::new();
    let lists = ["containers", "initContainers"].into_iter();
    let lists = lists.filter_map(|list| pod.get_array(&["spec", list]));
    for container in lists.flatten() {
        for item in of_type(limits, "Container") {
            problems.extend(bounds("Container", item, "limits", &|field, name| {
                quantity(container, field, name)
            }));
        }
        for field in ["requests", "limits"] {
            let named = container
                .pointer(&format!("/resources/{field}"))
                .and_then(Value::as_object);
            for name in named.into_iter().flat_map(Map::keys) {
                if let Some(amount) = quantity(container, field, name) {
                    totals
                        .entry((field, name.clone()))
                        .and_modify(|sum| *sum += amount)
                        .or_insert(amount);
                }
            }
        }
    }
    for item in of_type(limits, "Pod") {
        let total =
            |field: &'static str, name: &str| totals.get(&(field, name.to_owned())).copied();
        problems.extend(bounds("Pod", item, "limits", &total));
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

/// The texts for every bound of one item that is broken. `capped` is the field that a maximum is about.
fn bounds(
    kind: &str,
    item: &Value,
    capped: &'static str,
    get: &dyn Fn(&'static str, &str) -> Option<Quantity>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let each = |bound: &str| {
        item.get(bound)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    for (name, value) in each("min") {
        let Some(min) = parse(&value) else { continue };
        match get("requests", &name) {
            None => problems.push(format!(
                "minimum {name} usage per {kind} is {min}.  No request is specified"
            )),
            Some(request) if request < min => {
                problems.push(format!(
                    "minimum {name} usage per {kind} is {min}, but request is {request}"
                ));
            }
            Some(_) => {}
        }
    }
    for (name, value) in each("max") {
        let Some(max) = parse(&value) else { continue };
        let word = capped.trim_end_matches('s');
        match get(capped, &name) {
            None => problems.push(format!(
                "maximum {name} usage per {kind} is {max}.  No {word} is specified"
            )),
            Some(limit) if limit > max => {
                problems.push(format!(
                    "maximum {name} usage per {kind} is {max}, but {word} is {limit}"
                ));
            }
            Some(_) => {}
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
}
