//! What pods take of a node: amounts of resources, and ports. Pure, read from the object as the API has it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity;

/// An amount of each resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Amounts {
    /// Thousandths of a core.
    cpu_milli: i64,
    memory_bytes: i64,
    storage_bytes: i64,
    /// Huge pages and extended resources.
    pub(super) others: BTreeMap<String, i64>,
}

impl Amounts {
    /// From a JSON object of quantities. Those of `pods` are no amounts that pods ask for.
    pub(super) fn read(quantities: &Value) -> Amounts {
        let mut amounts = Amounts::default();
        for (name, quantity) in quantities.as_object().into_iter().flatten() {
            let number = match name.as_str() {
                "pods" => continue,
                "cpu" => quantity::milli_of(quantity),
                _ => quantity::units_of(quantity),
            };
            *amounts.entry(name) = number.map_or(0, counted);
        }
        amounts
    }

    pub(super) fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu_milli,
            "memory" => self.memory_bytes,
            "ephemeral-storage" => self.storage_bytes,
            _ => self.others.get(name).copied().unwrap_or(0),
        }
    }

    fn entry(&mut self, name: &str) -> &mut i64 {
        match name {
            "cpu" => &mut self.cpu_milli,
            "memory" => &mut self.memory_bytes,
            "ephemeral-storage" => &mut self.storage_bytes,
            _ => self.others.entry(name.to_owned()).or_default(),
        }
    }

    /// The names of what there can be an amount of.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let usual = ["cpu", "memory", "ephemeral-storage"];
        usual
            .into_iter()
            .chain(self.others.keys().map(String::as_str))
    }

    fn combine(&mut self, other: &Amounts, operation: fn(i64, i64) -> i64) {
        for name in other.names() {
            let mine = self.entry(name);
            *mine = operation(*mine, other.get(name));
        }
    }

    pub(super) fn add(&mut self, other: &Amounts) {
        self.combine(other, i64::saturating_add);
    }

    /// What the containers of a pod ask for: all that run side by side, or the largest step of the initialisation where
    /// that is more; an amount for the whole pod counts in place of theirs. Where `status` says what a container was given,
    /// that counts in place of what it asks for by now.
    fn of(spec: &Value, status: &Value) -> Amounts {
        let (mut running, mut sidecars, mut init) = <(Amounts, Amounts, Amounts)>::default();
        for container in items(&spec["containers"]) {
            running.add(&Amounts::read(requests(
                container,
                &status["containerStatuses"],
            )));
        }
        for container in items(&spec["initContainers"]) {
            let given = &status["initContainerStatuses"];
            let mut step = Amounts::read(requests(container, given));
            if container["restartPolicy"] == "Always" {
                sidecars.add(&step);
                init.combine(&sidecars, i64::max);
            } else {
                step.add(&sidecars);
                init.combine(&step, i64::max);
            }
        }
        running.add(&sidecars);
        running.combine(&init, i64::max);
        let whole = &spec["resources"]["requests"];
        let amounts = Amounts::read(whole);
        for name in amounts.names().filter(|name| !whole[*name].is_null()) {
            *running.entry(name) = amounts.get(name);
        }
        running.add(&Amounts::read(&spec["overhead"]));
        running
    }
}

/// What a container was given according to these statuses, else what it asks for.
fn requests<'a>(container: &'a Value, statuses: &'a Value) -> &'a Value {
    let status = items(statuses).find(|status| status["name"] == container["name"]);
    let given = status.map(|status| &status["allocatedResources"]);
    given
        .filter(|given| given.is_object())
        .unwrap_or(&container["resources"]["requests"])
}

fn counted(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A port of the node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostPort {
    number: u64,
    ip: String,
    protocol: String,
}

impl HostPort {
    /// Those of the containers that go on running.
    fn of(spec: &Value) -> Vec<HostPort> {
        let sidecars = items(&spec["initContainers"]);
        let sidecars = sidecars.filter(|container| container["restartPolicy"] == "Always");
        let containers = items(&spec["containers"]).chain(sidecars);
        let ports = containers.flat_map(|container| items(&container["ports"]));
        let read = |port: &Value| {
            let number = port["hostPort"].as_u64().filter(|number| *number != 0)?;
            let text = |field: &str| port[field].as_str().unwrap_or_default();
            let protocol = Some(text("protocol")).filter(|text| !text.is_empty());
            Some(HostPort {
                number,
                ip: text("hostIP").to_owned(),
                protocol: protocol.unwrap_or("TCP").to_owned(),
            })
        };
        ports.filter_map(read).collect()
    }

    pub(super) fn conflicts(&self, other: &HostPort) -> bool {
        let everywhere = |port: &HostPort| matches!(port.ip.as_str(), "" | "0.0.0.0");
        self.number == other.number
            && self.protocol == other.protocol
            && (self.ip == other.ip || everywhere(self) || everywhere(other))
    }
}

/// What one pod takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Share {
    pub(super) amounts: Amounts,
    pub(super) ports: Vec<HostPort>,
}

impl Share {
    /// What the pod has been given, or asks for where it has been given nothing yet.
    pub(crate) fn of(pod: &Value) -> Share {
        Share::beside(pod, &pod["status"])
    }

    /// What the pod asks for, whatever it has been given.
    pub(crate) fn asked(pod: &Value) -> Share {
        Share::beside(pod, &Value::Null)
    }

    fn beside(pod: &Value, given: &Value) -> Share {
        let mut amounts = Amounts::of(&pod["spec"], given);
        // What the scheduler gave it devices for is not the node's to give, also where that says that it has none of it.
        let by_devices = &pod["status"]["extendedResourceClaimStatus"]["requestMappings"];
        for resource in items(by_devices).filter_map(|mapping| mapping["resourceName"].as_str()) {
            amounts.others.remove(resource);
        }
        Share {
            amounts,
            ports: HostPort::of(&pod["spec"]),
        }
    }
}

/// What all pods on a node take together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Used {
    pub(super) pods: i64,
    pub(super) amounts: Amounts,
    pub(super) ports: Vec<HostPort>,
}

impl Used {
    pub(crate) fn add(&mut self, share: &Share) {
        self.pods += 1;
        self.amounts.add(&share.amounts);
        self.ports.extend_from_slice(&share.ports);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asking(cpu: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn a_pod_asks_for_what_it_needs_at_its_largest() {
        let sidecar = json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        let init = [asking("2"), sidecar.clone(), asking("3")];
        for (spec, expected) in [
            (json!({"containers": [asking("1"), asking("500m")]}), 1500),
            (
                json!({"initContainers": [asking("2")], "containers": [asking("1")]}),
                2000,
            ),
            (
                json!({"initContainers": init, "containers": [asking("1")]}),
                4000,
            ),
            (
                json!({"initContainers": [sidecar], "containers": [asking("1")]}),
                2000,
            ),
            (
                json!({"containers": [asking("1")], "resources": {"requests": {"cpu": "3"}},
                       "overhead": {"cpu": "250m"}}),
                3250,
            ),
            (json!({"containers": [{}]}), 0),
            (Value::Null, 0),
        ] {
            let amounts = Amounts::of(&spec, &Value::Null);
            assert_eq!(amounts.get("cpu"), expected, "{spec}");
        }
    }

    #[test]
    fn what_was_given_counts_and_not_what_is_asked_for_since() {
        let mut container = asking("2");
        container["name"] = json!("c");
        let given = json!([{"name": "c", "allocatedResources": {"cpu": "1"}}]);
        let pod =
            json!({"spec": {"containers": [container]}, "status": {"containerStatuses": given}});
        assert_eq!(Share::of(&pod).amounts.get("cpu"), 1000);
        assert_eq!(Share::asked(&pod).amounts.get("cpu"), 2000);
    }

    #[test]
    fn resources_are_counted_by_their_names() {
        let requests = json!({"memory": "1Ki", "ephemeral-storage": 7, "pods": "3", "hugepages-2Mi": "4Mi",
                              "cpu": "nonsense"});
        let amounts = Amounts::read(&requests);
        let names = [
            "cpu",
            "memory",
            "ephemeral-storage",
            "hugepages-2Mi",
            "pods",
        ];
        let numbers = names.map(|name| amounts.get(name));
        assert_eq!(numbers, [0, 1024, 7, 4 << 20, 0]);
        let mut twice = amounts.clone();
        twice.add(&amounts);
        assert_eq!(twice.get("hugepages-2Mi"), 8 << 20);
    }

    #[test]
    fn what_a_pod_has_devices_for_it_does_not_take_of_the_node() {
        let requests = json!({"cpu": "1", "example.com/gpu": "2", "example.com/other": "3"});
        let mut pod = json!({"spec": {"containers": [{"resources": {"requests": requests}}]}});
        let amounts = |pod: &Value| {
            let amounts = Share::of(pod).amounts;
            ["cpu", "example.com/gpu", "example.com/other"].map(|name| amounts.get(name))
        };
        assert_eq!(amounts(&pod), [1000, 2, 3]);
        let mapping = json!({"containerName": "c", "resourceName": "example.com/gpu", "requestName": "container-0-request-1"});
        pod["status"]["extendedResourceClaimStatus"] = json!({"requestMappings": [mapping]});
        assert_eq!(amounts(&pod), [1000, 0, 3]);
    }

    #[test]
    fn an_init_container_takes_no_port_for_good() {
        let spec = json!({"initContainers": [{"ports": [{"hostPort": 1}]},
                                             {"restartPolicy": "Always", "ports": [{"hostPort": 2}]}],
                          "containers": [{"ports": [{"containerPort": 3}, {"hostPort": 0}]}, {}]});
        let ports = HostPort::of(&spec);
        let numbers: Vec<u64> = ports.iter().map(|port| port.number).collect();
        assert_eq!(numbers, [2]);
        assert_eq!(ports[0].protocol, "TCP");
    }
}
