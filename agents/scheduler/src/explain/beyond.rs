//! What plugins say of a pod that look beyond its nodes: when its turn is, and what becomes of its group.

use crate::config::GANG_SCHEDULING;
use crate::gang::{Relief, Verdict, place};
use crate::object::Pod;
use crate::world::World;
use agent_runtime::timestamp;
use serde::Serialize;

/// What decides when the turn of a pod is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfQueue {
    /// The plugin that sorts.
    pub plugin: &'static str,
    /// What it says of the pod.
    pub message: String,
}

/// What becomes of the group of a pod.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfGroup {
    /// The plugin.
    pub plugin: &'static str,
    /// The group.
    pub name: String,
    /// How many have to be placed together.
    pub min_count: usize,
    /// How many are there, the pod itself included.
    pub there: usize,
    /// How many of them have a node, the pod itself not included.
    pub placed: usize,
    /// How many of the others find one now; absent while too few are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<usize>,
    /// What the event says when too few do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Who would have to go for the group, by namespace and name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub victims: Vec<String>,
}

/// What the sort says, unless it is only priority and time.
pub(super) fn of_queue(pod: &Pod, world: &World) -> Option<OfQueue> {
    let sort = world.config.sort;
    let message = match (world.config.shares(), &world.snapshot.usage) {
        (Some(args), Some(usage)) => {
            let labels = world.snapshot.namespace_labels(&pod.namespace);
            let weight = args.weight(&pod.namespace, labels);
            let (share, resource) = usage.share(&pod.namespace, weight);
            let of = match resource {
                "" => String::new(),
                resource => format!(", by {resource}"),
            };
            let (namespace, percent) = (&pod.namespace, share.percent());
            format!(
                "namespace {namespace} has the share {percent:.3} % with weight {weight}{of}; the smallest is first"
            )
        }
        _ if sort.name == "EarliestDeadline" => match pod.deadline.micros() {
            Some(deadline) => format!("its deadline is {}", timestamp::time(deadline)),
            None => "it has no deadline, and comes after those that have one".into(),
        },
        _ => return None,
    };
    Some(OfQueue {
        plugin: sort.name,
        message,
    })
}

/// What becomes of the group, decided over the world, which is not fit for anything else afterwards.
pub(super) fn of_group(pod: &Pod, world: &mut World) -> Option<OfGroup> {
    let key = world.queue.gang_of(pod)?;
    let there = world.queue.members().of(&key).count();
    let mut told = OfGroup {
        plugin: GANG_SCHEDULING,
        name: key.1.clone(),
        min_count: world.queue.members().min_count(&key),
        there,
        placed: world.placed_of(&key),
        fit: None,
        message: None,
        victims: Vec::new(),
    };
    let waiting = world.queue.take_gang(&key);
    match place(world, &key, waiting, &mut 0, &mut |_| 0) {
        Verdict::Placed { bound, .. } => told.fit = Some(bound.len()),
        Verdict::Refused {
            fit,
            message,
            relief,
            ..
        } => {
            told.fit = Some(fit);
            told.message = Some(message);
            if let Relief::Evict { victims, .. } = relief {
                let names = victims.iter();
                let names = names.map(|(v, _)| format!("{}/{}", v.namespace, v.name));
                told.victims = names.collect();
            }
        }
        Verdict::Incomplete(_) => {}
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::super::Picture;
    use crate::config::Config;
    use agent_runtime::resource_ref::{NODES, PODS};
    use serde_json::{Value, json};

    const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- plugins: ";

    fn pod(name: &str, cpu: &str, on: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "team", "uid": name,
                "labels": {"scheduling.kontiki.io/pod-group": "g"},
                "annotations": {"scheduling.kontiki.io/pod-group-min-count": "3",
                    "scheduling.kontiki.io/deadline": "2026-01-01T00:00:00Z"}},
            "spec": {"nodeName": on, "containers": [{"resources": {"requests": {"cpu": cpu}}}]}})
    }

    fn picture(plugins: &str, pods: &[Value]) -> Picture {
        let mut picture = Picture::new(Config::parse(&format!("{HEAD}{plugins}")).unwrap());
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "10"}}});
        picture.add(&NODES, &node);
        pods.iter().for_each(|pod| picture.add(&PODS, pod));
        picture
    }

    #[test]
    fn how_many_of_the_group_fit_is_told() {
        let plugins = "{multiPoint: {enabled: [{name: GangScheduling}]}}";
        let asked = pod("a", "3", "");
        let told = picture(plugins, &[pod("b", "3", "")])
            .explain(&asked)
            .unwrap();
        assert_eq!(told.gates[0].plugin, "GangScheduling");
        let others = [pod("b", "3", ""), pod("c", "3", "")];
        let told = picture(plugins, &others).explain(&asked).unwrap();
        let group = told.group.unwrap();
        assert_eq!((told.gates.len(), group.there, group.fit), (0, 3, Some(2)));
        assert_eq!(
            group.message.unwrap(),
            "2 of 3 waiting pods of pod group \"g\" fit, and 3 are needed: 0/1 nodes are available: 1 Insufficient cpu. \
             preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        );
        // Somebody who matters less.
        let mut low = pod("low", "3", "n");
        low["spec"]["priority"] = json!(-1);
        low["metadata"]["labels"] = json!({});
        let others = [pod("b", "3", ""), pod("c", "2", ""), low];
        let told = picture(plugins, &others).explain(&asked).unwrap();
        let group = told.group.unwrap();
        assert_eq!(
            (group.fit, group.victims),
            (Some(2), vec!["team/low".to_owned()])
        );
        assert_eq!(told.preemption, None);
        let others = [pod("b", "3", "n"), pod("c", "2", "")];
        let group = picture(plugins, &others)
            .explain(&asked)
            .unwrap()
            .group
            .unwrap();
        assert_eq!((group.placed, group.fit, group.message), (1, Some(2), None));
        let told = picture("{}", &others).explain(&asked).unwrap();
        assert_eq!((told.group, told.queue, told.gates.len()), (None, None, 0));
    }

    #[test]
    fn when_its_turn_is_is_told() {
        let sorted = |name: &str| {
            let plugins = format!(
                "{{queueSort: {{disabled: [{{name: '*'}}], enabled: [{{name: {name}}}]}}}}"
            );
            let picture = picture(&plugins, &[pod("b", "2", "n")]);
            picture.explain(&pod("a", "1", "")).unwrap().queue.unwrap()
        };
        assert_eq!(
            sorted("FairShare").message,
            "namespace team has the share 25.000 % with weight 1, by cpu; the smallest is first"
        );
        assert_eq!(
            sorted("EarliestDeadline").message,
            "its deadline is 2026-01-01T00:00:00Z"
        );
    }
}
