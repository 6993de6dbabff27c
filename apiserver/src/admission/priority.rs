//! Resolves a pod's priority class into its number; keeps the default class unique.

use schema::Object;

use crate::admission::{Admission, Operation};
use crate::status::ApiResult;

const GROUP: &str = "scheduling.k8s.io";

pub(super) fn mutate(admission: &Admission<'_>, pod: &mut Object) -> ApiResult<()> {
    if !admission.creates("", "pods") {
        return Ok(());
    }
    let world = &admission.context.server.world;
    let named = pod
        .get_str(&["spec", "priorityClassName"])
        .unwrap_or_default()
        .to_owned();
    let class = if named.is_empty() {
        // With several defaults (a race of two writers) the lowest counts, as in Kubernetes.
        world
            .list(GROUP, "priorityclasses", "")
            .iter()
            .map(|entry| entry.object())
            .filter(|class| class.get_bool(&["globalDefault"]) == Some(true))
            .min_by_key(|class| class.get_i64(&["value"]).unwrap_or(0))
    } else {
        match world.get(GROUP, "priorityclasses", "", &named) {
            Some(entry) => Some(entry.object()),
            None => {
                return Err(admission.forbid(
                    pod,
                    &format!("no PriorityClass with name {named} was found"),
                ));
            }
        }
    };
    let (value, policy) = match &class {
        Some(class) => {
            pod.set(&["spec", "priorityClassName"], class.name());
            (
                class.get_i64(&["value"]).unwrap_or(0),
                class
                    .get_str(&["preemptionPolicy"])
                    .unwrap_or("PreemptLowerPriority")
                    .to_owned(),
            )
        }
        None => (0, "PreemptLowerPriority".to_owned()),
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
    let Some(class) = object.filter(|_| admission.is(GROUP, "priorityclasses")) else {
        return Ok(());
    };
    if admission.operation == Operation::Delete || class.get_bool(&["globalDefault"]) != Some(true)
    {
        return Ok(());
    }
    let other = admission
        .context
        .server
        .world
        .list(GROUP, "priorityclasses", "")
        .into_iter()
        .find(|entry| {
            entry.name() != class.name()
                && entry.object().get_bool(&["globalDefault"]) == Some(true)
        });
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
