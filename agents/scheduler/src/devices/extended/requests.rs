//! What the containers of a pod ask for by the names of extended resources, and the requests of a claim that meet it.
//!
//! Containers that run side by side have devices of their own. An init container that ends before the next one begins takes those of
//! the containers after it, and what is missing then is asked for once, for the one of them that lacks most.

use super::PREFIX;
use crate::object::{field, text};
use crate::quantity;
use crate::resources::{items, quantity_text};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What a container asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asking {
    /// The container's name.
    pub container: String,
    /// Where it stands among the init containers, and the containers after them.
    pub at: usize,
    /// Whether it ends before others begin: an init container that is no sidecar.
    pub ends: bool,
    /// What it asks for by such names.
    pub resources: Vec<Asked>,
}

/// A resource that a container asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The resource.
    pub name: String,
    /// How much of it, more than nothing.
    pub amount: i64,
    /// Where it stands among all that the container requests, by name.
    pub at: usize,
}

/// The containers of a pod that ask for extended resources, from its `spec`.
pub fn askings(spec: &Value) -> Vec<Asking> {
    let before = items(spec, "initContainers").map(|container| (container, true));
    let beside = items(spec, "containers").map(|container| (container, false));
    let all = before.chain(beside).enumerate();
    all.filter_map(|(at, (container, is_init))| asking(at, container, is_init))
        .collect()
}

fn asking(at: usize, container: &Value, is_init: bool) -> Option<Asking> {
    let requests = field(container, "/resources/requests")?.as_object()?;
    let mut names: Vec<&String> = requests.keys().collect();
    names.sort();
    let asked = names.into_iter().enumerate().filter_map(|(at, name)| {
        let amount = quantity::value(&quantity_text(requests.get(name)?));
        (is_extended(name) && amount > 0).then(|| Asked {
            name: name.clone(),
            amount,
            at,
        })
    });
    let resources: Vec<Asked> = asked.collect();
    let is_sidecar = text(container, "/restartPolicy") == "Always";
    (!resources.is_empty()).then(|| Asking {
        container: text(container, "/name"),
        at,
        ends: is_init && !is_sidecar,
        resources,
    })
}

/// Whether devices may stand for a resource of this name: somebody else than Kubernetes has defined it, or it names a class.
fn is_extended(name: &str) -> bool {
    let foreign = name.contains('/') && !name.contains("kubernetes.io/");
    name.starts_with(PREFIX) || foreign && !name.starts_with("requests.")
}

/// Requests of a claim, and which of them is for which container.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Requests {
    /// By name, as they stand in a claim.
    pub(super) requests: Vec<Value>,
    /// As they stand in the status of the pod.
    pub(super) mappings: Vec<Value>,
}

struct Request {
    name: String,
    /// The container that it is made for.
    at: usize,
    count: i64,
}

impl Request {
    fn new(asking: &Asking, asked: &Asked, count: i64) -> Request {
        Request {
            name: format!("container-{}-request-{}", asking.at, asked.at),
            at: asking.at,
            count,
        }
    }
}

/// For a container.
struct Mapping<'a> {
    container: &'a str,
    request: String,
}

/// The requests for these resources, each with its class; both in the order of the resources.
pub(super) fn requests(askings: &[Asking], wanted: &[(&str, &str)]) -> Requests {
    let mut made: Vec<(Request, &str)> = Vec::new();
    let mut mappings = Vec::new();
    for (resource, class) in wanted {
        let (lasting, mut all) = of_lasting(askings, resource);
        let (ending, more) = of_ending(askings, resource, &lasting);
        all.extend(more);
        mappings.extend(all.into_iter().map(|Mapping { container, request }| {
            json!({"containerName": container, "resourceName": resource, "requestName": request})
        }));
        let requests = ending.into_iter().chain(lasting);
        made.extend(requests.map(|request| (request, *class)));
    }
    made.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    let requests = made.into_iter().map(|(request, class)| {
        json!({"name": request.name, "exactly": {
            "deviceClassName": class, "allocationMode": "ExactCount", "count": request.count}})
    });
    Requests {
        requests: requests.collect(),
        mappings,
    }
}

/// Those that ask for the resource, and end or not.
fn those<'a>(
    askings: &'a [Asking],
    resource: &'a str,
    ends: bool,
) -> impl Iterator<Item = (&'a Asking, &'a Asked)> {
    let askings = askings.iter().filter(move |asking| asking.ends == ends);
    askings.filter_map(move |asking| {
        let mut resources = asking.resources.iter();
        let asked = resources.find(|asked| asked.name == resource)?;
        Some((asking, asked))
    })
}

/// For containers that run side by side: each has its own.
fn of_lasting<'a>(askings: &'a [Asking], resource: &'a str) -> (Vec<Request>, Vec<Mapping<'a>>) {
    let (mut requests, mut mappings) = (Vec::new(), Vec::new());
    for (asking, asked) in those(askings, resource, false) {
        let request = Request::new(asking, asked, asked.amount);
        mappings.push(Mapping {
            container: &asking.container,
            request: request.name.clone(),
        });
        requests.push(request);
    }
    (requests, mappings)
}

/// For containers that run one after the other: those of the containers after each, and one more for all that is missing.
fn of_ending<'a>(
    askings: &'a [Asking],
    resource: &'a str,
    lasting: &[Request],
) -> (Option<Request>, Vec<Mapping<'a>>) {
    let mut largest: Option<Request> = None;
    let (mut own, mut mappings) = (BTreeSet::new(), Vec::new());
    for (asking, asked) in those(askings, resource, true) {
        let mut missing = asked.amount;
        for later in lasting.iter().filter(|later| later.at > asking.at) {
            if missing <= 0 {
                break;
            }
            missing = missing.saturating_sub(later.count);
            mappings.push(Mapping {
                container: &asking.container,
                request: later.name.clone(),
            });
        }
        if missing <= 0 {
            continue;
        }
        let request = Request::new(asking, asked, missing);
        own.insert(request.name.clone());
        mappings.push(Mapping {
            container: &asking.container,
            request: request.name.clone(),
        });
        if largest.as_ref().is_none_or(|l| l.count < request.count) {
            largest = Some(request);
        }
    }
    if let Some(largest) = &largest {
        for mapping in mappings.iter_mut().filter(|m| own.contains(&m.request)) {
            mapping.request.clone_from(&largest.name);
        }
    }
    (largest, mappings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: &str = "example.com/gpu";

    fn asks(name: &str, amount: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": "1", GPU: amount}}})
    }

    fn sidecar(name: &str, amount: &str) -> Value {
        let mut container = asks(name, amount);
        container["restartPolicy"] = json!("Always");
        container
    }

    /// `request*count` for each request, and `container>request` for each mapping.
    fn short(spec: &Value, wanted: &[(&str, &str)]) -> (String, String) {
        let Requests { requests, mappings } = requests(&askings(spec), wanted);
        let name = |request: &str| {
            let name = request.replace("container-", "c");
            name.replace("-request-", "r")
        };
        let of = |value: &Value, pointer: &str| text(value, pointer);
        let requests = requests.iter().map(|request| {
            let count = &request["exactly"]["count"];
            format!("{}*{count}", name(&of(request, "/name")))
        });
        let mappings = mappings.iter().map(|mapping| {
            let request = name(&of(mapping, "/requestName"));
            format!("{}>{request}", of(mapping, "/containerName"))
        });
        let requests: Vec<String> = requests.collect();
        let mappings: Vec<String> = mappings.collect();
        (requests.join(" "), mappings.join(" "))
    }

    #[test]
    fn containers_have_their_own_and_init_containers_share() {
        let table = [
            (
                json!({"containers": [asks("a", "2"), {"name": "b"}, asks("c", "1")]}),
                "c0r1*2 c2r1*1",
                "a>c0r1 c>c2r1",
            ),
            // The init container has the devices of those after it, as far as it needs them.
            (
                json!({"initContainers": [asks("i", "1")], "containers": [asks("a", "1"), asks("b", "1")]}),
                "c1r1*1 c2r1*1",
                "a>c1r1 b>c2r1 i>c1r1",
            ),
            (
                json!({"initContainers": [asks("i", "3")], "containers": [asks("a", "1"), asks("b", "1")]}),
                "c0r1*1 c1r1*1 c2r1*1",
                "a>c1r1 b>c2r1 i>c1r1 i>c2r1 i>c0r1",
            ),
            // Those that lack less share what is there for the one that lacks most.
            (
                json!({"initContainers": [asks("i", "2"), asks("j", "4"), asks("k", "3")], "containers": [asks("a", "1")]}),
                "c1r1*3 c3r1*1",
                "a>c3r1 i>c3r1 i>c1r1 j>c3r1 j>c1r1 k>c3r1 k>c1r1",
            ),
            // A sidecar runs on, and only init containers before it can have its devices.
            (
                json!({"initContainers": [asks("i", "2"), sidecar("s", "1"), asks("j", "2")], "containers": [asks("a", "1")]}),
                "c1r1*1 c2r1*1 c3r1*1",
                "s>c1r1 a>c3r1 i>c1r1 i>c3r1 j>c3r1 j>c2r1",
            ),
            (
                json!({"initContainers": [asks("i", "2")], "containers": [{"name": "a"}]}),
                "c0r1*2",
                "i>c0r1",
            ),
        ];
        for (spec, requests, mappings) in table {
            let (requests, mappings) = (requests.to_owned(), mappings.to_owned());
            assert_eq!(
                short(&spec, &[(GPU, "gpu")]),
                (requests, mappings),
                "{spec}"
            );
        }
    }

    #[test]
    fn each_resource_has_requests_of_its_class_and_others_have_none() {
        let spec = json!({"containers": [{"name": "a", "resources": {"requests": {
            "example.com/b": "1", "example.com/a": "2", "example.com/none": "0", "memory": "1Gi",
            "kubernetes.io/x": "1", "requests.example.com/y": "1", "deviceclass.resource.kubernetes.io/c": 3}}}]});
        let asking = askings(&spec).pop().unwrap();
        let names = asking
            .resources
            .iter()
            .map(|asked| (&*asked.name, asked.at));
        let names: Vec<(&str, usize)> = names.collect();
        let implicit = "deviceclass.resource.kubernetes.io/c";
        let expected = [(implicit, 0), ("example.com/a", 1), ("example.com/b", 2)];
        assert_eq!(names, expected);
        let made = requests(&[asking], &[(implicit, "c"), ("example.com/b", "bs")]);
        assert_eq!(
            made.requests[0],
            json!({"name": "container-0-request-0", "exactly": {
                "deviceClassName": "c", "allocationMode": "ExactCount", "count": 3}})
        );
        assert_eq!(made.requests[1]["exactly"]["deviceClassName"], "bs");
        assert_eq!(
            made.mappings,
            [
                json!({"containerName": "a", "resourceName": implicit, "requestName": "container-0-request-0"}),
                json!({"containerName": "a", "resourceName": "example.com/b", "requestName": "container-0-request-2"}),
            ]
        );
        assert!(askings(&json!({"containers": [{}, {"resources": {"requests": 5}}]})).is_empty());
    }
}
