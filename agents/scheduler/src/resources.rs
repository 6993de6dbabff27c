//! Amounts of resources: what a pod asks for, what a node has.

use crate::object::field;
use crate::quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a container without a cpu request counts as when nodes are scored, in thousandths of a core.
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// What a container without a memory request counts as when nodes are scored, in bytes.
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// An amount of each resource. Everything else than the three usual ones stands by name in `scalar`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, in whole units.
    pub scalar: BTreeMap<String, i64>,
}

impl Resources {
    /// From a JSON object of quantities. `pods` is not an amount that pods ask for and is skipped.
    pub fn parse(value: Option<&Value>) -> Resources {
        let mut resources = Resources::default();
        for (name, quantity) in value.and_then(Value::as_object).into_iter().flatten() {
            let text = quantity_text(quantity);
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity::milli_value(&text),
                "memory" => resources.memory = quantity::value(&text),
                "ephemeral-storage" => resources.ephemeral_storage = quantity::value(&text),
                "pods" => {}
                _ => {
                    resources
                        .scalar
                        .insert(name.clone(), quantity::value(&text));
                }
            }
        }
        resources
    }

    /// The amount of a resource by its name.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            _ => self.scalar.get(name).copied().unwrap_or(0),
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_sub);
    }

    /// Whether an amount is as large as can be counted, and perhaps larger.
    pub fn is_saturated(&self) -> bool {
        let usual = [self.milli_cpu, self.memory, self.ephemeral_storage];
        usual
            .iter()
            .chain(self.scalar.values())
            .any(|amount| *amount == i64::MAX)
    }

    /// Raises each amount to at least that of `other`.
    pub fn raise_to(&mut self, other: &Resources) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Resources, operation: fn(i64, i64) -> i64) {
        self.milli_cpu = operation(self.milli_cpu, other.milli_cpu);
        self.memory = operation(self.memory, other.memory);
        self.ephemeral_storage = operation(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let mine = self.scalar.entry(name.clone()).or_default();
            *mine = operation(*mine, *amount);
        }
    }
}

/// A quantity is a string, but a bare number is legal JSON for it too.
pub(crate) fn quantity_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_string)
}

/// What a pod asks for in total, from its `spec`: the containers and sidecars together, or the largest step of the
/// init sequence if that is more, plus the overhead. Amounts given for the whole pod replace the sum.
///
/// A container that is being resized counts with the largest of what it asks for, what it was given and what it has, all of which
/// `status` tells; where the node cannot give what it asks for, with what it was given and has.
///
/// With `defaults`, containers that name no cpu or memory count as [`DEFAULT_MILLI_CPU`] and [`DEFAULT_MEMORY`].
pub fn pod_requests(spec: &Value, status: &Value, defaults: bool) -> Resources {
    let in_vain = is_infeasible(status);
    let pod_level = field(spec, "/resources/requests");
    let pod_level_set = |name: &str| pod_level.and_then(|r| r.get(name)).is_some();
    let of = |container: &Value, statuses: &str| {
        let requests = field(container, "/resources/requests");
        let names = |name: &str| requests.and_then(|r| r.get(name)).is_some();
        let mut resources = Resources::parse(requests);
        let told = items(status, statuses).find(|told| told.get("name") == container.get("name"));
        if let Some(given) = told.and_then(given) {
            match in_vain {
                true => resources = given,
                false => resources.raise_to(&given),
            }
        }
        if defaults && !names("cpu") && !pod_level_set("cpu") {
            resources.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if defaults && !names("memory") && !pod_level_set("memory") {
            resources.memory = DEFAULT_MEMORY;
        }
        resources
    };

    let mut running = Resources::default();
    for container in items(spec, "containers") {
        running.add(&of(container, "containerStatuses"));
    }
    let mut sidecars = Resources::default();
    let mut init = Resources::default();
    for container in items(spec, "initContainers") {
        let mut step = of(container, "initContainerStatuses");
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            sidecars.add(&step);
            init.raise_to(&sidecars);
        } else {
            step.add(&sidecars);
            init.raise_to(&step);
        }
    }
    running.add(&sidecars);
    running.raise_to(&init);

    let whole = Resources::parse(pod_level);
    if pod_level_set("cpu") {
        running.milli_cpu = whole.milli_cpu;
    }
    if pod_level_set("memory") {
        running.memory = whole.memory;
    }
    running.scalar.extend(whole.scalar);
    running.add(&Resources::parse(spec.get("overhead")));
    running
}

/// What a container was given or has, whatever is more, according to its status.
fn given(status: &Value) -> Option<Resources> {
    let allocated = status.get("allocatedResources");
    let has = field(status, "/resources/requests");
    let first = allocated.or(has)?;
    let mut resources = Resources::parse(Some(first));
    resources.raise_to(&Resources::parse(has));
    Some(resources)
}

/// Whether the node has said that it cannot give what the pod asks for.
fn is_infeasible(status: &Value) -> bool {
    let text = |condition: &Value, field: &str, word: &str| {
        condition.get(field).and_then(Value::as_str) == Some(word)
    };
    items(status, "conditions").any(|condition| {
        text(condition, "type", "PodResizePending") && text(condition, "reason", "Infeasible")
    })
}

/// The elements of an array field, none when it is absent.
pub fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> Value {
        json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn init_containers_count_by_their_largest_step_and_sidecars_stay() {
        let table = [
            (
                json!({"containers": [container("1"), container("500m")]}),
                1500,
            ),
            (
                json!({"initContainers": [container("2")], "containers": [container("1")]}),
                2000,
            ),
            (
                json!({"initContainers": [sidecar("1"), container("2")], "containers": [container("1")]}),
                3000,
            ),
            (
                json!({"initContainers": [container("2"), sidecar("1")], "containers": [container("1")]}),
                2000,
            ),
            (
                json!({"initContainers": [sidecar("1"), sidecar("1")], "containers": [container("1")]}),
                3000,
            ),
            (
                json!({"containers": [container("1")], "overhead": {"cpu": "100m"}}),
                1100,
            ),
            (
                json!({"containers": [container("1")], "resources": {"requests": {"cpu": "4"}}}),
                4000,
            ),
        ];
        for (spec, expected) in table {
            let requests = pod_requests(&spec, &Value::Null, false);
            assert_eq!(requests.milli_cpu, expected, "{spec}");
        }
    }

    #[test]
    fn a_resize_counts_with_the_most_that_it_may_take() {
        let spec = |cpu: &str| json!({"containers": [container(cpu)]});
        let status = |given: &str, has: &str, reason: &str| {
            json!({"conditions": [{"type": "PodResizePending", "reason": reason}],
                   "containerStatuses": [{"name": "c", "allocatedResources": {"cpu": given},
                                          "resources": {"requests": {"cpu": has}}}]})
        };
        let table = [
            ("3", status("1", "1", "Deferred"), 3000),
            ("3", status("1", "1", "Infeasible"), 1000),
            ("1", status("2", "2", "Deferred"), 2000),
            ("1", status("1", "2", "Deferred"), 2000),
            ("1", json!({"containerStatuses": [{"name": "c"}]}), 1000),
            (
                "1",
                json!({"containerStatuses": [{"name": "d", "allocatedResources": {"cpu": "9"}}]}),
                1000,
            ),
        ];
        for (asked, status, expected) in table {
            let requests = pod_requests(&spec(asked), &status, false);
            assert_eq!(requests.milli_cpu, expected, "{asked} {status}");
        }
    }

    #[test]
    fn a_container_without_requests_counts_by_default_only_when_scored() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "0"}}}]});
        assert_eq!(
            pod_requests(&spec, &Value::Null, false),
            Resources::default()
        );
        let scored = pod_requests(&spec, &Value::Null, true);
        assert_eq!(
            (scored.milli_cpu, scored.memory),
            (DEFAULT_MILLI_CPU, 2 * DEFAULT_MEMORY)
        );
    }

    #[test]
    fn extended_resources_are_kept_by_name() {
        let requests = json!({"example.com/gpu": "2", "hugepages-2Mi": "4Mi", "pods": "3"});
        let parsed = Resources::parse(Some(&requests));
        assert_eq!(parsed.scalar.get("example.com/gpu"), Some(&2));
        assert_eq!(parsed.scalar.get("hugepages-2Mi"), Some(&4_194_304));
        assert_eq!(parsed.scalar.len(), 2);
    }
}
