//! Resolves a pod's priority class into its number; keeps the default class unique, and the system's classes.

use schema::Object;

use crate::admission::{Admission, Operation};
use crate::status::ApiResult;

const GROUP: &str = "scheduling.k8s.io";
/// The classes of what a cluster cannot do without. Nobody deletes them.
const SYSTEM: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

pub(super) fn mutate(admission: &Admission<'_>, pod: &mut Object) -> ApiResult<()> {
    if !admission.creates("", "pods") {
        return Ok(());
    }
    let server = &admission.context.server;
    let (world, priorities) = (&server.world, &server.facts.priorities);
    let named = pod.get_str(&["spec", "priorityClassName"]);
    let class = match named.unwrap_or_default() {
        // With several defaults (a race of two writers) the lowest counts, as in Kubernetes.
        "" => world
            .list(GROUP, "priorityclasses", "")
            .iter()
            .map(|entry| priorities.of(entry))
            .filter(|class| class.is_default)
            .min_by_key(|class| class.value),
        named => match world.get(GROUP, "priorityclasses", "", named) {
            Some(entry) => Some(priorities.of(&entry)),
            None => {
                let text = format!("no PriorityClass with name {named} was found");
                return Err(admission.forbid(pod, &text));
            }
        },
    };
    let (value, policy) = match &class {
        Some(class) => {
            pod.set(&["spec", "priorityClassName"], class.name.as_str());
            (class.value, class.preemption.as_str())
        }
        None => (0, "PreemptLowerPriority"),
    };
    if let Some(given) = pod
        .get_i64(&["spec", "priority"])
        .filter(|given| *given != value)
    {
        let text = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        );
        return Err(admission.forbid(pod, &text));
    }
    if let Some(given) = pod
        .get_str(&["spec", "preemptionPolicy"])
        .filter(|given| *given != policy)
    {
        let text = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(admission.forbid(pod, &text));
    }
    pod.set(&["spec", "priority"], value);
    pod.set(&["spec", "preemptionPolicy"], policy);
    Ok(())
}

pub(super) fn validate(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    if !admission.is(GROUP, "priorityclasses") {
        return Ok(());
    }
    if admission.operation == Operation::Delete {
        let system = admission.old.filter(|old| SYSTEM.contains(&old.name()));
        let text = "this is a system priority class and cannot be deleted";
        return system.map_or(Ok(()), |old| Err(admission.forbid(old, text)));
    }
    let is_default = |class: &&Object| class.get_bool(&["globalDefault"]) == Some(true);
    let Some(class) = object.filter(is_default) else {
        return Ok(());
    };
    let server = &admission.context.server;
    let classes = server.world.list(GROUP, "priorityclasses", "");
    let other = classes
        .iter()
        .find(|entry| entry.name() != class.name() && server.facts.priorities.of(entry).is_default);
    match other {
        Some(other) => Err(admission.forbid(
            class,
            &format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name()
            ),
        )),
        None => Ok(()),
    }
}
