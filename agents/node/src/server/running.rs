//! `/runningpods/`: the pods of which something runs, as far as the runtime knows them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::runtime::Observed;

/// The list that a kubelet answers: names, UIDs and images, and nothing that only the API knows.
pub(crate) fn running_pods(all: &[Observed]) -> Value {
    let mut pods: BTreeMap<&str, Vec<&Observed>> = BTreeMap::new();
    let running = all.iter().filter(|one| one.is_running());
    for one in running.filter(|one| !one.is_sandbox()) {
        let pod = pods.entry(one.identity.pod_uid.as_str());
        pod.or_default().push(one);
    }
    let pod = |containers: Vec<&Observed>| {
        let identity = &containers.first()?.identity;
        let of = |one: &&Observed| json!({"name": one.identity.container, "image": one.image, "resources": {}});
        let of: Vec<Value> = containers.iter().map(of).collect();
        Some(json!({
            "metadata": {
                "name": identity.pod_name,
                "namespace": identity.pod_namespace,
                "uid": identity.pod_uid,
                "creationTimestamp": null,
            },
            "spec": {"containers": of},
            "status": {},
        }))
    };
    let items: Vec<Value> = pods.into_values().filter_map(pod).collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::runtime::{Identity, SANDBOX, State};

    #[test]
    fn what_runs_is_told_by_pods() {
        let at = OffsetDateTime::UNIX_EPOCH;
        let one = |pod: &str, container: &str, state: State| Observed {
            id: String::new(),
            identity: Identity {
                pod_name: pod.into(),
                pod_namespace: "d".into(),
                pod_uid: format!("uid-{pod}"),
                container: container.into(),
                attempt: 0,
            },
            state,
            created_at: at,
            image: "i".into(),
            image_id: String::new(),
            labels: BTreeMap::new(),
            ip: None,
            pid: None,
            limits: None,
        };
        let runs = || State::Running { started_at: at };
        let all = [
            one("a", SANDBOX, runs()),
            one("a", "x", runs()),
            one("a", "y", runs()),
            one("a", "z", State::Created),
            one("b", SANDBOX, runs()),
        ];
        let list = running_pods(&all);
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{list}");
        assert_eq!(items[0]["metadata"]["uid"], "uid-a");
        let containers = &items[0]["spec"]["containers"];
        assert_eq!(
            [&containers[0]["name"], &containers[1]["image"]],
            ["x", "i"]
        );
        assert_eq!(containers.as_array().map(Vec::len), Some(2));
    }
}
