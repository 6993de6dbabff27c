//! What the API has on record of a pod, where the runtime may know nothing any more.

use serde_json::Value;

use crate::spec::Pod;

/// Whether the API already has the pod as ended, which nothing undoes.
pub(crate) fn is_recorded_terminal(pod: &Pod) -> bool {
    matches!(pod.recorded_phase(), "Succeeded" | "Failed")
}

/// What the API has on record of a container: how often it was restarted, and whether there was one at all.
pub(super) fn recorded(pod: &Pod, name: &str) -> Option<(u32, bool)> {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let mut statuses = lists
        .iter()
        .filter_map(|list| pod.status.get(list)?.as_array())
        .flatten();
    let status =
        statuses.find(|status| status.get("name").and_then(Value::as_str) == Some(name))?;
    let count = u32::try_from(status.get("restartCount")?.as_u64()?).ok()?;
    Some((count, status.get("containerID").is_some()))
}

/// Whether the API has a container on record that has run.
pub(crate) fn was_recorded(pod: &Pod, name: &str) -> bool {
    recorded(pod, name).is_some_and(|(_, existed)| existed)
}

/// The restarts of a container of which the runtime knows nothing (any more).
pub(crate) fn recorded_restarts(pod: &Pod, name: &str) -> u32 {
    recorded(pod, name).map_or(0, |(count, _)| count)
}
